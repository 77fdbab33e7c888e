//! The maps. Sizes are defaults: the loader sets them from its options.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use gnomon_sensor_abi::{Config, FailedKey, Owner, PeerKey, Program, Scope, Tally};

/// A tracked connection, by socket cookie: from `connect()` until the socket is closed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Flow {
    pub owner: Owner,
    /// Where the capture of the first bytes stands: a constant of [`crate::hello`].
    pub stage: u32,
    /// The sequence number of the next byte to capture.
    pub next_seq: u32,
    /// Bytes captured so far.
    pub captured: u32,
    /// Bytes still to capture; unknown (0) until the record's header is complete.
    pub remaining: u32,
    /// Whom it counts for in [`HELD`].
    pub holder: u64,
    /// And besides: its own cgroup, where that is one of several of its holder's. 0 for none.
    pub own: u64,
    /// The first bytes, until the record's header is complete; longer than that for the verifier's sake.
    pub head: [u8; 32],
}

/// Cookies of flows of whose first bytes nothing more is wanted, each at the place that its last bits say: asked for each
/// packet, and a third of the price of [`FLOWS`]. Cookies are never used again, so what is forgotten here is only looked
/// up there, and what is old hinders nobody.
#[map]
pub static SETTLED: Array<u64> = Array::with_max_entries(SETTLED_PLACES, 0);
/// A power of two.
pub const SETTLED_PLACES: u32 = 8192;

/// Not an LRU: a flow that is alive must not vanish because others come. A full table is counted.
#[map]
pub static FLOWS: HashMap<u64, Flow> = HashMap::with_max_entries(65536, 0);

/// How many flows are in [`FLOWS`], by whose they are ([`crate::scope::holder`]): whoever keeps sockets open without end fills a
/// share of the table and not all of it. Each at the place that a hash of whose it is says, so that an entry is never evicted
/// while its flows are open. Two at one place have one share together: any two by a chance of one in 32,768, and who that is
/// cannot be chosen, as [`held_seed`] is drawn anew each time.
#[map]
pub static HELD: Array<i64> = Array::with_max_entries(1 << HELD_BITS, 0);
pub const HELD_BITS: u32 = 16;

/// When flows whose socket is closed by its program were connected, in nanoseconds since boot: until the kernel reports
/// their end. That report may never come (another program on the same hook can call it off), so the oldest make way.
#[map]
pub static CLOSING: LruHashMap<u64, u64> = LruHashMap::with_max_entries(16384, 0);

/// An owner as the proxy may ask for it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Filed {
    pub owner: Owner,
    /// The port that it is connected to.
    pub to_port: u32,
    pub reserved: u32,
}

/// Owners by the connection that the proxy sees. Kept when the flow is over, as a client may close before the proxy
/// accepts; the oldest make way.
#[map]
pub static OWNERS: LruHashMap<PeerKey, Filed> = LruHashMap::with_max_entries(16384, 0);

/// Until when (`CLOCK_MONOTONIC`, nanoseconds) an address that the proxy could not connect to is refused. Written by the
/// user half; the oldest make way.
#[map]
pub static FAILED: LruHashMap<FailedKey, u64> = LruHashMap::with_max_entries(4096, 0);

#[map]
pub static SCOPES: HashMap<u64, Scope> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(1, 0);

/// `CLOCK_MONOTONIC` in nanoseconds, written by the proxy through shared memory.
#[map]
pub static HEARTBEAT: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// When a process last called `execve`, in nanoseconds since boot.
#[map]
pub static EXECS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(16384, 0);

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

#[map]
pub static TALLIES: PerCpuArray<Tally> = PerCpuArray::with_max_entries(Program::ALL.len() as u32, 0);

/// When and for which process this CPU last woke the reader because of something urgent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Woken {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub at_ns: u64,
    pub process: u32,
    pub reserved: u32,
}

#[map]
pub static WOKEN: PerCpuArray<Woken> = PerCpuArray::with_max_entries(1, 0);

/// 1 where `getsockopt` and `sock_ops` programs can tell the network namespace (Linux 5.15), else 0 and
/// owners are kept without it. Set by the loader.
#[unsafe(no_mangle)]
static NETNS_KNOWN: u32 = 1;

#[inline(always)]
pub fn netns_known() -> bool {
    crate::load!(NETNS_KNOWN) != 0
}

/// 1 where programs on tracepoints can tell the cgroups above a task (Linux 5.15), else 0. Set by the loader.
#[unsafe(no_mangle)]
static LINEAGE_KNOWN: u32 = 1;

#[inline(always)]
pub fn lineage_known() -> bool {
    crate::load!(LINEAGE_KNOWN) != 0
}

/// An odd number drawn by the loader: what a holder's number is multiplied by for its place in [`HELD`].
#[unsafe(no_mangle)]
static HELD_SEED: u64 = 1;

#[inline(always)]
pub fn held_seed() -> u64 {
    crate::load!(HELD_SEED)
}

/// 1 where `connect` programs can choose the error that the caller gets (Linux 5.18), else 0. Set by the loader.
#[unsafe(no_mangle)]
static RETVAL_KNOWN: u32 = 1;

#[inline(always)]
pub fn retval_known() -> bool {
    crate::load!(RETVAL_KNOWN) != 0
}
