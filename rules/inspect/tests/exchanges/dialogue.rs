//! Messages on a channel without HTTP: the same judge, with no head, no gate and no window.

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{Bounds, Connection, Dialogue, HoldsDialogue, Inspector, LateAnswer, Post, Sighting, Surroundings};
use gnomon_observe::{Action, Field, Lookup, Observation};
use serde_json::{Value, json};
use std::sync::Arc;

/// A line of a process, under a rule that blocks what this selection matches.
fn stdio(selection: &str) -> Dialogue {
    Dialogue::begin(&connection(selection, "stdio"), |_| ())
}

fn connection(selection: &str, channel: &str) -> Connection {
    connection_under(&[("block", selection)], channel)
}

/// A connection under rules, each with what it does to what it selects.
fn connection_under(rules: &[(&str, &str)], channel: &str) -> Connection {
    let source = |(n, (action, selection)): (usize, &(&str, &str))| {
        let text = format!(
            "title: T{n}\nid: 0d9c2a51-2f57-4f0e-8d0b-5d0f8c1c7e2{n}\nlogsource: {{ product: mcp, category: mcp_traffic }}\n\
             detection:\n    seen: {{ {selection} }}\n    condition: seen\ngnomon: {{ response: {{ action: {action} }} }}\n"
        );
        Source { name: format!("r{n}.yml"), text, origin: Origin::Admin }
    };
    let sources: Vec<Source> = rules.iter().enumerate().map(source).collect();
    let rules = RuleSet::compile(&sources).unwrap();
    let inspector = Arc::new(Inspector::new(Arc::new(rules), Surroundings::default(), Bounds::default()));
    let mut seen = Observation::new();
    seen.set(Field::Channel, channel);
    Connection::open(&inspector, seen).0
}

fn call(id: u32, tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {"path": "/etc/passwd"}}})
}

fn list(id: u32) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"})
}

fn tools(id: u32, name: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"tools": [{"name": name, "inputSchema": {}}]}})
}

fn ask(dialogue: &mut Dialogue, message: &Value) -> bool {
    dialogue.request_message(&[message.to_string().as_bytes()]).is_ok()
}

fn hear(dialogue: &mut Dialogue, message: &Value) -> bool {
    dialogue.answer_message(&[message.to_string().as_bytes()]).is_ok()
}

fn reports(dialogue: &mut Dialogue) -> Vec<Sighting> {
    dialogue.flush();
    dialogue.reports().collect()
}

fn deep() -> String {
    let nested = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"x":{nested}}}}}"#)
}

