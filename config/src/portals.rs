//! The portals and the MCP servers that they offer.

use crate::{
    Check,
    declare::{Form, Many, Part, Section as _, mapping, section},
    forms::{Address, NeededText, Number, OwnText, Texts, Word, Words as _, loopback, words, written},
    keys::Shape,
    labels, raw,
    servers::{Server, place},
};
use gnomon_access::{AuthConfig, AuthSource, Policy, PolicySource, yaml::hint};
use gnomon_portal::{CodeMode, Labels, Payloads, Prefix, SNIPPETS, SessionLimits, Snippets};
use serde_json::{Value, json};
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
    struct PortalSource at "portals[]." {
        /// A name for a portal: lower-case letters, digits and `-`, at most 32.
        id as NeededText, needed: true, sample "main";
        /// Address and port of the portal.
        listen as Address => SocketAddr = loopback(8080);
        /// The path of its endpoint.
        path as Endpoint => String = "/mcp".to_owned();
        /// Host names that clients call it by, besides `localhost` and the loopback addresses. Requests to other names are
        /// refused (DNS rebinding).
        hosts as Texts, without "none", sample "[mcp.corp.example]";
        /// Origins of web pages that may call it, besides those of its own hosts.
        origins as Texts, without "none", sample "['https://inspector.corp.example']";
        /// The portal's URL as clients know it, if a reverse proxy terminates TLS in front of it. Tokens must have been issued for it.
        url as OwnText, without "its own address and path", sample "'https://mcp.corp.example/mcp'";
        /// The portal's own TLS: `cert`, a PEM file with its certificate and the chain above it, and `key`, which must not be readable by
        /// everybody; both are read again when they change. Or `ca: own`, a certificate of gnomon's own authority for the names of `url`,
        /// `hosts` and `listen`. `client_ca`: PEM files with the authorities of client certificates, for `auth: {mode: mtls}` and for
        /// `device` in the policy; where `mtls` is the only mode, connections without a client certificate are refused. Relative to this
        /// file.
        tls as Certified, without "plain HTTP", sample "{cert: portal.pem, key: portal.key, client_ca: [clients.pem]}";
        /// Authentication of callers: see [portal-policy.md](../portal-policy.md). `none` is for loopback addresses only.
        auth as LogIn, without "{mode: none}";
        /// The servers it offers, by id, in the order in which they are shown.
        servers as Texts, needed: true, sample "[docs]";
        /// Labels of tools and prompts on this portal, by server: laid over `servers[].tools` and `servers[].prompts`, part by part.
        overrides as Overridden, without "none", sample "{docs: {tools: {search: {alias: find}}, prompts: {review: {enabled: false}}}}";
        /// Prefix of names: the server's id, or none. `never` is for portals with a single server.
        prefix as Word<Prefix> => Prefix = Prefix::Always;
        /// Code Mode ([codemode.md](../codemode.md)): for no client, for clients that ask with `?codemode=search_and_execute`, for
        /// clients that do not say `?codemode=off`, or for every client.
        code_mode as Word<CodeMode> => CodeMode = CodeMode::OptIn;
        /// Saved snippets of Code Mode ([codemode.md](../codemode.md#saved-snippets)): none, or those that callers save, as policy lets
        /// them, and that somebody approved with `gnomon review snippet`.
        snippets as Word<Snippets> => Snippets = Snippets::Off;
        /// Payloads of calls that the audit records: `arguments`, `results`. Secrets and personal numbers are redacted as far as they can
        /// be told by name or form, and texts cut after 1024 characters ([audit.md](../audit.md)).
        record as Texts, without "none", sample "[arguments]";
        /// The access policy: see [portal-policy.md](../portal-policy.md). Nothing is allowed unless an entry says so.
        policy as Policies, without "nothing is allowed", sample "[{allow: {servers: [docs]}}]";
        sessions as Part<Sessions>;
        /// Most bytes of a request.
        max_request_bytes as Number<1024, { 64 << 20 }> => usize = 4 << 20;
        /// Most client connections at a time. A further one closes the connection that has been idle the longest, of the address with the
        /// most idle connections; if all have requests in progress, it waits. One source address other than 127.0.0.1 and ::1 has at most
        /// three quarters.
        max_connections as Number<1, { 1 << 20 }> => usize = 4096;
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

    fn show(value: &String) -> Value {
        value.as_str().into()
    }
}

