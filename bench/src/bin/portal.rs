//! `portal`: what the portal adds to a tool call, beside nginx as a plain hop and two peers, in one interleaved run.
//!
//! Ratios to nginx of the same run are what the goals are about; milliseconds are this machine's.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use gnomon_bench::contender::free_port;
use gnomon_bench::measure;
use gnomon_bench::portal::{Calls, Contender, Era, Kind, Programs, call_blocks, cold_start, sessions, start_upstream, throughput};

const MANY_UPSTREAMS: usize = 10;
const ABANDONED: usize = 10_000;
/// How long after the first list a contender is idle.
const IDLE_AFTER: Duration = Duration::from_secs(4);

#[derive(Parser)]
struct Options {
    #[arg(long)]
    gnomon: PathBuf,
    /// Blocks of calls for each contender
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Calls in a block
    #[arg(long, default_value_t = 1000)]
    calls: usize,
    /// Length of a closed-loop load, seconds
    #[arg(long, default_value_t = 2.0)]
    secs: f64,
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    #[arg(long, default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    #[arg(long, default_value = "mcp-proxy")]
    mcp_proxy: PathBuf,
    /// A python that has fastmcp
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let beside = std::env::current_exe()?.parent().context("no folder")?.to_owned();
    let programs = Programs {
        gnomon: options.gnomon.clone(),
        upstream: beside.join("portal_upstream"),
        nginx: options.nginx.clone(),
        mcp_proxy: options.mcp_proxy.clone(),
        python: options.python.clone(),
    };
    let dir = tempfile::tempdir()?;
    let ports = (0..MANY_UPSTREAMS).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
    let _upstream = start_upstream(&programs.upstream, &ports, dir.path())?;
    println!("{}", measure::machine());
    let _awake = measure::Awake::keep();

    let mut ring = Vec::new();
    for kind in [Kind::Direct, Kind::Nginx, Kind::McpProxy, Kind::Fastmcp, Kind::Gnomon, Kind::GnomonDurable] {
        if options.only.is_empty() || options.only.contains(&kind) {
            match Contender::enter(kind, &programs, &ports[..1], dir.path()) {
                Ok(one) => ring.push(one),
                // A peer that is not installed is left out aloud; gnomon and the hop it is measured by have to be there.
                Err(error) if matches!(kind, Kind::McpProxy | Kind::Fastmcp) => println!("left out: {error:#}"),
                Err(error) => return Err(error),
            }
        }
    }
    let mut goals = Goals { ring: &ring, failed: 0 };

    let mut idle = Vec::new();
    for one in &ring {
        one.client(Era::Stateful)?.list()?;
    }
    // Idle is what does nothing, and not what has just started.
    thread::sleep(IDLE_AFTER);
    for one in &ring {
        idle.push(one.resident_kib()? / 1024.0);
    }
    let [small, stateless] = call_blocks(&ring, [Era::Stateful, Era::Stateless], 32, options.rounds, options.calls)?;
    table("one caller, 32 bytes", &ring, &small);
    table("one caller, 32 bytes, 2026-07-28", &ring, &stateless);
    let [large] = call_blocks(&ring, [Era::Stateful], 64 << 10, options.rounds, options.calls / 4)?;
    table("one caller, 64 KiB each way", &ring, &large);

    println!("\n## 16 callers\n\n| contender | calls/s | CPU ms/call |\n|---|---|---|");
    let mut rates = vec![Vec::new(); ring.len()];
    for round in 0..3 {
        for turn in 0..ring.len() {
            let at = (turn + round) % ring.len();
            rates[at].push(throughput(&ring[at], 16, Duration::from_secs_f64(options.secs))?);
        }
    }
    let rates: Vec<(f64, f64)> = rates.into_iter().map(|samples| (middle(&samples, |one| one.0), middle(&samples, |one| one.1))).collect();
    for (one, (rate, cpu)) in ring.iter().zip(&rates) {
        println!("| {} | {rate:.0} | {cpu:.3} |", one.kind.label());
    }

    println!("\n## Memory\n\n| contender | idle MiB | KiB for each of 1000 more sessions | CPU ms/session |\n|---|---|---|---|");
    let mut grown = vec![0.0; ring.len()];
    for (at, one) in ring.iter().enumerate().filter(|(_, one)| !matches!(one.kind, Kind::Direct | Kind::Nginx | Kind::Fastmcp)) {
        sessions(one, 1000)?;
        let warm = sessions(one, 1000)?;
        grown[at] = (warm.after - warm.before) / 1000.0;
        println!("| {} | {:.1} | {:.2} | {:.3} |", one.kind.label(), idle[at], grown[at], warm.cpu);
    }

