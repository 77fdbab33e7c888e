//! `gnomon run`: watch this host, with one line for each detection. As root that is three processes, of which one has the
//! kernel half (see `supervise`); otherwise it is the inline proxy, which sees the programs that use it.

use super::narrated::NarrationFlags;
use anyhow::Result;
use clap::Args;
use gnomon_cli::options::ServeFlags;
use gnomon_serve::{self as serve, Sensors};
use gnomon_supervise::{self as supervise, Plan, SensorCoverage, Serving};
use std::{env, path::PathBuf, process};

/// The socket on which `gnomon exec` looks for a running gnomon.
pub const EXEC_SOCKET: &str = "/run/gnomon/exec.sock";

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    serve: ServeFlags,
    #[command(flatten)]
    narration: NarrationFlags,
    /// Which connections the kernel half sees: `host` (all), `off`, or those below the cgroup with this folder; needs root [default: host]
    #[arg(long, env = "GNOMON_SENSOR", hide_env_values = true, value_name = "WHERE", value_parser = str::parse::<SensorCoverage>)]
    sensor: Option<SensorCoverage>,
    /// The socket where `gnomon exec` joins; its folder must be root's alone
    #[arg(long, value_name = "PATH", default_value = EXEC_SOCKET)]
    exec_socket: PathBuf,
    /// Start no sensor, and use the one that listens on this socket as a service of its own
    #[arg(long, value_name = "PATH", conflicts_with_all = ["sensor", "serving"])]
    sensor_socket: Option<PathBuf>,
    /// Said by the supervisor to the process that serves.
    #[arg(long, hide = true, value_parser = str::parse::<Serving>)]
    serving: Option<Serving>,
}

impl Run {
    pub fn run(self) -> Result<()> {
        let sensors = match &self.serving {
            Some(serving) => serving.take_up()?.map(Sensors::Handed),
            None if self.sensor_socket.is_some() => self.sensor_socket.clone().map(Sensors::Listening),
            None if supervise::can_drop() => return self.supervise(),
            None => None,
        };
        let (config, state_dir) = self.serve.settle()?;
        serve::run(&self.serve, &config, &state_dir, self.narration.narration(), serve::Parts::Everything(sensors))
    }

    fn supervise(self) -> Result<()> {
        self.sensor.iter().try_for_each(SensorCoverage::check)?;
        let environment = self.serve.settled_environment()?;
        let switch = self.serve.switch();
        let (config, state_dir) = self.serve.settle()?;
        let max_cpu = config.sensor.max_cpu_percent;
        let arguments = env::args_os().skip(1).collect();
        let (sensor, exec_socket) = (self.sensor.unwrap_or_default(), self.exec_socket);
        let plan = Plan { arguments, environment, state_dir, sensor, exec_socket, max_cpu, switch };
        match supervise::run(&plan)? {
            0 => Ok(()),
            // The part has said why.
            code => {
                gnomon_log::flush();
                process::exit(code.into())
            }
        }
    }
}