/// What two readers could take for different things, each with why.
fn unreadable() -> [(String, &'static str); 5] {
    let call = call(1, "x").to_string();
    [
        (deep(), "depth_exceeded"),
        (format!("{}{call}", list(1)), "trailing_data"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}"#.into(), "duplicate_key"),
        (call.trim_end_matches('}').into(), "truncated"),
        ("tools/call".into(), "not_json"),
    ]
}

#[test]
fn a_refused_call_is_answered_under_its_own_id_and_any_other_passes() {
    for (tool, passes) in [("read_file", false), ("echo", true)] {
        let mut dialogue = stdio("gen_ai.tool.name: read_file");
        let refusal = dialogue.request_message(&[call(7, tool).to_string().as_bytes()]).err();
        assert_eq!(refusal.is_none(), passes, "{tool}");
        let answer = refusal.and_then(|refusal| refusal.answer()).map(|text| serde_json::from_str::<Value>(&text).unwrap());
        assert_eq!(
            answer.map(|answer| (answer["id"].clone(), answer["result"]["isError"].clone())),
            (!passes).then(|| (json!(7), json!(true)))
        );
    }
}

#[test]
fn a_batch_is_refused_whole_and_each_of_its_requests_is_answered() {
    let mut dialogue = stdio("gen_ai.tool.name: read_file");
    let refusal = dialogue.request_message(&[json!([list(1), call(2, "read_file"), list(3)]).to_string().as_bytes()]).unwrap_err();
    let answers: Value = serde_json::from_str(&refusal.answer().unwrap()).unwrap();
    assert_eq!(answers.as_array().unwrap().iter().map(|answer| answer["id"].clone()).collect::<Vec<_>>(), [json!(1), json!(2), json!(3)]);
}

#[test]
fn what_passes_is_told_with_the_strictest_action_of_the_rules_for_it() {
    const READS: &str = "gen_ai.tool.name: read_file";
    let reads = call(1, "read_file");
    let cases: [(&[(&str, &str)], Action); 8] = [
        (&[], Action::Allow),
        (&[("log", "gen_ai.tool.name: write_file")], Action::Allow),
        (&[("allow", READS)], Action::Allow),
        (&[("log", READS)], Action::Log),
        // An administrator's `allow` sets aside what others only note.
        (&[("allow", READS), ("log", READS)], Action::Allow),
        (&[("allow", "mcp.method.name: tools/list"), ("log", READS)], Action::Log),
        // What waits for the answer takes nothing from what matches already.
        (&[("block", "gnomon.tools: evil")], Action::Allow),
        (&[("log", READS), ("block", "gnomon.tools: evil")], Action::Log),
    ];
    for (rules, action) in cases {
        for message in [&reads, &json!([list(2), reads, list(3)])] {
            let mut dialogue = Dialogue::begin(&connection_under(rules, "stdio"), |_| ());
            let passes = dialogue.request_message(&[message.to_string().as_bytes()]);
            assert_eq!(passes.ok(), Some(action), "{rules:?}: {message}");
        }
    }
    // Of more than are kept until their answers come, the first are reported before the last are judged.
    let mut many = vec![list(2); Bounds::default().max_open_calls + 100];
    many.insert(0, reads);
    let mut dialogue = Dialogue::begin(&connection_under(&[("log", READS)], "stdio"), |_| ());
    let passes = dialogue.request_message(&[json!(many).to_string().as_bytes()]);
    assert_eq!(passes.ok(), Some(Action::Log));
    assert!(dialogue.reports().next().is_some());
}

#[test]
fn every_call_is_reported_once_and_nothing_of_http_is_made_up() {
    for (tool, action) in [("read_file", Action::Block), ("echo", Action::Allow)] {
        let mut dialogue = stdio("gen_ai.tool.name: read_file");
        if ask(&mut dialogue, &call(1, tool)) {
            dialogue.answer_begins(None);
            assert!(hear(&mut dialogue, &json!({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})));
            assert!(dialogue.answer_over().is_ok());
        }
        let reports = reports(&mut dialogue);
        let [report] = &reports[..] else { panic!("{reports:?}") };
        assert_eq!((report.action, report.seen.text(Field::ToolName)), (action, Some(tool)));
        for field in [Field::HttpMethod, Field::UrlPath, Field::UrlFull, Field::HttpVersion, Field::HttpStatus] {
            assert_eq!(report.seen.get(field), Lookup::Absent, "{field}");
        }
    }
}

#[test]
fn an_answer_is_judged_with_the_call_that_it_answers() {
    let mut dialogue = stdio("gnomon.tools: evil");
    assert!(ask(&mut dialogue, &json!([list(1), list(2)])));
    dialogue.answer_begins(None);
    assert!(hear(&mut dialogue, &tools(2, "good")));
    let refusal = dialogue.answer_message(&[tools(1, "evil").to_string().as_bytes()]).unwrap_err();
    let answer: Value = serde_json::from_str(&refusal.answer().unwrap()).unwrap();
    assert_eq!(answer["id"], 1);
    let reports: Vec<_> = reports(&mut dialogue).iter().map(|r| (r.seen.text(Field::RpcId).map(str::to_owned), r.action)).collect();
    assert_eq!(reports, [(Some("2".into()), Action::Allow), (Some("1".into()), Action::Block)]);
}

#[test]
fn an_unrequested_answer_is_judged_by_its_content() {
    for (name, passes) in [("evil", false), ("good", true)] {
        let mut dialogue = stdio("gnomon.tools: evil");
        assert!(ask(&mut dialogue, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})));
        dialogue.flush();
        dialogue.answer_begins(None);
        assert_eq!(hear(&mut dialogue, &tools(9, name)), passes, "{name}");
    }
}

#[test]
fn a_call_whose_answer_is_late_is_reported_without_it_and_told_of_when_it_comes() {
    let mut dialogue = stdio("gen_ai.tool.name: read_file");
    assert!(ask(&mut dialogue, &call(1, "echo")));
    // As whoever records it does.
    dialogue.dialogue().flush_overdue();
    let early: Vec<_> = dialogue.reports().collect();
    assert_eq!(early.len(), 1);
    assert_eq!(dialogue.late_answer(early[0].call), Some(&LateAnswer::Missing));
    assert!(hear(&mut dialogue, &json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [], "isError": true}})));
    assert_eq!(dialogue.late_answer(early[0].call), Some(&LateAnswer::Error("tool_error".into())));
    assert!(reports(&mut dialogue).is_empty());
}

#[test]
fn a_question_of_the_server_is_judged_and_costs_the_call_nothing() {
    let mut dialogue = stdio("mcp.method.name: elicitation/create");
    assert!(ask(&mut dialogue, &call(1, "echo")));
    assert!(!hear(&mut dialogue, &json!({"jsonrpc": "2.0", "id": 5, "method": "elicitation/create", "params": {}})));
    assert!(hear(&mut dialogue, &json!({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})));
}

