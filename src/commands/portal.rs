//! `gnomon portal`: the sanctioned portal alone.

use crate::{options::ServeFlags, portals};
use anyhow::Result;
use clap::Args;

#[derive(Args)]
pub struct Portal {
    #[command(flatten)]
    serve: ServeFlags,
}

impl Portal {
    pub fn run(self) -> Result<()> {
        let switch = self.serve.switch();
        let (config, state_dir) = self.serve.settle()?;
        portals::run_alone(&config, &state_dir, switch)
    }
}
