//! What an event costs in CPU, from the hand-over to the fsync: the whole process is measured, so
//! the writer's and SQLite's threads count. Bursts of a thousand events every 50 ms are 20,000
//! events a second.
//!
//! `cargo run --release -p gnomon-ledger --example ledger_cost [BURSTS]`

use gnomon_ledger::{Event, JsonlTarget, Ledger, LedgerOptions, Reader, Recorded};
use gnomon_observe::{Family, Field, Observation};
use std::{
    error::Error,
    time::{Duration, Instant},
};

const BURST: usize = 1000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let bursts: usize = std::env::args().nth(1).map_or(Ok(100), |n| n.parse())?;
    for (name, with_jsonl) in [("database and JSON lines", true), ("database only", false)] {
        measure(name, with_jsonl.then_some("events.jsonl"), bursts).await?;
    }
    Ok(())
}

async fn measure(name: &str, jsonl: Option<&str>, bursts: usize) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut options = LedgerOptions::new(dir.path().join("ledger.sqlite"));
    options.jsonl = jsonl.map_or(JsonlTarget::None, |file| JsonlTarget::File(dir.path().join(file)));
    let path = options.path.clone();
    let (ledger, writer) = Ledger::open(options).await?;
    let template = call();
    let (mut handed_over, mut lost) = (Duration::ZERO, 0);
    // Cloning the observation is the example's cost, not the ledger's: measured apart.
    let before = cpu()?;
    for _ in 0..bursts {
        std::hint::black_box((0..BURST).map(|_| template.clone()).collect::<Vec<_>>());
    }
    let cloning = cpu()? - before;

    let before = cpu()?;
    let mut next = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..bursts {
        next.tick().await;
        let burst: Vec<Observation> = (0..BURST).map(|_| template.clone()).collect();
        let start = Instant::now();
        for seen in burst {
            lost += usize::from(ledger.record(Event::now(seen)) != Recorded::Queued);
        }
        handed_over += start.elapsed();
    }
    ledger.flush().await?;
    let spent = (cpu()? - before).saturating_sub(cloning);
    let events = bursts * BURST;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / events as f64;
    println!(
        "{name}: {events} events, {lost} lost, {:.2} us CPU each in all, of which {:.2} us on the recorder's side",
        each(spent),
        each(handed_over)
    );
    writer.shutdown().await;
    let last = Reader::open(&path).await?.events(&Default::default(), gnomon_ledger::Order::NewestFirst).await?;
    println!("  {} bytes a line, {} bytes of database per event", last[0].json.len() + 1, std::fs::metadata(&path)?.len() / events as u64);
    Ok(())
}

/// CPU time of all threads of this process, also of those that have ended: /proc/self/stat counts
/// in ticks, so its two fields are exact to 10 ms.
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").ok_or("no stat")?.1;
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap_or(0)).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// A tools/call as the proxy sees it.
fn call() -> Observation {
    let mut seen = Observation::new();
    for (field, value) in [
        (Field::EventKind, "signal"),
        (Field::ObservationId, "019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b10"),
        (Field::IncidentId, "019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b0f"),
        (Field::Action, "log"),
        (Field::Confidence, "confirmed"),
        (Field::DetectionClass, "mcp"),
        (Field::RuleId, "8d2b3f0a-4f0c-4c3f-9d0e-2f1f3a5b7c9d"),
        (Field::RuleName, "MCP message to a server outside the portal"),
        (Field::RuleLevel, "high"),
        (Field::McpMethod, "tools/call"),
        (Field::RpcMethod, "tools/call"),
        (Field::ToolName, "read_file"),
        (Field::RpcId, "17"),
        (Field::McpSessionId, "7da9fbca-58f8-4c3a-93fe-3d2becefbe67"),
        (Field::McpProtocolVersion, "2025-11-25"),
        (Field::McpClientName, "codex-mcp-client"),
        (Field::McpClientVersion, "0.169.0"),
        (Field::ServerAddress, "mcp.example.com"),
        (Field::UrlPath, "/mcp"),
        (Field::UrlFull, "https://mcp.example.com/mcp"),
        (Field::HttpMethod, "POST"),
        (Field::UserAgent, "codex-mcp-client/0.169.0"),
        (Field::HttpVersion, "1.1"),
        (Field::Sni, "mcp.example.com"),
        (Field::Alpn, "http/1.1"),
        (Field::Ja4, "t13d1011h2_61a7ad8aa9b6_3a6a1b5a1f0c"),
        (Field::Transport, "tcp"),
        (Field::SourceAddress, "127.0.0.1"),
        (Field::HostName, "build-17"),
        (Field::Channel, "https"),
        (Field::Correlation, "none"),
        (Field::Vantage, "proxy"),
        (Field::FlowId, "019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b12"),
    ] {
        seen.set(field, value);
    }
    for (field, number) in [
        (Field::ServerPort, 443_i64),
        (Field::HttpStatus, 200),
        (Field::RequestSize, 1024),
        (Field::ResponseSize, 512),
        (Field::SourcePort, 51234),
        (Field::DurationMs, 12),
    ] {
        seen.set(field, number);
    }
    for (field, list) in [(Field::Evidence, ["header", "body"]), (Field::Signatures, ["H1", "B3"])] {
        seen.set(field, list.map(Into::into).to_vec());
    }
    seen.set(Field::Sanctioned, false);
    seen.set_member(Family::RequestHeader, "content-type", "application/json");
    seen
}
