//! The configuration: one YAML file, its keys, and what holds without them.
//!
//! A key is declared once, in the section that it stands in (`proxy.rs`, `rules.rs`, `servers.rs`, …): name, type, form with its bounds,
//! default, sample, and what it does. Reading, checking, showing ([`Config::to_json`]), the JSON Schema ([`schema`]) and the reference
//! page ([`keys`]) come of that one declaration; see `declare.rs`. What keys have to say to each other, as those of a server, is checked
//! by code beside the declaration.
//!
//! Values are checked once, when they are read, and become types; everything later takes them as given. All that is wrong is
//! told together, each with its line and column. Secrets stay references until the proxy starts, so that showing a
//! configuration can never show one. What the command line puts over a configuration is none of this crate's business.
//!
//! ```
//! use gnomon_config::Config;
//! use std::path::Path;
//!
//! let error = Config::parse("proxy:\n  lisen: 127.0.0.1:1\n", Path::new("gnomon.yml")).unwrap_err();
//! assert_eq!(error.cause, "gnomon.yml:2:3: unknown key `lisen`; did you mean `listen`?");
//! ```
#![deny(missing_docs)]

mod audit;
mod check;
mod codemode;
mod declare;
mod error;
mod events;
mod exports;
mod feed;
mod forms;
mod key;
pub mod keys;
mod labels;
mod metrics;
mod openapi;
mod portals;
mod proxy;
mod raw;
mod rules;
pub mod schema;
pub mod scopes;
mod secret;
mod sensor;
mod servers;

pub use audit::Audit;
pub use check::ScopeUser;
pub use codemode::CodeMode;
pub use error::{ConfigError, Remedy, remedies_from, remedy};
pub use events::{Events, Jsonl, Retention};
pub use exports::{NamedSecret, Otlp, Syslog};
pub use feed::{FeedKey, FeedPlace, feed_in};
pub use metrics::{Metrics, Switch};
pub use openapi::OpenApi;
pub use portals::{Portal, Sessions, Shown, Tls};
pub use proxy::{Proxy, Resolve, User};
pub use rules::{Packs, Rules, triage_in};
pub use secret::SecretRef;
pub use sensor::{Looking, ReadHomes, Sensor};
pub use servers::{At, Server, programs};

use check::Check;
use declare::{Many, Part, Section, section};
use forms::{Database, FilePath, Hosts, Text};
use gnomon_inspect::{HostPatterns, Registered};
use gnomon_ledger::{Decided, PostgresUrl};
use portals::PortalSource;
use serde_json::Value;
use servers::ServerSource;
use std::{
    fs::File,
    io::{self, Read},
    mem,
    path::{Path, PathBuf},
};

