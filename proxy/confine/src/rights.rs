//! Switching to a user without privileges, for good.

use crate::plan::Account;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// An error of giving up rights.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// The system refused to change the user.
    #[error("{what}: {cause}")]
    User {
        /// The action that failed.
        what: &'static str,
        /// The system's answer.
        cause: nix::Error,
    },
    /// The system refused to take capabilities.
    #[error("{what}: {cause}")]
    Capabilities {
        /// The action that failed.
        what: &'static str,
        /// The system's answer.
        cause: rustix::io::Errno,
    },
    /// Something is left that should not be.
    #[error("some of root's rights are left")]
    Left,
}

/// Becomes the user, with its group and no other. For the process's only thread, and for good.
///
/// # Errors
/// The system refused, or the user is not the one asked for afterwards.
pub fn take_up(account: Account) -> Result<(), RightsError> {
    let failed = |what| move |cause| RightsError::User { what, cause };
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    setgroups(&[gid]).map_err(failed("leaving root's groups"))?;
    setresgid(gid, gid, gid).map_err(failed("changing the group"))?;
    setresuid(uid, uid, uid).map_err(failed("changing the user"))?;
    if rustix::process::geteuid().as_raw() == account.uid { Ok(()) } else { Err(RightsError::Left) }
}

/// Takes capabilities out of the bounding set, so that no program brings them back. Needs a right itself: without it
/// there is nothing to take.
pub fn unbind() {
    for number in 0..u64::BITS {
        // Numbers that this kernel does not know are refused.
        if remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)).is_err() {
            break;
        }
    }
}

/// Gives up every capability and the way to new ones. For the process's only thread, irrevocably.
///
/// # Errors
/// The system refused, or something is left.
pub fn give_up() -> Result<(), RightsError> {
    let failed = |what| move |cause| RightsError::Capabilities { what, cause };
    let none = CapabilitySets { effective: CapabilitySet::empty(), permitted: CapabilitySet::empty(), inheritable: CapabilitySet::empty() };
    // A service without any may be refused the very call (systemd's `@privileged`).
    if capabilities(None).map_err(failed("looking at capabilities"))? != none {
        set_capabilities(None, none).map_err(failed("giving up capabilities"))?;
    }
    // Kernels without ambient capabilities have none to clear.
    let _ = clear_ambient_capability_set();
    set_no_new_privs(true).map_err(failed("giving up new privileges"))?;
    if capabilities(None).map_err(failed("looking at capabilities"))? == none { Ok(()) } else { Err(RightsError::Left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
    use std::{collections::BTreeMap, thread};

    /// Every server was refused under the packaged service, whose filter has no `capset`.
    #[test]
    fn who_has_no_rights_needs_no_right_to_give_them_up() {
        // All of it is a thread's own.
        let alone = thread::spawn(|| {
            give_up().unwrap();
            let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
            let rules = BTreeMap::from([(libc::SYS_capset, Vec::new())]);
            let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, std::env::consts::ARCH.try_into().unwrap()).unwrap();
            apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
            give_up().unwrap();
        });
        alone.join().unwrap();
    }
}
