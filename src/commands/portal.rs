//! `gnomon portal`: the sanctioned portal alone. It prints where it is, and detections as `gnomon run` does.

use super::narrated::NarrationFlags;
use anyhow::Result;
use clap::Args;
use gnomon_cli::{Complaint, options::ServeFlags};
use gnomon_serve::{self as serve, Parts};

#[derive(Args)]
pub struct Portal {
    #[command(flatten)]
    serve: ServeFlags,
    #[command(flatten)]
    narration: NarrationFlags,
}

impl Portal {
    pub fn run(self) -> Result<()> {
        let (config, state_dir) = self.serve.settle()?;
        if config.portals.is_empty() {
            return Err(Complaint::input("the configuration names no portal")
                .next("list at least one under `portals`; docs/portal.md begins with the smallest")
                .into());
        }
        serve::run(&self.serve, &config, &state_dir, self.narration.narration(), Parts::Portals)
    }
}
