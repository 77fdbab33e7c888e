//! How long the commands of an analyst take over a large ledger. By hand, on a machine that does nothing else:
//! `cargo test --release --test e2e -- large_ledger --ignored --nocapture`.

use crate::{alerts::prometheus::home, exec::GNOMON};
use gnomon_ledger::{Event, Ledger, LedgerOptions, Recorded};
use gnomon_observe::{Field, Observation};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

const EVENTS: u32 = 100_000;
/// So many fit into the ledger's queue.
const AT_ONCE: u32 = 4_000;
/// From one event to the next: all of them are within six days.
const PAUSE: Duration = Duration::from_secs(5);
const USERS: u32 = 20;
const SERVERS: u32 = 12;
/// One in so many is what the rule looks for.
const FOUND: u32 = 25;

/// What these commands may take.
const CHECK: Duration = Duration::from_secs(2);
const REPORT: Duration = Duration::from_secs(1);

/// A rule of an administrator: `rules check` counts the events that it would have matched.
const RULE: &str = "\
title: Deletes files
id: 3f0c7a52-9d4e-4f0b-8a11-5b2e6c9d7e10
status: test
logsource: { product: mcp, category: mcp_traffic }
detection:
    call: { gen_ai.tool.name: delete_file }
    condition: call
level: critical
gnomon: { class: policy }
";

/// A detection of a call to a server that nobody sanctioned.
fn detection(n: u32) -> Observation {
    let rule = "a06d0be7-29e6-427c-8e90-673c481c5fac";
    let mut seen = Observation::new();
    seen.set(Field::EventKind, "alert");
    seen.set(Field::ObservationId, format!("call {n}"));
    seen.set(Field::SourceAddress, "127.0.0.1");
    seen.set(Field::UserName, format!("user{}", n % USERS));
    seen.set(Field::Executable, "/usr/bin/node");
    seen.set(Field::ServerAddress, format!("mcp{}.vendor.example", n % SERVERS));
    seen.set(Field::ServerPort, 443_i64);
    seen.set(Field::Sanctioned, false);
    seen.set(Field::Channel, "https");
    seen.set(Field::HttpMethod, "POST");
    seen.set(Field::HttpStatus, 200_i64);
    seen.set(Field::UrlPath, "/mcp");
    seen.set(Field::UserAgent, "node");
    seen.set(Field::McpMethod, "tools/call");
    seen.set(Field::ToolName, if n.is_multiple_of(FOUND) { "delete_file" } else { "read_file" });
    seen.set(Field::RuleId, rule);
    seen.set(Field::RuleName, "MCP message to an unsanctioned server");
    seen.set(Field::RuleLevel, "high");
    seen.set(Field::RulesMatched, vec![rule.into()]);
    seen.set(Field::DetectionClass, "mcp");
    seen.set(Field::Action, "log");
    seen.set(Field::Confidence, "confirmed");
    seen
}

async fn fill(state: &Path) {
    fs::create_dir(state).unwrap();
    let (ledger, writer) = Ledger::open(LedgerOptions::new(state.join("ledger.sqlite"))).await.unwrap();
    let now = SystemTime::now();
    for n in 0..EVENTS {
        assert_eq!(ledger.record(Event::at(detection(n), now - PAUSE * (EVENTS - n))), Recorded::Queued, "event {n}");
        if (n + 1).is_multiple_of(AT_ONCE) {
            ledger.flush().await.unwrap();
        }
    }
    ledger.flush().await.unwrap();
    writer.shutdown().await;
}

/// Runs a command three times. Returns the time in the middle, and what it says.
fn timed(home: &Path, words: &[&str]) -> (Duration, String) {
    let mut runs: Vec<(Duration, String)> = (0..3)
        .map(|_| {
            let mut command = Command::new(GNOMON);
            command.args(words).env("GNOMON_CONFIG", home.join("gnomon.yml")).env("GNOMON_STATE_DIR", home.join("state"));
            let began = Instant::now();
            let output = command.output().unwrap();
            let took = began.elapsed();
            assert!(output.status.success(), "{words:?}: {output:?}");
            (took, String::from_utf8(output.stdout).unwrap())
        })
        .collect();
    runs.sort();
    runs.swap_remove(1)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, by hand: the top of the file has the command"]
async fn a_hundred_thousand_events_are_checked_within_two_seconds_and_reported_within_one() {
    let dir = home("");
    fs::write(dir.path().join("rules/own.yml"), RULE).unwrap();
    let began = Instant::now();
    fill(&dir.path().join("state")).await;
    println!("{EVENTS} events written in {:.1} s", began.elapsed().as_secs_f64());

    let (check, said) = timed(dir.path(), &["rules", "check"]);
    println!("gnomon rules check: {:.2} s, of {} s", check.as_secs_f64(), CHECK.as_secs());
    assert!(said.contains(&format!("Deletes files: would have matched {} times in ", EVENTS / FOUND)), "{said}");

    let (report, _) = timed(dir.path(), &["report"]);
    println!("gnomon report: {:.2} s, of {} s", report.as_secs_f64(), REPORT.as_secs());
    let page: Value = serde_json::from_str(&timed(dir.path(), &["report", "--json"]).1).unwrap();
    let messages: u64 = page["usage"]["days"].as_array().unwrap().iter().map(|day| day["shadow"].as_u64().unwrap()).sum();
    assert_eq!(messages, u64::from(EVENTS), "{page}");

    assert!(check <= CHECK && report <= REPORT, "rules check took {check:?}, report {report:?}");
}
