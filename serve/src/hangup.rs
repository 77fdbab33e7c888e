//! SIGHUP, with who sent it: what a reload changes is to name them.
//!
//! A handler of signals is not told by whom they are; a descriptor for them is (`signalfd`). For that the signal is held by every
//! thread. Programs that are started have it let through again, as the standard library does for all of them.

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

/// Has this thread, and those that it starts from now on, hold the signal. One that comes meanwhile waits until it is read.
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
    // It may have ended by now, or be somebody's who does not show it.
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| path.display().to_string());
    By::Signal { pid, uid, program }
}
