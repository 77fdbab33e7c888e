//! Saved snippets: nothing runs that nobody approved, for nobody whom it is not for, and never with other rights than its caller's.

use crate::{
    Running, Setup,
    admission::{tokens_of, two_tokens},
    client::{Answer, Client},
    server::{Server, Speaks},
};
use gnomon_audit::Status;
use gnomon_ledger::{DecidedBy, SnippetDecision};
use gnomon_observe::Review;
use gnomon_portal::CodeMode;
use serde_json::{Value, json};

const ECHO: &str = "async (codemode, args) => ({ said: await codemode.one_echo({ text: args.text }), twice: args.n * 2 })";

async fn run(client: &mut Client, code: &str) -> Answer {
    client.call("portal_codemode_execute", json!({"code": code})).await
}

async fn find(client: &mut Client, code: &str) -> String {
    client.call("portal_codemode_search", json!({"code": code})).await.text().to_owned()
}

fn failed(answer: &Answer) -> bool {
    answer.last()["result"]["isError"] == true
}

/// A script that saves this code under this name, for these.
fn saving(name: &str, code: &str, audience: &str) -> String {
    let parameters = json!({"type": "object", "properties": {"text": {"type": "string"}, "n": {"type": "integer"}}, "required": ["text"]});
    let options = json!({"description": "Echoes a text, and doubles a number.", "parameters": parameters, "for": audience});
    format!("async () => codemode.save({}, {}, {options})", json!(name), json!(code))
}

async fn saved(client: &mut Client, name: &str, code: &str, audience: &str) -> Value {
    let answer = run(client, &saving(name, code, audience)).await;
    assert!(!failed(&answer), "{answer:?}");
    serde_json::from_str(answer.text()).unwrap()
}

async fn review(portal: &Running, digest: &Value, state: Review) {
    let by = DecidedBy { user: Some("rita".to_owned()), login_uid: None, uid: 0 };
    let (digest, reason) = (digest.as_str().unwrap().to_owned(), Some("read".to_owned()));
    let decision = SnippetDecision { at_ms: 1, by, digest, state, owner: None, reason, until_ms: None };
    portal.decided().review_snippet(&decision).await.unwrap();
    portal.heed().await;
}

/// A portal with a log-in, one server, and snippets.
async fn portal(server: &Server, auth: String, policy: &'static str) -> Running {
    Setup::of([("one", server.url())]).auth(auth).policy(policy).code_mode(CodeMode::Enforced).snippets().start().await
}

const ALL: &str = "[{allow: {servers: ['*']}}]";

#[tokio::test]
async fn a_saved_snippet_runs_once_somebody_approved_it_and_another_version_waits_anew() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, [ada, _]) = two_tokens();
    let portal = portal(&server, auth, ALL).await;
    let mut client = Client::modern(portal.address).holding(&ada);
    let first = saved(&mut client, "echo-twice", ECHO, "portal").await;
    assert_eq!((&first["name"], &first["version"], &first["state"]), (&json!("echo-twice"), &json!(1), &json!("waiting for review")));
    assert_eq!(first["digest"].as_str().unwrap().len(), 64);
    let call = "async () => codemode.snippets.echo_twice({ text: 'x', n: 4 })";
    let early = run(&mut client, call).await;
    assert!(failed(&early) && early.text().contains("codemode.snippets_echo_twice is not a function"), "{}", early.text());
    assert!(server.got("tools/call").is_empty());
    review(&portal, &first["digest"], Review::Approved).await;
    let done = run(&mut client, call).await;
    assert_eq!(serde_json::from_str::<Value>(done.text()).unwrap(), json!({"said": "one: x", "twice": 8}), "{done:?}");
    assert_eq!(
        run(&mut client, "async () => (await codemode.withMeta('snippets_echo_twice', {text: 'y'})).value.said").await.text(),
        "one: y"
    );
    // The same again is what it was; another version waits, and the first stays in force.
    let again = saved(&mut client, "echo-twice", ECHO, "portal").await;
    assert_eq!((&again["version"], &again["state"]), (&json!(1), &json!("approved")));
    let second = saved(&mut client, "echo-twice", "async () => 'second'", "portal").await;
    assert_eq!((&second["version"], &second["state"]), (&json!(2), &json!("waiting for review")));
    portal.heed().await;
    assert!(run(&mut client, call).await.text().contains("\"twice\":8"));
    review(&portal, &second["digest"], Review::Approved).await;
    assert_eq!(run(&mut client, call).await.text(), "second");
    // A denial takes back what was approved.
    review(&portal, &second["digest"], Review::Denied).await;
    assert!(run(&mut client, call).await.text().contains("\"twice\":8"), "the approved one before it is in force again");
    review(&portal, &first["digest"], Review::Denied).await;
    assert!(failed(&run(&mut client, call).await));
}

