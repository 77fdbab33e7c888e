//! `gnomon run`: watch this host, with one line for each detection. Today that is the inline proxy;
//! the half in the kernel, which will see programs that do not use the proxy, is not built yet.

use crate::{
    options::{Format, FormatFlag, ServeFlags},
    serve::{self, Narration},
};
use anyhow::Result;
use clap::Args;

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    serve: ServeFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Run {
    pub fn run(self) -> Result<()> {
        let (config, state_dir) = self.serve.settle()?;
        let narration = match self.format.format() {
            Format::Text => Narration::Lines,
            Format::Json => Narration::Json,
        };
        serve::run(&config, &state_dir, narration)
    }
}
