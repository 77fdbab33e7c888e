//! Options of the watch, and its errors.

use std::io;
use std::time::Duration;

use gnomon_link::Starts;

/// Bounds of the watch.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// Most flows that are known at a time, about 300 bytes each: as many as the kernel half tracks by default. Beyond
    /// it a process that has an eighth of them, else the user who has most, loses its oldest, which is counted.
    pub flows: usize,
    /// Most ClientHellos that are put together at a time, at most 16 KiB each.
    pub hellos: usize,
    /// Most flows that wait to be judged until it is known who they are.
    pub waiting: usize,
    /// Most processes that are remembered, at most 16 KiB each and mostly one.
    pub identities: usize,
    /// How long an accepted connection waits until it is known who made it. Mostly that is known before, or
    /// takes below a millisecond; only the first connection of a program that was never seen before waits longer where its digest is asked
    /// for: agents come as one file of 300 MB, which takes a fifth of a second, or ten times that
    /// from a slow or busy disk. So it is longer than the sensor's timeout, or an agent's first calls would have no owner.
    /// Then the connection goes on, and what is known of it says `late`.
    pub identity_wait: Duration,
    /// The same for a watched flow; no client waits meanwhile.
    pub patience: Duration,
    /// The port of the explicit proxy, which the kernel half is given, so that it records the owners of no
    /// more connections than the proxy asks for. 0: of all.
    pub explicit_port: u16,
    /// Our own process, whose flows are never reported. `None` where its number in the first process
    /// namespace, by which the kernel half tells processes, is not known.
    pub own_pid: Option<u32>,
    /// Numbers of scopes that send connections to the proxy, as the caller of [`crate::Watch::scope`] counts: what goes direct from
    /// there, by its port say, goes around it. Those of `gnomon exec` all do.
    pub redirecting: Vec<u32>,
    /// Numbers of scopes whose connections are read and never refused, as the caller of [`crate::Watch::scope`] counts.
    pub shadowed: Vec<u32>,
    /// Whether starts of programs are reported, and looked at for local MCP servers.
    pub starts: Starts,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            flows: 1 << 16,
            hellos: 1024,
            waiting: 4096,
            identities: 4096,
            identity_wait: Duration::from_millis(2500),
            patience: Duration::from_secs(3),
            explicit_port: 0,
            own_pid: own_pid(),
            redirecting: Vec::new(),
            shadowed: Vec::new(),
            starts: Starts::Reported,
        }
    }
}

/// Our number in the first process namespace, if that is the one we are in: its inode is a constant of the kernel
/// (`PROC_PID_INIT_INO`).
fn own_pid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    const FIRST: u64 = 0xEFFF_FFFC;
    let namespace = std::fs::metadata("/proc/self/ns/pid").ok()?;
    (namespace.ino() == FIRST).then(std::process::id)
}

/// An error of the watch.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The sensor does not answer as it should.
    #[error("the sensor does not answer: {0}")]
    Link(#[from] gnomon_link::LinkError),
    /// The sensor did not answer in time.
    #[error("the sensor did not answer within {0:?}")]
    Silent(Duration),
    /// The sensor is gone.
    #[error("the sensor is gone")]
    Gone,
    /// The sensor refuses.
    #[error("the sensor refuses: {0}")]
    Refused(String),
    /// A map of the kernel half cannot be used.
    #[error("cannot map the {what}: {source}")]
    Map {
        /// The map.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The proxy does not take a listener.
    #[error("the proxy takes no listener: {0}")]
    Listener(#[from] gnomon_intercept::AddListenerError),
    /// The metrics cannot be registered: they already are.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}
