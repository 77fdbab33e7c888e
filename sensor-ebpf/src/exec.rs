//! `execve`: since when a process runs the program that it runs, and, where that is asked for, a report of it.
//!
//! A raw tracepoint, as that needs neither tracefs nor the right to read it. The process's memory is not read: who wants to know its
//! arguments looks them up.

use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use gnomon_sensor_abi::{Config, Outcome, Program, Start, kind, mode, starts};

use crate::maps::{CONFIG, EXECS};
use crate::report::{Urgency, count, deliver_with, header};
use crate::{load, scope};

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn gn_exec(_: RawTracePointContext) -> i32 {
    count(Program::Exec, Outcome::Attempted);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: a helper without pointers.
    let began_ns = unsafe { bpf_ktime_get_boot_ns() };
    if EXECS.insert(&tgid, &began_ns, 0).is_err() {
        count(Program::Exec, Outcome::TableFull);
        return 0;
    }
    match CONFIG.get(0) {
        Some(config) if is_reported(config) => report(config, tgid, began_ns),
        _ => count(Program::Exec, Outcome::Filtered),
    }
    0
}

/// Whether starts are reported at all, and of this task's cgroup.
#[inline(always)]
fn is_reported(config: &Config) -> bool {
    load!(config.starts) == starts::REPORTED && scope::seen(config) != mode::OFF
}

#[inline(always)]
fn report(config: &Config, tgid: u32, began_ns: u64) {
    let ids = bpf_get_current_uid_gid();
    // SAFETY: a helper without pointers.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    let start = Start {
        header: header::<Start>(kind::START, 0),
        began_ns,
        cgroup,
        tgid,
        uid: ids as u32,
        gid: (ids >> 32) as u32,
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    // Before the program can write over its arguments.
    deliver_with(Program::Exec, config, &start, Urgency::Urgent(tgid));
}
