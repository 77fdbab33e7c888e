//! What `gnomon run`, `gnomon proxy` and `gnomon portal` print while they serve.

use clap::Args;
use gnomon_cli::options::{Format, FormatFlag};
use gnomon_serve::Narration;

#[derive(Args)]
pub struct NarrationFlags {
    #[command(flatten)]
    format: FormatFlag,
    /// Print no detections; they are in the ledger all the same
    #[arg(long, conflicts_with = "json")]
    quiet: bool,
}

impl NarrationFlags {
    pub fn narration(&self) -> Narration {
        match self.format.format() {
            _ if self.quiet => Narration::Silent,
            Format::Text => Narration::Lines,
            Format::Json => Narration::Json,
        }
    }
}
