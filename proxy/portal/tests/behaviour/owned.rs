//! What belongs to a caller: tasks, sessions, and their share of the bounds.

use crate::{
    Running, Setup,
    admission::two_tokens,
    client::Client,
    extended::TASKS,
    server::{Server, Speaks},
};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A server whose calls of `echo` and `delete_all` are tasks, with ids that count up.
pub async fn tasking(name: &'static str, speaks: Speaks) -> Server {
    tasking_from(name, speaks, Arc::new(AtomicUsize::new(1)), Arc::default()).await
}

/// The same; the next task gets the id `next` and this minute as its time of creation.
async fn tasking_from(name: &'static str, speaks: Speaks, next: Arc<AtomicUsize>, minute: Arc<AtomicUsize>) -> Server {
    let made = next.clone();
    Server::scripted(name, speaks, move |method, params| {
        let at = format!("2026-01-01T00:{:02}:00Z", minute.load(Ordering::Relaxed));
        let task = |id: &str| json!({"taskId": id, "status": "working", "ttl": null, "createdAt": at, "lastUpdatedAt": at});
        match method {
            "capabilities" => Some(json!({"tasks": {"list": {}, "requests": {"tools": {"call": {}}}}, "extensions": {TASKS: {}}})),
            "tools/call" => {
                let id = format!("{name}-{}", made.fetch_add(1, Ordering::Relaxed));
                // In both eras' forms, as the server does not look at who asks.
                let mut result = task(&id);
                result["task"] = task(&id);
                result["resultType"] = "task".into();
                Some(result)
            }
            "tasks/list" => {
                let all = next.load(Ordering::Relaxed);
                Some(json!({"tasks": (1..all).map(|n| task(&format!("{name}-{n}"))).collect::<Vec<_>>()}))
            }
            "tasks/get" | "tasks/cancel" | "tasks/update" | "tasks/result" => Some(task(params["taskId"].as_str().unwrap_or_default())),
            _ => None,
        }
    })
    .await
}

async fn begin(client: &mut Client, tool: &str) -> String {
    let answer = client.call(tool, json!({"text": "x"})).await;
    let id = answer.last()["result"]["taskId"].as_str();
    id.unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

fn asked(servers: &[&Server]) -> usize {
    let methods = ["tasks/get", "tasks/cancel", "tasks/update", "tasks/result"];
    servers.iter().flat_map(|server| methods.map(|method| server.got(method).len())).sum()
}

async fn clients(portal: &Running, bearer: &str) -> [Client; 2] {
    [Client::modern(portal.address).holding(bearer).begun().await, knowing(portal).holding(bearer)]
}

/// A stateless client that declares tasks.
pub fn knowing(portal: &Running) -> Client {
    Client::modern(portal.address).declaring(json!({"elicitation": {}, "extensions": {TASKS: {}}}))
}

#[tokio::test]
async fn a_task_of_one_era_is_unknown_in_the_other_even_to_its_owner_where_its_server_speaks_both() {
    let one = tasking("one", Speaks::Both).await;
    let (auth, [ada, _]) = two_tokens();
    let portal = Setup::of([("one", one.url())]).auth(auth).start().await;
    for (era, other) in [(0, 1), (1, 0)] {
        let mut clients = clients(&portal, &ada).await;
        let id = begin(&mut clients[era], "one_echo").await;
        let own = clients[era].request("tasks/get", json!({"taskId": id})).await;
        assert_eq!(own.last()["result"]["taskId"], json!(id), "{own:?}");
        let before = asked(&[&one]);
        for method in ["tasks/get", "tasks/cancel"] {
            let crossed = clients[other].request(method, json!({"taskId": id})).await;
            assert_eq!(crossed.last()["error"]["code"], -32602, "{method}: {crossed:?}");
        }
        assert_eq!(asked(&[&one]), before, "its server is not asked");
    }
}

#[tokio::test]
async fn a_task_is_its_owners_by_every_method_in_both_eras_and_behind_any_number_of_servers() {
    for speaks in [Speaks::Both] {
        let (one, two) = (tasking("one", speaks).await, tasking("two", speaks).await);
        for servers in [vec![("one", one.url())], vec![("one", one.url()), ("two", two.url())]] {
            let (auth, [ada, eve]) = two_tokens();
            let policy = "[{allow: {servers: ['*'], groups: [adas]}}, {allow: {servers: ['*'], tools: [echo], groups: [eves]}}]";
            let last = servers.last().unwrap().0;
            let portal = Setup::of(servers).auth(auth).policy(policy).start().await;
            for (era, mut owner) in clients(&portal, &ada).await.into_iter().enumerate() {
                let id = begin(&mut owner, &format!("{last}_delete_all")).await;
                let methods: &[&str] =
                    if era == 0 { &["tasks/get", "tasks/cancel", "tasks/result"] } else { &["tasks/get", "tasks/cancel", "tasks/update"] };
                for method in methods {
                    let own = owner.request(method, json!({"taskId": id})).await;
                    assert_eq!(own.last()["result"]["taskId"], json!(id), "{method}: {own:?}");
                }
                let before = asked(&[&one, &two]);
                for mut other in clients(&portal, &eve).await {
                    for method in methods {
                        let foreign = other.request(method, json!({"taskId": id})).await;
                        let unknown = other.request(method, json!({"taskId": "nothing"})).await;
                        let text =
                            |answer: &crate::client::Answer| answer.last()["error"]["message"].as_str().unwrap().replace(&id, "nothing");
                        assert_eq!(text(&foreign), text(&unknown), "whether it exists is not told");
                    }
                }
                assert_eq!(asked(&[&one, &two]), before, "no server was asked on behalf of somebody else");
            }
        }
    }
}

#[tokio::test]
async fn a_list_of_tasks_has_the_callers_own_and_those_of_tools_that_they_may_use() {
    let (one, two) = (tasking("one", Speaks::Legacy).await, tasking("two", Speaks::Legacy).await);
    let (auth, [ada, eve]) = two_tokens();
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).auth(auth).start().await;
    let [mut ada, _] = clients(&portal, &ada).await;
    let [mut eve, _] = clients(&portal, &eve).await;
    let mine = [begin(&mut ada, "one_echo").await, begin(&mut ada, "two_delete_all").await];
    let hers = begin(&mut eve, "one_echo").await;
    let list = async |client: &mut Client| -> Vec<String> { client.names("tasks/list", "tasks", "taskId").await };
    assert_eq!(list(&mut ada).await, mine);
    assert_eq!(list(&mut eve).await, [hers]);
    // A task whose tool policy takes away is gone from the list too.
    portal.regulate("[{allow: {servers: ['*'], tools: [echo]}}]");
    assert_eq!(list(&mut ada).await, mine[..1]);
    let gone = ada.request("tasks/get", json!({"taskId": mine[1]})).await;
    assert!(gone.last()["error"]["code"].is_i64(), "{gone:?}");
}

