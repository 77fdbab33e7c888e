//! Flows that are only watched.

use std::time::{Duration, Instant};

use gnomon_link::{Executable, IdentityAnswer, Image, Name, NameOrigin, Text, ToProxy, ToSensor};
use serde_json::{Value, json};

use super::raw::{Call, client_hello, close, hello, part};
use super::stage::{Stage, ada, container, known, knows, silent};
use crate::WatchOptions;

const MCP: &str = "mcp.vendor.example";

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_else(|| panic!("{field} in {event}"))
}

#[tokio::test]
async fn a_flow_to_a_host_known_for_mcp_is_reported_with_who_made_it() {
    let stage = Stage::new(&[], known()).await;
    stage.connect(&Call::new(1)).await;
    stage.record(&hello(1, MCP));
    let [event] = &stage.events().await[..] else { panic!("{:?}", stage.events().await) };
    let expected = [
        ("gnomon.vantage", "flow"),
        ("gnomon.correlation", "owner"),
        ("gnomon.confidence", "suspected"),
        ("gnomon.action", "log"),
        ("gnomon.channel", "https"),
        ("gnomon.flow.outcome", "observed"),
        ("gnomon.process.identity", "confirmed"),
        ("gnomon.process.image", "on_disk"),
        ("gnomon.cgroup", "/user.slice/user-1000.slice"),
        ("event.kind", "alert"),
        ("server.address", MCP),
        ("tls.client.server_name", MCP),
        ("destination.address", "203.0.113.7"),
        ("process.executable.path", "/usr/bin/node"),
        ("process.command_line", "node agent.js"),
        ("process.parent.executable.path", "/usr/bin/bash"),
        ("user.id", "1000"),
        ("user.name", "ada"),
    ];
    for (field, value) in expected {
        assert_eq!(text(event, field), value, "{field}");
    }
    assert_eq!(event["process.pid"], 4711);
    assert_eq!(event["server.port"], 443);
    assert_eq!(event["user.group.names"], json!(["engineering"]));
    assert_eq!(event["process.ancestors"], json!(["/usr/bin/bash", "/usr/lib/systemd/systemd"]));
    assert_eq!(text(event, "process.executable.hash.sha256"), "ab".repeat(32));
    assert_eq!(text(event, "tls.client.random"), "5a".repeat(32));
    assert!(text(event, "tls.client.ja4").starts_with("t13d0103h2_"), "{event}");
    assert!(event.get("container.id").is_none());
    stage.end().await;
}

