//! Messages of servers and clients about each other's requests: each side hears of its own requests, under its own ids, and of no others.

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

/// A call of which the server sends this message and no answer. Returns the stream of messages to the client, and the message of the call.
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
    // Under the id of the other server's question at the client, under an unknown id, and without an id.
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
    // A cancelled question is not answered any more; the other server's question still is.
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
async fn a_stateless_client_whose_questions_have_no_ids_gets_no_cancellation_of_one() {
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
    // The other session has no such call, and this session has no other call.
    tell(&other, cancelled(&first["id"])).await;
    tell(&client, cancelled(&json!(4711))).await;
    tell(&client, cancelled(&first["id"])).await;
    one.cancelled(1).await;
    let told = one.got("notifications/cancelled");
    assert_eq!((told.len(), two.taken_back()), (1, 0));
    assert_eq!(told[0].body["params"]["requestId"], one.got("tools/call")[0].body["id"]);
}

fn progress(token: &str) -> Value {
    notice("notifications/progress", json!({"progressToken": token, "progress": 1}))
}

fn end() -> Value {
    notice("notifications/message", json!({"data": "end"}))
}

#[tokio::test]
async fn progress_is_told_of_calls_that_the_caller_has_open_at_the_server_that_tells_it_and_of_no_others() {
    let (one, two) = (server("one").await, server("two").await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let (mut client, mut other) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    let params = json!({"name": "two_echo", "arguments": {"text": "x"}, "_meta": {"progressToken": "over"}});
    for client in [&mut client, &mut other] {
        client.request("tools/call", params.clone()).await;
    }
    // During a call.
    let (mut first, _) = held(&mut client, "one_echo", json!([end()])).await;
    next_event(&mut first).await;
    let said = json!([progress("one_echo"), progress("over"), notice("notifications/progress", json!({})), progress("two_echo"), end()]);
    let (mut second, _) = held(&mut client, "two_echo", said).await;
    assert_eq!(next_event(&mut second).await["params"]["progressToken"], "two_echo");
    assert_eq!(next_event(&mut second).await["params"]["data"], "end");
    // Outside of calls: sent to the session that made the call, and to no other.
    let (mut stream, mut others) = (client.stand().await, other.stand().await);
    one.heard_by(2).await;
    two.heard_by(3).await;
    for token in ["one_echo", "over", "two_echo"] {
        two.say("notifications/progress", json!({"progressToken": token, "progress": 2}));
    }
    two.say("notifications/message", json!({"data": "end"}));
    assert_eq!(next_event(&mut stream).await["params"]["progressToken"], "two_echo");
    for stream in [&mut stream, &mut others] {
        assert_eq!(next_event(stream).await["params"]["data"], "end");
    }
}

#[tokio::test]
async fn progress_of_a_task_is_told_after_the_call_that_began_it() {
    let one = crate::owned::tasking("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", one.url())]).start().await;
    let (mut client, other) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    let params = json!({"name": "one_echo", "arguments": {"text": "x"}, "_meta": {"progressToken": 7}});
    client.request("tools/call", params).await;
    let mut stream = client.stand().await;
    let _others = other.stand().await;
    one.heard_by(2).await;
    for token in [8, 7] {
        one.say("notifications/progress", json!({"progressToken": token, "progress": 1}));
    }
    assert_eq!(next_event(&mut stream).await["params"]["progressToken"], 7);
}

