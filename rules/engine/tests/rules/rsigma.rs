//! The same rule and event give the same match as rsigma, an independent implementation of Sigma.
//!
//! Where we differ on purpose, `differences` says so and why. pySigma is the reference there.

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_observe::Observation;
use proptest::prelude::*;
use rsigma_eval::{Engine, event::JsonEvent};
use serde_json::{Value, json};

fn rule(detection: &str) -> String {
    format!(
        "title: T\nid: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10\nlevel: low\nlogsource:\n    product: mcp\n    category: mcp_traffic\ndetection:\n{detection}"
    )
}

fn one(body: &str) -> String {
    rule(&format!("    sel:\n        {body}\n    condition: sel\n"))
}

fn ours(rule: &str, event: &Value) -> bool {
    let source = Source { name: "r.yml".into(), text: rule.to_owned(), origin: Origin::Vendor };
    let set = RuleSet::compile(&[source]).unwrap_or_else(|errors| panic!("{errors}\n{rule}"));
    let seen = Observation::from_json(event.as_object().unwrap()).unwrap();
    !set.one_shot(&seen).matched.is_empty()
}

fn theirs(rule: &str, event: &Value) -> bool {
    let collection = rsigma_parser::parse_sigma_yaml(rule).unwrap_or_else(|error| panic!("{error}\n{rule}"));
    assert!(collection.errors.is_empty(), "{:?}\n{rule}", collection.errors);
    let mut engine = Engine::new();
    engine.add_collection(&collection).unwrap_or_else(|error| panic!("{error}\n{rule}"));
    !engine.evaluate(&JsonEvent::borrow(event)).is_empty()
}

fn events() -> Vec<Value> {
    vec![
        json!({}),
        json!({"mcp.method.name": "tools/call", "gen_ai.tool.name": "read_file", "server.address": "mcp.example.com", "server.port": 443,
               "url.path": "/api/mcp", "gnomon.sanctioned": false, "user.group.names": ["Engineering", "on-call"],
               "destination.address": "10.1.2.3", "tls.client.server_name": "mcp.example.com"}),
        json!({"mcp.method.name": "TOOLS/CALL", "gen_ai.tool.name": "Read_File", "server.address": "MCP.example.com", "server.port": 8443,
               "url.path": "/mcp", "gnomon.sanctioned": true, "user.group.names": [], "destination.address": "2001:db8::1",
               "tls.client.server_name": "mcp.EXAMPLE.com"}),
        json!({"mcp.method.name": "resources/read", "server.port": 80, "network.protocol.version": "1.1", "url.path": r"C:\a*b?c",
               "process.command_line": "curl –k /x", "http.request.header.accept": ["text/html", "application/json"]}),
        json!({"mcp.method.name": "", "gen_ai.tool.name": "shell", "url.path": "é/Ünïcode/ÀÉ", "gen_ai.tool.call.arguments": ["/etc/passwd", "Secret word"],
               "user.group.names": ["finance"], "network.protocol.version": "2", "process.command_line": "node -e x",
               "server.address": "a.example", "tls.client.server_name": "b.example"}),
    ]
}

