//! Rules judge what passes in both directions, and it is written to the ledger.

use crate::{
    Running, Setup,
    admission::two_tokens,
    asking::{Asking, Says},
    client::{Client, next_event},
    matrix::SERVERS,
    pools,
    server::{Server, Speaks},
    soon,
};
use bytes::Bytes;
use futures_util::future::join_all;
use gnomon_access::Caller;
use gnomon_audit::{RecordKind, Status};
use gnomon_observe::Action;
use gnomon_relay::{
    error::CallError,
    judged::{Judge, Rules, Whose},
    large::LARGE,
};
use gnomon_upstream::{
    Asked, News, Reach, Transport,
    endpoint::Endpoint,
    rpc::{Id, Outcome},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    pin::pin,
    time::{Duration, Instant, SystemTime},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What is promised: an event within two seconds of its call.
const PROMISED: Duration = Duration::from_secs(2);
/// What a loaded machine may add, where the attendant, the writer of the file and the test wait for a processor. An event that waits for
/// anything else comes far later: for the end of the patience with its server, or for another bound than the recorder's second and a half.
const SLACK: Duration = Duration::from_secs(2);

/// The events of calls.
fn calls(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|event| event["mcp.method.name"] == "tools/call").collect()
}

#[tokio::test]
async fn every_call_is_an_event_that_says_who_what_and_where() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
        assert_eq!(client.call("one_echo", json!({"text": "x"})).await.text(), "one: x");
    }
    // The lists are fetched at the start.
    let events = portal.events(3).await;
    let calls = calls(&events);
    assert_eq!(calls.len(), 2, "{events:#?}");
    for call in calls {
        for (field, value) in [
            ("gnomon.vantage", json!("portal")),
            ("gnomon.portal.id", json!("main")),
            ("gnomon.server.id", json!("one")),
            ("gnomon.channel", json!("http")),
            ("gnomon.action", json!("allow")),
            ("gnomon.confidence", json!("confirmed")),
            ("gen_ai.tool.name", json!("echo")),
            ("mcp.client.name", json!("test")),
            ("server.address", json!("127.0.0.1")),
            ("server.port", json!(server.address.port())),
            ("url.path", json!("/mcp")),
            ("http.response.status_code", json!(200)),
            ("event.kind", json!("event")),
        ] {
            assert_eq!(call[field], value, "{field} of {call:#}");
        }
    }
}

