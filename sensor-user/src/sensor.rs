//! Loading and attaching the kernel half.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, Map, PerCpuArray};
use aya::programs::links::CgroupAttachMode;
use aya::programs::{CgroupSkbAttachType, Program as Loaded, ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfLoader};
use gnomon_sensor_abi::{Config, Program};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::features::{Status, status};
use crate::memory::page;
use crate::scope::{Mode, Scope, Scopes};
use crate::{Counters, Error, Execs, object};

/// What the sensor is told at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The cgroup below which connections are seen; the root of the cgroup2 hierarchy, to see all.
    pub cgroup: PathBuf,
    /// The cgroup in which the proxy may ask who its peers are.
    pub proxy_cgroup: PathBuf,
    /// The mark of our listeners. A secret random number keeps those who may set marks in a network namespace
    /// of their own from passing for us there.
    pub mark: NonZeroU32,
    /// The port of our listeners, in every namespace; 0 while there is none.
    pub port: u16,
    /// The ring buffer's size in bytes: a power of two, at least a page.
    pub ring_bytes: u32,
    /// The reader is woken when this many bytes wait (at most a quarter of the ring), or something urgent. It should
    /// also look every 50 ms.
    pub wake_bytes: u32,
    /// How many connections are tracked at a time; more are counted as `TableFull`.
    pub flows: u32,
    /// How many connections the proxy can ask about; the oldest make way.
    pub owners: u32,
    /// What applies to cgroups without a scope.
    pub default_scope: Scope,
}

impl Options {
    /// Options that observe, with an 8 MiB ring and 65,536 connections.
    pub fn new(cgroup: impl Into<PathBuf>, proxy_cgroup: impl Into<PathBuf>) -> Self {
        Self {
            cgroup: cgroup.into(),
            proxy_cgroup: proxy_cgroup.into(),
            mark: NonZeroU32::MIN,
            port: 0,
            ring_bytes: 8 << 20,
            wake_bytes: 256 << 10,
            flows: 1 << 16,
            owners: 1 << 14,
            default_scope: Scope { id: 0, mode: Mode::Observe },
        }
    }
}

/// Whether the programs that file and find owners can tell network namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespaces {
    Known,
    Unknown,
}

/// The kernel half, loaded. Dropping it, or the end of the process, detaches everything.
#[derive(Debug)]
pub struct Sensor {
    bpf: Ebpf,
    cgroup: File,
    proxy_cgroup: File,
    namespaces: Namespaces,
    /// Programs that the kernel has accepted.
    verified: BTreeSet<Program>,
}

impl Sensor {
    /// Creates the maps. No program is given to the kernel yet, and nothing is attached.
    ///
    /// # Errors
    /// When a cgroup cannot be opened, or the kernel refuses a map.
    pub fn load(options: &Options) -> Result<Self, Error> {
        if !options.ring_bytes.is_power_of_two() || (options.ring_bytes as usize) < page() {
            return Err(Error::RingSize(options.ring_bytes));
        }
        let cgroup = open(&options.cgroup)?;
        let proxy_cgroup = open(&options.proxy_cgroup)?;
        unlock_memory();
        let known = [ProgramType::CgroupSockopt, ProgramType::SockOps]
            .into_iter()
            .all(|kind| is_helper_supported(kind, BpfHelper::BPF_FUNC_get_netns_cookie).unwrap_or(false));
        let namespaces = if known { Namespaces::Known } else { Namespaces::Unknown };
        let netns_known = u32::from(known);
        let mut bpf = EbpfLoader::new()
            // Nothing of ours is relocated against the kernel's types, which take 20 MiB.
            .btf(None)
            .override_global("NETNS_KNOWN", &netns_known, true)
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_max_entries("FLOWS", options.flows.max(1))
            .map_max_entries("OWNERS", options.owners.max(1))
            .load(object::bytes())?;
        let config = Config {
            mark: options.mark.get(),
            port: options.port,
            reserved: 0,
            // Later than that a reader has no time left to come.
            wake_bytes: options.wake_bytes.min(options.ring_bytes / 4),
            default_scope: options.default_scope.raw(),
        };
        let mut map: Array<_, Config> = typed("CONFIG", bpf.map_mut("CONFIG").ok_or(Error::NoMap("CONFIG"))?)?;
        map.set(0, config, 0).map_err(|source| Error::Map { name: "CONFIG", source })?;
        Ok(Self { bpf, cgroup, proxy_cgroup, namespaces, verified: BTreeSet::new() })
    }

