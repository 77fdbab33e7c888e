//! The intercept bench: starts the contenders, runs the loads round by round, prints tables and
//! gates. `cargo xtask bench intercept` builds everything and calls this.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gnomon_bench::contender::{Contender, Name, Process, Ring, free_port};
use gnomon_bench::load::{self, Clients, ClosedLoop, Connections, Pace, Payload, Protocol};
use gnomon_bench::report::{Bound, Gate, Judged, Metric, Sample, Samples};
use gnomon_bench::{measure, pki};

/// How long nothing happens before it is asked what each still holds.
const STILL: Duration = Duration::from_secs(10);
/// No single load may take longer, however stuck the contender.
const LOAD_LIMIT: Duration = Duration::from_secs(60);
/// How long after a load its events may still be on their way to the file.
const EVENTS_WITHIN: Duration = Duration::from_secs(3);
/// How many files the events file was before, at most.
const MOST_FORMER: u32 = 7;

#[derive(Parser)]
struct Args {
    /// The gnomon binary to measure.
    #[arg(long)]
    gnomon: PathBuf,
    /// How often each load is run against each contender.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Length of a closed-loop load, seconds.
    #[arg(long, default_value_t = 1.5)]
    secs: f64,
    /// Contenders to run, comma-separated.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    /// Loads to run, comma-separated.
    #[arg(long, value_delimiter = ',')]
    loads: Vec<String>,
    /// Write every sample to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What a load does.
#[derive(Clone, Copy)]
enum Work {
    Closed(ClosedLoop),
    Events,
    Upload(Pace),
    Download,
}

struct Load {
    name: &'static str,
    /// The metric whose ratio to floor-http heads the table.
    key: Metric,
    work: Work,
}

const fn closed(clients: usize, connections: Connections, protocol: Protocol, payload: Payload) -> Work {
    Work::Closed(ClosedLoop { clients: Clients(clients), connections, protocol, payload })
}

#[rustfmt::skip]
const LOADS: &[Load] = &[
    Load { name: "ka32-plain", key: Metric::CpuUsPerRequest, work: closed(32, Connections::Kept, Protocol::Http1, Payload::Rest) },
    Load { name: "ka32-mcp", key: Metric::CpuUsPerRequest, work: closed(32, Connections::Kept, Protocol::Http1, Payload::ToolCall) },
    Load { name: "nc16", key: Metric::Rate, work: closed(16, Connections::New, Protocol::Http1, Payload::ToolCall) },
    Load { name: "nc1", key: Metric::P50Us, work: closed(1, Connections::New, Protocol::Http1, Payload::ToolCall) },
    Load { name: "h2c32", key: Metric::CpuUsPerRequest, work: closed(32, Connections::Kept, Protocol::Http2, Payload::ToolCall) },
    Load { name: "sse", key: Metric::EventP50Ms, work: Work::Events },
    Load { name: "up", key: Metric::CpuSeconds, work: Work::Upload(Pace::Full) },
    Load { name: "down", key: Metric::CpuSeconds, work: Work::Download },
    Load { name: "slowup", key: Metric::FirstByteMs, work: Work::Upload(Pace::Paused) },
];

#[rustfmt::skip]
const GATES: &[Gate] = &[
    Gate { load: "ka32-plain", metric: Metric::CpuUsPerRequest, bound: Bound::AtMostTimesFloor(1.5) },
    Gate { load: "ka32-plain", metric: Metric::Failures, bound: Bound::NeverAbove(0.0) },
    Gate { load: "ka32-mcp", metric: Metric::CpuUsPerRequest, bound: Bound::AtMostTimesFloor(1.7) },
    Gate { load: "ka32-mcp", metric: Metric::Failures, bound: Bound::NeverAbove(0.0) },
    Gate { load: "ka32-mcp", metric: Metric::EventsPerRequest, bound: Bound::NeverBelow(1.0) },
    Gate { load: "nc16", metric: Metric::Rate, bound: Bound::AtLeastTimesFloor(0.8) },
    Gate { load: "nc1", metric: Metric::P90Us, bound: Bound::MedianAtMost(10_000.0) },
    Gate { load: "sse", metric: Metric::FirstEventMs, bound: Bound::MedianAtMost(5.0) },
    Gate { load: "up", metric: Metric::GrowthMib, bound: Bound::NeverAbove(16.0) },
    Gate { load: "down", metric: Metric::GrowthMib, bound: Bound::NeverAbove(16.0) },
];

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    // Dropping the run ends its children; Ctrl-C must take that way too.
    tokio::select! {
        outcome = run(&args) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
    }
}

