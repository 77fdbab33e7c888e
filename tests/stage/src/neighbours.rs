//! Four well-behaved clients ("neighbours") that call a tool through gnomon at a steady rate, before and during the misbehaviour of others:
//! every call must be answered, about as fast as before.
//!
//! Each has its own source address on loopback, so each is a principal of its own, and opens a connection for each call.
//!
//! Where several tests run at the same time they are measured for a second or a few, and may be slowed by what other tests cause. With
//! `GNOMON_NEIGHBOURS=30` they are measured for thirty seconds before and during each fault, and may be slowed by no more than is promised:
//! by half, or by ten milliseconds. Nothing else should run meanwhile (`--test-threads 1`).

use super::{DEADLINE, request::call};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{MissedTickBehavior, timeout},
};

/// The number of neighbours.
const NEIGHBOURS: u8 = 4;
/// The interval between the calls of each.
const EVERY: Duration = Duration::from_millis(50);
/// The tool that they call.
pub const TOOL: &str = "neighbourly";
/// The variable with the seconds for which they call before a fault, and again during it.
const SECONDS: &str = "GNOMON_NEIGHBOURS";
/// The 99th percentile may rise by half, or by this much: what is promised.
const PROMISED: Duration = Duration::from_millis(10);
/// The same where the variable is not set. A call that waits for a place or a descriptor takes longer than that; other tests on the machine
/// add ten milliseconds at times.
const SLACK: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 40 });

/// The time that the variable sets, if it does.
fn measured_for() -> Option<Duration> {
    let seconds = std::env::var(SECONDS).ok()?;
    Some(Duration::from_secs(seconds.parse().unwrap_or_else(|_| panic!("{SECONDS} is a number of seconds, not `{seconds}`"))))
}

/// The target of the calls: a tool server without TLS, through this proxy.
#[derive(Clone, Copy, Debug)]
pub struct Neighbours {
    pub proxy: SocketAddr,
    pub server: SocketAddr,
}

/// The results of the calls.
#[derive(Clone, Debug)]
pub struct Calls {
    /// The time of each call, in ascending order.
    pub took: Vec<Duration>,
    /// The calls that were not answered as they should be, and how they ended.
    pub failed: Vec<String>,
}

impl Calls {
    /// The 99th percentile.
    pub fn p99(&self) -> Duration {
        self.took.get((self.took.len() * 99 / 100).min(self.took.len().saturating_sub(1))).copied().unwrap_or(DEADLINE)
    }
}

/// A connection from the neighbour with this number; 0 is the client that misbehaves.
pub async fn from(number: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, 10 + number), 0).into())?;
    socket.connect(to).await
}

/// The neighbours' times before and during a fault.
#[derive(Clone, Copy, Debug)]
pub struct Endured {
    /// How many calls were answered in all.
    pub calls: usize,
    /// The 99th percentile before the fault, and during it.
    pub before: Duration,
    pub during: Duration,
}

impl Endured {
    /// Whether they were served about as fast as before.
    pub fn unslowed(self) -> bool {
        let slack = if measured_for().is_some() { PROMISED } else { SLACK };
        self.during <= (self.before * 3 / 2).max(self.before + slack)
    }
}

/// Measures up to three times, until they were served about as fast as before, and returns what else came of that time: other load on the
/// machine slows them too, so the best of three counts for their speed. Whatever else must hold has to hold each time.
pub async fn best_of_three<T>(measure: impl AsyncFn() -> (T, Endured)) -> T {
    let mut slowed = Vec::new();
    while slowed.len() < 3 {
        let (came, endured) = measure().await;
        println!("{endured:?}");
        if endured.unslowed() {
            return came;
        }
        slowed.push(endured);
    }
    panic!("neighbours wait for whom they do not know: {slowed:?}");
}

/// A fault that ends by itself, again each time that this much has passed since it began: the longer the neighbours are measured, the more
/// of it there is.
pub async fn again(every: Duration, fault: impl AsyncFn()) {
    let mut begins = tokio::time::interval(every);
    begins.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        begins.tick().await;
        fault().await;
    }
}

impl Neighbours {
    /// Has all of them call for this long.
    pub async fn call_for(self, time: Duration) -> Calls {
        let (mut tasks, until) = (JoinSet::new(), Instant::now() + time);
        for number in 1..=NEIGHBOURS {
            let mut next = tokio::time::Instant::now();
            while next.into_std() < until {
                tasks.spawn(async move {
                    tokio::time::sleep_until(next).await;
                    let began = Instant::now();
                    let answered = timeout(DEADLINE, self.call(number)).await;
                    let answered = answered.unwrap_or_else(|_| Err(format!("no answer in {DEADLINE:?}")));
                    (began.elapsed(), answered)
                });
                next += EVERY;
            }
        }
        let mut calls = Calls { took: Vec::new(), failed: Vec::new() };
        while let Some(done) = tasks.join_next().await {
            let (took, answered) = done.unwrap();
            calls.took.push(took);
            calls.failed.extend(answered.err());
        }
        calls.took.sort_unstable();
        calls
    }

    async fn call(self, number: u8) -> Result<(), String> {
        let body = call(1, TOOL).to_string();
        let server = self.server;
        let request = format!(
            "POST http://{server}/rpc HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = String::new();
        let exchanged = async {
            let mut stream = from(number, self.proxy).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_string(&mut answer).await
        };
        match exchanged.await {
            Ok(_) if answer.starts_with("HTTP/1.1 200 ") => Ok(()),
            Ok(_) => Err(answer),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Has them call before and during `fault`, for so long each, or as long as the variable says; panics unless every call is answered.
    pub async fn endure(self, before: Duration, during: Duration, fault: impl Future<Output = ()>) -> Endured {
        let [before, during] = measured_for().map_or([before, during], |time| [time; 2]);
        let quiet = self.call_for(before).await;
        assert!(quiet.failed.is_empty(), "{:?}", quiet.failed);
        let disturbed = async {
            tokio::select! {
                calls = self.call_for(during) => calls,
                () = async { fault.await; std::future::pending().await } => unreachable!("it never ends"),
            }
        };
        let disturbed = disturbed.await;
        assert!(disturbed.failed.is_empty(), "{} of {}: {:?}", disturbed.failed.len(), disturbed.took.len(), disturbed.failed.first());
        Endured { calls: quiet.took.len() + disturbed.took.len(), before: quiet.p99(), during: disturbed.p99() }
    }
}

/// The resident memory of a process, in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
