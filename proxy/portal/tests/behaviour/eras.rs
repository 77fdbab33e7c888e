//! Clients of every era reach servers of every era; what the other era cannot express is refused with an error.

use crate::{
    Setup,
    client::{Client, next_event},
    server::{Server, Speaks},
    soon,
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::Duration;

const TOOLS: [&str; 6] = ["echo", "delete_all", "ask", "wait", "region", "wrong"];

fn shown(servers: &[&str]) -> Vec<String> {
    servers.iter().flat_map(|server| TOOLS.map(|tool| format!("{server}_{tool}"))).collect()
}

/// Checks lists, a call, and an error.
async fn works(client: &mut Client, servers: &[&str]) {
    assert_eq!(client.names("tools/list", "tools", "name").await, shown(servers));
    for server in servers {
        assert_eq!(client.call(&format!("{server}_echo"), json!({"text": "hi"})).await.text(), format!("{server}: hi"));
        let wrong = client.call(&format!("{server}_echo"), json!({"text": 7})).await;
        assert_eq!(wrong.last()["result"]["isError"], true, "{wrong:?}");
        assert!(wrong.text().contains("`/text`"), "{wrong:?}");
        let prompt = client.request("prompts/get", json!({"name": format!("{server}_greet")})).await;
        assert_eq!(prompt.last()["result"]["messages"][0]["content"]["text"], *server);
        for uri in [format!("{server}+note://{server}/1"), format!("note://{server}/1")] {
            let read = client.request("resources/read", json!({"uri": uri})).await;
            assert_eq!(read.last()["result"]["contents"][0]["text"], format!("read from {server}"), "{uri}: {read:?}");
        }
    }
    let unknown = client.call("nothing_here", json!({})).await;
    assert_eq!(unknown.last()["error"]["code"], -32602, "{unknown:?}");
}

#[tokio::test]
async fn either_client_uses_servers_of_either_era_and_of_both() {
    for speaks in [Speaks::Legacy, Speaks::Modern, Speaks::Both] {
        let server = Server::start("one", speaks).await;
        let portal = Setup::of([("one", server.url())]).start().await;
        works(&mut Client::legacy(portal.address).await, &["one"]).await;
        works(&mut Client::modern(portal.address), &["one"]).await;
    }
}

#[tokio::test]
async fn a_fleet_of_mixed_eras_opens_for_both_clients() {
    let (old, new) = (Server::start("old", Speaks::Legacy).await, Server::start("new", Speaks::Modern).await);
    let portal = Setup::of([("old", old.url()), ("new", new.url())]).start().await;
    works(&mut Client::legacy(portal.address).await, &["old", "new"]).await;
    works(&mut Client::modern(portal.address), &["old", "new"]).await;
}

#[tokio::test]
async fn a_client_of_the_older_era_is_asked_what_either_server_wants_to_know() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let server = Server::start("one", speaks).await;
        let portal = Setup::of([("one", server.url())]).start().await;
        let mut client = Client::legacy(portal.address).await;
        let (headers, body) = client.message("tools/call", json!({"name": "one_ask", "arguments": {}}));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut answer = client.open(&headers, body.clone()).await.into_body();
        let question = next_event(&mut answer).await;
        assert_eq!((&question["method"], &question["params"]["message"]), (&json!("elicitation/create"), &json!("Which colour?")));
        let chosen = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"colour": "green"}}});
        assert_eq!(client.post(&headers, chosen).await.status, 202);
        let result = next_event(&mut answer).await;
        assert_eq!((&result["id"], &result["result"]["content"][0]["text"]), (&body["id"], &json!("one: green")), "{speaks:?}");
    }
}

#[tokio::test]
async fn a_client_of_the_stateless_era_gets_either_servers_question_as_the_result_and_answers_it_in_the_next_call() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let server = Server::start("one", speaks).await;
        let portal = Setup::of([("one", server.url())]).start().await;
        let mut client = Client::modern(portal.address);
        let asked = client.call("one_ask", json!({})).await;
        let result = &asked.last()["result"];
        assert_eq!(result["resultType"], "input_required", "{asked:?}");
        let (key, question) = result["inputRequests"].as_object().unwrap().iter().next().unwrap();
        assert_eq!(question["params"]["message"], "Which colour?");
        let answers = json!({key: {"action": "accept", "content": {"colour": "blue"}}});
        let again = json!({"name": "one_ask", "arguments": {}, "inputResponses": answers, "requestState": result["requestState"]});
        if speaks == Speaks::Legacy {
            let mut other = again.clone();
            other["arguments"] = json!({"amount": 1_000_000});
            let other = client.request("tools/call", other).await;
            let error = &other.last()["error"];
            assert!(
                error["message"].as_str().is_some_and(|text| text.contains("other arguments")),
                "what never ran is not recorded: {other:?}"
            );
        }
        let done = client.request("tools/call", again.clone()).await;
        assert_eq!((done.text(), &done.last()["result"]["resultType"]), ("one: blue", &json!("complete")), "{done:?}");
        if speaks == Speaks::Legacy {
            let twice = client.request("tools/call", again).await;
            assert_eq!(twice.last()["error"]["code"], -32602, "an answer counts once: {twice:?}");
        }
    }
}

