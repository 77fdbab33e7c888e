//! `gnomon demo`: what gnomon does, shown on a server and an agent of its own.

use anyhow::Result;
use clap::Args;
use gnomon_cli::{line::word, runtime, when};
use gnomon_demo::{self as demo, Afterwards, Road};
use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::SystemTime,
};

#[derive(Args)]
pub struct Demo {
    /// Leave the last gnomon running, with its metrics, until interrupted
    #[arg(long)]
    stay: bool,
    /// Run without the kernel half, as without root: the agent is given the proxy variables
    #[arg(long)]
    proxy_env: bool,
    /// Play nothing; fill this new state folder with a made-up week (and the week before) of five people and eight servers
    #[arg(long, value_name = "DIR", conflicts_with_all = ["stay", "proxy_env"])]
    week: Option<PathBuf>,
    /// The last day of that week: a moment, or 7d ago [default: today]
    #[arg(long, value_name = "WHEN", value_parser = when::parse, requires = "week")]
    until: Option<SystemTime>,
    /// Be the agent, and call the sample server here.
    #[arg(long, hide = true, value_name = "ADDR", conflicts_with_all = ["stay", "proxy_env", "week"])]
    agent: Option<SocketAddr>,
}

impl Demo {
    pub fn run(self) -> Result<()> {
        if let Some(state) = &self.week {
            return week(state, self.until.unwrap_or_else(SystemTime::now));
        }
        match self.agent {
            Some(server) => demo::agent(server),
            None => {
                let road = if rustix::process::geteuid().is_root() && !self.proxy_env { Road::Kernel } else { Road::Variables };
                demo::run(road, if self.stay { Afterwards::Stay } else { Afterwards::Remove })
            }
        }
    }
}

fn week(state: &Path, until: SystemTime) -> Result<()> {
    runtime()?.block_on(demo::week(state, until))?;
    let at = word(&state.display().to_string());
    writeln!(
        io::stdout(),
        "A made-up week is in {0}; nothing of it was seen. Look at it with\n\
        gnomon report --state-dir {at} --html week.html\n\
        gnomon inventory --state-dir {at}\n\
        gnomon events --state-dir {at} --incidents --since 7d",
        state.display()
    )?;
    Ok(())
}
