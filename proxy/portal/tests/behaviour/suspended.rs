//! Scripts of Code Mode whose tools ask a person something: the execution is suspended, and goes on with the answer.

use crate::{
    Setup,
    client::{Answer, Client, next_event},
    server::{Server, Speaks},
};
use gnomon_audit::{RecordKind, Status};
use serde_json::{Value, json};
use std::time::Duration;

const CODE: &str = "?codemode=search_and_execute";
const EXECUTE: &str = "portal_codemode_execute";
/// Asks twice, the second time for what the first answer is part of.
const TWICE: &str = "async () => { const a = await codemode.one_ask({}); return [a, await codemode.one_ask({})] }";

fn chosen(colour: &str) -> Value {
    json!({"action": "accept", "content": {"colour": colour}})
}

/// Answers what an execution asks for.
async fn answers(client: &mut Client, code: &str, asked: &Answer, colour: &str) -> Answer {
    let result = &asked.last()["result"];
    assert_eq!(result["resultType"], "input_required", "{asked:?}");
    let (key, question) = result["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!((&question["method"], &question["params"]["message"]), (&json!("elicitation/create"), &json!("Which colour?")));
    let params = json!({
        "name": EXECUTE, "arguments": {"code": code}, "inputResponses": {key: chosen(colour)}, "requestState": result["requestState"],
    });
    client.request("tools/call", params).await
}

#[tokio::test]
async fn a_client_of_the_stateless_era_gets_what_a_scripts_tool_asks_and_the_script_goes_on_with_the_answer() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let server = Server::start("one", speaks).await;
        let portal = Setup::of([("one", server.url())]).start().await;
        let mut client = Client::modern(portal.address).at(CODE);
        let asked = client.call(EXECUTE, json!({"code": TWICE})).await;
        let again = answers(&mut client, TWICE, &asked, "blue").await;
        let done = answers(&mut client, TWICE, &again, "red").await;
        assert_eq!(done.last()["result"]["resultType"], "complete", "{speaks:?}: {done:?}");
        assert!(done.text().contains("one: blue") && done.text().contains("one: red"), "{speaks:?}: {done:?}");
        let twice = {
            let state = &again.last()["result"]["requestState"];
            let params = json!({"name": EXECUTE, "arguments": {"code": TWICE}, "inputResponses": {}, "requestState": state});
            client.request("tools/call", params).await
        };
        assert_eq!(twice.last()["error"]["code"], -32602, "an answer counts once: {twice:?}");
    }
}

#[tokio::test]
async fn questions_of_calls_at_the_same_time_come_one_after_the_other() {
    let server = Server::start("one", Speaks::Modern).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::modern(portal.address).at(CODE);
    let code = "async () => Promise.all([codemode.one_ask({}), codemode.one_echo({text: 'x'}), codemode.one_ask({})])";
    let asked = client.call(EXECUTE, json!({"code": code})).await;
    let again = answers(&mut client, code, &asked, "blue").await;
    let done = answers(&mut client, code, &again, "red").await;
    assert!(["one: blue", "one: red", "x"].iter().all(|part| done.text().contains(part)), "{done:?}");
}

#[tokio::test]
async fn a_client_with_a_session_is_asked_while_its_request_is_open() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let server = Server::start("one", speaks).await;
        let portal = Setup::of([("one", server.url())]).wall_time(Duration::from_millis(1500)).start().await;
        let mut client = Client::legacy(portal.address).await.at(CODE);
        let code = "async () => codemode.one_ask({})";
        let (headers, body) = client.message("tools/call", json!({"name": EXECUTE, "arguments": {"code": code}}));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut answer = client.open(&headers, body.clone()).await.into_body();
        let question = next_event(&mut answer).await;
        assert_eq!(question["method"], "elicitation/create", "{question}");
        // Longer than the script may take.
        tokio::time::sleep(Duration::from_millis(2000)).await;
        let response = json!({"jsonrpc": "2.0", "id": question["id"], "result": chosen("green")});
        assert_eq!(client.post(&headers, response).await.status, 202);
        let result = next_event(&mut answer).await;
        let text = result["result"]["content"][0]["text"].as_str().unwrap_or_default();
        assert!(text.contains("one: green"), "{speaks:?}: {result}");
    }
}

#[tokio::test]
async fn time_in_which_a_person_thinks_is_not_the_scripts() {
    let server = Server::start("one", Speaks::Modern).await;
    let portal = Setup::of([("one", server.url())]).wall_time(Duration::from_millis(1500)).start().await;
    let mut client = Client::modern(portal.address).at(CODE);
    let asked = client.call(EXECUTE, json!({"code": TWICE})).await;
    tokio::time::sleep(Duration::from_millis(2000)).await;
    let again = answers(&mut client, TWICE, &asked, "blue").await;
    let done = answers(&mut client, TWICE, &again, "red").await;
    assert!(done.text().contains("one: red"), "{done:?}");
}

#[tokio::test]
async fn an_execution_that_was_suspended_is_recorded_once_when_it_ends() {
    let server = Server::start("one", Speaks::Modern).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::modern(portal.address).at(CODE);
    let code = "async () => codemode.one_ask({})";
    let asked = client.call(EXECUTE, json!({"code": code})).await;
    let done = answers(&mut client, code, &asked, "blue").await;
    assert!(done.text().contains("one: blue"), "{done:?}");
    // The log-in as well.
    let records = portal.records(4).await;
    let of_script: Vec<_> = records.iter().filter(|record| record.tool.as_deref() == Some(EXECUTE)).collect();
    assert_eq!(of_script.len(), 1, "{of_script:?}");
    assert_eq!((of_script[0].kind, of_script[0].status), (RecordKind::Call, Some(Status::Ok)));
    let asks = records.iter().filter(|record| record.tool.as_deref() == Some("ask")).count();
    assert_eq!(asks, 2, "the call that asked and the one with the answer");
}