/// A call by a client of each era to a server that says nothing to it.
async fn called_in_vain(says: Says) {
    let server = Asking::start("one", says).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut clients = [Client::legacy(portal.address).await, Client::modern(portal.address)];
    let made = SystemTime::now();
    let asked = clients.each_mut().map(|client| client.call("one_wait", json!({})));
    let told = async {
        server.called(2).await;
        let (had, had_at) = (Instant::now(), SystemTime::now());
        soon("the events of the calls", async {
            loop {
                // Read as anybody else would read it: nothing makes gnomon write it earlier.
                let text = std::fs::read_to_string(portal.dir.path().join("events.jsonl")).unwrap_or_default();
                // The last line may not be whole yet.
                let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
                if calls(&events).len() == 2 {
                    return (events, had.elapsed(), had_at);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    };
    let (events, took, had_at) = tokio::select! {
        answers = join_all(asked) => panic!("{says:?}: the server said something: {answers:?}"),
        told = told => told,
    };
    assert!(took < PROMISED + SLACK, "{says:?}: the events came {took:?} after the server had the calls");
    for call in calls(&events) {
        assert_eq!((&call["gen_ai.tool.name"], &call["gnomon.pending"]), (&json!("wait"), &json!(true)), "{says:?}: {call:#}");
        let seen = SystemTime::from(OffsetDateTime::parse(call["@timestamp"].as_str().unwrap(), &Rfc3339).unwrap());
        // When the call was made, not when it was reported; the file has milliseconds.
        let (first, last) = (made - Duration::from_millis(1), had_at + Duration::from_millis(500));
        assert!((first..=last).contains(&seen), "{says:?}: {call:#}");
    }
}

#[tokio::test]
async fn a_call_to_a_server_that_says_nothing_is_an_event_in_the_time_that_is_promised() {
    // At the same time: each takes as long as the event does.
    join_all(SERVERS.map(called_in_vain)).await;
}

#[tokio::test]
async fn a_blocked_call_never_reaches_its_server_and_the_model_reads_why() {
    let server = Server::start("one", Speaks::Both).await;
    let selection = "gen_ai.tool.call.arguments|contains: passwd";
    let portal = Setup::of([("one", server.url())]).rule("block", selection).start().await;
    for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
        let refused = client.call("one_echo", json!({"text": "/etc/passwd"})).await;
        assert_eq!(refused.last()["result"]["isError"], true, "{refused:?}");
        assert!(refused.text().contains("Rule 0"), "{refused:?}");
        assert_eq!(client.call("one_echo", json!({"text": "x"})).await.text(), "one: x", "the session goes on");
    }
    assert_eq!(server.got("tools/call").len(), 2);
    let events = portal.events(5).await;
    let blocked: Vec<_> = events.iter().filter(|event| event["gnomon.action"] == "block").collect();
    assert_eq!(blocked.len(), 2, "{events:#?}");
    assert!(blocked.iter().all(|event| event["rule.name"] == "Rule 0" && event["gen_ai.tool.name"] == "echo"), "{blocked:#?}");
    assert!(!format!("{events:?}").contains("/etc/passwd"), "arguments are judged and never stored");
}

#[tokio::test]
async fn an_answer_that_a_rule_forbids_is_withheld() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).rule("block", "rpc.response.status_code: '-32601'").start().await;
    let mut client = Client::legacy(portal.address).await;
    let answer = client
        .request(
            "completion/complete",
            json!({"ref": {"type": "ref/resource", "uri": "one+note://one/1"}, "argument": {"name": "x", "value": ""}}),
        )
        .await;
    assert_eq!(answer.last()["error"]["code"], -32600, "{answer:?}");
    assert_eq!(server.got("completion/complete").len(), 1, "it was asked");
    let events = portal.events(2).await;
    assert!(
        events.iter().any(|event| event["gnomon.action"] == "block" && event["mcp.method.name"] == "completion/complete"),
        "{events:#?}"
    );
}

#[tokio::test]
async fn an_answer_with_an_error_status_is_judged_as_any_other_and_a_result_with_one_is_none() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let server = Server::scripted("one", speaks, |method, params| match (method, params["arguments"]["text"].as_str()) {
            ("tools/call", Some("error")) => Some(json!({"http": 400, "answer": {"error": {"code": -32000, "message": "POISON"}}})),
            ("tools/call", Some("plain error")) => Some(json!({"http": 400, "answer": {"error": {"code": -32001, "message": "no"}}})),
            ("tools/call", Some(_)) => Some(json!({"http": 500, "answer": {"result": {"content": [{"type": "text", "text": "POISON"}]}}})),
            ("capabilities", _) => Some(json!({})),
            _ => None,
        })
        .await;
        let forbids = "error.message|contains: POISON";
        let portal = Setup::of([("one", server.url())]).rule("block", forbids).start().await;
        for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
            for asked in ["error", "result"] {
                let answer = client.call("one_echo", json!({"text": asked})).await;
                assert!(!format!("{answer:?}").contains("POISON"), "{asked}: {answer:?}");
                assert!(!format!("{answer:?}").contains("not carried out"), "{asked}: {answer:?}");
            }
            let plain = client.call("one_echo", json!({"text": "plain error"})).await;
            assert_eq!(plain.last()["error"]["code"], -32001, "{plain:?}");
        }
        let events = portal.events(6).await;
        let calls = calls(&events);
        assert!(calls.iter().filter(|call| call["gnomon.action"] == "block").count() >= 2, "{calls:#?}");
    }
}