#[tokio::test]
async fn a_flow_that_nothing_points_to_is_counted_and_not_reported() {
    let stage = Stage::new(&[], known()).await;
    stage.connect(&Call::new(1)).await;
    stage.record(&hello(1, "www.vendor.example"));
    stage.connect(&Call::new(2)).await;
    stage.record(&close(2, 0));
    assert_eq!(stage.events().await, Vec::<Value>::new());
    assert_eq!(stage.metric(r#"gnomon_flows_seen_total{tls="yes"}"#), Some(1));
    assert_eq!(stage.metric(r#"gnomon_flows_seen_total{tls="no"}"#), Some(1));
    assert_eq!(stage.metric(r#"gnomon_flow_bytes_total{direction="sent"}"#), Some(100));
    assert_eq!(stage.metric(r#"gnomon_flow_bytes_total{direction="received"}"#), Some(200));
    stage.end().await;
}

const BLOCK_NODE: &str = "
title: No vendor for node
id: 11111111-2222-4333-8444-555555555555
logsource: {product: mcp, category: mcp_traffic}
detection:
    node:
        process.executable.path: /usr/bin/node
        server.address: www.vendor.example
    condition: node
level: high
gnomon:
    response: {action: block}
";

#[tokio::test]
async fn a_rule_that_would_block_is_reported_as_what_happened() {
    let stage = Stage::new(&[BLOCK_NODE], known()).await;
    stage.connect(&Call::new(1)).await;
    stage.record(&hello(1, "www.vendor.example"));
    let [event] = &stage.events().await[..] else { panic!("one event") };
    assert_eq!(text(event, "gnomon.action"), "log");
    assert_eq!(text(event, "rule.name"), "No vendor for node");
    stage.end().await;
}

/// docs/privacy.md: what is not TLS is not recorded, whoever it is and whatever rules ask, unless it was to be sent through the proxy.
#[tokio::test]
async fn a_flow_without_tls_is_counted_and_reported_by_no_rule() {
    const NODE: &str = "
title: Node
id: 11111111-2222-4333-8444-555555555556
logsource: {product: mcp, category: mcp_traffic}
detection:
    node:
        process.executable.path: /usr/bin/node
    condition: node
";
    let stage = Stage::new(&[NODE], known()).await;
    stage.connect(&Call { port: 25, ..Call::new(1) }).await;
    stage.session().look(Instant::now() + Duration::from_secs(3));
    stage.record(&close(1, 0));
    assert_eq!(stage.events().await, Vec::<Value>::new());
    assert_eq!(stage.metric(r#"gnomon_flows_seen_total{tls="no"}"#), Some(1));
    stage.connect(&Call::new(2)).await;
    stage.record(&hello(2, "www.vendor.example"));
    assert_eq!(stage.events().await.len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn an_unknown_process_is_never_guessed() {
    for (found, why) in [
        (IdentityAnswer::Gone, "gone"),
        (IdentityAnswer::Stale, "stale"),
        (IdentityAnswer::Unreadable(Name::cut("not permitted")), "unreadable"),
    ] {
        let stage = Stage::new(&[BLOCK_NODE], knows(found)).await;
        stage.connect(&Call::new(1)).await;
        stage.record(&hello(1, "www.vendor.example"));
        assert_eq!(stage.events().await.len(), 0, "not known to be node");
        stage.record(&Call::new(2).bytes());
        stage.session().who(&Call::new(2).owner(), super::stage::SOON).await;
        stage.record(&hello(2, MCP));
        let events = stage.events().await;
        assert_eq!(text(&events[0], "gnomon.process.identity"), why);
        assert_eq!((&events[0]["process.pid"], text(&events[0], "user.id")), (&json!(4711), "1000"), "the kernel's own word stands");
        assert!(events[0].get("process.executable.path").is_none());
        stage.end().await;
    }
}

#[tokio::test]
async fn a_container_counts_only_where_root_made_it_and_a_changed_user_has_no_name() {
    let mut identity = ada();
    identity.containers = gnomon_link::List::cut([container("mine", NameOrigin::Claimed(1000)), container("1f2d", NameOrigin::System)]);
    identity.executable = Executable::File { path: Text::cut("/memfd:x"), image: Image::Memory, sha256: None };
    identity.pod = Some(Name::cut("8d2b3f0a-4f0c"));
    let stage = Stage::new(&[], knows(IdentityAnswer::Identity(Box::new(identity)))).await;
    let call = Call { uid: 2000, ..Call::new(1) };
    stage.connect(&call).await;
    stage.record(&hello(1, MCP));
    let [event] = &stage.events().await[..] else { panic!("one event") };
    assert_eq!((text(event, "container.id"), text(event, "container.runtime.name")), ("1f2d", "docker"));
    assert_eq!(text(event, "k8s.pod.uid"), "8d2b3f0a-4f0c");
    assert_eq!(text(event, "gnomon.process.image"), "memory");
    assert_eq!(text(event, "user.id"), "2000");
    assert!(event.get("user.name").is_none() && event.get("process.executable.hash.sha256").is_none());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_waits_for_its_owner_no_longer_than_its_bound() {
    let options = WatchOptions { own_pid: None, patience: Duration::from_secs(60), ..WatchOptions::default() };
    let stage = Stage::with(&[], options, silent).await;
    stage.record(&Call::new(1).bytes());
    stage.record(&hello(1, MCP));
    stage.session().look(Instant::now());
    assert_eq!(stage.events().await.len(), 0, "the answer may still come");
    let token = loop {
        match stage.sensor.asked.recv_timeout(super::stage::SOON).unwrap() {
            ToSensor::Resolve { token, .. } => break token,
            _ => continue,
        }
    };
    let answer = ToProxy::Process { token, found: IdentityAnswer::Identity(Box::new(ada())) };
    stage.sensor.end.send(&answer, &[], super::stage::SOON).unwrap();
    stage.session().who(&Call::new(1).owner(), super::stage::SOON).await;
    stage.session().look(Instant::now());
    stage.record(&Call { pid: 99, ..Call::new(2) }.bytes());
    stage.record(&hello(2, MCP));
    stage.session().look(Instant::now() + Duration::from_secs(61));
    let events = stage.events().await;
    assert_eq!(text(&events[0], "process.executable.path"), "/usr/bin/node");
    assert_eq!(text(&events[1], "gnomon.process.identity"), "late");
    stage.end().await;
}

#[tokio::test]
async fn a_hello_in_single_bytes_is_read_and_one_with_a_gap_is_reported_as_unreadable() {
    let stage = Stage::new(&[], known()).await;
    stage.connect(&Call::new(1)).await;
    let bytes = client_hello(MCP);
    for (at, byte) in bytes.iter().enumerate() {
        stage.record(&part(1, at, bytes.len() - at - 1, &[*byte]));
    }
    assert_eq!(stage.events().await.len(), 1);
    stage.connect(&Call::new(2)).await;
    stage.record(&part(2, 0, bytes.len() - 9, &bytes[..9]));
    stage.record(&part(2, 12, 0, &bytes[12..]));
    assert_eq!(stage.metric(r#"gnomon_flows_seen_total{tls="unreadable"}"#), Some(1));
    stage.record(&hello(99, MCP));
    assert_eq!(stage.metric(r#"gnomon_watch_shed_total{what="hello"}"#), Some(1), "nobody connected");
    assert_eq!(stage.events().await.len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn our_own_flows_and_those_that_the_proxy_serves_are_not_judged_here() {
    let options = WatchOptions { own_pid: Some(4711), ..WatchOptions::default() };
    let stage = Stage::with(&[], options, known()).await;
    stage.connect(&Call::new(1)).await;
    stage.record(&hello(1, MCP));
    let other = |cookie| Call { pid: 99, ..Call::new(cookie) };
    stage.connect(&Call { pid: 99, ..Call::redirected(2) }).await;
    stage.record(&hello(2, MCP));
    stage.connect(&other(3)).await;
    stage.session().served(3);
    stage.record(&hello(3, MCP));
    // The proxy may be faster than the ring.
    stage.session().served(4);
    stage.connect(&other(4)).await;
    stage.record(&hello(4, MCP));
    assert_eq!(stage.events().await.len(), 0);
    stage.end().await;
}

#[tokio::test]
async fn one_process_that_connects_without_end_does_not_push_out_others() {
    let options = WatchOptions { own_pid: None, flows: 64, ..WatchOptions::default() };
    let stage = Stage::with(&[], options, known()).await;
    stage.connect(&Call { pid: 99, uid: 2000, ..Call::new(1) }).await;
    for cookie in 10..1_000 {
        stage.record(&Call::new(cookie).bytes());
    }
    assert_eq!(stage.metric(r#"gnomon_watch_shed_total{what="flow"}"#), Some(990 - 63));
    stage.record(&hello(1, MCP));
    assert_eq!(stage.events().await.len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn flows_of_one_incident_are_one_alert() {
    let stage = Stage::new(&[], known()).await;
    for cookie in 1..4 {
        stage.connect(&Call::new(cookie)).await;
        stage.record(&hello(cookie, MCP));
    }
    let kinds: Vec<_> = stage.events().await.iter().map(|event| text(event, "event.kind").to_owned()).collect();
    assert_eq!(kinds, ["alert", "signal", "signal"]);
    stage.end().await;
}
