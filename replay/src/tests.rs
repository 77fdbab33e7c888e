#[path = "../../rules/capture/tests/packets/mod.rs"]
mod packets;

use super::*;
use gnomon_cli::rule_files;
use gnomon_config as config;
use gnomon_engine::{Origin, Source};
use gnomon_inspect::{Bounds, Surroundings};
use serde_json::{Value, json};
use std::io::Write as _;

const BLOCK: &str = r"
title: No files
id: 0b7d5f0e-9f0a-4c1b-8a77-0c7a5d1e2f33
status: test
description: A test.
author: gnomon
date: 2026-11-20
logsource: { product: mcp, category: mcp_traffic }
detection:
  call: { mcp.method.name: tools/call, gen_ai.tool.name: read_file }
  condition: call
level: high
gnomon: { response: { action: block } }
";

/// What replaying a file with these contents writes, and what it comes to.
fn play(content: &[u8], own_rules: &str) -> (Vec<Value>, String, Result<()>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    let mut sources = rule_files::sources(&config::Config::default().rules, None).unwrap();
    if !own_rules.is_empty() {
        sources.push(Source { name: "own.yml".into(), text: own_rules.into(), origin: Origin::Admin });
    }
    let rules = Arc::new(gnomon_engine::RuleSet::compile(&sources).unwrap());
    let inspector = Arc::new(Inspector::new(rules, Surroundings::default(), Bounds::default()));
    let mut events = Vec::new();
    let mut emit = |event: &Observation| {
        events.push(serde_json::to_value(event)?);
        Ok(())
    };
    let mut replay = Replay {
        inspector: &inspector,
        bypass: HostPatterns::parse(["bypassed.example"]).unwrap(),
        finisher: Finisher::new(),
        summary: Summary::default(),
        emit: &mut emit,
    };
    let done = replay.file(file.path());
    let mut summary = Vec::new();
    replay.summary.write(&mut summary, &inspector).unwrap();
    (events, String::from_utf8(summary).unwrap(), done)
}

fn har(entries: &[Value]) -> Vec<u8> {
    json!({"log": {"version": "1.2", "creator": {"name": "test"}, "entries": entries}}).to_string().into_bytes()
}

fn call(tool: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {"path": "/etc/passwd"}}}).to_string()
}

fn post(url: &str, body: &str) -> Value {
    json!({
        "startedDateTime": "2026-11-20T10:00:00.250+01:00",
        "time": 12.7,
        "serverIPAddress": "203.0.113.7",
        "request": {
            "method": "POST", "url": url, "httpVersion": "h2", "bodySize": body.len(),
            "headers": [
                {"name": ":authority", "value": "x.example"},
                {"name": "Content-Type", "value": "application/json"},
                {"name": "Content-Encoding", "value": "gzip"},
                {"name": "User-Agent", "value": "agent/1"}
            ],
            "postData": {"mimeType": "application/json", "text": body}
        },
        "response": {
            "status": 200, "headers": [{"name": "content-type", "value": "application/json"}, {"name": "content-encoding", "value": "br"}],
            "content": {"size": 2, "encoding": "base64", "text": "eyJqc29ucnBjIjoiMi4wIiwi\naWQiOjEsInJlc3VsdCI6e319"}
        }
    })
}

#[test]
fn a_recorded_call_is_told_as_it_would_have_been_live() {
    let (events, summary, done) = play(&har(&[post("https://x.example/rpc?k=secret#f", &call("echo"))]), "");
    done.unwrap();
    let [event] = events.as_slice() else { panic!("{events:?}") };
    for (field, value) in [
        ("@timestamp", json!("2026-11-20T09:00:00.250Z")),
        ("gnomon.vantage", json!("replay")),
        ("gnomon.replay.index", json!(0)),
        ("gnomon.channel", json!("https")),
        ("gnomon.confidence", json!("confirmed")),
        ("gnomon.duration_ms", json!(12)),
        ("mcp.method.name", json!("tools/call")),
        ("gen_ai.tool.name", json!("echo")),
        ("server.address", json!("x.example")),
        ("server.port", json!(443)),
        ("tls.client.server_name", json!("x.example")),
        ("destination.address", json!("203.0.113.7")),
        ("url.full", json!("https://x.example/rpc")),
        ("network.protocol.version", json!("2")),
        ("http.response.status_code", json!(200)),
        ("user_agent.original", json!("agent/1")),
        ("event.kind", json!("alert")),
    ] {
        assert_eq!(event[field], value, "{field}");
    }
    assert!(summary.starts_with("1 entries, 1 judged, 1 detections\nwould block 0"), "{summary}");
}