#[tokio::test]
async fn a_stateless_client_that_leaves_takes_its_call_back_at_once_and_one_with_a_session_does_not() {
    for (speaks, modern) in [(Speaks::Legacy, false), (Speaks::Legacy, true), (Speaks::Modern, false), (Speaks::Modern, true)] {
        // Before an answer has begun, and after: with little patience nothing has been sent yet, otherwise there is a stream.
        for patience in [Duration::from_millis(50), Duration::from_secs(30)] {
            let server = Server::start("one", speaks).await;
            let portal = Setup::of([("one", server.url())]).start().await;
            let mut client = if modern { Client::modern(portal.address) } else { Client::legacy(portal.address).await };
            assert_eq!(client.names("tools/list", "tools", "name").await.len(), TOOLS.len());
            let (headers, body) = client.message("tools/call", json!({"name": "one_wait", "arguments": {}}));
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            // Every client has its own connection, which closes with the answer.
            let answer = tokio::time::timeout(patience, client.open(&headers, body.clone())).await;
            if answer.is_err() && server.got("tools/call").is_empty() {
                continue;
            }
            drop(answer);
            if modern {
                server.cancelled(1).await;
                continue;
            }
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert_eq!(server.taken_back(), 0, "a lost connection is no cancellation (2025-11-25)");
            let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": body["id"]}});
            assert_eq!(client.post(&headers, cancel).await.status, 202);
            server.cancelled(1).await;
        }
    }
}

