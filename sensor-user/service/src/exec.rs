//! The socket of `gnomon exec`: it moves programs of any user into a scope of their own, below the cgroup they are in.
//!
//! The client's identity is read off the socket, never out of the message. The sensor moves the client, which gets no descriptor to move
//! itself with: with one, any process could be moved (see [`gnomon_link::ToExec::Joined`]).

pub(crate) mod adopt;
mod bundle;
mod client;
mod join;
mod reaper;
mod slots;

use std::collections::VecDeque;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::{Builder, Scope};
use std::time::Duration;

use gnomon_host::cgroup::{Cgroup, Hierarchy};
use gnomon_host::identity::BootTime;
use gnomon_link::{Access, GnomonEnd, Listener, SensorEnd};
use rustix::event::{PollFd, PollFlags, poll};

use crate::kernel::Kernel;
use crate::namespaces::Namespaces;
use crate::pulse::Pulse;
use crate::{ExecOptions, ServiceError, os};
use adopt::Adopted;
use join::Desk;
use slots::ScopeSlots;

/// The most refused connections that are held open.
const LINGERING: usize = 32;

/// The parts of the sensor that a join uses.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub kernel: &'a Kernel,
    pub link: &'a SensorEnd,
    pub namespaces: &'a Namespaces,
    pub hierarchy: &'a Hierarchy,
    /// The path of the cgroup below which connections are seen.
    pub below: &'a str,
    pub pulse: &'a Pulse,
}

/// The listening socket, before any client is served.
#[derive(Debug)]
pub(crate) struct Door {
    listener: Listener,
    options: ExecOptions,
}

/// An error of opening the socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorError {
    #[error("the socket needs a folder")]
    NoFolder,
    #[error("others can write to {0}: they could put another socket there; choose another folder")]
    Open(String),
    #[error("{0}: {1}")]
    Folder(String, io::Error),
    #[error(transparent)]
    Link(#[from] gnomon_link::LinkError),
}

impl Door {
    /// Creates the socket, and its folder.
    pub(crate) fn open(options: &ExecOptions) -> Result<Self, DoorError> {
        let folder = options.socket.parent().filter(|folder| !folder.as_os_str().is_empty()).ok_or(DoorError::NoFolder)?;
        check(folder)?;
        Ok(Self { listener: Listener::bind(&options.socket, Access::Everybody)?, options: options.clone() })
    }
}

impl Door {
    /// The socket at which programs join.
    pub(crate) fn socket(&self) -> &Path {
        &self.options.socket
    }
}

fn check(folder: &Path) -> Result<(), DoorError> {
    let failed = |error| DoorError::Folder(folder.display().to_string(), error);
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let found = fs::symlink_metadata(folder).map_err(failed)?;
    let ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    if ours && found.mode() & 0o022 == 0 { Ok(()) } else { Err(DoorError::Open(folder.display().to_string())) }
}

/// Starts to serve, until `ending` hangs up. What was `adopted` is taken up when `listens` says that the proxy has asked for
/// listeners.
pub(crate) fn start<'scope, 'env>(
    threads: &'scope Scope<'scope, 'env>,
    door: Door,
    around: Around<'env>,
    ending: OwnedFd,
    (adopted, listens): (Vec<Adopted>, Receiver<()>),
) -> Result<(), ServiceError> {
    let ending = Arc::new(ending);
    let reaper = reaper::start(threads, around.kernel, ending.clone())?;
    let places = ScopeSlots::new(door.options.scopes_per_user);
    let desk = Arc::new(Desk::new(door.options.clone(), around, reaper));
    if !adopted.is_empty() {
        let (desk, places) = (desk.clone(), places.clone());
        let body = move || {
            if listens.recv().is_ok() {
                desk.take_up(adopted, &places);
            }
        };
        Builder::new().name("exec-adopt".to_owned()).spawn_scoped(threads, body).map_err(os::<io::Error>("start a thread"))?;
    }
    let body = move || accept(threads, &door.listener, &desk, &places, &ending);
    Builder::new().name("exec".to_owned()).spawn_scoped(threads, body).map_err(os::<io::Error>("start a thread"))?;
    Ok(())
}

fn accept<'scope, 'env>(
    threads: &'scope Scope<'scope, 'env>,
    listener: &Listener,
    desk: &Arc<Desk<'env>>,
    places: &ScopeSlots,
    ending: &OwnedFd,
) {
    let mut refused = VecDeque::new();
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(ending, PollFlags::IN)];
        if poll(&mut fds, None).is_ok() && !fds[1].revents().is_empty() {
            return;
        }
        let channel: GnomonEnd = match listener.accept(Duration::ZERO) {
            Ok(channel) => channel,
            Err(gnomon_link::LinkError::TimedOut) => continue,
            Err(error) => {
                tracing::warn!("gnomon exec: {error}");
                // Most likely descriptors ran out: some are freed when a client hangs up.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let accepted = BootTime::now();
        let peer = match channel.peer() {
            Ok(peer) => peer,
            Err(error) => {
                desk.refuse(&channel, &join::JoinDenied::unknown(&error));
                linger(&mut refused, channel);
                continue;
            }
        };
        let Some(place) = places.take(peer.uid) else {
            desk.refuse(&channel, &join::JoinDenied::full());
            linger(&mut refused, channel);
            continue;
        };
        let at_desk = desk.clone();
        let body = move || at_desk.serve(&channel, peer, accepted, place);
        if let Err(error) = Builder::new().name("exec-join".to_owned()).spawn_scoped(threads, body) {
            tracing::warn!("gnomon exec: no thread can be started: {error}");
        }
    }
}

/// Keeps a refused client's socket open for a while: if it is closed before the client has sent its request, the client fails to send and
/// never reads the refusal.
fn linger(refused: &mut VecDeque<GnomonEnd>, channel: GnomonEnd) {
    if refused.len() == LINGERING {
        refused.pop_front();
    }
    refused.push_back(channel);
}

/// The ids of a cgroup and of those above it, innermost first, as far as they are accessible.
fn lineage<'a>(hierarchy: &'a Hierarchy, cgroup: &'a Cgroup) -> impl Iterator<Item = u64> + 'a {
    let paths = std::iter::successors(Some(cgroup.path()), |path| Some(path.rsplit_once('/')?.0).filter(|above| !above.is_empty()));
    paths.filter_map(|path| Some(hierarchy.at(path).ok()?.id().0))
}
