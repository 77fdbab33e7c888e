//! Scopes of the configuration, kept in the kernel half: cgroups come and go, and so do sensors.
//!
//! Matching is done here and not by the sensor, which reads no configuration. A cgroup that appears is in its scope within
//! [`LOOK`]; what it connects before that goes direct, and is observed as everything is. A sensor that is joined gets all scopes at once.

use crate::apart::apart;
use gnomon_config::scopes::{Fail, Mode, Quic, Scope};
use gnomon_host::cgroup::{CgroupError, CgroupId, Hierarchy, MAX_MATCHES, SYSTEM};
use gnomon_link::{self as link, List, ScopeChange, ScopeSettings};
use gnomon_watch::{Watch, WatchError};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// How often cgroups are looked for.
pub const LOOK: Duration = Duration::from_millis(250);
/// Most cgroups in scopes: the kernel half takes 4096, and `gnomon exec` needs some. Where more match, users who have few have all of them.
const MOST: usize = 2048;
/// Most users that the log names.
const NAMED: usize = 8;

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
        tokio::select! {
            _ = every.tick() => {}
            () = watch.joined_after(sensor) => {}
        }
        if watch.joined() != sensor {
            // A new sensor knows no scopes yet.
            (sensor, held) = (watch.joined(), BTreeMap::new());
        }
        if sensor == 0 {
            continue;
        }
        let asked = scopes.clone();
        let wanted = match apart(move || wanted(&asked)).await {
            Ok(Ok(wanted)) => wanted,
            Ok(Err(error)) => {
                tell(&mut said, format!("scopes cannot be kept: {error}"));
                continue;
            }
            Err(error) => {
                tell(&mut said, format!("scopes cannot be looked for: {error}"));
                continue;
            }
        };
        watch.scopes_leave_out(wanted.left_out);
        match change(&watch, &scopes, &mut held, &wanted.scopes).await {
            Ok(()) if !wanted.beyond.is_empty() => tell(&mut said, beyond(&wanted.beyond)),
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
        gnomon_log::say(format_args!("{what}"));
        *said = Some(what);
    }
}

/// The cgroups that are in scopes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// The scope of each, by number.
    scopes: BTreeMap<u64, u32>,
    /// The number of cgroups that match a scope and are left out.
    left_out: usize,
    /// The users whose those are.
    beyond: BTreeSet<u32>,
}

/// The scope of each cgroup: the first of those that match it.
fn wanted(scopes: &[Scope]) -> Result<Wanted, CgroupError> {
    let hierarchy = Hierarchy::find()?;
    let (mut of_users, mut beyond, mut left_out) = (BTreeMap::<u32, BTreeMap<CgroupId, u32>>::new(), BTreeSet::new(), 0);
    for (number, scope) in numbered(scopes) {
        let Some(pattern) = scope.r#match.pattern() else { continue };
        let matching = hierarchy.matching(&pattern)?;
        left_out += matching.left_out;
        beyond.extend(matching.beyond);
        for (user, cgroups) in matching.of_users {
            let of_user = of_users.entry(user).or_default();
            cgroups.into_iter().for_each(|cgroup| _ = of_user.entry(cgroup).or_insert(number));
        }
    }
    let mut wanted = shared(of_users, MOST);
    wanted.left_out += left_out;
    wanted.beyond.append(&mut beyond);
    Ok(wanted)
}

/// `most` of them in all: those with the fewest have all of theirs, the others as many as one another, their oldest.
fn shared(of_users: BTreeMap<u32, BTreeMap<CgroupId, u32>>, most: usize) -> Wanted {
    let mut wanted = Wanted::default();
    let mut users: Vec<_> = of_users.into_iter().collect();
    users.sort_by_key(|(_, of_user)| of_user.len());
    let (mut room, mut waiting) = (most, users.len());
    for (user, of_user) in users {
        let theirs = of_user.len().min(room / waiting.max(1));
        (room, waiting) = (room - theirs, waiting - 1);
        if theirs < of_user.len() {
            wanted.left_out += of_user.len() - theirs;
            wanted.beyond.insert(user);
        }
        wanted.scopes.extend(of_user.into_iter().take(theirs).map(|(cgroup, number)| (cgroup.0, number)));
    }
    wanted
}

/// What the log says of those that are in no scope.
fn beyond(users: &BTreeSet<u32>) -> String {
    let name = |user: &u32| if *user == SYSTEM { "the system".to_owned() } else { format!("user {user}") };
    let mut named = users.iter().take(NAMED).map(name).collect::<Vec<_>>().join(", ");
    if users.len() > NAMED {
        named += " and others";
    }
    format!(
        "more cgroups of {named} match scopes than are kept ({MAX_MATCHES} of a scope for each user, {MOST} in all): the youngest are in none of them"
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_few_cgroups_has_all_of_them_in_scopes_however_many_others_make() {
        let of_user = |first: u64, count: u64| (first..first + count).map(|id| (CgroupId(id), 1)).collect::<BTreeMap<_, _>>();
        let of_users =
            BTreeMap::from([(SYSTEM, of_user(0, 3)), (1000, of_user(100, 50)), (1001, of_user(200, 50)), (1002, of_user(300, 1))]);
        let wanted = shared(of_users, 20);
        let of = |first: u64| wanted.scopes.range(first..first + 100).map(|(id, _)| id - first).collect::<Vec<_>>();
        assert_eq!((of(0), of(300)), (vec![0, 1, 2], vec![0]));
        assert_eq!((of(100), of(200)), ((0..8).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>()), "the oldest");
        assert_eq!((wanted.left_out, &wanted.beyond), (84, &BTreeSet::from([1000, 1001])));
        assert!(beyond(&wanted.beyond).starts_with("more cgroups of user 1000, user 1001 match scopes than are kept"));
        assert_eq!(shared(BTreeMap::new(), 20), Wanted::default());
    }
}
