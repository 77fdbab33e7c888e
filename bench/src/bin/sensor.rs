//! The sensor bench: what connections cost that are observed beside others that are not, in turns of milliseconds; what
//! being attached costs everybody else; what the programs take of each connection; what asking for an owner takes; what
//! the sensor weighs. `cargo xtask bench sensor` builds everything and calls this.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gnomon_bench::contender::{Process, free_port};
use gnomon_bench::report::Spread;
use gnomon_bench::sensor::paired::{Median, ratio};
use gnomon_bench::sensor::{Bound, Cgroups, Compared, Gate, Kind, Loads, Measured, Order, Place, Programs, RunTime, Sensor, Turns};
use gnomon_bench::{measure, pki};
use gnomon_sensor::owner_of;

/// Connections whose kernel time is counted, each time.
const COUNTED: u32 = 2000;
/// How often it is counted.
const COUNTS: usize = 5;
/// Connections whose owner is asked for.
const ASKED: u32 = 3000;
/// Rounds with the sensor attached and without it.
const ATTACHED: u32 = 14;
/// How long before a load nothing was attached or detached, which patches the kernel's code and frees what it had.
const SETTLED: Duration = Duration::from_millis(500);
/// The explicit proxy's port while nobody asks it: that of nobody here.
const ELSEWHERE: u16 = 1;
/// How long the sensor is watched doing nothing.
const IDLE: Duration = Duration::from_secs(10);

/// The programs that run for a connection; those of IPv6 as well, which these loads do not use.
const OF_A_CONNECTION: [&str; 4] = ["gn_connect4", "gn_connect6", "gn_sockops", "gn_release"];
/// The one that runs for each packet that a connection sends.
const OF_A_PACKET: &str = "gn_hello";

