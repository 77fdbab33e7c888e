//! What is asked is answered: filters, pages, following, inventory, incidents.

use super::*;
use gnomon_ledger::{FirstSeen, HostPort, IncidentRole, Incidents, MAX_CLIENTS, MAX_PATHS_PER_HOST, ServerStatus};
use gnomon_observe::{Channel, Confidence};
use smol_str::SmolStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn ids(events: &[StoredEvent]) -> Vec<String> {
    events.iter().map(|e| parse(e)["jsonrpc.request.id"].as_str().unwrap().to_owned()).collect()
}

fn only(condition: &str) -> EventFilter {
    EventFilter { conditions: vec![condition.parse().unwrap()], ..Default::default() }
}

#[tokio::test]
async fn filters_compare_any_field_whatever_its_type() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    let mut one = call("mcp.example.com", 1);
    one.set(Field::EventKind, "alert");
    one.set(Field::Sanctioned, false);
    one.set(Field::UserName, "ada");
    one.set(Field::RuleId, "r1");
    one.set(Field::RuleName, "Shadow call");
    one.set(Field::RulesMatched, vec!["r1".into(), "r2".into()]);
    let mut two = call("other.example.com", 2);
    two.set(Field::Sanctioned, true);
    two.set(Field::Evidence, vec!["host".into(), "body".into()]);
    two.set(Field::HttpStatus, 200_i64);
    two.set(Field::ToolName, "it's \"quoted\" ünïcode");
    let mut three = call("mcp.example.com", 3);
    three.set_member(gnomon_observe::Family::RequestHeader, "mcp-name", "echo");
    for (n, seen) in [one, two, three].into_iter().enumerate() {
        let when = UNIX_EPOCH + Duration::from_millis(2_000_000_000_000 + n as u64);
        let _ = ledger.record(Event::at(seen, when));
    }
    ledger.flush().await.unwrap();

    let mut reader = state.reader().await;
    for (condition, expected) in [
        ("server.address=mcp.example.com", vec!["1", "3"]),
        ("server.address!=mcp.example.com", vec!["2"]),
        ("server.address=mcp.*", vec!["1", "3"]),
        ("server.address=*.EXAMPLE.com", vec![]),
        ("event.kind=alert", vec!["1"]),
        ("user.name=ada", vec!["1"]),
        ("user.name!=ada", vec!["2", "3"]),
        ("user.name=*", vec!["1"]),
        ("user.name!=*", vec!["2", "3"]),
        ("rule.id=r1", vec!["1"]),
        ("gnomon.sanctioned=true", vec!["2"]),
        ("gnomon.sanctioned=false", vec!["1"]),
        ("gnomon.sanctioned!=true", vec!["1", "3"]),
        ("gnomon.evidence=body", vec!["2"]),
        ("gnomon.evidence=bod", vec![]),
        ("gnomon.evidence=bod*", vec!["2"]),
        ("gnomon.evidence!=body", vec!["1", "3"]),
        ("http.response.status_code=200", vec!["2"]),
        ("http.response.status_code!=200", vec!["1", "3"]),
        ("http.response.status_code>=200", vec!["2"]),
        ("http.response.status_code>200", vec![]),
        ("http.response.status_code<1000", vec!["2"]),
        ("http.response.status_code<=199", vec![]),
        ("http.response.status_code=2*", vec!["2"]),
        ("gen_ai.tool.name=it's \"quoted\" ünïcode", vec!["2"]),
        ("gen_ai.tool.name=it's*", vec!["2"]),
        ("gen_ai.tool.name=read_fil?", vec![]),
        ("gen_ai.tool.name=re[a]d*", vec![]),
        ("http.request.header.mcp-name=echo", vec!["3"]),
        ("server.address=' OR 1=1 --", vec![]),
    ] {
        let found = reader.events(&only(condition), Order::OldestFirst).await.unwrap();
        assert_eq!(ids(&found), expected, "{condition}");
    }
    for (rule, expected) in [("r1", vec!["1"]), ("r2", vec!["1"]), ("Shadow call", vec!["1"]), ("r3", vec![])] {
        let filter = EventFilter { rule: Some(rule.to_owned()), ..Default::default() };
        assert_eq!(ids(&reader.events(&filter, Order::OldestFirst).await.unwrap()), expected, "{rule}");
    }
    let both = EventFilter { conditions: vec!["user.name=ada".parse().unwrap(), "rule.id!=r1".parse().unwrap()], ..Default::default() };
    assert_eq!(ids(&reader.events(&both, Order::OldestFirst).await.unwrap()), Vec::<String>::new());
    let kinds = EventFilter { kinds: vec!["event".into(), "signal".into()], ..Default::default() };
    assert_eq!(ids(&reader.events(&kinds, Order::NewestFirst).await.unwrap()), ["3", "2"]);
    let time = EventFilter { since_ms: Some(2_000_000_000_001), until_ms: Some(2_000_000_000_002), ..Default::default() };
    assert_eq!(ids(&reader.events(&time, Order::OldestFirst).await.unwrap()), ["2"]);
    writer.shutdown().await;
}

