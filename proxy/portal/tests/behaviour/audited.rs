//! Who did what is in the audit, whatever the outcome.

use crate::{
    Setup,
    client::Client,
    server::{Server, Speaks},
    soon,
};
use gnomon_audit::{Record, RecordKind, Status};
use gnomon_portal::Payloads;
use http::Method;
use serde_json::json;

/// The records of this kind.
fn of(records: &[Record], kind: RecordKind) -> Vec<&Record> {
    records.iter().filter(|record| record.kind == kind).collect()
}

#[tokio::test]
async fn a_call_is_recorded_with_who_what_which_line_and_how_it_ended() {
    let server = Server::start("one", Speaks::Both).await;
    let policy = "[{allow: {servers: [one]}}, {deny: {tools: [delete_all], reason: 'never'}}]";
    let portal = Setup::of([("one", server.url())]).policy(policy).rule("block", "gen_ai.tool.name: region").start().await;
    for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
        for tool in ["one_echo", "one_delete_all", "one_region", "one_wrong"] {
            client.call(tool, json!({"text": "secret words"})).await;
        }
        client.call("one_nothing_like_it", json!({})).await;
        client.request("tools/list", json!({})).await;
        if !client.session().is_empty() {
            client.send(Method::DELETE, &[("mcp-session-id", &client.session())], String::new()).await;
        }
    }
    // A log-in, the ends of two sessions, ten calls, two lists.
    let records = portal.records(15).await;
    assert!(!format!("{records:?}").contains("secret words"), "arguments are not recorded");
    assert_eq!(
        (of(&records, RecordKind::Login).len(), of(&records, RecordKind::SessionStart).len(), of(&records, RecordKind::SessionEnd).len()),
        (1, 1, 1)
    );
    assert_eq!(of(&records, RecordKind::List).len(), 2);
    let calls = of(&records, RecordKind::Call);
    let told: Vec<_> =
        calls.iter().map(|call| (call.tool.as_deref().unwrap(), call.status.unwrap(), call.policy_line.as_deref())).collect();
    let (allowed, denied) = (Some("policy.yml:1:2"), Some("policy.yml:1:29"));
    let once = [
        ("echo", Status::Ok, allowed),
        ("one_delete_all", Status::Refused, denied),
        ("region", Status::Refused, allowed),
        ("wrong", Status::Ok, allowed),
        ("one_nothing_like_it", Status::Refused, None),
    ];
    assert_eq!(told, [once, once].concat());
    let (echo, region) = (calls[0], calls[2]);
    assert_eq!(region.rules, ["00000000-0000-4000-8000-000000000000"]);
    assert_eq!(
        (echo.portal.as_deref(), echo.server.as_deref(), echo.server_url.as_deref()),
        (Some("main"), Some("one"), Some(server.url().as_str()))
    );
    assert_eq!(
        (echo.client_name.as_deref(), echo.user_id.as_deref(), echo.auth_method.as_deref()),
        (Some("test"), Some("anonymous"), Some("none"))
    );
    assert_eq!(echo.session, of(&records, RecordKind::SessionStart)[0].session);
    assert!(echo.upstream_duration_ms.is_some() && echo.response_bytes > Some(0) && echo.request_bytes > Some(0));
}

