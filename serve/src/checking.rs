//! Checks of a configuration before it is used: the same for `gnomon config check`, a start and a reload, so that their results never
//! differ.

use crate::apis;
use anyhow::{Context as _, Result};
use gnomon_access::Countries;
use gnomon_cli::{Complaint, rule_files};
use gnomon_config::{At, Config};
use gnomon_engine::{Lint, RuleSet};

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
}

/// Checks a configuration with the files that it names. It reads them, which may block.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(config: &Config, serves: Serves) -> Result<Checked> {
    let read = rule_files::RuleText::of(&config.rules)?;
    let rules = read.compile(Lint::Skip)?;
    rule_files::catalogue(&config.rules.hosts)?;
    if let Some(path) = config.proxy.upstream_ca.iter().find(|path| !path.is_file()) {
        let wrong = format!("proxy.upstream_ca: there is no file {}", path.display());
        return Err(Complaint::input(wrong).next("name existing, readable files").into());
    }
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
    Ok(Checked { read, rules })
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

/// Checks that this process can read the credentials of the servers that portals offer, as a start of it would.
///
/// # Errors
/// One cannot be read.
pub fn credentials(config: &Config) -> Result<()> {
    for server in config.offered() {
        server.credentials().with_context(|| format!("server `{}`", server.id))?;
        if let At::Api(api) = &server.at {
            api.credentials.iter().try_for_each(|(_, secret)| secret.fetch().map(drop))?;
        }
    }
    Ok(())
}
