//! Properties that must hold for every policy and caller.

use crate::people::{anonymous, asked, laptop, on, person, policy};
use gnomon_access::{Asked, Caller, Capability, Decision, Hints, Policy};
use proptest::prelude::*;
use serde_json::{Value, json};

fn part() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "",
        "tools: ['read_*']",
        "tools: [a, b]",
        "prompts: ['*']",
        "resources: ['file:///**']",
        "groups: [g1]",
        "groups: [g1], users: [u1]",
        "users: [u1, u2]",
        "hints: { read_only: true }",
        "hints: { destructive: false }",
        "networks: ['10.0.0.0/8']",
        "countries: [DE]",
        "device: { certificate: any }",
        "process: { executable: ['/x'] }",
        "when: 'args.n < 5'",
        "tools: ['read_*'], when: 'has(args.n)'",
        "acr: [loa2]",
    ])
    .prop_map(str::to_owned)
}

/// Entries as (allow or deny, servers, further conditions).
fn entries() -> impl Strategy<Value = Vec<(bool, &'static str, String)>> {
    let server = prop::sample::select(vec!["s1", "s2", "'*'"]);
    prop::collection::vec((any::<bool>(), server, part()), 0..8)
}

fn text(entries: &[(bool, &str, String)]) -> String {
    let line = |(allow, server, part): &(bool, &str, String)| {
        format!("- {}: {{ servers: [{server}]{}{part} }}\n", if *allow { "allow" } else { "deny" }, if part.is_empty() { "" } else { ", " })
    };
    if entries.is_empty() { "[]".to_owned() } else { entries.iter().map(line).collect() }
}

fn callers() -> Vec<Caller> {
    vec![anonymous(), person("u1", &["g1"]), person("u2", &[]), on(laptop("l"), person("u1", &[]))]
}

fn questions(args: &Value) -> Vec<Asked<'_>> {
    let mut all = Vec::new();
    for server in ["s1", "s2", "s3"] {
        for (capability, name) in [
            (Capability::Tool, "read_x"),
            (Capability::Tool, "a"),
            (Capability::Prompt, "a"),
            (Capability::Resource, "file:///a/../b"),
            (Capability::ResourceTemplate, "file:///{x}"),
        ] {
            for read_only in [None, Some(true), Some(false)] {
                let hints = Hints { read_only, destructive: read_only };
                all.push(Asked { hints, arguments: Some(args), ..asked(capability, server, name) });
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn deny_always_wins_and_nothing_is_allowed_by_default(entries in entries(), n in 0..10_i64) {
        let args = json!({"n": n});
        let whole = policy(&text(&entries));
        let compiled: Vec<Policy> = entries.iter().map(|one| policy(&text(std::slice::from_ref(one)))).collect();
        let mut turned = entries.clone();
        turned.reverse();
        let turned = policy(&text(&turned));
        for caller in callers() {
            for asked in questions(&args) {
                let decision = whole.decide(&caller, &asked);
                // Each entry alone: does it allow, does it deny?
                let alone: Vec<_> = compiled.iter().map(|one| one.decide(&caller, &asked)).collect();
                let denied = alone.iter().any(|one| matches!(one, Decision::Deny { line: Some(_) }));
                let allowed = alone.iter().any(Decision::is_allow);
                prop_assert_eq!(decision.is_allow(), allowed && !denied);
                prop_assert_eq!(turned.decide(&caller, &asked).is_allow(), decision.is_allow(), "the order does not matter");
                prop_assert_eq!(&whole.explain(&caller, &asked).decision, &decision);
                let listed = whole.may_list(&caller, &Asked { arguments: None, ..asked });
                prop_assert!(listed.is_shown() || !decision.is_allow(), "what is callable is listed");
                let about = whole.decide_about(&caller, &asked);
                prop_assert_eq!(about.is_allow(), listed.is_shown(), "what is listed may be asked about, and nothing else");
                let reaches = whole.reach(&caller, asked.portal, asked.server);
                prop_assert!(reaches.is_some() || !listed.is_shown(), "what has something listed can be reached");
                // Being listed, or reached, names no entry by which something could be called.
                prop_assert!(reaches.is_none_or(|permit| permit.line().is_none()));
            }
        }
    }

    #[test]
    fn a_caller_that_hides_a_fact_is_allowed_no_more(entries in entries(), n in 0..10_i64) {
        let args = json!({"n": n});
        let policy = policy(&text(&entries));
        for caller in callers() {
            let hidden = Caller { address: caller.address, ..anonymous() };
            for asked in questions(&args) {
                prop_assert!(policy.decide(&caller, &asked).is_allow() || !policy.decide(&hidden, &asked).is_allow());
            }
        }
    }
}
