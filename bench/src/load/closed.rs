//! Closed loops: each client sends its next request when the last one is answered.
//!
//! A closed loop finds the rate a contender can hold and its CPU per request; it hides queueing
//! delay, so its latencies compare contenders with each other and say nothing about open traffic.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Method;

use super::connection::{Connection, Protocol, Route};

const BODY_BYTES: usize = 1024;
/// Seven digits for every id of a run: bodies keep one length.
const FIRST_ID: usize = 1_000_000;
const IDS_PER_CLIENT: usize = 200_000;
/// No run sends more than this per client, however fast the contender.
const MAX_REQUESTS_PER_CLIENT: usize = IDS_PER_CLIENT;

/// What each request carries; always 1 KiB.
#[derive(Clone, Copy, Debug)]
pub enum Payload {
    /// A REST body that is JSON but not JSON-RPC, on a path that hints at nothing.
    Rest,
    /// An MCP `tools/call`, with a fresh id each time.
    ToolCall,
}

/// Whether a client keeps its connection.
#[derive(Clone, Copy, Debug)]
pub enum Connections {
    /// One connection for all requests of a client.
    Kept,
    /// TCP, CONNECT and a full TLS handshake for every request.
    New,
}

/// How many clients send at once.
#[derive(Clone, Copy, Debug)]
pub struct Clients(pub usize);

/// One closed-loop load.
#[derive(Clone, Copy, Debug)]
pub struct ClosedLoop {
    /// Clients sending at once; with h2 they share one connection.
    pub clients: Clients,
    /// Kept or new connections.
    pub connections: Connections,
    /// Towards the contender.
    pub protocol: Protocol,
    /// What is sent.
    pub payload: Payload,
}

/// What a closed loop measured.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Time per answered request, microseconds, ascending.
    pub latencies_us: Vec<u32>,
    /// Requests that broke, or were answered with anything but 200.
    pub failures: usize,
    /// Why the last of them did.
    pub last_failure: Option<String>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

impl Outcome {
    /// Answered requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.latencies_us.len() as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    /// The latency below which the given share (0 to 1) of requests stayed, in microseconds.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> f64 {
        let last = self.latencies_us.len().saturating_sub(1);
        let index = (last as f64 * share) as usize;
        self.latencies_us.get(index).copied().map_or(0.0, f64::from)
    }

    fn absorb(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.failures += other.failures;
        self.last_failure = other.last_failure.or(self.last_failure.take());
    }
}

/// Sends for `length`, then waits for the answers still out.
///
/// # Errors
/// When not a single request was answered.
pub async fn run_closed_loop(route: &Route, load: ClosedLoop, length: Duration) -> Result<Outcome> {
    let shared = match (load.protocol, load.connections) {
        (Protocol::Http2, Connections::Kept) => Some(route.open(Protocol::Http2).await?),
        _ => None,
    };
    let start = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for index in 0..load.clients.0 {
        let mut client = Client::new(route, load, index);
        if let Some(Connection::Http2(sender)) = &shared {
            client.connection = Some(Connection::Http2(sender.clone()));
        }
        clients.spawn(client.run(start + length));
    }
    let mut total = Outcome::default();
    for outcome in clients.join_all().await {
        total.absorb(outcome);
    }
    total.elapsed = start.elapsed();
    total.latencies_us.sort_unstable();
    ensure!(!total.latencies_us.is_empty(), "no request was answered: {}", total.last_failure.unwrap_or_default());
    Ok(total)
}

/// One of the clients of a load.
pub(super) struct Client {
    route: Route,
    load: ClosedLoop,
    index: usize,
    body: BodyText,
    connection: Option<Connection>,
}

impl Client {
    /// One that has no connection yet. `index` tells its requests from those of the others.
    pub(super) fn new(route: &Route, load: ClosedLoop, index: usize) -> Self {
        Self { route: route.clone(), load, index, body: BodyText::new(load.payload), connection: None }
    }

    async fn run(mut self, end: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        for n in 0..MAX_REQUESTS_PER_CLIENT {
            let sent = Instant::now();
            if sent >= end {
                break;
            }
            match self.ask(n).await {
                Ok(()) => outcome.latencies_us.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX)),
                Err(reason) => {
                    outcome.failures += 1;
                    outcome.last_failure = Some(reason.to_string());
                    self.connection = None;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        outcome
    }

    /// The request with this number, over a new connection where the load says so or there is none.
    pub(super) async fn ask(&mut self, n: usize) -> Result<()> {
        if matches!(self.load.connections, Connections::New) {
            self.connection = None;
        }
        let id = FIRST_ID + (self.index * IDS_PER_CLIENT + n) % (9 * FIRST_ID);
        let body = self.body.with_id(id);
        self.exchange(body).await
    }

    async fn exchange(&mut self, body: Bytes) -> Result<()> {
        let protocol = self.load.protocol;
        let connection = match &mut self.connection {
            Some(open) => open,
            none => none.insert(self.route.open(protocol).await?),
        };
        let path = match self.load.payload {
            Payload::Rest => "/v1/orders",
            Payload::ToolCall => "/mcp",
        };
        let mut request = self.route.request(protocol, Method::POST, path, Full::new(body).boxed())?;
        if matches!(self.load.payload, Payload::ToolCall) {
            let headers = request.headers_mut();
            headers.insert("mcp-protocol-version", "2025-06-18".parse()?);
            headers.insert("mcp-session-id", "6f1c0e52-bench".parse()?);
        }
        let response = connection.send(request).await?;
        let status = response.status();
        let mut answer = response.into_body();
        while let Some(frame) = answer.frame().await {
            frame?;
        }
        ensure!(status.is_success(), "answered with {status}");
        Ok(())
    }
}

/// A body with a hole for the id, so that each request costs one copy and no formatting of text.
struct BodyText {
    before: String,
    after: String,
}

impl BodyText {
    fn new(payload: Payload) -> Self {
        let (before, middle, end) = match payload {
            Payload::Rest => (r#"{"order":"#, r#","customer":"c-2041","note":""#, r#""}"#),
            Payload::ToolCall => (
                r#"{"jsonrpc":"2.0","id":"#,
                r#","method":"tools/call","params":{"name":"search_issues","arguments":{"query":""#,
                r#""}}}"#,
            ),
        };
        let fixed = before.len() + 7 + middle.len() + end.len();
        let mut after = String::from(middle);
        let words = "repo:acme/site is:open label:bug sort:updated ";
        after.extend(words.chars().cycle().take(BODY_BYTES.saturating_sub(fixed)));
        after.push_str(end);
        Self { before: before.to_owned(), after }
    }

    fn with_id(&self, id: usize) -> Bytes {
        let mut text = String::with_capacity(BODY_BYTES);
        text.push_str(&self.before);
        let _ = write!(text, "{id}");
        text.push_str(&self.after);
        Bytes::from(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_body_is_one_kib_of_json_and_only_a_tool_call_is_json_rpc() {
        for (payload, is_rpc) in [(Payload::Rest, false), (Payload::ToolCall, true)] {
            let body = BodyText::new(payload).with_id(FIRST_ID);
            assert_eq!(body.len(), BODY_BYTES);
            let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(value.get("jsonrpc").is_some(), is_rpc);
        }
    }

    #[test]
    fn quantiles_come_from_the_sorted_latencies() {
        let outcome = Outcome { latencies_us: (1..=100).collect(), ..Outcome::default() };
        assert_eq!(outcome.quantile_us(0.5), 50.0);
        assert_eq!(outcome.quantile_us(1.0), 100.0);
        assert_eq!(Outcome::default().quantile_us(0.5), 0.0);
    }
}