#[test]
fn a_call_that_would_be_blocked_is_judged_without_its_answer() {
    let (events, summary, _) = play(&har(&[post("https://x.example/mcp", &call("read_file"))]), BLOCK);
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&event["gnomon.action"], &event["rule.name"]), (&json!("block"), &json!("No files")));
    assert_eq!(event["http.response.status_code"], Value::Null);
    assert!(summary.contains("would block 1, redirect 0"), "{summary}");
}

#[test]
fn bodies_in_base64_are_decoded_and_big_ones_judged_to_their_end() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let late = format!(
        r#"{{"jsonrpc":"2.0","id":1,"params":{{"arguments":{{"x":"{}"}},"name":"read_file"}},"method":"tools/call"}}"#,
        "x".repeat(300_000)
    );
    let mut entry = post("http://x.example:8080/mcp", &late);
    entry["request"]["postData"] = json!({"text": STANDARD.encode(&late), "encoding": "base64"});
    let (events, _, _) = play(&har(&[entry]), BLOCK);
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&event["gnomon.action"], &event["gnomon.channel"], &event["server.port"]), (&json!("block"), &json!("http"), &json!(8080)));
}

#[test]
fn entries_that_cannot_be_judged_are_counted_with_their_reason() {
    let bare = |url: &str| json!({"request": {"method": "GET", "url": url}, "response": {"status": 0}});
    let entries = [
        bare("chrome-extension://abc/x.js"),
        bare("data:text/plain,hi"),
        bare("not a url"),
        json!({"response": null}),
        json!({"request": {"url": null}}),
        bare("https://mcp.example.com/ping"),
        bare("https://bypassed.example/mcp"),
    ];
    let (events, summary, done) = play(&har(&entries), "");
    done.unwrap();
    assert!(summary.starts_with("7 entries, 2 judged"), "{summary}");
    assert!(summary.contains("not judged: 2 because its URL is not of http or https"), "{summary}");
    assert!(summary.contains("not judged: 2 because its URL cannot be read"), "{summary}");
    assert!(summary.contains("not judged: 1 because no request was recorded"), "{summary}");
    assert!(summary.contains("note: 2 judged without an answer"), "{summary}");
    assert!(events.iter().all(|event| event["gnomon.confidence"] == "suspected"), "{events:?}");
}

#[test]
fn a_har_that_breaks_off_is_told_with_its_place_and_judged_until_there() {
    let whole = har(&[post("https://x.example/mcp", &call("echo")), post("https://x.example/mcp", &call("echo"))]);
    let (events, _, done) = play(&whole[..whole.len() - 200], "");
    let error = done.unwrap_err().to_string();
    assert_eq!(events.len(), 1);
    assert!(error.contains(":1:") && error.contains("entry 1 cannot be read: EOF"), "{error}");
}

#[test]
fn a_file_that_is_not_a_recording_is_refused_and_a_byte_order_mark_is_accepted() {
    for (content, words) in [
        ("{\"a\": 1}", "neither a HAR"),
        ("{\"a\": 1}\n{\"a\": 2}\n", "neither a HAR"),
        ("{\"log\": []}", "the object `log`"),
        ("hello", "cannot be read"),
    ] {
        let (_, _, done) = play(content.as_bytes(), "");
        let error = done.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let marked = [b"\xef\xbb\xbf".as_slice(), &har(&[post("https://x.example/mcp", &call("echo"))])].concat();
    let (events, _, done) = play(&marked, "");
    done.unwrap();
    assert_eq!(events.len(), 1);
}

#[test]
fn an_entry_larger_than_its_bound_ends_the_reading() {
    struct Endless(&'static [u8]);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = if self.0.is_empty() {
                buffer.fill(b'x');
                buffer.len()
            } else {
                self.0.read(buffer)?
            };
            Ok(n)
        }
    }
    let (meter, _budget) = Metered::new(Endless(br#"{"log":{"entries":[{"a":""#), 1 << 20);
    let error = serde_json::from_reader::<_, Value>(BufReader::new(meter)).unwrap_err();
    assert!(error.to_string().contains("one entry is longer than 1 MiB"), "{error}");
}

#[test]
fn events_are_judged_again_by_the_rules_of_today() {
    let (live, _, _) = play(&har(&[post("https://x.example/mcp", &call("read_file"))]), "");
    let line = live[0].to_string();
    let log = format!("{line}\n\n{line}\nbroken\n{{\"url.path\": 1}}\n");
    let (events, summary, done) = play(log.as_bytes(), BLOCK);
    done.unwrap();
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&event["gnomon.action"], &event["@timestamp"]), (&json!("block"), &live[0]["@timestamp"]));
    assert_ne!(event["event.id"], live[0]["event.id"]);
    assert!(summary.contains("would block 1"), "{summary}");
    assert!(summary.contains(":4:1: not an event") && summary.contains(":5:1: not an event"), "{summary}");
}

