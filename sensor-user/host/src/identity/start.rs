//! What a process runs that has just called exec: enough to tell whether it is of interest, without a digest and without names.
//!
//! It costs a fraction of an identity, as most programs that start on a host are of none.

use std::path::PathBuf;

use rustix::io::Errno;

use super::ancestry;
use super::executable;
use super::held::errno;
use super::resolver::refused;
use super::stat::Stat;
use super::{BootTime, CommandLine, Generation, Held, Resolver};

/// The answer to what was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAnswer {
    /// The process is still there and still runs what was started.
    Known(Box<Started>),
    /// The process has ended. Its number may belong to another by now; that one was not read.
    Gone,
    /// The process has called exec again.
    Stale,
    /// The system refused to say, for a reason that is not the process's end.
    Unreadable(&'static str),
}

/// What was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The time of the process's creation, rounded down to a clock tick (10 ms).
    pub started_at: BootTime,
    /// The program's file; `None` for the kernel's threads and where it is not permitted.
    pub executable: Option<PathBuf>,
    /// The arguments, by the process's own word.
    pub arguments: CommandLine,
    /// The processes above, where they were asked for.
    pub parents: Vec<Parent>,
}

/// A process above another, and what it was started as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its number.
    pub pid: u32,
    /// The time of its creation.
    pub started_at: BootTime,
    /// Its program's file.
    pub executable: Option<PathBuf>,
    /// Its arguments.
    pub arguments: CommandLine,
}

/// Whether the processes above are read as well, which costs as much again for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lineage {
    /// They are left.
    Left,
    /// They are read.
    Read,
}

impl Resolver {
    /// What the process with this number runs since `began`, when it called exec.
    pub fn started(&self, pid: u32, began: BootTime, lineage: Lineage) -> StartAnswer {
        self.read_started(pid, began, lineage).unwrap_or_else(|error| match refused(error) {
            None => StartAnswer::Gone,
            Some(why) => StartAnswer::Unreadable(why),
        })
    }

    fn read_started(&self, pid: u32, began: BootTime, lineage: Lineage) -> Result<StartAnswer, Errno> {
        let held = Held::open(pid)?;
        let before = Stat::read(&held).map_err(|error| errno(&error))?;
        if before.started_at > began || before.is_dead() {
            return Ok(StartAnswer::Gone);
        }
        let executable = executable::path(&held);
        let arguments = self.command_line(&held);
        let parents = match lineage {
            Lineage::Left => Vec::new(),
            Lineage::Read => ancestry::above(&held, before).into_iter().map(|above| self.parent(&above)).collect(),
        };
        // Read last, so that a change during the reads is noticed.
        let after = Stat::read(&held).map_err(|error| errno(&error))?;
        if after.is_dead() {
            return Ok(StartAnswer::Gone);
        }
        if after.image != before.image || self.exec_evidence(pid, began, Generation(began.0)).is_none() {
            return Ok(StartAnswer::Stale);
        }
        Ok(StartAnswer::Known(Box::new(Started { started_at: before.started_at, executable, arguments, parents })))
    }

    fn parent(&self, above: &ancestry::Above) -> Parent {
        Parent {
            pid: above.pid,
            started_at: above.stat.started_at,
            executable: executable::path(&above.held),
            arguments: self.command_line(&above.held),
        }
    }
}