#[tokio::test]
async fn a_call_that_its_client_takes_back_is_recorded_as_that() {
    let server = Server::start("one", Speaks::Modern).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::modern(portal.address);
    let (headers, body) = client.message("tools/call", json!({"name": "one_wait", "arguments": {}}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let response = client.open(&headers, body).await;
    drop((response, client));
    let records = soon("the end", async {
        loop {
            let records = portal.records(1).await;
            if !of(&records, RecordKind::Call).is_empty() {
                return records;
            }
        }
    })
    .await;
    assert_eq!(of(&records, RecordKind::Call)[0].status, Some(Status::Cancelled));
}

#[tokio::test]
async fn refused_callers_are_recorded_at_a_bounded_rate_and_tokens_never() {
    let server = Server::start("one", Speaks::Both).await;
    let token = gnomon_access::generate_token().unwrap();
    let auth = format!("{{mode: tokens, tokens: [{{name: ada, sha256: '{}', groups: [adas]}}]}}", token.sha256);
    let portal = Setup::of([("one", server.url())]).auth(auth).start().await;
    let mut client = Client::modern(portal.address);
    for _ in 0..3 {
        assert_eq!(client.post(&[("authorization", "Bearer gnomon_guess")], json!({})).await.status, 401);
    }
    let (headers, body) = client.message("tools/call", json!({"name": "one_echo", "arguments": {"text": "x"}}));
    let bearer = format!("Bearer {}", token.token.as_str());
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.push(("authorization", &bearer));
    client.post(&headers, body).await;
    let records = portal.records(3).await;
    assert_eq!(of(&records, RecordKind::LoginRefused).len(), 1);
    let call = of(&records, RecordKind::Call)[0];
    assert_eq!((call.user_name.as_deref(), &call.groups[..]), (Some("ada"), &["adas".into()][..]));
    let all = format!("{records:?}");
    assert!(!all.contains("gnomon_guess") && !all.contains(token.token.as_str()), "{all}");
}

/// A list, and what changes nothing, are withheld without a word on whether something was carried out.
async fn told_without_a_record(client: &mut Client) {
    // Its record is short, and may find room where a call's did not.
    let mut lists = 0;
    let list = loop {
        let list = client.request("tools/list", json!({})).await;
        if list.last()["error"].is_object() {
            break list;
        }
        lists += 1;
        assert!(lists < 1000, "the database never gets full");
    };
    let error = &list.last()["error"];
    let text = error["message"].as_str().unwrap();
    assert!(text.contains("the audit could not write the record, so the list cannot be given"), "{text}");
    assert!(error.get("data").is_none(), "{error}");
}

#[tokio::test]
async fn where_the_audit_is_a_condition_nothing_is_answered_that_is_not_recorded() {
    let server = Server::start("one", Speaks::Modern).await;
    let portal = Setup::of([("one", server.url())]).durable(1).start().await;
    let mut client = Client::modern(portal.address);
    // Long names fill it sooner.
    let words = json!({"name": "x".repeat(4000), "version": "1".repeat(4000)});
    let mut answered = 0;
    let withheld = loop {
        let (headers, mut body) = client.message("tools/call", json!({"name": "one_echo", "arguments": {"text": "x"}}));
        body["params"]["_meta"]["io.modelcontextprotocol/clientInfo"] = words.clone();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = client.post(&headers, body).await;
        if answer.text() != "one: x" {
            break answer;
        }
        answered += 1;
        assert!(answered < 1000, "the database never gets full");
    };
    let error = &withheld.last()["error"];
    let text = error["message"].as_str().unwrap();
    assert!(text.contains("the audit could not write the record, so the answer is withheld; the call was carried out"), "{text}");
    assert_eq!((&error["data"]["carriedOut"], &error["data"]["server"]), (&json!("yes"), &json!("one")));
    assert_eq!(server.got("tools/call").len(), answered + 1);
    told_without_a_record(&mut client).await;
    let mut script = Client::modern(portal.address).at("?codemode=search_and_execute");
    let code = "async () => { console.log('secret'); return await codemode.one_echo({text: 'x'}) }";
    let answer = script.call("portal_codemode_execute", json!({"code": code})).await;
    assert_eq!(server.got("tools/call").len(), answered + 2, "{answer:?}");
    let text = answer.text();
    assert!(text.contains("The audit could not write the record of this execution, so its result is withheld."), "{answer:?}");
    assert!(text.contains("Calls before that: one_echo without an answer, perhaps done.") && !text.contains("secret"), "{text}");
    let records = portal.records(answered).await;
    assert_eq!(of(&records, RecordKind::Call).len(), answered, "what was answered is there");
}

#[tokio::test]
async fn payloads_are_recorded_where_that_is_wanted_and_without_what_is_secret() {
    let server = Server::start("one", Speaks::Both).await;
    let payloads = Payloads { arguments: true, results: true };
    let portal = Setup::of([("one", server.url())]).record(payloads).start().await;
    let mut client = Client::modern(portal.address);
    client.call("one_echo", json!({"text": "ask ada@corp.example", "password": "hunter22"})).await;
    let records = portal.records(2).await;
    let call = of(&records, RecordKind::Call)[0];
    assert_eq!(call.arguments, Some(json!({"text": "ask [redacted: mail address]", "password": "[redacted]"})));
    assert_eq!(call.result.as_ref().unwrap()["content"][0]["text"], "one: ask [redacted: mail address]");
    assert_eq!(server.got("tools/call")[0].body["params"]["arguments"]["password"], "hunter22", "the server gets them whole");
}

#[tokio::test]
async fn the_beginning_of_a_call_is_durable_before_its_server_hears_of_it() {
    let server = Server::start("one", Speaks::Modern).await;
    let portal = Setup::of([("one", server.url())]).before_call(1).start().await;
    let mut client = Client::modern(portal.address);
    let words = json!({"name": "x".repeat(4000), "version": "1".repeat(4000)});
    let mut heard = 0;
    let refused = loop {
        let (headers, mut body) = client.message("tools/call", json!({"name": "one_echo", "arguments": {"text": "x"}}));
        body["params"]["_meta"]["io.modelcontextprotocol/clientInfo"] = words.clone();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = client.post(&headers, body).await;
        let now = server.got("tools/call").len();
        if now == heard {
            break answer;
        }
        heard = now;
        assert!(heard < 1000, "the database never gets full");
    };
    let error = &refused.last()["error"];
    let text = error["message"].as_str().unwrap();
    assert!(text.contains("the audit could not write the record; the call was not carried out") && !text.contains("withheld"), "{text}");
    assert_eq!((&error["data"]["carriedOut"], &error["data"]["server"]), (&json!("no"), &json!("one")));
    told_without_a_record(&mut client).await;
    let records = portal.records(heard).await;
    let starts = of(&records, RecordKind::Start);
    assert_eq!(starts.len(), heard, "what the server heard of has its beginning on record");
    assert_eq!((starts[0].tool.as_deref(), starts[0].status, starts[0].server.as_deref()), (Some("echo"), None, Some("one")));
    let call = of(&records, RecordKind::Call)[0];
    let number = records.iter().position(|record| record.kind == RecordKind::Start).unwrap() as u64 + 1;
    assert_eq!(call.start, Some(number));
}

#[tokio::test]
async fn a_log_level_that_servers_are_told_is_recorded_before_they_are() {
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).before_call(1 << 30).start().await;
    let mut client = Client::legacy(portal.address).await;
    client.call("one_echo", json!({"text": "x"})).await;
    assert!(client.request("logging/setLevel", json!({"level": "debug"})).await.last()["result"].is_object());
    assert_eq!(server.got("logging/setLevel").len(), 1);
    client.request("logging/setLevel", json!({"level": "loud"})).await;
    let records = portal.records(7).await;
    let levels: Vec<_> = records.iter().filter(|record| record.method.as_deref() == Some("logging/setLevel")).collect();
    let kinds: Vec<_> = levels.iter().map(|record| (record.kind, record.status)).collect();
    assert_eq!(kinds, [(RecordKind::Start, None), (RecordKind::Request, Some(Status::Ok)), (RecordKind::Request, Some(Status::Refused))]);
}

#[tokio::test]
async fn nobody_fills_the_audit_or_the_ledger_with_calls_that_are_refused() {
    let server = Server::start("one", Speaks::Modern).await;
    let portal = Setup::of([("one", server.url())]).policy("[{allow: {servers: ['*'], tools: [echo]}}]").start().await;
    let mut client = Client::modern(portal.address);
    for _ in 0..300 {
        client.call("one_delete_all", json!({})).await;
    }
    for _ in 0..100 {
        client.call("one_echo", json!({"text": "x"})).await;
    }
    let records = portal.records(1 + 64 + 100).await;
    let calls = of(&records, RecordKind::Call);
    let with = |status| calls.iter().filter(|call| call.status == Some(status)).count();
    // However slow the machine, each ten seconds have their 64.
    assert!((64..=64 * 3).contains(&with(Status::Refused)), "{}", with(Status::Refused));
    assert_eq!(with(Status::Ok), 100, "what was carried out is recorded one by one");
}
