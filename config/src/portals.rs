//! The portals and the MCP servers that they offer.

use crate::{
    Check,
    declare::{Form, Many, Part, Show, mapping, section},
    forms::{Address, NeededText, Number, Texts, Word, loopback, words, written},
    keys::Shape,
    labels, raw,
    servers::{Server, place},
};
use gnomon_access::{AuthConfig, AuthSource, Policy, PolicySource, yaml::hint};
use gnomon_portal::{CodeMode, Labels, Payloads, Prefix, SNIPPETS, SessionLimits, Snippets};
use serde_json::{Map, Value, json};
use serde_saphyr::{Location, Spanned};
use smol_str::SmolStr;
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

words! { Prefix: "always" => Always, "never" => Never }
words! { CodeMode: "off" => Off, "opt_in" => OptIn, "default_on" => DefaultOn, "enforced" => Enforced }
words! { Snippets: "off" => Off, "review" => Review }

mapping! {
    /// A portal.
    pub struct Portal, written PortalSource at "portals[].", with (check, known: &[Server]) {
        /// A name for a portal: lower-case letters, digits and `-`, at most 32.
        id: String as NeededText, fit Some(id.value), needed: true, sample "main";
        /// Address and port of the portal.
        listen: SocketAddr as Address = loopback(8080);
        /// The path of its endpoint.
        path: String as Endpoint = "/mcp".to_owned();
        /// Host names that clients call it by, besides `localhost` and the loopback addresses. Requests to other names are
        /// refused (DNS rebinding).
        hosts: Vec<String> as Texts, without "none", sample "[mcp.corp.example]";
        /// Origins of web pages that may call it, besides those of its own hosts.
        origins: Vec<String> as Texts, without "none", sample "['https://inspector.corp.example']";
        /// The portal's URL as clients know it, if a reverse proxy terminates TLS in front of it. Tokens must have been issued for it.
        url: String as Url = own_url(tls.as_ref(), listen, &path), without "its own address and path", sample "'https://mcp.corp.example/mcp'";
        /// The portal's own TLS: `cert`, a PEM file with its certificate and the chain above it, and `key`, which must not be readable by
        /// everybody; both are read again when they change. Or `ca: own`, a certificate of gnomon's own authority for the names of `url`,
        /// `hosts` and `listen`. `client_ca`: PEM files with the authorities of client certificates, for `auth: {mode: mtls}` and for
        /// `device` in the policy; where `mtls` is the only mode, connections without a client certificate are refused. Relative to this
        /// file.
        tls: Option<Tls> as Certified, without "plain HTTP", sample "{cert: portal.pem, key: portal.key, client_ca: [clients.pem]}";
        /// Authentication of callers: see [portal-policy.md](../portal-policy.md). `none` is for loopback addresses only.
        auth: Arc<AuthConfig> as LogIn, fit check.log_in(auth, &url), without "{mode: none}";
        /// The servers it offers, by id, in the order in which they are shown.
        servers: Vec<String> as Texts, fit Some(check.offered(servers, known)), needed: true, sample "[docs]";
        /// Labels of tools and prompts on this portal, by server: laid over `servers[].tools` and `servers[].prompts`, part by part.
        overrides: HashMap<SmolStr, Labels> as Overridden, fit Some(check.overrides(overrides, &servers, labelled(known))), without "none", sample "{docs: {tools: {search: {alias: find}}, prompts: {review: {enabled: false}}}}";
        /// Prefix of names: the server's id, or none. `never` is for portals with a single server.
        prefix: Prefix as Word<Prefix> = Prefix::Always;
        /// Code Mode ([codemode.md](../codemode.md)): for no client, for clients that ask with `?codemode=search_and_execute`, for
        /// clients that do not say `?codemode=off`, or for every client.
        code_mode: CodeMode as Word<CodeMode> = CodeMode::OptIn;
        /// Saved snippets of Code Mode ([codemode.md](../codemode.md#saved-snippets)): none, or those that callers save, as policy lets
        /// them, and that somebody approved with `gnomon review snippet`.
        snippets: Snippets as Word<Snippets> = Snippets::Off;
        /// Payloads of calls that the audit records: `arguments`, `results`. Secrets and personal numbers are redacted as far as they can
        /// be told by name or form, and texts cut after 1024 characters ([audit.md](../audit.md)).
        record: Payloads as Recorded, without "none", sample "[arguments]";
        /// The access policy: see [portal-policy.md](../portal-policy.md). Nothing is allowed unless an entry says so.
        policy: Arc<Policy> as Policies, without "nothing is allowed", sample "[{allow: {servers: [docs]}}]";
        /// The bounds of sessions: number and time.
        sessions: Sessions as Part<Sessions>;
        /// Most bytes of a request.
        max_request_bytes: usize as Number<1024, { 64 << 20 }> = 4 << 20;
        /// Most client connections at a time. A further one closes the connection that has been idle the longest, of the address with the
        /// most idle connections; if all have requests in progress, it waits. One source address other than 127.0.0.1 and ::1 has at most
        /// three quarters.
        max_connections: usize as Number<1, { 1 << 20 }> = 4096;
    }
}

