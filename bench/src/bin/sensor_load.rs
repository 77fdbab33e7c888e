//! The loads of the sensor bench, told line by line on standard input: see [`gnomon_bench::sensor::Order`]. Answers each
//! with a count and a rate, and ends with an error where a single request or connection fails.

use std::io::{BufRead, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use gnomon_bench::load::{Clients, ClosedLoop, Connections, Payload, Protocol, Route, run_closed_loop};
use gnomon_bench::pki;
use gnomon_bench::sensor::Order;

/// Enough to keep two processors busy, and few enough not to queue.
const CLIENTS: Clients = Clients(4);

#[derive(Parser)]
struct Args {
    #[arg(long)]
    upstream_port: u16,
    #[arg(long)]
    ca: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    pki::install_provider();
    let route = Route::new(args.upstream_port, None, &[&args.ca])?;
    for line in std::io::stdin().lock().lines() {
        let (count, rate) = match line?.parse()? {
            Order::Kept(length) => load(&route, Connections::Kept, length).await?,
            Order::New(length) => load(&route, Connections::New, length).await?,
            Order::Plain { count, port } => plain(count, port)?,
        };
        println!("{count} {rate}");
    }
    Ok(())
}

async fn load(route: &Route, connections: Connections, length: Duration) -> Result<(u64, f64)> {
    let load = ClosedLoop { clients: CLIENTS, connections, protocol: Protocol::Http1, payload: Payload::Rest };
    let outcome = run_closed_loop(route, load, length).await?;
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
