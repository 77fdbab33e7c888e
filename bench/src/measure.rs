//! What a process cost, from /proc: CPU time, resident memory, and the machine it ran on.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::ClockId;
use nix::unistd::Pid;

const MIB: f64 = 1024.0;

/// CPU time of all threads alive in the process, from the scheduler's nanosecond counters.
///
/// A thread that ended takes its time with it, so short-lived helper threads go uncounted;
/// every contender here does its work on threads that live as long as it does.
///
/// # Errors
/// When the process is gone or the kernel has no schedstat.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))?;
    let mut total = Duration::ZERO;
    for task in tasks {
        // A thread may end between the listing and the read.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let on_cpu = text.split_whitespace().next().context("an empty schedstat")?;
        total += Duration::from_nanos(on_cpu.parse()?);
    }
    Ok(total)
}

/// The CPU clock of a process, clock_getcpuclockid(3): that of a few milliseconds is told exactly.
#[derive(Clone, Copy, Debug)]
pub struct CpuClock(ClockId);

impl CpuClock {
    /// That of a process.
    ///
    /// # Errors
    /// The process is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let pid = Pid::from_raw(i32::try_from(pid)?);
        Ok(Self(ClockId::pid_cpu_clock_id(pid).with_context(|| format!("the CPU clock of process {pid}"))?))
    }

    /// CPU time of all its threads, those that ended included. A thread of another process that runs meanwhile may lack up
    /// to a tick, some milliseconds; one that sleeps lacks nothing.
    ///
    /// # Errors
    /// The process is gone.
    pub fn read(self) -> Result<Duration> {
        Ok(self.0.now()?.into())
    }
}

/// Starts a new peak: what [`peak_mib`] reads counts from here.
///
/// # Errors
/// When the process is gone or belongs to someone else.
pub fn reset_peak(pid: u32) -> Result<()> {
    // 5 resets the high-water mark, proc_pid_clear_refs(5).
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("resetting the memory peak")
}

/// Highest resident memory since [`reset_peak`], MiB.
///
/// # Errors
/// When the process is gone.
pub fn peak_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmHWM:")
}

/// Resident memory now, MiB.
///
/// # Errors
/// When the process is gone.
pub fn resident_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmRSS:")
}

fn status_mib(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).with_context(|| format!("no {field} in status"))?;
    Ok(kib.parse::<f64>()? / MIB)
}

/// Keeps the processors out of sleep while it lives.
///
/// A processor that sleeps between two calls adds what it takes to wake, several times what a proxy adds on a virtual
/// machine, and adds it by chance. A bound of 0 µs for waking (Documentation/power/pm_qos_interface.rst) has the kernel
/// poll in its idle loop instead, for as long as the file is open.
#[derive(Debug)]
pub struct Awake {
    _bound: File,
}

impl Awake {
    /// From now on. Says so on standard output, or says why the processors may sleep: the figures mean something else then.
    #[must_use]
    pub fn keep() -> Option<Self> {
        let path = "/dev/cpu_dma_latency";
        let opened = OpenOptions::new().write(true).open(path).and_then(|mut bound| {
            bound.write_all(&0_i32.to_ne_bytes())?;
            Ok(Self { _bound: bound })
        });
        match &opened {
            Ok(_) => println!("the processors are kept awake by {path}"),
            Err(error) => println!("the processors may sleep between two calls, which costs more than a proxy does: {path}: {error}"),
        }
        opened.ok()
    }
}

/// One line about the machine: a ratio taken under load on two cores means something else than
/// one from a quiet machine with twenty.
#[must_use]
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
    let load: Vec<_> = read("/proc/loadavg").split_whitespace().take(3).map(str::to_owned).collect();
    format!(
        "{cores} cores ({}), kernel {}, load average {}",
        model.trim_start_matches([' ', '\t', ':']),
        read("/proc/sys/kernel/osrelease").trim(),
        load.join(" ")
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn work_done_shows_up_as_cpu_time() {
        let clock = CpuClock::of(std::process::id()).unwrap();
        let before = (cpu_time(std::process::id()).unwrap(), clock.read().unwrap());
        let sum: u64 = std::hint::black_box((0..20_000_000_u64).map(std::hint::black_box).sum());
        assert!(sum > 0);
        assert!(cpu_time(std::process::id()).unwrap() > before.0);
        assert!(clock.read().unwrap() > before.1);
    }

    #[test]
    fn the_peak_is_never_below_what_is_resident() {
        let pid = std::process::id();
        reset_peak(pid).unwrap();
        assert!(peak_mib(pid).unwrap() + 0.5 >= resident_mib(pid).unwrap());
    }
}
