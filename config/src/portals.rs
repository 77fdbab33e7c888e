//! The portals and the MCP servers that they offer.

use super::{Check, Error, NamedSecret, OpenApi, SecretRef, labels, programs::Program, raw};
use gnomon_access::yaml::hint;
use gnomon_access::{AuthConfig, Policy};
use gnomon_portal::{CodeMode, Labels, Payloads, Prefix, SessionLimits};
use gnomon_upstream::Transport;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header::AUTHORIZATION};
use serde_json::{Value, json};
use serde_saphyr::Spanned;
use smol_str::SmolStr;
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// Longest id of a server or a portal.
const LONGEST_ID: usize = 32;

/// A registered MCP server.
#[derive(Clone, Debug)]
pub struct Server {
    pub id: String,
    pub at: At,
    pub transport: Transport,
    pub bearer: Option<SecretRef>,
    pub headers: Vec<NamedSecret>,
    /// How its tools and prompts are shown.
    pub labels: Labels,
}

/// Where a server is.
#[derive(Clone, Debug)]
pub enum At {
    Url(String),
    /// Here: it is run.
    Program(Box<Program>),
    /// An HTTP API that a document describes.
    Api(Box<OpenApi>),
}

/// A portal.
#[derive(Clone, Debug)]
pub struct Portal {
    pub id: String,
    pub listen: SocketAddr,
    pub path: String,
    /// As clients know it.
    pub url: String,
    pub tls: Option<Tls>,
    pub auth: Arc<AuthConfig>,
    pub hosts: Vec<String>,
    pub origins: Vec<String>,
    /// Ids.
    pub servers: Vec<String>,
    /// How tools and prompts are shown, by their server's id.
    pub labels: HashMap<SmolStr, Labels>,
    pub prefix: Prefix,
    pub code_mode: CodeMode,
    /// What of calls' payloads the audit records.
    pub record: Payloads,
    pub policy: Arc<Policy>,
    pub sessions: SessionLimits,
    pub max_request_bytes: usize,
    pub max_connections: usize,
}

/// How a portal proves itself to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub shown: Shown,
    /// Whose certificates clients may show.
    pub client_ca: Vec<PathBuf>,
}

/// Which certificate a portal shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
    /// One of gnomon's own authority.
    Own,
}

impl Server {
    /// The headers that prove who we are.
    ///
    /// # Errors
    /// When a secret cannot be read, or can be in no header.
    pub fn credentials(&self) -> Result<HeaderMap, Error> {
        let value = |secret: &SecretRef, text: String| {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| Error::new(format!("the secret {secret} of server `{}` cannot be in a header", self.id)))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        };
        let mut headers = HeaderMap::new();
        if let Some(bearer) = &self.bearer {
            headers.insert(AUTHORIZATION, value(bearer, format!("Bearer {}", bearer.fetch()?))?);
        }
        for NamedSecret { name, secret } in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::new(format!("`{name}` is no header")))?;
            headers.insert(name, value(secret, secret.fetch()?)?);
        }
        Ok(headers)
    }

    /// The host and port of its URL, if it has one.
    pub fn place(&self) -> Option<(String, u16)> {
        match &self.at {
            At::Url(url) => place(url),
            // An API is no MCP server: what is found at its address is not what the portal offers.
            At::Program(_) | At::Api(_) => None,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let transport = match self.transport {
            Transport::Either => "either",
            Transport::Streamable => "streamable",
            Transport::Sse => "sse",
        };
        let url = match &self.at {
            At::Url(url) => url,
            At::Program(program) => {
                let mut shown = program.to_json();
                shown["id"] = self.id.as_str().into();
                return self.labelled(shown);
            }
            At::Api(api) => {
                let mut shown = api.to_json(self.bearer.as_ref(), &self.headers);
                shown["id"] = self.id.as_str().into();
                return self.labelled(shown);
            }
        };
        self.labelled(json!({
            "id": self.id,
            "url": url,
            "transport": transport,
            "auth": {
                "bearer": self.bearer.as_ref().map(ToString::to_string),
                "headers": self.headers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            },
        }))
    }

    fn labelled(&self, mut shown: Value) -> Value {
        for (key, labels) in [("tools", &self.labels.tools), ("prompts", &self.labels.prompts)] {
            if let Some(labels) = labels::to_json(labels) {
                shown[key] = labels;
            }
        }
        shown
    }
}

