//! Between the proxy, which asks, and the sensor, which may look and load.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{DescriptorKind, Family, Homes, IdentityAnswer, Lineage, ListensAnswer, Message, StartAnswer, Starts, Version};
use crate::bounds::{Label, List, Long, Name};

/// A message of the proxy to the sensor. A `token` is the proxy's own: it comes back with the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSensor {
    /// The first message. Answered with [`ToProxy::Welcome`], and that followed by [`ToProxy::Maps`].
    Hello {
        /// The proxy's protocol version.
        version: Version,
    },
    /// Asks for the identity of a process. Answered with [`ToProxy::Process`].
    Resolve {
        /// Comes back with the answer.
        token: u64,
        /// The process that connected, in the sensor's process namespace.
        pid: u32,
        /// The time at which it connected, in ns since boot: a process that started later is another one.
        connected_boot_ns: u64,
        /// The time of its last exec by then, in ns since boot; 0 where the kernel half does not know.
        generation_boot_ns: u64,
        /// Cookie of the socket.
        cookie: u64,
    },
    /// Open marked listeners in the network namespace of a process. Answered with [`ToProxy::Listeners`].
    ListenIn {
        /// Comes back with the answer.
        token: u64,
        /// The namespace that is meant: the sensor compares, as the process may be another one by now. 0 is whichever
        /// the process is in, for the proxy's own.
        netns_cookie: u64,
        /// A process that is in it.
        pid: u32,
    },
    /// Change what happens to the connections of a cgroup. Answered with [`ToProxy::Done`].
    Scope {
        /// Comes back with the answer.
        token: u64,
        /// The change.
        change: ScopeChange,
    },
    /// Asks for the features of the kernel half here. Answered with [`ToProxy::Features`].
    Features {
        /// Comes back with the answer.
        token: u64,
    },
    /// Asks for the kernel half's counters. Answered with [`ToProxy::Counters`].
    Counters {
        /// Comes back with the answer.
        token: u64,
    },
    /// The listeners of this namespace are accepted from: said after each [`ToProxy::Listeners`] that came unasked
    /// ([`UNASKED`]), as the program that they are for waits for it.
    Accepting {
        /// The namespace of the listeners.
        netns_cookie: u64,
    },
    /// Open a socket to connect with in a network namespace that has listeners of ours: what was redirected there is to go
    /// on from there. Answered with [`ToProxy::Socket`]. Since 1.1.
    OpenSocket {
        /// Comes back with the answer.
        token: u64,
        /// The namespace, as [`ToProxy::Listeners`] named it.
        netns_cookie: u64,
        /// The family of the address to connect to.
        family: Family,
    },
    /// Sets the port at which programs ask the proxy themselves. Until this is said the kernel half files the owner of every connection,
    /// and after it only of those that the proxy may ask for. Not answered. Since 1.2.
    ExplicitPort {
        /// Its port, in whichever namespaces it listens; 0: any.
        port: u16,
    },
    /// An address cannot be connected to: for a while the kernel half refuses that user's connections to it where it would have
    /// redirected them, as without a proxy they would be refused. Answered with [`ToProxy::Done`]. Since 1.3.
    Failed {
        /// Comes back with the answer.
        token: u64,
        /// Cookie of the program's network namespace.
        netns_cookie: u64,
        /// The program's original destination.
        address: SocketAddr,
        /// The program's user.
        uid: u32,
        /// The time in seconds; at most 30 count.
        seconds: u8,
    },
    /// As [`ToSensor::OpenSocket`], but opened as this user: the host's filters by user apply to it. Answered with
    /// [`ToProxy::Socket`]. Since 1.3.
    OpenSocketAs {
        /// Comes back with the answer.
        token: u64,
        /// The namespace, as [`ToProxy::Listeners`] named it; 0 is the sensor's own.
        netns_cookie: u64,
        /// The family of the address to connect to.
        family: Family,
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// A program whose scope redirects connected from a network namespace without our listeners: open listeners there, for as
    /// long as programs are in it. Not answered; they come unasked ([`UNASKED`]). Since 1.3.
    ListenWhere {
        /// Cookie of the namespace: the sensor compares, as the process may be another one by now.
        netns_cookie: u64,
        /// The process that connected, in the sensor's process namespace.
        pid: u32,
    },
    /// Sets what becomes of starts of programs; until this is said they are remembered only. Not answered. Since 1.4.
    ReportStarts {
        /// What becomes of them.
        starts: Starts,
    },
    /// Asks what a process runs that called exec. Answered with [`ToProxy::Start`]. Since 1.4.
    ReadStart {
        /// Comes back with the answer.
        token: u64,
        /// The process, in the sensor's process namespace.
        pid: u32,
        /// When it called exec, in ns since boot.
        began_boot_ns: u64,
        /// Whether the processes above it are read.
        lineage: Lineage,
    },
    /// Have the configuration files of MCP clients in the home directories of all accounts read, each by a process of its owner. Answered with
    /// a [`ToProxy::Home`] for each, one after the other, and [`ToProxy::Done`]. Since 1.4.
    ReadHomes {
        /// Comes back with each answer.
        token: u64,
        /// When that is done.
        homes: Homes,
    },
    /// Have those of them read again in which something changes, once it does, within seconds; all of them where none was read yet. Answered
    /// as [`ToSensor::ReadHomes`], and by its [`ToProxy::Done`] without a home where one of the two is asked for meanwhile. Since 1.5.
    ReadChangedHomes {
        /// Comes back with each answer.
        token: u64,
        /// When that is done.
        homes: Homes,
    },
    /// Asks at which addresses a process, and what it started, listens. Answered with [`ToProxy::ListensAt`]. Since 1.6.
    ReadListens {
        /// Comes back with the answer.
        token: u64,
        /// The process, in the sensor's process namespace.
        pid: u32,
        /// Its start time, in ns since boot: another process of that number is not read.
        started_boot_ns: u64,
    },
    /// As [`ToSensor::Resolve`], and the answer waits for no digest of a file that has to be read for it. Since 1.7.
    ResolveSoon {
        /// Comes back with the answer.
        token: u64,
        /// The process that connected, in the sensor's process namespace.
        pid: u32,
        /// The time at which it connected, in ns since boot.
        connected_boot_ns: u64,
        /// The time of its last exec by then, in ns since boot; 0 where the kernel half does not know.
        generation_boot_ns: u64,
    },
}

