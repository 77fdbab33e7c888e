//! Tasks of two servers: what a client knows one by leads to its server, works for its owner alone, and is told only to who can follow it.

use crate::{
    Setup,
    admission::two_tokens,
    client::{Client, next_event},
    extended::TASKS,
    owned::{knowing, tasking},
    server::{Server, Speaks},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A server of 2026-07-28 that gives each task the same id, whoever asks.
async fn same(name: &'static str) -> Server {
    Server::scripted(name, Speaks::Modern, move |method, params| {
        let task = |status: &str| json!({"taskId": "t1", "status": status, "ttlMs": null, "createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "x"});
        match method {
            "capabilities" => Some(json!({"extensions": {TASKS: {}}})),
            "tools/call" => {
                let mut made = task("working");
                made["resultType"] = "task".into();
                Some(made)
            }
            "tasks/get" => {
                let mut got = task("completed");
                got["result"] = json!({"content": [{"type": "text", "text": name}, {"type": "resource_link", "uri": "ui://app/dash", "name": "d"}]});
                Some(got)
            }
            "tasks/update" | "tasks/cancel" => Some(json!({"echo": params["inputResponses"]})),
            _ => None,
        }
    })
    .await
}

async fn begin(client: &mut Client, tool: &str) -> String {
    let begun = client.call(tool, json!({"text": "x"})).await;
    begun.last()["result"]["taskId"].as_str().unwrap_or_else(|| panic!("{begun:?}")).to_owned()
}

#[tokio::test]
async fn tasks_of_two_servers_with_one_id_are_two_and_each_leads_to_its_own_server() {
    let (one, two) = (same("one").await, same("two").await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let mut client = knowing(&portal);
    let tasks = [("one", &one, begin(&mut client, "one_echo").await), ("two", &two, begin(&mut client, "two_echo").await)];
    assert_ne!(tasks[0].2, tasks[1].2);
    for (name, server, task) in &tasks {
        // Of its own making; two letters of the server's come by chance as well.
        assert!(task.len() > 40 && task.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{task}");
        let got = client.request("tasks/get", json!({"taskId": task})).await;
        let result = &got.last()["result"];
        assert_eq!((&result["taskId"], &result["result"]["content"][0]["text"]), (&json!(task), &json!(name)));
        assert_eq!(result["result"]["content"][1]["uri"], format!("ui://{name}/app/dash"), "as in a direct answer");
        let updated = client.request("tasks/update", json!({"taskId": task, "inputResponses": {"k": 1}})).await;
        assert_eq!(updated.last()["result"]["echo"], json!({"k": 1}), "keys of questions are the task's own");
        client.request("tasks/cancel", json!({"taskId": task})).await;
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let got = server.got(method);
            let header = got[0].headers["mcp-name"].to_str().unwrap();
            assert_eq!((got.len(), &got[0].body["params"]["taskId"], header), (1, &json!("t1"), "t1"), "{method}: body and header");
        }
    }
}

#[tokio::test]
async fn an_id_that_was_not_sealed_for_the_caller_is_unknown_and_asks_no_server() {
    let (one, two) = (same("one").await, same("two").await);
    let (auth, [ada, eve]) = two_tokens();
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).auth(auth).start().await;
    let (mut ada, mut eve) = (knowing(&portal).holding(&ada), knowing(&portal).holding(&eve));
    let task = begin(&mut ada, "one_echo").await;
    let hers = begin(&mut eve, "one_echo").await;
    assert_ne!(task, hers, "the server's id is one, and each knows it by another");
    let forged = format!("{}{}", &task[..task.len() - 1], if task.ends_with('A') { 'Q' } else { 'A' });
    for id in [task.as_str(), "t1", "", &forged] {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let answer = eve.request(method, json!({"taskId": id})).await;
            assert_eq!(answer.last()["error"]["code"], -32602, "{method} {id}: {answer:?}");
        }
    }
    assert!(["tasks/get", "tasks/update", "tasks/cancel"].iter().all(|method| one.got(method).is_empty() && two.got(method).is_empty()));
    let (headers, body) = eve.message("tasks/get", json!({"taskId": hers}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, if *name == "mcp-name" { "t1" } else { value.as_str() })).collect();
    let crossed = eve.post(&headers, body).await;
    assert_eq!((crossed.status.as_u16(), &crossed.last()["error"]["code"]), (400, &json!(-32020)), "header and body are held together");
}

#[tokio::test]
async fn a_client_that_has_not_declared_tasks_is_told_what_it_lacks_before_anything_else() {
    let one = same("one").await;
    let portal = Setup::of([("one", one.url())]).start().await;
    let mut client = Client::modern(portal.address);
    for (method, params) in [
        ("tasks/get", json!({"taskId": "unknown"})),
        ("tasks/update", json!({"taskId": "unknown", "inputResponses": {}})),
        ("tasks/cancel", json!({"taskId": "unknown"})),
        ("subscriptions/listen", json!({"notifications": {"taskIds": ["unknown"]}})),
    ] {
        let refused = client.request(method, params).await;
        let error = &refused.last()["error"];
        let data = json!({"requiredCapabilities": {"extensions": {TASKS: {}}}});
        assert_eq!((&error["code"], &error["data"]), (&json!(-32021), &data), "{method}: {refused:?}");
    }
    for method in ["tasks/list", "tasks/result"] {
        let unknown = knowing(&portal).request(method, json!({"taskId": "unknown"})).await;
        assert_eq!((unknown.status.as_u16(), &unknown.last()["error"]["code"]), (404, &json!(-32601)), "{method}");
    }
    // Its server began one all the same.
    let begun = client.call("one_echo", json!({"text": "x"})).await;
    assert_eq!(begun.last()["result"]["isError"], true, "{begun:?}");
    assert!(begun.text().contains("has not declared"), "{begun:?}");
}

#[tokio::test]
async fn tasks_of_one_era_are_not_presented_as_the_other_s() {
    let (legacy, modern) = (tasking("legacy", Speaks::Legacy).await, same("modern").await);
    let portal = Setup::of([("legacy", legacy.url()), ("modern", modern.url())]).start().await;
    let mut stateless = knowing(&portal);
    let refused = stateless.request("tools/call", json!({"name": "legacy_echo", "arguments": {"text": "x"}, "task": {"ttl": 1}})).await;
    assert!(refused.text().contains("the other version"), "{refused:?}");
    assert_eq!(legacy.got("tools/call")[0].body["params"].get("task"), None, "a stateless client does not ask for one");
    let mut session = Client::legacy(portal.address).await;
    let refused = session.call("modern_echo", json!({"text": "x"})).await;
    assert!(refused.text().contains("the other version"), "{refused:?}");
    assert_eq!(session.request("tasks/update", json!({"taskId": "x"})).await.last()["error"]["code"], -32601);
}

#[tokio::test]
async fn a_server_that_does_not_offer_tasks_begins_none() {
    let one = Server::scripted("one", Speaks::Modern, |method, _| {
        (method == "tools/call").then(|| json!({"resultType": "task", "taskId": "t1", "status": "working"}))
    })
    .await;
    let portal = Setup::of([("one", one.url())]).start().await;
    let refused = knowing(&portal).call("one_echo", json!({"text": "x"})).await;
    assert!(refused.last()["result"]["isError"] == true && refused.text().contains("does not say that it has any"), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_does_not_list_its_tasks_is_named_and_hides_no_other_s() {
    let (one, two) = (tasking("one", Speaks::Legacy).await, tasking("two", Speaks::Legacy).await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    for tool in ["one_echo", "two_echo"] {
        client.call(tool, json!({"text": "x"})).await;
    }
    assert_eq!(client.names("tasks/list", "tasks", "taskId").await.len(), 2);
    one.freeze();
    let began = Instant::now();
    let listed = client.request("tasks/list", json!({})).await;
    let result = &listed.last()["result"];
    assert_eq!(result["tasks"].as_array().map(Vec::len), Some(1), "{listed:?}");
    assert_eq!(result["_meta"]["dev.gnomon/missing"][0]["server"], "one", "{listed:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn in_a_session_a_task_has_one_name_in_answers_lists_news_and_what_is_said_in_it() {
    let related = |id: &str| json!({"io.modelcontextprotocol/related-task": {"taskId": id}});
    let one = tasking("one", Speaks::Legacy).await;
    let two = tasking("two", Speaks::Legacy).await;
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    let begun = client.call("one_echo", json!({"text": "x"})).await;
    let task = begun.last()["result"]["task"]["taskId"].as_str().unwrap().to_owned();
    assert_ne!(task, "one-1");
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        let answer = client.request(method, json!({"taskId": task, "_meta": related(&task)})).await;
        assert_eq!(answer.last()["result"]["taskId"], json!(task), "{method}");
        assert_eq!(one.got(method)[0].body["params"]["taskId"], "one-1");
    }
    assert_eq!(client.names("tasks/list", "tasks", "taskId").await, std::slice::from_ref(&task));
    let mut stream = client.stand().await;
    one.heard_by(2).await;
    one.say("notifications/tasks/status", json!({"taskId": "one-1", "status": "working", "_meta": related("one-1")}));
    let news = next_event(&mut stream).await;
    assert_eq!((&news["params"]["taskId"], &news["params"]["_meta"]), (&json!(task), &related(&task)));
    one.ask_all(
        "q",
        "elicitation/create",
        json!({"message": "?", "requestedSchema": {"type": "object", "properties": {}}, "_meta": related("one-1")}),
    );
    let asked = next_event(&mut stream).await;
    assert_eq!(asked["params"]["_meta"], related(&task), "{asked}");
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept", "_meta": related(&task)}});
    client.post(&[("mcp-session-id", &client.session())], answer).await;
    // The portal's own session was asked as well, and has nobody to ask.
    let answers = one.answers("q");
    assert!(answers.iter().any(|answer| answer["result"]["_meta"] == related("one-1")), "{answers:?}");
    client.request("prompts/get", json!({"name": "one_greet", "_meta": related(&task)})).await;
    assert_eq!(one.got("prompts/get")[0].body["params"]["_meta"], related("one-1"));
    let first: Vec<Value> = one.got("tasks/get").iter().map(|got| got.body["params"]["_meta"].clone()).collect();
    assert_eq!(first, [related("one-1")]);
}