#[test]
fn a_request_that_two_readers_could_read_differently_is_unreadable_and_never_absent() {
    for (text, reason) in unreadable() {
        // As one piece and byte by byte.
        for piece in [text.len(), 1] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(piece).collect();
            let mut refused = stdio("gen_ai.tool.name: read_file");
            let refusal = refused.request_message(&pieces).expect_err(reason);
            assert!(refusal.answer().is_some(), "{text}");
            // A rule that cannot match lets it pass, and it is an event that says why it could not be read.
            let mut told = stdio("server.address: other.example");
            assert!(told.request_message(&pieces).is_ok(), "{reason}");
            let reports = reports(&mut told);
            assert!(reports.iter().any(|report| report.seen.text(Field::Malformed) == Some(reason)), "{reason}: {reports:?}");
        }
    }
}

#[test]
fn an_answer_that_two_readers_could_read_differently_is_unreadable_and_never_absent() {
    let answers = [
        tools(1, "good").to_string().replace("{}", &format!("{{\"x\":{}1{}}}", "[".repeat(200), "]".repeat(200))),
        format!("{}{}", tools(1, "good"), tools(1, "evil")).replacen("\"id\":1", "\"id\":8", 1),
        tools(1, "good").to_string().replacen("\"id\":1", "\"id\":1,\"id\":1", 1),
        tools(1, "good").to_string().trim_end_matches('}').to_owned(),
        "no JSON".to_owned(),
    ];
    for answer in answers {
        let mut waits = stdio("gnomon.tools: evil");
        assert!(ask(&mut waits, &list(1)));
        waits.answer_begins(None);
        assert!(waits.answer_message(&[answer.as_bytes()]).is_err(), "a rule waits for {answer}");
        let mut watched = stdio("gen_ai.tool.name: read_file");
        assert!(ask(&mut watched, &list(1)));
        assert!(watched.answer_message(&[answer.as_bytes()]).is_ok(), "no rule waits for {answer}");
    }
}

#[test]
fn a_question_that_two_readers_could_read_differently_is_unreadable_and_never_absent() {
    let question = r#"{"jsonrpc":"2.0","id":5,"method":"elicitation/create","method":"elicitation/create"}"#;
    for text in [question.to_owned(), deep().replace("tools/list", "elicitation/create")] {
        for (selection, passes) in [("mcp.method.name: elicitation/create", false), ("server.address: other.example", true)] {
            let mut dialogue = stdio(selection);
            assert!(ask(&mut dialogue, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})));
            assert_eq!(dialogue.answer_message(&[text.as_bytes()]).is_ok(), passes, "{selection}: {text}");
            let reports = reports(&mut dialogue);
            assert!(reports.iter().any(|report| report.seen.text(Field::Malformed).is_some()), "{reports:?}");
        }
    }
    // What wants no answer is not judged where it can be read either.
    let told = question.replace("\"id\":5,", "").replace("elicitation/create", "notifications/message");
    assert!(stdio("mcp.method.name: elicitation/create").answer_message(&[told.as_bytes()]).is_ok());
}

#[test]
fn a_batch_of_more_messages_than_are_judged_is_unreadable() {
    let many = vec![list(1); gnomon_inspect::MAX_MESSAGES as usize + 1];
    assert!(!ask(&mut stdio("gen_ai.tool.name: read_file"), &json!(many)));
    let mut waits = stdio("gnomon.tools: evil");
    assert!(ask(&mut waits, &list(0)));
    assert!(!hear(&mut waits, &json!(vec![tools(1, "good"); gnomon_inspect::MAX_MESSAGES as usize + 1])));
}

#[test]
fn a_request_that_is_posted_is_judged_by_where_it_goes() {
    let mut connection = connection("url.path: /mcp", "https");
    let _ = connection.hello("tools.example", 443, &gnomon_inspect::Hello::default());
    for (path, passes) in [("/mcp", false), ("/rpc", true)] {
        let post = Post { path, accept: "application/json, text/event-stream", content_type: "application/json", user_agent: Some(b"a/1") };
        let mut dialogue = Dialogue::post(&connection, &post);
        assert_eq!(ask(&mut dialogue, &call(1, "echo")), passes, "{path}");
        let full = format!("https://tools.example{path}");
        for (field, value) in [(Field::HttpMethod, "POST"), (Field::UrlPath, path), (Field::UrlFull, &full), (Field::UserAgent, "a/1")] {
            assert_eq!(dialogue.seen().text(field), Some(value), "{field}");
        }
    }
}
