//! What a process runs that has just called exec, as the sensor read it: enough to tell whether it is of interest.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::bounds::{List, Long, Name};

/// What becomes of starts of programs in the kernel half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Starts {
    /// When each process last called exec is remembered, and nothing is reported.
    Remembered,
    /// Each is in the ring as well.
    Reported,
}

/// Whether the processes above one are read as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lineage {
    /// They are left.
    Left,
    /// They are read.
    Read,
}

/// What was started, or the reason that it is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartAnswer {
    /// The process runs it still.
    Program(Box<Started>),
    /// The process has ended.
    Gone,
    /// The process has called exec again.
    Stale,
    /// The system would not say, for this reason.
    Unreadable(Name),
}

/// At which addresses a process listens, or the reason that it is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListensAnswer {
    /// The TCP addresses at which it or a process below it listens, each once; none if at none.
    At(List<SocketAddr, 32>),
    /// The process has ended.
    Gone,
    /// The system would not say, for this reason.
    Unreadable(Name),
}

/// A program that was started. What was longer than its bound is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The start time of the process, in ns since boot.
    pub started_boot_ns: u64,
    /// The program's file; `None` for threads of the kernel and where it could not be read.
    pub executable: Option<Long>,
    /// Its arguments.
    pub arguments: Arguments,
    /// Its parent, the parent of that, and so on, where they were asked for.
    pub parents: List<Parent, 8>,
}

/// A process above another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its number.
    pub pid: u32,
    /// Its start time, in ns since boot.
    pub started_boot_ns: u64,
    /// Its program's file; `None` for threads of the kernel and where it could not be read.
    pub executable: Option<Name>,
    /// The beginning of its arguments, with a NUL between them; empty where they could not be read.
    pub arguments: Name,
}

/// Arguments with a NUL between them, by the process's own word, without what looks like a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arguments {
    /// All of them.
    Whole(Long),
    /// Their beginning.
    Cut(Long),
    /// They could not be read.
    Unreadable,
}

impl Arguments {
    /// The arguments that were read.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let text = match self {
            Self::Whole(text) | Self::Cut(text) => text.as_str(),
            Self::Unreadable => "",
        };
        text.split('\0')
    }
}
