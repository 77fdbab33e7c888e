//! Names of users and groups, as the host's name service gives them.
//!
//! getpwuid_r(3) and not `/etc/passwd`, as fleets keep their people in directories (SSSD, LDAP). The
//! name service may wait for a network, so it is asked on a watched thread, and what it said, also
//! that it said nothing, counts for a minute.

use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, Uid, User};
use quick_cache::sync::Cache;

use super::Credentials;
use super::read_threads::ReadThreads;
use super::status::Ids;

/// Most groups that are named: the others stay numbers.
pub const MAX_GROUP_NAMES: usize = 32;
/// Users and groups that are remembered.
const REMEMBERED: usize = 1024;
const FRESH: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Account {
    User(u32),
    Group(u32),
}

type Known = (Instant, Option<String>);

/// Names by number.
#[derive(Debug)]
pub(super) struct Accounts {
    cache: Cache<Account, Known>,
    within: Duration,
}

impl Accounts {
    pub(super) fn new(within: Duration) -> Self {
        Self { cache: Cache::new(REMEMBERED), within }
    }

    /// Names what can be named in time.
    pub(super) fn name(&self, ids: Ids, watch: &ReadThreads) -> Credentials {
        let mut groups = vec![Account::Group(ids.gid)];
        for group in &ids.groups {
            if *group != ids.gid && groups.len() < MAX_GROUP_NAMES {
                groups.push(Account::Group(*group));
            }
        }
        let user = Account::User(ids.uid);
        let unknown: Vec<Account> = groups.iter().copied().chain([user]).filter(|account| self.fresh(*account).is_none()).collect();
        if !unknown.is_empty() {
            let asked = unknown.clone();
            let names = watch.run(self.within, move || asked.into_iter().map(ask).collect::<Vec<_>>());
            let names = names.unwrap_or_else(|_| vec![None; unknown.len()]);
            for (account, name) in unknown.into_iter().zip(names) {
                self.cache.insert(account, (Instant::now(), name));
            }
        }
        Credentials {
            uid: ids.uid,
            effective_uid: ids.effective_uid,
            user: self.fresh(user).flatten(),
            gid: ids.gid,
            group_names: groups.into_iter().filter_map(|group| self.fresh(group).flatten()).collect(),
            groups: ids.groups,
        }
    }

    fn fresh(&self, account: Account) -> Option<Option<String>> {
        self.cache.get(&account).filter(|(asked, _)| asked.elapsed() < FRESH).map(|(_, name)| name)
    }
}

fn ask(account: Account) -> Option<String> {
    match account {
        Account::User(id) => User::from_uid(Uid::from_raw(id)).ok().flatten().map(|user| user.name),
        Account::Group(id) => Group::from_gid(Gid::from_raw(id)).ok().flatten().map(|group| group.name),
    }
}
