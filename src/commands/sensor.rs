//! `gnomon sensor`: the privileged part of gnomon. Either `gnomon run` starts it and hands it its end of a link, or it is a
//! service of its own that serving processes connect to, and starts such a sensor for each. Not for people.

use anyhow::{Context, Result};
use clap::Args;
use gnomon_cli::{
    Complaint,
    options::{ConfigFlag, SwitchFlag},
};
use gnomon_config::Config;
use gnomon_host::cgroup::Hierarchy;
use gnomon_sensord::{Alive, Attached, Closed, CostBound, Ended, ExecOptions, HomeReader, Options, Peer, ServiceSocket, serve};
use gnomon_supervise::{self as supervise, service};
use nix::unistd::User;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    low_level::pipe,
};
use std::{
    env,
    ffi::OsString,
    os::{
        fd::AsFd as _,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

#[derive(Args)]
pub struct Sensor {
    /// The cgroup below which connections are seen [default: all]
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// The cgroup of gnomon's own processes; a name without a slash is one at the top of the hierarchy, such as a slice
    #[arg(long)]
    own_cgroup: PathBuf,
    /// Where `gnomon exec` joins
    #[arg(long, requires = "authority")]
    exec_socket: Option<PathBuf>,
    /// Our certificate authority, PEM
    #[arg(long)]
    authority: Option<PathBuf>,
    /// What may be taken of the processor, in percent of one core [default: sensor.max_cpu_percent of the configuration, of which nothing else is read]
    #[arg(long, value_name = "PERCENT")]
    max_cpu: Option<f64>,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    switch: SwitchFlag,
    /// The process that started this one, and handed it its link as standard input
    #[arg(long, required_unless_present = "listen", conflicts_with = "listen")]
    parent: Option<u32>,
    /// Listen there for serving processes instead
    #[arg(long, value_name = "PATH", requires = "peer")]
    listen: Option<PathBuf>,
    /// The user as whom the serving process runs
    #[arg(long, value_name = "USER")]
    peer: Option<String>,
}

/// The sensor's allocator is to give memory back at once, and take none in huge pages. It reads this when the process starts.
const FRUGAL: [(&str, &str); 3] = [("MIMALLOC_PURGE_DELAY", "0"), ("MIMALLOC_PAGE_FULL_RETAIN", "0"), ("MIMALLOC_ALLOW_THP", "0")];

/// The program that runs now, wherever it is and whatever replaced it.
const THIS_PROGRAM: &str = "/proc/self/exe";

impl Sensor {
    pub fn run(self) -> Result<()> {
        match (self.parent, &self.listen, &self.peer) {
            (Some(parent), _, _) => match env::var(Attached::VARIABLE) {
                Ok(handed) => self.serve(parent, &handed),
                Err(_) => self.attach(),
            },
            (None, Some(socket), Some(peer)) => self.stand(socket, peer),
            _ => Err(Complaint::usage("either --parent, or --listen with --peer").into()),
        }
    }

    fn serve(&self, parent: u32, handed: &str) -> Result<()> {
        let attached = Attached::take_over(handed).context("there is no sensor")?;
        let link = supervise::sensor_end(parent)?;
        match serve(&link, attached, &self.options()?, stop()?.as_fd()).context("there is no sensor")? {
            Ended::ProxyGone | Ended::Asked => Ok(()),
        }
    }

    /// Attaches, and goes on as a process that never loaded anything, in a third of the memory.
    fn attach(&self) -> Result<()> {
        let attached = Attached::attach(&self.options()?).context("there is no sensor")?;
        let handed = attached.hand_over().context("there is no sensor")?;
        let mut again = Command::new("/proc/self/exe");
        let error = again.arg0("gnomon").args(env::args_os().skip(1)).envs(FRUGAL).env(Attached::VARIABLE, handed).exec();
        Err(error).context("restarting to release the memory that loading needed")
    }

    /// A sensor for each serving process that connects, and none while there is none.
    fn stand(&self, socket: &Path, peer: &str) -> Result<()> {
        let found = User::from_name(peer).ok().flatten();
        let uid = found.ok_or_else(|| Complaint::usage(format!("there is no user `{peer}`")))?.uid.as_raw();
        let (options, stop) = (self.options()?, stop()?);
        let standing = ServiceSocket::listen(socket, &options.own_cgroup, Peer { uid }).context("the sensor cannot listen")?;
        let mut sensors = supervise::Sensors::new()?;
        gnomon_log::write_apart().context("starting a thread")?;
        service::ready();
        let mut arguments: Vec<OsString> = vec!["sensor".into(), "--own-cgroup".into(), options.own_cgroup.into()];
        arguments.extend(options.cgroup.into_iter().flat_map(|cgroup| ["--cgroup".into(), cgroup.into()]));
        if let Some(exec) = options.exec {
            arguments.extend(["--exec-socket".into(), exec.socket.into(), "--authority".into(), exec.authority.into()]);
        }
        arguments.extend(["--disarm-file".into(), options.switch.path().into()]);
        let fixed = arguments.len();
        while let Some(link) = standing.next(stop.as_fd(), options.alive).context("cannot wait for the serving process")? {
            // As the configuration stands now, which is when the serving half has read it.
            arguments.truncate(fixed);
            arguments.extend(["--max-cpu".into(), self.max_cpu().to_string().into()]);
            sensors.keep_one(&arguments, link, stop.as_fd(), || standing.is_waited_for())?;
        }
        Ok(())
    }

    /// A configuration that is wrong stops the serving half, which says why, and not the sensor.
    fn max_cpu(&self) -> f64 {
        self.max_cpu.unwrap_or_else(|| self.config.load().unwrap_or_else(|_| Config::default()).sensor.max_cpu_percent.into())
    }

    fn options(&self) -> Result<Options> {
        let own = if self.own_cgroup.components().count() == 1 && self.own_cgroup.is_relative() {
            Hierarchy::find()?.mount().join(&self.own_cgroup)
        } else {
            self.own_cgroup.clone()
        };
        self.cgroup.iter().try_for_each(|folder| supervise::check_folder("--cgroup", folder))?;
        let exec = self.exec_socket.clone().zip(self.authority.clone());
        Ok(Options {
            cgroup: self.cgroup.clone(),
            exec: exec.map(|(socket, authority)| ExecOptions::new(socket, authority)),
            homes: Some(HomeReader { program: THIS_PROGRAM.into(), arguments: ["local", "home"].map(str::to_owned).to_vec() }),
            switch: self.switch.switch(),
            cost: CostBound { percent: self.max_cpu.unwrap_or(CostBound::DEFAULT.percent), ..CostBound::DEFAULT },
            closed: env::var(Closed::VARIABLE).ok().map(|number| Closed::take_up(&number)).transpose()?.map(Arc::new),
            alive: service::watchdog().map(|every| Alive { every, tell: service::alive }),
            ..Options::new(own)
        })
    }
}

/// Can be read when a signal asks to stop.
fn stop() -> Result<UnixStream> {
    let (stop, signalled) = UnixStream::pair().context("making a pipe for signals")?;
    for signal in [SIGTERM, SIGINT] {
        pipe::register(signal, signalled.try_clone()?).context("listening for signals")?;
    }
    Ok(stop)
}