#[test]
fn an_empty_file_is_an_empty_recording() {
    let (events, summary, done) = play(b"", "");
    done.unwrap();
    assert!(events.is_empty() && summary.starts_with("0 entries"), "{summary}");
}

/// A connection to port 80, each direction in one packet.
fn capture(request: &[u8], answer: &[u8]) -> Vec<u8> {
    use packets::{ACK, CLIENT, SERVER, SYN, packet};
    packets::pcap(&[
        packet(CLIENT, SERVER, 0, SYN, b""),
        packet(SERVER, CLIENT, 0, SYN | ACK, b""),
        packet(CLIENT, SERVER, 1, ACK, request),
        packet(SERVER, CLIENT, 1, ACK, answer),
    ])
}

#[test]
fn a_call_in_a_packet_capture_is_judged_and_what_tls_hides_is_said() {
    let body = call("read_file");
    let request =
        format!("POST /mcp HTTP/1.1\r\nHost: x.example\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (events, summary, done) = play(&capture(request.as_bytes(), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), BLOCK);
    done.unwrap();
    let [event] = events.as_slice() else { panic!("{events:?}") };
    for (field, value) in [
        ("gnomon.action", json!("block")),
        ("gen_ai.tool.name", json!("read_file")),
        ("server.address", json!("x.example")),
        ("destination.address", json!("203.0.113.7")),
        ("source.address", json!("10.0.0.1")),
        ("gnomon.channel", json!("http")),
        ("@timestamp", json!("2026-11-20T09:00:00.250Z")),
    ] {
        assert_eq!(event[field], value, "{field}");
    }
    assert!(summary.contains("4 packets, 1 TCP connections"), "{summary}");

    let hello: &[u8] = &[0x16, 3, 1, 0, 200, 1, 0, 0];
    let (_, summary, done) = play(&capture(hello, b""), "");
    done.unwrap();
    assert!(summary.contains("TLS hid what 1 connections carried (8 bytes)"), "{summary}");
    assert!(summary.contains("not judged: 1 because it is neither HTTP nor TLS, or cannot be read"), "{summary}");
}

#[test]
fn two_sets_of_rules_are_compared_by_calls_people_and_rules() {
    let compiled = |own: &str| {
        let source = Source { name: "own.yml".into(), text: own.into(), origin: Origin::Admin };
        gnomon_engine::RuleSet::compile(&[source]).unwrap()
    };
    let outcomes = |rules: &str| {
        let (events, _, _) =
            play(&har(&[post("https://x.example/mcp", &call("read_file")), post("https://x.example/mcp", &call("echo"))]), rules);
        let mut outcomes = compare::Outcomes::default();
        for event in &events {
            outcomes.add(&Observation::from_json(event.as_object().unwrap()).unwrap());
        }
        outcomes
    };
    let other = BLOCK.replace("0b7d5f0e", "1b7d5f0e").replace("gen_ai.tool.name: read_file", "gen_ai.tool.name: echo");
    let mut told = Vec::new();
    compare::write(&mut told, "draft", (&outcomes(""), &compiled(&other)), (&outcomes(BLOCK), &compiled(BLOCK))).unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(told.starts_with("against draft: would have blocked 1 call of 1 person (unknown 1); nothing less\n"), "{told}");
    assert!(told.contains("+1  0b7d5f0e-9f0a-4c1b-8a77-0c7a5d1e2f33  No files\n"), "{told}");
}
