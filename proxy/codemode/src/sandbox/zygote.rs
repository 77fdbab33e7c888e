//! The zygote as its parent sees it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net;
use std::process::Stdio;
use std::time::Duration;

use rustix::net::SocketType;
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::sockets::when;
use super::worker::{NoWorker, Worker};
use super::{SandboxConfig, StartError};
use crate::layers::Layers;
use crate::limits::Limits;
use crate::pair;
use crate::zygote::{Greeting, MAX_CONTROL, Order};

/// The timeout for a zygote to confine itself: three forks and some fifty system calls.
const READY: Duration = Duration::from_secs(10);

/// A zygote that was ready.
#[derive(Debug)]
pub struct Zygote {
    // Closing it ends the process; that it is killed as well is for one that hangs.
    control: UnixDatagram,
    process: Child,
    layers: Layers,
}

impl Zygote {
    pub async fn start(config: &SandboxConfig) -> Result<Self, StartError> {
        let (ours, theirs) = pair::pair(SocketType::SEQPACKET).map_err(|error| StartError::Spawn(error.into()))?;
        let mut command = Command::new(&config.program);
        // A zone by its rule, not by its name, so that no file is looked for.
        command.args(&config.arguments).env_clear().env("TZ", "UTC0").envs(config.environment.iter().cloned()).current_dir("/");
        command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        // A process group of its own, so that ^C at a terminal does not end it before its users.
        command.process_group(0);
        let process = command.spawn().map_err(StartError::Spawn)?;
        // The command keeps the socket's other end, which must be the zygote's alone for its death to be seen.
        drop(command);
        let control = watch(ours).map_err(StartError::Spawn)?;
        let mut bytes = [0; MAX_CONTROL];
        let said = timeout(READY, when(&control, Interest::READABLE, || pair::receive(control.as_fd(), &mut bytes))).await;
        let length = match said {
            Ok(Ok((length, _))) if length > 0 => length,
            Ok(_) => return Err(StartError::Ended),
            Err(_) => return Err(StartError::Silent),
        };
        match postcard::from_bytes(&bytes[..length]) {
            Ok(Greeting::Ready(layers)) => Ok(Self { control, process, layers }),
            Ok(Greeting::Failed(why)) => Err(StartError::Refused(why)),
            Err(_) => Err(StartError::Ended),
        }
    }

    pub fn layers(&self) -> Layers {
        self.layers
    }

    pub fn process(&self) -> Option<u32> {
        self.process.id()
    }

    /// A new worker, which waits for its program.
    pub async fn fork(&self, limits: &Limits) -> Result<Worker, NoWorker> {
        let (socket, worker_socket) = pair::pair(SocketType::STREAM)?;
        let (reports, zygote_reports) = pair::pair(SocketType::SEQPACKET)?;
        // One second of grace: this bound is for a worker that was broken into.
        let order = Order { heap: limits.heap as u64, cpu_seconds: limits.sandbox_time.as_secs() + 2 };
        let bytes = postcard::to_extend(&order, Vec::new()).map_err(io::Error::other)?;
        let descriptors = [worker_socket.as_fd(), zygote_reports.as_fd()];
        when(&self.control, Interest::WRITABLE, || pair::send(self.control.as_fd(), &bytes, &descriptors))
            .await
            .map_err(|_| NoWorker::Dead)?;
        drop((worker_socket, zygote_reports));
        Worker::begin(socket, watch(reports)?).await
    }
}

/// A socket of packets for tokio, which has no type for it and only ever watches this one.
fn watch(socket: OwnedFd) -> io::Result<UnixDatagram> {
    let socket = net::UnixDatagram::from(socket);
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}
