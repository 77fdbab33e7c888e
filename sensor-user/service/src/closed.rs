//! Keeps scopes that fail closed, from one sensor process to the next.
//!
//! A sensor that stays for such scopes while no proxy is connected can be killed, and its successor learns of scopes only from the next
//! proxy. So each sensor begins with the scopes that its predecessor kept closed, and one that stays exits only when its successor refuses
//! in its stead. Scopes that the proxy does not claim within [`LAPSES`] are released.
//!
//! The list is in memory of the process that starts the sensors, which they inherit: it ends with that process, and no other can write it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use gnomon_sensor::Scope;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::{ServiceError, os};

/// The time within which the proxy, once welcomed, must claim the scopes that were kept closed.
pub(crate) const LAPSES: Duration = Duration::from_secs(10);
/// The most bytes of the record: the kernel half has room for 4,096 scopes.
const MOST: u64 = 1 << 20;

/// Memory for the scopes that fail closed.
#[derive(Debug)]
pub struct Closed(File);

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The process that keeps the scopes closed.
    pub(crate) holder: u32,
    /// True if it does so beside a serving sensor that could not attach the refusing programs.
    pub(crate) is_needed: bool,
    pub(crate) scopes: Vec<(u64, Scope)>,
}

impl Closed {
    /// The environment variable that holds the descriptor number of the record.
    pub const VARIABLE: &str = "GNOMON_FAILS_CLOSED";
    const NAME: &str = "gnomon-fails-closed";

    /// For the process that starts sensors. All programs started from now on inherit it.
    ///
    /// # Errors
    /// A system call failed.
    pub fn new() -> Result<Self, ServiceError> {
        let memory = memfd_create(Self::NAME, MemfdFlags::empty()).map_err(os("make a memory file"))?;
        Ok(Self(memory.into()))
    }

    /// The value of [`Self::VARIABLE`].
    #[must_use]
    pub fn number(&self) -> String {
        self.0.as_raw_fd().to_string()
    }

    /// For a sensor, from the value of [`Self::VARIABLE`].
    ///
    /// # Errors
    /// The value is not that of a [`Closed::number`] of the process that started this one.
    pub fn take_up(value: &str) -> Result<Self, ServiceError> {
        let wrong = || os("find the memory file")(io::Error::new(io::ErrorKind::InvalidData, value.to_owned()));
        let number: u32 = value.parse().map_err(|_| wrong())?;
        let path = format!("/proc/self/fd/{number}");
        let target = std::fs::read_link(&path).map_err(os("find the memory file"))?;
        if !target.to_string_lossy().starts_with(&format!("/memfd:{}", Self::NAME)) {
            return Err(wrong());
        }
        File::options().read(true).write(true).open(path).map(Self).map_err(os("open the memory file"))
    }

    /// True if scopes are to be kept closed.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.read().scopes.is_empty()
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        // A list that cannot be truncated only keeps its scopes closed for some seconds more.
        let _ = self.0.set_len(0);
    }

    /// True if a sensor that stayed keeps doing so beside its successor, which cannot refuse in its place.
    #[must_use]
    pub fn is_held_beside(&self) -> bool {
        self.read().is_needed
    }

    /// Records that this process keeps these scopes closed, unless another one does so beside it.
    pub(crate) fn keep(&self, scopes: Vec<(u64, Scope)>) -> Result<(), ServiceError> {
        match self.is_held_beside() {
            true => Ok(()),
            false => self.write(&Note { holder: std::process::id(), is_needed: false, scopes }),
        }
    }

    pub(crate) fn write(&self, note: &Note) -> Result<(), ServiceError> {
        let note = postcard::to_allocvec(note);
        let note = note.map_err(|error| os("write down what is kept closed")(io::Error::other(error)))?;
        self.0.set_len(0).and_then(|()| self.0.write_all_at(&note, 0)).map_err(os("write down what is kept closed"))
    }

    pub(crate) fn read(&self) -> Note {
        let length = self.0.metadata().map_or(0, |found| found.len().min(MOST));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = self.0.read_exact_at(&mut bytes, 0).map(|()| postcard::from_bytes(&bytes));
        read.ok().and_then(Result::ok).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_sensor::{Fail, Mode, Ports, Quic, Redirect};

    #[test]
    fn what_one_sensor_kept_closed_the_next_one_reads_until_it_is_cleared() {
        let closed = Closed::new().unwrap();
        assert!(!closed.is_wanted());
        let mode =
            Mode::Redirect(Redirect { ports: Ports::Listed([443, 80][..].try_into().unwrap()), quic: Quic::Refuse, fail: Fail::Closed });
        closed.keep(vec![(7, Scope { id: 3, mode }), (8, Scope { id: 4, mode })]).unwrap();
        closed.keep(vec![(7, Scope { id: 3, mode })]).unwrap();
        let next = Closed::take_up(&closed.number()).unwrap();
        assert_eq!(next.read().scopes, [(7, Scope { id: 3, mode })]);
        assert_eq!(next.read().holder, std::process::id());
        next.clear();
        assert!(!closed.is_wanted());
        for value in ["", "x", "-1", "0", "1048576"] {
            assert!(Closed::take_up(value).is_err(), "{value}");
        }
    }
}
