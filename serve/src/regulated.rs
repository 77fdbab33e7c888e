//! The parts of serving portals that a reload can change: policy, authentication, labels, and the servers.
//!
//! A configuration is put in force in two steps. [`Regulated::prepare`] does all that can fail, and may wait for files;
//! [`Regulated::by`] changes what serves, and does not fail. So what a start would refuse changes nothing.

use crate::{
    changes::{Change, of_configuration},
    reaching::{Reaching, Running},
};
use anyhow::{Result, bail};
use gnomon_access::{Authenticator, Countries};
use gnomon_cli::{judging, line};
use gnomon_config::{self as config, Config};
use gnomon_inspect::{Inspector, Surroundings};
use gnomon_portal::{Fetcher, Parting, Portal, Prefix, Registration};
use gnomon_upstream::endpoint::ServerPools;
use parking_lot::Mutex;
use serde_json::Value;
use smol_str::SmolStr;
use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

/// The time that connections get to finish at a stop, and calls of a server that is removed.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Portals that serve, and what can be changed of them meanwhile.
#[derive(Clone)]
pub struct Regulated {
    portals: Vec<Arc<Portal>>,
    reaching: Arc<Mutex<Arc<Reaching>>>,
    running: Arc<Running>,
    inspector: Arc<Inspector>,
}

/// A configuration that can be put in force.
pub struct Prepared {
    config: Config,
    reaching: Arc<Reaching>,
    surroundings: Surroundings,
    portals: Vec<PreparedPortal>,
}

/// The prepared change to one portal.
struct PreparedPortal {
    portal: Arc<Portal>,
    now: config::Portal,
    /// None if the one in force stays.
    authenticator: Option<Arc<Authenticator>>,
    servers: Vec<Registration>,
    /// The servers that are removed or changed.
    gone: HashSet<SmolStr>,
    regulates: Regulates,
}

/// Whether policy or labels changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Regulates {
    Nothing,
    Something,
}

impl PreparedPortal {
    /// The servers that are added and removed, in words; none if there are none.
    fn moved(&self) -> Option<String> {
        let anew: Vec<&SmolStr> = self
            .servers
            .iter()
            .filter_map(|server| match server {
                Registration::Anew(id, _) => Some(id),
                Registration::AsBefore(_) => None,
            })
            .collect();
        let removed: Vec<&SmolStr> = self.gone.iter().filter(|id| !anew.contains(id)).collect();
        let (replaced, added): (Vec<_>, Vec<_>) = anew.into_iter().partition(|id| self.gone.contains(*id));
        let named = |word: &str, ids: Vec<&SmolStr>| {
            let ids: BTreeSet<&str> = ids.into_iter().map(SmolStr::as_str).collect();
            (!ids.is_empty()).then(|| format!("{word} {}", ids.into_iter().collect::<Vec<_>>().join(", ")))
        };
        let told: Vec<String> =
            [named("added", added), named("taken out", removed), named("replaced", replaced)].into_iter().flatten().collect();
        (!told.is_empty()).then(|| format!("servers of `{}`: {}", self.portal.id(), told.join(", ")))
    }
}

impl Regulated {
    /// Portals that are about to serve, whose servers are reached like this.
    pub fn new(portals: Vec<Arc<Portal>>, reaching: Reaching, running: Arc<Running>, inspector: Arc<Inspector>) -> Self {
        Self { portals, reaching: Arc::new(Mutex::new(Arc::new(reaching))), running, inspector }
    }

    fn reaching(&self) -> Arc<Reaching> {
        self.reaching.lock().clone()
    }

    /// Prepares the change to configuration `now`. `begun` is the one at the start of gnomon, `before` the one in force.
    /// It reads files, which may block.
    ///
    /// # Errors
    /// The fault of the configuration; also if it lacks a portal that is being served.
    pub fn prepare(&self, begun: &Config, before: &Config, now: Config) -> Result<Prepared> {
        let is_gone = |portal: &&Arc<Portal>| !now.portals.iter().any(|one| portal.id() == one.id.as_str());
        let gone: Vec<String> = self.portals.iter().filter(is_gone).map(|portal| format!("`{}`", portal.id())).collect();
        if !gone.is_empty() {
            let (file, gone) = (now.file.as_deref().unwrap_or(Path::new("it")).display(), gone.join(", "));
            bail!("{file} has no portal {gone} any more, which is served; to end that, restart gnomon, else put it back");
        }
        let in_force = in_force(begun, &now)?;
        let old = self.reaching();
        let reaching = old.next(&in_force)?;
        let changed = reaching.gone_since(&old);
        let surroundings = judging::surroundings(&in_force)?;
        let find = |config: &Config, portal: &Portal| config.portals.iter().find(|one| portal.id() == one.id.as_str()).cloned();
        let mut portals = Vec::with_capacity(self.portals.len());
        for portal in &self.portals {
            let Some((was, now_its)) = find(before, portal).zip(find(&now, portal)) else { continue };
            let logs_in = was.auth != now_its.auth || before.countries != now.countries;
            let authenticator = logs_in.then(|| authenticator(&now, &now_its, reaching.pools())).transpose()?;
            let regulates = was.overrides != now_its.overrides || !was.policy.written().eq(now_its.policy.written()) || logs_in;
            let regulates = if regulates { Regulates::Something } else { Regulates::Nothing };
            let gone = was.servers.iter().filter(|id| changed.contains(*id) || !now_its.servers.contains(id));
            let gone: HashSet<SmolStr> = gone.map(|id| id.as_str().into()).collect();
            let mut servers = Vec::with_capacity(now_its.servers.len());
            for server in now_its.servers.iter().filter_map(|id| now.servers.iter().find(|server| server.id == *id)) {
                let id = SmolStr::new(&server.id);
                if was.servers.contains(&server.id) && !gone.contains(&id) {
                    servers.push(Registration::AsBefore(id));
                } else if let Some(reach) = reaching.reach(server)? {
                    servers.push(Registration::Anew(id, reach));
                }
            }
            portals.push(PreparedPortal { portal: portal.clone(), now: now_its, authenticator, servers, gone, regulates });
        }
        Ok(Prepared { config: now, reaching: Arc::new(reaching), surroundings, portals })
    }

