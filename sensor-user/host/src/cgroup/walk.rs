//! Walking the tree of cgroups, bounded in depth and number.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use rustix::process::geteuid;

use super::below::{MAX_DEPTH, children};
use super::user::{self, Budget, SYSTEM};
use super::{Cgroup, CgroupError, CgroupId, Hierarchy, Removal, Scope};

/// Most scopes of one user that are found to be left behind: as many as one sensor keeps.
pub const MAX_LEFT: usize = 1024;
/// Most cgroups that a user calls like scopes which are named. They are no scopes of ours, and hold no descriptor.
pub const MAX_FOREIGN: usize = 32;

impl Hierarchy {
    /// The cgroup that the kernel knows by this number, found by looking for it: `None` if there is
    /// none, or not within [`MAX_OF_USER`](super::MAX_OF_USER) and [`MAX_DEPTH`].
    ///
    /// # Errors
    /// The hierarchy cannot be read.
    pub fn find_id(&self, id: CgroupId) -> Result<Option<Cgroup>, CgroupError> {
        let top = self.top()?;
        if top.id == id {
            return Ok(Some(top));
        }
        let mut found = None;
        let _ = visit(&top, (MAX_DEPTH, SYSTEM), &mut Budget::shared(), &mut |parent, entry| {
            if entry.id != id {
                return ControlFlow::Continue(());
            }
            found = Cgroup::open(parent.directory(), &entry.name, entry.path).ok().filter(|cgroup| cgroup.id == id);
            ControlFlow::Break(())
        });
        Ok(found)
    }

    /// Looks for scopes of makers that are no more, as a `kill -9` leaves them: removes those in which nothing runs, and hands out
    /// the others, outermost first, as far as they lie in or below the cgroup with this path.
    ///
    /// The maker of a scope is named by its [note](Scope::note), else by its name. Makers in other pid namespaces count as dead, which is
    /// harmless for an empty scope unless its maker is about to move a process in. What one user makes keeps no scope of another from being
    /// found.
    ///
    /// # Errors
    /// The hierarchy cannot be read.
    pub fn left_behind(&self, below: &str) -> Result<LeftBehind, CgroupError> {
        let top = self.top()?;
        let mut found = LeftBehind::default();
        let (mut budget, mut of_users) = (Budget::shared(), HashMap::new());
        let _ = visit(&top, (MAX_DEPTH, SYSTEM), &mut budget, &mut |parent, entry| {
            if let Some(scope) = Scope::found(parent, &entry.name, entry.path)
                && !scope.maker_lives()
            {
                match scope.cgroup().is_populated() {
                    Ok(true) if is_inside(scope.cgroup().path(), below) => found.add(scope, entry.user, &mut of_users),
                    Ok(true) | Err(_) => {}
                    Ok(false) if scope.remove().is_ok_and(|removal| removal == Removal::Removed) => found.removed += 1,
                    Ok(false) => {}
                }
            }
            ControlFlow::Continue(())
        });
        for user in budget.over() {
            found.beyond.entry(user).or_insert_with(|| top.path.clone());
        }
        Ok(found)
    }
}

/// The scopes that makers which are gone have left.
#[derive(Debug, Default)]
pub struct LeftBehind {
    /// The number of empty scopes that were removed.
    pub removed: usize,
    /// Scopes in which something still runs, made by root or by this process's user: at most [`MAX_LEFT`] of each user.
    pub populated: Vec<Scope>,
    /// The paths of those that others made, or called so, with their owners: at most [`MAX_FOREIGN`] of each user.
    pub foreign: Vec<(String, u32)>,
    /// Users who have more of either, or more cgroups than are searched, with the path of the first that was left out, or the root's.
    pub beyond: BTreeMap<u32, String>,
}

impl LeftBehind {
    /// `of_users` has the number of those of each user that were found before, own ones and foreign ones.
    fn add(&mut self, scope: Scope, user: u32, of_users: &mut HashMap<(u32, bool), usize>) {
        let (path, owner) = (scope.cgroup().path().to_owned(), scope.cgroup().owner);
        let is_foreign = owner != SYSTEM && owner != geteuid().as_raw();
        let of_user = of_users.entry((user, is_foreign)).or_default();
        *of_user += 1;
        if *of_user > if is_foreign { MAX_FOREIGN } else { MAX_LEFT } {
            self.beyond.entry(user).or_insert(path);
        } else if is_foreign {
            self.foreign.push((path, owner));
        } else {
            self.populated.push(scope);
        }
    }
}

struct Entry {
    name: String,
    path: String,
    id: CgroupId,
    user: u32,
}

type Visitor<'a> = dyn FnMut(&Cgroup, Entry) -> ControlFlow<()> + 'a;

/// Parents before their children. What vanishes meanwhile, or may not be read, is passed over. `user` is whose `parent` is.
fn visit(parent: &Cgroup, (depth, user): (usize, u32), budget: &mut Budget, visitor: &mut Visitor<'_>) -> ControlFlow<()> {
    for (name, id) in children(parent.directory()) {
        let of_entry = user::of_entry(user, &name);
        if !budget.take(of_entry) {
            continue;
        }
        let path = format!("{}/{name}", parent.path.trim_end_matches('/'));
        visitor(parent, Entry { name: name.clone(), path: path.clone(), id, user: of_entry })?;
        if depth > 0
            && let Ok(child) = Cgroup::open(parent.directory(), &name, path)
        {
            visit(&child, (depth - 1, user::of(user, &child)), budget, visitor)?;
        }
    }
    ControlFlow::Continue(())
}

/// True if a cgroup's path is another's, or below it.
#[must_use]
pub fn is_inside(path: &str, below: &str) -> bool {
    path.strip_prefix(below.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Visits this cgroup and those below it, parents first, until the visitor stops it.
pub(super) fn below(top: &Cgroup, visitor: &mut dyn FnMut(&Cgroup) -> bool) {
    if visitor(top) {
        let _ = visit(top, (MAX_DEPTH, top.owner), &mut Budget::of_one(), &mut |parent, entry| {
            let enough = Cgroup::open(parent.directory(), &entry.name, entry.path).is_ok_and(|cgroup| !visitor(&cgroup));
            if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
}
