//! `gnomon exec-host`: sees to the gnomon that `gnomon exec` starts for one program. Not for people.

use anyhow::Result;
use clap::Args;
use gnomon_exec::{self as exec, Host, Stage};
use std::{ffi::OsString, path::PathBuf};

#[derive(Args)]
pub struct ExecHost {
    /// Where its socket and its log are put
    #[arg(long)]
    folder: PathBuf,
    /// Started by the one that is not
    #[arg(long)]
    detached: bool,
    /// What gnomon is told
    #[arg(last = true)]
    own: Vec<OsString>,
}

impl ExecHost {
    pub fn run(self) -> Result<()> {
        let stage = if self.detached { Stage::Detached } else { Stage::Starting };
        exec::host(&Host { folder: self.folder, own: self.own, stage })
    }
}