impl Portal {
    /// Whether both are at one address.
    pub fn shares_listener(&self, other: &Self) -> bool {
        self.listen == other.listen && self.listen.port() != 0
    }

    /// Whether requests to one address say which of the two they are for.
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

    pub(super) fn to_json(&self) -> Value {
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
            "prefix": match self.prefix {
                Prefix::Always => "always",
                Prefix::Never => "never",
            },
            "code_mode": match self.code_mode {
                CodeMode::Off => "off",
                CodeMode::OptIn => "opt_in",
                CodeMode::DefaultOn => "default_on",
                CodeMode::Enforced => "enforced",
            },
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

/// The host and port of a URL that was checked when it was read.
fn place(url: &str) -> Option<(String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let usual = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    Some((host, uri.port_u16().unwrap_or(usual)))
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
    pub(super) fn servers(&mut self, servers: Vec<raw::Server>) -> Vec<Server> {
        let mut known: Vec<Server> = Vec::with_capacity(servers.len());
        for mut server in servers {
            self.id(&server.id, known.iter().map(|known| known.id.as_str()));
            let Some(at) = self.at(&mut server) else { continue };
            let transport = server.transport.map_or(Some(Transport::Either), |word| {
                self.choice(&word, &[("either", Transport::Either), ("streamable", Transport::Streamable), ("sse", Transport::Sse)])
            });
            let bearer = server.auth.bearer.and_then(|text| match self.secret(&text.value) {
                Ok(secret) => Some(secret),
                Err(cause) => self.refused(text.referenced, cause.to_string()),
            });
            let headers = self.headers(server.auth.headers);
            let labels = self.labels(raw::Labels { tools: server.tools, prompts: server.prompts });
            if let Some(transport) = transport {
                known.push(Server { id: server.id.value, at, transport, bearer, headers, labels });
            }
        }
        known
    }

    /// A server has a URL, is a program, or has a document, and the keys that go with that.
    fn at(&mut self, server: &mut raw::Server) -> Option<At> {
        let (id, place) = (&server.id.value, server.id.referenced);
        let program = raw::ServerProgram {
            command: server.command.take().map(|command| command.value).unwrap_or_default(),
            pin: server.pin.take(),
            env: std::mem::take(&mut server.env),
            cwd: server.cwd.take(),
            read: std::mem::take(&mut server.read),
            write: std::mem::take(&mut server.write),
            network: server.network.take(),
            user: server.user.take(),
            confine: server.confine.take(),
            limits: std::mem::take(&mut server.limits),
        };
        if let Some(api) = server.openapi.take() {
            if server.url.is_some() || !program.command.is_empty() {
                return self.refused(place, format!("the server `{id}` has `openapi` and a `url` or `command`; remove one"));
            }
            if program.is_said() || server.transport.is_some() {
                let cause = format!("the server `{id}` has `openapi`: `transport` and what programs may do do not belong there");
                return self.refused(place, cause);
            }
            return self.openapi(place, api.value).map(|api| At::Api(Box::new(api)));
        }
        match (server.url.take(), program.command.is_empty()) {
            (Some(_), false) => self.refused(place, format!("the server `{id}` has a `url` and a `command`; remove one")),
            (None, true) => self.refused(place, format!("the server `{id}` has none of `url`, `command` and `openapi`; add one")),
            (Some(url), true) => {
                if program.is_said() {
                    return self.refused(place, format!("the server `{id}` has a `url`: what programs may do does not belong there"));
                }
                self.url(url).map(At::Url)
            }
            (None, false) => {
                if server.transport.is_some() || server.auth.bearer.is_some() || !server.auth.headers.is_empty() {
                    let cause = format!("`transport` and `auth` are for servers with a `url`; `{id}` gets its secrets by `env`");
                    return self.refused(place, cause);
                }
                self.program(place, program).map(|program| At::Program(Box::new(program)))
            }
        }
    }

    pub(super) fn portals(&mut self, portals: Vec<raw::Portal>, servers: &[Server]) -> Vec<Portal> {
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

    fn portal(&mut self, portal: raw::Portal, servers: &[Server]) -> Option<Portal> {
        let standard = SocketAddr::from(([127, 0, 0, 1], 8080));
        let listen = match &portal.listen {
            None => standard,
            Some(text) => self.parsed(text, "an address with a port, as 127.0.0.1:8080")?,
        };
        let path = portal.path.map_or_else(|| Some("/mcp".to_owned()), |path| self.path(path))?;
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
            return self.refused(place, "`mtls` needs to know whose certificates count: name `tls` with `client_ca`".to_owned());
        }
        let place = portal.listen.as_ref().map_or(portal.id.referenced, |text| text.referenced);
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
                self.refuse(server.referenced, format!("the server `{}` stands here twice; remove one", server.value));
            }
            offered.push(server.value);
        }
        let labels = self.overrides(portal.overrides, &offered, servers);
        let prefix = match &portal.prefix {
            None => Prefix::Always,
            Some(word) => {
                let prefix = self.choice(word, &[("always", Prefix::Always), ("never", Prefix::Never)])?;
                if prefix == Prefix::Never && offered.len() != 1 {
                    self.refuse(word.referenced, "`never` is for portals with a single server: names of several would collide".to_owned());
                }
                prefix
            }
        };
        let modes =
            [("off", CodeMode::Off), ("opt_in", CodeMode::OptIn), ("default_on", CodeMode::DefaultOn), ("enforced", CodeMode::Enforced)];
        let code_mode = portal.code_mode.as_ref().map_or(Some(CodeMode::OptIn), |word| self.choice(word, &modes))?;
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
                Ok(policy) => policy,
                Err(error) => return self.refused(source.referenced, error.to_string()),
            },
        };
        let limits = SessionLimits::default();
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
            record,
            policy: Arc::new(policy),
            sessions: SessionLimits {
                most: self.number(portal.sessions.max, "portals[].sessions.max", limits.most),
                idle: Duration::from_secs(self.number(
                    portal.sessions.idle_seconds,
                    "portals[].sessions.idle_seconds",
                    limits.idle.as_secs(),
                )),
            },
            max_request_bytes: self.number(portal.max_request_bytes, "portals[].max_request_bytes", 4 << 20),
            max_connections: self.number(portal.max_connections, "portals[].max_connections", 4096),
        })
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

    fn id<'a>(&mut self, id: &Spanned<String>, known: impl Iterator<Item = &'a str>) {
        let text = &id.value;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || text.len() > LONGEST_ID || !text.chars().all(fits) || text.starts_with('-') || text.ends_with('-') {
            let cause = format!("`{text}` is no id: use lower-case letters, digits and `-` between them, at most {LONGEST_ID}");
            self.refuse(id.referenced, cause);
        } else if known.collect::<HashSet<_>>().contains(text.as_str()) {
            self.refuse(id.referenced, format!("the id `{text}` stands here twice; change one"));
        }
    }

    fn url(&mut self, url: Spanned<String>) -> Option<String> {
        let uri = url.value.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        match uri {
            // It is not repeated, as it holds a secret.
            Some(uri) if uri.authority().is_some_and(|a| a.as_str().contains('@')) => {
                self.refused(url.referenced, "credentials do not belong into a URL; name them under `auth`".to_owned())
            }
            Some(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => Some(url.value),
            _ => self.refused(url.referenced, format!("`{}` is no http:// or https:// URL", url.value)),
        }
    }

    fn path(&mut self, path: Spanned<String>) -> Option<String> {
        let fits = path.value.starts_with('/') && path.value.parse::<http::uri::PathAndQuery>().is_ok_and(|p| p.query().is_none());
        if fits {
            Some(path.value)
        } else {
            self.refused(path.referenced, format!("`{}` is no path: it begins with `/` and has no query", path.value))
        }
    }

    pub(super) fn choice<T: Clone>(&mut self, word: &Spanned<String>, known: &[(&str, T)]) -> Option<T> {
        let found = known.iter().find(|(name, _)| *name == word.value).map(|(_, value)| value.clone());
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            self.refuse(word.referenced, format!("`{}` is not known here{}", word.value, hint(&word.value, &names)));
        }
        found
    }
}