#[tokio::test]
async fn a_client_of_the_stateless_era_is_told_of_the_progress_of_the_very_call() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let one = Server::start("one", speaks).await;
        let portal = Setup::of([("one", one.url())]).start().await;
        let said = json!([progress("other"), progress("own")]);
        let params = json!({"name": "one_echo", "arguments": {"text": "x", "say": said}, "_meta": {"progressToken": "own"}});
        let answer = Client::modern(portal.address).request("tools/call", params).await;
        assert_eq!((answer.messages.len(), &answer.messages[0]["params"]["progressToken"]), (2, &json!("own")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_client_s_progress_on_a_question_reaches_the_server_that_asked_under_its_own_token() {
    let (one, two) = (server("one").await, server("two").await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    let mut asked = question("77");
    asked["params"]["_meta"] = json!({"progressToken": 0, "kept": true});
    let (mut first, _) = held(&mut client, "one_echo", json!([asked])).await;
    let (mut second, _) = held(&mut client, "two_echo", json!([asked])).await;
    let [of_one, of_two] = [next_event(&mut first).await, next_event(&mut second).await].map(|asked| asked["params"]["_meta"].clone());
    assert!(of_one["progressToken"] != of_two["progressToken"] && of_one["kept"] == true, "{of_one} {of_two}");
    for token in [&json!(0), &json!("x"), &of_two["progressToken"]] {
        tell(&client, notice("notifications/progress", json!({"progressToken": token, "progress": 1}))).await;
    }
    let told = two.got("notifications/progress");
    assert_eq!((told.len(), one.got("notifications/progress").len()), (1, 0));
    assert_eq!(told[0].body["params"], json!({"progressToken": 0, "progress": 1}));
}

fn request(id: &str, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

#[tokio::test]
async fn a_server_asks_for_those_tasks_of_the_client_s_alone_that_its_own_questions_began() {
    let (one, two) = (server("one").await, server("two").await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let mut client = Client::modern(portal.address).begun_with("2025-11-25", json!({"elicitation": {}, "tasks": {}})).await;
    let mut wished = question("77");
    wished["params"]["task"] = json!({});
    let (mut first, _) = held(&mut client, "one_echo", json!([wished])).await;
    let asked = next_event(&mut first).await;
    let task = json!({"taskId": "t1", "status": "working"});
    tell(&client, json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"task": task}})).await;
    let methods = ["tasks/get", "tasks/result", "tasks/cancel"];
    let by_id: Vec<Value> = methods.iter().map(|method| request(method, method, json!({"taskId": "t1"}))).collect();
    let said = json!([by_id[0], by_id[1], by_id[2], request("list", "tasks/list", json!({}))]);
    let (mut second, _) = held(&mut client, "two_echo", said).await;
    let list = next_event(&mut second).await;
    assert_eq!(list["method"], "tasks/list", "{list}");
    tell(&client, json!({"jsonrpc": "2.0", "id": list["id"], "result": {"tasks": [task]}})).await;
    assert_eq!(two.answers("list")[0]["result"], json!({"tasks": []}));
    for method in methods {
        assert_eq!(two.answers(method)[0]["error"]["code"], -32602, "{method}");
    }
    let (mut third, _) = held(&mut client, "one_echo", json!([by_id[0]])).await;
    assert_eq!(next_event(&mut third).await["params"]["taskId"], "t1");
    // A notification about it.
    tell(&client, notice("notifications/tasks/status", task)).await;
    tell(&client, notice("notifications/tasks/status", json!({"taskId": "t2", "status": "working"}))).await;
    assert_eq!(one.got("notifications/tasks/status").len(), 1);
    assert!(two.got("notifications/tasks/status").is_empty());
}

#[tokio::test]
async fn a_server_says_that_a_person_is_done_with_pages_that_it_sent_them_to_and_with_no_others() {
    let (one, two) = (server("one").await, server("two").await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    let mut page = question("77");
    page["params"] = json!({"mode": "url", "elicitationId": "e1", "url": "https://one.example/", "message": "?"});
    let (mut first, _) = held(&mut client, "one_echo", json!([page])).await;
    next_event(&mut first).await;
    let error = json!({"code": -32042, "message": "go there", "data": {"elicitations": [{"mode": "url", "elicitationId": "e2"}]}});
    client.call("one_echo", json!({"text": "x", "say": [], "error": error})).await;
    let done = ["e1", "e2"].map(|id| notice("notifications/elicitation/complete", json!({"elicitationId": id})));
    let said = json!([done[0], done[1], end()]);
    let (mut foreign, _) = held(&mut client, "two_echo", said.clone()).await;
    assert_eq!(next_event(&mut foreign).await["params"]["data"], "end");
    let (mut own, _) = held(&mut client, "one_echo", said).await;
    for id in ["e1", "e2"] {
        assert_eq!(next_event(&mut own).await["params"]["elicitationId"], id);
    }
}

#[tokio::test]
async fn what_a_server_says_names_no_subscription_and_no_task_but_its_own() {
    let task = |id: &str| json!({"io.modelcontextprotocol/related-task": {"taskId": id}, "io.modelcontextprotocol/subscriptionId": 1, "kept": true});
    let foreign = crate::owned::tasking("foreign", Speaks::Legacy).await;
    let one = server("one").await;
    let portal = Setup::of([("foreign", foreign.url()), ("one", one.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    let began = client.call("foreign_echo", json!({"text": "x"})).await;
    let id = began.last()["result"]["taskId"].as_str().unwrap().to_owned();
    let mut asked = question("77");
    let own = "foreign-1";
    asked["params"]["_meta"] = task(own);
    let (mut said, _) =
        held(&mut client, "one_echo", json!([notice("notifications/message", json!({"data": "x", "_meta": task(own)})), asked])).await;
    for _ in 0..2 {
        let heard = next_event(&mut said).await;
        assert_eq!(heard["params"]["_meta"], json!({"kept": true}), "{heard}");
    }
    let mut stream = client.stand().await;
    foreign.heard_by(2).await;
    foreign.say("notifications/message", json!({"data": "x", "_meta": task(own)}));
    let heard = next_event(&mut stream).await;
    assert_eq!(heard["params"]["_meta"]["io.modelcontextprotocol/related-task"]["taskId"], json!(id), "{heard}");
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_neither_the_level_of_logs_nor_news_nor_the_end_of_a_session() {
    let (one, two) = (server("one").await, server("two").await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    for tool in ["one_echo", "two_echo"] {
        client.call(tool, json!({"text": "x"})).await;
    }
    one.freeze();
    let begun = std::time::Instant::now();
    let set = client.request("logging/setLevel", json!({"level": "error"})).await;
    assert_eq!(set.last()["result"], json!({}), "{set:?}");
    tell(&client, notice("notifications/roots/list_changed", json!({}))).await;
    let session = client.session();
    assert_eq!(client.send(http::Method::DELETE, &[("mcp-session-id", &session)], String::new()).await.status, 200);
    assert!(begun.elapsed() < std::time::Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!((two.got("logging/setLevel").len(), two.got("notifications/roots/list_changed").len()), (1, 1));
}

#[tokio::test]
async fn a_server_that_policy_takes_from_a_caller_hears_nothing_of_its_client_any_more() {
    let (one, two) = (server("one").await, server("two").await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    for tool in ["one_echo", "two_echo"] {
        client.call(tool, json!({"text": "x"})).await;
    }
    portal.regulate("[{allow: {servers: [two]}}]");
    let set = client.request("logging/setLevel", json!({"level": "error"})).await;
    assert_eq!(set.last()["result"], json!({}), "{set:?}");
    tell(&client, notice("notifications/roots/list_changed", json!({}))).await;
    let heard = |server: &Server| ["logging/setLevel", "notifications/roots/list_changed"].map(|method| server.got(method).len());
    assert_eq!((heard(&two), heard(&one)), ([1, 1], [0, 0]));
}
