//! `execve`: since when a process runs the program that it runs.
//!
//! A raw tracepoint, as that needs neither tracefs nor the right to read it.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use gnomon_sensor_abi::{Outcome, Program};

use crate::maps::EXECS;
use crate::report::count;

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn gn_exec(_: RawTracePointContext) -> i32 {
    count(Program::Exec, Outcome::Attempted);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: a helper without pointers.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let kept = EXECS.insert(&tgid, &now, 0).is_ok();
    count(Program::Exec, if kept { Outcome::Delivered } else { Outcome::TableFull });
    0
}