/// The token of the sensor's unsolicited messages. No request has it.
pub const UNASKED: u64 = 0;

/// A change of the scope map. Cgroups are named by id (`st_ino` of their folder), and a scope holds for all below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScopeChange {
    /// Adds a scope or changes it.
    Set {
        /// Id of the cgroup.
        cgroup: u64,
        /// The settings of the scope.
        settings: ScopeSettings,
    },
    /// Leaves the cgroup to the scope above it.
    Remove {
        /// Id of the cgroup.
        cgroup: u64,
    },
    /// Sets the settings where no scope matches.
    Default {
        /// The settings.
        settings: ScopeSettings,
    },
}

/// Scopes of `gnomon exec`, which the sensor makes, have numbers from here on; those that the proxy sets have lower ones. All of
/// them redirect.
pub const EXEC_SCOPES: u32 = 1 << 31;

/// The settings of a scope's connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeSettings {
    /// Number of the scope, as the proxy counts, below [`EXEC_SCOPES`].
    pub id: u32,
    /// Seen, sent through the proxy, or neither.
    pub mode: Mode,
    /// Destination ports that are redirected.
    pub ports: Ports,
    /// The treatment of QUIC.
    pub quic: Quic,
    /// The treatment of connections while the proxy does not answer.
    pub fail: Fail,
}

/// The mode of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Tags flows and touches nothing.
    Observe,
    /// Sends connections to the proxy.
    Redirect,
    /// Neither tags nor touches.
    Off,
}

/// Destination ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ports {
    /// Every one.
    All,
    /// Only these.
    Listed(List<u16, 16>),
}

/// QUIC, which the proxy does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Quic {
    /// Refused, so that clients fall back to TCP.
    Refuse,
    /// Passes unseen.
    Leave,
}

/// The treatment of a connection that should be redirected while no proxy answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fail {
    /// It goes direct, and is counted.
    Open,
    /// It is refused (`connect()` fails).
    Closed,
}