impl Form<Vec<Portal>> for Many<PortalSource> {
    /// They are read before the rest, together with the servers: see [`crate::Config::parse`].
    fn read(_: Self::Source, default: Vec<Portal>, _: &mut Check<'_>) -> Option<Vec<Portal>> {
        Some(default)
    }

    fn show(value: &Vec<Portal>) -> Value {
        value.iter().map(Portal::to_json).collect()
    }
}

/// A portal.
#[derive(Clone, Debug)]
pub struct Portal {
    /// Its id.
    pub id: String,
    /// The address it listens on.
    pub listen: SocketAddr,
    /// The path of its endpoint.
    pub path: String,
    /// As clients know it.
    pub url: String,
    /// Its TLS configuration; none for plain HTTP.
    pub tls: Option<Tls>,
    /// The authentication of callers.
    pub auth: Arc<AuthConfig>,
    /// Names that clients call it by.
    pub hosts: Vec<String>,
    /// Origins of web pages that may call it.
    pub origins: Vec<String>,
    /// Ids.
    pub servers: Vec<String>,
    /// Labels of tools and prompts, by their server's id.
    pub labels: HashMap<SmolStr, Labels>,
    /// Prefixes of names: the server's id, or none.
    pub prefix: Prefix,
    /// The callers that are offered Code Mode.
    pub code_mode: CodeMode,
    /// Whether snippets of Code Mode are saved and called.
    pub snippets: Snippets,
    /// The payloads that the audit records.
    pub record: Payloads,
    /// The access policy.
    pub policy: Arc<Policy>,
    /// The bounds of sessions: number and time.
    pub sessions: SessionLimits,
    /// Most bytes of a request.
    pub max_request_bytes: usize,
    /// Most client connections at a time.
    pub max_connections: usize,
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

    fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "listen": self.listen.to_string(),
            "path": self.path,
            "hosts": self.hosts,
            "origins": self.origins,
            "url": self.url,
            "tls": self.tls.as_ref().map(Tls::to_json),
            "servers": self.servers,
            "overrides": self.labels.iter().map(|(id, labels)| (id.to_string(), labels_json(labels))).collect::<serde_json::Map<_, _>>(),
            "prefix": self.prefix.word(),
            "code_mode": self.code_mode.word(),
            "snippets": self.snippets.word(),
            "record": recorded(self.record),
            "sessions": {"max": self.sessions.most, "idle_seconds": self.sessions.idle.as_secs()},
            "max_request_bytes": self.max_request_bytes,
            "max_connections": self.max_connections,
        })
    }
}

fn recorded(record: Payloads) -> Vec<&'static str> {
    let all = [("arguments", record.arguments), ("results", record.results)];
    all.into_iter().filter_map(|(what, is)| is.then_some(what)).collect()
}

