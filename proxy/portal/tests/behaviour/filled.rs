//! What a client fills in must fit the form that its server asked with, whoever asks whom and on which road.

use crate::{
    Setup,
    client::{Client, next_event},
    server::{Server, Speaks},
    soon,
};
use serde_json::{Value, json};
use std::time::Duration;

/// What the server was answered to its question, whatever its id.
async fn answered(server: &Server) -> Value {
    soon("the answer to arrive", async {
        loop {
            let answers = (0..50).flat_map(|number| server.answers(&format!("q{number}"))).next_back();
            match answers {
                Some(answer) => return answer,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_that_does_not_fit_its_form_reaches_no_server_and_both_sides_are_told_what_is_wrong() {
    // In a session, by a server that waits and by one that is called again.
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let (server, other) = (Server::start("one", speaks).await, Server::start("two", speaks).await);
        let portal = Setup::of([("one", server.url()), ("two", other.url())]).start().await;
        let mut client = Client::legacy(portal.address).await;
        for (given, fits) in [(json!({"colour": 7}), false), (json!({"colour": "green"}), true)] {
            let (headers, body) = client.message("tools/call", json!({"name": "one_ask", "arguments": {}}));
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut answer = client.open(&headers, body.clone()).await.into_body();
            let question = next_event(&mut answer).await;
            let chosen = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": given}});
            assert_eq!(client.post(&headers, chosen).await.status, 202);
            let result = next_event(&mut answer).await;
            let text = &result["result"]["content"][0]["text"];
            if fits {
                assert_eq!(text, "one: green", "{speaks:?}: {result}");
                continue;
            }
            let told = if speaks == Speaks::Legacy {
                assert_eq!(text, "one: none", "its tool decides what comes of it: {result}");
                answered(&server).await["error"].clone()
            } else {
                assert!(server.got("tools/call").iter().all(|got| got.body["params"]["inputResponses"].is_null()));
                result["error"].clone()
            };
            assert_eq!(told["code"], -32602, "{speaks:?}: {told}");
            let words = told["message"].as_str().unwrap();
            assert!(words.contains("`requestedSchema`") && words.contains("`/colour`") && !words.contains('7'), "{words}");
        }
    }
    // Without one, by a server that waits: the client is told, and the call waits for what fits.
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::modern(portal.address);
    let asked = client.call("one_ask", json!({})).await;
    let state = asked.last()["result"]["requestState"].clone();
    let with = |given: Value| {
        let answers = json!({"question": {"action": "accept", "content": given}});
        json!({"name": "one_ask", "arguments": {}, "inputResponses": answers, "requestState": state})
    };
    let acted = |action: Value| {
        let mut params = with(json!({"colour": 7}));
        params["inputResponses"]["question"]["action"] = action;
        params
    };
    let unfit = [json!("Accept"), json!("accept "), json!(["accept"]), Value::Null].map(acted);
    for wrong in [json!({"colour": 7}), json!(["green"]), json!("green")].map(with).into_iter().chain(unfit) {
        let refused = client.request("tools/call", wrong).await;
        let error = &refused.last()["error"];
        assert_eq!(error["code"], -32602, "{refused:?}");
        assert!(error["message"].as_str().unwrap().contains("the call waits for another"), "{refused:?}");
    }
    assert_eq!(client.request("tools/call", with(json!({"colour": "blue"}))).await.text(), "one: blue");
    assert_eq!(answered(&server).await["result"]["content"]["colour"], "blue");
}

#[tokio::test]
async fn who_declines_a_form_need_not_fill_it_in() {
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::modern(portal.address);
    let asked = client.call("one_ask", json!({})).await;
    let answers = json!({"question": {"action": "decline", "content": {"colour": 7}}});
    let state = &asked.last()["result"]["requestState"];
    let again = json!({"name": "one_ask", "arguments": {}, "inputResponses": answers, "requestState": state});
    client.request("tools/call", again).await;
    assert_eq!(answered(&server).await["result"], json!({"action": "decline"}), "and what it holds all the same goes no further");
}

#[tokio::test]
async fn a_form_that_costs_too_much_is_put_to_nobody_and_holds_nobody_up() {
    let next = |n: usize| json!({"$ref": format!("#/$defs/l{n}")});
    let defs: serde_json::Map<_, _> =
        (0..60).map(|n| (format!("l{n}"), json!({"allOf": [next(n + 1), next(n + 1)]}))).chain([("l60".to_owned(), json!({}))]).collect();
    let form = json!({"type": "object", "allOf": [next(0)], "$defs": defs});
    let question =
        json!({"jsonrpc": "2.0", "id": "costly", "method": "elicitation/create", "params": {"message": "?", "requestedSchema": form}});
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
        let before = server.answers("costly").len();
        let answer = client.call("one_echo", json!({"text": "x", "say": [question.clone()]})).await;
        assert!(answer.messages.iter().all(|message| message["method"] != "elicitation/create"), "{answer:?}");
        soon("the server to be told", async {
            while server.answers("costly").len() == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let told = server.answers("costly").pop().unwrap();
        assert_eq!(told["error"]["code"], -32602, "{told}");
        assert!(told["error"]["message"].as_str().unwrap().contains("`requestedSchema`"), "{told}");
    }
}
