//! What redirecting adds until a program hears the server: connections to servers on loopback, direct and under
//! `gnomon exec`, in turns. From `connect()` to the first byte, once with a server that speaks first (ssh, MySQL, SMTP) and
//! once with PostgreSQL's `SSLRequest`, which the client begins. `cargo xtask bench server-first` builds all and calls this.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gnomon_bench::contender::free_port;
use gnomon_bench::contender::in_cgroup;
use gnomon_bench::measure;
use gnomon_bench::report::Spread;
use gnomon_bench::sensor::{Bound, Cgroups, Gate, Measured, Place};

/// Connections in a row, before the other way has its turn.
const TURN: usize = 10;
/// What a server says first.
const GREETING: &[u8] = b"SSH-2.0-OpenSSH_9.2\r\n";
/// PostgreSQL's question whether TLS is spoken (protocol 3.0, 55.7), and the answer that it is not.
const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
const NO_TLS: &[u8] = b"N";
/// How long a server or gnomon may take to say anything.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Args {
    /// The gnomon binary to measure.
    #[arg(long)]
    gnomon: Option<PathBuf>,
    /// How often each way has its turn of ten connections.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Be the program that connects, which is told ports on standard input.
    #[arg(long, hide = true, conflicts_with = "gnomon")]
    connect: bool,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if args.connect {
        connect_as_told()?;
        return Ok(ExitCode::SUCCESS);
    }
    measure_ways(&args.gnomon.context("--gnomon says what is measured")?, args.rounds)
}

fn measure_ways(gnomon: &Path, rounds: u32) -> Result<ExitCode> {
    println!("machine: {}", measure::machine());
    let _awake = measure::Awake::keep();
    let cgroups = Cgroups::enter()?;
    let dir = tempfile::tempdir()?;
    let gnomon_runs = Gnomon::start(gnomon, &cgroups, dir.path())?;
    let mut direct = Program::start(in_cgroup(&cgroups.at(Place::Observed), &std::env::current_exe()?))?;
    let mut under = in_cgroup(&cgroups.at(Place::Observed), gnomon);
    under.arg("exec").arg("--exec-socket").arg(gnomon_runs.socket()).arg("--").arg(std::env::current_exe()?);
    let mut redirected = Program::start(under)?;

    let mut gates = Vec::new();
    println!("\n| from connect() to the first byte, ms | direct | redirected | added |\n|---|---|---|---|");
    for (what, added, question) in [
        ("the server speaks first", "added where the server speaks first, ms", Question::None),
        ("PostgreSQL's SSLRequest", "added to PostgreSQL's SSLRequest, ms", Question::SslRequest),
    ] {
        let port = serve(question)?;
        // What is done once (pools, caches, pages) is done.
        for program in [&mut direct, &mut redirected] {
            program.connect(port, question)?;
        }
        let (mut without, mut with, mut differences) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let [first, second] = if round % 2 == 0 { [&mut direct, &mut redirected] } else { [&mut redirected, &mut direct] };
            let turns = [first.connect(port, question)?, second.connect(port, question)?];
            let [now_without, now_with] = if round % 2 == 0 {
                turns
            } else {
                let [with, without] = turns;
                [without, with]
            };
            let medians = [&now_without, &now_with].map(|values| Spread::of(values.clone()).map_or(0.0, |spread| spread.median));
            differences.push(medians[1] - medians[0]);
            without.extend(now_without);
            with.extend(now_with);
        }
        println!("| {what} | {} | {} | {} |", shown(without), shown(with), shown(differences.clone()));
        gates.push(Gate { what: added, bound: Bound::AtMost(50.0), measured: Measured::Samples(Spread::of(differences)) });
    }
    drop((direct, redirected));
    gnomon_runs.finish(&cgroups)?;
    println!("\nmachine at the end: {}\n\n## Gates\n", measure::machine());
    for gate in &gates {
        println!("{gate}");
    }
    Ok(if gates.iter().all(Gate::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Median and 99th percentile.
fn shown(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
    format!("{:.2} (p99 {:.2})", at(0.5), at(0.99))
}

/// What the client says before it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    None,
    SslRequest,
}

/// A server for each connection, one after the other; outside of what is observed, as if it were elsewhere.
fn serve(question: Question) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = [0; SSL_REQUEST.len()];
            // A client that is gone is the client's to tell.
            let _ = match question {
                Question::None => stream.write_all(GREETING),
                Question::SslRequest => stream.read_exact(&mut asked).and_then(|()| stream.write_all(NO_TLS)),
            };
        }
    });
    Ok(port)
}

/// A running gnomon that redirects the programs that join it.
struct Gnomon {
    process: Child,
    dir: PathBuf,
}

impl Gnomon {
    fn start(gnomon: &Path, cgroups: &Cgroups, dir: &Path) -> Result<Self> {
        let [proxy, metrics] = [free_port()?, free_port()?];
        let mut command = in_cgroup(&cgroups.own(), gnomon);
        command.args(["run", "--listen", &format!("127.0.0.1:{proxy}"), "--metrics", &format!("127.0.0.1:{metrics}")]);
        command.arg("--state-dir").arg(dir.join("state")).arg("--sensor").arg(cgroups.at(Place::Observed));
        command.arg("--exec-socket").arg(dir.join("run/exec.sock"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(dir.join("log"))?);
        let mut process = command.spawn().context("starting gnomon")?;
        let end = Instant::now() + PATIENCE;
        while !scrape(metrics).is_ok_and(|text| text.contains("gnomon_sensor_up 1\n")) {
            let ended = process.try_wait()?.is_some();
            ensure!(!ended && Instant::now() < end, "gnomon does not come up:\n{}", std::fs::read_to_string(dir.join("log"))?);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { process, dir: dir.to_owned() })
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("run/exec.sock")
    }

    /// Waits until it has removed the scope of the program, and asks it to end.
    fn finish(mut self, cgroups: &Cgroups) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while std::fs::read_dir(cgroups.at(Place::Observed))?.flatten().any(|entry| entry.path().is_dir()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        Command::new("kill").arg(self.process.id().to_string()).status().context("asking gnomon to end")?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Gnomon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn scrape(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A process that connects where it is told to.
struct Program {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Program {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.arg("--connect").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting the program")?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (to, from) = to.zip(from).context("no pipes to the program")?;
        Ok(Self { child, to, from: BufReader::new(from) })
    }

    /// Milliseconds of each connection of a turn.
    fn connect(&mut self, port: u16, question: Question) -> Result<Vec<f64>> {
        writeln!(self.to, "{port} {question:?}")?;
        let mut line = String::new();
        ensure!(self.from.read_line(&mut line)? > 0, "the program has ended");
        line.split_whitespace().map(|value| Ok(value.parse()?)).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect_as_told() -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (port, question) = line.split_once(' ').context("a port and a question")?;
        let question = if question == "SslRequest" { SSL_REQUEST } else { &[] };
        let port: u16 = port.parse()?;
        let times = (0..TURN).map(|_| connect(port, question)).collect::<Result<Vec<_>>>()?;
        println!("{}", times.join(" "));
    }
    Ok(())
}

fn connect(port: u16, question: &[u8]) -> Result<String> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(question)?;
    stream.read_exact(&mut [0])?;
    Ok((begun.elapsed().as_secs_f64() * 1e3).to_string())
}
