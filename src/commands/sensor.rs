//! `gnomon sensor`: the privileged part of `gnomon run`, which starts it. Not for people.

use crate::supervise;
use anyhow::{Context, Result};
use clap::Args;
use gnomon_sensord::{Ended, ExecOptions, Options, serve};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    low_level::pipe,
};
use std::{os::fd::AsFd as _, os::unix::net::UnixStream, path::PathBuf};

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

impl Sensor {
    pub fn run(self) -> Result<()> {
        let link = supervise::sensor_end(self.parent)?;
        let (stop, signalled) = UnixStream::pair().context("making a pipe for signals")?;
        for signal in [SIGTERM, SIGINT] {
            pipe::register(signal, signalled.try_clone()?).context("listening for signals")?;
        }
        let options = Options {
            cgroup: self.cgroup,
            exec: self.exec_socket.zip(self.authority).map(|(socket, authority)| ExecOptions::new(socket, authority)),
            ..Options::new(self.own_cgroup)
        };
        match serve(&link, &options, stop.as_fd()).context("there is no sensor")? {
            Ended::ProxyGone | Ended::Asked => Ok(()),
        }
    }
}