fn labels_json(labels: &Labels) -> Value {
    let kinds = [("tools", &labels.tools), ("prompts", &labels.prompts)];
    kinds.into_iter().filter_map(|(key, labels)| Some((key, labels::to_json(labels)?))).collect()
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

impl Check<'_> {
    pub(crate) fn portals(&mut self, portals: Vec<PortalSource>, servers: &[Server]) -> Vec<Portal> {
        let mut known: Vec<Portal> = Vec::with_capacity(portals.len());
        for portal in portals {
            self.id(&portal.id, known.iter().map(|known| known.id.as_str()));
            let place = portal.listen.as_ref().map_or(portal.id.referenced, |listen| listen.referenced);
            let Some(portal) = self.portal(portal, servers) else { continue };
            for other in known.iter().filter(|other| other.shares_listener(&portal)) {
                if other.tls != portal.tls {
                    self.refuse(place, format!("the portal `{}` has the same address with another `tls`: make them the same", other.id));
                } else if !other.is_told_from(&portal) {
                    let cause = format!("the portal `{}` has the same address: give each its own `path`, or `hosts` of its own", other.id);
                    self.refuse(place, cause);
                }
            }
            known.push(portal);
        }
        known
    }

    fn portal(&mut self, portal: PortalSource, servers: &[Server]) -> Option<Portal> {
        let place = portal.listen.as_ref().map_or(portal.id.referenced, |text| text.referenced);
        let listen = PortalSource::listen(portal.listen, self)?;
        let path = PortalSource::path(portal.path, self)?;
        let tls = match portal.tls {
            None => None,
            Some(tls) => Some(self.tls(tls)?),
        };
        let url = match portal.url {
            None if tls.is_some() => format!("https://{listen}{path}"),
            None => format!("http://{listen}{path}"),
            Some(url) => self.url(url)?,
        };
        let auth = match &portal.auth {
            None => AuthConfig::open(),
            Some(source) => {
                let secrets = |reference: &str| {
                    let secret = self.secret(reference).map_err(|cause| cause.to_string())?;
                    secret.fetch().map_err(|error| error.cause)
                };
                match source.value.build(&self.file.display().to_string(), &url, &secrets) {
                    Ok(auth) => auth,
                    Err(error) => return self.refused(source.referenced, error.to_string()),
                }
            }
        };
        if auth.wants_certificates() && tls.as_ref().is_none_or(|tls| tls.client_ca.is_empty()) {
            let place = portal.auth.as_ref().map_or(portal.id.referenced, |auth| auth.referenced);
            return self.refused(place, "`mtls` needs the authorities of client certificates: name `tls` with `client_ca`".to_owned());
        }
        if !listen.ip().is_loopback() && !auth.is_open() && tls.is_none() && !url.starts_with("https://") {
            self.refuse(place, format!("tokens would be readable on the way to {listen}; put something that ends TLS before it and name its https:// URL as `url`, or listen on 127.0.0.1"));
        }
        if !listen.ip().is_loopback() && auth.is_open() {
            self.refuse(
                place,
                format!(
                    "{listen} is reachable from other machines and `auth` is `none`: anybody could use this portal; listen on 127.0.0.1"
                ),
            );
        }
        let mut offered = Vec::new();
        for server in portal.servers {
            if !servers.iter().any(|known| known.id == server.value) {
                let ids: Vec<&str> = servers.iter().map(|known| known.id.as_str()).collect();
                self.refuse(server.referenced, format!("no server is called `{}`{}", server.value, hint(&server.value, &ids)));
            } else if offered.contains(&server.value) {
                self.refuse(server.referenced, format!("the server `{}` is listed twice; remove one", server.value));
            }
            offered.push(server.value);
        }
        let labels = self.overrides(portal.overrides, &offered, servers.iter().map(|server| (server.id.as_str(), &server.labels)));
        let said = portal.prefix.as_ref().map(|word| word.referenced);
        let prefix = PortalSource::prefix(portal.prefix, self)?;
        if let Some(said) = said.filter(|_| prefix == Prefix::Never && offered.len() != 1) {
            self.refuse(said, "`never` is for portals with a single server: names of several would collide".to_owned());
        }
        let code_mode = PortalSource::code_mode(portal.code_mode, self)?;
        let said = portal.snippets.as_ref().map(|word| word.referenced);
        let snippets = PortalSource::snippets(portal.snippets, self)?;
        if let Some(said) = said.filter(|_| snippets == Snippets::Review) {
            self.snippets(said, code_mode, &offered);
        }
        let mut record = Payloads::default();
        for word in &portal.record {
            match self.choice(word, &[("arguments", "arguments"), ("results", "results")]) {
                Some("arguments") => record.arguments = true,
                Some(_) => record.results = true,
                None => {}
            }
        }
        let policy = match &portal.policy {
            None => Policy::default(),
            Some(source) => match Policy::compile(&source.value, &self.file.display().to_string()) {
                Ok(policy) => {
                    let own = (snippets == Snippets::Review).then_some(SNIPPETS);
                    let ids: Vec<&str> = servers.iter().map(|known| known.id.as_str()).chain(own).collect();
                    for problem in policy.unknown_servers(&ids) {
                        self.refuse(source.referenced, problem.to_string());
                    }
                    policy
                }
                Err(error) => return self.refused(source.referenced, error.to_string()),
            },
        };
        let sessions = Sessions::read(portal.sessions, self);
        Some(Portal {
            id: portal.id.value,
            listen,
            path,
            url,
            tls,
            auth: Arc::new(auth),
            hosts: portal.hosts.into_iter().map(|host| host.value).collect(),
            origins: portal.origins.into_iter().map(|origin| origin.value).collect(),
            servers: offered,
            labels,
            prefix,
            code_mode,
            snippets,
            record,
            policy: Arc::new(policy),
            sessions: SessionLimits { most: sessions.max, idle: Duration::from_secs(sessions.idle_seconds) },
            // Where one is refused, all is; what else is wrong is to be told as well.
            max_request_bytes: PortalSource::max_request_bytes(portal.max_request_bytes, self).unwrap_or_default(),
            max_connections: PortalSource::max_connections(portal.max_connections, self).unwrap_or_default(),
        })
    }

    /// What a portal with saved snippets must be like.
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