async fn run(args: &Args) -> Result<ExitCode> {
    let loads: Vec<&Load> = LOADS.iter().filter(|load| args.loads.is_empty() || args.loads.iter().any(|name| name == load.name)).collect();
    ensure!(!loads.is_empty(), "no such load; there are {}", LOADS.iter().map(|load| load.name).collect::<Vec<_>>().join(", "));
    ensure!((0.1..=30.0).contains(&args.secs), "--secs must lie between 0.1 and 30");
    pki::install_provider();
    println!("machine: {}", measure::machine());
    let _awake = measure::Awake::keep();

    let dir = tempfile::tempdir()?;
    let pki = pki::write_bench_pki(dir.path())?;
    let programs = std::env::current_exe()?;
    let programs = programs.parent().context("the bench's own directory")?;
    let upstream_port = free_port()?;
    let leaf = &pki.upstream_leaf;
    let upstream_args = [
        "--port".into(),
        upstream_port.to_string().into(),
        "--cert".into(),
        leaf.cert.clone().into(),
        "--key".into(),
        leaf.key.clone().into(),
    ];
    let _upstream = Process::start(&programs.join("upstream"), &upstream_args, upstream_port, dir.path())?;
    let ring = Ring { programs, gnomon: &args.gnomon, dir: dir.path(), pki: &pki, upstream_port };
    let names: Vec<Name> = Name::ALL.into_iter().filter(|name| args.only.is_empty() || args.only.contains(name)).collect();
    let contenders = names.iter().map(|name| ring.enter(*name)).collect::<Result<Vec<_>>>()?;

    let length = Duration::from_secs_f64(args.secs);
    warm_up(&contenders).await?;
    let mut samples = Samples::default();
    for round in 0..args.rounds as usize {
        for load in &loads {
            for turn in 0..contenders.len() {
                let contender = &contenders[(turn + round) % contenders.len()];
                let sample = tokio::time::timeout(LOAD_LIMIT, sample(contender, load.work, length))
                    .await
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("took longer than {LOAD_LIMIT:?}")));
                samples.push(load.name, contender.name, sample.map_err(|reason| format!("{reason:#}")));
            }
        }
        eprintln!("round {} of {} done", round + 1, args.rounds);
    }
    for load in &loads {
        print!("{}", samples.table(load.name, load.key, &names));
    }
    let resident = |contender: &Contender| contender.pid().map(measure::resident_mib).transpose();
    let at_once = contenders.iter().map(resident).collect::<Result<Vec<_>>>()?;
    tokio::time::sleep(STILL).await;
    for (contender, before) in contenders.iter().zip(at_once) {
        if let (Some(before), Some(after)) = (before, resident(contender)?) {
            println!("\n{} resident at the end: {before:.1} MiB, {STILL:?} later {after:.1} MiB", contender.name.label());
        }
    }
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_vec_pretty(&samples.to_json())?).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("\nmachine at the end: {}", measure::machine());
    Ok(judge(&samples, &names, &loads))
}

