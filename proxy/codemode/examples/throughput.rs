//! How many programs a second, and how long the smallest takes: `throughput PROGRAM [ARGUMENT …]`, where the program is a zygote
//! (`gnomon sandbox-zygote`). Prints one line for each measurement; nothing is warmed but the zygote.

use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use gnomon_codemode::{Asked, CallFailure, Host, Limits, Names, Program, Raw, Sandbox, SandboxConfig, ScriptOutcome};

/// Answers at once.
struct Echo;

impl Host for Echo {
    async fn call(&self, _asked: Asked<'_>, arguments: &Raw) -> Result<Box<Raw>, CallFailure> {
        Ok(arguments.to_owned())
    }
}

const TRIVIAL: &str = "async () => 1 + 1";
const TYPED: &str = "const a: number = 1;\na + 1";
const CALLS: &str = "async () => { for (let i = 0; i < 50; i++) await codemode.echo({ i }); return 2 }";
const ROUNDS: usize = 500;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or("which zygote?")?;
    let before = Instant::now();
    let mut config = SandboxConfig::new(program, arguments);
    config.queue = ROUNDS;
    let sandbox = Sandbox::start(config).await?;
    println!("start: {:?}; {:?}", before.elapsed(), sandbox.layers().await);
    for (name, code) in [("trivial", TRIVIAL), ("statements and types", TYPED), ("50 calls one after the other", CALLS)] {
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            times.push(once(&sandbox, code).await?);
        }
        times.sort();
        println!("{name}: min {:?}, p50 {:?}, p99 {:?} (one at a time)", times[0], times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
    }
    let before = Instant::now();
    let mut all: FuturesUnordered<_> = (0..ROUNDS).map(|_| once(&sandbox, TRIVIAL)).collect();
    while let Some(done) = all.next().await {
        done?;
    }
    println!("trivial: {:.0} a second (16 at a time)", ROUNDS as f64 / before.elapsed().as_secs_f64());
    Ok(())
}

async fn once(sandbox: &Sandbox, code: &str) -> Result<Duration, Box<dyn std::error::Error>> {
    let before = Instant::now();
    let execution = sandbox.execute(Program { code, names: &Names::new(["echo"]) }, &Limits::default(), &Echo).await?;
    match execution.outcome {
        ScriptOutcome::Value(value) if value.get() == "2" => Ok(before.elapsed()),
        other => Err(format!("{code}: {other:?}").into()),
    }
}
