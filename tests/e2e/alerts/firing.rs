//! One event fires one alert, and the alert's command shows that event.

use super::prometheus::{Prometheus, Watched, has, home};
use crate::sensor_stage::kill;
use gnomon_ledger::{Event, Ledger, LedgerOptions, Recorded};
use gnomon_observe::{Field, Observation};
use rustix::process::Signal;
use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

/// The id of the last detection that the story of an incident names.
fn last_detection(printed: &str) -> &str {
    let command = printed.lines().find_map(|line| line.trim().strip_prefix("gnomon events show ")).unwrap();
    command.split_whitespace().next().unwrap()
}

#[test]
fn the_first_shadow_call_fires_and_its_command_prints_exactly_that_event() {
    if !has("the_first_shadow_call_fires_and_its_command_prints_exactly_that_event", &["prometheus"]) {
        return;
    }
    let watched = Watched::start();
    let prometheus = Prometheus::watching(&watched);
    assert_eq!(prometheus.names(), [""; 0]);
    watched.call("read_file", "");

    let alert = prometheus.fires("GnomonShadowMcpCall");
    let printed = watched.printed(&alert);
    assert!(printed.starts_with("Incident i") && printed.contains("127.0.0.2") && printed.contains("tools/call read_file"), "{printed}");
    assert!(alert["annotations"]["description"].as_str().unwrap().contains("\"MCP message to an unsanctioned server\""), "{alert}");

    // From there to the story: each detection's line ends with its id.
    let id = last_detection(&printed);
    let story = String::from_utf8(watched.run(&format!("gnomon events show {id}")).stdout).unwrap();
    assert!(story.contains("tools/call read_file") && story.contains("What came of it"), "{story}");
    assert!(story.contains(&format!("gnomon triage {id} benign --until DATE --reason TEXT")), "{story}");

    let first_seen = prometheus.fires("GnomonFirstSeenServer");
    let printed = watched.printed(&first_seen);
    assert!(printed.matches("127.0.0.").count() == 1 && printed.contains("127.0.0.2:1/mcp"), "{printed}");
    assert!(printed.contains("tried, and never reached"), "nobody listens there: {printed}");
    // One call, for which two alerts fire.
    assert_eq!(prometheus.names(), ["GnomonFirstSeenServer", "GnomonShadowMcpCall"]);
}

#[test]
fn a_contradiction_between_header_and_body_fires_with_its_own_event() {
    if !has("a_contradiction_between_header_and_body_fires_with_its_own_event", &["prometheus"]) {
        return;
    }
    let watched = Watched::start();
    let prometheus = Prometheus::watching(&watched);
    watched.call_at("127.0.0.3:1", "read_file");
    watched.call("write_file", "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\nMcp-Name: write_file\r\n");

    let alert = prometheus.fires("GnomonHeaderMismatch");
    let printed = watched.printed(&alert);
    assert!(printed.contains("write_file") && !printed.contains("127.0.0.3"), "{printed}");
    prometheus.fires("GnomonShadowMcpCall");
}

#[test]
fn the_first_call_of_a_scanner_fires_with_its_own_event() {
    if !has("the_first_call_of_a_scanner_fires_with_its_own_event", &["prometheus"]) {
        return;
    }
    let watched = Watched::start();
    let prometheus = Prometheus::watching(&watched);
    watched.call_at("127.0.0.3:1", "read_file");
    watched.call("write_file", "User-Agent: Nuclei - Open-source project (github.com/projectdiscovery/nuclei)\r\n");

    let alert = prometheus.fires("GnomonSuspiciousUserAgent");
    assert_eq!((&alert["labels"]["level"], &alert["labels"]["severity"]), (&"high".into(), &"warning".into()));
    let printed = watched.printed(&alert);
    assert!(printed.contains("write_file") && printed.contains("MCP by a security scanner") && !printed.contains("127.0.0.3"), "{printed}");
    prometheus.fires("GnomonShadowMcpCall");
}

#[test]
fn what_a_server_may_have_read_and_no_rule_refused_fires_with_its_own_event() {
    if !has("what_a_server_may_have_read_and_no_rule_refused_fires_with_its_own_event", &["prometheus"]) {
        return;
    }
    let watched = Watched::start();
    let prometheus = Prometheus::watching(&watched);
    watched.tunnel("127.0.0.2:1", "POST /mcp HTTP/1.2\r\nHost: 127.0.0.2:1\r\n\r\n");
    let alert = prometheus.fires("GnomonPassedUnread");
    assert_eq!(alert["labels"]["reason"], "request_line_odd");
    let printed = watched.printed(&alert);
    assert!(printed.lines().count() == 1 && printed.contains("127.0.0.2"), "{printed}");
}

