//! Servers that come and go while a portal serves: what changes is there at once, and what does not is not touched.

use crate::{
    Running, Setup,
    client::{Client, next_event},
    pools,
    programs::{self, READY},
    server::{Server, Speaks, closed_port},
    soon,
};
use gnomon_audit::{RecordKind, Status};
use gnomon_portal::Registration;
use gnomon_upstream::{
    Program, Reach, Transport,
    endpoint::{Endpoint, Limits},
};
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);

fn anew(id: &'static str, url: &str) -> Registration {
    let limits = Limits { patience: Duration::from_secs(20), message: 1 << 20 };
    let endpoint = Endpoint::new(pools(), id, url, http::HeaderMap::new(), limits).unwrap();
    Registration::Anew(id.into(), Reach::http(endpoint, Transport::Either))
}

fn as_before(id: &'static str) -> Registration {
    Registration::AsBefore(id.into())
}

impl Running {
    /// Offers these and no others.
    fn offer(&self, servers: Vec<Registration>) {
        self.portal.offer(servers);
    }

    /// Takes these out, and waits until nothing is open with them.
    async fn withdraw(&self, ids: &[&'static str], patience: Duration) {
        let parting = self.portal.withdraw(&ids.iter().map(|id| (*id).into()).collect(), patience);
        soon("nothing to be left of them", parting.is_over()).await;
    }

    /// Until no series of the metrics is of this server any more.
    async fn forgets(&self, server: &str) {
        soon("its series to go", async {
            while self.measures(server) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Whether any series of the metrics is of this server.
    fn measures(&self, server: &str) -> bool {
        self.metrics().lines().any(|line| line.starts_with("gnomon_portal") && line.contains(&format!("server=\"{server}\"")))
    }
}

/// The tools as a client sees them, once these words are among them or none is left of those that are not.
async fn tools(client: &mut Client, there: &str, gone: &str) -> Vec<String> {
    soon("the list", async {
        loop {
            let names = client.names("tools/list", "tools", "name").await;
            if names.iter().any(|name| name == there) && !names.iter().any(|name| name == gone) {
                return names;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_server_that_is_added_is_there_for_everybody_and_one_that_is_taken_out_for_nobody() {
    let (one, two) = (Server::start("one", Speaks::Both).await, Server::start("two", Speaks::Legacy).await);
    let portal = Setup::of([("one", one.url())]).start().await;
    let (mut session, mut stateless) = (Client::legacy(portal.address).await, Client::modern(portal.address));
    tools(&mut session, "one_echo", "").await;
    assert_eq!(session.call("one_echo", json!({"text": "x"})).await.text(), "one: x");
    let mut stream = session.stand().await;
    let (headers, listen) =
        stateless.message("subscriptions/listen", json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true}}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut subscription = stateless.open(&headers, listen).await.into_body();
    assert_eq!(next_event(&mut subscription).await["method"], "notifications/subscriptions/acknowledged");

    portal.offer(vec![as_before("one"), anew("two", &two.url())]);
    for told in [&mut stream, &mut subscription] {
        assert_eq!(next_event(told).await["method"], "notifications/tools/list_changed");
        assert_eq!(next_event(told).await["method"], "notifications/prompts/list_changed");
    }
    for client in [&mut session, &mut stateless] {
        assert_eq!(tools(client, "two_echo", "").await.len(), 12);
        assert_eq!(client.call("two_echo", json!({"text": "x"})).await.text(), "two: x");
        assert_eq!(client.names("prompts/list", "prompts", "name").await, ["one_greet", "two_greet"]);
        assert_eq!(client.names("resources/list", "resources", "uri").await, ["one+note://one/1", "two+note://two/1"]);
        let found = client.request("resources/read", json!({"uri": "two+note://two/1"})).await;
        assert_eq!(found.last()["result"]["contents"][0]["text"], "read from two");
    }
    assert!(portal.measures("two"));

    portal.withdraw(&["one"], PATIENCE).await;
    let mut told: Vec<String> = Vec::new();
    // The list of resources as well, in the session.
    while told.len() < 3 {
        told.push(next_event(&mut stream).await["method"].as_str().unwrap().to_owned());
    }
    assert!(told.iter().any(|method| method == "notifications/tools/list_changed"), "{told:?}");
    assert!(told.iter().any(|method| method == "notifications/prompts/list_changed"), "{told:?}");
    assert_eq!(next_event(&mut subscription).await["method"], "notifications/tools/list_changed");
    for client in [&mut session, &mut stateless] {
        assert_eq!(client.names("tools/list", "tools", "name").await.len(), 6);
        assert_eq!(message(client.call("one_echo", json!({"text": "x"})).await.last()), "Unknown tool: one_echo");
        assert_eq!(client.names("prompts/list", "prompts", "name").await, ["two_greet"]);
        assert_eq!(client.names("resources/list", "resources", "uri").await, ["two+note://two/1"]);
        client.request("resources/read", json!({"uri": "one+note://one/1"})).await;
        assert!(one.got("resources/read").is_empty(), "it is asked for nothing");
        assert_eq!(client.call("two_echo", json!({"text": "y"})).await.text(), "two: y", "the session goes on");
    }
    portal.forgets("one").await;
    assert!(portal.measures("two"), "{}", portal.metrics());
    let calls = one.got("tools/call").len();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(one.got("tools/call").len(), calls);
}

#[tokio::test]
async fn whoever_may_not_use_a_server_is_told_nothing_of_its_coming_and_going() {
    let (one, two, three) =
        (Server::start("one", Speaks::Both).await, Server::start("two", Speaks::Both).await, Server::start("three", Speaks::Both).await);
    let portal =
        Setup::of([("one", one.url())]).policy("[{allow: {servers: [one]}}, {allow: {servers: [three], tools: [echo]}}]").start().await;
    let mut session = Client::legacy(portal.address).await;
    tools(&mut session, "one_echo", "").await;
    let mut stream = session.stand().await;
    portal.offer(vec![as_before("one"), anew("two", &two.url())]);
    soon("the hidden server to be known", async {
        while !portal.metrics().contains(r#"gnomon_portal_server_up{portal="main",server="two"} 1"#) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    portal.withdraw(&["two"], PATIENCE).await;
    portal.offer(vec![as_before("one"), anew("three", &three.url())]);
    assert_eq!(next_event(&mut stream).await["method"], "notifications/tools/list_changed");
    assert!(session.names("tools/list", "tools", "name").await.contains(&"three_echo".to_owned()), "what it was told of is this");
}

#[tokio::test]
async fn a_call_that_is_under_way_with_a_server_that_is_taken_out_may_end_and_is_recorded() {
    let one = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", one.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    tools(&mut client, "one_ask", "").await;
    let session = client.session();
    let (_, body) = client.message("tools/call", json!({"name": "one_ask", "arguments": {}}));
    let mut answer = client.open(&[("mcp-session-id", &session)], body).await.into_body();
    let question = next_event(&mut answer).await;
    assert_eq!(question["method"], "elicitation/create");
    let parting = portal.portal.withdraw(&["one".into()].into(), PATIENCE);
    assert_eq!(message(client.call("one_echo", json!({"text": "x"})).await.last()), "Unknown tool: one_echo");
    let said = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"colour": "red"}}});
    client.post(&[("mcp-session-id", &session)], said).await;
    assert_eq!(next_event(&mut answer).await["result"]["content"][0]["text"], "one: red");
    soon("the server to be gone", parting.is_over()).await;
    let records = portal.records(1).await;
    let call = records.iter().find(|record| record.tool.as_deref() == Some("ask")).unwrap();
    assert_eq!((call.kind, call.status, call.server.as_deref()), (RecordKind::Call, Some(Status::Ok), Some("one")));
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_off_after_its_time_and_recorded() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let one = Server::start("one", speaks).await;
        let portal = Setup::of([]).start().await;
        for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
            portal.offer(vec![anew("one", &one.url())]);
            tools(&mut client, "one_wait", "").await;
            let (begun, before) = (Instant::now(), one.got("tools/call").len());
            let (waits, ()) = tokio::join!(client.call("one_wait", json!({})), async {
                soon("the call", async {
                    while one.got("tools/call").len() == before {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                })
                .await;
                portal.withdraw(&["one"], Duration::from_millis(300)).await;
            });
            assert!(message(waits.last()).contains("no longer offered"), "{waits:?}");
            assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
            portal.forgets("one").await;
        }
        let calls = |records: &[gnomon_audit::Record]| {
            let cut_off = |record: &&gnomon_audit::Record| record.error.as_deref() == Some("upstream_removed");
            records.iter().filter(|record| record.tool.as_deref() == Some("wait")).filter(cut_off).count()
        };
        soon("the records", async {
            while calls(&portal.records(1).await) < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_call_that_waits_for_its_client_ends_with_its_server() {
    let (one, other) = (Server::start("one", Speaks::Legacy).await, Server::start("one", Speaks::Legacy).await);
    let portal = Setup::of([("one", one.url())]).start().await;
    let mut client = Client::modern(portal.address);
    tools(&mut client, "one_ask", "").await;
    let asked = client.call("one_ask", json!({})).await;
    let state = asked.last()["result"]["requestState"].clone();
    assert!(state.is_string(), "{asked:?}");
    portal.withdraw(&["one"], Duration::from_millis(100)).await;
    portal.offer(vec![anew("one", &other.url())]);
    tools(&mut client, "one_ask", "").await;
    let params = json!({"name": "one_ask", "arguments": {}, "requestState": state, "inputResponses": {"question": {"action": "accept", "content": {"colour": "red"}}}});
    let again = client.request("tools/call", params).await;
    assert!(again.last()["error"].is_object(), "what took its place has not asked: {again:?}");
    assert!(other.got("tools/call").is_empty());
}

#[tokio::test]
async fn a_server_that_stays_keeps_its_sessions_and_one_that_takes_anothers_place_has_none_of_them() {
    let (one, other, two) = (
        Server::start("first", Speaks::Legacy).await,
        Server::start("second", Speaks::Legacy).await,
        Server::start("two", Speaks::Both).await,
    );
    let portal = Setup::of([("one", one.url())]).start().await;
    let (mut session, mut stateless) = (Client::legacy(portal.address).await, Client::modern(portal.address));
    tools(&mut session, "one_echo", "").await;
    for client in [&mut session, &mut stateless] {
        assert_eq!(client.call("one_echo", json!({"text": "x"})).await.text(), "first: x");
    }
    let opened = one.got("initialize").len();
    portal.offer(vec![anew("two", &two.url()), as_before("one")]);
    tools(&mut session, "two_echo", "").await;
    portal.withdraw(&["two"], PATIENCE).await;
    for client in [&mut session, &mut stateless] {
        assert_eq!(client.call("one_echo", json!({"text": "y"})).await.text(), "first: y");
    }
    assert_eq!(one.got("initialize").len(), opened, "nobody began another session");
    let of = |call: usize| one.got("tools/call")[call].headers["mcp-session-id"].clone();
    assert_eq!((of(0), of(1)), (of(2), of(3)));

    portal.withdraw(&["one"], PATIENCE).await;
    portal.offer(vec![anew("one", &other.url())]);
    tools(&mut session, "one_echo", "").await;
    for client in [&mut session, &mut stateless] {
        assert_eq!(client.call("one_echo", json!({"text": "z"})).await.text(), "second: z");
    }
    assert_eq!(one.got("tools/call").len(), 4, "the old one is not called");
    assert!(portal.measures("one"));
}

#[tokio::test]
async fn a_server_that_is_added_and_does_not_answer_holds_nobody_up_and_is_told_as_down() {
    let one = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", one.url())]).start().await;
    let mut client = Client::modern(portal.address);
    tools(&mut client, "one_echo", "").await;
    let begun = Instant::now();
    portal.offer(vec![as_before("one"), anew("gone", &format!("http://{}/mcp", closed_port()))]);
    let listed = client.request("tools/list", json!({})).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(listed.last()["result"]["tools"].as_array().unwrap().len(), 6);
    let missing = soon("why it is not there", async {
        loop {
            let listed = client.request("tools/list", json!({})).await;
            let missing = listed.last()["result"]["_meta"]["dev.gnomon/missing"].clone();
            if missing[0]["why"].as_str().is_some_and(|why| why.contains("nobody listens")) {
                return missing;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!((missing[0]["server"].as_str(), missing.as_array().unwrap().len()), (Some("gone"), 1));
    assert!(portal.metrics().contains(r#"gnomon_portal_server_down{portal="main",reason="refused",server="gone"} 1"#));
    portal.withdraw(&["gone"], PATIENCE).await;
    portal.forgets("gone").await;
}

#[tokio::test]
async fn scripts_find_and_call_what_was_added_and_nothing_that_was_taken_out() {
    let (one, two) = (Server::start("one", Speaks::Both).await, Server::start("two", Speaks::Both).await);
    let portal = Setup::of([("one", one.url())]).start().await;
    let mut client = Client::modern(portal.address).at("?codemode=search_and_execute");
    let mut plain = Client::modern(portal.address);
    tools(&mut plain, "one_echo", "").await;
    portal.withdraw(&["one"], PATIENCE).await;
    portal.offer(vec![anew("two", &two.url())]);
    tools(&mut plain, "two_echo", "").await;
    let code = "async () => (await codemode.search('echo', {limit: 50})).map(tool => tool.name)";
    let found = client.call("portal_codemode_search", json!({"code": code})).await;
    assert!(found.text().contains("two_echo") && !found.text().contains("one_echo"), "{found:?}");
    let done = client.call("portal_codemode_execute", json!({"code": "async () => codemode.two_echo({text: 'x'})"})).await;
    assert!(done.text().contains("two: x"), "{done:?}");
    let gone = client.call("portal_codemode_execute", json!({"code": "async () => codemode.one_echo({text: 'x'})"})).await;
    assert!(gone.last()["result"]["isError"] == true, "{gone:?}");
    assert!(one.got("tools/call").is_empty());
}

/// Where a process is known by the kernel.
fn process(pid: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

#[tokio::test]
async fn processes_of_a_program_stay_with_it_and_end_with_it() {
    if !gnomon_testkit::has("processes_of_a_program_stay_with_it_and_end_with_it", &["python3"]) {
        return;
    }
    for mode in ["legacy", "modern"] {
        let two = Server::start("two", Speaks::Both).await;
        let program = || Program::new(programs::options(READY, mode));
        let portal = programs::listed(Setup::of([]).program("local", program()).start().await).await;
        let (mut session, mut stateless) = (Client::legacy(portal.address).await, Client::modern(portal.address));
        let before =
            [session.call("local_pid", json!({})).await.text().to_owned(), stateless.call("local_pid", json!({})).await.text().to_owned()];
        portal.offer(vec![as_before("local"), anew("two", &two.url())]);
        tools(&mut session, "two_echo", "").await;
        portal.withdraw(&["two"], PATIENCE).await;
        let after =
            [session.call("local_pid", json!({})).await.text().to_owned(), stateless.call("local_pid", json!({})).await.text().to_owned()];
        assert_eq!(before, after, "{mode}");
        assert!(before.iter().all(|pid| process(pid).exists()), "{mode}: {before:?}");

        portal.withdraw(&["local"], PATIENCE).await;
        let again: Arc<Program> = program();
        portal.offer(vec![Registration::Anew("local".into(), Reach::Program(again.clone()))]);
        tools(&mut session, "local_pid", "").await;
        let now = session.call("local_pid", json!({})).await.text().to_owned();
        assert!(!now.is_empty() && !before.contains(&now), "{mode}: {now}");
        soon("the old processes to end", async {
            while before.iter().any(|pid| process(pid).exists()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert!(process(&now).exists(), "{mode}");
        again.stop().await;
    }
}
