//! `codemode`: what a script costs through the portal, and what hostile ones cost their neighbours.
//!
//! The bounds are absolute, so run it on a machine that has nothing else to do. Direct calls of the same run stand beside.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gnomon_bench::contender::free_port;
use gnomon_bench::measure;
use gnomon_bench::portal::{Client, Contender, Era, Kind, Programs, start_upstream};

const EXECUTE: &str = "portal_codemode_execute";
const SEARCH: &str = "portal_codemode_search";
const TRIVIAL: &str = "async () => 1 + 1";
/// What the configuration gives a script, ms.
const SANDBOX_MS: f64 = 1000.0;
/// Servers of 20 tools each.
const SERVERS: usize = 125;
const CHAIN: u32 = 10;
const STEP: Duration = Duration::from_millis(20);
/// Loops that no engine interrupts by itself, but for the first.
const LOOPS: &[(&str, &str)] = &[
    ("while (true)", "async () => { while (true) {} }"),
    ("sparse sort", "async () => { const a = []; a.length = 2**32 - 1; a[2**32 - 2] = 1; a.sort(); }"),
    ("sparse join", "async () => { const a = []; a.length = 2**32 - 1; return a.join(''); }"),
    ("huge reverse", "async () => { Array.prototype.reverse.call({ length: 2**53 - 1 }); }"),
];

/// Computes for some time, and ends.
const LONG: &str = "async () => { let sum = 0; for (let n = 0; n < 1e6; n++) sum += n; return 'done'; }";

#[derive(Parser)]
struct Options {
    #[arg(long)]
    gnomon: PathBuf,
    /// Executions of one caller
    #[arg(long, default_value_t = 1000)]
    runs: usize,
    /// Length of a closed-loop load, seconds
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
    /// How often callers alone and callers beside hostile ones take turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let beside = std::env::current_exe()?.parent().context("no folder")?.to_owned();
    let dir = tempfile::tempdir()?;
    // Of so many free ports some come twice.
    let mut free = std::collections::BTreeSet::new();
    while free.len() < SERVERS {
        free.insert(free_port()?);
    }
    let ports: Vec<u16> = free.into_iter().collect();
    let programs = Programs {
        gnomon: options.gnomon.clone(),
        upstream: beside.join("portal_upstream"),
        nginx: PathBuf::new(),
        mcp_proxy: PathBuf::new(),
        python: PathBuf::new(),
    };
    let _upstream = start_upstream(&programs.upstream, &ports, dir.path())?;
    let portal = Contender::enter(Kind::Gnomon, &programs, &ports, dir.path())?;
    println!("{}\n{} servers, {} tools\n", measure::machine(), SERVERS, SERVERS * 20);
    let mut goals = Goals(0);
    let mut coder = portal.coder()?;
    warm(&mut coder)?;

    let mut direct = portal.client(Era::Stateless)?;
    let (mut calls, mut scripts) = (Vec::new(), Vec::new());
    for _ in 0..options.runs {
        calls.push(timed(|| direct.call(portal.tool(), "x"))?);
        scripts.push(timed(|| expect(&mut coder, EXECUTE, TRIVIAL, "2"))?);
    }
    println!(
        "one caller: a direct call {:.2} ms, a trivial script {:.2} ms p50, {:.2} p99",
        at(&mut calls, 0.5),
        at(&mut scripts, 0.5),
        at(&mut scripts, 0.99)
    );
    goals.at_most("trivial script, p50 ms", 5.0, at(&mut scripts, 0.5));

    let mut found: Vec<f64> = Vec::new();
    for _ in 0..options.runs / 10 {
        let code = "async () => (await codemode.search('says what it is told')).length";
        found.push(timed(|| expect(&mut coder, SEARCH, code, "10"))?);
    }
    goals.at_most("search over 2,500 tools, p50 ms", 20.0, at(&mut found, 0.5));

    let step = STEP.as_millis();
    let name = portal.tool();
    let chain = format!(
        "async () => {{ for (let n = 0; n < {CHAIN}; n++) await codemode.{name}({{text: 'x', wait_ms: {step}}}); return 'done'; }}"
    );
    let mut chains = (0..10).map(|_| timed(|| expect(&mut coder, EXECUTE, &chain, "done"))).collect::<Result<Vec<_>>>()?;
    goals.at_most("10 chained calls, times the servers' own time", 1.5, at(&mut chains, 0.5) / (STEP * CHAIN).as_secs_f64() / 1000.0);

    for (name, code) in LOOPS {
        let took = timed(|| {
            let (text, failed) = coder.run(EXECUTE, code)?;
            ensure!(failed, "{name}: {text}");
            Ok(())
        })?;
        goals.at_most(&format!("{name}: ended after its limit, ms"), 100.0, took - SANDBOX_MS);
    }

