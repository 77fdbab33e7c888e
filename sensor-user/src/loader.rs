//! Loading and attaching the kernel half.
//!
//! The loader reads the kernel's types, which takes some 20 MiB, so it does not outlive its work: what it leaves is a
//! [`Sensor`], which holds descriptors and nothing else.

use std::fs::File;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData};
use aya::programs::{Program as Loaded, ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfLoader};
use gnomon_sensor_abi::{Config, Program, starts};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::attach::{Hook, hook, to_cgroup, to_tracepoint};
use crate::attached::{Overridden, overridden};
use crate::memory::page;
use crate::scope::{CgroupId, Mode, Scope};
use crate::sensor::{Sensor, Table};
use crate::status::{Status, status, system};
use crate::{SensorError, object};

/// The default number of owners kept for the proxy to ask about, about 250 bytes each. It must be large enough that a queue of connections
/// waiting to be accepted does not displace its own owners.
pub const OWNERS: u32 = 1 << 16;

/// Options of the sensor.
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
    /// The port where programs ask the proxy themselves; 0 while it is not known.
    pub explicit_port: u16,
    /// The ring buffer's size in bytes: a power of two, at least a page.
    pub ring_bytes: u32,
    /// The reader is woken when this many bytes wait (at most a quarter of the ring), or something urgent. It should
    /// also look every 50 ms.
    pub wake_bytes: u32,
    /// The most connections tracked at a time; more are counted as `TableFull`.
    pub flows: u32,
    /// The most of them for one service, or all sessions of one user.
    pub flows_each: u32,
    /// The number of connections that the proxy can ask about; the oldest make way.
    pub owners: u32,
    /// The scope of cgroups without one.
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
            explicit_port: 0,
            ring_bytes: 8 << 20,
            wake_bytes: 256 << 10,
            flows: 1 << 16,
            flows_each: 1 << 15,
            owners: OWNERS,
            default_scope: Scope { id: 0, mode: Mode::Observe },
        }
    }
}

/// Whether the programs that store and look up owners can tell network namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespaces {
    Known,
    Unknown,
}

/// The kernel half while it is loaded and attached.
#[derive(Debug)]
pub struct Loader {
    bpf: Ebpf,
    cgroup: File,
    proxy_cgroup: File,
    /// The paths of those two cgroups.
    folders: (PathBuf, PathBuf),
    namespaces: Namespaces,
    lineage: Lineage,
    sensor: Sensor,
}

/// Whether programs on tracepoints can tell the cgroups above a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lineage {
    Known,
    Unknown,
}

