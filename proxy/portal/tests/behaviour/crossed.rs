//! What servers and clients say of each other's requests: each hears of its own, under its own name for them, and of no other's.

use crate::{
    Setup,
    client::{Client, next_event},
    server::{Server, Speaks},
};
use hyper::body::Incoming;
use serde_json::{Value, json};

async fn server(name: &'static str) -> Server {
    Server::scripted(name, Speaks::Legacy, |_, _| None).await
}

fn notice(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

fn question(id: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object"}}})
}

fn cancelled(id: &Value) -> Value {
    notice("notifications/cancelled", json!({"requestId": id, "reason": "late"}))
}

/// A call of which the server says this and gives no answer: what the client hears of it, and the call.
async fn held(client: &mut Client, tool: &str, said: Value) -> (Incoming, Value) {
    let arguments = json!({"text": "x", "say": said, "hold": true});
    let (headers, body) = client.message("tools/call", json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": tool}}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    (client.open(&headers, body.clone()).await.into_body(), body)
}

async fn tell(client: &Client, message: Value) {
    let session = client.session();
    assert_eq!(client.post(&[("mcp-session-id", &session)], message).await.status, 202);
}

#[tokio::test]
async fn a_server_takes_its_own_question_back_under_the_id_that_the_client_knows_and_no_other_s() {
    let (one, two) = (server("one").await, server("two").await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    let (mut first, _) = held(&mut client, "one_echo", json!([question("77")])).await;
    let open = next_event(&mut first).await["id"].clone();
    // Under the id that the other's question has at the client, under one of nobody's, and without any.
    let not_its_own = [cancelled(&open), cancelled(&json!("78")), notice("notifications/cancelled", json!({}))];
    let own = [question("77"), cancelled(&json!("77")), cancelled(&json!("77")), notice("notifications/message", json!({"data": "end"}))];
    let (mut second, _) = held(&mut client, "two_echo", json!([not_its_own.as_slice(), own.as_slice()].concat())).await;
    let asked = next_event(&mut second).await;
    assert_eq!(asked["method"], "elicitation/create", "{asked}");
    let told = next_event(&mut second).await;
    assert_eq!(
        (&told["method"], &told["params"]),
        (&json!("notifications/cancelled"), &json!({"requestId": asked["id"], "reason": "late"}))
    );
    let end = next_event(&mut second).await;
    assert_eq!(end["params"]["data"], "end", "once: {end}");
    // What was taken back is not answered any more, the other's question is.
    for id in [&asked["id"], &open] {
        tell(&client, json!({"jsonrpc": "2.0", "id": id, "result": {"action": "decline"}})).await;
    }
    assert_eq!((two.answers("77").len(), one.answers("77").len()), (0, 1));
}

#[tokio::test]
async fn a_question_that_a_server_asks_by_itself_is_taken_back_by_that_server_alone() {
    let (one, two) = (server("one").await, server("two").await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    for tool in ["one_echo", "two_echo"] {
        client.call(tool, json!({"text": "x"})).await;
    }
    let mut stream = client.stand().await;
    one.heard_by(2).await;
    two.heard_by(2).await;
    one.ask_all("77", "elicitation/create", json!({"message": "?", "requestedSchema": {"type": "object"}}));
    let asked = next_event(&mut stream).await;
    two.say("notifications/cancelled", json!({"requestId": asked["id"]}));
    two.say("notifications/cancelled", json!({"requestId": "77"}));
    two.say("notifications/message", json!({"data": "end"}));
    assert_eq!(next_event(&mut stream).await["params"]["data"], "end");
    one.say("notifications/cancelled", json!({"requestId": "77"}));
    assert_eq!(next_event(&mut stream).await["params"]["requestId"], asked["id"]);
}

#[tokio::test]
async fn a_client_of_the_stateless_era_whose_questions_have_no_ids_hears_of_none_taken_back() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let one = Server::start("one", speaks).await;
        let portal = Setup::of([("one", one.url())]).start().await;
        let answer = Client::modern(portal.address).call("one_echo", json!({"text": "x", "say": [cancelled(&json!(2))]})).await;
        assert_eq!((answer.messages.len(), answer.text()), (1, "done"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_call_is_taken_back_by_its_caller_at_its_server_alone() {
    let (one, two) = (server("one").await, server("two").await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let (mut client, other) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    let (_first, first) = held(&mut client, "one_echo", json!([])).await;
    let (mut second, _) = held(&mut client, "two_echo", json!([notice("notifications/message", json!({"data": "begun"}))])).await;
    next_event(&mut second).await;
    // Another's session has no such call, and this one has no such other.
    tell(&other, cancelled(&first["id"])).await;
    tell(&client, cancelled(&json!(4711))).await;
    tell(&client, cancelled(&first["id"])).await;
    one.cancelled(1).await;
    let told = one.got("notifications/cancelled");
    assert_eq!((told.len(), two.taken_back()), (1, 0));
    assert_eq!(told[0].body["params"]["requestId"], one.got("tools/call")[0].body["id"]);
}
