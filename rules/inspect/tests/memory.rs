//! What an exchange costs in memory does not depend on how many values its bodies hold. A test binary of its own: it looks at the
//! process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{Authority, Bounds, Connection, Exchange, Gate, Head, Hello, Inspector, Surroundings};
use gnomon_observe::Observation;
use http::{HeaderMap, Method, Version};
use std::{io::Write as _, sync::Arc};

/// What one exchange may add to the most that the process ever had, in bytes.
const COSTS: u64 = 16 << 20;

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn exchange(rule: &str) -> Exchange {
    let text = format!(
        "title: T\nid: 0d9c2a51-2f57-4f0e-8d0b-5d0f8c1c7e22\nlogsource: {{ product: mcp, category: mcp_traffic }}\n\
         detection:\n    seen: {{ {rule} }}\n    condition: seen\ngnomon: {{ response: {{ action: block }} }}\n"
    );
    let rules = RuleSet::compile(&[Source { name: "r.yml".into(), text, origin: Origin::Admin }]).unwrap();
    let inspector = Arc::new(Inspector::new(Arc::new(rules), Surroundings::default(), Bounds::default()));
    let (mut connection, _) = Connection::open(&inspector, Observation::new());
    let _ = connection.hello("tools.example", 443, &Hello::default());
    let head = Head {
        method: &Method::POST,
        path: "/rpc",
        query: None,
        version: Version::HTTP_11,
        headers: &json(),
        alpn: None,
        authority: Authority::Agrees,
    };
    Exchange::begin(&connection, &head)
}

fn json() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    headers.insert("content-encoding", "zstd".parse().unwrap());
    headers
}

/// Coded so that the ratio stays under its bound.
fn coded(items: &str, times: usize) -> Vec<u8> {
    let mut noise = 1u64;
    let noise: String = (0..170_000)
        .map(|_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + ((noise >> 33) % 26) as u8)
        })
        .collect();
    zstd::encode_all(format!("[\"{noise}\",{}1]", items.repeat(times)).as_bytes(), 3).unwrap()
}

/// A quarter of a gibibyte of rows, as little as it is coded.
fn large() -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(b"[").unwrap();
    for n in 0..(250 << 20) / 64 {
        writeln!(encoder, r#"{{"name":"requests","value":{n:010},"host":"web-1.example"}},   "#).unwrap();
    }
    encoder.write_all(b"1]").unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_body_of_many_values_costs_no_more_than_one_of_few() {
    let objects = coded("{},", 3_000_000);
    let calls = coded(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}},"#, 100_000);
    let answers = coded(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}},"#, 150_000);
    let large = large();
    let before = peak();
    for rule in ["gen_ai.tool.name: other", "gnomon.tools: evil"] {
        let mut exchange = exchange(rule);
        exchange.request_bytes(&large);
        assert!(!matches!(exchange.request_end(), Gate::Refuse(_)), "{rule}");
        exchange.response_head(200, &json());
        exchange.response_bytes(&large);
        exchange.flush();
    }
    for rule in ["gen_ai.tool.name: other", "gnomon.tools: evil"] {
        for body in [&objects, &calls] {
            let mut exchange = exchange(rule);
            // In one chunk, as in a test it can come.
            exchange.request_bytes(body);
            let gate = exchange.request_end();
            assert_eq!(matches!(gate, Gate::Refuse(_)), std::ptr::eq(body, &calls), "{rule}");
            exchange.flush();
            assert!(exchange.reports().count() < 600);
        }
        for body in [&objects, &answers] {
            let mut exchange = exchange(rule);
            exchange.request_bytes(b"");
            exchange.request_end();
            exchange.response_head(200, &json());
            exchange.response_bytes(body);
            exchange.flush();
        }
    }
    let grown = peak() - before;
    assert!(grown < COSTS, "{} KiB", grown >> 10);
}