#[tokio::test]
async fn a_snippet_is_for_its_owner_its_group_or_all_and_others_are_told_what_they_are_told_of_nothing() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, [ada, eve]) = two_tokens();
    let portal = portal(&server, auth, ALL).await;
    let mut client = Client::modern(portal.address).holding(&ada);
    for (name, audience) in [("mine", "me"), ("ours", "group:adas"), ("everybodys", "portal")] {
        let kept = saved(&mut client, name, ECHO, audience).await;
        review(&portal, &kept["digest"], Review::Approved).await;
    }
    let foreign = run(&mut client, &saving("theirs", ECHO, "group:eves")).await;
    assert!(failed(&foreign) && foreign.text().contains("a group that you are in yourself"), "{}", foreign.text());
    let mut other = Client::modern(portal.address).holding(&eve);
    let tools = "async () => (await codemode.tools()).filter(t => t.server === 'snippets').map(t => t.name)";
    assert_eq!(find(&mut client, tools).await, r#"["snippets_mine","snippets_ours","snippets_everybodys"]"#);
    assert_eq!(find(&mut other, tools).await, r#"["snippets_everybodys"]"#);
    assert_eq!(run(&mut client, "async () => (await codemode.snippets_ours({text: 'z'})).said").await.text(), "one: z");
    assert_eq!(run(&mut other, "async () => (await codemode.snippets_everybodys({text: 'z'})).said").await.text(), "one: z");
    for name in ["snippets_mine", "snippets_ours", "snippets_nothing"] {
        let hidden = run(&mut other, &format!("async () => codemode.{name}({{text: 'z'}})")).await;
        let told = hidden.text().replace(name, "NAME");
        assert!(failed(&hidden) && told.contains("codemode.NAME is not a function"), "{told}");
        assert!(!told.contains("Calls before"), "{told}");
        let described = find(&mut other, &format!("async () => codemode.describe('{name}')")).await;
        assert!(described.contains(&format!("there is no tool `{name}`")), "{described}");
    }
    // The name of somebody else's snippet for oneself is free.
    let own = saved(&mut other, "mine", "async () => 'eve'", "me").await;
    review(&portal, &own["digest"], Review::Approved).await;
    assert_eq!(run(&mut other, "async () => codemode.snippets.mine({text: 'x'})").await.text(), "eve");
    assert_eq!(run(&mut client, "async () => (await codemode.snippets.mine({text: 'a'})).said").await.text(), "one: a");
}

#[tokio::test]
async fn a_snippet_has_its_callers_rights_and_never_its_authors() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, [ada, eve]) = two_tokens();
    let policy = "[{allow: {servers: ['*'], groups: [adas]}}, {allow: {servers: [one], tools: [echo], groups: [eves]}}, {allow: {servers: [snippets], groups: [eves]}}]";
    let portal = portal(&server, auth, policy).await;
    let mut author = Client::modern(portal.address).holding(&ada);
    let code = "async (codemode, args) => [await codemode.one_echo({text: args.text}), await codemode.one_delete_all({})]";
    let kept = saved(&mut author, "sweep", code, "portal").await;
    review(&portal, &kept["digest"], Review::Approved).await;
    let mut caller = Client::modern(portal.address).holding(&eve);
    let refused = run(&mut caller, "async () => codemode.snippets.sweep({text: 'x'})").await;
    assert!(failed(&refused) && refused.text().contains("one_delete_all is not a function"), "{}", refused.text());
    assert!(refused.text().contains("one_echo ok"), "which calls it made is told: {}", refused.text());
    assert_eq!(server.got("tools/call").len(), 1, "only what eve may do was done");
    let done = run(&mut author, "async () => codemode.snippets.sweep({text: 'x'})").await;
    assert_eq!(done.text(), r#"["one: x","deleted"]"#);
    // Each call is in the record, as the caller's, with the snippet that made it.
    let records = portal.records(12).await;
    let swept: Vec<_> = records.iter().filter(|r| r.snippet.as_deref() == Some("sweep") && r.user_name.as_deref() == Some("eve")).collect();
    let tools: Vec<_> = swept.iter().map(|r| (r.tool.as_deref().unwrap(), r.status.unwrap())).collect();
    assert_eq!(tools, [("echo", Status::Ok), ("one_delete_all", Status::Refused), ("sweep", Status::Error)]);
    for record in &swept {
        assert_eq!((record.snippet_version, record.snippet_sha256.as_deref()), (Some(1), kept["digest"].as_str()));
        assert!(record.execution.is_some());
    }
    assert_eq!(swept[2].server.as_deref(), Some("snippets"));
    let save = records.iter().find(|r| r.tool.as_deref() == Some("codemode.save")).unwrap();
    assert_eq!((save.status, save.snippet.as_deref(), save.user_name.as_deref()), (Some(Status::Ok), Some("sweep"), Some("ada")));
}