const BODIES: &[&str] = &[
    "mcp.method.name: tools/call",
    "mcp.method.name|cased: tools/call",
    "mcp.method.name: ''",
    "mcp.method.name: [tools/call, resources/read]",
    "mcp.method.name: [tools/call, resources/read, a, b, c]",
    "mcp.method.name: 'tools/*'",
    "mcp.method.name: '*/?all'",
    "mcp.method.name: '*'",
    "mcp.method.name|startswith: TOOLS",
    "mcp.method.name|startswith|cased: TOOLS",
    "mcp.method.name|endswith: [call, read]",
    "mcp.method.name|contains: s/",
    "mcp.method.name|contains: [ools, x, y, sou, zzz]",
    "url.path|contains|all: [api, mcp]",
    "server.address|contains|cased: MCP",
    r"url.path: 'C:\a\*b\?c'",
    r"url.path: 'C:\\a*'",
    r"url.path|contains: '\'",
    "url.path|contains: ÜNÏ",
    "url.path|endswith: àé",
    "url.path: 'É/*'",
    "url.path|re: '^/(api/)?mcp$'",
    "server.address|re: 'MCP'",
    "url.path|re|i: 'MCP$'",
    r"url.path|re: '\.mcp|/api'",
    "url.path|re|s: '^.*mcp'",
    "server.port: 443",
    "server.port: '443'",
    "server.port: [80, 8443]",
    "server.port|lt: 443",
    "server.port|lte: 443",
    "server.port|gt: 443",
    "server.port|gte: 443",
    "server.port|lt: 443.5",
    "server.port|contains: 44",
    "server.port|startswith: '8'",
    "server.port|neq: 443",
    "network.protocol.version: 1.1",
    "network.protocol.version: '1.1'",
    "network.protocol.version|gte: 1.5",
    "gnomon.sanctioned: true",
    "gnomon.sanctioned: false",
    "gnomon.sanctioned: 'true'",
    "gnomon.sanctioned|neq: true",
    "mcp.method.name|exists: true",
    "mcp.method.name|exists: false",
    "gen_ai.tool.name: null",
    "gen_ai.tool.name|neq: null",
    "gen_ai.tool.name|neq: read_file",
    "gen_ai.tool.name|neq: [read_file, x]",
    "gen_ai.tool.name|contains|neq: file",
    "user.group.names: engineering",
    "user.group.names|contains: eng",
    "user.group.names|contains|all: [eng, call]",
    "user.group.names|neq: engineering",
    "user.group.names|cased: Engineering",
    "user.group.names|exists: true",
    "http.request.header.accept: application/json",
    "http.request.header.accept|endswith: /html",
    "gen_ai.tool.call.arguments|startswith: /etc/",
    "destination.address|cidr: 10.0.0.0/8",
    "destination.address|cidr: ['192.168.0.0/16', '2001:db8::/32']",
    "server.address|fieldref: tls.client.server_name",
    "server.address|fieldref|cased: tls.client.server_name",
    "server.address|fieldref|neq: tls.client.server_name",
    "server.address|fieldref|endswith: tls.client.server_name",
    "server.address|fieldref|startswith: gen_ai.tool.name",
    "server.address|fieldref|contains: tls.client.server_name",
    "process.command_line|windash|contains: ' -k'",
    "process.command_line|windash|contains: ' -e'",
    "process.command_line|windash: 'node -e x'",
];

#[test]
fn each_feature_gives_the_same_match() {
    for body in BODIES {
        let rule = one(body);
        for event in events() {
            assert_eq!(ours(&rule, &event), theirs(&rule, &event), "{body}\n{event}");
        }
    }
}

#[test]
fn each_feature_matches_some_event_and_misses_another() {
    // Else the comparison above would compare nothing.
    for body in BODIES {
        let matches = events().iter().filter(|event| ours(&one(body), event)).count();
        let never = ["server.address|fieldref|startswith: gen_ai.tool.name", r"url.path: 'C:\\a*'"];
        assert!(matches < events().len() && (matches > 0 || never.contains(body)), "{body}: {matches}");
    }
}

