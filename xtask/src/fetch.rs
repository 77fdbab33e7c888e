//! `cargo xtask fetch`: downloads ahead of time what other chores download when they start, so that downloads run beside computation.
//!
//! Every chore downloads what is missing by itself; this calls the same functions.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::kernels::{self, Kernel};
use crate::{interop, package, quality, readme};

/// Options of fetching.
#[derive(Args)]
pub struct Fetch {
    /// Kernels, as `cargo xtask kernels --only` calls them
    #[arg(long, value_delimiter = ',', value_parser = kernels::named)]
    kernels: Vec<Kernel>,
    /// Debian's releases to test the package on
    #[arg(long, value_delimiter = ',')]
    debian: Vec<String>,
}

impl Fetch {
    /// # Errors
    /// A registry or mirror does not answer, or a tool is missing.
    pub fn run(self) -> Result<ExitCode> {
        interop::install()?;
        quality::install()?;
        package::fetch(&self.debian)?;
        readme::fetch()?;
        kernels::fetch(&self.kernels)?;
        Ok(ExitCode::SUCCESS)
    }
}
