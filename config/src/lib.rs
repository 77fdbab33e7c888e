//! The configuration: one YAML file, its defaults, and what the command line puts over it.
//!
//! Values are checked once, here, and become types; everything later takes them as given. Secrets
//! stay references until the proxy starts, so that showing a configuration can never show one.

mod codemode;
mod error;
mod exports;
pub mod keys;
mod labels;
mod openapi;
mod portals;
pub mod programs;
mod raw;
pub mod schema;
pub mod scopes;
mod secret;
mod show;

pub use codemode::CodeMode;
pub use error::{Error, Remedy, remedies_from};
pub use exports::{NamedSecret, Otlp, Syslog};
pub use openapi::OpenApi;
pub use portals::{At, Portal, Server, Shown, Tls};
pub use secret::SecretRef;

use error::remedy;
use gnomon_access::yaml::hint;
use gnomon_http::ResolveOverride;
use gnomon_inspect::{Enforcement, HostPatterns, Registered};
use gnomon_ledger::{Decided, PostgresUrl};
use gnomon_packs::{Enablement, Pack, packs};
use gnomon_portal::Durability;
use raw::Wrong;
use secret::NotAReference;
use serde_saphyr::{Location, Spanned};
use std::{
    cell::RefCell,
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Everything that can be configured, checked, with defaults filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from, if any.
    pub file: Option<PathBuf>,
    pub proxy: Proxy,
    /// As written; [`Config::sanctioned_hosts`] has them parsed.
    pub sanctioned: Vec<String>,
    pub rules: Rules,
    pub events: Events,
    pub metrics: Switch<SocketAddr>,
    /// What the sensor may take of the processor, in percent of one core.
    pub max_cpu_percent: u32,
    pub scopes: Vec<scopes::Scope>,
    /// Whom people ask.
    pub contact: Option<String>,
    /// The database of what several gnomons share.
    pub state: Option<PostgresUrl>,
    /// A MaxMind database that knows the countries of addresses.
    pub countries: Option<PathBuf>,
    /// The MCP servers that portals offer.
    pub servers: Vec<Server>,
    pub portals: Vec<Portal>,
    pub audit: Audit,
    /// Where secrets are that the configuration refers to, whatever for.
    pub secret_files: Vec<PathBuf>,
    pub codemode: CodeMode,
}

impl Config {
    /// What people decided, where this configuration has it.
    pub fn decided(&self, state_dir: &Path) -> Decided {
        Decided::shared(state_dir, self.state.clone())
    }
}

/// How the audit of the portals is kept.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Files that checkpoints are appended to.
    pub checkpoints: Vec<PathBuf>,
    pub checkpoint_seconds: u64,
    pub durability: Durability,
    pub days: u64,
    pub max_gib: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Self { checkpoints: Vec::new(), checkpoint_seconds: 60, durability: Durability::Soon, days: 365, max_gib: 4 }
    }
}

#[derive(Clone, Debug)]
pub struct Proxy {
    pub listen: SocketAddr,
    pub bypass: Vec<String>,
    pub upstream_ca: Vec<PathBuf>,
    pub resolve: Vec<Resolve>,
    pub users: Vec<User>,
    pub window_bytes: usize,
    pub max_connections: usize,
    /// A quarter of the connections, unless said otherwise.
    pub max_connections_per_user: Option<usize>,
}

/// An override of name resolution, and its spelling.
#[derive(Clone, Debug)]
pub struct Resolve {
    pub spelling: String,
    pub value: ResolveOverride,
}

impl FromStr for Resolve {
    type Err = <ResolveOverride as FromStr>::Err;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { spelling: text.to_owned(), value: text.parse()? })
    }
}

#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub password: SecretRef,
}

#[derive(Clone, Debug)]
pub struct Rules {
    pub mode: Enforcement,
    pub packs: Packs,
    pub dirs: Vec<PathBuf>,
    pub hosts: Vec<PathBuf>,
    pub overrides: Option<PathBuf>,
    /// Where exceptions are written.
    pub triage: Option<PathBuf>,
    /// The state folder's own exceptions, loaded where there are any. No key: the state folder is not configured here.
    pub state_triage: Option<PathBuf>,
}

impl Rules {
    /// Takes in the exceptions of a state folder.
    pub fn settle(&mut self, state_dir: &Path) {
        self.state_triage = Some(triage_in(state_dir));
    }

    /// The folder that exceptions are written into; none without a state folder.
    pub fn triage_dir(&self) -> Option<&Path> {
        let first = || self.dirs.iter().find(|path| path.is_dir());
        self.triage.as_ref().or_else(first).or(self.state_triage.as_ref()).map(PathBuf::as_path)
    }
}

/// The folder of exceptions in a state folder, where the serving process may write as well.
pub fn triage_in(state_dir: &Path) -> PathBuf {
    state_dir.join("triage.d")
}