#[tokio::test]
async fn policy_says_who_saves_and_who_calls_and_refusals_are_events() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, [ada, eve]) = two_tokens();
    let policy = "[{allow: {servers: [one]}}, {allow: {servers: [snippets], tools: [codemode.save], groups: [adas], when: 'args.for != \"portal\" || args.name.startsWith(\"team-\")'}}, {allow: {servers: [snippets], tools: ['team-*'], when: 'args.text != \"no\"'}}]";
    let portal = portal(&server, auth, policy).await;
    let mut client = Client::modern(portal.address).holding(&ada);
    let other = run(&mut client, &saving("other", ECHO, "portal")).await;
    assert!(failed(&other) && other.text().contains("policy does not let you save this"), "{}", other.text());
    let team = saved(&mut client, "team-echo", ECHO, "portal").await;
    review(&portal, &team["digest"], Review::Approved).await;
    let hidden = saved(&mut client, "mine", ECHO, "me").await;
    review(&portal, &hidden["digest"], Review::Approved).await;
    let mut eve = Client::modern(portal.address).holding(&eve);
    assert!(run(&mut eve, &saving("x", ECHO, "me")).await.text().contains("policy does not let you save this"));
    assert_eq!(run(&mut eve, "async () => (await codemode.snippets.team_echo({text: 'yes'})).said").await.text(), "one: yes");
    let no = run(&mut eve, "async () => codemode.snippets.team_echo({text: 'no'})").await;
    assert!(no.text().contains("policy does not allow you to call the snippet `team-echo`"), "{}", no.text());
    let none = run(&mut client, "async () => codemode.snippets.mine({text: 'x'})").await;
    assert!(none.text().contains("is not a function"), "policy lets nobody call it: {}", none.text());
    let wrong = run(&mut eve, "async () => codemode.snippets.team_echo({text: 'yes', n: 'x'})").await;
    assert!(
        wrong.text().contains("do not fit the tool's input schema") && wrong.text().contains("snippets_team_echo({text: string"),
        "{}",
        wrong.text()
    );
    let events = portal.events(5).await;
    let refused: Vec<_> = events
        .iter()
        .filter(|event| event["gnomon.detection.class"] == "policy" && event["gnomon.server.id"] == "snippets")
        .map(|event| (event["gen_ai.tool.name"].as_str().unwrap(), event["message"].as_str().unwrap()))
        .collect();
    let no = "policy does not allow it";
    let fit = "its arguments do not fit the tool";
    assert_eq!(refused, [("codemode.save", no), ("codemode.save", no), ("team-echo", no), ("team-echo", fit)]);
    let records = portal.records(8).await;
    let denied = records.iter().find(|r| r.tool.as_deref() == Some("team-echo") && r.status == Some(Status::Refused)).unwrap();
    assert_eq!(denied.snippet_version, Some(1));
}

