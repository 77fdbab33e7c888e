//! The loaded kernel half: descriptors of its maps, its programs, and the links that keep them attached.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use aya::sys::{Stats, enable_stats};
use gnomon_sensor_abi::{Config, FailedKey, Program, starts};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::attach::{Hook, hook, to_cgroup};
use crate::failed::Failed;
use crate::scope::Scopes;
use crate::{Counters, Execs, SensorError};

/// What becomes of starts of programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starts {
    /// When each process last called exec is remembered.
    Remembered,
    /// It is in the ring as well.
    Reported,
}

/// The maps that this half uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Config,
    Scopes,
    Tallies,
    Events,
    Heartbeat,
    Execs,
    Failed,
}

impl Table {
    const ALL: [Self; 7] = [Self::Config, Self::Scopes, Self::Tallies, Self::Events, Self::Heartbeat, Self::Execs, Self::Failed];

    /// Its name in the object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "CONFIG",
            Self::Scopes => "SCOPES",
            Self::Tallies => "TALLIES",
            Self::Events => "EVENTS",
            Self::Heartbeat => "HEARTBEAT",
            Self::Execs => "EXECS",
            Self::Failed => "FAILED",
        }
    }
}

/// The kernel half, loaded. Dropping it, or the end of the process, detaches everything.
#[derive(Debug)]
pub struct Sensor {
    /// The tables, in the order of [`Table::ALL`].
    tables: Vec<OwnedFd>,
    /// The programs that the kernel has accepted.
    programs: BTreeMap<Program, OwnedFd>,
    /// The link that keeps each attached.
    links: Vec<(Program, OwnedFd)>,
}

/// A [`Sensor`] on its way through exec(2): the numbers of its descriptors, which stay open. To be taken over once.
#[derive(Debug, Serialize, Deserialize)]
pub struct HandedOver {
    tables: Vec<RawFd>,
    /// By index in [`Program::ALL`], like the links.
    programs: Vec<(usize, RawFd)>,
    links: Vec<(usize, RawFd)>,
}

