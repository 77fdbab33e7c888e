//! The errors for mistakes in a policy.

use crate::people::policy;
use gnomon_access::Policy;

#[track_caller]
fn refused(text: &str, expect: &str) {
    let error = Policy::parse(text, "p.yml").map(|_| ()).expect_err(text).to_string();
    assert!(error.contains(expect), "{text}\n  said:     {error}\n  expected: {expect}");
    assert!(error.starts_with("p.yml:"), "{error}");
}

#[test]
fn each_mistake_is_told_at_its_place_with_what_to_do() {
    for (text, expect) in [
        ("- allow: { server: [docs] }", "p.yml:1:12: unknown key `server`; did you mean `servers`?"),
        ("- alow: { servers: [docs] }", "p.yml:1:3: unknown key `alow`; did you mean `allow`?"),
        ("- allow: { tools: [a] }", "p.yml:1:3: an `allow` names the servers it is about"),
        ("- allow: { servers: [] }", "p.yml:1:21: an empty list matches nothing"),
        ("- allow: { servers: [a] }\n  deny: { tools: [b] }", "`allow` and `deny` in one entry"),
        ("- {}", "an entry says `allow:` or `deny:`"),
        ("- deny: {}", "denies everything to everybody"),
        ("- allow: { servers: [a], networks: [10.0.0.1/8] }", "p.yml:1:37: `10.0.0.1/8` has bits beyond its prefix; write `10.0.0.0/8`"),
        ("- allow: { servers: [a], networks: [x] }", "`x` is not a network"),
        ("- allow: { servers: [a], countries: [Germany] }", "two letters of ISO 3166-1"),
        ("- allow: { servers: [a], domains: ['@x'] }", "is not a domain"),
        ("- allow: { servers: [a], groups: ['fin*'] }", "there are no patterns here"),
        ("- allow: { servers: [a], methods: [oidcc] }", "did you mean `oidc`?"),
        ("- allow: { servers: [a], hints: {} }", "`hints` is empty"),
        ("- allow: { servers: [a], prompts: [b], hints: { read_only: true } }", "only tools have hints"),
        ("- allow: { servers: [a], device: {} }", "`device` says nothing"),
        ("- allow: { servers: [a], device: { certificate: yes } }", "`certificate: any`"),
        ("- allow: { servers: [a], device: { sha256: [abc] } }", "is not a SHA-256"),
        ("- allow: { servers: [a], process: {} }", "`process` says nothing"),
        ("- allow: { servers: [a], when: 'args.x <' }", "p.yml:1:32: `when` is not CEL"),
        ("- allow: { servers: [a], when: 'args.x.matches(\"a\")' }", "`matches` is not available"),
        ("- allow: { servers: [''] }", "an empty text"),
        ("- allow: { servers: docs }", "expected"),
        ("polcy: []", "expected"),
    ] {
        refused(text, expect);
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let error = Policy::parse("- allow: { servers: [] }\n- deny: {}\n", "p.yml").map(|_| ()).unwrap_err();
    assert_eq!(error.problems().len(), 2, "{error}");
}

#[test]
fn a_server_that_is_not_configured_is_an_error() {
    let policy = policy("- allow: { servers: [doc, 'file*', db] }");
    let problems = policy.unknown_servers(&["docs", "files", "db"]);
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["gnomon.yml:1:3: no server is called `doc`; did you mean `docs`?"]
    );
}

#[test]
fn size_is_bounded() {
    refused(&" ".repeat(2 << 20), "larger than");
    refused(&"- deny: { tools: [a] }\n".repeat(1025), "more than 1024 entries");
    refused(&format!("- allow: {{ servers: [{}] }}", "a".repeat(600)), "longer than 512 bytes");
    refused(&format!("- allow: {{ servers: [{}] }}", "a,".repeat(1025)), "more than 1024 values");
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b]\npolicy: *c\n";
    assert!(Policy::parse(bomb, "p.yml").is_err());
}