section! {
    /// Sessions of a portal.
    pub struct Sessions, written SessionsSource at "portals[].sessions." {
        /// Most sessions of clients; beyond it the oldest end of the caller who has the most.
        max: usize as Number<1, 10_000_000> = 100_000;
        /// Lifetime of an unused session, seconds.
        idle_seconds: u64 as Number<1, { 30 * 86_400 }> = 86_400;
    }
}

written! {
    /// A path of a URL.
    Endpoint: Option<Spanned<String>>, Shape::Text;
    /// A certificate with its key, or who makes one.
    Certified: Option<Spanned<raw::Tls>>, Shape::Tls;
    /// A way to prove who one is, or a list of them.
    LogIn: Option<Spanned<AuthSource>>, Shape::Auth;
    /// Payloads of calls.
    Recorded: Vec<Spanned<String>>, Shape::Texts;
    /// A URL of HTTP.
    Url: Option<Spanned<String>>, Shape::Text;
    /// Labels of tools and prompts, by their servers' ids.
    Overridden: BTreeMap<String, Spanned<raw::Labels>>, Shape::Overrides;
    /// Policy.
    Policies: Option<Spanned<PolicySource>>, Shape::Policy;
}

impl Form<String> for Endpoint {
    fn read(source: Self::Source, default: String, check: &mut Check<'_>) -> Option<String> {
        let Some(path) = source else { return Some(default) };
        let fits = path.value.starts_with('/') && path.value.parse::<http::uri::PathAndQuery>().is_ok_and(|p| p.query().is_none());
        if fits {
            Some(path.value)
        } else {
            check.refused(path.referenced, format!("`{}` is not a path: it begins with `/` and has no query", path.value))
        }
    }
}

impl Show<String> for Endpoint {
    fn show(value: &String) -> Value {
        value.as_str().into()
    }
}

impl Form<String> for Url {
    fn read(source: Self::Source, default: String, check: &mut Check<'_>) -> Option<String> {
        source.map_or(Some(default), |url| check.url(url))
    }
}

impl Show<String> for Url {
    fn show(value: &String) -> Value {
        value.as_str().into()
    }
}

/// The labels of servers, by id.
fn labelled(servers: &[Server]) -> impl Iterator<Item = (&str, &Labels)> {
    servers.iter().map(|server| (server.id.as_str(), &server.labels))
}

/// The URL of a portal that names no other.
fn own_url<T>(tls: Option<T>, listen: SocketAddr, path: &str) -> String {
    format!("{}://{listen}{path}", if tls.is_some() { "https" } else { "http" })
}

impl Form<Option<Tls>> for Certified {
    fn read(source: Self::Source, default: Option<Tls>, check: &mut Check<'_>) -> Option<Option<Tls>> {
        source.map_or(Some(default), |tls| check.tls(tls).map(Some))
    }
}

impl Show<Option<Tls>> for Certified {
    fn show(value: &Option<Tls>) -> Value {
        value.as_ref().map(Tls::to_json).into()
    }
}

/// Authentication is not shown here: `gnomon config show` prints no identities.
impl Show<Arc<AuthConfig>> for LogIn {
    fn show(_: &Arc<AuthConfig>) -> Value {
        Value::Null
    }

    fn shown(_: &Arc<AuthConfig>) -> Option<Value> {
        None
    }
}

impl Form<Arc<Policy>> for Policies {
    fn read(source: Self::Source, default: Arc<Policy>, check: &mut Check<'_>) -> Option<Arc<Policy>> {
        let Some(source) = source else { return Some(default) };
        match Policy::compile(&source.value, &check.file.display().to_string()) {
            Ok(policy) => Some(Arc::new(policy)),
            Err(error) => check.refused(source.referenced, error.to_string()),
        }
    }
}

/// Neither is the policy: `gnomon policy` explains it.
impl Show<Arc<Policy>> for Policies {
    fn show(_: &Arc<Policy>) -> Value {
        Value::Null
    }

    fn shown(_: &Arc<Policy>) -> Option<Value> {
        None
    }
}

