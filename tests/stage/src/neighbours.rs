//! Four neighbours who call a tool through gnomon at a steady rate, before and while somebody else misbehaves: all of their
//! calls must be answered, about as fast as before.
//!
//! Each has a source address of its own on loopback, which makes it a principal of its own, and a connection for each call.

use super::{DEADLINE, request::call};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// How many there are.
const NEIGHBOURS: u8 = 4;
/// How often each calls.
const EVERY: Duration = Duration::from_millis(50);
/// The tool that they call.
pub const TOOL: &str = "neighbourly";
/// How much slower the slowest of a hundred may be: half as long again, or this much. Whoever waits for a place or a descriptor waits
/// for longer; beside other tests calls take ten milliseconds more now and then by themselves.
const SLACK: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 40 });

/// Where they call: a tool server without TLS, through this proxy.
#[derive(Clone, Copy, Debug)]
pub struct Neighbours {
    pub proxy: SocketAddr,
    pub server: SocketAddr,
}

/// What came of their calls.
#[derive(Clone, Debug)]
pub struct Calls {
    /// How long each took, shortest first.
    pub took: Vec<Duration>,
    /// What became of those that were not answered as they should be.
    pub failed: Vec<String>,
}

impl Calls {
    /// The slowest of a hundred.
    pub fn p99(&self) -> Duration {
        self.took.get((self.took.len() * 99 / 100).min(self.took.len().saturating_sub(1))).copied().unwrap_or(DEADLINE)
    }
}

/// A connection from the neighbour with this number; 0 is for who misbehaves.
pub async fn from(number: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, 10 + number), 0).into())?;
    socket.connect(to).await
}

/// What neighbours endured.
#[derive(Clone, Copy, Debug)]
pub struct Endured {
    /// How many calls were answered in all.
    pub calls: usize,
    /// The slowest of a hundred before the fault, and while it went on.
    pub before: Duration,
    pub during: Duration,
}

impl Endured {
    /// Whether they were served about as fast.
    pub fn unslowed(self) -> bool {
        self.during <= (self.before * 3 / 2).max(self.before + SLACK)
    }
}

impl Neighbours {
    /// All of them call for so long.
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

    /// They call before and while `fault` goes on, and all are answered.
    pub async fn endure(self, before: Duration, during: Duration, fault: impl Future<Output = ()>) -> Endured {
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
