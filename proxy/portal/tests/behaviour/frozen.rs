//! A server whose process is stopped (SIGSTOP): its connections stay open, and nothing is sent on them.

use crate::{Setup, client::Client, soon};
use serde_json::json;
use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const SILENT: &str = r#"gnomon_portal_server_silent_timestamp_seconds{portal="main",server="slow"}"#;

/// A server in a process of its own; killed when dropped.
struct Stoppable {
    child: Child,
    url: String,
}

impl Stoppable {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(arguments: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/behaviour/freezes.py");
        let mut child = Command::new("python3").arg(script).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, url: format!("http://127.0.0.1:{}/mcp", port.trim()) }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Stoppable {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn calls_under_way_end_after_half_of_their_patience_where_their_server_is_known_to_be_frozen_and_say_so() {
    if !gnomon_testkit::has(
        "calls_under_way_end_after_half_of_their_patience_where_their_server_is_known_to_be_frozen_and_say_so",
        &["python3", "kill"],
    ) {
        return;
    }
    let server = Stoppable::start();
    let mut setup = Setup::of([("bad", server.url.clone())]);
    setup.limits.patience = Duration::from_secs(40);
    let portal = setup.start().await;
    let (mut one, mut two) = (Client::legacy(portal.address).await, Client::modern(portal.address));
    for client in [&mut one, &mut two] {
        assert_eq!(client.call("bad_echo", json!({})).await.text(), "done");
    }
    let ends = async |client: &mut Client| {
        let begun = Instant::now();
        let answer = client.call("bad_wait", json!({"seconds": 600})).await;
        (answer.last()["error"]["message"].as_str().unwrap_or_default().to_owned(), begun.elapsed())
    };
    let mut three = Client::modern(portal.address);
    let stopped = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.signal("-STOP");
        assert_eq!(silent(&mut three).await, serde_json::Value::Null, "it was heard just now");
        let begun = Instant::now();
        while silent(&mut three).await[0]["server"] != "bad" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        begun.elapsed()
    };
    let (first, second, named) = soon("the calls to end", async { tokio::join!(ends(&mut one), ends(&mut two), stopped) }).await;
    assert!(named < Duration::from_secs(20), "it is named while its calls are under way: {named:?}");
    for (told, took) in [first, second] {
        assert!(told.starts_with("server `bad`: it is frozen"), "{told}");
        assert!(took < Duration::from_secs(25), "{took:?}");
    }
    // A call that begins now fails at once, and says why.
    let begun = Instant::now();
    let told = one.call("bad_echo", json!({})).await;
    let told = told.last()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(told.contains("server `bad`") && told.contains("frozen") && begun.elapsed() < Duration::from_secs(1), "{told}");
    server.signal("-CONT");
    soon("the server to be back", async {
        while one.call("bad_echo", json!({})).await.text() != "done" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    // It may have been working on the call, so a call that takes longer has its full time from now on.
    server.signal("-STOP");
    let waits = one.call("bad_wait", json!({"seconds": 1}));
    let goes_on = async {
        tokio::time::sleep(Duration::from_secs(22)).await;
        server.signal("-CONT");
    };
    assert_eq!(tokio::join!(waits, goes_on).0.text(), "done");
}

/// The servers that a list says are at calls and answer nobody else.
async fn silent(client: &mut Client) -> serde_json::Value {
    client.request("tools/list", json!({})).await.last()["result"]["_meta"]["dev.gnomon/silent"].clone()
}

#[tokio::test]
async fn a_server_that_does_one_thing_at_a_time_is_not_frozen_while_it_is_at_a_call_and_others_wait_in_line() {
    if !gnomon_testkit::has(
        "a_server_that_does_one_thing_at_a_time_is_not_frozen_while_it_is_at_a_call_and_others_wait_in_line",
        &["python3"],
    ) {
        return;
    }
    let server = Stoppable::with(&["--one"]);
    let mut setup = Setup::of([("slow", server.url.clone())]);
    setup.limits.patience = Duration::from_secs(56);
    let portal = setup.start().await;
    let (mut one, mut two) = (Client::legacy(portal.address).await, Client::modern(portal.address));
    for client in [&mut one, &mut two] {
        assert_eq!(client.call("slow_echo", json!({})).await.text(), "done");
    }
    let works = async { one.call("slow_wait", json!({"seconds": 24})).await.text().to_owned() };
    let waits = async {
        // Past the first look at it that it does not answer.
        tokio::time::sleep(Duration::from_secs(19)).await;
        let list = two.request("tools/list", json!({})).await;
        let meta = &list.last()["result"]["_meta"];
        assert_eq!(meta["dev.gnomon/missing"], serde_json::Value::Null, "{list:?}");
        assert_eq!(meta["dev.gnomon/silent"][0]["server"], "slow", "whoever waits in line can know why: {list:?}");
        assert!(!portal.metrics().contains(&format!("{SILENT} 0")), "{}", portal.metrics());
        two.call("slow_echo", json!({})).await.text().to_owned()
    };
    assert_eq!(soon("both", async { tokio::join!(works, waits) }).await, ("done".to_owned(), "done".to_owned()));
    assert!(portal.metrics().contains(r#"gnomon_portal_server_up{portal="main",server="slow"} 1"#));
    assert_eq!(silent(&mut two).await, serde_json::Value::Null, "it was only at work");
    soon("the metric to say so", async {
        while !portal.metrics().contains(&format!("{SILENT} 0")) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_call_that_reports_progress_goes_on_although_its_server_answers_no_other_client() {
    if !gnomon_testkit::has("a_call_that_reports_progress_goes_on_although_its_server_answers_no_other_client", &["python3"]) {
        return;
    }
    let server = Stoppable::start();
    let portal = Setup::of([("bad", server.url.clone())]).start().await;
    let (mut one, mut two) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    assert_eq!(one.call("bad_echo", json!({})).await.text(), "done");
    let works = async { one.call("bad_work", json!({"seconds": 26})).await.text().to_owned() };
    let known = async {
        tokio::time::sleep(Duration::from_secs(23)).await;
        let list = two.request("tools/list", json!({})).await;
        list.last()["result"]["_meta"]["dev.gnomon/missing"].clone()
    };
    let (worked, missing) = soon("the work", async { tokio::join!(works, known) }).await;
    assert_eq!((worked.as_str(), missing), ("worked", serde_json::Value::Null), "it is at work, and not gone");
}