#[tokio::test]
async fn pages_follow_each_other_in_both_directions() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    for number in 0..10 {
        record(&ledger, call("mcp.example.com", number));
    }
    writer.shutdown().await;
    let mut reader = state.reader().await;
    for (order, expected) in [
        (Order::OldestFirst, vec![vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9, 10], vec![]]),
        (Order::NewestFirst, vec![vec![10, 9, 8, 7], vec![6, 5, 4, 3], vec![2, 1], vec![]]),
    ] {
        let mut filter = EventFilter { limit: 4, ..Default::default() };
        for page in expected {
            let found: Vec<i64> = reader.events(&filter, order).await.unwrap().iter().map(|e| e.seq).collect();
            assert_eq!(found, page);
            filter.after = found.last().copied().or(filter.after);
        }
    }
}

#[tokio::test]
async fn following_sees_each_new_event_once() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    record(&ledger, call("mcp.example.com", 0));
    ledger.flush().await.unwrap();
    let mut all = state.reader().await.follow(EventFilter { limit: 2, ..Default::default() }, Some(0)).await.unwrap();
    let mut new = state.reader().await.follow(only("server.address=other.example.com"), None).await.unwrap();
    assert_eq!(ids(&all.next().await.unwrap()), ["0"]);
    let waiting = tokio::spawn(async move { ids(&new.next().await.unwrap()) });
    for number in 1..4 {
        record(&ledger, call("mcp.example.com", number));
    }
    ledger.flush().await.unwrap();
    assert_eq!(ids(&all.next().await.unwrap()), ["1", "2"]);
    assert_eq!(ids(&all.next().await.unwrap()), ["3"]);
    record(&ledger, call("other.example.com", 4));
    assert_eq!(waiting.await.unwrap(), ["4"]);
    assert_eq!(ids(&all.next().await.unwrap()), ["4"]);
    writer.shutdown().await;
}

#[tokio::test]
async fn a_closed_ledger_can_be_read_where_nothing_may_be_written() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    record(&ledger, call("mcp.example.com", 1));
    writer.shutdown().await;
    // The superuser may write anywhere, so for them this shows only that no log is left behind.
    assert!(!state.path().with_extension("sqlite-wal").exists());
    assert_eq!(state.all().await.len(), 1);
}

