//! One worker's process as its parent sees it: two sockets and a descriptor to kill it by.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net;
use std::time::Duration;

use rustix::process::{Pid, Signal, pidfd_send_signal};
use tokio::io::Interest;
use tokio::net::{UnixDatagram, UnixStream};
use tokio::time::timeout;

use super::sockets::when;
use crate::zygote::{MAX_CONTROL, Report};
use crate::{pair, sys};

/// The timeout of a zygote's fork, and of the kernel for a killed process: long, for an overloaded machine.
const SOON: Duration = Duration::from_secs(5);

/// The timeout for a worker that reported its end to exit.
const TO_END: Duration = Duration::from_millis(200);

/// The reason that there is no worker.
#[derive(Debug)]
pub enum NoWorker {
    /// The zygote does not answer.
    Dead,
    /// The zygote cannot fork, or we cannot make sockets.
    Fork(io::Error),
}

impl From<io::Error> for NoWorker {
    fn from(error: io::Error) -> Self {
        Self::Fork(error)
    }
}

impl From<rustix::io::Errno> for NoWorker {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Fork(error.into())
    }
}

/// A process. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    pub socket: UnixStream,
    process: Process,
}

/// The half that kills and tells of the end.
#[derive(Debug)]
pub struct Process {
    reports: UnixDatagram,
    pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Exited by itself, with this status.
    Exited(i32),
    /// Killed by this signal.
    Killed(i32),
    /// Not known: the zygote has died too.
    Unknown,
}

impl Worker {
    pub async fn begin(socket: OwnedFd, reports: UnixDatagram) -> Result<Self, NoWorker> {
        let (report, descriptor) = timeout(SOON, next(&reports)).await.ok().flatten().ok_or(NoWorker::Dead)?;
        let pidfd = match (report, descriptor) {
            (Report::Forked, Some(pidfd)) => pidfd,
            (Report::Failed(error), _) => return Err(NoWorker::Fork(io::Error::from_raw_os_error(error))),
            _ => return Err(NoWorker::Dead),
        };
        let process = Process { reports, pidfd };
        let socket = net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixStream::from_std(socket)?, process })
    }

    pub fn split(self) -> (UnixStream, Process) {
        (self.socket, self.process)
    }
}

impl Process {
    /// Kills it, whatever it is doing.
    pub fn kill(&self) {
        // If this process may not signal that user, the zygote kills it when the report socket closes.
        let _ = pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
    }

    /// The processor time that it has taken so far; none where it cannot be told.
    pub fn spent(&self) -> Option<Duration> {
        let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.pidfd.as_raw_fd())).ok()?;
        let pid = told.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
        sys::spent(Pid::from_raw(pid).filter(|_| pid > 0)?)
    }

    /// Waits for the exit of a worker that has nothing more to do; it is killed after a timeout.
    pub async fn end(self) -> Ended {
        match timeout(TO_END, self.ended()).await {
            Ok(ended) => ended,
            Err(_) => {
                self.kill();
                timeout(SOON, self.ended()).await.unwrap_or(Ended::Unknown)
            }
        }
    }

    async fn ended(&self) -> Ended {
        match next(&self.reports).await {
            Some((Report::Exited(status), _)) => Ended::Exited(status),
            Some((Report::Killed(signal), _)) => Ended::Killed(signal),
            _ => Ended::Unknown,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The next report; `None` if there will be none.
async fn next(reports: &UnixDatagram) -> Option<(Report, Option<OwnedFd>)> {
    let mut bytes = [0; MAX_CONTROL];
    let (length, descriptors) = when(reports, Interest::READABLE, || pair::receive(reports.as_fd(), &mut bytes)).await.ok()?;
    let report = postcard::from_bytes(&bytes[..length]).ok()?;
    Some((report, descriptors.into_iter().next()))
}