impl Sensor {
    /// A sensor with the maps that `open` provides.
    pub(crate) fn over(open: impl FnMut(Table) -> Result<OwnedFd, SensorError>) -> Result<Self, SensorError> {
        let tables = Table::ALL.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { tables, programs: BTreeMap::new(), links: Vec::new() })
    }

    /// Keeps everything open across exec(2), for the next image of this process.
    ///
    /// # Errors
    /// A system call failed. Everything is detached then.
    pub fn hand_over(self) -> Result<HandedOver, SensorError> {
        let links = self.links.iter().map(|(_, link)| link);
        let all = self.tables.iter().chain(self.programs.values()).chain(links);
        for descriptor in all {
            fcntl_setfd(descriptor, FdFlags::empty())
                .map_err(|error| SensorError::System { what: "keeping a descriptor across exec", source: error.into() })?;
        }
        let place = |wanted: Program| Program::ALL.iter().position(|program| *program == wanted).unwrap_or_default();
        Ok(HandedOver {
            tables: self.tables.into_iter().map(IntoRawFd::into_raw_fd).collect(),
            programs: self.programs.into_iter().map(|(program, fd)| (place(program), fd.into_raw_fd())).collect(),
            links: self.links.into_iter().map(|(program, fd)| (place(program), fd.into_raw_fd())).collect(),
        })
    }

    /// Takes over what the previous image of this process kept open by [`Sensor::hand_over`].
    ///
    /// # Errors
    /// A descriptor is not open, or there are others than this build hands over.
    ///
    /// # Safety
    /// The numbers come from [`Sensor::hand_over`] in this very process, and nothing else uses them.
    pub unsafe fn take_over(handed: HandedOver) -> Result<Self, SensorError> {
        let take = |number: RawFd| {
            // SAFETY: open, as asked for right below, and ours alone, as the caller promises.
            let taken = unsafe { OwnedFd::from_raw_fd(number) };
            match fcntl_setfd(&taken, FdFlags::CLOEXEC) {
                Ok(()) => Ok(taken),
                Err(error) => {
                    // It is not open, so there is nothing to close.
                    let _ = taken.into_raw_fd();
                    Err(SensorError::System { what: "taking over a descriptor", source: error.into() })
                }
            }
        };
        let tables: Vec<OwnedFd> = handed.tables.into_iter().map(take).collect::<Result<_, _>>()?;
        if let Some(missing) = Table::ALL.get(tables.len()) {
            return Err(SensorError::NoMap(missing.name()));
        }
        let of = |(place, number): (usize, RawFd)| -> Result<_, SensorError> {
            let program = *Program::ALL.get(place).ok_or(SensorError::NoProgram(place))?;
            Ok((program, take(number)?))
        };
        let programs = handed.programs.into_iter().map(of).collect::<Result<_, _>>()?;
        let links = handed.links.into_iter().map(of).collect::<Result<_, _>>()?;
        Ok(Self { tables, programs, links })
    }

    /// The scopes.
    ///
    /// # Errors
    /// When the object is not ours.
    pub fn scopes(&mut self) -> Result<Scopes, SensorError> {
        let scopes = HashMap::try_from(Map::HashMap(self.data(Table::Scopes)?)).map_err(failed_on(Table::Scopes))?;
        Ok(Scopes { scopes, config: self.config()? })
    }

    /// Sets the port of our listeners in the kernel half; 0 stops redirecting.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_port(&mut self, port: u16) -> Result<(), SensorError> {
        let mut config = self.config()?.get(&0, 0).map_err(failed_on(Table::Config))?;
        config.port = port;
        self.configure(config)
    }

    /// Tells the kernel half at which port programs ask the proxy themselves: of connections to other ports than this one
    /// and our listeners', no owner is filed, which is a fifth of what a connection costs. 0: all are filed.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_explicit_port(&mut self, port: u16) -> Result<(), SensorError> {
        let mut config = self.config()?.get(&0, 0).map_err(failed_on(Table::Config))?;
        config.explicit_port = port;
        self.configure(config)
    }

    /// Has the kernel half report starts of programs ([`crate::Start`]), or remember them only, as it does at first.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_starts(&mut self, starts: Starts) -> Result<(), SensorError> {
        let mut config = self.config()?.get(&0, 0).map_err(failed_on(Table::Config))?;
        config.starts = match starts {
            Starts::Remembered => starts::REMEMBERED,
            Starts::Reported => starts::REPORTED,
        };
        self.configure(config)
    }

    /// Has connections of a user to an unreachable address refused for a while: `connect()` fails with
    /// `ECONNREFUSED` (before Linux 5.18 `EPERM`), so that the program tries its next address. Only where they would be
    /// redirected. At most 4,096 addresses; the oldest make way.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn refuse_for(&mut self, failed: Failed, time: Duration) -> Result<(), SensorError> {
        let now = clock_gettime(ClockId::Monotonic);
        // Not negative since boot.
        let now = Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
        let until = u64::try_from((now + time).as_nanos()).unwrap_or(u64::MAX);
        let mut table: HashMap<_, FailedKey, u64> =
            HashMap::try_from(Map::LruHashMap(self.data(Table::Failed)?)).map_err(failed_on(Table::Failed))?;
        table.insert(failed.raw(), until, 0).map_err(failed_on(Table::Failed))
    }

    pub(crate) fn configure(&mut self, config: Config) -> Result<(), SensorError> {
        self.config()?.set(0, config, 0).map_err(failed_on(Table::Config))
    }

    /// The counters so far.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn counters(&self) -> Result<Counters, SensorError> {
        Counters::read(&PerCpuArray::try_from(Map::PerCpuArray(self.data(Table::Tallies)?)).map_err(failed_on(Table::Tallies))?)
    }

    /// The number of times the kernel itself did not run a program because it was already running (`recursion_misses`, Linux 5.12); none
    /// where it does not say.
    #[must_use]
    pub fn missed(&self, program: Program) -> Option<u64> {
        self.fdinfo(program, "recursion_misses")
    }

    /// The run time of a program, in nanoseconds, and the number of runs. Only counted while `kernel.bpf_stats_enabled` is set.
    #[must_use]
    pub fn run_time(&self, program: Program) -> Option<(u64, u64)> {
        Some((self.fdinfo(program, "run_time_ns")?, self.fdinfo(program, "run_cnt")?))
    }

    /// Makes the kernel count run times (`BPF_ENABLE_STATS`, Linux 5.8) until the descriptor is closed: some 20 ns for each run
    /// of any program of the host. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn count_run_time() -> Result<OwnedFd, SensorError> {
        enable_stats(Stats::RunTime).map_err(|error| SensorError::System { what: "counting run times", source: error.io_error })
    }

    /// Detaches one program, which stays loaded. Whether it was attached.
    pub fn detach(&mut self, program: Program) -> bool {
        let before = self.links.len();
        self.links.retain(|(other, _)| *other != program);
        self.links.len() < before
    }

    /// Attaches a program to the cgroup below which connections are seen, after [`Sensor::detach`]. Whether it is one of those that
    /// are attached there, and loaded.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn attach_again(&mut self, program: Program, seen: BorrowedFd<'_>) -> Result<bool, SensorError> {
        let (Hook::Seen(kind), Some(loaded)) = (hook(program), self.program(program)) else { return Ok(false) };
        let link = to_cgroup(loaded, seen, kind).map_err(|source| SensorError::System { what: "attaching a program again", source })?;
        self.hold(program, link);
        Ok(true)
    }

    /// The number of instructions that the verifier looked at, along all the ways through a program; none where the kernel does not say.
    /// The verifier gives up at a million.
    #[must_use]
    pub fn verified_instructions(&self, program: Program) -> Option<u64> {
        self.fdinfo(program, "verified_insns")
    }

    /// The kernel's id of a program, if it is loaded.
    #[must_use]
    pub fn id(&self, program: Program) -> Option<u32> {
        u32::try_from(self.fdinfo(program, "prog_id")?).ok()
    }

    /// A line of the kernel's information on a program's descriptor, proc_pid_fdinfo(5).
    fn fdinfo(&self, program: Program, key: &str) -> Option<u64> {
        let fd = self.program(program)?.as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
    }

    /// The ring buffer's descriptor, for [`crate::Ring::from_fd`] in whichever process.
    ///
    /// # Errors
    /// When no further descriptor can be had.
    pub fn ring(&self) -> Result<OwnedFd, SensorError> {
        self.descriptor(Table::Events)
    }

    /// The heartbeat's descriptor, for [`crate::Heartbeat::from_fd`] in whichever process.
    ///
    /// # Errors
    /// When no further descriptor can be had.
    pub fn heartbeat(&self) -> Result<OwnedFd, SensorError> {
        self.descriptor(Table::Heartbeat)
    }

    /// The times at which processes last called exec, readable from any thread of this process.
    ///
    /// # Errors
    /// When no further descriptor can be had, or the kernel refuses it.
    pub fn execs(&self) -> Result<Execs, SensorError> {
        Execs::from_fd(self.descriptor(Table::Execs)?)
    }

    pub(crate) fn has(&self, program: Program) -> bool {
        self.programs.contains_key(&program)
    }

    pub(crate) fn program(&self, program: Program) -> Option<BorrowedFd<'_>> {
        self.programs.get(&program).map(AsFd::as_fd)
    }

    /// Keeps a program that the kernel has accepted.
    pub(crate) fn keep(&mut self, program: Program, loaded: OwnedFd) {
        self.programs.insert(program, loaded);
    }

    /// Keeps the link of a program, which is attached as long as this is open.
    pub(crate) fn hold(&mut self, program: Program, link: OwnedFd) {
        self.links.push((program, link));
    }

    fn config(&self) -> Result<Array<MapData, Config>, SensorError> {
        Array::try_from(Map::Array(self.data(Table::Config)?)).map_err(failed_on(Table::Config))
    }

    fn data(&self, table: Table) -> Result<MapData, SensorError> {
        MapData::from_fd(self.descriptor(table)?).map_err(failed_on(table))
    }

    fn descriptor(&self, table: Table) -> Result<OwnedFd, SensorError> {
        let found = self.tables.get(table as usize).ok_or(SensorError::NoMap(table.name()))?;
        found.try_clone().map_err(|source| SensorError::System { what: "duplicating a descriptor", source })
    }
}

fn failed_on(table: Table) -> impl FnOnce(aya::maps::MapError) -> SensorError {
    move |source| SensorError::Map { name: table.name(), source }
}
