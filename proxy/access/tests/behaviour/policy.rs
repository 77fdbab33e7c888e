//! The semantics of policy, as tables.

use crate::people::{anonymous, asked, call, hinted, laptop, on, person, policy, program, tool, with};
use gnomon_access::{Asked, Caller, Capability, Names};
use serde_json::json;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Allow,
    Deny,
}
use Expect::{Allow, Deny};

#[track_caller]
fn check(text: &str, caller: &Caller, asked: &Asked<'_>, expect: Expect) {
    let policy = policy(text);
    let decision = policy.decide(caller, asked);
    let explanation = policy.explain(caller, asked);
    assert_eq!(decision.is_allow(), expect == Allow, "{text}\n{explanation}");
    assert_eq!(explanation.decision, decision, "explain and decide are one");
    let list = policy.may_list(caller, &Asked { arguments: None, ..*asked });
    assert!(list.is_shown() || !decision.is_allow(), "what may be called is listed: {text}");
}

#[test]
fn nothing_is_allowed_unless_an_entry_says_so() {
    check("[]", &person("anna", &["finance"]), &tool("docs", "read"), Deny);
    let only_deny = "[ { deny: { tools: ['x'] } } ]";
    check(only_deny, &person("anna", &["finance"]), &tool("docs", "read"), Deny);
}

#[test]
fn each_condition_on_the_caller_decides() {
    let anna = || person("anna", &["finance"]);
    let managed = || on(laptop("laptop-7"), anna());
    let agent = || with(program("/opt/x/claude"), anna());
    let hash = "ab:".repeat(31) + "ab";
    let hash = format!("device: {{ sha256: ['{}'] }}", hash.to_uppercase());
    let process_hash = format!("process: {{ sha256: ['{}'] }}", "cd".repeat(32));
    // The entry; a caller that meets its condition; a caller that does not.
    let table: Vec<(&str, Caller, Caller)> = vec![
        ("users: [anna]", anna(), person("bert", &[])),
        ("users: ['ANNA@example.org']", anna(), person("bert", &[])),
        ("groups: [it, finance]", anna(), person("bert", &["sales"])),
        ("domains: [Example.ORG]", anna(), Caller { domain: Some("evil.org".into()), ..anna() }),
        ("domains: ['*.example.org']", Caller { domain: Some("eu.example.org".into()), ..anna() }, anna()),
        (
            "domains: ['*.example.org']",
            Caller { domain: Some("a.b.example.org".into()), ..anna() },
            Caller { domain: Some("notexample.org".into()), ..anna() },
        ),
        ("clients: [claude]", anna(), Caller { client: Some("other".into()), ..anna() }),
        ("scopes: [mcp]", anna(), Caller { scopes: vec!["other"].into(), ..anna() }),
        ("acr: [loa2, loa3]", anna(), Caller { acr: Some("loa1".into()), ..anna() }),
        ("amr: [otp]", anna(), Caller { amr: vec!["pwd"].into(), ..anna() }),
        ("methods: [oidc]", anna(), Caller { method: gnomon_access::AuthMethod::Token, ..anna() }),
        ("networks: ['10.0.0.0/8']", anna(), Caller { address: "192.0.2.1".parse().unwrap(), ..anna() }),
        (
            "networks: ['10.0.0.0/8']",
            Caller { address: "::ffff:10.9.9.9".parse().unwrap(), ..anna() },
            Caller { address: "::1".parse().unwrap(), ..anna() },
        ),
        ("networks: ['2001:db8::/32']", Caller { address: "2001:db8::5".parse().unwrap(), ..anna() }, anna()),
        ("countries: [de, AT]", anna(), Caller { country: Some("US".into()), ..anna() }),
        (&hash, managed(), on(gnomon_access::Device { sha256: "00".repeat(32).into(), ..laptop("x") }, anna())),
        ("device: { subject: ['laptop-*'] }", managed(), on(laptop("phone-7"), anna())),
        ("device: { san: ['*.corp.example'] }", managed(), on(gnomon_access::Device { names: vec![], ..laptop("x") }, anna())),
        ("process: { executable: ['/opt/*/claude'] }", agent(), with(program("/home/me/opt/claude"), anna())),
        (&process_hash, agent(), with(gnomon_access::Process { sha256: Some("00".repeat(32).into()), ..program("/x") }, anna())),
        ("process: { user: [anna] }", agent(), with(gnomon_access::Process { user: Some("root".into()), ..program("/x") }, anna())),
        (
            "process: { cgroup: ['/system.slice/**'] }",
            agent(),
            with(gnomon_access::Process { cgroup: Some("/user.slice/x".into()), ..program("/x") }, anna()),
        ),
        (
            "process: { unit: ['agent*.service'] }",
            agent(),
            with(gnomon_access::Process { unit: Some("cron.service".into()), ..program("/x") }, anna()),
        ),
        ("users: [anna], groups: [finance]", anna(), person("anna", &["sales"])),
    ];
    for (condition, yes, no) in table {
        let allow = format!("[ {{ allow: {{ servers: [docs], {condition} }} }} ]");
        check(&allow, &yes, &tool("docs", "read"), Allow);
        check(&allow, &no, &tool("docs", "read"), Deny);
        let deny = format!("[ {{ allow: {{ servers: [docs] }} }}, {{ deny: {{ {condition} }} }} ]");
        check(&deny, &yes, &tool("docs", "read"), Deny);
        check(&deny, &no, &tool("docs", "read"), Allow);
    }
}

