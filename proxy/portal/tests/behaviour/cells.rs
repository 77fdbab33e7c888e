//! Further cells of the table of clients and servers (`matrix.rs`): watched resources, tasks, and answers whose stream was cut.

use crate::{
    Setup,
    asking::{Asking, DOCUMENT, Says},
    client::{Client, next_event},
    extended::TASKS,
    matrix::{CLIENTS, Caller, Hears, SERVERS, of_programs},
    soon,
};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Checks that the changes of both servers' resources reach a client that watches them, under the names by which it knows them.
async fn watches(portal: SocketAddr, hears: Hears, what: &str) {
    let mut other = Caller::new(portal, Hears::InAnswers).await;
    let uris: Vec<String> = ["one", "two"].iter().map(|server| format!("{server}+{DOCUMENT}")).collect();
    let mut client = Client::modern(portal);
    let mut stream = if hears == Hears::InResults {
        let (headers, body) = client.message("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": uris}}));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // What is granted is what is known of both servers by then.
        let granted = async {
            loop {
                let mut stream = client.open(&headers, body.clone()).await.into_body();
                if next_event(&mut stream).await["params"]["notifications"]["resourceSubscriptions"] == json!(uris) {
                    return stream;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon(&format!("{what} {hears:?}: both to be granted"), granted).await
    } else {
        client = client.begun().await;
        for uri in &uris {
            let watched = client.request("resources/subscribe", json!({"uri": uri})).await;
            assert!(watched.last()["result"].is_object(), "{what} {hears:?}: {watched:?}");
        }
        client.stand().await
    };
    for (server, uri) in ["one", "two"].iter().zip(&uris) {
        // A client that watches before its server has a stream with it would wait for ever: as servers, these lose what nobody hears.
        let told = async {
            loop {
                let heard = tokio::time::timeout(Duration::from_secs(1), async {
                    other.call(&format!("{server}_touch")).await;
                    loop {
                        let message = next_event(&mut stream).await;
                        if message["params"]["uri"] == *uri {
                            return message;
                        }
                    }
                });
                if let Ok(message) = heard.await {
                    return message;
                }
            }
        };
        let message = soon("the news", told).await;
        assert_eq!(message["method"], "notifications/resources/updated", "{what} {hears:?}: {message}");
    }
}

#[tokio::test]
async fn a_client_that_watches_a_resource_hears_of_it_whatever_the_transport_and_is_told_where_it_cannot() {
    // A server without a stream of its own for sessions has nothing to say it on (`Says::InAnswer`).
    for says in [Says::OnStream, Says::BesideDocument, Says::Sse, Says::InResult] {
        let (one, two) = (Asking::start("one", says).await, Asking::start("two", says).await);
        for hears in [Hears::OnStream, Hears::InResults] {
            let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
            if (says, hears) == (Says::InResult, Hears::OnStream) {
                let mut client = Client::legacy(portal.address).await;
                let refused = client.request("resources/subscribe", json!({"uri": format!("one+{DOCUMENT}")})).await;
                assert!(refused.last()["error"]["message"].as_str().unwrap().contains("2026-07-28"), "{refused:?}");
                continue;
            }
            watches(portal.address, hears, &format!("{says:?}")).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_watches_a_resource_of_a_program_hears_of_it_and_is_told_where_it_cannot() {
    if !gnomon_testkit::has("a_client_that_watches_a_resource_of_a_program_hears_of_it_and_is_told_where_it_cannot", &["python3"]) {
        return;
    }
    let portal = of_programs("modern").await;
    watches(portal.address, Hears::InResults, "modern").await;
    let mut client = Client::legacy(portal.address).await;
    let refused = client.request("resources/subscribe", json!({"uri": format!("one+{DOCUMENT}")})).await;
    assert!(refused.last()["error"]["message"].as_str().unwrap().contains("2026-07-28"), "{refused:?}");
    // A program with sessions is one process for each: what one of them says is for its own client.
    let portal = of_programs("legacy").await;
    let mut client = Client::legacy(portal.address).await;
    for server in ["one", "two"] {
        let uri = format!("{server}+{DOCUMENT}");
        let watched = client.request("resources/subscribe", json!({"uri": uri})).await;
        assert!(watched.last()["result"].is_object(), "{watched:?}");
        let mut stream = client.stand().await;
        client.call(&format!("{server}_touch"), json!({})).await;
        assert_eq!(next_event(&mut stream).await["params"]["uri"], uri);
    }
}

/// Checks that a call of each server that becomes a task is one for clients of its era, and a failure that says why for others.
async fn begins_tasks(portal: SocketAddr, server_is_modern: bool, what: &str) {
    for hears in CLIENTS {
        let can = json!({"elicitation": {}, "extensions": {TASKS: {}}});
        let mut client = Client::modern(portal).declaring(can.clone());
        let of_era = (hears == Hears::InResults) == server_is_modern;
        if hears != Hears::InResults {
            client = client.begun_with("2025-11-25", json!({"elicitation": {}})).await;
        }
        let mut known = Vec::new();
        for server in ["one", "two"] {
            let mut params = json!({"name": format!("{server}_begin"), "arguments": {}});
            if hears != Hears::InResults && !server_is_modern {
                params["task"] = json!({"ttl": 60_000});
            }
            let begun = client.request("tools/call", params).await;
            if !of_era {
                assert_eq!(begun.last()["result"]["isError"], true, "{what} {hears:?}: {begun:?}");
                assert!(begun.text().contains("the other version"), "{what} {hears:?}: {begun:?}");
                continue;
            }
            let result = &begun.last()["result"];
            let task =
                result["taskId"].as_str().or(result["task"]["taskId"].as_str()).unwrap_or_else(|| panic!("{what}: {begun:?}")).to_owned();
            let got = client.request("tasks/get", json!({"taskId": task})).await;
            assert_eq!((&got.last()["result"]["taskId"], &got.last()["result"]["status"]), (&json!(task), &json!("completed")), "{got:?}");
            let text = match server_is_modern {
                true => got.last()["result"]["result"]["content"][0]["text"].as_str().map(str::to_owned),
                false => Some(client.request("tasks/result", json!({"taskId": task})).await.text().to_owned()),
            };
            assert_eq!(text.as_deref(), Some(server), "{what} {hears:?}");
            known.push(task);
        }
        known.dedup();
        assert_eq!(known.len(), if of_era { 2 } else { 0 }, "{what}: both servers call theirs alike");
    }
}

#[tokio::test]
async fn a_call_that_becomes_a_task_is_one_for_clients_of_its_era_and_says_why_not_for_others_whatever_the_transport() {
    for says in SERVERS {
        let (one, two) = (Asking::start("one", says).await, Asking::start("two", says).await);
        let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
        begins_tasks(portal.address, says == Says::InResult, &format!("{says:?}")).await;
    }
    if !gnomon_testkit::has("a_call_of_a_program_that_becomes_a_task_is_one_for_clients_of_its_era", &["python3"]) {
        return;
    }
    for mode in ["legacy", "modern"] {
        begins_tasks(of_programs(mode).await.address, mode == "modern", mode).await;
    }
}

/// The text of the answer to a call in a session whose streams may end before it; the client comes back where it is told how.
async fn comes_back(client: &mut Client, tool: &str, arguments: Value, leaves: bool) -> String {
    let (headers, body) = client.message("tools/call", json!({"name": tool, "arguments": arguments}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut answer = client.open(&headers, body.clone()).await.into_body();
    let (mut last, mut text) = (None, String::new());
    for _ in 0..20 {
        while let Some(Ok(frame)) = soon("the stream", answer.frame()).await {
            text.push_str(std::str::from_utf8(frame.data_ref().map_or(b"", |data| data)).unwrap());
            for line in text.lines() {
                if let Some(id) = line.strip_prefix("id: ") {
                    last = Some(id.to_owned());
                }
                let message: Value = line.strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
                if message["id"] == body["id"] {
                    return message["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned();
                }
            }
            if leaves && last.is_some() {
                break;
            }
        }
        let Some(last) = last.clone() else { panic!("{tool} gave no id to come back to: {text:?}") };
        text.clear();
        let session = client.session();
        let request = client.build(Method::GET, &[("mcp-session-id", &session), ("last-event-id", &last)], String::new());
        answer = soon("the rest", client.http.request(request)).await.unwrap().into_body();
    }
    panic!("{tool}: no answer came")
}

#[tokio::test]
async fn an_answer_whose_stream_was_cut_is_had_all_the_same_whichever_side_cut_it() {
    for says in [Says::InAnswer, Says::OnStream] {
        let (one, two) = (Asking::start("one", says).await, Asking::start("two", says).await);
        let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
        for server in ["one", "two"] {
            let mut stateless = Caller::new(portal.address, Hears::InResults).await;
            assert_eq!(stateless.call(&format!("{server}_cut")).await.0, format!("{server}: whole"), "{says:?}: the portal comes back");
            for leaves in [false, true] {
                let mut client = Client::legacy(portal.address).await;
                let text = comes_back(&mut client, &format!("{server}_cut"), json!({}), leaves).await;
                assert_eq!(text, format!("{server}: whole"), "{says:?}, the client leaves first: {leaves}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_is_back_at_once_after_a_cut_has_its_answer_however_long_the_server_asked_to_be_left_alone() {
    for says in [Says::InAnswer, Says::OnStream] {
        let one = Asking::start("one", says).await;
        let portal = Setup::of([("one", one.url())]).start().await;
        for leaves in [false, true] {
            let mut client = Client::legacy(portal.address).await;
            let begun = Instant::now();
            assert_eq!(comes_back(&mut client, "one_cut", json!({"retry": 5000}), leaves).await, "one: whole", "{says:?} {leaves}");
            assert!(begun.elapsed() < Duration::from_secs(2), "{says:?}, the client leaves first: {leaves}: {:?}", begun.elapsed());
        }
        // Whose connection stays has nothing to come back for: the portal does, when the server said.
        let mut stateless = Client::modern(portal.address);
        let begun = Instant::now();
        assert_eq!(stateless.call("one_cut", json!({"retry": 1500})).await.text(), "one: whole", "{says:?}");
        assert!(begun.elapsed() >= Duration::from_millis(1500), "{says:?}: {:?}", begun.elapsed());
    }
}