#[tokio::test]
async fn whose_answer_is_withheld_is_told_that_the_call_was_carried_out() {
    let fails = |method: &str, params: &Value| {
        let asked = method == "tools/call" && params["arguments"]["text"] == "failing";
        asked.then(|| json!({"content": [{"type": "text", "text": "one failed"}], "isError": true}))
    };
    let server = Server::scripted("one", Speaks::Both, fails).await;
    let portal = Setup::of([("one", server.url())]).rule("block", "gen_ai.tool.call.result|contains: one").start().await;
    for (number, mut client) in [Client::legacy(portal.address).await, Client::modern(portal.address)].into_iter().enumerate() {
        for (asked, text) in ["x", "failing"].into_iter().enumerate() {
            let answer = client.call("one_echo", json!({"text": text})).await;
            let result = &answer.last()["result"];
            assert_eq!((&result["isError"], &result["_meta"]["dev.gnomon/carriedOut"]), (&json!(true), &json!("yes")), "{answer:?}");
            assert!(answer.text().ends_with("; the call was carried out, and its answer is withheld: do not repeat it"), "{answer:?}");
            assert_eq!(server.got("tools/call").len(), 2 * number + asked + 1);
        }
    }
    let records = portal.records(6).await;
    let calls: Vec<_> = records.iter().filter(|record| record.kind == RecordKind::Call).collect();
    assert!(calls.len() == 4 && calls.iter().all(|call| call.status == Some(Status::Refused)), "{calls:#?}");
    assert!(calls.iter().all(|call| call.error.as_deref() == Some("withheld") && call.rules.len() == 1), "{calls:#?}");
}

#[tokio::test]
async fn a_question_of_a_server_that_a_rule_forbids_ends_the_call_and_is_never_asked() {
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).rule("block", "mcp.method.name: elicitation/create").start().await;
    let mut client = Client::legacy(portal.address).await;
    let answer = client.call("one_ask", json!({})).await;
    assert_eq!(answer.messages.len(), 1, "{answer:?}");
    assert_eq!(answer.last()["result"]["isError"], true, "{answer:?}");
    assert_eq!(answer.last()["result"]["_meta"]["dev.gnomon/carriedOut"], "perhaps", "its server was at it: {answer:?}");
}

#[tokio::test]
async fn what_a_client_answers_is_judged_before_its_server_gets_it() {
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    let (headers, body) = client.message("tools/call", json!({"name": "one_ask", "arguments": {}}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut stream = client.open(&headers, body).await.into_body();
    let question = next_event(&mut stream).await;
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"colour": "red"}}});
    assert_eq!(client.post(&headers, answer).await.status, 202);
    assert_eq!(next_event(&mut stream).await["result"]["content"][0]["text"], "one: red");
}

#[tokio::test]
async fn a_list_that_a_rule_forbids_is_not_offered() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).rule("block", "gnomon.tools: delete_all").start().await;
    let mut client = Client::legacy(portal.address).await;
    assert!(client.names("tools/list", "tools", "name").await.is_empty());
    assert!(!client.names("prompts/list", "prompts", "name").await.is_empty(), "other lists are");
    let events = portal.events(1).await;
    assert!(events.iter().any(|event| event["gnomon.action"] == "block" && event["mcp.method.name"] == "tools/list"), "{events:#?}");
}

#[tokio::test]
async fn what_the_portal_refuses_by_itself_is_an_event_of_class_policy_that_says_who_asked_for_what() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).policy("[{allow: {servers: [one], tools: [echo]}}]").start().await;
    for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
        for (tool, arguments) in [("one_nothing", json!({})), ("one_delete_all", json!({})), ("one_echo", json!({"text": 7}))] {
            let refused = client.call(tool, arguments).await;
            assert!(refused.last()["error"].is_object() || refused.last()["result"]["isError"] == true, "{refused:?}");
        }
    }
    // The list is fetched at the start.
    let events = portal.events(7).await;
    let of_policy: Vec<_> = events.iter().filter(|event| event["gnomon.detection.class"] == "policy").collect();
    assert_eq!(of_policy.len(), 6, "{events:#?}");
    for (event, tool) in of_policy.iter().zip(["one_nothing", "one_delete_all", "echo"].iter().cycle()) {
        for (field, value) in [
            ("gnomon.action", json!("block")),
            ("gnomon.vantage", json!("portal")),
            ("gnomon.portal.id", json!("main")),
            ("gnomon.server.id", json!("one")),
            ("mcp.method.name", json!("tools/call")),
            ("gen_ai.tool.name", json!(tool)),
            ("mcp.client.name", json!("test")),
            ("error.type", json!("-32602")),
        ] {
            assert_eq!(event[field], value, "{field} of {event:#}");
        }
        assert!(event["message"].as_str().is_some_and(|text| !text.is_empty() && !text.contains('7')), "{event:#}");
    }
    assert!(server.got("tools/call").is_empty());
}