#[tokio::test]
async fn what_cannot_be_a_snippet_is_refused_with_what_to_do() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, [ada, _]) = two_tokens();
    let portal = portal(&server, auth, ALL).await;
    let mut client = Client::modern(portal.address).holding(&ada);
    for (script, told) in [
        (saving("a b", ECHO, "me"), "a snippet's name has letters, digits"),
        (saving("codemode.save", ECHO, "me"), "a snippet's name has letters, digits"),
        (saving("x", ECHO, "us"), "a snippet is for \"me\", \"group:NAME\" or \"portal\""),
        (saving("x", "async () => {", "me"), "SyntaxError"),
        (saving("x", "import fs from 'fs'; fs.x()", "me"), "modules cannot be imported"),
        (saving("x", &"x".repeat(70 << 10), "me"), "longer than 64 KiB"),
        ("async () => codemode.save('x', async () => 1, {description: 'd'})".to_owned(), "nothing around a function is saved with it"),
        ("async () => codemode.save('x', '1')".to_owned(), "say what it is for"),
        ("async () => codemode.save('x', '1', {description: ' '})".to_owned(), "say in `description`"),
        ("async () => codemode.save('x', '1', {description: 'd', title: 't'})".to_owned(), "has no option `title`"),
        ("async () => codemode.save('x', '1', {description: 'd', parameters: {type: 'string'}})".to_owned(), "cannot be offered as a tool"),
        (
            "async () => codemode.save('x', '1', {description: 'd', parameters: {type: 'object', allOf: [{$ref: '#'}]}})".to_owned(),
            "cannot be offered as a tool",
        ),
        ("async () => codemode.forget('x')".to_owned(), "you have saved no snippet `x`"),
    ] {
        let answer = run(&mut client, &script).await;
        assert!(failed(&answer) && answer.text().contains(told), "{script:.200}\n{}", answer.text());
    }
    assert!(find(&mut client, &saving("x", ECHO, "me")).await.contains("saved in portal_codemode_execute"));
    assert!(portal.decided().snippets().await.unwrap().0.is_empty());
    // Nothing of code is run when it is saved.
    saved(&mut client, "evil", "async (codemode) => { for (;;); }", "me").await;
    saved(&mut client, "typed", "async (codemode: any, args: { n: number }): Promise<number> => args.n", "me").await;
}

#[tokio::test]
async fn without_being_turned_on_or_a_log_in_nothing_is_saved() {
    let server = Server::start("one", Speaks::Both).await;
    let off = Setup::of([("one", server.url())]).code_mode(CodeMode::Enforced).start().await;
    let told = run(&mut Client::modern(off.address), &saving("x", ECHO, "me")).await;
    assert!(failed(&told) && told.text().contains("whoever runs it can turn that on, with `snippets: review`"), "{}", told.text());
    let open = Setup::of([("one", server.url())]).code_mode(CodeMode::Enforced).snippets().start().await;
    let told = run(&mut Client::modern(open.address), &saving("x", ECHO, "me")).await;
    assert!(failed(&told) && told.text().contains("it has no log-in"), "{}", told.text());
}

#[tokio::test]
async fn snippets_are_found_and_declared_like_tools() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, [ada, _]) = two_tokens();
    let portal = portal(&server, auth, ALL).await;
    let mut client = Client::modern(portal.address).holding(&ada);
    let kept = saved(&mut client, "echo-twice", ECHO, "me").await;
    let search = "async () => codemode.search('double a number', {limit: 1})";
    assert!(!find(&mut client, search).await.contains("snippets_"), "it waits");
    review(&portal, &kept["digest"], Review::Approved).await;
    let found: Value = serde_json::from_str(&find(&mut client, search).await).unwrap();
    let line = "snippets_echo_twice({text: string, n?: number})";
    assert_eq!(found, json!([{"name": "snippets_echo_twice", "signature": line, "summary": "Echoes a text, and doubles a number"}]));
    let of_server = "async () => (await codemode.search('echo', {server: 'snippets'})).map(t => t.name)";
    assert_eq!(find(&mut client, of_server).await, r#"["snippets_echo_twice"]"#);
    let declared = find(&mut client, "async () => codemode.describe('snippets_echo_twice', 'one_echo')").await;
    assert!(declared.contains("snippets_echo_twice: (input: {") && declared.contains("one_echo"), "{declared}");
}

