//! Checks of a configuration before it is used: the same for `gnomon config check`, a start and a reload, so that their results never
//! differ; but a start has the rules that were last in force to go on with.

use crate::{
    apis, exporting,
    last_rules::{self, Fallback},
    portals,
};
use anyhow::{Context as _, Result};
use gnomon_access::Countries;
use gnomon_cli::{Complaint, rule_files};
use gnomon_config::{At, Config, Jsonl, Shown, Switch};
use gnomon_engine::{Lint, RuleSet};
use gnomon_http::UpstreamTls;
use std::{fs, net::SocketAddr, os::unix::fs::FileTypeExt as _, path::Path};

/// The parts that are to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// The inline proxy, and the portals.
    Everything,
    /// The portals.
    Portals,
}

/// The rules that were read by the check.
pub struct Checked {
    /// The rules as they were read.
    pub read: rule_files::RuleText,
    /// The same, compiled.
    pub rules: RuleSet,
    /// What may be meant otherwise, one line each; it is no reason not to start.
    pub doubts: Vec<String>,
}

/// Checks a configuration with the files that it names. It reads them, which may block.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(config: &Config, serves: Serves) -> Result<Checked> {
    let (read, rules) = read_rules(config)?;
    check_beside_rules(config, serves)?;
    Ok(Checked { read, rules, doubts: doubts(config, serves) })
}

/// Checks the same for a start, which goes on with the rules that were last in force in this state folder where those on disk are bad;
/// then it is said what is wrong with them.
///
/// # Errors
/// The first thing that is wrong; bad rules where there are no others.
pub fn check_to_start(config: &Config, serves: Serves, state_dir: &Path) -> Result<(Checked, Option<String>)> {
    let (read, rules, told) = match read_rules(config) {
        Ok((read, rules)) => (read, rules, None),
        Err(bad) => {
            let Fallback { read, rules, told } = last_rules::instead(state_dir, bad)?;
            (read, rules, Some(told))
        }
    };
    check_beside_rules(config, serves)?;
    Ok((Checked { read, rules, doubts: doubts(config, serves) }, told))
}

fn doubts(config: &Config, serves: Serves) -> Vec<String> {
    match serves {
        Serves::Everything => config.doubts(),
        Serves::Portals => Vec::new(),
    }
}

fn read_rules(config: &Config) -> Result<(rule_files::RuleText, RuleSet), Complaint> {
    let read = rule_files::RuleText::of(&config.rules)?;
    let rules = read.compile(Lint::Skip)?;
    Ok((read, rules))
}

fn check_beside_rules(config: &Config, serves: Serves) -> Result<()> {
    rule_files::catalogue(&config.rules.hosts)?;
    if let Some(path) = config.proxy.upstream_ca.iter().find(|path| !path.is_file()) {
        let there = if path.exists() { "what is there is not a regular file:" } else { "there is no file" };
        let wrong = format!("proxy.upstream_ca: {there} {}", path.display());
        return Err(Complaint::input(wrong).next("name existing, readable files").into());
    }
    check_addresses(config, serves)?;
    if serves == Serves::Everything {
        check_listener(config)?;
        for user in &config.proxy.users {
            user.password.fetch()?;
        }
    }
    for server in &config.servers {
        if let At::Api(api) = &server.at {
            apis::imported(&server.id, api)?;
        }
    }
    if let Some(file) = config.countries.as_ref().filter(|_| !config.portals.is_empty()) {
        Countries::open(file)?;
    }
    for (key, path) in certificates(config) {
        let next = "name an existing file that gnomon may read";
        gnomon_files::open(path).map_err(|error| Complaint::unreadable(format_args!("{key} {}", path.display()), path, &error, next))?;
    }
    portals::check_tls(config)?;
    exporting::check_exports(config)?;
    if let Err(error) = UpstreamTls::new(&config.proxy.upstream_ca) {
        return Err(Complaint::input(format!("proxy.upstream_ca: {error}")).into());
    }
    if let Jsonl::File(path) = &config.events.jsonl {
        check_lines(path)?;
    }
    Ok(())
}

/// The files of certificates and keys that a configuration names, each with its key.
fn certificates(config: &Config) -> impl Iterator<Item = (&'static str, &Path)> {
    let of_servers = config.proxy.upstream_ca.iter().map(|path| ("proxy.upstream_ca", path));
    let of_clients = config.portals.iter().filter_map(|portal| portal.tls.as_ref()).flat_map(|tls| {
        let shown = match &tls.shown {
            Shown::Files { cert, key } => [("portals[].tls.cert", cert), ("portals[].tls.key", key)].to_vec(),
            Shown::Own => Vec::new(),
        };
        shown.into_iter().chain(tls.client_ca.iter().map(|path| ("portals[].tls.client_ca", path)))
    });
    let otlp = config.events.otlp.iter().flat_map(|otlp| &otlp.ca).map(|path| ("events.otlp.ca", path));
    let syslog = config.events.syslog.iter().flat_map(|syslog| &syslog.ca).map(|path| ("events.syslog.ca", path));
    of_servers.chain(of_clients).chain(otlp).chain(syslog).map(|(key, path)| (key, path.as_path()))
}

/// Refuses a place for JSON lines that no file can be at. Whether this process may write there is not asked: it need not be the one that serves.
fn check_lines(path: &Path) -> Result<(), Complaint> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let there = fs::metadata(path).ok().map(|there| there.file_type());
    let wrong = if there.is_some_and(|there| there.is_dir()) {
        format!("{} is a folder", path.display())
    } else if there.is_some_and(|there| there.is_fifo()) {
        format!("{} is a named pipe", path.display())
    } else if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        format!("there is no folder {}", folder.display())
    } else {
        return Ok(());
    };
    Err(Complaint::input(format!("events.jsonl: {wrong}")).next("name a file in a folder that exists"))
}

