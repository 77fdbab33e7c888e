//! The inline proxy: where it listens, whom it serves, what it never opens.

use crate::{
    Check, SecretRef,
    declare::{Form, Many, Show, mapping, section},
    forms::{Address, FilePaths, Hosts, MaybeNumber, NeededText, Number, Texts, loopback},
};
use gnomon_http::ResolveOverride;
use serde_json::Value;
use serde_saphyr::Spanned;
use std::{net::SocketAddr, path::PathBuf, str::FromStr};

section! {
    /// The inline proxy.
    pub struct Proxy, written ProxySource at "proxy." {
        /// Address and port of the proxy. Anything but loopback needs `proxy.users`.
        listen: SocketAddr as Address = loopback(8443);
        /// Servers whose TLS is never opened: `host`, `*.host` (names below it) or `host:port`. It is passed on byte for byte. Rules
        /// that server, program or user decide hold; those that would have to read a request do not. HTTP without TLS is read.
        bypass: Vec<String> as Hosts, without "none", sample "['*.bank.example']";
        /// PEM files with further authorities to trust when servers are verified, or servers' own certificates. Relative to this file.
        upstream_ca: Vec<PathBuf> as FilePaths, without "the system's roots", sample "[corp-root.pem]";
        /// `HOST:PORT:ADDR[:PORT]`: dial this address instead of resolving the name, as curl's `--resolve`; several for one
        /// host and port are all its addresses, in this order.
        resolve: Vec<Resolve> as Texts, without "none", sample "['mcp.example:443:127.0.0.1:8444']";
        /// The users of the proxy.
        users: Vec<User> as Many<UserSource>;
        /// Most bytes of a body that are held back until a rule has decided, per request; bytes.
        window_bytes: usize as Number<4096, { 16 << 20 }> = 65_536;
        /// Most client connections at a time, including tunnels and WebSockets for as long as they last. A further one closes an idle
        /// connection of the user with the most connections (`silent` in `gnomon_flows_total`): the oldest that has sent nothing, else
        /// the oldest that has not completed its first request, inside a tunnel's TLS too, or that is idle between two requests. If all
        /// have a request in progress, or made progress towards one within the last 20 ms, it waits. Lowered to what the limit of open
        /// files allows.
        max_connections: usize as Number<1, { 1 << 20 }> = 4096;
        /// Most connections of one user at a time, redirected ones and those to the proxy itself, so that the programs of one user leave
        /// room for others. The user is the uid where the sensor knows it, else the name that `proxy.users` authenticates. A further one
        /// waits up to two seconds; then it is reset, or answered with 429 if it gave a name, and counted as `over_share` in
        /// `gnomon_flows_total`. From scopes that only intercept it passes unread, counted as `beyond_share`. Unless it is set, a quarter
        /// of `proxy.max_connections`.
        max_connections_per_user: Option<usize> as MaybeNumber<1, { 1 << 20 }>, without "1024";
    }
}

impl Proxy {
    /// Most connections of one user, where there are at most so many in all.
    pub fn connections_per_user(&self, most: usize) -> usize {
        let all = self.max_connections.min(most);
        self.max_connections_per_user.unwrap_or((all / 4).max(1)).min(all)
    }
}

mapping! {
    /// A user of the proxy.
    pub struct User, written UserSource at "proxy.users[].", with (check) {
        /// A user who may use the proxy (Basic authentication). It becomes `user.name` in events.
        name: String as NeededText, fit Some(name.value), needed: true, sample "ada";
        /// The user's password: `file:/path` (first line), `env:NAME`, or `credential:NAME` (systemd). Never the password itself.
        password: SecretRef as NeededText, fit check.password(&password), needed: true, sample "'env:ADA_PASSWORD'";
    }
}

/// An override of name resolution, and its spelling.
#[derive(Clone, Debug)]
pub struct Resolve {
    /// The text of the configuration.
    pub spelling: String,
    /// Its meaning.
    pub value: ResolveOverride,
}

impl FromStr for Resolve {
    type Err = <ResolveOverride as FromStr>::Err;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { spelling: text.to_owned(), value: text.parse()? })
    }
}

impl Form<Vec<Resolve>> for Texts {
    fn read(source: Self::Source, _: Vec<Resolve>, check: &mut Check<'_>) -> Option<Vec<Resolve>> {
        Some(source.iter().filter_map(|text| check.parsed(text, "")).collect())
    }
}

impl Show<Vec<Resolve>> for Texts {
    fn show(value: &Vec<Resolve>) -> Value {
        value.iter().map(|resolve| resolve.spelling.as_str()).collect()
    }
}

impl Form<Vec<User>> for Many<UserSource> {
    fn read(source: Self::Source, _: Vec<User>, check: &mut Check<'_>) -> Option<Vec<User>> {
        let mut known: Vec<User> = Vec::with_capacity(source.len());
        for user in source {
            let (name, place) = (&user.name.value, user.name.referenced);
            // RFC 7617 section 2: a user-id holds no colon.
            if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
                check.refuse(place, format!("`{name}` cannot be a user's name: it must not be empty nor hold `:`"));
            } else if known.iter().any(|other| other.name == *name) {
                check.refuse(place, format!("the user `{name}` is listed twice; remove one"));
            }
            known.extend(User::read(user, check));
        }
        Some(known)
    }
}

impl Show<Vec<User>> for Many<UserSource> {
    fn show(value: &Vec<User>) -> Value {
        value.iter().map(User::show).collect()
    }
}

impl Show<SecretRef> for NeededText {
    fn show(value: &SecretRef) -> Value {
        value.to_string().into()
    }
}

impl Check<'_> {
    fn password(&mut self, text: &Spanned<String>) -> Option<SecretRef> {
        match self.secret(&text.value) {
            Ok(password) => Some(password),
            // The text may be the password itself: it is not repeated.
            Err(cause) => self.refused(text.referenced, cause.to_string()),
        }
    }
}