impl Form<Payloads> for Recorded {
    fn read(source: Self::Source, mut payloads: Payloads, check: &mut Check<'_>) -> Option<Payloads> {
        for word in &source {
            match check.choice(word, &[("arguments", "arguments"), ("results", "results")]) {
                Some("arguments") => payloads.arguments = true,
                Some(_) => payloads.results = true,
                None => {}
            }
        }
        Some(payloads)
    }
}

impl Show<Payloads> for Recorded {
    fn show(record: &Payloads) -> Value {
        let all = [("arguments", record.arguments), ("results", record.results)];
        all.into_iter().filter_map(|(what, is)| is.then_some(what)).collect()
    }
}

impl Show<HashMap<SmolStr, Labels>> for Overridden {
    fn show(value: &HashMap<SmolStr, Labels>) -> Value {
        value.iter().map(|(id, labels)| (id.to_string(), labels::show(labels).into())).collect::<Map<_, _>>().into()
    }
}

impl Form<Vec<Portal>> for Many<PortalSource> {
    /// They are read before the rest, together with the servers: see [`crate::Config::parse`].
    fn read(_: Self::Source, default: Vec<Portal>, _: &mut Check<'_>) -> Option<Vec<Portal>> {
        Some(default)
    }
}

impl Show<Vec<Portal>> for Many<PortalSource> {
    fn show(value: &Vec<Portal>) -> Value {
        value.iter().map(Portal::show).collect()
    }
}

/// A portal's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Its certificate.
    pub shown: Shown,
    /// Authorities for client certificates.
    pub client_ca: Vec<PathBuf>,
}

/// The certificate that a portal presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A certificate and key in files.
    Files {
        /// The certificate and those above it.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// One of gnomon's own authority.
    Own,
}

impl Sessions {
    /// The bounds.
    pub fn limits(&self) -> SessionLimits {
        SessionLimits { most: self.max, idle: Duration::from_secs(self.idle_seconds) }
    }
}

impl Portal {
    /// True if both listen on one address.
    pub fn shares_listener(&self, other: &Self) -> bool {
        self.listen == other.listen && self.listen.port() != 0
    }

    /// True if requests to one address can be told apart, by path or host.
    fn is_told_from(&self, other: &Self) -> bool {
        let shared = |host: &String| other.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
        self.path != other.path || !self.hosts.is_empty() && !other.hosts.is_empty() && !self.hosts.iter().any(shared)
    }

    /// The hosts and ports that clients know it by.
    pub fn places(&self) -> impl Iterator<Item = (String, u16)> {
        let (ip, port) = (self.listen.ip(), self.listen.port());
        let local = ip.is_loopback().then(|| ("localhost".to_owned(), port));
        place(&self.url).into_iter().chain([(ip.to_string(), port)]).chain(local)
    }
}

impl Tls {
    fn to_json(&self) -> Value {
        let mut shown = match &self.shown {
            Shown::Own => json!({"ca": "own"}),
            Shown::Files { cert, key } => json!({"cert": cert.display().to_string(), "key": key.display().to_string()}),
        };
        if !self.client_ca.is_empty() {
            shown["client_ca"] = self.client_ca.iter().map(|path| path.display().to_string()).collect();
        }
        shown
    }
}

/// The places of the keys that are checked against each other; the place of the id for those that are not written.
struct Places {
    listen: Location,
    auth: Location,
    prefix: Option<Location>,
    snippets: Option<Location>,
    policy: Location,
}

impl Places {
    fn of(portal: &PortalSource) -> Self {
        let id = portal.id.referenced;
        Self {
            listen: portal.listen.as_ref().map_or(id, |listen| listen.referenced),
            auth: portal.auth.as_ref().map_or(id, |auth| auth.referenced),
            prefix: portal.prefix.as_ref().map(|word| word.referenced),
            snippets: portal.snippets.as_ref().map(|word| word.referenced),
            policy: portal.policy.as_ref().map_or(id, |policy| policy.referenced),
        }
    }
}

