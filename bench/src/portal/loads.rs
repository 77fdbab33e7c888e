//! What is measured.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::Era;
use super::contender::{Contender, Kind, Programs, UPSTREAM_TOOLS};

/// A series of calls over one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    /// Median, ms.
    pub p50: f64,
    /// 99th percentile, ms.
    pub p99: f64,
    /// CPU of the contender for each call, ms.
    pub cpu: f64,
}

/// Blocks of calls in each of the eras, each contender having its turn in each: who is first changes. A contender's eras follow each
/// other at once, so that what they cost can be compared.
///
/// # Errors
/// When a call fails.
pub fn call_blocks<const ERAS: usize>(
    ring: &[Contender],
    eras: [Era; ERAS],
    bytes: usize,
    blocks: usize,
    calls: usize,
) -> Result<[Vec<Option<Calls>>; ERAS]> {
    let text = "x".repeat(bytes);
    let mut sums = vec![vec![(Vec::with_capacity(blocks * calls), 0.0); ring.len()]; ERAS];
    for block in 0..=blocks {
        for turn in 0..ring.len() {
            let at = (turn + block) % ring.len();
            for turn in 0..ERAS {
                let era = (turn + block) % ERAS;
                if !ring[at].kind.serves(eras[era]) {
                    continue;
                }
                let (took, cpu) = &mut sums[era][at];
                // A slow contender's turn is longer than an idle connection has to be kept for.
                let mut client = ring[at].client(eras[era])?;
                client.call(ring[at].tool(), &text).with_context(|| ring[at].kind.label())?;
                let before = ring[at].cpu_ms()?;
                for _ in 0..calls {
                    let start = Instant::now();
                    client.call(ring[at].tool(), &text).with_context(|| ring[at].kind.label())?;
                    if block > 0 {
                        took.push(start.elapsed().as_secs_f64() * 1000.0);
                    }
                }
                if block > 0 {
                    *cpu += ring[at].cpu_ms()? - before;
                }
            }
        }
    }
    let summary = |(mut took, cpu): (Vec<f64>, f64)| {
        took.sort_unstable_by(f64::total_cmp);
        let quantile = |share: f64| took.get((took.len() as f64 * share) as usize).copied();
        Some(Calls { p50: quantile(0.5)?, p99: quantile(0.99)?, cpu: cpu / took.len() as f64 })
    };
    let mut sums = sums.into_iter().map(|one| one.into_iter().map(summary).collect());
    Ok(std::array::from_fn(|_| sums.next().unwrap_or_default()))
}

/// Calls per second of 16 callers, and CPU of the contender for each, ms.
///
/// # Errors
/// When a call fails.
pub fn throughput(one: &Contender, callers: usize, length: Duration) -> Result<(f64, f64)> {
    let clients = (0..callers).map(|_| one.client(Era::Stateful)).collect::<Result<Vec<_>>>()?;
    let over = AtomicBool::new(false);
    let before = one.cpu_ms()?;
    let start = Instant::now();
    let calls: Result<u64> = thread::scope(|scope| {
        let over = &over;
        let running: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || -> Result<u64> {
                    let mut calls = 0;
                    while !over.load(Ordering::Relaxed) {
                        client.call(one.tool(), "hello")?;
                        calls += 1;
                    }
                    Ok(calls)
                })
            })
            .collect();
        thread::sleep(length);
        over.store(true, Ordering::Relaxed);
        running.into_iter().map(|caller| caller.join().map_err(|_| anyhow::anyhow!("a caller panicked"))?).sum()
    });
    let calls = calls.with_context(|| one.kind.label())? as f64;
    Ok((calls / start.elapsed().as_secs_f64(), (one.cpu_ms()? - before) / calls))
}

/// What sessions leave behind whose callers went away without a word.
#[derive(Clone, Copy, Debug)]
pub struct Sessions {
    /// Resident memory before, KiB.
    pub before: f64,
    /// The same after.
    pub after: f64,
    /// CPU of the contender for each, ms.
    pub cpu: f64,
}

/// Opens sessions one after the other, each with its list of tools, and leaves them.
///
/// # Errors
/// When one is not let in.
pub fn sessions(one: &Contender, count: usize) -> Result<Sessions> {
    let (before, cpu) = (one.resident_kib()?, one.cpu_ms()?);
    for _ in 0..count {
        one.client(Era::Stateful)?.list()?;
    }
    Ok(Sessions { before, after: one.resident_kib()?, cpu: (one.cpu_ms()? - cpu) / count as f64 })
}

/// From the start of the process to the first whole list of the tools of all upstreams, ms.
///
/// # Errors
/// When there is none within 10 s.
pub fn cold_start(kind: Kind, programs: &Programs, upstreams: &[u16], dir: &Path) -> Result<f64> {
    let start = Instant::now();
    let one = Contender::enter(kind, programs, upstreams, dir)?;
    loop {
        if one.client(Era::Stateful).and_then(|mut client| client.list()).is_ok_and(|tools| tools >= UPSTREAM_TOOLS * upstreams.len()) {
            let took = start.elapsed().as_secs_f64() * 1000.0;
            drop(one);
            return Ok(took);
        }
        if start.elapsed() > Duration::from_secs(10) {
            bail!("{}: the list is not whole after 10 s", kind.label());
        }
        thread::sleep(Duration::from_micros(500));
    }
}
