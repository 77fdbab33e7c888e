//! Becoming a user without rights, for good.

use super::user::{User, can_be_another};
use anyhow::{Context, Result};
use gnomon_confine::{Account, give_up, take_up, unbind};
use rustix::thread::{CapabilitySet, capabilities};

/// The capabilities for becoming another user and handing over a folder.
const NEEDED: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::SETPCAP).union(CapabilitySet::CHOWN);

/// True if this process is root and may switch to another user: in some containers root may not.
pub fn can_drop() -> bool {
    rustix::process::geteuid().is_root() && capabilities(None).is_ok_and(|sets| sets.effective.contains(NEEDED)) && can_be_another()
}

/// Becomes the user: no capability is left in any set, and none can be had again. For the process's only thread.
///
/// # Errors
/// The system refused, or something is left.
pub fn become_user(user: &User) -> Result<()> {
    unbind();
    take_up(Account { uid: user.uid, gid: user.gid }).with_context(|| format!("becoming {user}"))?;
    give_up().context("giving up rights")
}
