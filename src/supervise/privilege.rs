//! Becoming a user without rights, for good.

use super::user::User;
use anyhow::{Context, Result, ensure};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// What becoming another user and handing over a folder take.
const NEEDED: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::SETPCAP).union(CapabilitySet::CHOWN);

/// Whether this process is root and may become somebody else: in some containers root may not.
pub fn can_drop() -> bool {
    rustix::process::geteuid().is_root() && capabilities(None).is_ok_and(|sets| sets.effective.contains(NEEDED)) && users_are_mapped()
}

/// In a user namespace of one user there is nobody else to become.
fn users_are_mapped() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let reach = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        let (first, count) = (numbers.next().unwrap_or(0), numbers.nth(1).unwrap_or(0));
        first <= 65534 && first + count > 65534
    };
    map.lines().any(reach)
}

/// Becomes the user: no capability is left in any set, and none can be had again. For the process's only thread.
///
/// # Errors
/// The system refused, or something is left.
pub fn become_user(user: &User) -> Result<()> {
    for number in 0..u64::BITS {
        // Numbers that this kernel does not know are refused.
        if remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)).is_err() {
            break;
        }
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setgroups(&[gid]).context("leaving root's groups")?;
    setresgid(gid, gid, gid).context("changing the group")?;
    setresuid(uid, uid, uid).with_context(|| format!("becoming {user}"))?;
    let none = CapabilitySets { effective: CapabilitySet::empty(), permitted: CapabilitySet::empty(), inheritable: CapabilitySet::empty() };
    set_capabilities(None, none).context("giving up capabilities")?;
    // Kernels without ambient capabilities have none to clear.
    let _ = clear_ambient_capability_set();
    set_no_new_privs(true).context("giving up new privileges")?;
    ensure!(capabilities(None)? == none && rustix::process::geteuid().as_raw() == user.uid, "something of root is left");
    Ok(())
}