    goals.at_most("added p50, times nginx's", 2.5, |at, hop| {
        (small[at]?.p50 - small[0]?.p50).checked_ratio(small[hop]?.p50 - small[0]?.p50)
    });
    goals.at_most("CPU per call, times nginx's", 2.5, |at, hop| small[at]?.cpu.checked_ratio(small[hop]?.cpu));
    goals.at_most("CPU per call of 64 KiB, times nginx's", 2.0, |at, hop| large[at]?.cpu.checked_ratio(large[hop]?.cpu));
    goals.at_least("throughput of 16 callers, times nginx's", 0.45, |at, hop| rates[at].0.checked_ratio(rates[hop].0));
    // Its requests are longer, which takes its time without a portal, too.
    let longer = |at: usize| stateless[at]?.p50.checked_ratio(small[at]?.p50);
    for (at, one) in ring.iter().enumerate() {
        if let Some(ratio) = longer(at) {
            println!("p50 stateless, times stateful, of {}: {ratio:.2}", one.kind.label());
        }
    }
    goals.at_most("p50 stateless, times stateful", 1.05, |at, _| longer(at));
    goals.at_most("idle, MiB", 26.0, |at, _| Some(idle[at]));
    goals.at_most("each closed session, KiB", 4.0, |at, _| Some(grown[at]));
    if let Some(one) = ring.iter().find(|one| one.kind == Kind::Gnomon) {
        let start = || cold_start(Kind::Gnomon, &programs, &ports, &dir.path().join("start"));
        // Ledger, audit and key are made once in the life of a host.
        println!("\nstart to the first list of ten upstreams, with nothing there yet: {:.1} ms", start()?);
        let mut starts = (0..7).map(|_| start()).collect::<Result<Vec<_>>>()?;
        starts.sort_unstable_by(f64::total_cmp);
        goals.at_most("start to the first list of ten upstreams, ms", 20.0, |_, _| Some(starts[3]));
        let left = sessions(one, ABANDONED)?;
        println!("10,000 abandoned sessions: {:.1} to {:.1} MiB", left.before / 1024.0, left.after / 1024.0);
        goals.at_most("resident after 10,000 abandoned sessions, times before", 1.05, |_, _| Some(left.after / left.before));
    }
    Ok(if goals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(title: &str, ring: &[Contender], calls: &[Option<Calls>]) {
    println!("\n## {title}\n\n| contender | p50 ms | p99 | added p50 | added p99 | CPU ms/call |\n|---|---|---|---|---|---|");
    let direct = calls.first().copied().flatten().unwrap_or_default();
    for (one, calls) in ring.iter().zip(calls) {
        let Some(Calls { p50, p99, cpu }) = *calls else { continue };
        println!("| {} | {p50:.3} | {p99:.3} | {:+.3} | {:+.3} | {cpu:.3} |", one.kind.label(), p50 - direct.p50, p99 - direct.p99);
    }
}

fn middle(samples: &[(f64, f64)], of: impl Fn(&(f64, f64)) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

trait Ratio {
    /// Nothing where there is nothing to compare with.
    fn checked_ratio(self, other: f64) -> Option<f64>;
}

impl Ratio for f64 {
    fn checked_ratio(self, other: f64) -> Option<f64> {
        (other > 0.0).then(|| self / other)
    }
}

struct Goals<'a> {
    ring: &'a [Contender],
    failed: usize,
}

impl Goals<'_> {
    fn at_most(&mut self, what: &str, bound: f64, measured: impl Fn(usize, usize) -> Option<f64>) {
        self.judge(what, "at most", bound, measured, |value| value <= bound);
    }

    fn at_least(&mut self, what: &str, bound: f64, measured: impl Fn(usize, usize) -> Option<f64>) {
        self.judge(what, "at least", bound, measured, |value| value >= bound);
    }

    fn judge(&mut self, what: &str, word: &str, bound: f64, measured: impl Fn(usize, usize) -> Option<f64>, holds: impl Fn(f64) -> bool) {
        let at = |kind| self.ring.iter().position(|one| one.kind == kind);
        let Some(gnomon) = at(Kind::Gnomon) else { return };
        let Some(value) = measured(gnomon, at(Kind::Nginx).unwrap_or(gnomon)) else {
            return println!("SKIP {what}: nothing to compare with");
        };
        let verdict = if holds(value) { "PASS" } else { "FAIL" };
        self.failed += usize::from(verdict == "FAIL");
        println!("{verdict} {what}: {value:.2} ({word} {bound})");
    }
}
