//! Which scope applies to the task that runs.

use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id};
use gnomon_sensor_abi::{Config, Owner, Scope, mode, ports};

use crate::load;
use crate::maps::{SCOPES, lineage_known};

/// How deep the tree of cgroups is searched; below that only the task's own cgroup counts.
const DEPTH: i32 = 16;

/// The scope of the deepest cgroup above the task that has one, else the default.
#[inline(always)]
pub fn current(config: &Config) -> &Scope {
    let mut found = &config.default_scope;
    for level in 0..DEPTH {
        // SAFETY: a helper without pointers.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            return found;
        }
        if let Some(scope) = at(id) {
            found = scope;
        }
    }
    // SAFETY: a helper without pointers.
    at(unsafe { bpf_get_current_cgroup_id() }).unwrap_or(found)
}

/// The mode of the scope that applies to the task, for programs that are attached to no cgroup: off as well where the task is not below
/// the cgroup that is looked at. Where such programs cannot tell the cgroups above the task (before Linux 5.15), only its own is
/// compared, and the root that all are below.
#[inline(always)]
pub fn seen(config: &Config) -> u8 {
    let below = load!(config.seen);
    // SAFETY: a helper without pointers.
    let own = unsafe { bpf_get_current_cgroup_id() };
    let mut found = config.default_scope.mode;
    let mut inside = own == below || below == ROOT;
    if lineage_known() {
        for level in 0..DEPTH {
            // SAFETY: a helper without pointers.
            let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
            if id == 0 {
                break;
            }
            inside |= id == below;
            if let Some(scope) = at(id) {
                found = scope.mode;
            }
        }
    }
    if let Some(scope) = at(own) {
        found = scope.mode;
    }
    let inside = load!(inside);
    if inside { load!(found) } else { mode::OFF }
}

/// The id of the hierarchy's first cgroup, which is always the same.
const ROOT: u64 = 1;

#[inline(always)]
fn at(cgroup: u64) -> Option<&'static Scope> {
    // SAFETY: the value lives as long as the map, in memory that is only reused after a grace period.
    // It may be overwritten while it is read: then this one connection sees parts of both scopes.
    unsafe { SCOPES.get(&cgroup) }
}

/// The level of cgroups whose tasks have one share of the table of flows: a service, all sessions of a user, a container. An
/// ordinary user cannot leave theirs, and makes others only below it; other numbers (subuid) make no difference.
const HOLDER: i32 = 2;

/// Marks a share of a user, whose id stands in place of a cgroup's; ids of cgroups count up from 1.
const BY_USER: u64 = 1 << 63;

/// The cgroup that the task's flows count for besides, if any.
#[inline(always)]
pub fn own(holder: u64, owner: &Owner) -> u64 {
    let cgroup = load!(owner.cgroup);
    if holder == cgroup || holder & BY_USER != 0 { 0 } else { cgroup }
}

/// Whose flows the task's count among: above that level, where nobody sorts services and users into cgroups, the user's (as the
/// host numbers them).
#[inline(always)]
pub fn holder(owner: &Owner) -> u64 {
    // SAFETY: a helper without pointers.
    match unsafe { bpf_get_current_ancestor_cgroup_id(HOLDER) } {
        0 => BY_USER | u64::from(load!(owner.uid)),
        id => id,
    }
}

/// Whether the scope is about this port.
#[inline(always)]
pub fn covers(scope: &Scope, port: u16) -> bool {
    if scope.port_rule == ports::ALL {
        return true;
    }
    let mut hit = false;
    // A product is 0 if a factor is, and four factors of 16 bits do not overflow. Sixteen comparisons would be sixteen
    // branches, and 65,536 ways for the verifier.
    for four in scope.ports.chunks_exact(4) {
        let product = four.iter().fold(1_u64, |product, listed| product * u64::from(*listed ^ port));
        hit |= product == 0;
    }
    // Unused places are 0, and so is the port of a connect that the kernel will refuse.
    hit && port != 0
}