impl Check<'_> {
    pub(crate) fn portals(&mut self, portals: Vec<PortalSource>, servers: &[Server]) -> Vec<Portal> {
        let mut known: Vec<Portal> = Vec::with_capacity(portals.len());
        for portal in portals {
            self.id(&portal.id, known.iter().map(|known| known.id.as_str()));
            let places = Places::of(&portal);
            let Some(portal) = Portal::read(portal, self, servers) else { continue };
            self.portal_fits(&portal, servers, &places);
            for other in known.iter().filter(|other| other.shares_listener(&portal)) {
                if other.tls != portal.tls {
                    self.refuse(
                        places.listen,
                        format!("the portal `{}` has the same address with another `tls`: make them the same", other.id),
                    );
                } else if !other.is_told_from(&portal) {
                    let cause = format!("the portal `{}` has the same address: give each its own `path`, or `hosts` of its own", other.id);
                    self.refuse(places.listen, cause);
                }
            }
            known.push(portal);
        }
        known
    }

    /// Checks that a portal's keys fit together.
    fn portal_fits(&mut self, portal: &Portal, servers: &[Server], places: &Places) {
        let (listen, auth) = (portal.listen, &portal.auth);
        if auth.wants_certificates() && portal.tls.as_ref().is_none_or(|tls| tls.client_ca.is_empty()) {
            self.refuse(places.auth, "`mtls` needs the authorities of client certificates: name `tls` with `client_ca`".to_owned());
        }
        if !listen.ip().is_loopback() && !auth.is_open() && portal.tls.is_none() && !portal.url.starts_with("https://") {
            self.refuse(places.listen, format!("tokens would be readable on the way to {listen}; put something that ends TLS before it and name its https:// URL as `url`, or listen on 127.0.0.1"));
        }
        if !listen.ip().is_loopback() && auth.is_open() {
            self.refuse(
                places.listen,
                format!(
                    "{listen} is reachable from other machines and `auth` is `none`: anybody could use this portal; listen on 127.0.0.1"
                ),
            );
        }
        if let Some(place) = places.prefix.filter(|_| portal.prefix == Prefix::Never && portal.servers.len() != 1) {
            self.refuse(place, "`never` is for portals with a single server: names of several would collide".to_owned());
        }
        let saves = portal.snippets == Snippets::Review;
        if let Some(place) = places.snippets.filter(|_| saves) {
            self.snippets(place, portal.code_mode, &portal.servers);
        }
        let ids: Vec<&str> = servers.iter().map(|known| known.id.as_str()).chain(saves.then_some(SNIPPETS)).collect();
        for problem in portal.policy.unknown_servers(&ids) {
            self.refuse(places.policy, problem.to_string());
        }
    }

    /// The authentication of callers, whose tokens are issued for this URL.
    fn log_in(&mut self, source: Option<Spanned<AuthSource>>, url: &str) -> Option<Arc<AuthConfig>> {
        let Some(source) = source else { return Some(Arc::new(AuthConfig::open())) };
        let secrets = |reference: &str| {
            let secret = self.secret(reference).map_err(|cause| cause.to_string())?;
            secret.fetch().map_err(|error| error.cause)
        };
        match source.value.build(&self.file.display().to_string(), url, &secrets) {
            Ok(auth) => Some(Arc::new(auth)),
            Err(error) => self.refused(source.referenced, error.to_string()),
        }
    }

    /// The ids of the servers that a portal offers.
    fn offered(&mut self, servers: Vec<Spanned<String>>, known: &[Server]) -> Vec<String> {
        let mut offered = Vec::with_capacity(servers.len());
        for server in servers {
            if !known.iter().any(|known| known.id == server.value) {
                let ids: Vec<&str> = known.iter().map(|known| known.id.as_str()).collect();
                self.refuse(server.referenced, format!("no server is called `{}`{}", server.value, hint(&server.value, &ids)));
            } else if offered.contains(&server.value) {
                self.refuse(server.referenced, format!("the server `{}` is listed twice; remove one", server.value));
            }
            offered.push(server.value);
        }
        offered
    }

    /// Checks a portal with saved snippets.
    fn snippets(&mut self, said: Location, code_mode: CodeMode, offered: &[String]) {
        if code_mode == CodeMode::Off {
            self.refuse(said, "snippets are of Code Mode, and `code_mode` is `off`: turn it on, or leave `snippets` out".to_owned());
        }
        let is_alike = |id: &&String| id.strip_prefix(SNIPPETS).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', '_']));
        if let Some(id) = offered.iter().find(is_alike) {
            let cause =
                format!("tools of a server `{id}` would be called like snippets: give the server another id, or leave `snippets` out");
            self.refuse(said, cause);
        }
    }

    fn tls(&mut self, tls: Spanned<raw::Tls>) -> Option<Tls> {
        let (place, tls) = (tls.referenced, tls.value);
        let shown = match (tls.cert, tls.key, tls.ca) {
            (Some(cert), Some(key), None) => Shown::Files { cert: self.dir.join(cert), key: self.dir.join(key) },
            (None, None, Some(word)) => self.choice(&word, &[("own", Shown::Own)])?,
            _ => return self.refused(place, "`tls` takes `cert` and `key`, or `ca: own`".to_owned()),
        };
        Some(Tls { shown, client_ca: self.paths(tls.client_ca) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_keys_sessions_are_bounded_as_portals_do_by_themselves() {
        let (sessions, own) = (Sessions::default(), SessionLimits::default());
        assert_eq!((sessions.max, sessions.idle_seconds), (own.most, own.idle.as_secs()));
    }
}