#[derive(Clone, Debug)]
pub struct Events {
    pub jsonl: Jsonl,
    /// The collector that events are sent to, if any.
    pub otlp: Option<Otlp>,
    /// The syslog server that events are sent to, if any.
    pub syslog: Option<Syslog>,
    pub days: u64,
    pub max_gib: u64,
}

/// Where events go besides the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jsonl {
    Off,
    Stdout,
    File(PathBuf),
}

impl Jsonl {
    /// `off`, `-`, or a path.
    pub fn named(text: &str) -> Self {
        match text {
            "off" => Jsonl::Off,
            "-" => Jsonl::Stdout,
            path => Jsonl::File(path.into()),
        }
    }
}

/// Something that can be turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch<T> {
    Off,
    On(T),
}

impl<T: FromStr> FromStr for Switch<T> {
    type Err = T::Err;
    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "off" { Ok(Switch::Off) } else { text.parse().map(Switch::On) }
    }
}

/// Which of the shipped packs are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packs {
    /// Those that are on by default.
    Builtin,
    /// No rule that ships.
    None,
    /// These.
    Named(Vec<&'static str>),
}

impl Packs {
    /// The packs meant, in the order they ship in.
    pub fn chosen(&self) -> Vec<&'static Pack> {
        let wanted = |pack: &&Pack| match self {
            Packs::Builtin => pack.enabled_by_default == Enablement::Enabled,
            Packs::None => false,
            Packs::Named(names) => names.contains(&pack.name),
        };
        packs().iter().filter(wanted).collect()
    }
}

impl FromStr for Packs {
    type Err = String;
    /// `builtin`, `none`, or pack names separated by commas; `builtin` may stand among them.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "builtin" => return Ok(Packs::Builtin),
            "none" => return Ok(Packs::None),
            _ => {}
        }
        let mut names = Vec::new();
        for name in text.split(',').map(str::trim) {
            match packs().iter().find(|pack| pack.name == name) {
                Some(pack) => names.push(pack.name),
                None if name == "builtin" => names.extend(Packs::Builtin.chosen().iter().map(|pack| pack.name)),
                None => {
                    let mut known: Vec<&str> = packs().iter().map(|pack| pack.name).collect();
                    known.extend(["builtin", "none"]);
                    return Err(format!("no rule pack is called `{name}`{}", hint(name, &known)));
                }
            }
        }
        Ok(Packs::Named(names))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: None,
            proxy: Proxy {
                listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
                bypass: Vec::new(),
                upstream_ca: Vec::new(),
                resolve: Vec::new(),
                users: Vec::new(),
                window_bytes: 64 << 10,
                max_connections: 4096,
                max_connections_per_user: None,
            },
            sanctioned: Vec::new(),
            rules: Rules {
                mode: Enforcement::Enforce,
                packs: Packs::Builtin,
                dirs: Vec::new(),
                hosts: Vec::new(),
                overrides: None,
                triage: None,
                state_triage: None,
            },
            events: Events { jsonl: Jsonl::Off, otlp: None, syslog: None, days: 30, max_gib: 2 },
            metrics: Switch::On(SocketAddr::from(([127, 0, 0, 1], 9464))),
            max_cpu_percent: 25,
            scopes: Vec::new(),
            contact: None,
            state: None,
            countries: None,
            servers: Vec::new(),
            portals: Vec::new(),
            audit: Audit::default(),
            secret_files: Vec::new(),
            codemode: CodeMode::default(),
        }
    }
}

impl Config {
    /// The portals, those together that share an address.
    pub fn listeners(&self) -> Vec<Vec<&Portal>> {
        let mut all: Vec<Vec<&Portal>> = Vec::new();
        for portal in &self.portals {
            match all.iter_mut().find(|together| together.iter().any(|other| other.shares_listener(portal))) {
                Some(together) => together.push(portal),
                None => all.push(vec![portal]),
            }
        }
        all
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// Everything that is wrong with it, one `file:line:column: cause` per line.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = read_bounded(path).map_err(|error| {
            let next = remedy(path, &error).unwrap_or_else(|| "name another with --config".to_owned());
            Error::new(format!("cannot read the configuration {}: {error}", path.display())).next(next)
        })?;
        let mut config = Self::parse(&text, path)?;
        config.file = Some(path.to_owned());
        Ok(config)
    }

    /// Reads the text of a configuration file that stands at `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let file = raw::read(text).map_err(|wrong| told(path, &[wrong]))?;
        let mut check =
            Check { file: path, dir: path.parent().unwrap_or(Path::new("")), wrong: Vec::new(), secret_files: RefCell::default() };
        let mut config = check.file(file);
        config.secret_files = check.secret_files.take();
        if check.wrong.is_empty() { Ok(config) } else { Err(told(path, &check.wrong)) }
    }

    /// Most connections of one user.
    pub fn max_connections_per_user(&self, most: usize) -> usize {
        let all = self.proxy.max_connections.min(most);
        self.proxy.max_connections_per_user.unwrap_or((all / 4).max(1)).min(all)
    }

    /// The servers that the organisation allows: those it names, and those that portals offer, and the portals.
    pub fn sanctioned_hosts(&self) -> HostPatterns {
        let pattern = |(host, port): (String, u16)| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let offered = self.offered().filter_map(Server::place).map(pattern);
        let portals = self.portals.iter().flat_map(Portal::places).map(pattern);
        patterns(&self.sanctioned.iter().cloned().chain(offered).chain(portals).collect::<Vec<_>>())
    }

    /// Where the servers are that portals offer, and their ids.
    pub fn registered(&self) -> Registered {
        let place = |server: &Server| server.place().map(|(host, port)| (host, port, server.id.as_str().into()));
        self.offered().filter_map(place).collect()
    }

    /// The servers that some portal offers.
    pub fn offered(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| self.portals.iter().any(|portal| portal.servers.contains(&server.id)))
    }

    /// The servers whose TLS is never opened.
    pub fn bypass_hosts(&self) -> HostPatterns {
        patterns(&self.proxy.bypass)
    }
}

