#![no_main]

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_fuzz::{choice, chunk_size};
use gnomon_inspect::{Authority, Bounds, Connection, Exchange, Head, Hello, Inspector, Sighting, Surroundings};
use gnomon_observe::Observation;
use http::{HeaderMap, HeaderValue, Method, Version};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

/// Asks for all that arguments and answers mean.
static INSPECTOR: LazyLock<Arc<Inspector>> = LazyLock::new(|| {
    let text = r"
title: T
id: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10
logsource: {product: mcp, category: mcp_traffic}
detection:
    a: {gnomon.arguments.commands|contains: rm}
    b: {gnomon.arguments.injected|contains: id}
    c: {gnomon.arguments.reads|contains: .ssh}
    d: {gnomon.arguments.writes|contains: etc}
    e: {gnomon.arguments.smuggled|contains: a}
    f: {gnomon.arguments.decoded|contains: ab}
    g: {gnomon.tool.kind: shell}
    h: {gen_ai.tool.call.result|contains: ab}
    condition: 1 of them
";
    let source = Source { name: "r.yml".into(), text: text.into(), origin: Origin::Admin };
    let rules = RuleSet::compile(&[source]).expect("it is a rule");
    Arc::new(Inspector::new(Arc::new(rules), Surroundings::default(), Bounds::default()))
});

const TOOLS: [&str; 8] = ["bash", "run_python", "fetch", "write_file", "powershell", "find_customer", "exec_in_pod", "send_email"];
const NAMES: [&str; 8] = ["command", "code", "url", "path", "script", "email", "args", "attachments"];

/// The rules that matched, of each report.
fn judged(tool: &str, name: &str, text: &str, size: usize) -> Vec<String> {
    let (mut connection, _) = Connection::open(&INSPECTOR, Observation::new());
    let _ = connection.hello("tools.example", 443, &Hello::default());
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let head = Head {
        method: &Method::POST,
        path: "/mcp",
        query: None,
        version: Version::HTTP_11,
        headers: &headers,
        alpn: None,
        authority: Authority::Agrees,
    };
    let mut exchange = Exchange::begin(&connection, &head);
    let lines: Vec<&str> = text.split('\u{1}').collect();
    let body = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {name: lines}}});
    for chunk in body.to_string().as_bytes().chunks(size) {
        let _ = exchange.request_bytes(chunk);
    }
    let _ = exchange.request_end();
    exchange.flush();
    exchange.reports().map(|sighting: Sighting| format!("{:?}", sighting.seen)).collect()
}

// The choice is the chunk size, and which tool and which argument are given the text; a byte 1 parts the values of a list.
fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = choice(input) else {
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    let (tool, name) = (TOOLS[usize::from(choice >> 5)], NAMES[usize::from(choice) % NAMES.len()]);
    assert_eq!(judged(tool, name, &text, usize::MAX), judged(tool, name, &text, chunk_size(choice)));
});
