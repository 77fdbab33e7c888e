//! `gnomon replay` decides from a recording of the client what the proxy decided live.

use crate::support::{
    client::H1,
    gnomon::Gnomon,
    har::Har,
    request::{call, h1_head, request},
    rules::{PORTAL, block, rule, shipped},
    upstream::{Answer, Upstream},
};
use gnomon_engine::{Origin, Source};
use serde_json::{Value, json};
use std::process::Command;

/// The fields that live and replayed events must agree on.
const SAME: &[&str] = &[
    "rule.id",
    "gnomon.rules.matched",
    "mcp.method.name",
    "gen_ai.tool.name",
    "jsonrpc.request.id",
    "gnomon.action",
    "gnomon.confidence",
    "gnomon.evidence",
    "gnomon.signatures",
    "gnomon.response.signatures",
    "gnomon.detection.class",
    "gnomon.malformed",
    "gnomon.mismatch",
    "gnomon.tools",
    "gnomon.tools.hash",
    "gnomon.text.places",
    "event.kind",
    "mcp.client.name",
    "mcp.protocol.version",
];

fn facts(events: &[Value]) -> Vec<Value> {
    events.iter().map(|e| SAME.iter().map(|name| ((*name).to_owned(), e[*name].clone())).collect()).collect()
}

fn own_rules() -> Vec<Source> {
    vec![
        block(1, "gen_ai.tool.name: blocked_tool"),
        rule(2, "Explained", "gen_ai.tool.name: explained_tool", &format!("action: redirect, mode: explain, to: '{PORTAL}'")),
        rule(3, "By its arguments", "gen_ai.tool.call.arguments|contains: /etc/passwd", "action: log"),
        rule(4, "An administrator's allow", "gen_ai.tool.name: exempt_tool", "action: allow"),
        block(5, "http.request.method: GET, url.path: /forbidden"),
        rule(6, "By what a list says", "gen_ai.tool.description|contains: 'does anything'", "action: log"),
    ]
}

/// Path, further headers, body.
type Exchange = (&'static str, Vec<(&'static str, &'static str)>, Option<String>);

fn exchanges() -> Vec<Exchange> {
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "e2e", "version": "1"}}});
    let mut passwd = call(3, "read_file");
    passwd["params"]["arguments"]["path"] = json!("/etc/passwd");
    let harmless = call(9, "any_tool").to_string();
    vec![
        ("/rpc", vec![], Some(hello.to_string())),
        ("/rpc", vec![("mcp-session-id", "0123456789abcdef")], Some(request(1, "tools/list").to_string())),
        ("/rpc", vec![], Some(call(2, "any_tool").to_string())),
        ("/rpc", vec![], Some(passwd.to_string())),
        ("/rpc", vec![], Some(call(4, "blocked_tool").to_string())),
        ("/rpc", vec![], Some(call(5, "explained_tool").to_string())),
        ("/rpc", vec![], Some(call(6, "exempt_tool").to_string())),
        ("/rpc", vec![], Some(json!([call(7, "any_tool"), call(8, "blocked_tool")]).to_string())),
        ("/rpc", vec![("mcp-method", "tools/list"), ("mcp-protocol-version", "2026-07-28")], Some(harmless.clone())),
        ("/rpc", vec![], Some(harmless.replacen("\"method\"", "\"method\":\"ping\",\"method\"", 1))),
        ("/rpc", vec![], Some(format!("{harmless}{harmless}"))),
        ("/rpc", vec![], Some(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string())),
        ("/other", vec![], Some(request(1, "eth_call").to_string())),
        ("/rpc", vec![], Some(request(10, "ping").to_string())),
        ("/forbidden", vec![], None),
        ("/plain", vec![], None),
        ("/mcp", vec![("accept", "text/event-stream")], None),
    ]
}

#[tokio::test]
async fn a_recording_of_the_client_is_judged_as_its_traffic_was() {
    let upstream = Upstream::answering(&["http/1.1"], |received| {
        received.end?;
        let message: Value = serde_json::from_slice(&received.decoded).ok()?;
        match message["method"].as_str()? {
            "initialize" => {
                let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
                Some(Answer::json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string()))
            }
            "tools/list" => {
                let result = json!({"tools": [{"name": "any_tool", "description": "Does anything", "inputSchema": {"type": "object"}}]});
                let data = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
                Some(Answer::full("text/event-stream", format!("event: message\ndata: {data}\n\n")))
            }
            _ => None,
        }
    })
    .await;
    let gnomon = Gnomon::with().rules(shipped()).rules(own_rules()).before(&upstream).await;
    let mut har = Har::default();
    for (path, further, body) in exchanges() {
        // A connection for each exchange, as a refusal may close its connection.
        let mut client = H1::connect(&gnomon).await;
        let mut headers = further;
        if body.is_some() {
            headers.extend([("content-type", "application/json"), ("accept", "application/json, text/event-stream")]);
        }
        let method = if body.is_some() { "POST" } else { "GET" };
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.as_ref().map(|b| format!("content-length: {}\r\n", b.len())).unwrap_or_default();
        let mut bytes = h1_head(method, path, &format!("{lines}{length}"));
        bytes.extend_from_slice(body.as_deref().unwrap_or_default().as_bytes());
        let answer = client.send(&[bytes]).await;
        har.add(method, path, &headers, body.as_deref(), &answer);
        client.close().await;
    }
    let live = gnomon.finish().await;
    let replayed = replay(&har);
    assert!(replayed.iter().all(|event| event["gnomon.replay.file"].as_str().is_some_and(|file| file.ends_with("client.har"))));
    assert!(live.iter().any(|event| event["gnomon.text.places"] == json!(["gen_ai.tool.description result.tools[0].description"])));
    let (live, replayed) = (facts(&live), facts(&replayed));
    for (index, (live, replayed)) in live.iter().zip(&replayed).enumerate() {
        assert_eq!(live, replayed, "event {index}");
    }
    assert_eq!(live.len(), replayed.len());
}

/// Runs the command.
fn replay(har: &Har) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let recording = dir.path().join("client.har");
    har.write(&recording);
    let own = dir.path().join("own");
    std::fs::create_dir(&own).unwrap();
    for source in own_rules() {
        assert_eq!(source.origin, Origin::Admin);
        std::fs::write(own.join(&source.name), source.text).unwrap();
    }
    // An empty configuration, so that this host's own is not used.
    let config = dir.path().join("gnomon.yml");
    std::fs::write(&config, "").unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_gnomon"))
        .args(["replay", "--json", "--all", "--config"])
        .args([config.as_path()])
        .arg("--rules")
        .args([own.as_path(), recording.as_path()])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