#[test]
fn searches_and_conditions_give_the_same_match() {
    let details = [
        "    keywords: [secret, passwd]\n    condition: keywords\n",
        "    keywords: read_file\n    condition: keywords\n",
        "    keywords: ['*etc*wd']\n    condition: keywords\n",
        "    sel:\n        - mcp.method.name: tools/call\n        - server.port: 80\n    condition: sel\n",
        "    sel:\n        - mcp.method.name: resources/read\n          server.port: 80\n        - secret\n    condition: sel\n",
        "    a_x: {server.port: 443}\n    a_y: {mcp.method.name: tools/call}\n    b: {gnomon.sanctioned: true}\n    condition: 1 of a_* and not b\n",
        "    a_x: {server.port: 443}\n    a_y: {mcp.method.name: tools/call}\n    b: {gnomon.sanctioned: true}\n    condition: all of a_* or b\n",
        "    a: {server.port: 443}\n    b: {mcp.method.name: tools/call}\n    condition: 1 of them\n",
        "    a: {server.port: 443}\n    b: {mcp.method.name: tools/call}\n    condition: all of them\n",
        "    a: {server.port: 443}\n    _b: {mcp.method.name: tools/call}\n    condition: all of them\n",
        "    a: {server.port: 443}\n    b: {mcp.method.name: tools/call}\n    condition: not a and b or a\n",
        "    a: {server.port: 443}\n    b: {mcp.method.name: tools/call}\n    condition: not (a and b)\n",
        "    a: {server.port: 443}\n    b: {server.port: 80}\n    condition:\n        - a\n        - b\n",
        "    and_x: {server.port: 443}\n    condition: and_x\n",
        "    a: {server.port: 443}\n    condition: not not a\n",
    ];
    for detection in details {
        let rule = rule(detection);
        for event in events() {
            assert_eq!(ours(&rule, &event), theirs(&rule, &event), "{detection}\n{event}");
        }
    }
}

/// Each entry: a rule, an event, what we say and why.
#[test]
fn differences() {
    let differ = |body: &str, event: Value, us: bool| {
        let rule = one(body);
        assert_eq!(ours(&rule, &event), us, "{body}\n{event}");
        assert_ne!(theirs(&rule, &event), us, "no longer a difference: {body}\n{event}");
    };
    // `*` stands for anything, a line break too: else one hides a text from every pattern.
    differ("url.path: '/a*b'", json!({"url.path": "/a\nb"}), true);
    // A wildcard in `startswith` still begins at the start (pySigma: `pattern*`).
    differ("url.path|startswith: '/a*b'", json!({"url.path": "/axbc"}), true);
    // null among other values fits what is absent (pySigma: `IS NULL OR …`).
    differ("url.path: [null, /a]", json!({}), true);
    // The Kelvin sign is not a `k`: no server takes one for the other.
    differ("url.path: k", json!({"url.path": "\u{212a}"}), false);
    // An IPv4 address in IPv6 clothes is the IPv4 address.
    differ("destination.address|cidr: 10.0.0.0/8", json!({"destination.address": "::ffff:10.1.2.3"}), true);
    // Lists match a field reference by any of their elements, as with every other comparison.
    differ("user.name|fieldref: user.group.names", json!({"user.name": "a", "user.group.names": ["a", "b"]}), true);
    // `windash` leaves wildcards what they are.
    differ("process.command_line|windash: '* -e*'", json!({"process.command_line": "node -e x"}), true);
    // A list of keywords linked by `all` may be found in different fields.
    differ("'|all': [etc, word]", json!({"gen_ai.tool.call.arguments": ["/etc", "word"]}), true);
    // `\w` and `.` mean ASCII and bytes where a pattern has no letters outside ASCII.
    differ(r"url.path|re: '^\w$'", json!({"url.path": "é"}), false);
    // Rules are about what was seen: keywords are not looked for in what the ledger wrote.
    let keyword = rule("    keywords: [needle]\n    condition: keywords\n");
    let event = json!({"message": "needle"});
    assert!(!ours(&keyword, &event) && theirs(&keyword, &event));
    // Nor in the answer: a keyword rule is decided with the request.
    let event = json!({"mcp.server.name": "needle"});
    assert!(!ours(&keyword, &event) && theirs(&keyword, &event));
}

const TEXTS: &[(&str, &str)] = &[
    ("mcp.method.name", "tools/call"),
    ("gen_ai.tool.name", "read_file"),
    ("server.address", "mcp.example.com"),
    ("user_agent.original", "/api/mcp"),
    ("user.name", "ada"),
];

