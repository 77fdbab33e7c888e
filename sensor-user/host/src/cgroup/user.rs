//! Whose a cgroup is, so that what one user makes takes no room of others.
//!
//! The outermost cgroup on the way down that is not root's, or that logind makes for a user (`user-1000.slice`), says so for all below it:
//! whoever was given a part of the hierarchy may give what is in it to as many users as a user namespace has.

use std::collections::{BTreeSet, HashMap};

use super::{Cgroup, below::MAX_CGROUPS};

/// The user id to which cgroups count that root made for nobody in particular.
pub const SYSTEM: u32 = 0;
/// Most cgroups that one search looks at for one user.
pub const MAX_OF_USER: usize = MAX_CGROUPS / 4;

/// The user whose a cgroup of this name and owner is; `above` is the user of the one above it.
fn user(above: u32, name: &str, owner: u32) -> u32 {
    match (above, owner) {
        (SYSTEM, SYSTEM) => slice(name).unwrap_or(SYSTEM),
        (SYSTEM, owner) => owner,
        (above, _) => above,
    }
}

/// The user of a slice that logind makes (systemd.special(7)).
fn slice(name: &str) -> Option<u32> {
    name.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok()
}

/// The user to whom a new cgroup of this name counts that is not opened: whoever may make one here.
pub(super) fn of_entry(above: u32, name: &str) -> u32 {
    user(above, name, SYSTEM)
}

/// The user to whom what is in this cgroup counts.
pub(super) fn of(above: u32, cgroup: &Cgroup) -> u32 {
    user(above, cgroup.path.rsplit('/').next().unwrap_or_default(), cgroup.owner)
}

/// The cgroups that a search may still visit.
#[derive(Debug)]
pub(super) struct Budget {
    each: usize,
    spent: HashMap<u32, usize>,
    over: BTreeSet<u32>,
}

impl Budget {
    /// Of each user [`MAX_OF_USER`] cgroups, of the system [`MAX_CGROUPS`].
    pub(super) fn shared() -> Self {
        Self { each: MAX_OF_USER, spent: HashMap::new(), over: BTreeSet::new() }
    }

    /// The same number whosever they are: for a search in what is one user's.
    pub(super) fn of_one() -> Self {
        Self { each: MAX_CGROUPS, ..Self::shared() }
    }

    /// Takes one for a cgroup of this user: false if there is none left.
    pub(super) fn take(&mut self, user: u32) -> bool {
        let spent = self.spent.entry(user).or_default();
        *spent += 1;
        let has = *spent <= if user == SYSTEM { MAX_CGROUPS } else { self.each };
        if !has {
            self.over.insert(user);
        }
        has
    }

    /// The users who have more than that.
    pub(super) fn over(self) -> BTreeSet<u32> {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_owner_on_the_way_has_all_that_is_below() {
        assert_eq!((user(SYSTEM, "docker-1.scope", 0), user(SYSTEM, "user-1000.slice", 0)), (SYSTEM, 1000));
        assert_eq!((user(SYSTEM, "app", 1001), user(1000, "app", 0), user(1000, "app", 100_001)), (1001, 1000, 1000));
        assert_eq!((user(SYSTEM, "user-.slice", 0), user(SYSTEM, "user-1000.slice.d", 0)), (SYSTEM, SYSTEM));
    }

    #[test]
    fn one_user_s_cgroups_leave_the_search_to_others() {
        let mut budget = Budget::shared();
        let taken = (0..MAX_CGROUPS).filter(|_| budget.take(1000)).count();
        assert_eq!(taken, MAX_OF_USER);
        assert!(budget.take(1001) && budget.take(SYSTEM));
        assert_eq!(budget.over(), [1000].into());
    }
}