#[tokio::test]
async fn snippets_call_each_other_so_deep_and_share_the_bounds_of_one_script() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, [ada, _]) = two_tokens();
    let portal = portal(&server, auth, ALL).await;
    let mut client = Client::modern(portal.address).holding(&ada);
    for (name, code) in [
        ("deeper", "async (codemode, args) => args.n > 0 ? codemode.snippets.deeper({text: 'x', n: args.n - 1}) : 'bottom'"),
        (
            "many",
            "async (codemode, args) => { await Promise.all(Array.from({length: args.n}, () => codemode.one_echo({text: 'x'}))); return 'done' }",
        ),
        ("slow", "async () => { const until = Date.now() + 900; while (Date.now() < until); return 'slow' }"),
        ("saves", "async (codemode) => codemode.save('other', '1', {description: 'd'})"),
        ("throws", "async (codemode) => { await codemode.one_echo({text: 'x'}); throw new Error('no luck') }"),
    ] {
        let kept = saved(&mut client, name, code, "me").await;
        review(&portal, &kept["digest"], Review::Approved).await;
    }
    assert_eq!(run(&mut client, "async () => codemode.snippets.deeper({text: 'x', n: 2})").await.text(), "bottom");
    let deep = run(&mut client, "async () => codemode.snippets.deeper({text: 'x', n: 3})").await;
    assert!(failed(&deep) && deep.text().contains("at most 3 deep"), "{}", deep.text());
    // 100 calls in all are a script's: 2 x (1 + 40) are, and 3 x are not.
    let twice = "async () => { for (let i = 0; i < 2; i++) await codemode.snippets.many({text: 'x', n: 40}); return 'well' }";
    assert_eq!(run(&mut client, twice).await.text(), "well");
    let thrice = run(&mut client, &twice.replace("i < 2", "i < 3")).await;
    assert!(failed(&thrice) && thrice.text().contains("more than 100 tool calls"), "{}", thrice.text());
    // Two seconds of computing are a script's here, in as many calls as it takes on a busy machine.
    let slow =
        run(&mut client, "async () => { for (let i = 0; i < 40; i++) await codemode.snippets.slow({text: 'x'}); return 'well' }").await;
    assert!(failed(&slow) && slow.text().contains("computed for more than"), "{}", slow.text());
    let saves = run(&mut client, "async () => codemode.snippets.saves({text: 'x'})").await;
    assert!(saves.text().contains("a snippet saves no snippets"), "{}", saves.text());
    let throws = run(&mut client, "async () => codemode.snippets.throws({text: 'x'})").await;
    assert!(throws.text().contains("the snippet `throws` failed. Error: Error: no luck"), "{}", throws.text());
    assert!(throws.text().contains("Calls before that: one_echo ok."), "{}", throws.text());
    // What its caller did to the language of its own script is nothing to a snippet.
    let twisted = "async () => { Array.prototype.join = () => 'twisted'; JSON.parse = () => 1; return (await codemode.snippets.many({text: 'x', n: 1})) }";
    assert_eq!(run(&mut client, twisted).await.text(), "done");
}

#[tokio::test]
async fn its_owner_forgets_a_snippet_and_nobody_else_does() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, [ada, eve]) = two_tokens();
    let portal = portal(&server, auth, ALL).await;
    let (mut client, mut other) = (Client::modern(portal.address).holding(&ada), Client::modern(portal.address).holding(&eve));
    let kept = saved(&mut client, "echo", ECHO, "portal").await;
    review(&portal, &kept["digest"], Review::Approved).await;
    let call = "async () => (await codemode.snippets.echo({text: 'x'})).said";
    let taken = run(&mut other, &saving("echo", "async () => 'mine now'", "portal")).await;
    assert!(failed(&taken) && taken.text().contains("`echo` is taken by a snippet of somebody else"), "{}", taken.text());
    let forget = "async () => codemode.forget('echo', {for: 'portal'})";
    assert!(failed(&run(&mut other, forget).await));
    portal.heed().await;
    assert_eq!(run(&mut other, call).await.text(), "one: x");
    let forgotten = run(&mut client, forget).await;
    assert_eq!(forgotten.text(), r#"{"name":"echo","for":"portal","forgotten":1}"#);
    portal.heed().await;
    assert!(failed(&run(&mut client, call).await));
    assert_eq!(saved(&mut client, "echo", ECHO, "portal").await["version"], 2);
}

#[tokio::test]
async fn a_tool_cannot_take_the_name_of_a_snippet() {
    let tools = json!([{"name": "snippets_echo", "description": "d", "inputSchema": {"type": "object"}}]);
    let server = Server::with_tools("one", Speaks::Both, tools, |_, _| json!({"content": [{"type": "text", "text": "the tool's"}]})).await;
    let (auth, [ada]) = tokens_of(["ada"]);
    let setup = Setup::of([("one", server.url())]).auth(auth).code_mode(CodeMode::Enforced).snippets();
    let portal = setup.prefix(gnomon_portal::Prefix::Never).start().await;
    let mut client = Client::modern(portal.address).holding(&ada);
    let call = "async () => codemode.snippets_echo({text: 'x'})";
    assert_eq!(run(&mut client, call).await.text(), "the tool's");
    let kept = saved(&mut client, "echo", "async () => 'the snippet'", "me").await;
    review(&portal, &kept["digest"], Review::Approved).await;
    assert_eq!(run(&mut client, call).await.text(), "the snippet");
    let names = "async () => (await codemode.tools()).map(t => t.server + ' ' + t.name)";
    assert_eq!(find(&mut client, names).await, r#"["snippets snippets_echo"]"#);
}