/// Checked when they were read, so none is left out here.
fn patterns(texts: &[String]) -> HostPatterns {
    HostPatterns::parse(texts.iter().map(String::as_str)).unwrap_or_default()
}

fn told(path: &Path, wrong: &[Wrong]) -> Error {
    let line = |wrong: &Wrong| match &wrong.place {
        Some(at) if *at != Location::UNKNOWN => format!("{}:{}:{}: {}", path.display(), at.line(), at.column(), wrong.cause),
        _ => format!("{}: {}", path.display(), wrong.cause),
    };
    Error::new(wrong.iter().map(line).collect::<Vec<_>>().join("\n"))
        .next("`gnomon config schema` and docs/reference/config.md name every key")
}

/// The words of `audit.writes`.
const DURABILITIES: &[(&str, Durability)] =
    &[("soon", Durability::Soon), ("before_answer", Durability::BeforeAnswer), ("before_call", Durability::BeforeCall)];

/// The words of `rules.mode`.
pub const ENFORCEMENTS: &[&str] = &["enforce", "shadow"];

fn enforcement(word: &str) -> Option<Enforcement> {
    match word {
        "enforce" => Some(Enforcement::Enforce),
        "shadow" => Some(Enforcement::Shadow),
        _ => None,
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(raw::MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > raw::MAX_BYTES {
        return Err(io::Error::other(format!("it is longer than {} bytes", raw::MAX_BYTES)));
    }
    Ok(text)
}

/// Turns written values into checked ones and collects what is wrong with them.
struct Check<'a> {
    file: &'a Path,
    dir: &'a Path,
    wrong: Vec<Wrong>,
    secret_files: RefCell<Vec<PathBuf>>,
}

impl Check<'_> {
    fn file(&mut self, file: raw::File) -> Config {
        let plain = Config::default();
        let raw::File { proxy, sanctioned, rules, events, metrics, sensor, contact, state, countries, servers, portals, audit, codemode } =
            file;
        let servers = self.servers(servers);
        let portals = self.portals(portals, &servers);
        Config {
            file: None,
            proxy: Proxy {
                listen: proxy
                    .listen
                    .and_then(|v| self.parsed(&v, "an address with a port, as 127.0.0.1:8443"))
                    .unwrap_or(plain.proxy.listen),
                bypass: self.hosts(proxy.bypass),
                upstream_ca: self.paths(proxy.upstream_ca),
                resolve: proxy.resolve.iter().filter_map(|v| self.parsed(v, "")).collect(),
                users: self.users(proxy.users),
                window_bytes: self.number(proxy.window_bytes, "proxy.window_bytes", plain.proxy.window_bytes),
                max_connections: self.number(proxy.max_connections, "proxy.max_connections", plain.proxy.max_connections),
                max_connections_per_user: proxy
                    .max_connections_per_user
                    .map(|most| self.number(Some(most), "proxy.max_connections_per_user", plain.proxy.max_connections)),
            },
            sanctioned: self.hosts(sanctioned),
            rules: Rules {
                mode: self.word(rules.mode, enforcement, ENFORCEMENTS).unwrap_or(plain.rules.mode),
                packs: rules.packs.and_then(|v| self.packs(&v)).unwrap_or(plain.rules.packs),
                dirs: self.paths(rules.dirs),
                hosts: self.paths(rules.hosts),
                overrides: rules.overrides.map(|path| self.dir.join(path)),
                triage: rules.triage.map(|path| self.dir.join(path)),
                state_triage: None,
            },
            events: Events {
                jsonl: match events.jsonl.map(|v| Jsonl::named(&v.value)) {
                    Some(Jsonl::File(path)) => Jsonl::File(self.dir.join(path)),
                    Some(other) => other,
                    None => plain.events.jsonl,
                },
                otlp: self.otlp(events.otlp),
                syslog: self.syslog(events.syslog),
                days: self.number(events.retention.days, "events.retention.days", plain.events.days),
                max_gib: self.number(events.retention.max_gib, "events.retention.max_gib", plain.events.max_gib),
            },
            metrics: metrics
                .listen
                .and_then(|v| self.parsed(&v, "an address with a port, as 127.0.0.1:9464, or off"))
                .unwrap_or(plain.metrics),
            max_cpu_percent: self.number(sensor.max_cpu_percent, "sensor.max_cpu_percent", plain.max_cpu_percent),
            scopes: self.scopes(sensor.scopes),
            countries: countries.map(|path| self.dir.join(path)),
            contact: contact.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
            state: state.and_then(|url| self.parsed(&url, "")),
            servers,
            portals,
            codemode: self.codemode(codemode),
            audit: Audit {
                checkpoints: self.paths(audit.checkpoints),
                checkpoint_seconds: self.number(audit.checkpoint_seconds, "audit.checkpoint_seconds", plain.audit.checkpoint_seconds),
                durability: audit.writes.and_then(|word| self.choice(&word, DURABILITIES)).unwrap_or(plain.audit.durability),
                days: self.number(audit.days, "audit.days", plain.audit.days),
                max_gib: self.number(audit.max_gib, "audit.max_gib", plain.audit.max_gib),
            },
            secret_files: Vec::new(),
        }
    }

    fn refuse(&mut self, place: Location, cause: String) {
        self.wrong.push(Wrong { place: Some(place), cause });
    }

    /// `expected` is for types whose own error says too little.
    fn parsed<T: FromStr<Err: ToString>>(&mut self, text: &Spanned<String>, expected: &str) -> Option<T> {
        match text.value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let cause = if expected.is_empty() { error.to_string() } else { format!("`{}` is not {expected}", text.value) };
                self.refuse(text.referenced, cause);
                None
            }
        }
    }

    fn hosts(&mut self, texts: Vec<Spanned<String>>) -> Vec<String> {
        let mut hosts = Vec::with_capacity(texts.len());
        for text in texts {
            if self.parsed::<gnomon_inspect::HostPattern>(&text, "").is_some() {
                hosts.push(text.value);
            }
        }
        hosts
    }

    fn paths(&self, texts: Vec<String>) -> Vec<PathBuf> {
        texts.into_iter().map(|text| self.dir.join(text)).collect()
    }

    fn packs(&mut self, names: &Spanned<raw::Names>) -> Option<Packs> {
        match names.value.0.join(",").parse() {
            Ok(packs) => Some(packs),
            Err(_) if names.value.0.is_empty() => Some(Packs::None),
            Err(cause) => {
                self.refuse(names.referenced, cause);
                None
            }
        }
    }

    fn users(&mut self, users: Vec<raw::User>) -> Vec<User> {
        let mut known: Vec<User> = Vec::with_capacity(users.len());
        for user in users {
            let name = user.name.value;
            // RFC 7617 section 2: a user-id holds no colon.
            if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
                self.refuse(user.name.referenced, format!("`{name}` cannot be a user's name: it must not be empty nor hold `:`"));
            } else if known.iter().any(|other| other.name == name) {
                self.refuse(user.name.referenced, format!("the user `{name}` stands here twice; remove one"));
            }
            match self.secret(&user.password.value) {
                Ok(password) => known.push(User { name, password }),
                // The text may be the password itself: it is not repeated.
                Err(cause) => self.refuse(user.password.referenced, cause.to_string()),
            }
        }
        known
    }

    /// Reads a reference, and remembers where it leads.
    fn secret(&self, text: &str) -> Result<SecretRef, NotAReference> {
        let secret = SecretRef::parse(text, self.dir)?;
        if let SecretRef::File(path) = &secret {
            self.secret_files.borrow_mut().push(path.clone());
        }
        Ok(secret)
    }

    fn number<T: TryFrom<u64>>(&mut self, number: Option<Spanned<u64>>, path: &str, default: T) -> T {
        let Some(number) = number else { return default };
        let bounds = keys::KEYS.iter().find(|key| key.path == path).map(|key| key.shape);
        let (low, high) = match bounds {
            Some(keys::Shape::Number(low, high)) => (low, high),
            _ => (0, u64::MAX),
        };
        match T::try_from(number.value) {
            Ok(value) if (low..=high).contains(&number.value) => value,
            _ => {
                self.refuse(number.referenced, format!("{} is out of bounds; use {low} to {high}", number.value));
                default
            }
        }
    }
}

#[cfg(test)]
mod tests;
