//! Calls that leave for their server more than once, and what servers ask before they answer: each leaving is recorded before, by the
//! policy in force then, and each end once.

use crate::{
    Running, Setup,
    client::{Client, next_event},
    server::{Server, Speaks},
};
use gnomon_audit::{Record, RecordKind, Status};
use serde_json::{Value, json};

const ASK: &str = "one_ask";

/// The records of this kind.
fn of(records: &[Record], kind: RecordKind) -> Vec<&Record> {
    records.iter().filter(|record| record.kind == kind).collect()
}

fn chosen(colour: &str) -> Value {
    json!({"action": "accept", "content": {"colour": colour}})
}

/// A client with a session calls, and answers what it is asked once `meanwhile` has happened.
async fn asked_in_session(client: &mut Client, meanwhile: impl FnOnce()) -> Value {
    let (headers, body) = client.message("tools/call", json!({"name": ASK, "arguments": {}}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut answer = client.open(&headers, body).await.into_body();
    let question = next_event(&mut answer).await;
    assert_eq!(question["method"], "elicitation/create");
    meanwhile();
    client.post(&headers, json!({"jsonrpc": "2.0", "id": question["id"], "result": chosen("green")})).await;
    loop {
        let said = next_event(&mut answer).await;
        // Lists may have changed meanwhile.
        if said.get("method").is_none() {
            return said;
        }
    }
}

/// Waits until so many records of calls are there, and gives all.
async fn until_called(portal: &Running, calls: usize) -> Vec<Record> {
    let mut count = calls;
    loop {
        let records = portal.records(count).await;
        if of(&records, RecordKind::Call).len() >= calls {
            return records;
        }
        count = records.len() + 1;
    }
}

#[tokio::test]
async fn each_time_a_call_leaves_it_is_recorded_before_by_the_policy_in_force_then() {
    let server = Server::start("one", Speaks::Modern).await;
    let portal = Setup::of([("one", server.url())]).before_call(1 << 30).start().await;
    let mut client = Client::legacy(portal.address).await;
    let done = asked_in_session(&mut client, || {}).await;
    assert_eq!(done["result"]["content"][0]["text"], "one: green", "{done}");
    let sent = server.got("tools/call").len();
    let records = until_called(&portal, 1).await;
    let (starts, call) = (of(&records, RecordKind::Start), of(&records, RecordKind::Call)[0]);
    assert_eq!((sent, starts.len(), call.attempts, call.status), (2, 2, Some(2), Some(Status::Ok)), "{records:#?}");
    let denied = asked_in_session(&mut client, || {
        portal.regulate("[{allow: {servers: ['*']}}, {deny: {servers: [one], tools: [ask]}}]");
    })
    .await;
    assert_eq!(denied["error"]["code"], -32602, "{denied}");
    assert!(denied["error"]["message"].as_str().is_some_and(|text| text.starts_with("Unknown tool")), "{denied}");
    assert_eq!(server.got("tools/call").len(), sent + 1, "it did not leave again");
    let records = until_called(&portal, 2).await;
    let (starts, call) = (of(&records, RecordKind::Start), of(&records, RecordKind::Call)[1]);
    assert_eq!((starts.len(), call.attempts, call.status, call.error.as_deref()), (3, None, Some(Status::Refused), Some("-32602")));
    assert!(call.policy_line.as_deref().is_some_and(|line| line.starts_with("policy.yml:1:")), "{call:#?}");
}

#[tokio::test]
async fn a_question_is_no_end_of_its_call_and_its_answer_is_no_beginning() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let server = Server::start("one", speaks).await;
        let portal = Setup::of([("one", server.url())]).before_call(1 << 30).start().await;
        let mut client = Client::modern(portal.address);
        let asked = client.call(ASK, json!({})).await;
        let result = &asked.last()["result"];
        let (key, _) = result["inputRequests"].as_object().unwrap().iter().next().unwrap();
        let again = json!({"name": ASK, "arguments": {}, "inputResponses": {key: chosen("blue")}, "requestState": result["requestState"]});
        let done = client.request("tools/call", again).await;
        assert_eq!(done.text(), "one: blue", "{done:?}");
        let records = until_called(&portal, 2).await;
        let (starts, calls) = (of(&records, RecordKind::Start), of(&records, RecordKind::Call));
        assert_eq!(starts.len(), server.got("tools/call").len(), "{speaks:?}: one for each that left");
        assert_eq!(calls.iter().map(|call| call.status).collect::<Vec<_>>(), [Some(Status::InputRequired), Some(Status::Ok)], "{speaks:?}");
        if speaks == Speaks::Legacy {
            assert!(calls[0].start.is_some() && calls[0].start == calls[1].start, "they are of one: {calls:#?}");
        }
    }
}

#[tokio::test]
async fn clients_are_put_the_three_questions_of_the_protocol_and_nothing_else() {
    let asks = |method: &str, params: &Value| {
        (method == "tools/call" && params["arguments"]["text"] == "odd").then(
            || json!({"resultType": "input_required", "requestState": "s", "inputRequests": {"q": {"method": "tools/call", "params": {}}}}),
        )
    };
    let server = Server::scripted("one", Speaks::Modern, asks).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
        let answer = client.call("one_echo", json!({"text": "odd"})).await;
        let text = answer.last()["error"]["message"].as_str().unwrap_or_default();
        assert!(answer.messages.len() == 1 && text.contains("clients are not put"), "{answer:?}");
    }
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    for (number, mut client) in [Client::legacy(portal.address).await, Client::modern(portal.address)].into_iter().enumerate() {
        let id = format!("odd {number}");
        let question = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {}});
        let answer = client.call("one_echo", json!({"text": "x", "say": [question]})).await;
        assert!(answer.messages.len() == 1 && answer.text() == "done", "{answer:?}");
        let told = crate::soon("the refusal", async {
            loop {
                match server.answers(&id).pop() {
                    Some(told) => break told,
                    None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            }
        })
        .await;
        assert_eq!(told["error"]["code"], -32601, "{told}");
    }
}

#[tokio::test]
async fn an_error_is_passed_on_whole_however_long_and_one_that_is_cut_says_nothing_of_its_call() {
    let fails = |method: &str, params: &Value| {
        let length = params["arguments"]["text"].as_str()?.parse().ok().filter(|_| method == "tools/call")?;
        Some(json!({"http": 400, "answer": {"error": {"code": -32000, "message": "e".repeat(length)}}}))
    };
    let server = Server::scripted("one", Speaks::Both, fails).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
        let long = client.call("one_echo", json!({"text": "200000"})).await;
        assert_eq!(long.last()["error"]["message"].as_str().map(str::len), Some(200_000));
        let cut = client.call("one_echo", json!({"text": "2000000"})).await;
        assert_eq!(cut.last()["error"]["data"]["carriedOut"], "perhaps", "{:?}", cut.last()["error"]["data"]);
    }
}
