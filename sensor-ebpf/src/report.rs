//! Counters, and records into the ring buffer.

use core::arch::asm;

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use gnomon_sensor_abi::{Config, Header, Outcome, Program};

use crate::maps::{EVENTS, TALLIES, WOKEN, Woken};

/// Counts. Atomic, as a soft interrupt may run the same program in the middle of it on the same CPU.
#[inline(always)]
pub fn count(program: Program, outcome: Outcome) {
    if let Some(tally) = TALLIES.get_ptr_mut(program as u32) {
        // SAFETY: the pointer is this CPU's value, which lives as long as the map, and the index is
        // within it. `lock +=` is the atomic addition that every kernel has; for this target the compiler
        // offers no `fetch_add`, which newer kernels alone could run.
        unsafe {
            let slot = (&raw mut (*tally).counts).cast::<u64>().add(outcome.index());
            asm!("lock *(u64 *)({slot} + 0) += {one}", slot = in(reg) slot, one = in(reg) 1_u64);
        }
    }
}

/// Whether the reader is woken for a record at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Once enough records have accumulated, or the reader's timer fires.
    Batched,
    /// Now, as the process with this number may end soon and then cannot be looked at; unless the reader has just been woken.
    Urgent(u32),
}

/// How often each CPU wakes the reader for something urgent, at most. A wakeup costs about ten times what the rest of
/// a record does; at rates where this bound matters, another one follows soon.
const URGENT_NS: u64 = 2_000_000;
/// The same for the process for which it was woken last, which it has looked up already.
const AGAIN_NS: u64 = 25_000_000;

/// The flags of a submission. Without `FORCE` the kernel wakes only a reader that has seen everything
/// before, which it has not when the records before were batched.
#[inline(always)]
pub fn wake(config: &Config, urgency: Urgency) -> u64 {
    let urgent = match urgency {
        Urgency::Batched => false,
        Urgency::Urgent(process) => due(process),
    };
    let now = urgent || EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= u64::from(config.wake_bytes);
    u64::from(if now { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}

/// Whether this CPU may wake the reader again, for this process.
#[inline(always)]
fn due(process: u32) -> bool {
    let Some(woken) = WOKEN.get_ptr_mut(0) else { return false };
    // SAFETY: a helper without pointers.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: this CPU's value. A soft interrupt in between costs one wakeup too many.
    unsafe {
        let pause = if (*woken).process == process { AGAIN_NS } else { URGENT_NS };
        if now.wrapping_sub((*woken).at_ns) < pause {
            return false;
        }
        *woken = Woken { at_ns: now, process, reserved: 0 };
    }
    true
}

/// Puts one record of fixed size into the ring, and counts what became of it.
#[inline(always)]
pub fn deliver<T: Copy + 'static>(program: Program, config: &Config, record: &T) {
    deliver_with(program, config, record, Urgency::Batched);
}

/// The same, and wakes the reader as urgently as that.
#[inline(always)]
pub fn deliver_with<T: Copy + 'static>(program: Program, config: &Config, record: &T, urgency: Urgency) {
    match EVENTS.reserve::<T>(0) {
        Some(mut entry) => {
            entry.write(*record);
            entry.submit(wake(config, urgency));
            count(program, Outcome::Delivered);
        }
        None => count(program, Outcome::RingFull),
    }
}

/// The header of a record of type `T`, with `extra` bytes after it.
#[inline(always)]
pub const fn header<T>(kind: u16, extra: u32) -> Header {
    Header { kind, len: (size_of::<T>() as u32 + extra) as u16, reserved: 0 }
}
