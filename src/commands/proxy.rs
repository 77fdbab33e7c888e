//! `gnomon proxy`: the inline proxy alone, for scripts and services. It prints where it is and then
//! stays silent; events go to the ledger and where `--events` says.

use anyhow::Result;
use clap::Args;
use gnomon_cli::options::ServeFlags;
use gnomon_serve::{self as serve, Narration};

#[derive(Args)]
pub struct Proxy {
    #[command(flatten)]
    serve: ServeFlags,
}

impl Proxy {
    pub fn run(self) -> Result<()> {
        let (config, state_dir) = self.serve.settle()?;
        serve::run(&self.serve, &config, &state_dir, Narration::Silent, serve::Parts::Everything(None))
    }
}
