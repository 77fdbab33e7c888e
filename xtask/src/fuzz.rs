//! Every fuzz target for a bounded time, from its committed seeds. A crash fails.

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs;

#[derive(Args)]
pub struct Fuzz {
    /// Seconds per target
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// The seed of the search: the same seed searches the same way, so that CI finds what a change broke and not what chance finds; 0
    /// searches differently each time
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Only these targets
    targets: Vec<String>,
}

impl Fuzz {
    pub fn run(&self) -> Result<std::process::ExitCode> {
        let fuzz = crate::root()?.join("fuzz");
        let mut targets = self.targets.clone();
        if targets.is_empty() {
            for entry in fs::read_dir(fuzz.join("fuzz_targets")).context("fuzz/fuzz_targets")? {
                let path = entry?.path();
                if path.extension().is_some_and(|e| e == "rs") {
                    targets.extend(path.file_stem().and_then(|s| s.to_str()).map(str::to_owned));
                }
            }
            targets.sort();
        }
        ensure!(!targets.is_empty(), "no fuzz targets found");
        for target in &targets {
            println!("fuzzing {target} for {} s", self.seconds);
            let corpus = fuzz.join("corpus").join(target);
            fs::create_dir_all(&corpus)?;
            let mut command = crate::cargo();
            command
                .current_dir(crate::root()?)
                .env("RUSTC_BOOTSTRAP", "1")
                .args(["fuzz", "run", "--fuzz-dir", "fuzz", target])
                .arg(&corpus);
            let seeds = fuzz.join("seeds").join(target);
            if seeds.is_dir() {
                command.arg(seeds);
            }
            command.args(["--", "-rss_limit_mb=2048", "-timeout=10", "-verbosity=0"]);
            command.args([format!("-max_total_time={}", self.seconds), format!("-seed={}", self.seed)]);
            crate::run(&mut command)?;
        }
        println!("{} targets, nothing found", targets.len());
        Ok(std::process::ExitCode::SUCCESS)
    }
}