#[test]
fn more_incidents_of_one_user_than_are_told_one_by_one_fire_together() {
    if !has("more_incidents_of_one_user_than_are_told_one_by_one_fire_together", &["prometheus"]) {
        return;
    }
    let watched = Watched::start();
    let prometheus = Prometheus::watching(&watched);
    (2..72).for_each(|n| watched.call_at(&format!("127.0.1.{n}:1"), "read_file"));
    let alert = prometheus.fires("GnomonMoreIncidents");
    let printed = watched.printed(&alert);
    assert!(printed.contains("127.0.1.2") && printed.contains("127.0.1.71"), "{printed}");
}

/// A rule of an administrator.
const OWN_RULE: &str = "\
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

#[test]
fn a_rule_that_cannot_be_loaded_fires_until_it_can_and_then_fires_itself() {
    if !has("a_rule_that_cannot_be_loaded_fires_until_it_can_and_then_fires_itself", &["prometheus"]) {
        return;
    }
    let watched = Watched::start();
    let prometheus = Prometheus::watching(&watched);
    let file = watched.dir.path().join("rules/own.yml");
    fs::write(&file, OWN_RULE.replace("gen_ai.tool.name", "gen_ai.tool.nmae")).unwrap();
    let alert = prometheus.fires("GnomonRulesReloadFailed");
    let told = watched.run(alert["annotations"]["command"].as_str().unwrap());
    let told = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.contains("own.yml") && told.contains("gen_ai.tool.nmae"), "{told}");

    fs::write(&file, OWN_RULE).unwrap();
    prometheus.resolves("GnomonRulesReloadFailed");
    watched.call("delete_file", "");
    let alert = prometheus.fires("GnomonDetection");
    assert_eq!(alert["labels"]["severity"], "critical");
    assert!(alert["annotations"]["description"].as_str().unwrap().starts_with("Rule \"Deletes files\""), "{alert}");
    let printed = watched.printed(&alert);
    assert!(printed.contains("Deletes files") && printed.contains("delete_file"), "{printed}");
}

#[test]
fn a_configuration_that_is_refused_at_a_reload_fires_until_it_is_mended() {
    if !has("a_configuration_that_is_refused_at_a_reload_fires_until_it_is_mended", &["prometheus"]) {
        return;
    }
    let listen = gnomon_testkit::free_port();
    let portal = |policy: &str| {
        format!(
            "servers: [{{id: tools, url: 'http://127.0.0.2:1/mcp'}}]\n\
             portals: [{{id: main, listen: '{listen}', servers: [tools], auth: {{mode: none}}, policy: [{{{policy}: {{servers: [tools]}}}}]}}]\n"
        )
    };
    let watched = Watched::at(home(&portal("allow")), &["proxy"]);
    let prometheus = Prometheus::watching(&watched);
    let file = watched.dir.path().join("gnomon.yml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("allow:", "alow:")).unwrap();
    kill(watched.pid(), Signal::HUP);
    let alert = prometheus.fires("GnomonConfigReloadFailed");
    let told = watched.run(alert["annotations"]["command"].as_str().unwrap());
    let told = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.contains("gnomon.yml:") && told.contains("alow"), "{told}");
    fs::write(&file, good).unwrap();
    kill(watched.pid(), Signal::HUP);
    prometheus.resolves("GnomonConfigReloadFailed");
}

#[test]
fn decisions_that_cannot_be_read_fire_until_they_can() {
    if !has("decisions_that_cannot_be_read_fire_until_they_can", &["prometheus"]) {
        return;
    }
    let dir = home("");
    let file = dir.path().join("state/reviews.jsonl");
    fs::create_dir(dir.path().join("state")).unwrap();
    fs::write(&file, "no review\n").unwrap();
    let watched = Watched::at(dir, &["proxy"]);
    let prometheus = Prometheus::watching(&watched);
    let alert = prometheus.fires("GnomonDecisionsUnread");
    let told = watched.run(alert["annotations"]["command"].as_str().unwrap());
    let told = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.contains("reviews.jsonl"), "{told}");
    fs::write(&file, "").unwrap();
    prometheus.resolves("GnomonDecisionsUnread");
}

