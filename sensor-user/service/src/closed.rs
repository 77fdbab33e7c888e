//! Scopes that fail closed, kept from one sensor to the next.
//!
//! A sensor that stays for such scopes while nobody serves can be killed, and the one that takes its place when somebody serves
//! again is told of scopes only then. So each begins with what the one before it kept closed, and a sensor that stays goes only
//! when its successor refuses in its stead. What the proxy does not ask for within [`LAPSES`] is let go.
//!
//! It is memory of the process that starts the sensors, which they inherit: nothing of it outlives that process, and nobody else
//! can write it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use gnomon_sensor::Scope;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::kernel::Kernel;
use crate::scopes::Teeth;
use crate::{HOLDS, Options, ServiceError, os};

/// The time within which the proxy, once welcomed, must claim the scopes that were kept closed.
pub(crate) const LAPSES: Duration = Duration::from_secs(10);
/// The time within which a sensor that stayed must end.
const GOES_WITHIN: Duration = Duration::from_secs(3);
/// Most bytes of the memory: the kernel half takes 4,096 scopes.
const MOST: u64 = 1 << 20;

/// Memory for the scopes that fail closed.
#[derive(Debug)]
pub struct Closed(File);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    /// The process that keeps them so.
    holder: u32,
    /// It does so beside one that serves, which could not attach what refuses.
    is_needed: bool,
    scopes: Vec<(u64, Scope)>,
}

impl Closed {
    /// The environment variable that tells a sensor the number of the memory.
    pub const VARIABLE: &str = "GNOMON_FAILS_CLOSED";
    const NAME: &str = "gnomon-fails-closed";

    /// For the process that starts sensors: inherited by all programs that are started from now on.
    ///
    /// # Errors
    /// A system call failed.
    pub fn new() -> Result<Self, ServiceError> {
        let memory = memfd_create(Self::NAME, MemfdFlags::empty()).map_err(os("make a memory file"))?;
        Ok(Self(memory.into()))
    }

    /// The value of [`Self::VARIABLE`] for a sensor.
    #[must_use]
    pub fn number(&self) -> String {
        self.0.as_raw_fd().to_string()
    }

    /// For a sensor, with the value of [`Self::VARIABLE`].
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
        // What cannot be shortened is closed once more, for some seconds.
        let _ = self.0.set_len(0);
    }

    /// True if the sensor that stayed goes on doing so beside its successor, which cannot refuse in its stead.
    #[must_use]
    pub fn is_held_beside(&self) -> bool {
        self.read().is_needed
    }

    /// Keeps these closed in this process, unless another one does so beside it.
    pub(crate) fn keep(&self, scopes: Vec<(u64, Scope)>) -> Result<(), ServiceError> {
        match self.is_held_beside() {
            true => Ok(()),
            false => self.write(&Note { holder: std::process::id(), is_needed: false, scopes }),
        }
    }

    fn write(&self, note: &Note) -> Result<(), ServiceError> {
        let note = postcard::to_allocvec(note);
        let note = note.map_err(|error| os("write down what is kept closed")(io::Error::other(error)))?;
        self.0.set_len(0).and_then(|()| self.0.write_all_at(&note, 0)).map_err(os("write down what is kept closed"))
    }

    fn read(&self) -> Note {
        let length = self.0.metadata().map_or(0, |found| found.len().min(MOST));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = self.0.read_exact_at(&mut bytes, 0).map(|()| postcard::from_bytes(&bytes));
        read.ok().and_then(Result::ok).unwrap_or_default()
    }
}

/// Puts in force what the sensor before this one kept closed, unless gnomon is disarmed.
pub(crate) fn take_over(kernel: &Kernel, options: &Options) {
    let Some(closed) = &options.closed else { return };
    let Note { scopes, .. } = closed.read();
    if scopes.is_empty() {
        return;
    }
    let disarmed = options.switch.look().is_ok_and(|arming| !arming.is_armed());
    let turned = if disarmed { kernel.turn(Teeth::Drawn) } else { Ok(()) };
    if let Err(error) = turned.and_then(|()| kernel.inherit(&scopes)) {
        tracing::error!("scopes that fail closed are open until the serving half asks for them: {error}");
    }
}

/// Ends the sensor that stayed, as what it refuses is refused by this one now. One that cannot be ended is left to whoever
/// started it; where this one cannot refuse, that one stays.
pub(crate) fn relieve(kernel: &Kernel, options: &Options) {
    let Some(closed) = &options.closed else { return };
    let note = closed.read();
    let holder = note.holder;
    if holder == 0 {
        return;
    }
    let is_needed = !kernel.refuses() && is_sibling_that_holds(holder);
    if is_needed != note.is_needed
        && let Err(error) = closed.write(&Note { is_needed, ..note })
    {
        tracing::warn!("{error}");
    }
    if is_needed {
        tracing::error!("scopes that fail closed are kept so by the sensor before this one, which refuses all their connections");
        return;
    }
    let Some(pid) = i32::try_from(holder).ok().and_then(Pid::from_raw) else { return };
    // The number may be another's since: it is whom we took over from, and our sibling, after it is held fast.
    let Some(process) = pidfd_open(pid, PidfdFlags::empty()).ok().filter(|_| is_sibling_that_holds(holder)) else { return };
    for signal in [Signal::TERM, Signal::KILL] {
        let wait = Timespec::try_from(GOES_WITHIN).ok();
        let sent = pidfd_send_signal(&process, signal);
        if sent.is_ok() && poll(&mut [PollFd::new(&process, PollFlags::IN)], wait.as_ref()).is_ok_and(|ended| ended > 0) {
            return;
        }
    }
}

fn is_sibling_that_holds(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let parent = getppid().map(|parent| parent.as_raw_nonzero().to_string());
    field("Name:") == HOLDS.to_str().ok() && parent.is_some() && field("PPid:").map(ToOwned::to_owned) == parent
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
