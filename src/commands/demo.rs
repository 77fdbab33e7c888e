//! `gnomon demo`: what gnomon does, shown on a server and an agent of its own.

use anyhow::Result;
use clap::Args;
use gnomon_demo::{self as demo, Afterwards, Road};
use std::net::SocketAddr;

#[derive(Args)]
pub struct Demo {
    /// Leave the last gnomon running, with its metrics, until interrupted
    #[arg(long)]
    stay: bool,
    /// Run without the kernel half, as without root: the agent is given the proxy variables
    #[arg(long)]
    proxy_env: bool,
    /// Be the agent, and call the sample server here.
    #[arg(long, hide = true, value_name = "ADDR", conflicts_with_all = ["stay", "proxy_env"])]
    agent: Option<SocketAddr>,
}

impl Demo {
    pub fn run(self) -> Result<()> {
        match self.agent {
            Some(server) => demo::agent(server),
            None => {
                let road = if rustix::process::geteuid().is_root() && !self.proxy_env { Road::Kernel } else { Road::Variables };
                demo::run(road, if self.stay { Afterwards::Stay } else { Afterwards::Remove })
            }
        }
    }
}
