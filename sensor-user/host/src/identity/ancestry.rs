//! The processes above a process.

use super::stat::Stat;
use super::{Ancestor, Held, executable};

/// Most ancestors that are read.
pub const MAX_ANCESTORS: usize = 8;

/// Parent first. It ends at the root of the pid namespace, at the bound, or where a parent ended
/// while it was looked for.
pub(super) fn read(held: &Held, stat: Stat) -> Vec<Ancestor> {
    let mut found = Vec::new();
    let (mut child, mut parent) = (held.clone(), stat.parent);
    while parent != 0 && found.len() < MAX_ANCESTORS {
        let Ok(above) = Held::open(parent) else { break };
        let Ok(stat) = Stat::read(&above) else { break };
        let executable = executable::path(&above);
        // The child still says so after the parent was held and read: it was the parent all along,
        // and not a stranger with its number.
        if Stat::read(&child).map(|stat| stat.parent).ok() != Some(parent) {
            break;
        }
        found.push(Ancestor { pid: parent, executable, started_at: stat.started_at });
        (child, parent) = (above, stat.parent);
    }
    found
}
