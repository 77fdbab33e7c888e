//! The privileges that the zygote gives up, in this order. Each step says why it stands where it does; those that a host does not allow are
//! left out and reported.

use std::fs;
use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use crate::layers::{LayerState, Layers};
use crate::sys::Alone;

/// The user and group `nobody`.
const NOBODY: u32 = 65534;

/// The newest version of Landlock that we ask for: files, TCP, and signals and abstract sockets to the outside.
const LANDLOCK: ABI = ABI::V6;

/// How far the worker's time on a processor comes after the proxy's, when both want it.
const NICE: i32 = 5;

/// Gives up all but system calls and resources, which only the workers do; these layers are the caller's to prove.
///
/// # Errors
/// The process cannot be kept from regaining privileges. Nothing else is an error.
pub fn confine(alone: Alone) -> io::Result<Layers> {
    // While /proc can still be written: the kernel takes a worker before anything else when memory is short.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");

    // Root needs no user namespace for the others, and must not stay root; others get the others only inside of one.
    let root = rustix::process::geteuid().is_root();
    let mut user = LayerState::Absent;
    let mut network = LayerState::Absent;
    let mut mount = LayerState::Absent;
    let mut process = LayerState::Absent;
    let mut ipc = LayerState::Absent;
    if !root && own_user(alone).is_ok() {
        user = LayerState::Enforced;
    }
    for (layer, flags) in [
        (&mut network, UnshareFlags::NEWNET),
        (&mut mount, UnshareFlags::NEWNS),
        (&mut process, UnshareFlags::NEWPID),
        (&mut ipc, UnshareFlags::NEWIPC | UnshareFlags::NEWUTS),
    ] {
        if alone.unshare(flags).is_ok() {
            *layer = LayerState::Enforced;
        }
    }
    if root && become_nobody().is_ok() {
        user = LayerState::Enforced;
        // A user namespace on top, so that no capability could reach anything of the host. Its absence changes nothing.
        let _ = own_user(alone);
    }

    // After the namespaces, which need them.
    let capabilities = drop_capabilities();
    // No other process of the same user reads this process's memory or descriptors. After the user namespace, whose files under /proc
    // would be root's otherwise.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Seccomp and Landlock ask for it without privileges, and it is what makes them stay.
    rustix::thread::set_no_new_privs(true)?;
    // Last, as /proc is out of reach from here.
    let landlock = landlock();
    Ok(Layers { seccomp: LayerState::Absent, landlock, capabilities, user, network, mount, process, ipc, limits: LayerState::Absent })
}

/// A user namespace in which the process is `nobody`.
fn own_user(alone: Alone) -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // A change of user made /proc/self root's, and it has to be written.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    alone.unshare(UnshareFlags::NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{NOBODY} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{NOBODY} {group} 1"))
}

/// Switches from root to `nobody`, without a way back.
fn become_nobody() -> io::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    Ok(rustix::thread::set_thread_res_uid(user, user, user)?)
}

fn drop_capabilities() -> LayerState {
    // Only who has CAP_SETPCAP can; without it there is nothing that could be gained, as nothing is executed.
    for bit in 0..u64::BITS {
        let _ = rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit));
    }
    let none = CapabilitySets { effective: CapabilitySet::empty(), permitted: CapabilitySet::empty(), inheritable: CapabilitySet::empty() };
    // A service's own filter may refuse the call to who has none to drop; what counts is what is left.
    let _ = rustix::thread::set_capabilities(None, none);
    if rustix::thread::capabilities(None).is_ok_and(|left| left == none) { LayerState::Enforced } else { LayerState::Absent }
}

fn landlock() -> LayerState {
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    match restricted.map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => LayerState::Enforced,
        Ok(RulesetStatus::PartiallyEnforced) => LayerState::Partial,
        Ok(RulesetStatus::NotEnforced) | Err(_) => LayerState::Absent,
    }
}

/// Address space and data of this process, in bytes: what a worker has before it begins.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    space: u64,
    data: u64,
}

impl Footprint {
    /// Looks while `/proc` can be read.
    ///
    /// # Errors
    /// If /proc cannot be read, or has an unknown format.
    pub fn measure() -> io::Result<Self> {
        // size, resident, shared, text, lib, data, dt; all in pages (proc_pid_statm(5)).
        let text = fs::read_to_string("/proc/self/statm")?;
        let page = u64::try_from(rustix::param::page_size()).map_err(io::Error::other)?;
        let mut numbers = text.split_ascii_whitespace().map(|number| number.parse::<u64>().map(|pages| pages.saturating_mul(page)));
        match (numbers.next(), numbers.nth(4)) {
            (Some(Ok(space)), Some(Ok(data))) => Ok(Self { space, data }),
            _ => Err(io::Error::other("/proc/self/statm is not as documented")),
        }
    }
}

/// Room in a worker beside the engine's heap: frames of the longest kind, the trees of the normaliser, the allocator's own.
const BESIDE: u64 = 128 << 20;

/// The most stack of a worker: the normaliser recurses once for each level that code nests.
const STACK: u64 = 64 << 20;

/// Puts a worker behind the proxy, and behind the zygote that looks after it.
pub fn give_way() {
    let _ = rustix::process::nice(NICE);
}

/// A worker's resource limits: what holds even if the engine is broken into.
///
/// # Errors
/// `setrlimit(2)`: some may be set and some not.
pub fn limit(footprint: Footprint, heap: u64, cpu_seconds: u64) -> io::Result<()> {
    let room = heap.saturating_add(BESIDE);
    for (resource, limit) in [
        (Resource::As, footprint.space.saturating_add(room).saturating_add(STACK)),
        (Resource::Data, footprint.data.saturating_add(room)),
        (Resource::Stack, STACK),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        // Standard streams and the socket.
        (Resource::Nofile, 4),
        (Resource::Nproc, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ] {
        // A host's own limit may be lower, and cannot be raised.
        let hard = rustix::process::getrlimit(resource).maximum.map_or(limit, |hard| hard.min(limit));
        rustix::process::setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })?;
    }
    // Soft is SIGXCPU, a second later SIGKILL.
    let cpu = Rlimit { current: Some(cpu_seconds), maximum: Some(cpu_seconds.saturating_add(1)) };
    Ok(rustix::process::setrlimit(Resource::Cpu, cpu)?)
}
