//! `gnomon demo`: what gnomon does, shown on a server and an agent of its own.

use crate::demo::{self, Afterwards};
use anyhow::Result;
use clap::Args;
use std::net::SocketAddr;

#[derive(Args)]
pub struct Demo {
    /// Leave the last gnomon running, with its metrics, until interrupted
    #[arg(long)]
    stay: bool,
    /// Be the agent, and call the sample server here.
    #[arg(long, hide = true, value_name = "ADDR", conflicts_with = "stay")]
    agent: Option<SocketAddr>,
}

impl Demo {
    pub fn run(self) -> Result<()> {
        match self.agent {
            Some(server) => demo::agent(server),
            None => demo::run(if self.stay { Afterwards::Stay } else { Afterwards::Remove }),
        }
    }
}