/// What a client gets of a task by each method of its era, and whether the task is in its list.
async fn reached(client: &mut Client, id: &str) -> Vec<&'static str> {
    let modern = client.session().is_empty();
    let methods = if modern { ["tasks/get", "tasks/cancel", "tasks/update"] } else { ["tasks/get", "tasks/cancel", "tasks/result"] };
    let mut reached = Vec::new();
    for method in methods {
        let answer = client.request(method, json!({"taskId": id})).await;
        if answer.last()["result"].is_object() {
            reached.push(method);
        }
    }
    if !modern && client.names("tasks/list", "tasks", "taskId").await.contains(&id.to_owned()) {
        reached.push("tasks/list");
    }
    reached
}

#[tokio::test]
async fn a_task_whose_id_was_used_before_belongs_only_to_the_latest_caller() {
    for (speaks, forgets) in [(Speaks::Both, true), (Speaks::Both, false)] {
        let next = Arc::new(AtomicUsize::new(1));
        let one = tasking_from("one", speaks, next.clone(), Arc::default()).await;
        let (auth, [ada, eve]) = two_tokens();
        let policy = "[{allow: {servers: ['*'], groups: [adas]}}, {allow: {servers: ['*'], tools: [echo], groups: [eves]}}]";
        let portal = Setup::of([("one", one.url())]).auth(auth).policy(policy).start().await;
        let mut before = clients(&portal, &eve).await;
        let mut ids = Vec::new();
        for client in &mut before {
            ids.push(begin(client, "one_echo").await);
        }
        for (client, id) in before.iter_mut().zip(&ids) {
            assert!(reached(client, id).await.len() >= 3, "{speaks:?}");
        }
        // The server starts to count again.
        next.store(1, Ordering::Relaxed);
        if forgets {
            one.forget_sessions();
        }
        let mut after = clients(&portal, &ada).await;
        let mut theirs = Vec::new();
        for client in &mut after {
            theirs.push(begin(client, "one_delete_all").await);
        }
        assert!(theirs.iter().all(|id| !ids.contains(id)), "what a client knows a task by is its owner's alone");
        let asked_before = asked(&[&one]);
        for client in &mut before {
            for id in ids.iter().chain(&theirs) {
                assert!(reached(client, id).await.is_empty(), "{speaks:?} {forgets}");
            }
        }
        if !forgets {
            assert_eq!(asked(&[&one]), asked_before, "no server was asked on behalf of somebody else");
        }
        for (client, id) in after.iter_mut().zip(&theirs) {
            assert!(reached(client, id).await.len() >= 3, "{speaks:?}");
        }
    }
}

#[tokio::test]
async fn of_two_tasks_with_one_id_in_two_sessions_each_caller_has_their_own_where_times_tell_them_apart() {
    let (next, minute) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(1)));
    let one = tasking_from("one", Speaks::Legacy, next.clone(), minute.clone()).await;
    let (auth, [ada, eve]) = two_tokens();
    let portal = Setup::of([("one", one.url())]).auth(auth).start().await;
    let [mut ada, _] = clients(&portal, &ada).await;
    let [mut eve, _] = clients(&portal, &eve).await;
    let id = begin(&mut ada, "one_echo").await;
    next.store(1, Ordering::Relaxed);
    minute.store(2, Ordering::Relaxed);
    let hers = begin(&mut eve, "one_echo").await;
    assert_ne!(hers, id);
    // The server answers in ada's session: with her task, then with the other.
    minute.store(1, Ordering::Relaxed);
    assert_eq!(reached(&mut ada, &id).await.len(), 4);
    minute.store(2, Ordering::Relaxed);
    let results = one.got("tasks/result").len();
    assert!(reached(&mut ada, &id).await.is_empty());
    assert_eq!((one.got("tasks/result").len(), one.got("tasks/cancel").len()), (results, 1), "it is looked at, and left alone");
    assert_eq!(reached(&mut eve, &hers).await.len(), 4);
}