#[test]
fn a_missing_fact_never_allows_and_always_denies() {
    for condition in [
        "users: [anna]",
        "users: ['anna@example.org']",
        "groups: [finance]",
        "domains: [example.org]",
        "clients: [claude]",
        "scopes: [mcp]",
        "acr: [loa2]",
        "amr: [otp]",
        "countries: [DE]",
        "device: { certificate: any }",
        "device: { subject: ['*'] }",
        "device: { san: ['*'] }",
        "process: { executable: ['*'] }",
        "process: { user: [anna] }",
        "process: { cgroup: ['**'] }",
        "process: { unit: ['*'] }",
    ] {
        let allow = format!("[ {{ allow: {{ servers: [docs], {condition} }} }} ]");
        check(&allow, &anonymous(), &tool("docs", "read"), Deny);
        let deny = format!("[ {{ allow: {{ servers: [docs] }} }}, {{ deny: {{ {condition} }} }} ]");
        check(&deny, &anonymous(), &tool("docs", "read"), Deny);
    }
}

#[test]
fn groups_that_are_known_to_be_none_are_not_missing() {
    let text = "[ { allow: { servers: [docs] } }, { deny: { groups: [contractors] } } ]";
    check(text, &person("anna", &[]), &tool("docs", "read"), Allow);
    check(text, &Caller { groups: Names::Unknown, ..person("anna", &[]) }, &tool("docs", "read"), Deny);
}

#[test]
fn a_deny_stands_above_every_allow_wherever_it_is_written() {
    let anna = person("anna", &["finance"]);
    for text in [
        "[ { deny: { tools: [drop] } }, { allow: { servers: ['*'] } } ]",
        "[ { allow: { servers: ['*'] } }, { deny: { tools: [drop] } } ]",
        "[ { allow: { servers: [db], tools: [drop], users: [anna] } }, { deny: { tools: [drop] } } ]",
    ] {
        check(text, &anna, &tool("db", "drop"), Deny);
    }
}

#[test]
fn capabilities_of_the_same_name_are_told_apart() {
    let anna = person("anna", &[]);
    let tools = "[ { allow: { servers: [docs], tools: [summary] } } ]";
    check(tools, &anna, &tool("docs", "summary"), Allow);
    check(tools, &anna, &asked(Capability::Prompt, "docs", "summary"), Deny);
    check(tools, &anna, &asked(Capability::Resource, "docs", "summary"), Deny);
    let prompts = "[ { allow: { servers: [docs] } }, { deny: { prompts: [summary] } } ]";
    check(prompts, &anna, &tool("docs", "summary"), Allow);
    check(prompts, &anna, &asked(Capability::Prompt, "docs", "summary"), Deny);
    let all = "[ { allow: { servers: [docs] } } ]";
    for capability in [Capability::Tool, Capability::Prompt, Capability::Resource, Capability::ResourceTemplate] {
        check(all, &anna, &asked(capability, "docs", "docs:x"), Allow);
        check(all, &anna, &asked(capability, "other", "docs:x"), Deny);
    }
}