#[tokio::test]
async fn the_inventory_sums_up_what_events_say_of_a_server() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    let at = |ms: u64| UNIX_EPOCH + Duration::from_millis(2_000_000_000_000 + ms);
    let mut suspected = Observation::new();
    suspected.set(Field::ServerAddress, "mcp.example.com");
    suspected.set(Field::ServerPort, 443_i64);
    suspected.set(Field::UrlPath, "/favicon.ico");
    suspected.set(Field::Confidence, "suspected");
    let _ = ledger.record(Event::at(suspected, at(0)));
    let mut listed = call("mcp.example.com", 1);
    listed.set(Field::McpMethod, "tools/list");
    listed.clear(Field::ToolName);
    listed.set(Field::Tools, vec!["echo".into(), "read_file".into()]);
    listed.set(Field::McpServerName, "docs");
    listed.set(Field::McpServerVersion, "1.2.0");
    listed.set(Field::McpClientName, "codex");
    listed.set(Field::McpProtocolVersion, "2025-11-25");
    listed.set(Field::Catalogue, "mcp");
    let _ = ledger.record(Event::at(listed, at(10)));
    ledger.flush().await.unwrap();
    let mut called = call("mcp.example.com", 2);
    called.set(Field::ToolName, "hidden");
    called.set(Field::HttpStatus, 200_i64);
    called.set(Field::Executable, "/usr/bin/node");
    called.set(Field::Confidence, "probable");
    let _ = ledger.record(Event::at(called.clone(), at(30)));
    let mut refused = called;
    refused.set(Field::ToolName, "made_up");
    refused.set(Field::ErrorType, "-32602");
    let _ = ledger.record(Event::at(refused, at(20)));
    let mut portal = call("portal.example.com", 3);
    portal.set(Field::Sanctioned, true);
    let _ = ledger.record(Event::at(portal, at(40)));
    let mut web = Observation::new();
    web.set(Field::ServerAddress, "www.example.com");
    let _ = ledger.record(Event::at(web, at(50)));
    writer.shutdown().await;
    // As many as there are entries, however often each was seen.
    assert_eq!(ledger.counts().first_seen, FirstSeen { sanctioned: 1, shadow: 2 });

    let servers = state.reader().await.inventory().await.unwrap();
    let shown: Vec<_> = servers.iter().map(|s| (s.address.as_str(), s.path.as_str(), s.status, s.calls)).collect();
    assert_eq!(
        shown,
        [
            ("portal.example.com", "/mcp", ServerStatus::Sanctioned, 1),
            ("mcp.example.com", "/mcp", ServerStatus::Shadow, 3),
            ("mcp.example.com", "", ServerStatus::Shadow, 0),
        ]
    );
    let docs = &servers[1];
    assert_eq!((docs.first_seen_ms, docs.last_seen_ms), (2_000_000_000_010, 2_000_000_000_030));
    assert_eq!(docs.tools, ["echo", "hidden", "read_file"]);
    assert_eq!(docs.clients, ["/usr/bin/node", "codex"]);
    assert_eq!(docs.protocols, ["2025-11-25"]);
    assert_eq!((docs.name.as_deref(), docs.version.as_deref(), docs.catalogue.as_deref()), (Some("docs"), Some("1.2.0"), Some("mcp")));
    assert_eq!((docs.confidence, docs.channel, docs.port), (Some(Confidence::Confirmed), Some(Channel::Https), Some(443)));
}

#[tokio::test]
async fn strangers_cannot_grow_the_inventory_without_end() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    for number in 0..1_000 {
        let mut seen = call("mcp.example.com", number);
        seen.set(Field::UrlPath, format!("/{}", number % 200));
        seen.set(Field::McpClientName, format!("client {number}"));
        seen.set(Field::Tools, (0..600).map(|t| SmolStr::from(format!("tool {t}"))).collect::<Vec<_>>());
        record(&ledger, seen);
    }
    ledger.flush().await.unwrap();
    writer.shutdown().await;
    let servers = state.reader().await.inventory().await.unwrap();
    assert!(servers.len() <= MAX_PATHS_PER_HOST + 1);
    assert_eq!(servers.iter().map(|s| s.calls).sum::<u64>(), 1_000);
    assert!(servers.iter().all(|s| s.clients.len() <= MAX_CLIENTS && s.tools.len() <= 512));
    assert!(servers.iter().any(|s| s.path.is_empty() && s.clients.len() == MAX_CLIENTS && s.tools.len() == 512));
}

#[tokio::test]
async fn incidents_are_kept_with_their_first_and_last_detection() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    let mut incidents = Incidents::default();
    let start = SystemTime::now();
    for number in 0..5 {
        let when = start + Duration::from_secs(number);
        let (id, standing) = incidents.assign("codex", HostPort::new("mcp.example.com", Some(443)), "r1", when);
        assert_eq!(standing == IncidentRole::First, number == 0);
        let mut seen = call("mcp.example.com", number as i64);
        seen.set(Field::IncidentId, id.text());
        seen.set(Field::EventKind, standing.kind());
        seen.set(Field::RuleId, "r1");
        seen.set(Field::RuleName, "Shadow call");
        seen.set(Field::RuleLevel, "high");
        seen.set(Field::Action, "block");
        seen.set(Field::McpClientName, "codex");
        let _ = ledger.record(Event::at(seen, when));
        if number == 2 {
            ledger.flush().await.unwrap();
        }
    }
    writer.shutdown().await;
    let found = state.reader().await.incidents(10).await.unwrap();
    assert_eq!(found.len(), 1);
    let one = &found[0];
    assert_eq!((one.events, one.first_seq, one.last_seq), (5, 1, 5));
    assert_eq!(one.last_seen_ms - one.first_seen_ms, 4_000);
    assert_eq!((one.rule.as_str(), one.rule_name.as_deref(), one.client.as_deref()), ("r1", Some("Shadow call"), Some("codex")));
    let events = state.reader().await.events(&only(&format!("gnomon.incident.id={}", one.id)), Order::OldestFirst).await.unwrap();
    assert_eq!(events.len(), 5);
}
