//! Walking the tree of cgroups, bounded in depth and number.

use std::ops::ControlFlow;

use super::below::{MAX_CGROUPS, MAX_DEPTH, children};
use super::{Cgroup, CgroupError, CgroupId, Hierarchy, Removal, Scope};

/// Most scopes that are found to be left behind: as many as one sensor keeps.
pub const MAX_LEFT: usize = 1024;

impl Hierarchy {
    /// The cgroup that the kernel knows by this number, found by looking for it: `None` if there is
    /// none, or not within [`MAX_CGROUPS`] and [`MAX_DEPTH`].
    ///
    /// # Errors
    /// The hierarchy cannot be read.
    pub fn find_id(&self, id: CgroupId) -> Result<Option<Cgroup>, CgroupError> {
        let top = self.top()?;
        if top.id == id {
            return Ok(Some(top));
        }
        let mut found = None;
        let mut left = MAX_CGROUPS;
        let _ = visit(&top, MAX_DEPTH, &mut left, &mut |parent, entry| {
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
    /// harmless for an empty scope unless its maker is about to move a process in.
    ///
    /// # Errors
    /// The hierarchy cannot be read.
    pub fn left_behind(&self, below: &str) -> Result<LeftBehind, CgroupError> {
        let top = self.top()?;
        let mut found = LeftBehind::default();
        let mut left = MAX_CGROUPS;
        let _ = visit(&top, MAX_DEPTH, &mut left, &mut |parent, entry| {
            if let Some(scope) = Scope::found(parent, &entry.name, entry.path)
                && !scope.maker_lives()
            {
                match scope.cgroup().is_populated() {
                    Ok(true) if is_inside(scope.cgroup().path(), below) => found.populated.push(scope),
                    Ok(true) | Err(_) => {}
                    Ok(false) if scope.remove().is_ok_and(|removal| removal == Removal::Removed) => found.removed += 1,
                    Ok(false) => {}
                }
            }
            if found.populated.len() < MAX_LEFT { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        Ok(found)
    }
}

/// The scopes that makers which are gone have left.
#[derive(Debug, Default)]
pub struct LeftBehind {
    /// The number of empty scopes that were removed.
    pub removed: usize,
    /// Scopes in which something still runs, at most [`MAX_LEFT`].
    pub populated: Vec<Scope>,
}

struct Entry {
    name: String,
    path: String,
    id: CgroupId,
}

type Visitor<'a> = dyn FnMut(&Cgroup, Entry) -> ControlFlow<()> + 'a;

/// Parents before their children. What vanishes meanwhile, or may not be read, is passed over.
fn visit(parent: &Cgroup, depth: usize, left: &mut usize, visitor: &mut Visitor<'_>) -> ControlFlow<()> {
    for (name, id) in children(parent.directory()) {
        if *left == 0 {
            return ControlFlow::Break(());
        }
        *left -= 1;
        let path = format!("{}/{name}", parent.path.trim_end_matches('/'));
        visitor(parent, Entry { name: name.clone(), path: path.clone(), id })?;
        if depth > 0
            && let Ok(child) = Cgroup::open(parent.directory(), &name, path)
        {
            visit(&child, depth - 1, left, visitor)?;
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
    let mut left = MAX_CGROUPS;
    if visitor(top) {
        let _ = visit(top, MAX_DEPTH, &mut left, &mut |parent, entry| {
            let enough = Cgroup::open(parent.directory(), &entry.name, entry.path).is_ok_and(|cgroup| !visitor(&cgroup));
            if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
}