#[test]
fn portals_are_told_apart() {
    let text = "[ { allow: { servers: [docs], portals: [main] } } ]";
    check(text, &anonymous(), &tool("docs", "x"), Allow);
    check(text, &anonymous(), &Asked { portal: "other", ..tool("docs", "x") }, Deny);
}

#[test]
fn hints_count_only_where_the_server_gives_them_and_only_for_tools() {
    let anna = person("anna", &[]);
    let read = "[ { allow: { servers: [db], hints: { read_only: true } } } ]";
    check(read, &anna, &hinted(tool("db", "x"), Some(true), None), Allow);
    check(read, &anna, &hinted(tool("db", "x"), Some(false), None), Deny);
    check(read, &anna, &tool("db", "x"), Deny);
    check(read, &anna, &asked(Capability::Prompt, "db", "x"), Deny);
    let safe = "[ { allow: { servers: [db] } }, { deny: { hints: { destructive: true } } } ]";
    check(safe, &anna, &hinted(tool("db", "x"), None, Some(false)), Allow);
    check(safe, &anna, &hinted(tool("db", "x"), None, Some(true)), Deny);
    check(safe, &anna, &tool("db", "x"), Deny);
    check(safe, &anna, &asked(Capability::Prompt, "db", "x"), Allow);
}

#[test]
fn a_resource_is_not_reached_around_its_pattern() {
    let anna = person("anna", &[]);
    let text = "[ { allow: { servers: [files], resources: ['file:///srv/docs/**'] } } ]";
    check(text, &anna, &asked(Capability::Resource, "files", "file:///srv/docs/a/b.md"), Allow);
    check(text, &anna, &asked(Capability::Resource, "files", "FILE:///srv/docs/a"), Allow);
    for uri in [
        "file:///etc/passwd",
        "file:///srv/docs/../../etc/passwd",
        "file:///srv/docs/%2e%2e/%2e%2e/etc/passwd",
        "file:///srv/docs/..%2f..%2fetc/passwd",
        "file:///srv/docs/..\\..\\etc",
        "file:///srv/docs/\u{0}",
    ] {
        check(text, &anna, &asked(Capability::Resource, "files", uri), Deny);
    }
    let secret = "[ { allow: { servers: [files] } }, { deny: { resources: ['file:///etc/**'] } } ]";
    check(secret, &anna, &asked(Capability::Resource, "files", "file:///srv/a"), Allow);
    for uri in ["file:///etc/passwd", "file:///%65tc/passwd", "file:///srv/../etc/passwd", "FILE:///etc/passwd", "file:////etc/passwd"] {
        check(secret, &anna, &asked(Capability::Resource, "files", uri), Deny);
    }
    let long = format!("file:///srv/docs/{}", "a".repeat(4096));
    check(text, &anna, &asked(Capability::Resource, "files", &long), Deny);
}

#[test]
fn a_template_is_listed_where_something_of_it_may_be_read() {
    let anna = person("anna", &[]);
    let text = "[ { allow: { servers: [files], resources: ['file:///srv/**'] } }, { deny: { resources: ['file:///srv/hr/**'] } } ]";
    for (template, expect) in
        [("file:///{path}", Allow), ("file:///srv/{name}", Allow), ("file:///srv/hr/{name}", Deny), ("file:///etc/{name}", Deny)]
    {
        check(text, &anna, &asked(Capability::ResourceTemplate, "files", template), expect);
    }
}

#[test]
fn arguments_are_judged_at_the_call_and_listed_before() {
    let anna = person("anna", &[]);
    let text = "[ { allow: { servers: [db], tools: [query], when: 'args.limit <= 100' } } ]";
    check(text, &anna, &call("db", "query", &json!({"limit": 100})), Allow);
    check(text, &anna, &call("db", "query", &json!({"limit": 101})), Deny);
    check(text, &anna, &call("db", "query", &json!({"limit": "1"})), Deny);
    check(text, &anna, &call("db", "query", &json!({})), Deny);
    check(text, &anna, &tool("db", "query"), Deny);
    assert!(policy(text).may_list(&anna, &tool("db", "query")).is_shown());
    let text = "[ { allow: { servers: [db] } }, { deny: { tools: [query], when: 'args.all == true' } } ]";
    check(text, &anna, &call("db", "query", &json!({"all": false})), Allow);
    check(text, &anna, &call("db", "query", &json!({"all": true})), Deny);
    check(text, &anna, &call("db", "query", &json!({})), Deny);
    assert!(policy(text).may_list(&anna, &tool("db", "query")).is_shown());
}