section! {
    /// Everything that can be configured, checked, with defaults filled in.
    pub struct Config, written ConfigSource at "" {
        /// The inline proxy.
        proxy: Proxy as Part<Proxy>;
        /// MCP servers that the organisation allows: `host`, `*.host` or `host:port`. They are `gnomon.sanctioned: true`.
        sanctioned: Vec<String> as Hosts, without "none", sample "[mcp.corp.example]";
        /// The rules.
        rules: Rules as Part<Rules>;
        /// Events.
        events: Events as Part<Events>;
        /// Metrics.
        metrics: Metrics as Part<Metrics>;
        /// The sensor.
        sensor: Sensor as Part<Sensor>;
        /// The contact for questions about gnomon on this machine: `gnomon status` shows it.
        contact: Option<String> as Text, without "none", sample "'security@corp.example'";
        /// A PostgreSQL database for what several gnomons share: reviews of servers and verdicts on events. Over TCP with TLS
        /// and a certificate for its host (`sslrootcert=FILE` adds an authority); the password by `PGPASSWORD` or a passfile.
        /// Events and audit stay on the host.
        state: Option<PostgresUrl> as Database, without "the state folder", sample "'postgres://gnomon@db.corp.example/gnomon'";
        /// A MaxMind database (country or city) by which policy's `countries` finds the country of an address. Relative to this file.
        countries: Option<PathBuf> as FilePath, without "none", sample "/var/lib/GeoIP/GeoLite2-Country.mmdb";
        /// The MCP servers that portals offer.
        servers: Vec<Server> as Many<ServerSource>;
        /// The portals.
        portals: Vec<Portal> as Many<PortalSource>;
        /// The audit of the portals.
        audit: Audit as Part<Audit>;
        /// The limits of scripts.
        codemode: CodeMode as Part<CodeMode>;
    }
    beside {
        /// The file it came from, if any.
        pub file: Option<PathBuf>,
        /// The files of all secrets that the configuration refers to.
        pub secret_files: Vec<PathBuf>,
        /// The users that scopes name, in the order of the file.
        pub scope_users: Vec<ScopeUser>,
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

    /// What in it may be meant otherwise, on this host and at this moment, one line each with its place. It asks the accounts of this host,
    /// which may block.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = scopes::doubts(&self.sensor.scopes, &self.scope_users);
        if let Switch::On(address) = self.metrics.listen
            && !address.ip().is_loopback()
        {
            doubts.push(format!(
                "metrics.listen: {address} can be reached from other machines, and there is neither a log-in nor TLS: whoever scrapes it learns \
                 which rules match how often; name an address of the monitoring network, or have a firewall before it"
            ));
        }
        doubts
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// Everything that is wrong with it, one `file:line:column: cause` per line.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::read_from(path, File::open(path))
    }

    /// The same while gnomon runs by it: a pipe, which a shell may have meant at the start, would be waited for.
    ///
    /// # Errors
    /// As [`Config::load`], and when it is not a regular file.
    pub fn load_again(path: &Path) -> Result<Self, ConfigError> {
        Self::read_from(path, gnomon_files::open(path))
    }

    fn read_from(path: &Path, file: io::Result<File>) -> Result<Self, ConfigError> {
        let text = file.and_then(read_bounded).map_err(|error| {
            let next = remedy(path, &error).unwrap_or_else(|| "name another with --config".to_owned());
            ConfigError::new(format!("cannot read the configuration {}: {error}", path.display())).next(next)
        })?;
        let mut config = Self::parse(&text, path)?;
        config.file = Some(path.to_owned());
        Ok(config)
    }

    /// Reads the text of a configuration file that stands at `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut source = raw::read(text).map_err(|wrong| check::told(path, &[wrong]))?;
        let mut check = Check::of(path);
        // A portal is checked against the servers that there are.
        let servers = check.servers(mem::take(&mut source.servers));
        let portals = check.portals(mem::take(&mut source.portals), &servers);
        // What is shown last is told last.
        let audit = mem::take(&mut source.audit);
        let mut config = Self { servers, portals, ..Self::read(source, &mut check) };
        config.audit = Audit::read(audit, &mut check);
        config.scope_users = mem::take(&mut check.scope_users);
        config.secret_files = check.end()?;
        Ok(config)
    }

    /// The whole configuration, defaults included, in the shape of the file.
    pub fn to_json(&self) -> Value {
        let mut shown = self.show();
        shown["proxy"]["max_connections_per_user"] = self.max_connections_per_user(usize::MAX).into();
        // Where readers of what is shown are used to find it.
        if let Some(sections) = shown.as_object_mut()
            && let Some(audit) = sections.shift_remove("audit")
        {
            sections.insert("audit".to_owned(), audit);
        }
        shown
    }

    /// Most connections of one user, where there are at most so many in all.
    pub fn max_connections_per_user(&self, most: usize) -> usize {
        self.proxy.connections_per_user(most)
    }

    /// The store of decisions that this configuration names.
    pub fn decided(&self, state_dir: &Path) -> Decided {
        Decided::shared(state_dir, self.state.clone())
    }

    /// The servers that the organisation allows: those it names, and those that portals offer, and the portals.
    pub fn sanctioned_hosts(&self) -> HostPatterns {
        let pattern = |(host, port): (String, u16)| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let offered = self.offered().filter_map(Server::place).map(pattern);
        let portals = self.portals.iter().flat_map(Portal::places).map(pattern);
        patterns(&self.sanctioned.iter().cloned().chain(offered).chain(portals).collect::<Vec<_>>())
    }

    /// The servers that portals offer, and their ids.
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

fn read_bounded(file: File) -> io::Result<String> {
    let mut text = String::new();
    file.take(raw::MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > raw::MAX_BYTES {
        return Err(io::Error::other(format!("it is longer than {} bytes", raw::MAX_BYTES)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
