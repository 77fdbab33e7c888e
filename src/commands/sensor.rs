//! `gnomon sensor`: the privileged part of `gnomon run`, which starts it. Not for people.

use crate::supervise;
use anyhow::{Context, Result};
use clap::Args;
use gnomon_sensord::{Ended, ExecOptions, Options, serve};
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

/// Loading takes 20 MiB that the sensor never needs again, so its allocator is to give memory back at once. It reads
/// this when the process starts.
const FRUGAL: [(&str, &str); 2] = [("MIMALLOC_PURGE_DELAY", "0"), ("MIMALLOC_PAGE_FULL_RETAIN", "0")];

impl Sensor {
    pub fn run(self) -> Result<()> {
        if FRUGAL.iter().any(|(name, _)| env::var_os(name).is_none()) {
            let mut again = Command::new("/proc/self/exe");
            let error = again.arg0("gnomon").args(env::args_os().skip(1)).envs(FRUGAL).exec();
            return Err(error).context("starting again with a frugal allocator");
        }
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