    /// Attaches all programs. What does not work is named; the others work without it.
    pub fn attach_all(&mut self) -> Vec<(Program, Status)> {
        Program::ALL.map(|program| (program, self.attach(program))).to_vec()
    }

    /// Attaches one program.
    pub fn attach(&mut self, program: Program) -> Status {
        match self.try_load(program).and_then(|()| self.try_attach(program)) {
            Ok(()) => Status::Ok,
            Err(error) => status(&error),
        }
    }

    /// Gives one program to the kernel's verifier, without attaching it.
    pub(crate) fn verify(&mut self, program: Program) -> Status {
        match self.try_load(program) {
            Ok(()) => Status::Ok,
            Err(error) => status(&error),
        }
    }

    pub(crate) fn knows_namespaces(&self) -> bool {
        self.namespaces == Namespaces::Known
    }

    fn try_load(&mut self, program: Program) -> Result<(), ProgramError> {
        if self.verified.contains(&program) {
            return Ok(());
        }
        match self.bpf.program_mut(program.name()).ok_or(ProgramError::NotLoaded)? {
            Loaded::CgroupSockAddr(found) => found.load()?,
            Loaded::CgroupSock(found) => found.load()?,
            Loaded::CgroupSockopt(found) => found.load()?,
            Loaded::CgroupSkb(found) => found.load()?,
            Loaded::SockOps(found) => found.load()?,
            Loaded::RawTracePoint(found) => found.load()?,
            _ => return Err(ProgramError::UnexpectedProgramType),
        }
        self.verified.insert(program);
        Ok(())
    }

    fn try_attach(&mut self, program: Program) -> Result<(), ProgramError> {
        // Links can always be several per cgroup; the flag for that belongs to the older way of attaching.
        let mode = CgroupAttachMode::Single;
        match self.bpf.program_mut(program.name()).ok_or(ProgramError::NotLoaded)? {
            Loaded::CgroupSockAddr(found) => found.attach(&self.cgroup, mode).map(|_| ())?,
            Loaded::CgroupSock(found) => found.attach(&self.cgroup, mode).map(|_| ())?,
            Loaded::CgroupSockopt(found) => found.attach(&self.proxy_cgroup, mode).map(|_| ())?,
            Loaded::CgroupSkb(found) => found.attach(&self.cgroup, CgroupSkbAttachType::Egress, mode).map(|_| ())?,
            Loaded::SockOps(found) => found.attach(&self.cgroup, mode).map(|_| ())?,
            Loaded::RawTracePoint(found) => found.attach("sched_process_exec").map(|_| ())?,
            _ => return Err(ProgramError::UnexpectedProgramType),
        }
        Ok(())
    }