    let (rate, _) = load(&portal, 16, 0, Duration::from_secs_f64(options.secs))?;
    goals.at_least("scripts a second, 16 callers", 200.0, rate);
    let mut ratios = Vec::new();
    for _ in 0..options.rounds {
        let (_, mut alone) = load(&portal, 50, 0, Duration::from_secs_f64(options.secs))?;
        let (_, mut beset) = load(&portal, 50, 50, Duration::from_secs_f64(options.secs))?;
        for (who, took) in [("50 callers alone", &mut alone), ("beside 50 hostile ones", &mut beset)] {
            println!("{who}: {:.0} ms p50, {:.0} p90, {:.0} p99", at(took, 0.5), at(took, 0.9), at(took, 0.99));
        }
        ratios.push(at(&mut beset, 0.99) / at(&mut alone, 0.99));
    }
    goals.at_most("p99 of 50 beside 50 hostile ones, times alone (median of rounds)", 2.0, at(&mut ratios, 0.5));
    // Another connection: the first had nothing to do for so long that the portal has closed it.
    let mut coder = portal.coder()?;
    let mut long: Vec<f64> = (0..20).map(|_| timed(|| expect(&mut coder, EXECUTE, LONG, "done"))).collect::<Result<_>>()?;
    let mut ended = 0;
    let mut crowded = beside_many(&portal, || {
        timed(|| {
            ended += u32::from(coder.run(EXECUTE, LONG)?.1);
            Ok(())
        })
    })?;
    println!(
        "a script that computes for a while: {:.0} ms p50 alone, {:.0} beside 50 callers, where {ended} of {} ended at their limit",
        at(&mut long, 0.5),
        at(&mut crowded, 0.5),
        crowded.len()
    );
    Ok(if goals.0 == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Until all servers are there.
fn warm(coder: &mut Client) -> Result<()> {
    let all = (SERVERS * 20).to_string();
    for _ in 0..300 {
        if coder.run(SEARCH, "async () => (await codemode.tools()).length")?.0 == all {
            return expect(coder, EXECUTE, TRIVIAL, "2");
        }
        thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("not all servers came up: {:?}", coder.run(SEARCH, "async () => (await codemode.tools()).length")?)
}

fn expect(coder: &mut Client, tool: &str, code: &str, result: &str) -> Result<()> {
    let (text, failed) = coder.run(tool, code)?;
    ensure!(!failed && text.starts_with(result), "{code}: {text}");
    Ok(())
}

/// Closed loops of callers, some of whom only compute: scripts a second of the others, and how long each took, ms.
fn load(portal: &Contender, callers: usize, hostile: usize, length: Duration) -> Result<(f64, Vec<f64>)> {
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..hostile {
            scope.spawn(|| -> Result<()> {
                let mut coder = portal.coder()?;
                while !over.load(Ordering::Relaxed) {
                    coder.run(EXECUTE, LOOPS[0].1)?;
                }
                Ok(())
            });
        }
        // The loops have begun.
        thread::sleep(Duration::from_millis(if hostile > 0 { 300 } else { 0 }));
        let others: Vec<_> = (0..callers)
            .map(|_| {
                scope.spawn(|| -> Result<Vec<f64>> {
                    let (mut coder, mut took) = (portal.coder()?, Vec::new());
                    while !over.load(Ordering::Relaxed) {
                        took.push(timed(|| expect(&mut coder, EXECUTE, TRIVIAL, "2"))?);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(took)
                })
            })
            .collect();
        thread::sleep(length);
        over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for other in others {
            all.extend(other.join().map_err(|_| anyhow::anyhow!("a caller broke"))??);
        }
        Ok((done.load(Ordering::Relaxed) as f64 / length.as_secs_f64(), all))
    })
}

/// How long something takes, ms, at most twenty times, while others keep the portal busy.
fn beside_many(portal: &Contender, mut work: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
    thread::scope(|scope| {
        let others = scope.spawn(|| load(portal, 50, 0, Duration::from_secs(5)));
        thread::sleep(Duration::from_millis(500));
        let mut took = Vec::new();
        while !others.is_finished() && took.len() < 20 {
            took.push(work()?);
        }
        others.join().map_err(|_| anyhow::anyhow!("a caller broke"))??;
        Ok(took)
    })
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

fn at(took: &mut [f64], share: f64) -> f64 {
    took.sort_unstable_by(f64::total_cmp);
    took.get((took.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}

struct Goals(usize);

impl Goals {
    fn at_most(&mut self, what: &str, bound: f64, value: f64) {
        self.judge(what, "at most", bound, value, value <= bound);
    }

    fn at_least(&mut self, what: &str, bound: f64, value: f64) {
        self.judge(what, "at least", bound, value, value >= bound);
    }

    fn judge(&mut self, what: &str, word: &str, bound: f64, value: f64, holds: bool) {
        self.0 += usize::from(!holds);
        println!("{} {what}: {value:.2} ({word} {bound})", if holds { "PASS" } else { "FAIL" });
    }
}
