//! SIGHUP, with who sent it: what a reload changes is to name them.
//!
//! A signal handler does not learn the sender of a signal; a descriptor (`signalfd`) does. For that every thread blocks the signal.
//! Programs that are started have it unblocked again, as the standard library does for all of them.

use crate::changes::By;
use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use std::io;
use tokio::io::{Interest, unix::AsyncFd};

fn set() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGHUP);
    set
}

/// Blocks the signal in this thread, and in those that it starts from now on. One that arrives meanwhile stays pending until it is read.
///
/// # Errors
/// The system refuses.
pub fn hold() -> io::Result<()> {
    Ok(set().thread_block()?)
}

/// The signals that come.
pub struct Hangup(AsyncFd<SignalFd>);

impl Hangup {
    /// Once they are [held](hold).
    ///
    /// # Errors
    /// The system has no descriptor for it.
    pub fn new() -> io::Result<Self> {
        let signals = SignalFd::with_flags(&set(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        #[expect(deprecated, reason = "what takes its place is unsafe, for descriptors that are closed meanwhile; this one is not")]
        Ok(Self(AsyncFd::with_interest(signals, Interest::READABLE)?))
    }

    /// The next one: who sent it. May be dropped while it waits.
    pub async fn next(&mut self) -> By {
        loop {
            let Ok(mut ready) = self.0.readable().await else { return std::future::pending().await };
            match ready.get_inner().read_signal() {
                Ok(Some(sent)) => return by(sent.ssi_pid, sent.ssi_uid),
                Ok(None) | Err(Errno::EINTR) => ready.clear_ready(),
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

fn by(pid: u32, uid: u32) -> By {
    // The process may have ended by now, or belong to a user whose programs are hidden.
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| path.display().to_string());
    By::Signal { pid, uid, program }
}