#[derive(Parser)]
struct Args {
    /// The gnomon binary to measure.
    #[arg(long)]
    gnomon: PathBuf,
    /// How often the kinds of blocks have their turns, each with sets of sockets of its own.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of the loads that show what being attached costs everybody else, seconds.
    #[arg(long, default_value_t = 0.5)]
    secs: f64,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    ensure!((0.1..=30.0).contains(&args.secs), "--secs must lie between 0.1 and 30");
    pki::install_provider();
    println!("machine: {}", measure::machine());
    // Made first, so that it is removed last.
    let cgroups = Cgroups::enter()?;
    let mut stage = Stage::set(&args, &cgroups)?;
    let mut gates = stage.turns(args.rounds)?;
    stage.attached(Duration::from_secs_f64(args.secs))?;
    gates.extend(stage.alone()?);
    println!("\nmachine at the end: {}", measure::machine());
    println!("\n## Gates\n");
    for gate in &gates {
        println!("{gate}");
    }
    Ok(if gates.iter().all(Gate::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was done in a second: of the clock, and of the processors, which other work on the machine disturbs less.
#[derive(Clone, Copy)]
struct Rate {
    per_second: f64,
    per_cpu_second: f64,
}

/// What is compared, of the kept and of the new connections of a block.
const WHATS: [fn(&[Rate; 2]) -> f64; 4] =
    [|rates| rates[0].per_second, |rates| rates[0].per_cpu_second, |rates| rates[1].per_second, |rates| rates[1].per_cpu_second];

/// One quantity, round by round.
#[derive(Default)]
struct Turned {
    ratios: Vec<f64>,
    controls: Vec<f64>,
}

/// What a run needs. Upstream and loads are the same processes with and without the sensor.
struct Stage<'a> {
    gnomon: &'a Path,
    cgroups: &'a Cgroups,
    loads: Loads,
    upstream: Process,
    _dir: tempfile::TempDir,
}

impl<'a> Stage<'a> {
    fn set(args: &'a Args, cgroups: &'a Cgroups) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let pki = pki::write_bench_pki(dir.path())?;
        let programs = std::env::current_exe()?;
        let programs = programs.parent().context("the bench's own directory")?;
        let (port, leaf) = (free_port()?, &pki.upstream_leaf);
        let upstream_args =
            ["--port".into(), port.to_string().into(), "--cert".into(), leaf.cert.clone().into(), "--key".into(), leaf.key.clone().into()];
        // The sensor is about connections that leave; their servers are elsewhere.
        let upstream = Process::start_in(Some(&cgroups.own()), &programs.join("upstream"), &upstream_args, port, dir.path())?;
        let mut loads = Loads::start(&programs.join("sensor_load"), cgroups, (upstream.pid(), port), &pki.upstream_ca.cert)?;
        for order in [Order::Kept, Order::New] {
            loads.run(order(Duration::from_millis(300))).context("the loads do not work")?;
        }
        Ok(Self { gnomon: &args.gnomon, cgroups, loads, upstream, _dir: dir })
    }

    /// Sockets that are observed beside others that are not, while the sensor runs all the time.
    fn turns(&mut self, rounds: u32) -> Result<Vec<Gate>> {
        let sensor = Sensor::start(self.gnomon, self.cgroups, ELSEWHERE)?;
        std::thread::sleep(SETTLED);
        let mut all = Kind::ALL.map(Compared::new);
        for _ in 0..rounds {
            for compared in &mut all {
                for inner in [Place::Observed, Place::Aside] {
                    compared.add(inner, self.loads.turns(Turns { kind: compared.kind(), inner })?);
                }
            }
        }
        for (compared, order) in all.iter_mut().zip([Order::Kept, Order::New]) {
            let before = self.cpu(&sensor)?;
            let done = self.loads.run(order(AT_ONCE))?;
            let cpu = self.cpu(&sensor)?.since(before);
            compared.charge((cpu.reader + cpu.sensor).div_f64(done.count as f64));
        }
        sensor.finish()?;
        println!("\n{}", Compared::HEADS);
        for compared in &all {
            println!("{}", compared.row());
        }
        let [kept, new, _] = &all;
        println!("\nper CPU second of all who take part, × unobserved: keep-alive {}", kept.per_cpu_second());
        println!("the same of handshakes {}", new.per_cpu_second());
        let gate = |what, bound, measured| Gate { what, bound: Bound::AtLeast(bound), measured };
        Ok(vec![
            gate("keep-alive HTTPS requests/s, × unobserved", 0.99, kept.per_second()),
            gate("TLS handshakes/s, × unobserved", 0.98, new.per_second()),
        ])
    }

    /// What is left for those who are not observed while the sensor is attached elsewhere. A round is two blocks with it
    /// between two without, and two more without between two without, of which one is shared: the control. Attaching takes
    /// its time, so these turns are long, and the machine changes meanwhile: no gate.
    fn attached(&mut self, length: Duration) -> Result<()> {
        self.loads.run(Order::Enter(Place::Apart))?;
        let mut turns: [Turned; 4] = Default::default();
        for _ in 0..ATTACHED {
            let first = self.rates(length, None)?;
            let with = self.rates_attached(length)?;
            let [second, third, fourth, fifth] = [(); 4].map(|()| self.rates(length, None));
            let [second, third, fourth, fifth] = [second?, third?, fourth?, fifth?];
            for (turns, what) in turns.iter_mut().zip(WHATS) {
                let [first, second, third, fourth, fifth] = [first, second, third, fourth, fifth].map(|rates| what(&rates));
                turns.ratios.push(ratio(with.map(|rates| what(&rates)), [first, second]));
                turns.controls.push(ratio([third, fourth], [second, fifth]));
            }
        }
        self.loads.run(Order::Enter(Place::Observed))?;
        println!("\n| not observed, while the sensor is attached | × without it | nothing against nothing |\n|---|---|---|");
        let names = ["keep-alive requests/s", "the same per CPU second", "handshakes/s", "the same per CPU second"];
        for (name, turns) in names.iter().zip(&turns) {
            if let (Some(ratio), Some(control)) = (Median::of(&turns.ratios), Median::of(&turns.controls)) {
                println!("| {name} | {ratio} | {control} |");
            }
        }
        Ok(())
    }

    /// Both loads, with the CPU time of everyone who takes part: client, server, sensor, and us, who read the ring.
    fn rates(&mut self, length: Duration, sensor: Option<&Sensor>) -> Result<[Rate; 2]> {
        std::thread::sleep(SETTLED);
        let pids = [Some(self.loads.pid()), Some(self.upstream.pid()), Some(std::process::id()), sensor.map(Sensor::pid)];
        let spent = || -> Result<Duration> { pids.into_iter().flatten().map(measure::cpu_time).sum() };
        let mut rate = |order| -> Result<Rate> {
            let before = spent()?;
            let done = self.loads.run(order)?;
            let cpu = spent()?.saturating_sub(before).as_secs_f64();
            Ok(Rate { per_second: done.rate, per_cpu_second: done.count as f64 / cpu.max(f64::EPSILON) })
        };
        Ok([rate(Order::Kept(length))?, rate(Order::New(length))?])
    }

    fn rates_attached(&mut self, length: Duration) -> Result<[[Rate; 2]; 2]> {
        let mut sensor = Sensor::start(self.gnomon, self.cgroups, ELSEWHERE)?;
        let rates = [self.rates(length, Some(&sensor))?, self.rates(length, Some(&sensor))?];
        sensor.still_runs()?;
        Ok(rates)
    }

    /// What needs no comparison.
    fn alone(&mut self) -> Result<Vec<Gate>> {
        let asked = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let sensor = Sensor::start(self.gnomon, self.cgroups, asked.local_addr()?.port())?;
        let (connect, mut gates) = self.kernel_time(&sensor)?;
        let asked = self.owners(asked)?;
        let before = measure::cpu_time(sensor.pid())?;
        std::thread::sleep(IDLE);
        let spent = measure::cpu_time(sensor.pid())?.saturating_sub(before);
        let idle = 100.0 * spent.as_secs_f64() / IDLE.as_secs_f64();
        let resident = measure::resident_mib(sensor.pid())?;
        sensor.finish()?;
        let gate = |what, limit, samples| Gate { what, bound: Bound::AtMost(limit), measured: Measured::Samples(Spread::of(samples)) };
        gates.extend([
            gate("kernel time of a connection, µs", 3.0, connect),
            gate("asking for an owner, p99 µs", 20.0, vec![asked]),
            gate("resident memory of the sensor, MiB", 15.0, vec![resident]),
            gate("CPU of the idle sensor, % of a core", 0.1, vec![idle]),
        ]);
        Ok(gates)
    }

    /// Microseconds in the kernel half for a connection to a server elsewhere, each time it was counted; and what is left of
    /// the processor for the loads when all that the sensor takes is added up.
    fn kernel_time(&mut self, sensor: &Sensor) -> Result<(Vec<f64>, Vec<Gate>)> {
        let programs = Programs::count(sensor.pid())?;
        let (mut samples, mut remarks) = (Vec::new(), Vec::new());
        println!("\n| program | runs per connection or request | ns per run |\n|---|---|---|");
        for count in 0..COUNTS {
            let before = programs.run_times()?;
            // We are outside of what is observed, as a server elsewhere would be.
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = listener.local_addr()?.port();
            let server = std::thread::spawn(move || listener.incoming().take(COUNTED as usize).flatten().count());
            self.loads.run(Order::Plain { count: COUNTED, port })?;
            ensure!(server.join().is_ok_and(|served| served == COUNTED as usize), "connections went missing");
            let after = programs.run_times()?;
            let mut nanos = 0;
            for name in OF_A_CONNECTION {
                let spent = since(&before, &after, name)?;
                nanos += spent.nanos;
                if count == 0 && spent.runs > 0 {
                    println!("{}", row(name, spent, u64::from(COUNTED)));
                }
            }
            samples.push(nanos as f64 / f64::from(COUNTED) / 1e3);
        }
        let mut accounted = Vec::new();
        for (order, per, what, bound) in ACCOUNTED {
            let (before, cpu) = (programs.run_times()?, self.cpu(sensor)?);
            let done = self.loads.run(order(AT_ONCE))?;
            let (after, cpu) = (programs.run_times()?, self.cpu(sensor)?.since(cpu));
            let packets = since(&before, &after, OF_A_PACKET)?;
            println!("{}", row(OF_A_PACKET, packets, done.count));
            let mut nanos = 0;
            for name in after.keys() {
                nanos += since(&before, &after, name)?.nanos;
            }
            let (kernel, count) = (Duration::from_nanos(nanos), done.count.max(1) as f64);
            let micros = |time: Duration| time.as_secs_f64() * 1e6 / count;
            remarks.push(format!(
                "per {per}: client and server {:.1} µs of CPU, of which the kernel half {:.2} µs ({OF_A_PACKET} {:.2}); beside it the reader of the ring {:.2} µs and the sensor {:.2} µs",
                micros(cpu.load),
                micros(kernel),
                micros(Duration::from_nanos(packets.nanos)),
                micros(cpu.reader),
                micros(cpu.sensor),
            ));
            let share = cpu.load.saturating_sub(kernel).as_secs_f64() / (cpu.load + cpu.reader + cpu.sensor).as_secs_f64();
            accounted.push(Gate { what, bound: Bound::AtLeast(bound), measured: Measured::Samples(Spread::of(vec![share])) });
        }
        println!("\n{}", remarks.join("\n"));
        Ok((samples, accounted))
    }

    fn cpu(&self, sensor: &Sensor) -> Result<Cpu> {
        Ok(Cpu {
            load: measure::cpu_time(self.loads.pid())? + measure::cpu_time(self.upstream.pid())?,
            reader: measure::cpu_time(std::process::id())?,
            sensor: measure::cpu_time(sensor.pid())?,
        })
    }

    /// The 99th percentile of asking the kernel whose an accepted connection is.
    fn owners(&mut self, listener: TcpListener) -> Result<f64> {
        let port = listener.local_addr()?.port();
        let loader = self.loads.pid();
        let server = std::thread::spawn(move || -> Result<Vec<f64>> {
            let mut micros = Vec::new();
            for stream in listener.incoming().take(ASKED as usize) {
                let stream = stream?;
                let started = Instant::now();
                let owner = owner_of(stream.as_fd())?;
                micros.push(started.elapsed().as_secs_f64() * 1e6);
                ensure!(owner.is_some_and(|owner| owner.pid == loader), "the kernel does not know whose a connection is");
            }
            Ok(micros)
        });
        self.loads.run(Order::Plain { count: ASKED, port })?;
        let mut micros = server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
        micros.sort_by(f64::total_cmp);
        let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize];
        println!("\nasking for an owner: p50 {:.1} µs, p90 {:.1} µs, p99 {:.1} µs", at(0.5), at(0.9), at(0.99));
        Ok(at(0.99))
    }
}