#[test]
fn an_endpoint_that_nobody_registered_fires_with_its_own_event() {
    if !has("an_endpoint_that_nobody_registered_fires_with_its_own_event", &["prometheus"]) {
        return;
    }
    let watched = Watched::start();
    let prometheus = Prometheus::watching(&watched);
    watched.post("/page", "Mcp-Session-Id: 7f3c0a52-9d4e\r\n", "no message");

    let alert = prometheus.fires("GnomonUnregisteredEndpoint");
    let printed = watched.printed(&alert);
    assert!(printed.contains("127.0.0.2"), "{printed}");
    prometheus.fires("GnomonFirstSeenServer");
    assert_eq!(prometheus.names(), ["GnomonFirstSeenServer", "GnomonUnregisteredEndpoint"]);
}

#[test]
fn an_approval_that_ran_out_fires_with_its_own_event() {
    if !has("an_approval_that_ran_out_fires_with_its_own_event", &["prometheus"]) {
        return;
    }
    let watched = Watched::start();
    let prometheus = Prometheus::watching(&watched);
    let approved = watched.run("gnomon review approve 127.0.0.2:1 --owner team-x --reason trial --until 1s");
    assert!(approved.status.success(), "{approved:?}");

    let alert = prometheus.fires("GnomonDetection");
    assert_eq!((&alert["labels"]["level"], &alert["labels"]["severity"]), (&"medium".into(), &"warning".into()));
    let printed = watched.printed(&alert);
    assert!(printed.contains("127.0.0.2"), "{printed}");
    let id = last_detection(&printed);
    let story = String::from_utf8(watched.run(&format!("gnomon events show {id}")).stdout).unwrap();
    assert!(story.contains("the approval of 127.0.0.2:1 ran out") && story.contains("team-x"), "{story}");
}

/// Writes a ledger with ten days of three calls an hour for eight hours each, and in the current hour as many calls as never count as
/// unusual (100). Waits first if the hour is about to end, so that all calls of the test are in one hour.
async fn ten_days(state: &Path) {
    const HOUR: Duration = Duration::from_secs(3600);
    let left = || HOUR.as_secs() - SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() % HOUR.as_secs();
    while left() < 60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    fs::create_dir(state).unwrap();
    let (ledger, writer) = Ledger::open(LedgerOptions::new(state.join("ledger.sqlite"))).await.unwrap();
    let now = SystemTime::now();
    let usual = (1..=10).flat_map(|day| (0..8).map(move |hour| (now - HOUR * (24 * day - hour), 3)));
    let mut hours: Vec<_> = usual.chain([(now, 100)]).collect();
    hours.sort();
    for (at, calls) in hours {
        for call in 0..calls {
            let mut seen = Observation::new();
            seen.set(Field::McpMethod, "tools/call");
            seen.set(Field::SourceAddress, "127.0.0.1");
            seen.set(Field::ServerAddress, "127.0.0.2");
            seen.set(Field::ServerPort, 1_i64);
            seen.set(Field::ObservationId, format!("{at:?} {call}"));
            assert_eq!(ledger.record(Event::at(seen, at)), Recorded::Queued);
        }
    }
    ledger.flush().await.unwrap();
    writer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn far_more_calls_than_are_usual_fire_with_the_event_that_counts_them() {
    if !has("far_more_calls_than_are_usual_fire_with_the_event_that_counts_them", &["prometheus"]) {
        return;
    }
    // What is told of a server that nobody sanctioned is more serious.
    let dir = home("sanctioned: [127.0.0.2]\n");
    ten_days(&dir.path().join("state")).await;
    let watched = Watched::at(dir, &["proxy"]);
    let prometheus = Prometheus::watching(&watched);
    // The 101st call of this hour.
    watched.call("read_file", "");

    let alert = prometheus.fires("GnomonUnusualVolume");
    let printed = watched.printed(&alert);
    assert!(printed.contains("Unusual volume"), "{printed}");
    let id = last_detection(&printed);
    let story = String::from_utf8(watched.run(&format!("gnomon events show {id}")).stdout).unwrap();
    assert!(story.contains("101 requests") && story.contains("in 95 of 100 hours they are at most 3"), "{story}");
}