#[tokio::test]
async fn without_a_log_in_a_task_belongs_to_the_session_that_began_it() {
    let one = tasking("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", one.url())]).start().await;
    let (mut owner, mut other) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    let id = begin(&mut owner, "one_echo").await;
    assert_eq!(owner.request("tasks/get", json!({"taskId": id})).await.last()["result"]["taskId"], json!(id));
    assert!(other.request("tasks/get", json!({"taskId": id})).await.last()["error"]["code"].is_i64());
    assert!(other.names("tasks/list", "tasks", "taskId").await.is_empty());
}

#[tokio::test]
async fn records_of_tasks_name_the_task() {
    let one = tasking("one", Speaks::Modern).await;
    let portal = Setup::of([("one", one.url())]).start().await;
    let mut client = knowing(&portal);
    let id = begin(&mut client, "one_echo").await;
    client.request("tasks/get", json!({"taskId": id})).await;
    client.request("tasks/cancel", json!({"taskId": "foreign"})).await;
    let records = portal.records(4).await;
    let of = |method: &str| records.iter().find(|record| record.method.as_deref() == Some(method)).unwrap();
    assert_eq!(of("tools/call").task.as_deref(), Some("one-1"), "its server's own id, as in names of tools");
    assert_eq!(of("tasks/get").task.as_deref(), Some("one-1"));
    assert_eq!((of("tasks/cancel").task.as_deref(), of("tasks/cancel").status), (Some("foreign"), Some(gnomon_audit::Status::Refused)));
}

#[tokio::test]
async fn news_of_a_task_reach_its_owner_only() {
    let one = tasking("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", one.url())]).start().await;
    let (mut owner, mut other) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    let id = begin(&mut owner, "one_echo").await;
    let foreign = begin(&mut other, "one_echo").await;
    let mut stream = owner.stand().await;
    let _other = other.stand().await;
    // The portal's own stream, and one for each session.
    one.heard_by(3).await;
    assert_ne!(foreign, id);
    for own in ["one-2", "one-1"] {
        one.say("notifications/tasks/status", json!({"taskId": own, "status": "completed"}));
    }
    let first = crate::client::next_event(&mut stream).await;
    assert_eq!(first["params"]["taskId"], json!(id), "{first}");
}

#[tokio::test]
async fn what_a_client_says_of_itself_is_kept_up_to_its_bound() {
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}, "experimental": {"x": "y".repeat(400_000)}}});
    params["clientInfo"] = json!({"name": "n".repeat(300_000), "version": "1", "vendor": "v".repeat(100_000)});
    let mut client = Client::modern(portal.address);
    let begun = client.post(&[], json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})).await;
    let session = begun.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "one_echo", "arguments": {"text": "x"}}});
    assert_eq!(client.post(&[("mcp-session-id", &session)], call).await.text(), "one: x");
    // The same in the stateless era, whose clients share sessions with servers.
    let (headers, mut body) = client.message("tools/call", json!({"name": "one_echo", "arguments": {"text": "x"}}));
    body["params"]["_meta"]["io.modelcontextprotocol/clientInfo"] = params["clientInfo"].clone();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(client.post(&headers, body).await.text(), "one: x");
    let told = server.got("initialize");
    assert_eq!(told.len(), 3, "the portal's own, the session's, and the stateless client's");
    assert!(told.iter().all(|got| got.raw.len() < 8 << 10), "{:?}", told.iter().map(|got| got.raw.len()).collect::<Vec<_>>());
    let own: Vec<&Value> = told.iter().map(|got| &got.body["params"]["capabilities"]).collect();
    assert!(own.contains(&&json!({"elicitation": {}})), "what it can do is still told: {own:?}");
}

#[tokio::test]
async fn a_caller_that_begins_sessions_without_end_takes_none_from_others() {
    let server = Server::start("one", Speaks::Legacy).await;
    let (auth, [ada, eve]) = two_tokens();
    let portal = Setup::of([("one", server.url())]).auth(auth).sessions(32).start().await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(Client::modern(portal.address).holding(&ada).begun().await);
    }
    let hog = Client::modern(portal.address).holding(&eve);
    for _ in 0..100 {
        assert_eq!(hog.initialize().await.status, 200);
    }
    for client in &mut sessions {
        assert_eq!(client.call("one_echo", json!({"text": "x"})).await.text(), "one: x");
    }
    let mut late = Client::modern(portal.address).holding(&ada).begun().await;
    assert_eq!(late.call("one_echo", json!({"text": "x"})).await.text(), "one: x");
}
