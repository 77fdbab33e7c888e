//! `gnomon proxy`: the inline proxy alone, in one process, for scripts and services. It prints where it is, and detections as `gnomon run`
//! does; events go to the ledger and where `--events` says.

use super::narrated::NarrationFlags;
use anyhow::Result;
use clap::Args;
use gnomon_cli::options::ServeFlags;
use gnomon_serve as serve;

#[derive(Args)]
pub struct Proxy {
    #[command(flatten)]
    serve: ServeFlags,
    #[command(flatten)]
    narration: NarrationFlags,
}

impl Proxy {
    pub fn run(self) -> Result<()> {
        let (config, state_dir) = self.serve.settle()?;
        serve::run(&self.serve, &config, &state_dir, self.narration.narration(), serve::Parts::Everything(None))
    }
}
