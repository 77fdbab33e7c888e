//! `cargo xtask quality`: how well MCP is told from what resembles it, over every corpus; or how well models get along with Code Mode.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::interop::install_node;
use crate::{cargo, pass_on, root, target_dir};

/// Options of the quality run.
#[derive(Args)]
pub struct Quality {
    /// Judge Code Mode instead: scripts in the habits of models, searches, and declarations before the TypeScript compiler
    #[arg(long)]
    codemode: bool,
    /// Further OpenAPI documents, in JSON, whose declarations the compiler reads
    #[arg(long, requires = "codemode", value_delimiter = ',')]
    documents: Vec<PathBuf>,
}

impl Quality {
    /// Runs the quality tests with their tables shown. The exit code is theirs.
    ///
    /// # Errors
    /// When cargo cannot be started, or the compiler cannot be installed.
    pub fn run(self) -> Result<ExitCode> {
        let mut tests = cargo();
        tests.current_dir(root()?).args(["test", "--release"]);
        if self.codemode {
            tests.env("GNOMON_TSC", install()?.join("node_modules/.bin/tsc"));
            let documents: Vec<PathBuf> =
                self.documents.iter().map(|path| path.canonicalize().with_context(|| path.display().to_string())).collect::<Result<_>>()?;
            tests.env("GNOMON_DOCUMENTS", env::join_paths(documents)?);
            tests.args([
                "--workspace",
                "--test",
                "behaviour",
                "--test",
                "questions",
                "--",
                "habits::",
                "a_natural_question",
                "--include-ignored",
            ]);
        } else {
            tests.args(["--test", "e2e", "--", "quality"]);
        }
        // One after the other, so that the tables do not interleave.
        tests.args(["--nocapture", "--test-threads=1"]);
        Ok(pass_on(tests.status().context("starting cargo test")?))
    }
}

/// Installs the TypeScript compiler that the lock file pins, below target/typescript.
///
/// # Errors
/// When npm is missing, or the registry does not answer.
pub fn install() -> Result<PathBuf> {
    let work = target_dir()?.join("typescript");
    install_node(&root()?.join("tests/typescript"), &work)?;
    Ok(work)
}
