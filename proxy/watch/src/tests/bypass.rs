//! Flows that a scope should have sent through the proxy.

use std::time::{Duration, Instant};

use gnomon_sensor_abi::{Reason, decision, end};
use serde_json::Value;

use super::raw::{Call, close, hello};
use super::stage::{Stage, known};

fn policy(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|event| event["gnomon.detection.class"] == "policy").collect()
}

#[tokio::test]
async fn a_flow_that_could_not_be_redirected_is_a_detection_that_says_why() {
    for reason in Reason::ALL {
        let stage = Stage::new(&[], known()).await;
        stage.connect(&Call::fail_open(1, reason)).await;
        stage.record(&hello(1, "files.vendor.example"));
        let events = stage.events().await;
        let [event] = policy(&events)[..] else { panic!("{events:?}") };
        assert_eq!(event["gnomon.bypass.reason"], reason.name());
        assert_eq!(event["gnomon.flow.outcome"], "around_proxy");
        assert_eq!(event["server.address"], "files.vendor.example");
        assert_eq!(event["user.name"], "ada");
        assert!(event["message"].as_str().unwrap().starts_with("went around the proxy: "), "{event}");
        stage.session().look(Instant::now() + Duration::from_secs(3));
        assert_eq!(stage.events().await.len(), events.len(), "it is told once");
        stage.end().await;
    }
}

#[tokio::test]
async fn a_flow_without_a_server_name_is_reported_by_its_address_when_it_ends_or_after_two_seconds() {
    let stage = Stage::new(&[], known()).await;
    stage.connect(&Call { port: 5432, ..Call::fail_open(1, Reason::NoListener) }).await;
    stage.connect(&Call { port: 22, ..Call::fail_open(2, Reason::NoListener) }).await;
    stage.session().look(Instant::now());
    assert_eq!(stage.events().await.len(), 0, "a hello may come");
    stage.record(&close(1, end::CLOSED));
    assert_eq!(stage.events().await.len(), 1);
    stage.session().look(Instant::now() + Duration::from_secs(3));
    let events = stage.events().await;
    let ports: Vec<_> = policy(&events).iter().map(|event| event["server.port"].as_i64().unwrap()).collect();
    assert_eq!(ports, [5432, 22]);
    assert_eq!(events[0]["server.address"], "203.0.113.7");
    stage.end().await;
}

#[tokio::test]
async fn what_was_never_connected_or_is_served_went_around_nothing() {
    let stage = Stage::new(&[], known()).await;
    stage.connect(&Call::fail_open(1, Reason::StaleHeartbeat)).await;
    stage.record(&close(1, end::REFUSED));
    stage.connect(&Call::fail_open(2, Reason::StaleHeartbeat)).await;
    stage.session().served(2);
    stage.connect(&Call { decision: decision::FAIL_CLOSED, ..Call::fail_open(3, Reason::StaleHeartbeat) }).await;
    stage.connect(&Call { decision: decision::QUIC_REFUSED, reason: None, ..Call::fail_open(4, Reason::StaleHeartbeat) }).await;
    stage.session().look(Instant::now() + Duration::from_secs(3));
    assert_eq!(stage.events().await.len(), 0);
    stage.end().await;
}

#[tokio::test]
async fn on_a_port_that_the_scope_leaves_out_known_hosts_count_from_the_first_connection_on() {
    let stage = Stage::new(&[], known()).await;
    // Nothing was redirected yet: what a scope is there for is known from the configuration, and of those of gnomon exec always.
    let left_out = |cookie| Call { scope: 7, port: 8443, ..Call::new(cookie) };
    stage.connect(&left_out(2)).await;
    stage.record(&hello(2, "files.vendor.example"));
    assert_eq!(stage.events().await.len(), 0);
    stage.connect(&left_out(3)).await;
    stage.record(&hello(3, "mcp.vendor.example"));
    let events = stage.events().await;
    let [event] = policy(&events)[..] else { panic!("{events:?}") };
    assert_eq!(event["gnomon.bypass.reason"], "not_redirected");
    // Another scope that only observes, and one of gnomon exec.
    stage.connect(&Call { scope: 8, ..Call::new(4) }).await;
    stage.record(&hello(4, "mcp.vendor.example"));
    assert_eq!(policy(&stage.events().await).len(), 1);
    stage.connect(&Call { scope: gnomon_link::EXEC_SCOPES | 3, ..Call::new(5) }).await;
    stage.record(&hello(5, "mcp.vendor.example"));
    assert_eq!(policy(&stage.events().await).len(), 2);
    stage.end().await;
}