/// A message of the sensor to the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToProxy {
    /// The first message.
    Welcome {
        /// The sensor's protocol version.
        version: Version,
        /// The features of the kernel half here.
        features: List<Feature, 64>,
    },
    /// Follows the welcome. Descriptors: the ring buffer of events (read-only) and the map of the heartbeat.
    Maps {
        /// Size of the ring's data in bytes.
        ring_bytes: u32,
    },
    /// The answer to [`ToSensor::Resolve`] and [`ToSensor::ResolveSoon`].
    Process {
        /// The token of the question.
        token: u64,
        /// The identity found.
        found: IdentityAnswer,
    },
    /// The answer to [`ToSensor::ListenIn`], or, unasked, the listeners of a namespace that a program under
    /// `gnomon exec` is in. Descriptors: the listeners.
    Listeners {
        /// The token of the question, or [`UNASKED`]: then answered with [`ToSensor::Accepting`].
        token: u64,
        /// Namespace that they are in.
        netns_cookie: u64,
        /// Port on the loopback address, the same for both families.
        port: u16,
        /// The address families of the listeners.
        families: Families,
    },
    /// The change is in force.
    Done {
        /// The token of the request.
        token: u64,
    },
    /// The answer to [`ToSensor::Features`], or, unasked, the features that changed.
    Features {
        /// The token of the question, or [`UNASKED`].
        token: u64,
        /// The features of the kernel half here.
        features: List<Feature, 64>,
    },
    /// The answer to [`ToSensor::Counters`].
    Counters {
        /// The token of the question.
        token: u64,
        /// Program by program.
        programs: List<Program, 64>,
    },
    /// The request was understood and is not done.
    Refused {
        /// The token of the request.
        token: u64,
        /// The kind of reason.
        why: RefusalReason,
        /// The reason in words.
        detail: Name,
    },
    /// The answer to [`ToSensor::OpenSocket`] and [`ToSensor::OpenSocketAs`]. Descriptor: the socket. Since 1.1.
    Socket {
        /// The token of the request.
        token: u64,
        /// The family that was asked for.
        family: Family,
    },
    /// A scope of `gnomon exec` that an earlier sensor left, with programs in it. Unasked, after [`ToProxy::Maps`]. Since 1.3.
    ExecScope {
        /// Path of its cgroup.
        cgroup: Long,
        /// The result.
        adoption: Adoption,
    },
    /// The answer to [`ToSensor::ReadStart`]. Since 1.4.
    Start {
        /// The token of the question.
        token: u64,
        /// What was started.
        found: StartAnswer,
    },
    /// A home directory is being read. Descriptor: a pipe with what its reader says, which is the owner's word; it ends within 20 s. Since 1.4.
    Home {
        /// The token of the request.
        token: u64,
        /// The owner.
        uid: u32,
        /// The owner's name.
        name: Name,
        /// The directory.
        home: Long,
    },
    /// The answer to [`ToSensor::ReadListens`]. Since 1.6.
    ListensAt {
        /// The token of the question.
        token: u64,
        /// The addresses.
        found: ListensAnswer,
    },
}

/// The result of adopting a scope that an earlier sensor left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Adoption {
    /// The scope is in force again.
    Adopted,
    /// Its programs go direct, with the reason.
    Lost(Name),
}

/// The families of a namespace's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Families {
    /// IPv4, then IPv6.
    Both,
    /// The namespace has no IPv6.
    V4,
}

/// A feature of the kernel half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// Its name in metrics.
    pub name: Label,
    /// Its state.
    pub state: FeatureState,
    /// Why not, or empty.
    pub reason: Name,
}

/// The state of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FeatureState {
    /// In use.
    Ok,
    /// The kernel has no such thing.
    Unsupported,
    /// The kernel has it and refused it.
    Broken,
    /// Not needed here.
    NotApplicable,
}

/// Among [`ToProxy::Counters`] the name of no program: its counts are what the sensor took of one processor core when that was
/// last measured, in millionths.
pub const COST: &str = "cost";
/// Label of [`COST`]: the programs of the kernel half.
pub const COST_KERNEL: &str = "kernel";
/// Label of [`COST`]: the sensor's process.
pub const COST_PROCESS: &str = "process";

/// The counters of one program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name in metrics.
    pub name: Label,
    /// Outcome by outcome.
    pub counts: List<Count, 32>,
}

/// The count of one outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Its name in metrics.
    pub outcome: Label,
    /// Since the program was loaded.
    pub count: u64,
}

/// The reason that the sensor refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefusalReason {
    /// The cgroup, process or namespace does not exist any more.
    Gone,
    /// The process is in another namespace than the one named.
    OtherNamespace,
    /// The configuration of the sensor does not allow it.
    NotAllowed,
    /// A table is full.
    Full,
    /// This kernel does not support it.
    Unsupported,
    /// The kernel refused.
    Failed,
}

impl Message for ToSensor {
    const NAME: &'static str = "message to the sensor";
    const VARIANTS: u32 = 18;

    fn descriptors(&self) -> &'static [DescriptorKind] {
        &[]
    }
}

impl Message for ToProxy {
    const NAME: &'static str = "message to the proxy";
    const VARIANTS: u32 = 13;

    fn descriptors(&self) -> &'static [DescriptorKind] {
        match self {
            Self::Maps { .. } => &[DescriptorKind::Map, DescriptorKind::Map],
            Self::Listeners { families: Families::Both, .. } => {
                &[DescriptorKind::Listener(Family::V4), DescriptorKind::Listener(Family::V6)]
            }
            Self::Listeners { families: Families::V4, .. } => &[DescriptorKind::Listener(Family::V4)],
            Self::Home { .. } => &[DescriptorKind::Pipe],
            Self::Socket { family: Family::V4, .. } => &[DescriptorKind::Socket(Family::V4)],
            Self::Socket { family: Family::V6, .. } => &[DescriptorKind::Socket(Family::V6)],
            _ => &[],
        }
    }
}