#[tokio::test]
async fn a_server_is_told_why_the_client_takes_a_call_back_in_the_client_s_words_if_it_says_any() {
    let long = format!("\"no longer\" needed\n{}", "ä".repeat(300));
    for (reason, told) in [
        (json!("the user pressed stop"), "the user pressed stop".to_owned()),
        (json!(long), long.chars().take(200).collect()),
        (json!(null), "the client took it back".to_owned()),
        (json!({"not": "a text"}), "the client took it back".to_owned()),
    ] {
        let server = Server::start("one", Speaks::Legacy).await;
        let portal = Setup::of([("one", server.url())]).start().await;
        let mut client = Client::legacy(portal.address).await;
        let (headers, body) = client.message("tools/call", json!({"name": "one_wait", "arguments": {}}));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let _answer = client.open(&headers, body.clone()).await;
        let params = json!({"requestId": body["id"], "reason": reason});
        let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        assert_eq!(client.post(&headers, cancel).await.status, 202);
        server.cancelled(1).await;
        assert_eq!(server.got("notifications/cancelled")[0].body["params"]["reason"], json!(told));
    }
    // A client of the stateless era that closes its connection gives no reason.
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::modern(portal.address);
    let (headers, body) = client.message("tools/call", json!({"name": "one_wait", "arguments": {}}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    drop(client.open(&headers, body).await);
    server.cancelled(1).await;
    assert_eq!(server.got("notifications/cancelled")[0].body["params"]["reason"], "the client has gone");
}

#[tokio::test]
async fn a_call_that_is_cancelled_by_name_reaches_its_server_under_the_name_it_has_there() {
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    let (headers, body) = client.message("tools/call", json!({"name": "one_wait", "arguments": {}}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = client.open(&headers, body.clone()).await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": body["id"]}});
    assert_eq!(client.post(&headers, cancel).await.status, 202);
    server.cancelled(1).await;
    let named = &server.got("notifications/cancelled")[0].body["params"]["requestId"];
    assert_eq!(Some(named), server.got("tools/call").last().map(|got| got.body["id"].clone()).as_ref());
    let rest = soon("the end of the stream", answer.into_body().collect()).await.unwrap().to_bytes();
    assert!(!String::from_utf8_lossy(&rest).contains("\"result\""), "what was taken back is not answered");
}

#[tokio::test]
async fn the_stateless_era_is_held_to_its_headers() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::modern(portal.address);
    assert_eq!(client.names("tools/list", "tools", "name").await.len(), TOOLS.len());
    type Headers = Vec<(&'static str, String)>;
    type Change = Box<dyn Fn(&mut Headers, &mut Value)>;
    let changed = |client: &mut Client, change: &Change| {
        let (mut headers, mut body) = client.message("tools/call", json!({"name": "one_region", "arguments": {"region": "eu"}}));
        headers.push(("mcp-param-region", "eu".to_owned()));
        change(&mut headers, &mut body);
        (headers, body)
    };
    let without = |name: &'static str| -> Change { Box::new(move |headers, _| headers.retain(|(header, _)| *header != name)) };
    let as_other = |name: &'static str, value: &'static str| -> Change {
        Box::new(move |headers, _| {
            headers.retain(|(header, _)| *header != name);
            headers.push((name, value.to_owned()));
        })
    };
    let cases: Vec<(Change, u16, i64)> = vec![
        (Box::new(|_, _| {}), 200, 0),
        (without("mcp-method"), 400, -32020),
        (as_other("mcp-method", "tools/list"), 400, -32020),
        (without("mcp-name"), 400, -32020),
        (as_other("mcp-name", "one_echo"), 400, -32020),
        (as_other("mcp-name", "=?base64?b25lX3JlZ2lvbg==?="), 200, 0),
        (without("mcp-param-region"), 400, -32020),
        (as_other("mcp-param-region", "us"), 400, -32020),
        (as_other("mcp-protocol-version", "2027-01-01"), 400, -32020),
        (Box::new(|_, body| body["params"]["_meta"] = json!({})), 400, -32602),
        (Box::new(|headers, _| headers.push(("mcp-name", "one_region".to_owned()))), 400, -32020),
    ];
    for (index, (change, status, code)) in cases.iter().enumerate() {
        let (headers, body) = changed(&mut client, change);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = client.post(&headers, body).await;
        assert_eq!((answer.status.as_u16(), answer.last()["error"]["code"].as_i64().unwrap_or(0)), (*status, *code), "{index}: {answer:?}");
    }
    // The server gets the name of its own tool, in the body and in the header.
    let call = server.got("tools/call").pop().unwrap();
    assert_eq!((&call.headers["mcp-name"], &call.headers["mcp-param-region"]), (&"region".parse().unwrap(), &"eu".parse().unwrap()));
    let unsupported = client
        .post(&[("mcp-protocol-version", "2027-01-01"), ("mcp-method", "tools/list")], json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2027-01-01"}}}))
        .await;
    assert_eq!((unsupported.status.as_u16(), &unsupported.last()["error"]["code"]), (400, &json!(-32022)), "{unsupported:?}");
}

#[tokio::test]
async fn what_the_eras_have_no_common_word_for_is_refused_with_a_reason() {
    let server = Server::start("one", Speaks::Modern).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    let refused = client.request("resources/subscribe", json!({"uri": "one+note://one/1"})).await;
    assert_eq!(refused.last()["error"]["code"], -32601);
    assert!(refused.last()["error"]["message"].as_str().unwrap().contains("2026-07-28"), "{refused:?}");
}

#[tokio::test]
async fn a_client_is_asked_only_what_it_declared_and_a_server_that_asks_for_more_is_told() {
    let legacy = Server::scripted("old", Speaks::Legacy, |_, _| None).await;
    let modern = Server::start("new", Speaks::Modern).await;
    let portal = Setup::of([("old", legacy.url()), ("new", modern.url())]).start().await;
    let mut client = Client::modern(portal.address).begun_with("2025-11-25", json!({"roots": {}})).await;
    // During a call, by a server of either era.
    assert_eq!(client.call("old_ask", json!({})).await.text(), "old: none");
    let asked = client.call("new_ask", json!({})).await;
    assert_eq!(asked.messages.len(), 1, "{asked:?}");
    assert!(asked.last()["error"]["message"].as_str().unwrap().contains("has not declared `elicitation`"), "{asked:?}");
    // Outside of calls.
    let mut stream = client.stand().await;
    legacy.heard_by(2).await;
    legacy.ask_all("unasked", "sampling/createMessage", json!({"messages": [], "maxTokens": 1}));
    legacy.ask_all("declared", "roots/list", json!({}));
    assert_eq!(next_event(&mut stream).await["method"], "roots/list", "what it declared it is asked");
    soon("the answer", async {
        while !legacy.answers("unasked").iter().any(|answer| answer["error"]["code"] == -32601) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // Without a session.
    let mut stateless = Client::modern(portal.address);
    let (headers, mut body) = stateless.message("tools/call", json!({"name": "old_ask", "arguments": {}}));
    body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(stateless.post(&headers, body).await.text(), "old: none");
}

#[tokio::test]
async fn an_answer_that_clients_cannot_read_is_an_error_that_names_its_server() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let server = Server::scripted("odd", speaks, |method, _| (method == "tools/call").then(|| json!({"content": "x"}))).await;
        let portal = Setup::of([("odd", server.url())]).start().await;
        for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
            let answer = client.call("odd_echo", json!({"text": "x"})).await;
            let error = &answer.last()["error"];
            assert!(error["code"] == -32603 && error["data"]["server"] == "odd", "{answer:?}");
        }
    }
}