    /// The scopes.
    ///
    /// # Errors
    /// When the object is not ours.
    pub fn scopes(&mut self) -> Result<Scopes<'_>, Error> {
        let [scopes, config] = self.bpf.maps_disjoint_mut(["SCOPES", "CONFIG"]);
        let scopes: HashMap<_, _, _> = typed("SCOPES", scopes.ok_or(Error::NoMap("SCOPES"))?)?;
        let config: Array<_, _> = typed("CONFIG", config.ok_or(Error::NoMap("CONFIG"))?)?;
        Ok(Scopes { scopes, config })
    }

    /// Tells the kernel half the port of our listeners; 0 stops redirecting.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_port(&mut self, port: u16) -> Result<(), Error> {
        let mut map: Array<_, Config> = typed("CONFIG", self.bpf.map_mut("CONFIG").ok_or(Error::NoMap("CONFIG"))?)?;
        let failed = |source| Error::Map { name: "CONFIG", source };
        let mut config = map.get(&0, 0).map_err(failed)?;
        config.port = port;
        map.set(0, config, 0).map_err(failed)
    }

    /// What was counted so far.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn counters(&self) -> Result<Counters, Error> {
        Counters::read(&PerCpuArray::try_from(self.map("TALLIES")?).map_err(|source| Error::Map { name: "TALLIES", source })?)
    }

    /// How often the kernel itself did not run a program because it was already running (`recursion_misses`, Linux 5.12);
    /// none where it does not say.
    #[must_use]
    pub fn missed(&self, program: Program) -> Option<u64> {
        self.fdinfo(program, "recursion_misses")
    }

    /// How long a program ran, in nanoseconds, and how often. Only counted while `kernel.bpf_stats_enabled` is set.
    #[must_use]
    pub fn run_time(&self, program: Program) -> Option<(u64, u64)> {
        Some((self.fdinfo(program, "run_time_ns")?, self.fdinfo(program, "run_cnt")?))
    }

    /// How many instructions the verifier looked at, along all the ways through a program; none where the kernel does not say.
    /// It gives up at a million.
    #[must_use]
    pub fn verified_instructions(&self, program: Program) -> Option<u64> {
        self.fdinfo(program, "verified_insns")
    }

    /// The kernel's id of a program, if it is loaded.
    #[must_use]
    pub fn id(&self, program: Program) -> Option<u32> {
        u32::try_from(self.fdinfo(program, "prog_id")?).ok()
    }

    /// A line of what the kernel says about a program's descriptor, proc_pid_fdinfo(5).
    fn fdinfo(&self, program: Program, key: &str) -> Option<u64> {
        let fd = self.bpf.program(program.name())?.fd().ok()?.as_fd().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
    }

    /// The ring buffer's descriptor, for [`crate::Ring::from_fd`] in whichever process.
    ///
    /// # Errors
    /// When no further descriptor can be had.
    pub fn ring(&self) -> Result<OwnedFd, Error> {
        self.descriptor("EVENTS")
    }

    /// The heartbeat's descriptor, for [`crate::Heartbeat::from_fd`] in whichever process.
    ///
    /// # Errors
    /// When no further descriptor can be had.
    pub fn heartbeat(&self) -> Result<OwnedFd, Error> {
        self.descriptor("HEARTBEAT")
    }

    /// When processes last called exec, readable from any thread of this process.
    ///
    /// # Errors
    /// When no further descriptor can be had, or the kernel refuses it.
    pub fn execs(&self) -> Result<Execs, Error> {
        Execs::from_fd(self.descriptor("EXECS")?)
    }

    fn descriptor(&self, name: &'static str) -> Result<OwnedFd, Error> {
        let (Map::RingBuf(data) | Map::Array(data) | Map::LruHashMap(data)) = self.map(name)? else { return Err(Error::NoMap(name)) };
        data.fd().as_fd().try_clone_to_owned().map_err(|source| Error::System { what: "duplicating a descriptor", source })
    }

    fn map(&self, name: &'static str) -> Result<&Map, Error> {
        self.bpf.map(name).ok_or(Error::NoMap(name))
    }
}

/// A map as the type that it is.
fn typed<'a, T: TryFrom<&'a mut Map, Error = aya::maps::MapError>>(name: &'static str, map: &'a mut Map) -> Result<T, Error> {
    T::try_from(map).map_err(|source| Error::Map { name, source })
}

fn open(path: &Path) -> Result<File, Error> {
    let file = File::open(path).map_err(|source| Error::Cgroup { path: path.to_owned(), source })?;
    match file.metadata() {
        Ok(found) if found.is_dir() => Ok(file),
        Ok(_) => Err(Error::Cgroup { path: path.to_owned(), source: io::ErrorKind::NotADirectory.into() }),
        Err(source) => Err(Error::Cgroup { path: path.to_owned(), source }),
    }
}

/// Before Linux 5.11 maps count as locked memory, whose default limit is too low for the tables. Where the limit may
/// not be raised, the kernel will say so when it refuses a map.
fn unlock_memory() {
    let limit = getrlimit(Resource::Memlock);
    if limit.current.is_some() {
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    }
}