/// Refuses to be an open proxy.
///
/// # Errors
/// If any host on the network could use it.
pub fn check_listener(config: &Config) -> Result<(), Complaint> {
    let listen = config.proxy.listen;
    if listen.ip().is_loopback() || !config.proxy.users.is_empty() {
        return Ok(());
    }
    Err(Complaint::input(format!(
        "{listen} is reachable from other machines and proxy.users is empty: anybody could send traffic through this host"
    ))
    .next("listen on 127.0.0.1, or list users with passwords under proxy.users in the configuration"))
}

/// Refuses two listeners at one address; portals may share one.
fn check_addresses(config: &Config, serves: Serves) -> Result<(), Complaint> {
    let mut all: Vec<(String, SocketAddr)> = Vec::new();
    if serves == Serves::Everything {
        all.push(("proxy.listen".to_owned(), config.proxy.listen));
    }
    if let Switch::On(metrics) = config.metrics.listen {
        all.push(("metrics.listen".to_owned(), metrics));
    }
    let portals = config.listeners().into_iter().filter_map(|together| together.first().copied());
    all.extend(portals.map(|portal| (format!("the portal `{}`", portal.id), portal.listen)));
    let same = |one: &SocketAddr, other: &SocketAddr| {
        let meets =
            one.ip() == other.ip() || one.is_ipv4() == other.is_ipv4() && (one.ip().is_unspecified() || other.ip().is_unspecified());
        one.port() != 0 && one.port() == other.port() && meets
    };
    for (nth, (what, address)) in all.iter().enumerate() {
        if let Some((first, _)) = all.iter().take(nth).find(|(_, before)| same(before, address)) {
            let wrong = format!("{what} is {address}, where {first} listens already");
            return Err(Complaint::input(wrong).next("give each a port of its own"));
        }
    }
    Ok(())
}

/// Checks that this process can read the credentials of the servers that portals offer, as a start of it would.
///
/// # Errors
/// A secret cannot be read.
pub fn credentials(config: &Config) -> Result<()> {
    for server in config.offered() {
        server.credentials().with_context(|| format!("server `{}`", server.id))?;
        if let At::Api(api) = &server.at {
            api.credentials.iter().try_for_each(|(_, secret)| secret.fetch().map(drop))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_a_start_would_refuse_in_files_that_are_named_is_refused_here_and_no_pipe_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(at("empty.pem"), "").unwrap();
        fs::set_permissions(at("empty.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        for name in ["pipe", "pipe.key"] {
            assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(at(name)).status().unwrap().success());
        }
        let server = "servers: [{id: docs, url: 'https://docs.example/mcp'}]\n";
        let portal = |tls: String| {
            format!(
                "{server}portals: [{{id: main, listen: '127.0.0.1:0', servers: [docs], policy: [{{allow: {{servers: [docs], tools: [a]}}}}], tls: {{{tls}}}}}]\n"
            )
        };
        let otlp = |more: String| format!("events: {{otlp: {{endpoint: 'https://collector.example:4318', {more}}}}}\n");
        for (text, says) in [
            (portal(format!("cert: '{}', key: '{}'", at("no.pem"), at("empty.pem"))), "no.pem"),
            (portal(format!("cert: '{}', key: '{}'", at("pipe"), at("pipe.key"))), "not a regular file"),
            (portal(format!("ca: own, client_ca: ['{}']}}, auth: {{mode: mtls", at("empty.pem"))), "empty.pem"),
            (otlp(format!("headers: ['authorization=file:{}']", at("no"))), "cannot be read"),
            (otlp(format!("headers: ['authorization=file:{}']", at("pipe"))), "not a regular file"),
            (otlp(format!("ca: ['{}']", at("empty.pem"))), "events.otlp"),
            (format!("events: {{syslog: {{endpoint: 'tls://siem.example', ca: ['{}']}}}}\n", at("pipe")), "events.syslog"),
            (format!("proxy: {{upstream_ca: ['{}']}}\n", at("empty.pem")), "proxy.upstream_ca"),
            (format!("proxy: {{upstream_ca: ['{}']}}\n", at("pipe")), "not a regular file"),
            (format!("events: {{jsonl: '{}'}}\n", at("no/events.jsonl")), "there is no folder"),
            (format!("events: {{jsonl: '{}'}}\n", at("")), "is a folder"),
            (format!("events: {{jsonl: '{}'}}\n", at("pipe")), "is a named pipe"),
            ("proxy: {listen: '127.0.0.1:9464'}\n".to_owned(), "metrics.listen is 127.0.0.1:9464, where proxy.listen listens already"),
            (
                format!("metrics: {{listen: '0.0.0.0:7000'}}\n{}", portal("ca: own".to_owned()).replace("127.0.0.1:0", "127.0.0.1:7000")),
                "the portal `main` is",
            ),
            (format!("countries: '{}'\n{}", at("pipe"), portal("ca: own".to_owned())), "not a regular file"),
            (format!("servers: [{{id: docs, openapi: {{file: '{}'}}}}]\n", at("pipe")), "not a regular file"),
        ] {
            fs::write(at("gnomon.yml"), &text).unwrap();
            let config = Config::load(Path::new(&at("gnomon.yml"))).unwrap();
            let error = check(&config, Serves::Everything).err().map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(error.contains(says), "{text}: {error:?}");
        }
    }
}