/// How long a load runs whose costs are added up.
const AT_ONCE: Duration = Duration::from_secs(3);
/// A load, what one piece of it is, what is compared, and the bound.
type Accounted = (fn(Duration) -> Order, &'static str, &'static str, f64);
/// The loads whose costs are added up. That leaves out what attaching costs the kernel beside the programs, and holds on a
/// busy machine too.
const ACCOUNTED: [Accounted; 2] = [
    (Order::New, "handshake and one request", "TLS handshakes per CPU second, added up, × without the sensor", 0.98),
    (Order::Kept, "request on a kept connection", "keep-alive HTTPS requests per CPU second, added up, × without the sensor", 0.99),
];

/// CPU time of those who take part.
#[derive(Clone, Copy)]
struct Cpu {
    /// Client and server, the programs that run in their name included.
    load: Duration,
    /// This process, which reads the ring.
    reader: Duration,
    sensor: Duration,
}

impl Cpu {
    fn since(self, before: Self) -> Self {
        Self {
            load: self.load.saturating_sub(before.load),
            reader: self.reader.saturating_sub(before.reader),
            sensor: self.sensor.saturating_sub(before.sensor),
        }
    }
}

type Times = BTreeMap<String, RunTime>;

/// What a program spent between two counts.
fn since(before: &Times, after: &Times, name: &str) -> Result<RunTime> {
    let (before, after) = before.get(name).zip(after.get(name)).with_context(|| format!("the sensor has no {name}"))?;
    Ok(RunTime { nanos: after.nanos - before.nanos, runs: after.runs - before.runs })
}

/// A line of the table.
fn row(name: &str, spent: RunTime, connections: u64) -> String {
    let (runs, connections) = (spent.runs as f64, connections.max(1) as f64);
    format!("| {name} | {:.1} | {:.0} |", runs / connections, spent.nanos as f64 / runs.max(1.0))
}
