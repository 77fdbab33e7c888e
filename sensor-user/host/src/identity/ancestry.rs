//! The processes above a process.

use super::stat::Stat;
use super::{Ancestor, Held, executable};

/// Most ancestors that are read.
pub const MAX_ANCESTORS: usize = 8;

/// Parent first. It ends at the root of the pid namespace, at the bound, or where a parent ended
/// while it was looked for.
pub(super) fn read(held: &Held, stat: Stat) -> Vec<Ancestor> {
    let ancestor = |above: Above| Ancestor { pid: above.pid, executable: executable::path(&above.held), started_at: above.stat.started_at };
    above(held, stat).into_iter().map(ancestor).collect()
}

/// A process above another, held for reading about.
pub(super) struct Above {
    pub(super) pid: u32,
    pub(super) held: Held,
    pub(super) stat: Stat,
}

/// The processes themselves, as [`read`].
pub(super) fn above(held: &Held, stat: Stat) -> Vec<Above> {
    let mut found: Vec<Above> = Vec::new();
    let (mut child, mut parent) = (held.clone(), stat.parent);
    while parent != 0 && found.len() < MAX_ANCESTORS {
        let Ok(above) = Held::open(parent) else { break };
        let Ok(stat) = Stat::read(&above) else { break };
        // The child still says so after the parent was held and read: it was the parent all along,
        // and not a stranger with its number.
        if Stat::read(&child).map(|stat| stat.parent).ok() != Some(parent) {
            break;
        }
        child = above.clone();
        found.push(Above { pid: parent, held: above, stat });
        parent = stat.parent;
    }
    found
}