/// What comes of work, and whether it was done where its caller is.
async fn done<T>(work: impl Future<Output = T>) -> (T, bool) {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => (done, true),
        () = std::future::ready(()) => (work.await, false),
    }
}

#[tokio::test]
async fn a_large_request_and_a_large_list_are_judged_alike_and_beside_the_threads_that_serve() {
    let setup = Setup::of([]);
    let endpoint = Endpoint::new(pools(), "one", "http://127.0.0.1:1/mcp", http::HeaderMap::new(), setup.limits).unwrap();
    let setup = setup.rule("block", "gen_ai.tool.call.arguments|contains: passwd");
    let portal = setup.rule("block", "gen_ai.tool.description|contains: passwd").start().await;
    let rules = Rules { inspector: portal.inspector.clone(), recorder: portal.recorder.clone() };
    let client = gnomon_upstream::Client::portal();
    let caller = Caller::anonymous(Ipv4Addr::LOCALHOST.into());
    let whose = Whose { caller: &caller, client: &client, agent: None, execution: None, program: None };
    let judge = Judge::new(rules, &"main".into(), &"one".into(), &Reach::http(endpoint, Transport::Either));
    for (length, here) in [(10, true), (2 * LARGE, false)] {
        for (text, passes) in [("/etc/passwd", false), ("/etc/hosts", true)] {
            let text = format!("{}{text}", "x".repeat(length));
            let params = Bytes::from(json!({"name": "a", "arguments": {"x": text}}).to_string());
            let list = json!({"tools": [{"name": "a", "description": text, "inputSchema": {"type": "object"}}]});
            let asked = Asked { method: "tools/list", cursor: None };
            // The other thread may be done before this one waits for it.
            for left in (0..20).rev() {
                let ((judged, verdict), was_here) = done(judge.request(whose, &Id::number(1), &"tools/call".into(), Some(&params))).await;
                // So much of arguments is not kept: what cannot be ruled out is refused.
                assert_eq!(verdict.unwrap().is_ok(), passes && here, "{length} {passes}");
                judged.finish();
                let (verdict, list_was_here) = done(judge.own(&asked, &Outcome::of(&list), News::Some)).await;
                assert_eq!(verdict.is_ok(), passes, "{length} {passes}");
                assert!(matches!(verdict, Ok(()) | Err(CallError::Refused(_))));
                if (was_here, list_was_here) == (here, here) {
                    break;
                }
                assert!(!here && left > 0, "{length} {passes}");
            }
        }
    }
}

#[tokio::test]
async fn what_passes_is_handed_on_with_the_strictest_action_of_the_rules_whichever_way_it_is_judged() {
    let setup = Setup::of([]);
    let endpoint = Endpoint::new(pools(), "one", "http://127.0.0.1:1/mcp", http::HeaderMap::new(), setup.limits).unwrap();
    let portal = setup.start().await;
    let rules = Rules { inspector: portal.inspector.clone(), recorder: portal.recorder.clone() };
    let client = gnomon_upstream::Client::portal();
    let caller = Caller::anonymous(Ipv4Addr::LOCALHOST.into());
    let whose = Whose { caller: &caller, client: &client, agent: None, execution: None, program: None };
    let judge = Judge::new(rules, &"main".into(), &"one".into(), &Reach::http(endpoint, Transport::Either));
    let params = Bytes::from_static(br#"{"name":"a","arguments":{}}"#);
    let message = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{}}}"#;
    for (rule, action) in [(None, Action::Allow), (Some("allow"), Action::Allow), (Some("log"), Action::Log)] {
        portal.rule(rule.map(|action| (action, "gen_ai.tool.name: a")));
        let (judged, passes) = judge.request(whose, &Id::number(1), &"tools/call".into(), Some(&params)).await;
        judged.finish();
        let again = judge.once_more(whose, &Id::number(1), &"tools/call".into(), Some(&params)).await;
        let told = [passes.unwrap().ok(), again.unwrap().ok(), judge.said(whose, message).ok()];
        assert_eq!(told, [Some(action); 3], "{rule:?}");
    }
}

