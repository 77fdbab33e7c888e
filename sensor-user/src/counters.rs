//! The kernel half's counters.

use aya::maps::{MapData, PerCpuArray};
use gnomon_sensor_abi::{Outcome, Program, TALLY, Tally};

use crate::SensorError;

/// The counters of all programs, summed over the CPUs, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    programs: [[u64; TALLY]; Program::ALL.len()],
}

impl Counters {
    /// Reads the counters.
    pub(crate) fn read(map: &PerCpuArray<MapData, Tally>) -> Result<Self, SensorError> {
        let mut programs = [[0_u64; TALLY]; Program::ALL.len()];
        for (sums, program) in programs.iter_mut().zip(Program::ALL) {
            let cpus = map.get(&(program as u32), 0).map_err(|source| SensorError::Map { name: "TALLIES", source })?;
            for tally in cpus.iter() {
                for (sum, count) in sums.iter_mut().zip(tally.counts) {
                    *sum = sum.wrapping_add(count);
                }
            }
        }
        Ok(Self { programs })
    }

    /// One counter.
    #[must_use]
    pub fn get(&self, program: Program, outcome: Outcome) -> u64 {
        self.programs[program as usize][outcome.index()]
    }

    /// One counter over all programs.
    #[must_use]
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.programs.iter().map(|counts| counts[outcome.index()]).sum()
    }

    /// Attempts less those with a known outcome: 0 when nothing is under way.
    #[must_use]
    pub fn unaccounted(&self, program: Program) -> i64 {
        let known = [Outcome::Delivered, Outcome::RingFull, Outcome::TableFull, Outcome::Filtered];
        let known: u64 = known.iter().map(|outcome| self.get(program, *outcome)).sum();
        self.get(program, Outcome::Attempted).wrapping_sub(known).cast_signed()
    }
}
