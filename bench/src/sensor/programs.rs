//! How long the kernel programs of a process ran, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};

/// How long a program ran, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTime {
    /// Nanoseconds, summed over CPUs. Counting costs some 20 ns of each run, and is part of it.
    pub nanos: u64,
    /// Runs.
    pub runs: u64,
}

/// The programs of one process; the kernel counts as long as this lives.
pub struct Programs {
    names: BTreeMap<u32, String>,
    pid: u32,
    /// Counting ends when this is closed, bpf(2) `BPF_ENABLE_STATS`.
    _counting: OwnedFd,
}

impl Programs {
    /// Has the kernel count (Linux 5.8), and finds the programs that a process holds.
    ///
    /// # Errors
    /// The kernel refuses, or the process holds none.
    pub fn count(pid: u32) -> Result<Self> {
        let counting = enable_stats(Stats::RunTime).context("BPF_ENABLE_STATS")?;
        let names = loaded_programs().flatten().filter_map(|program| Some((program.id(), program.name_as_str()?.to_owned()))).collect();
        let programs = Self { names, pid, _counting: counting };
        ensure!(!programs.run_times()?.is_empty(), "process {pid} holds no programs");
        Ok(programs)
    }

    /// What was counted so far, by the programs' names.
    ///
    /// # Errors
    /// The process is gone.
    pub fn run_times(&self) -> Result<BTreeMap<String, RunTime>> {
        let folder = format!("/proc/{}/fdinfo", self.pid);
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {folder}"))? {
            // A descriptor may be closed between the listing and the read.
            let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
            let Some((id, time)) = program(&text) else { continue };
            if let Some(name) = self.names.get(&id) {
                found.insert(name.clone(), time);
            }
        }
        Ok(found)
    }
}

/// The number and run time of the program that a descriptor is of; none for any other descriptor. Lines as in
/// proc_pid_fdinfo(5).
fn program(info: &str) -> Option<(u32, RunTime)> {
    let number = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse::<u64>().ok());
    let time = RunTime { nanos: number("run_time_ns")?, runs: number("run_cnt")? };
    Some((u32::try_from(number("prog_id")?).ok()?, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_from_its_link_by_its_run_time() {
        let info = "pos:\t0\nprog_type:\t18\nprog_id:\t41\nrun_time_ns:\t1200\nrun_cnt:\t3\nrecursion_misses:\t0\n";
        assert_eq!(program(info), Some((41, RunTime { nanos: 1200, runs: 3 })));
        assert_eq!(program("link_type:\tcgroup\nlink_id:\t7\nprog_id:\t41\n"), None);
    }
}
