//! Drops capabilities that are no longer needed (capabilities(7)).

use gnomon_host::doctor::{Capability, Need, missing_capabilities};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

use crate::{ServiceError, os};

/// The capabilities needed once everything is attached: to change and read maps (`BPF`; `PERFMON` too, as some kernels ask for it
/// where programs read them), to mark listeners (`NET_ADMIN`), to read what belongs to others below `/proc`
/// (`DAC_READ_SEARCH`, `SYS_PTRACE`), to enter network namespaces (`SYS_ADMIN`), and to open sockets as the user on whose
/// behalf the proxy connects (`SETUID`, `SETGID`). Found by trying one after the other.
pub const CAPABILITIES: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// The capability that `gnomon exec` needs in addition: a cgroup that was delegated to a user is that user's folder, and a scope is made
/// in it.
pub const NEEDED_FOR_EXEC: CapabilitySet = CapabilitySet::DAC_OVERRIDE;

/// Capabilities that this thread lacks and can do without. Each is reported in the log, and in the sensor's features.
///
/// # Errors
/// [`ServiceError::Capabilities`]: something is missing that it cannot do without.
pub(crate) fn lacking() -> Result<Vec<&'static Capability>, ServiceError> {
    // If /proc does not say, the kernel will.
    let (required, optional): (Vec<_>, Vec<_>) =
        missing_capabilities().unwrap_or_default().into_iter().partition(|capability| capability.need == Need::Required);
    if !required.is_empty() {
        let missing = required.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(ServiceError::Capabilities { missing });
    }
    for capability in &optional {
        tracing::warn!("the sensor goes without {capability}");
    }
    Ok(optional)
}

/// Keeps these of the capabilities that this thread has, for itself and the threads and programs that it starts. No
/// program that it executes can gain any.
pub(crate) fn keep_only(needed: CapabilitySet) -> Result<(), ServiceError> {
    let had = capabilities(None).map_err(os("ask for capabilities"))?;
    set_no_new_privs(true).map_err(os("give up new privileges"))?;
    if had.effective.contains(CapabilitySet::SETPCAP) {
        for number in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << number);
            // Capabilities that this kernel does not know cannot be dropped.
            if !needed.contains(one) && remove_capability_from_bounding_set(one).is_err() {
                break;
            }
        }
    }
    // Kernels without ambient capabilities have none to clear.
    let _ = clear_ambient_capability_set();
    let kept = had.permitted.intersection(needed);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(os("give up capabilities"))
}