fn judge(samples: &Samples, names: &[Name], loads: &[&Load]) -> ExitCode {
    if !names.contains(&Name::Gnomon) {
        println!("\nno gates: gnomon did not take part");
        return ExitCode::SUCCESS;
    }
    println!("\n## Gates\n");
    let mut code = ExitCode::SUCCESS;
    for gate in GATES.iter().filter(|gate| loads.iter().any(|load| load.name == gate.load)) {
        match gate.judge(samples) {
            Judged::Pass(line) => println!("PASS {line}"),
            Judged::Fail(line) => {
                println!("FAIL {line}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Leaves minted, pools open, pages touched: the first round is then like the others.
async fn warm_up(contenders: &[Contender]) -> Result<()> {
    let warm = ClosedLoop { clients: Clients(4), connections: Connections::Kept, protocol: Protocol::Http1, payload: Payload::ToolCall };
    for contender in contenders {
        load::run_closed_loop(&contender.route, warm, Duration::from_millis(400))
            .await
            .with_context(|| format!("{} does not work", contender.name.label()))?;
    }
    Ok(())
}

async fn sample(contender: &Contender, work: Work, length: Duration) -> Result<Sample> {
    let mut sample = Sample::new();
    let before = match contender.pid() {
        Some(pid) => {
            measure::reset_peak(pid)?;
            Some((pid, measure::cpu_time(pid)?, measure::resident_mib(pid)?))
        }
        None => None,
    };
    let mut lines = Lines::default();
    let events_before = contender.events.as_deref().map_or(Ok(0), |path| lines.count(path))?;
    let answered = match work {
        Work::Closed(closed) => {
            let outcome = load::run_closed_loop(&contender.route, closed, length).await?;
            sample.insert(Metric::Rate, outcome.rate());
            sample.insert(Metric::P50Us, outcome.quantile_us(0.5));
            sample.insert(Metric::P90Us, outcome.quantile_us(0.9));
            sample.insert(Metric::P99Us, outcome.quantile_us(0.99));
            sample.insert(Metric::Failures, outcome.failures as f64);
            Some(outcome.latencies_us.len())
        }
        Work::Events => {
            let events = load::listen(&contender.route).await?;
            sample.insert(Metric::FirstEventMs, events.first_ms);
            sample.insert(Metric::EventP50Ms, events.p50_ms);
            None
        }
        Work::Upload(pace) => {
            let upload = load::upload(&contender.route, pace).await?;
            sample.insert(Metric::MbPerSecond, upload.mb_per_s);
            sample.insert(Metric::FirstByteMs, upload.first_byte_ms);
            None
        }
        Work::Download => {
            let download = load::download(&contender.route).await?;
            sample.insert(Metric::MbPerSecond, download.mb_per_s);
            sample.insert(Metric::FirstByteMs, download.first_byte_ms);
            None
        }
    };
    if let (Some(path), Work::Closed(ClosedLoop { payload: Payload::ToolCall, .. }), Some(answered)) = (&contender.events, work, answered) {
        let written = lines.reach(path, events_before + answered).await?.saturating_sub(events_before);
        sample.insert(Metric::EventsPerRequest, written as f64 / answered as f64);
    }
    // Read after the events are on disk: writing them is part of the price.
    if let Some((pid, cpu, resident)) = before {
        let spent = measure::cpu_time(pid)?.saturating_sub(cpu).as_secs_f64();
        sample.insert(Metric::CpuSeconds, spent);
        if let Some(answered) = answered {
            sample.insert(Metric::CpuUsPerRequest, spent * 1e6 / answered as f64);
        }
        let peak = measure::peak_mib(pid)?;
        sample.insert(Metric::PeakMib, peak);
        sample.insert(Metric::GrowthMib, (peak - resident).max(0.0));
    }
    Ok(sample)
}

/// The lines of the events file and of those that it was before: it is renamed when it has grown.
#[derive(Default)]
struct Lines {
    /// By the number of the file: the bytes that were read of it, and the lines in them.
    read: HashMap<u64, (u64, usize)>,
}

impl Lines {
    /// Counts what is there; of each file only what is new is read.
    fn count(&mut self, path: &Path) -> Result<usize> {
        let former = (1..=MOST_FORMER).map(|number| PathBuf::from(format!("{}.{number}", path.display())));
        for part in [path.to_path_buf()].into_iter().chain(former) {
            let mut file = match fs::File::open(&part) {
                Ok(file) => file,
                Err(reason) if reason.kind() == std::io::ErrorKind::NotFound => continue,
                Err(reason) => return Err(reason).with_context(|| format!("reading {}", part.display())),
            };
            let (from, lines) = self.read.entry(file.metadata()?.ino()).or_default();
            file.seek(SeekFrom::Start(*from))?;
            let mut reader = BufReader::with_capacity(1 << 20, file);
            loop {
                let chunk = reader.fill_buf()?;
                if chunk.is_empty() {
                    break;
                }
                *lines += memchr::memchr_iter(b'\n', chunk).count();
                let read = chunk.len();
                *from += read as u64;
                reader.consume(read);
            }
        }
        Ok(self.read.values().map(|(_, lines)| lines).sum())
    }

    /// The same, once there are so many, or no more come.
    async fn reach(&mut self, path: &Path, wanted: usize) -> Result<usize> {
        let deadline = tokio::time::Instant::now() + EVENTS_WITHIN;
        loop {
            let lines = self.count(path)?;
            if lines >= wanted || tokio::time::Instant::now() > deadline {
                return Ok(lines);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