/// How often the portal refused something, by the reason.
fn refusals(portal: &Running) -> BTreeMap<String, u64> {
    let metrics = portal.metrics();
    let counts =
        metrics.lines().filter_map(|line| line.strip_prefix("gnomon_portal_refusals_total{portal=\"main\",reason=\"")?.split_once("\"} "));
    counts.map(|(reason, count)| (reason.to_owned(), count.parse().unwrap())).filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn what_the_portal_refuses_by_itself_counts_once_by_the_reason() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, [ada, _]) = two_tokens();
    let setup = Setup::of([("one", server.url())]).auth(auth).policy("[{allow: {servers: [one], tools: [echo]}}]");
    let portal = setup.rule("block", "gen_ai.tool.call.arguments|contains: passwd").start().await;
    let mut expected = BTreeMap::<String, u64>::new();
    let mut counts = |reason: &str| {
        *expected.entry(reason.to_owned()).or_default() += 1;
        assert_eq!(refusals(&portal), expected, "{reason}");
    };
    for mut client in [Client::modern(portal.address).holding(&ada).begun().await, Client::modern(portal.address).holding(&ada)] {
        assert_eq!(client.call("one_echo", json!({"text": "x"})).await.text(), "one: x");
        for (tool, arguments, reason) in [
            ("one_nothing", json!({}), "unknown"),
            ("one_delete_all", json!({}), "policy"),
            ("one_echo", json!({"text": 7}), "arguments"),
            ("one_echo", json!({"text": "/etc/passwd"}), "rule"),
        ] {
            let refused = client.call(tool, arguments).await;
            assert!(refused.last()["error"].is_object() || refused.last()["result"]["isError"] == true, "{refused:?}");
            counts(reason);
        }
    }
    let nobody = Client::modern(portal.address);
    assert_eq!(nobody.post(&[], json!({})).await.status, 401);
    counts("log_in");
    assert_eq!(nobody.post(&[("origin", "https://evil.example")], json!({})).await.status, 403);
    counts("origin");
    assert_eq!(server.got("tools/call").len(), 2);
}

#[tokio::test]
async fn what_the_eras_have_no_word_for_is_such_a_refusal_too_and_sessions_are_counted_while_they_last() {
    let server = Server::start("one", Speaks::Modern).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let sessions = |number: u8| portal.metrics().contains(&format!("gnomon_portal_sessions{{portal=\"main\"}} {number}\n"));
    assert!(sessions(0), "{}", portal.metrics());
    let (mut client, other) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    assert!(sessions(2), "{}", portal.metrics());
    let refused = client.request("resources/subscribe", json!({"uri": "one+note://one/1"})).await;
    assert_eq!(refused.last()["error"]["code"], -32601, "{refused:?}");
    assert_eq!(refusals(&portal), BTreeMap::from([("protocol".to_owned(), 1)]));
    let ended = other.send(http::Method::DELETE, &[("mcp-session-id", &other.session())], String::new()).await;
    assert!(ended.status == 200 && sessions(1), "{}", portal.metrics());
}

#[tokio::test]
async fn an_answer_that_is_withheld_as_the_audit_cannot_be_written_is_such_a_refusal_too() {
    let server = Server::start("one", Speaks::Modern).await;
    let portal = Setup::of([("one", server.url())]).durable(1).start().await;
    let mut client = Client::modern(portal.address);
    // Long names fill it sooner.
    let words = json!({"name": "x".repeat(4000), "version": "1".repeat(4000)});
    for number in 0.. {
        assert!(number < 1000, "the database never gets full");
        assert!(refusals(&portal).is_empty());
        let (headers, mut body) = client.message("tools/call", json!({"name": "one_echo", "arguments": {"text": "x"}}));
        body["params"]["_meta"]["io.modelcontextprotocol/clientInfo"] = words.clone();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if client.post(&headers, body).await.text() != "one: x" {
            break;
        }
    }
    assert_eq!(refusals(&portal), BTreeMap::from([("audit".to_owned(), 1)]));
}