#[test]
fn an_explanation_names_the_deciding_line_and_what_others_lack() {
    let text = "policy:\n  - allow: { servers: [docs], groups: [finance] }\n  - deny: { tools: ['delete_*'], reason: 'ask the data office' }\n  - allow: { servers: [db] }\n";
    let policy = policy(text);
    let anna = person("anna", &["finance"]);
    let allowed = policy.explain(&anna, &tool("docs", "read")).to_string();
    assert_eq!(
        allowed,
        "anna@example.org (finance) at 10.1.2.3 by oidc\n\
         asks for the tool `read` of server `docs` through portal `main`\n\n\
         → gnomon.yml:2:5  allow: { servers: [docs], groups: [finance] }\n      matches\n\
         \u{20} gnomon.yml:3:5  deny: { tools: ['delete_*'] }\n      no match: tools: it is the tool `read`\n\
         \u{20} gnomon.yml:4:5  allow: { servers: [db] }\n      no match: servers: it is server `docs`\n\n\
         allowed by gnomon.yml:2:5"
    );
    let denied = policy.explain(&anna, &tool("docs", "delete_all")).to_string();
    assert!(denied.ends_with("denied by gnomon.yml:3:5: ask the data office"), "{denied}");
    // Another kind is named as what it is, and not as what the entry is about.
    for (capability, told) in [
        (Capability::Prompt, "no match: prompts: it is the prompt `delete_all`"),
        (Capability::Resource, "no match: resources: it is the resource `delete_all`"),
    ] {
        let other = policy.explain(&anna, &asked(capability, "docs", "delete_all")).to_string();
        assert!(other.contains(told) && other.ends_with("allowed by gnomon.yml:2:5"), "{other}");
    }
    let nobody = policy.explain(&person("bert", &["sales"]), &tool("docs", "read")).to_string();
    assert!(nobody.contains("no match: groups: asks for finance, has sales") && nobody.ends_with("denied: no entry allows it"), "{nobody}");
}

#[test]
fn a_terminal_is_not_written_to_by_names() {
    let policy = policy("[ { allow: { servers: [docs], users: [anna] } } ]");
    let caller = Caller { user: Some("\u{1b}[2Jx".into()), ..anonymous() };
    let text = policy.explain(&caller, &tool("docs", "\u{1b}]0;x\u{7}")).to_string();
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
}

#[test]
fn a_server_can_be_reached_where_something_there_could_be_allowed() {
    let (anna, bert) = (person("anna", &["finance"]), person("bert", &["sales"]));
    for (text, of_anna, of_bert) in [
        ("[]", false, false),
        ("[ { allow: { servers: [docs] } } ]", true, true),
        ("[ { allow: { servers: [other] } } ]", false, false),
        ("[ { allow: { servers: ['*'], tools: ['read_*'], groups: [finance] } } ]", true, false),
        ("[ { allow: { servers: [docs], when: 'args.n < 1' } } ]", true, true),
        ("[ { allow: { servers: [docs] } }, { deny: { servers: [docs], groups: [sales] } } ]", true, false),
        // A deny of a part leaves the rest.
        ("[ { allow: { servers: [docs] } }, { deny: { servers: [docs], tools: ['*'] } } ]", true, true),
        ("[ { allow: { servers: [docs], portals: [elsewhere] } } ]", false, false),
        // A fact that is missing never allows, and always denies.
        ("[ { allow: { servers: [docs], device: { certificate: any } } } ]", false, false),
        ("[ { allow: { servers: [docs] } }, { deny: { servers: [docs], device: { certificate: any } } } ]", false, false),
    ] {
        let policy = policy(text);
        assert_eq!((policy.may_reach(&anna, "main", "docs"), policy.may_reach(&bert, "main", "docs")), (of_anna, of_bert), "{text}");
    }
}
