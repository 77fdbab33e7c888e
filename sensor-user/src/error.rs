//! Errors of system calls and of the eBPF object.

use std::io;
use std::path::PathBuf;

/// An error of the kernel half. What is merely missing in a kernel is a [`crate::Status`] instead.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// The object could not be loaded: mostly a missing capability (`CAP_BPF`, `CAP_NET_ADMIN`, `CAP_PERFMON`).
    #[error("loading the kernel half: {0}")]
    Load(#[from] Box<aya::EbpfError>),
    /// A map refused a value.
    #[error("map {name}: {source}")]
    Map {
        /// The map.
        name: &'static str,
        /// The kernel's error.
        source: aya::maps::MapError,
    },
    /// The object has no such map: it is not the one that this program was built for.
    #[error("the object has no map {0}")]
    NoMap(&'static str),
    /// A program was handed over that this build does not know: it is not the one that loaded.
    #[error("the kernel half has no program number {0}")]
    NoProgram(usize),
    /// A cgroup's folder could not be opened.
    #[error("cgroup {}: {source}", path.display())]
    Cgroup {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The ring buffer's size is not a power of two of at least a page.
    #[error("{0} bytes: a ring buffer's size is a power of two, and at least a page")]
    RingSize(u32),
    /// Another call to the system failed.
    #[error("{what}: {source}")]
    System {
        /// The action that failed.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl From<aya::EbpfError> for SensorError {
    fn from(error: aya::EbpfError) -> Self {
        Self::Load(Box::new(error))
    }
}
