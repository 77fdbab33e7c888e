//! The loads of the sensor bench, told line by line on standard input: see [`gnomon_bench::sensor::Order`]. Answers each
//! with a count and a rate, or with what each block took, and ends with an error where a single request or connection
//! fails.

use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use gnomon_bench::load::{Clients, ClosedLoop, Connections, Crew, Payload, Protocol, Route, run_closed_loop};
use gnomon_bench::measure::CpuClock;
use gnomon_bench::pki;
use gnomon_bench::sensor::{Block, Kind, Order, Place, Quad, Turns};

/// Enough to keep two processors busy, and few enough not to queue.
const CLIENTS: Clients = Clients(4);
/// How long after the last answer both ends have long come to rest, and have closed what they close.
const STILL: Duration = Duration::from_micros(300);
/// New connections after each move, before it counts.
const WARM: usize = 8;
/// Bytes there and back where there is no TLS: about what a small request and its answer have.
const BARE: (usize, usize) = (300, 600);

#[derive(Parser)]
struct Args {
    #[arg(long)]
    upstream_port: u16,
    /// The upstream's process, whose CPU time counts.
    #[arg(long)]
    upstream_pid: u32,
    /// The cgroup above those in which sockets are made.
    #[arg(long)]
    cgroups: PathBuf,
    #[arg(long)]
    ca: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    pki::install_provider();
    let route = Route::new(args.upstream_port, None, &[&args.ca])?;
    let clocks = [CpuClock::of(std::process::id())?, CpuClock::of(args.upstream_pid)?];
    let bench = Bench { route, cgroups: args.cgroups, clocks };
    for line in std::io::stdin().lock().lines() {
        let (count, rate) = match line?.parse()? {
            Order::Kept(length) => load(&bench.route, Connections::Kept, length).await?,
            Order::New(length) => load(&bench.route, Connections::New, length).await?,
            Order::Plain { count, port } => plain(count, port)?,
            Order::Enter(place) => {
                place.enter(&bench.cgroups)?;
                (0, 0.0)
            }
            Order::Turns(turns) => {
                let quads = bench.turns(turns).await?;
                println!("{}", quads.iter().map(Quad::to_string).collect::<Vec<_>>().join(", "));
                continue;
            }
        };
        println!("{count} {rate}");
    }
    Ok(())
}

fn closed_loop(connections: Connections) -> ClosedLoop {
    ClosedLoop { clients: CLIENTS, connections, protocol: Protocol::Http1, payload: Payload::Rest }
}

async fn load(route: &Route, connections: Connections, length: Duration) -> Result<(u64, f64)> {
    let outcome = run_closed_loop(route, closed_loop(connections), length).await?;
    ensure!(outcome.failures == 0, "{} requests failed: {}", outcome.failures, outcome.last_failure.unwrap_or_default());
    Ok((outcome.latencies_us.len() as u64, outcome.rate()))
}

fn plain(count: u32, port: u16) -> Result<(u64, f64)> {
    let started = Instant::now();
    for _ in 0..count {
        // The other end closes when it is done with us.
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))?.read_to_end(&mut Vec::new())?;
    }
    Ok((u64::from(count), f64::from(count) / started.elapsed().as_secs_f64()))
}

/// Where blocks are done.
struct Bench {
    route: Route,
    cgroups: PathBuf,
    /// Of client and server.
    clocks: [CpuClock; 2],
}

impl Bench {
    async fn turns(&self, turns: Turns) -> Result<Vec<Quad>> {
        let mut quads = Vec::new();
        for order in [[0, 1], [1, 0]] {
            self.series(turns, order, &mut quads).await?;
        }
        Place::Observed.enter(&self.cgroups)?;
        Ok(quads)
    }

    /// Quads over sets of sockets, number 0 apart and number 1 where the order says, made in this order.
    async fn series(&self, turns: Turns, order: [usize; 2], quads: &mut Vec<Quad>) -> Result<()> {
        let places = [Place::Apart, turns.inner];
        Place::Apart.enter(&self.cgroups)?;
        // Accepted sockets are of the listener's cgroup.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut sets = [Set::of(turns.kind, &self.route, &listener)?, Set::of(turns.kind, &self.route, &listener)?];
        let block = turns.kind.of_a_block() as usize;
        for which in order {
            places[which].enter(&self.cgroups)?;
            sets[which].block(block).await?;
        }
        let mut here = order[1];
        for _ in 0..turns.kind.quads() {
            let mut quad = Quad::default();
            for (took, which) in quad.0.iter_mut().zip([0, 1, 1, 0]) {
                // What is kept was made where it belongs.
                if turns.kind == Kind::New && here != which {
                    places[which].enter(&self.cgroups)?;
                    sets[which].block(WARM).await?;
                    here = which;
                }
                *took = self.timed(&mut sets[which], block).await?;
            }
            quads.push(quad);
        }
        Ok(())
    }

    async fn timed(&self, set: &mut Set, requests: usize) -> Result<Block> {
        std::thread::sleep(STILL);
        let before = self.cpu()?;
        let wall = set.block(requests).await?;
        std::thread::sleep(STILL);
        Ok(Block { wall, cpu: self.cpu()?.saturating_sub(before) })
    }

    fn cpu(&self) -> Result<Duration> {
        Ok(self.clocks[0].read()? + self.clocks[1].read()?)
    }
}

/// What blocks are done with. Its sockets are made at the first use, where the process is then.
enum Set {
    Https(Crew),
    Bare(Bare),
}

impl Set {
    fn of(kind: Kind, route: &Route, listener: &TcpListener) -> Result<Self> {
        Ok(match kind {
            Kind::Kept => Self::Https(Crew::new(route, closed_loop(Connections::Kept))),
            Kind::New => Self::Https(Crew::new(route, closed_loop(Connections::New))),
            Kind::Bare => Self::Bare(Bare { listener: listener.try_clone()?, ends: None }),
        })
    }

    async fn block(&mut self, requests: usize) -> Result<Duration> {
        match self {
            Self::Https(crew) => crew.block(requests).await,
            Self::Bare(bare) => bare.block(requests),
        }
    }
}

/// A connection of which one thread has both ends.
struct Bare {
    listener: TcpListener,
    ends: Option<[TcpStream; 2]>,
}

impl Bare {
    fn block(&mut self, requests: usize) -> Result<Duration> {
        let [client, server] = match &mut self.ends {
            Some(open) => open,
            none => none.insert(connected(&self.listener)?),
        };
        let (mut request, mut answer) = ([b'a'; BARE.0], [b'a'; BARE.1]);
        let started = Instant::now();
        for _ in 0..requests {
            client.write_all(&request)?;
            server.read_exact(&mut request)?;
            server.write_all(&answer)?;
            client.read_exact(&mut answer)?;
        }
        Ok(started.elapsed())
    }
}

/// The end that connects, and the one that accepts.
fn connected(listener: &TcpListener) -> Result<[TcpStream; 2]> {
    let ends = [TcpStream::connect(listener.local_addr()?)?, listener.accept()?.0];
    for end in &ends {
        end.set_nodelay(true)?;
    }
    Ok(ends)
}
