//! Scopes of the configuration, kept in the kernel half: cgroups come and go, and so do sensors.
//!
//! Matching is done here and not by the sensor, which reads no configuration. A cgroup that appears is in its scope within
//! [`LOOK`]; what it connects before that goes direct, and is observed as everything is.

use gnomon_config::scopes::{Fail, Mode, Quic, Scope};
use gnomon_host::cgroup::{CgroupError, Hierarchy, MAX_MATCHES};
use gnomon_link::{self as link, List, ScopeChange, ScopeSettings};
use gnomon_watch::{Watch, WatchError};
use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

/// How often cgroups are looked for.
pub const LOOK: Duration = Duration::from_millis(250);
/// Most cgroups in scopes: the kernel half takes 4096, and `gnomon exec` needs some.
const MOST: usize = 2048;

/// The numbers of scopes in which nothing is refused.
pub fn shadowed(scopes: &[Scope]) -> Vec<u32> {
    numbered(scopes).filter(|(_, scope)| scope.mode == Mode::Intercept).map(|(number, _)| number).collect()
}

/// The numbers of scopes that send connections to the proxy.
pub fn redirecting(scopes: &[Scope]) -> Vec<u32> {
    numbered(scopes).filter(|(_, scope)| matches!(scope.mode, Mode::Intercept | Mode::Enforce)).map(|(number, _)| number).collect()
}

/// Scopes with their numbers from 1, as 0 means no scope.
fn numbered(scopes: &[Scope]) -> impl Iterator<Item = (u32, &Scope)> {
    (1..).zip(scopes)
}

/// Keeps them until it is aborted.
pub async fn keep(watch: Arc<Watch>, scopes: Vec<Scope>) {
    if scopes.is_empty() {
        return;
    }
    let scopes = Arc::new(scopes);
    let (mut sensor, mut held) = (0, BTreeMap::new());
    let mut said = None;
    let mut every = tokio::time::interval(LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if watch.joined() != sensor {
            // A new sensor knows no scopes yet.
            (sensor, held) = (watch.joined(), BTreeMap::new());
        }
        if sensor == 0 {
            continue;
        }
        let asked = scopes.clone();
        let wanted = match tokio::task::spawn_blocking(move || wanted(&asked)).await {
            Ok(Ok(wanted)) => wanted,
            Ok(Err(error)) => {
                tell(&mut said, format!("scopes cannot be kept: {error}"));
                continue;
            }
            // The runtime is ending.
            Err(_) => return,
        };
        match change(&watch, &scopes, &mut held, &wanted.0).await {
            Ok(()) if wanted.1 => tell(
                &mut said,
                format!(
                    "more cgroups match scopes than are kept ({MAX_MATCHES} of a scope, {MOST} in all): those beyond are in none of them"
                ),
            ),
            Ok(()) => said = None,
            // The next sensor gets all scopes.
            Err((_, WatchError::Gone)) => {}
            Err((scope, error)) => tell(&mut said, format!("the scope {scope} is not in force: {error}")),
        }
    }
}

/// Logs a text, unless it was the last one.
fn tell(said: &mut Option<String>, what: String) {
    if said.as_ref() != Some(&what) {
        let _ = writeln!(io::stderr(), "gnomon: {what}");
        *said = Some(what);
    }
}

/// The scope of each cgroup, the first of those that match it; and whether there may be more.
fn wanted(scopes: &[Scope]) -> Result<(BTreeMap<u64, u32>, bool), CgroupError> {
    let hierarchy = Hierarchy::find()?;
    let (mut found, mut more) = (BTreeMap::new(), false);
    for (number, scope) in numbered(scopes) {
        let Some(pattern) = scope.matches.pattern() else { continue };
        let matching = hierarchy.matching(&pattern)?;
        more |= matching.len() >= MAX_MATCHES;
        for cgroup in matching {
            if found.len() < MOST {
                found.entry(cgroup.0).or_insert(number);
            } else {
                more = true;
            }
        }
    }
    Ok((found, more))
}

async fn change(
    watch: &Watch,
    scopes: &[Scope],
    held: &mut BTreeMap<u64, u32>,
    wanted: &BTreeMap<u64, u32>,
) -> Result<(), (String, WatchError)> {
    let gone: Vec<u64> = held.keys().filter(|cgroup| !wanted.contains_key(cgroup)).copied().collect();
    for cgroup in gone {
        watch.scope(ScopeChange::Remove { cgroup }).await.map_err(|error| ("that is over".to_owned(), error))?;
        held.remove(&cgroup);
    }
    // One that cannot hold keeps no other from it.
    let mut failed = None;
    for (cgroup, number) in wanted {
        if held.get(cgroup) == Some(number) {
            continue;
        }
        let Some((_, scope)) = numbered(scopes).find(|(known, _)| known == number) else { continue };
        match watch.scope(ScopeChange::Set { cgroup: *cgroup, settings: settings(*number, scope) }).await {
            Ok(()) => drop(held.insert(*cgroup, *number)),
            Err(error @ WatchError::Refused(_)) => failed = failed.or(Some((scope.name.clone(), error))),
            Err(error) => return Err((scope.name.clone(), error)),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn settings(number: u32, scope: &Scope) -> ScopeSettings {
    ScopeSettings {
        id: number,
        mode: match scope.mode {
            Mode::Off => link::Mode::Off,
            Mode::Observe => link::Mode::Observe,
            Mode::Intercept | Mode::Enforce => link::Mode::Redirect,
        },
        ports: link::Ports::Listed(List::cut(scope.ports.iter().copied())),
        quic: match scope.quic {
            Quic::Refuse => link::Quic::Refuse,
            Quic::Leave => link::Quic::Leave,
        },
        fail: match scope.fail {
            Fail::Open => link::Fail::Open,
            Fail::Closed => link::Fail::Closed,
        },
    }
}