    /// Puts a configuration in force. Returns it, a message for the requester, and the changes.
    pub async fn by(&self, begun: &Config, before: &Config, prepared: Prepared) -> (Config, String, Vec<Change>) {
        let Prepared { config: now, reaching, surroundings, portals } = prepared;
        let count = u64::try_from(portals.len()).unwrap_or(u64::MAX);
        let old = self.reaching();
        let renewed: BTreeSet<String> = {
            let same = |id: &String| {
                let entry = |config: &Config| config.servers.iter().find(|server| server.id == *id).map(config::Server::entry);
                entry(before).is_some() && entry(before) == entry(&now) && now.offered().any(|server| server.id == *id)
            };
            reaching.gone_since(&old).into_iter().filter(same).collect()
        };
        let moved: String = portals.iter().filter_map(PreparedPortal::moved).map(|told| format!("; {told}")).collect();
        let mut partings: Vec<Parting> = Vec::with_capacity(portals.len());
        // Step by step, so that no server is ever offered under a policy that is not its own.
        for one in &portals {
            partings.push(one.portal.withdraw(&one.gone, DRAIN));
        }
        for one in &portals {
            match one.regulates {
                Regulates::Something => one.portal.regulate(one.now.policy.clone(), one.now.overrides.clone()),
                Regulates::Nothing => one.portal.restate(one.now.policy.clone()),
            }
        }
        self.running.begin(reaching.programs());
        self.inspector.replace_surroundings(surroundings);
        let mut authenticators = Vec::new();
        for one in portals {
            one.portal.offer(one.servers);
            authenticators.extend(one.authenticator.map(|authenticator| (one.portal, authenticator)));
        }
        let parted = async move {
            for parting in partings {
                parting.is_over().await;
            }
        };
        self.running.keep_only(reaching.programs(), parted);
        *self.reaching.lock() = reaching.clone();
        for (portal, authenticator) in authenticators {
            portal.reauthenticate(authenticator).await;
        }
        let changed = of_configuration(before, &now, &renewed);
        let is_same = unregulated(begun) == unregulated(&now);
        if self.portals.is_empty() {
            let told = if is_same { "nothing of it changed" } else { "what changed in it needs a restart" };
            return (now, format!("the configuration is good; {told}"), changed);
        }
        let other = if is_same { "" } else { "; what else changed in the configuration needs a restart" };
        (now, format!("policies and log-ins of {} reloaded{moved}{other}", line::counted(count, "portal")), changed)
    }
}

/// The configuration in force after a reload: that of the start, with the parts that can be changed taken from `now`.
///
/// # Errors
/// A portal's servers need what is changed by a restart alone.
fn in_force(begun: &Config, now: &Config) -> Result<Config> {
    let mut config = begun.clone();
    config.servers.clone_from(&now.servers);
    config.secret_files.clone_from(&now.secret_files);
    for portal in &mut config.portals {
        let Some(now) = now.portals.iter().find(|one| one.id == portal.id) else { continue };
        if portal.prefix == Prefix::Never && now.servers.len() != 1 {
            bail!(
                "the portal `{}` shows names without their server until gnomon is restarted, as it was started with `prefix: never`: it \
                 cannot offer several servers before; restart gnomon, else put that back",
                portal.id
            );
        }
        portal.servers.clone_from(&now.servers);
    }
    Ok(config)
}

/// The authenticator of a portal.
///
/// # Errors
/// The file of countries cannot be read.
pub fn authenticator(config: &Config, portal: &config::Portal, pools: &Arc<ServerPools>) -> Result<Arc<Authenticator>> {
    let authenticator = Authenticator::new((*portal.auth).clone(), Arc::new(Fetcher::new(pools.clone())));
    Ok(Arc::new(match &config.countries {
        None => authenticator,
        Some(file) => authenticator.with_countries(Arc::new(Countries::open(file)?)),
    }))
}

/// The configuration that a reload leaves unchanged.
fn unregulated(config: &Config) -> Value {
    let mut shown = config.to_json();
    shown["countries"] = Value::Null;
    shown["servers"] = Value::Null;
    for portal in shown["portals"].as_array_mut().into_iter().flatten() {
        portal["overrides"] = Value::Null;
        portal["servers"] = Value::Null;
    }
    shown
}