impl Loader {
    /// Creates the maps. No program is given to the kernel yet, and nothing is attached.
    ///
    /// # Errors
    /// When a cgroup cannot be opened, or the kernel refuses a map.
    pub fn new(options: &Options) -> Result<Self, SensorError> {
        if !options.ring_bytes.is_power_of_two() || (options.ring_bytes as usize) < page() {
            return Err(SensorError::RingSize(options.ring_bytes));
        }
        let cgroup = open(&options.cgroup)?;
        let proxy_cgroup = open(&options.proxy_cgroup)?;
        unlock_memory();
        let known = [ProgramType::CgroupSockopt, ProgramType::SockOps]
            .into_iter()
            .all(|kind| is_helper_supported(kind, BpfHelper::BPF_FUNC_get_netns_cookie).unwrap_or(false));
        let namespaces = if known { Namespaces::Known } else { Namespaces::Unknown };
        let netns_known = u32::from(known);
        let retval = is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval).unwrap_or(false);
        let retval_known = u32::from(retval);
        let lineage = is_helper_supported(ProgramType::RawTracePoint, BpfHelper::BPF_FUNC_get_current_ancestor_cgroup_id).unwrap_or(false);
        let lineage_known = u32::from(lineage);
        let mut drawn = [0; 8];
        getrandom::fill(&mut drawn)
            .map_err(|error| SensorError::System { what: "drawing a random number", source: io::Error::other(error.to_string()) })?;
        let held_seed = u64::from_ne_bytes(drawn) | 1;
        let bpf = EbpfLoader::new()
            // Nothing in our programs is relocated against the kernel's types.
            .btf(None)
            .override_global("NETNS_KNOWN", &netns_known, true)
            .override_global("RETVAL_KNOWN", &retval_known, true)
            .override_global("LINEAGE_KNOWN", &lineage_known, true)
            .override_global("HELD_SEED", &held_seed, true)
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_max_entries("FLOWS", options.flows.max(1))
            .map_max_entries("OWNERS", options.owners.max(1))
            .load(object::bytes())?;
        let mut sensor = Sensor::over(|table| duplicate(&bpf, table))?;
        sensor.configure(Config {
            mark: options.mark.get(),
            port: options.port,
            explicit_port: options.explicit_port,
            // If it were woken later, the reader would have too little time.
            wake_bytes: options.wake_bytes.min(options.ring_bytes / 4),
            flows_each: options.flows_each.max(1),
            default_scope: options.default_scope.raw(),
            seen: CgroupId::of(&options.cgroup)?.0,
            starts: starts::REMEMBERED,
            reserved: 0,
        })?;
        let folders = (options.cgroup.clone(), options.proxy_cgroup.clone());
        let lineage = if lineage { Lineage::Known } else { Lineage::Unknown };
        Ok(Self { bpf, cgroup, proxy_cgroup, folders, namespaces, lineage, sensor })
    }

    /// Access to the maps, to set scopes before anything is attached.
    pub fn sensor(&mut self) -> &mut Sensor {
        &mut self.sensor
    }

    /// Attaches all programs. Those that fail are named; the others work without them.
    pub fn attach_all(&mut self) -> Vec<(Program, Status)> {
        Program::ALL.map(|program| (program, self.attach(program))).to_vec()
    }

    /// Attaches one program.
    pub fn attach(&mut self, program: Program) -> Status {
        match self.verify(program) {
            Status::Ok => {}
            refused => return refused,
        }
        let (seen, proxy) = &self.folders;
        let above = match hook(program) {
            Hook::Seen(kind) => overridden(seen, kind),
            Hook::Proxy(kind) => overridden(proxy, kind),
            Hook::Tracepoint(_) => Ok(None),
        };
        if let Ok(Some(Overridden { at, id })) = above {
            return Status::Broken(format!(
                "it would switch off program {id} of {}, which lets itself be overridden (BPF_F_ALLOW_OVERRIDE)",
                at.display()
            ));
        }
        match self.link(program) {
            Ok(()) => Status::Ok,
            Err(error) => system(&error, error.to_string()),
        }
    }

    /// Finishes loading; dropping the sensor detaches it.
    #[must_use]
    pub fn finish(self) -> Sensor {
        self.sensor
    }

    /// Has the kernel's verifier check one program, without attaching it.
    pub(crate) fn verify(&mut self, program: Program) -> Status {
        if self.sensor.has(program) {
            return Status::Ok;
        }
        match self.load(program) {
            Ok(loaded) => {
                self.sensor.keep(program, loaded);
                Status::Ok
            }
            Err(error) => status(&error),
        }
    }

    /// [`Status::Ok`] if owners are certainly kept apart by network namespace: [`Feature::NamespacedOwners`](crate::Feature).
    #[must_use]
    pub fn namespaced_owners(&self) -> Status {
        match self.namespaces {
            Namespaces::Known => Status::Ok,
            Namespaces::Unknown => Status::Unsupported("getsockopt and sock_ops programs cannot tell network namespaces apart".into()),
        }
    }

    /// [`Status::Ok`] if starts of programs can be reported of the tasks below a cgroup: [`Feature::TaskLineage`](crate::Feature).
    #[must_use]
    pub fn task_lineage(&self) -> Status {
        match self.lineage {
            Lineage::Known => Status::Ok,
            Lineage::Unknown => Status::Unsupported("programs on tracepoints cannot tell the cgroups above a task".into()),
        }
    }

    fn load(&mut self, program: Program) -> Result<OwnedFd, ProgramError> {
        let found = self.bpf.program_mut(program.name()).ok_or(ProgramError::NotLoaded)?;
        match found {
            Loaded::CgroupSockAddr(found) => found.load()?,
            Loaded::CgroupSock(found) => found.load()?,
            Loaded::CgroupSockopt(found) => found.load()?,
            Loaded::CgroupSkb(found) => found.load()?,
            Loaded::SockOps(found) => found.load()?,
            Loaded::RawTracePoint(found) => found.load()?,
            _ => return Err(ProgramError::UnexpectedProgramType),
        }
        Ok(found.fd()?.as_fd().try_clone_to_owned()?)
    }

    fn link(&mut self, program: Program) -> io::Result<()> {
        let loaded = self.sensor.program(program).ok_or(io::ErrorKind::NotFound)?;
        let link = match hook(program) {
            Hook::Seen(kind) => to_cgroup(loaded, self.cgroup.as_fd(), kind)?,
            Hook::Proxy(kind) => to_cgroup(loaded, self.proxy_cgroup.as_fd(), kind)?,
            Hook::Tracepoint(name) => to_tracepoint(loaded, name)?,
        };
        self.sensor.hold(program, link);
        Ok(())
    }
}

/// A map's descriptor, independent of the loader.
fn duplicate(bpf: &Ebpf, table: Table) -> Result<OwnedFd, SensorError> {
    let name = table.name();
    let map = bpf.map(name).ok_or(SensorError::NoMap(name))?;
    let data: &MapData = match map {
        Map::RingBuf(data) | Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::PerCpuArray(data) => data,
        _ => return Err(SensorError::NoMap(name)),
    };
    data.fd().as_fd().try_clone_to_owned().map_err(|source| SensorError::System { what: "duplicating a descriptor", source })
}

fn open(path: &Path) -> Result<File, SensorError> {
    let file = File::open(path).map_err(|source| SensorError::Cgroup { path: path.to_owned(), source })?;
    match file.metadata() {
        Ok(found) if found.is_dir() => Ok(file),
        Ok(_) => Err(SensorError::Cgroup { path: path.to_owned(), source: io::ErrorKind::NotADirectory.into() }),
        Err(source) => Err(SensorError::Cgroup { path: path.to_owned(), source }),
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
