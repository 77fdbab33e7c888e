//! What arguments mean, where rules ask for it: what reading them weighs, and what holds where not all of it is read.

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{Authority, Bounds, Connection, Exchange, Gate, Head, Hello, Inspector, Surroundings};
use gnomon_observe::Observation;
use gnomon_wire::coding::Decoder;
use http::{HeaderMap, Method, Version};
use std::sync::Arc;

const ASKS: &str = "gnomon.arguments.addresses|cidr: 169.254.0.0/16";
const ASKS_NOT: &str = "gen_ai.tool.name: other";

/// A request that begins, before a rule that blocks by this.
fn begun(selection: &str, headers: &[(&'static str, &str)]) -> Exchange {
    let text = format!(
        "title: R\nid: 0d9c2a51-2f57-4f0e-8d0b-5d0f8c1c7e31\nlogsource: {{ product: mcp, category: mcp_traffic }}\n\
         detection:\n    seen: {{ {selection} }}\n    condition: seen\ngnomon: {{ response: {{ action: block }} }}\n"
    );
    let rules = RuleSet::compile(&[Source { name: "r.yml".into(), text, origin: Origin::Admin }]).unwrap();
    let inspector = Arc::new(Inspector::new(Arc::new(rules), Surroundings::default(), Bounds::default()));
    let (mut connection, _) = Connection::open(&inspector, Observation::new());
    let _ = connection.hello("mcp.example.com", 443, &Hello::default());
    let mut all = HeaderMap::new();
    all.insert("content-type", "application/json".parse().unwrap());
    headers.iter().for_each(|(name, value)| drop(all.insert(*name, value.parse().unwrap())));
    let head = Head {
        method: &Method::POST,
        path: "/mcp",
        query: None,
        version: Version::HTTP_11,
        headers: &all,
        alpn: None,
        authority: Authority::Agrees,
    };
    Exchange::begin(&connection, &head)
}

fn is_refused(selection: &str, text: &str) -> bool {
    let mut exchange = begun(selection, &[]);
    let call = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "arguments": {"url": text}}});
    let refused = matches!(exchange.request_bytes(call.to_string().as_bytes()), Gate::Refuse(_));
    refused || matches!(exchange.request_end(), Gate::Refuse(_))
}

#[test]
fn a_rule_that_blocks_holds_where_arguments_are_more_work_than_is_done() {
    assert!(is_refused(ASKS, &"http:".repeat(10_000)), "what it would find behind these is not known");
    assert!(is_refused(ASKS, "http://169.254.169.254/"));
    assert!(!is_refused(ASKS, &"see https://a.example/b?c=d or http://10.0.0.1:80/ ".repeat(1_200)), "all of it was read");
    assert!(!is_refused(ASKS_NOT, &"http:".repeat(10_000)));
}

#[test]
fn a_request_weighs_more_where_rules_ask_what_its_arguments_mean() {
    let step = Decoder::STEP as u64;
    assert_eq!(begun(ASKS_NOT, &[]).request_weighs(&[b' '; 8192]), 0);
    let plain = begun(ASKS, &[]);
    assert!(plain.request_weighs(&[b' '; 512]) < step, "few bytes are read at once");
    assert!(plain.request_weighs(&[b' '; 8192]) >= step);
    assert_eq!(plain.request_weighs(&[]), 0);
    // Nobody knows what it decodes to, whether it is announced or not.
    assert!(begun(ASKS, &[("content-encoding", "br")]).request_weighs(b"x") >= step);
    assert!(plain.request_weighs(&[0x1f, 0x8b]) >= step);
}
