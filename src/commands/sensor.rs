//! `gnomon sensor`: the privileged part of `gnomon run`, which starts it. Not for people.

use crate::supervise;
use anyhow::{Context, Result};
use clap::Args;
use gnomon_sensord::{Attached, Ended, ExecOptions, Options, serve};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    low_level::pipe,
};
use std::{
    env,
    os::{
        fd::AsFd as _,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::PathBuf,
    process::Command,
};

#[derive(Args)]
pub struct Sensor {
    /// The cgroup below which connections are seen [default: all]
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// The cgroup of gnomon's own processes
    #[arg(long)]
    own_cgroup: PathBuf,
    /// Where `gnomon exec` joins
    #[arg(long, requires = "authority")]
    exec_socket: Option<PathBuf>,
    /// Our certificate authority, PEM
    #[arg(long)]
    authority: Option<PathBuf>,
    /// The process that started this one
    #[arg(long)]
    parent: u32,
}

/// The sensor's allocator is to give memory back at once. It reads this when the process starts.
const FRUGAL: [(&str, &str); 2] = [("MIMALLOC_PURGE_DELAY", "0"), ("MIMALLOC_PAGE_FULL_RETAIN", "0")];

impl Sensor {
    pub fn run(self) -> Result<()> {
        let Ok(handed) = env::var(Attached::VARIABLE) else { return self.attach() };
        let attached = Attached::take_over(&handed).context("there is no sensor")?;
        let link = supervise::sensor_end(self.parent)?;
        let (stop, signalled) = UnixStream::pair().context("making a pipe for signals")?;
        for signal in [SIGTERM, SIGINT] {
            pipe::register(signal, signalled.try_clone()?).context("listening for signals")?;
        }
        match serve(&link, attached, &self.options(), stop.as_fd()).context("there is no sensor")? {
            Ended::ProxyGone | Ended::Asked => Ok(()),
        }
    }

    /// Attaches, and goes on as a process that never loaded anything, in a third of the memory.
    fn attach(&self) -> Result<()> {
        let attached = Attached::attach(&self.options()).context("there is no sensor")?;
        let handed = attached.hand_over().context("there is no sensor")?;
        let mut again = Command::new("/proc/self/exe");
        let error = again.arg0("gnomon").args(env::args_os().skip(1)).envs(FRUGAL).env(Attached::VARIABLE, handed).exec();
        Err(error).context("starting again without what loading took")
    }

    fn options(&self) -> Options {
        let exec = self.exec_socket.clone().zip(self.authority.clone());
        Options {
            cgroup: self.cgroup.clone(),
            exec: exec.map(|(socket, authority)| ExecOptions::new(socket, authority)),
            ..Options::new(&self.own_cgroup)
        }
    }
}