fn word() -> impl Strategy<Value = String> {
    // A small alphabet, so that matches happen.
    "[aAbB/._-]{0,4}"
}

fn pattern() -> impl Strategy<Value = String> {
    r"[aAbB/._*?\\-]{1,5}".prop_filter("rsigma anchors wildcards otherwise behind a modifier", |p| !p.contains('\''))
}

fn item() -> impl Strategy<Value = String> {
    let field = (0..TEXTS.len()).prop_map(|n| TEXTS[n].0);
    let plain_mod =
        prop::sample::select(vec!["", "|contains", "|startswith", "|endswith", "|contains|cased", "|cased", "|neq", "|contains|neq"]);
    prop_oneof![
        (field.clone(), prop::sample::select(vec!["", "|cased", "|neq"]), prop::collection::vec(pattern(), 1..3))
            .prop_map(|(f, m, v)| format!("{f}{m}: [{}]", v.iter().map(|v| format!("'{v}'")).collect::<Vec<_>>().join(", "))),
        (field.clone(), plain_mod, prop::collection::vec(word(), 1..7))
            .prop_map(|(f, m, v)| format!("{f}{m}: [{}]", v.iter().map(|v| format!("'{v}'")).collect::<Vec<_>>().join(", "))),
        (field.clone(), any::<bool>()).prop_map(|(f, e)| format!("{f}|exists: {e}")),
        (field.clone(), field.clone(), prop::sample::select(vec!["", "|neq", "|contains", "|endswith", "|startswith", "|cased"]))
            .prop_map(|(f, g, m)| format!("{f}|fieldref{m}: {g}")),
        (field, word(), word()).prop_map(|(f, a, b)| format!("{f}|contains|all: ['{a}', '{b}']")),
        (prop::sample::select(vec!["", "|lt", "|lte", "|gt", "|gte", "|neq"]), 0u16..4).prop_map(|(m, n)| format!("server.port{m}: {n}")),
    ]
}

fn detection() -> impl Strategy<Value = String> {
    let condition = prop::sample::select(vec![
        "s0 and s1",
        "s0 or s1",
        "s0 and not s1",
        "not s0 and not s1",
        "1 of s*",
        "all of them",
        "not (s0 or s1)",
        "not 1 of s*",
    ]);
    let selection = prop_oneof![
        prop::collection::btree_map(item(), Just(()), 1..3).prop_map(|items| {
            let mut keys = std::collections::HashSet::new();
            let items: Vec<_> =
                items.into_keys().filter(|item| keys.insert(item.split(": ").next().unwrap_or_default().to_owned())).collect();
            items.iter().map(|item| format!("        {item}\n")).collect::<String>()
        }),
        prop::collection::vec(item(), 1..3).prop_map(|items| items.iter().map(|item| format!("        - {item}\n")).collect::<String>()),
    ];
    (selection.clone(), selection, condition).prop_map(|(a, b, c)| format!("    s0:\n{a}    s1:\n{b}    condition: {c}\n"))
}

fn event() -> impl Strategy<Value = Value> {
    (prop::collection::vec(prop::option::of("[aAbB/._*?\\\\-]{0,6}"), TEXTS.len()), prop::option::of(0u16..4)).prop_map(|(texts, port)| {
        let mut object = serde_json::Map::new();
        for ((name, _), text) in TEXTS.iter().zip(texts) {
            object.extend(text.map(|text| ((*name).to_owned(), Value::from(text))));
        }
        object.extend(port.map(|port| ("server.port".to_owned(), Value::from(port))));
        Value::Object(object)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn random_rules_give_the_same_match(detection in detection(), events in prop::collection::vec(event(), 1..5)) {
        let rule = rule(&detection);
        for event in events {
            prop_assert_eq!(ours(&rule, &event), theirs(&rule, &event), "{}\n{}", rule, event);
        }
    }
}
