//! Servers that are programs, as the portal supervises them. Their confinement is tested elsewhere (`tests/e2e/confined.rs`); here a shell
//! stands in for it and reports that it is done.

use crate::{
    Running, Setup,
    admission::tokens_of,
    client::{Answer, Client},
    soon,
};
use gnomon_upstream::{Program, ProgramLimits, ProgramOptions};
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    sync::Arc,
    time::{Duration, Instant},
};

pub const READY: &str = r#"{"ready":{"layers":["files"],"missing":[]}}"#;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/behaviour/program.py");

pub fn options(report: &str, mode: &str) -> ProgramOptions {
    let line = r#"printf '%s\n' "$1" >&2; exec python3 "$2" $3"#;
    let command = ["/bin/sh", "-c", line, "sh", report, SCRIPT, mode].map(OsString::from).to_vec();
    let path = std::env::var_os("PATH").unwrap();
    ProgramOptions {
        id: "local".into(),
        command,
        environment: vec![("PATH".into(), path), ("HOME".into(), std::env::temp_dir().into()), ("KEY".into(), "geheim".into())],
        secrets: vec!["geheim".to_owned()],
        limits: ProgramLimits {
            patience: Duration::from_secs(20),
            message: 1 << 20,
            grace: Duration::from_millis(500),
            ..ProgramLimits::default()
        },
        layers: None,
    }
}

fn program(mode: &str) -> Arc<Program> {
    Program::new(options(READY, mode))
}

/// Calls until the answer is as expected: a process that ended is not restarted at once.
async fn until(client: &mut Client, tool: &str, arguments: Value, fits: impl Fn(&Answer) -> bool) -> Answer {
    soon(tool, async {
        loop {
            let answer = client.call(tool, arguments.clone()).await;
            if fits(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

/// Waits until the portal lists its program's tools: lists do not wait for a program that starts slowly.
pub async fn listed(portal: Running) -> Running {
    let client = Client::modern(portal.address);
    listed_for(portal, client).await
}

/// The same, as seen by this client.
async fn listed_for(portal: Running, mut client: Client) -> Running {
    soon("the program's tools", async {
        while client.names("tools/list", "tools", "name").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    portal
}

fn message(answer: &Answer) -> &str {
    answer.last()["error"]["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn clients_of_both_eras_use_programs_of_both_eras() {
    if !gnomon_testkit::has("clients_of_both_eras_use_programs_of_both_eras", &["python3"]) {
        return;
    }
    for mode in ["legacy", "modern"] {
        let portal = listed(Setup::of([]).program("local", program(mode)).start().await).await;
        for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
            assert!(client.names("tools/list", "tools", "name").await.contains(&"local_echo".to_owned()), "{mode}");
            let spread = client.call("local_echo", json!({"text": "grüße\nzwei\r\n"})).await;
            assert_eq!(spread.text(), "grüße\nzwei\r\n", "{mode}: {spread:?}");
            let missing = client.call("local_nothing", json!({})).await;
            assert!(message(&missing).contains("Unknown tool"), "{missing:?}");
        }
    }
}

#[tokio::test]
async fn a_call_of_a_program_is_an_event_that_says_nothing_of_http() {
    if !gnomon_testkit::has("a_call_of_a_program_is_an_event_that_says_nothing_of_http", &["python3"]) {
        return;
    }
    let portal = listed(Setup::of([]).program("local", program("legacy")).start().await).await;
    let mut client = Client::legacy(portal.address).await;
    assert_eq!(client.call("local_echo", json!({"text": "x"})).await.text(), "x");
    // The list was fetched at the start.
    let events = portal.events(2).await;
    let call = events.iter().find(|event| event["mcp.method.name"] == "tools/call").unwrap();
    for (field, value) in [
        ("gnomon.channel", json!("stdio")),
        ("gnomon.server.id", json!("local")),
        ("gnomon.confidence", json!("confirmed")),
        ("gen_ai.tool.name", json!("echo")),
        ("gnomon.sanctioned", json!(true)),
    ] {
        assert_eq!(call[field], value, "{field} of {call:#}");
    }
    for field in ["http.request.method", "http.response.status_code", "url.path", "url.full", "network.protocol.version"] {
        assert_eq!(call.get(field), None, "{field} of {call:#}");
    }
}

#[tokio::test]
async fn progress_comes_back_under_the_token_of_whoever_called() {
    if !gnomon_testkit::has("progress_comes_back_under_the_token_of_whoever_called", &["python3"]) {
        return;
    }
    let portal = listed(Setup::of([]).program("local", program("legacy")).start().await).await;
    let mut client = Client::legacy(portal.address).await;
    let answer = client.request("tools/call", json!({"name": "local_progress", "arguments": {}, "_meta": {"progressToken": "mine"}})).await;
    assert_eq!(answer.text(), "progressed");
    assert!(answer.messages.iter().any(|message| message["params"]["progressToken"] == "mine"), "{answer:?}");
}

#[tokio::test]
async fn what_a_program_logs_is_told_to_a_stateless_client_within_its_call_from_the_level_on_that_it_asks_for() {
    let name = "what_a_program_logs_is_told_to_a_stateless_client_within_its_call_from_the_level_on_that_it_asks_for";
    if !gnomon_testkit::has(name, &["python3"]) {
        return;
    }
    for mode in ["legacy", "modern"] {
        let portal = listed(Setup::of([]).program("local", program(mode)).start().await).await;
        for capabilities in [json!({}), json!({"elicitation": {}})] {
            let mut client = Client::modern(portal.address).declaring(capabilities);
            for (level, heard) in [("warning", vec!["warning"]), ("debug", vec!["debug", "warning"]), ("error", vec![])] {
                let meta = json!({"io.modelcontextprotocol/logLevel": level});
                let answer = client.request("tools/call", json!({"name": "local_log", "arguments": {"text": "x"}, "_meta": meta})).await;
                assert_eq!(answer.text(), "logged", "{mode}: {answer:?}");
                let told: Vec<_> = answer.messages.iter().filter_map(|message| message["params"]["level"].as_str()).collect();
                assert_eq!(told, heard, "{mode} {level}");
            }
            let answer = client.call("local_log", json!({"text": "x"})).await;
            assert_eq!((answer.messages.len(), answer.text()), (1, "logged"), "{mode}: who does not ask is told nothing");
            if mode == "legacy" {
                assert_eq!(client.call("local_level", json!({})).await.text(), "debug", "the least serious that was asked for");
            }
        }
    }
}

#[tokio::test]
async fn what_a_program_that_all_share_logs_is_told_to_a_session_within_its_call_from_the_level_on_that_it_set() {
    let name = "what_a_program_that_all_share_logs_is_told_to_a_session_within_its_call_from_the_level_on_that_it_set";
    if !gnomon_testkit::has(name, &["python3"]) {
        return;
    }
    let portal = listed(Setup::of([]).program("local", program("modern")).start().await).await;
    let (mut one, mut other) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    for (level, heard) in [("warning", vec!["warning"]), ("debug", vec!["debug", "warning"]), ("error", vec![])] {
        let set = one.request("logging/setLevel", json!({"level": level})).await;
        assert!(set.last()["result"].is_object(), "{set:?}");
        let answer = one.call("local_log", json!({"text": "x"})).await;
        assert_eq!(answer.text(), "logged", "{answer:?}");
        let told: Vec<_> = answer.messages.iter().filter_map(|message| message["params"]["level"].as_str()).collect();
        assert_eq!(told, heard, "{level}");
        let answer = other.call("local_log", json!({"text": "x"})).await;
        assert_eq!((answer.messages.len(), answer.text()), (1, "logged"), "who does not ask is told nothing");
    }
}

#[tokio::test]
async fn a_rule_that_refuses_a_level_of_logs_refuses_it_to_clients_of_both_eras_and_no_call_for_it() {
    let name = "a_rule_that_refuses_a_level_of_logs_refuses_it_to_clients_of_both_eras_and_no_call_for_it";
    if !gnomon_testkit::has(name, &["python3"]) {
        return;
    }
    let setup = Setup::of([]).program("local", program("legacy")).rule("block", "mcp.method.name: logging/setLevel");
    let portal = listed(setup.start().await).await;
    let (mut stateless, mut within) = (Client::modern(portal.address), Client::legacy(portal.address).await);
    let meta = json!({"io.modelcontextprotocol/logLevel": "debug"});
    let answer = stateless.request("tools/call", json!({"name": "local_level", "arguments": {}, "_meta": meta})).await;
    assert_eq!((answer.last().get("error"), answer.text()), (None, ""), "{answer:?}");
    within.request("logging/setLevel", json!({"level": "debug"})).await;
    let answer = within.call("local_level", json!({})).await;
    assert_eq!((answer.last().get("error"), answer.text()), (None, ""), "{answer:?}");
}

#[tokio::test]
async fn each_session_has_a_process_of_its_own_and_a_stateless_server_has_one_for_all() {
    if !gnomon_testkit::has("each_session_has_a_process_of_its_own_and_a_stateless_server_has_one_for_all", &["python3"]) {
        return;
    }
    let portal = listed(Setup::of([]).program("local", program("legacy")).start().await).await;
    let (mut one, mut two) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    assert_eq!(one.call("local_remember", json!({"text": "mine"})).await.text(), "kept");
    assert_eq!(one.call("local_recall", json!({})).await.text(), "mine");
    assert_eq!(two.call("local_recall", json!({})).await.text(), "", "nobody sees what another session keeps");
    let portal = listed(Setup::of([]).program("local", program("modern")).start().await).await;
    let (mut one, mut two) = (Client::legacy(portal.address).await, Client::modern(portal.address));
    assert_eq!(one.call("local_pid", json!({})).await.text(), two.call("local_pid", json!({})).await.text());
}

#[tokio::test]
async fn a_program_that_ends_in_the_middle_of_a_call_costs_that_call_and_no_other_session() {
    if !gnomon_testkit::has("a_program_that_ends_in_the_middle_of_a_call_costs_that_call_and_no_other_session", &["python3"]) {
        return;
    }
    let portal = listed(Setup::of([]).program("local", program("legacy")).start().await).await;
    let (mut one, mut two) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    let other = two.call("local_pid", json!({})).await.text().to_owned();
    let failed = one.call("local_die", json!({})).await;
    assert!(message(&failed).starts_with("server `local`: it broke off"), "{failed:?}");
    assert_eq!(until(&mut one, "local_echo", json!({"text": "again"}), |answer| answer.text() == "again").await.text(), "again");
    assert_eq!(two.call("local_pid", json!({})).await.text(), other, "the other one runs on");
}

#[tokio::test]
async fn a_stateless_program_that_ends_is_started_again() {
    if !gnomon_testkit::has("a_stateless_program_that_ends_is_started_again", &["python3"]) {
        return;
    }
    let portal = listed(Setup::of([]).program("local", program("modern")).start().await).await;
    let mut client = Client::modern(portal.address);
    let before = client.call("local_pid", json!({})).await.text().to_owned();
    client.call("local_die", json!({})).await;
    let after = until(&mut client, "local_pid", json!({}), |answer| !answer.text().is_empty()).await;
    assert_ne!(after.text(), before);
}

#[tokio::test]
async fn a_program_that_keeps_ending_is_left_alone_and_whoever_asks_is_told() {
    if !gnomon_testkit::has("a_program_that_keeps_ending_is_left_alone_and_whoever_asks_is_told", &["python3"]) {
        return;
    }
    let portal = Setup::of([]).program("local", program("fails")).start().await;
    let client = Client::modern(portal.address);
    let told = soon("the reason", async {
        loop {
            let answer = client.initialize().await;
            let told = answer.last()["result"]["instructions"].as_str().unwrap_or_default().to_owned();
            if told.contains("times within moments of its start; it is started again in") {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(!told.contains("program.py"), "no path is told: {told}");
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_and_the_next_call_finds_another() {
    if !gnomon_testkit::has("a_program_that_hangs_is_ended_and_the_next_call_finds_another", &["python3"]) {
        return;
    }
    let mut options = options(READY, "legacy");
    options.limits.patience = Duration::from_secs(2);
    let program = Program::new(options);
    let portal = listed(Setup::of([]).program("local", program.clone()).start().await).await;
    let (mut one, mut two) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    let before = one.call("local_pid", json!({})).await.text().to_owned();
    let hanging = tokio::spawn(async move {
        let answer = one.call("local_hang", json!({})).await;
        (one, answer)
    });
    assert_eq!(two.call("local_echo", json!({"text": "x"})).await.text(), "x", "another session is not held up");
    let (mut one, hung) = soon("the answer", hanging).await.unwrap();
    assert!(message(&hung).starts_with("server `local`: it "), "{hung:?}");
    let after = one.call("local_pid", json!({})).await;
    assert!(!after.text().is_empty() && after.text() != before, "the very next one: {after:?}");
    // No keeper stands beside it here, and it does not see that its input ends.
    soon("everything to stop", program.stop()).await;
}

#[tokio::test]
async fn a_program_that_is_frozen_is_replaced_within_twenty_seconds_and_no_call_is_lost_for_it() {
    let name = "a_program_that_is_frozen_is_replaced_within_twenty_seconds_and_no_call_is_lost_for_it";
    if !gnomon_testkit::has(name, &["python3", "kill"]) {
        return;
    }
    for mode in ["legacy", "modern"] {
        let mut options = options(READY, mode);
        options.limits.patience = Duration::from_secs(120);
        let program = Program::new(options);
        let portal = listed(Setup::of([]).program("local", program.clone()).start().await).await;
        let mut client = Client::legacy(portal.address).await;
        let before = client.call("local_pid", json!({})).await.text().to_owned();
        let stopped = std::process::Command::new("kill").args(["-STOP", &before]).status().unwrap();
        assert!(stopped.success());
        // It is asked whether it is there where it said nothing for a while.
        tokio::time::sleep(Duration::from_millis(10_500)).await;
        let begun = Instant::now();
        let after = client.call("local_pid", json!({})).await;
        assert!(!after.text().is_empty() && after.text() != before, "{mode}: {after:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{mode}: {:?}", begun.elapsed());
        let _ = std::process::Command::new("kill").args(["-KILL", &before]).status();
        soon("everything to stop", program.stop()).await;
    }
}

#[tokio::test]
async fn a_program_that_hangs_at_a_call_is_named_within_twenty_seconds_and_not_ended_for_it_as_it_may_be_at_work() {
    let name = "a_program_that_hangs_at_a_call_is_named_within_twenty_seconds_and_not_ended_for_it_as_it_may_be_at_work";
    if !gnomon_testkit::has(name, &["python3"]) {
        return;
    }
    for mode in ["legacy", "modern"] {
        let mut options = options(READY, mode);
        options.limits.patience = Duration::from_secs(60);
        let portal = listed(Setup::of([]).program("local", Program::new(options)).start().await).await;
        let (mut busy, mut other) = (Client::legacy(portal.address).await, Client::modern(portal.address));
        assert_eq!(busy.call("local_echo", json!({"text": "x"})).await.text(), "x");
        let works = async { busy.call("local_slow", json!({"seconds": 26})).await.text().to_owned() };
        let named = async {
            let begun = Instant::now();
            loop {
                let list = other.request("tools/list", json!({})).await;
                let meta = &list.last()["result"]["_meta"];
                assert_eq!(meta["dev.gnomon/missing"], Value::Null, "{list:?}");
                if meta["dev.gnomon/silent"][0]["server"] == "local" {
                    break begun.elapsed();
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let (done, named) = soon("the call", async { tokio::join!(works, named) }).await;
        assert_eq!(done, "done", "{mode}: it was at work");
        assert!(named < Duration::from_secs(22), "{mode}: {named:?}");
        let list = other.request("tools/list", json!({})).await;
        assert_eq!(list.last()["result"]["_meta"]["dev.gnomon/silent"], Value::Null, "{mode}: {list:?}");
    }
}

#[tokio::test]
async fn a_program_that_all_share_is_not_frozen_while_it_is_at_a_call_and_others_wait_in_line() {
    if !gnomon_testkit::has("a_program_that_all_share_is_not_frozen_while_it_is_at_a_call_and_others_wait_in_line", &["python3"]) {
        return;
    }
    let mut options = options(READY, "modern");
    options.limits.patience = Duration::from_secs(60);
    let portal = listed(Setup::of([]).program("local", Program::new(options)).start().await).await;
    let (mut one, mut two) = (Client::modern(portal.address), Client::modern(portal.address));
    let works = async { one.call("local_slow", json!({"seconds": 24})).await.text().to_owned() };
    let waits = async {
        // Past the time in which its lists, which it says have changed, would have been told.
        tokio::time::sleep(Duration::from_millis(22_500)).await;
        two.call("local_echo", json!({"text": "x"})).await.text().to_owned()
    };
    assert_eq!(soon("both", async { tokio::join!(works, waits) }).await, ("done".to_owned(), "x".to_owned()));
}

#[tokio::test]
async fn a_line_that_is_not_a_message_is_skipped_and_a_line_without_an_end_ends_the_process() {
    if !gnomon_testkit::has("a_line_that_is_not_a_message_is_skipped_and_a_line_without_an_end_ends_the_process", &["python3"]) {
        return;
    }
    let portal = listed(Setup::of([]).program("local", program("legacy")).start().await).await;
    let mut client = Client::legacy(portal.address).await;
    assert_eq!(client.call("local_garbage", json!({})).await.text(), "said");
    let before = client.call("local_pid", json!({})).await.text().to_owned();
    assert_eq!(client.call("local_giant", json!({"bytes": 1000})).await.text(), "said");
    let failed = client.call("local_giant", json!({"bytes": 4 << 20})).await;
    assert!(message(&failed).starts_with("server `local`: it broke off"), "{failed:?}");
    let after = until(&mut client, "local_pid", json!({}), |answer| !answer.text().is_empty()).await;
    assert_ne!(after.text(), before);
}

#[tokio::test]
async fn a_program_that_does_not_know_the_stateless_era_and_says_nothing_to_it_is_found_to_be_of_the_older() {
    if !gnomon_testkit::has(
        "a_program_that_does_not_know_the_stateless_era_and_says_nothing_to_it_is_found_to_be_of_the_older",
        &["python3"],
    ) {
        return;
    }
    let portal = Setup::of([]).program("local", program("deaf")).start().await;
    let mut client = Client::modern(portal.address);
    soon("the tools", async {
        while client.names("tools/list", "tools", "name").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(client.call("local_echo", json!({"text": "x"})).await.text(), "x");
}

#[tokio::test]
async fn a_program_that_may_not_be_run_is_named_in_words_that_tell_nothing_of_this_host() {
    if !gnomon_testkit::has("a_program_that_may_not_be_run_is_named_in_words_that_tell_nothing_of_this_host", &["python3"]) {
        return;
    }
    let refused = r#"{"refused":{"told":"its program is not the one that is pinned","why":"/opt/x is not the file"}}"#;
    let portal = Setup::of([]).program("local", Program::new(options(refused, "legacy"))).start().await;
    let mut client = Client::modern(portal.address);
    let missing = soon("the reason", async {
        loop {
            let list = client.request("tools/list", json!({})).await;
            let missing = list.last()["result"]["_meta"]["dev.gnomon/missing"][0]["why"].as_str().unwrap_or_default().to_owned();
            if missing.contains("pinned") {
                return missing;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(missing.starts_with("its program is not the one that is pinned") && !missing.contains("/opt"), "{missing}");
}

#[tokio::test]
async fn no_more_processes_run_than_allowed_and_a_session_beyond_that_is_an_error_with_the_reason() {
    if !gnomon_testkit::has("no_more_processes_run_than_allowed_and_a_session_beyond_that_is_an_error_with_the_reason", &["python3"]) {
        return;
    }
    let mut options = options(READY, "legacy");
    options.limits.instances = 2;
    let portal = Setup::of([]).program("local", Program::new(options)).start().await;
    // One of the processes is the portal's own.
    let (mut one, mut two) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    assert_eq!(one.call("local_echo", json!({"text": "1"})).await.text(), "1");
    let refused = two.call("local_echo", json!({"text": "2"})).await;
    assert!(message(&refused).contains("2 sessions use it already"), "{refused:?}");
    assert_eq!(one.call("local_echo", json!({"text": "3"})).await.text(), "3", "and the server is not taken for gone");
}

#[tokio::test]
async fn a_process_ends_with_its_session_and_all_of_them_when_they_are_stopped() {
    if !gnomon_testkit::has("a_process_ends_with_its_session_and_all_of_them_when_they_are_stopped", &["python3"]) {
        return;
    }
    let program = program("legacy");
    let portal = listed(Setup::of([]).program("local", program.clone()).start().await).await;
    let mut client = Client::legacy(portal.address).await;
    let pid = client.call("local_pid", json!({})).await.text().to_owned();
    let session = client.session();
    client.send(http::Method::DELETE, &[("mcp-session-id", &session)], String::new()).await;
    gone(&pid).await;
    let mut client = Client::legacy(portal.address).await;
    let pid = client.call("local_pid", json!({})).await.text().to_owned();
    soon("everything to stop", program.stop()).await;
    gone(&pid).await;
    let refused = client.call("local_pid", json!({})).await;
    assert_ne!(refused.last()["error"], Value::Null, "{refused:?}");
}

async fn gone(pid: &str) {
    soon("the process to end", async {
        while std::path::Path::new("/proc").join(pid).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ends_its_own_process_again_and_again_costs_no_other_session_its_start() {
    if !gnomon_testkit::has("a_session_that_ends_its_own_process_again_and_again_costs_no_other_session_its_start", &["python3"]) {
        return;
    }
    let portal = listed(Setup::of([]).program("local", program("legacy")).start().await).await;
    let mut one = Client::legacy(portal.address).await;
    // Until it is not restarted for a while.
    until(&mut one, "local_die", json!({}), |answer| message(answer).contains("it ended 5 times")).await;
    let mut two = Client::legacy(portal.address).await;
    assert_eq!(two.call("local_echo", json!({"text": "x"})).await.text(), "x");
    assert!(message(&one.call("local_echo", json!({"text": "x"})).await).contains("is started again in"));
}

#[tokio::test]
async fn a_program_that_answers_under_a_wrong_id_or_writes_half_a_line_keeps_its_caller_for_a_bounded_time_and_they_are_told() {
    let name = "a_program_that_answers_under_a_wrong_id_or_writes_half_a_line_keeps_its_caller_for_a_bounded_time_and_they_are_told";
    if !gnomon_testkit::has(name, &["python3"]) {
        return;
    }
    for mode in ["legacy", "modern"] {
        let mut options = options(READY, mode);
        options.limits.patience = Duration::from_secs(2);
        let portal = listed(Setup::of([]).program("local", Program::new(options)).start().await).await;
        let mut clients = [Client::legacy(portal.address).await, Client::modern(portal.address)];
        for client in &mut clients {
            until(client, "local_echo", json!({"text": "at first"}), |answer| answer.text() == "at first").await;
            let began = Instant::now();
            let wrong = client.call("local_wrong_id", json!({})).await;
            assert!(message(&wrong).contains("an id that no request has"), "{mode}: {wrong:?}");
            assert!(began.elapsed() < Duration::from_secs(2), "{mode}: {:?}", began.elapsed());
        }
        for client in &mut clients {
            let began = Instant::now();
            let half = client.call("local_half", json!({})).await;
            assert!(message(&half).starts_with("server `local`: it "), "{mode}: {half:?}");
            assert!(began.elapsed() < Duration::from_secs(10), "{mode}: {:?}", began.elapsed());
            until(client, "local_echo", json!({"text": "again"}), |answer| answer.text() == "again").await;
        }
    }
}

#[tokio::test]
async fn seven_others_have_processes_at_once_although_one_caller_has_taken_what_one_may() {
    if !gnomon_testkit::has("seven_others_have_processes_at_once_although_one_caller_has_taken_what_one_may", &["python3"]) {
        return;
    }
    let names = ["hog", "o1", "o2", "o3", "o4", "o5", "o6", "o7"];
    let (auth, tokens) = tokens_of(names);
    let portal = Setup::of([]).auth(auth).program("local", program("legacy")).start().await;
    let first = Client::modern(portal.address).holding(&tokens[0]);
    let portal = listed_for(portal, first).await;
    let mut held = Vec::new();
    loop {
        let mut client = Client::modern(portal.address).holding(&tokens[0]).begun().await;
        let answer = client.call("local_pid", json!({})).await;
        if answer.text().is_empty() {
            assert!(message(&answer).contains("12 sessions of yours use it already"), "{answer:?}");
            break;
        }
        held.push(client);
    }
    assert_eq!(held.len(), 12, "three quarters");
    for token in &tokens[1..] {
        let mut client = Client::modern(portal.address).holding(token).begun().await;
        let answer = client.call("local_pid", json!({})).await;
        assert!(!answer.text().is_empty(), "{answer:?}");
        held.push(client);
    }
}

#[tokio::test]
async fn calls_that_go_on_and_on_in_as_many_processes_as_one_caller_may_have_leave_room_for_another() {
    if !gnomon_testkit::has("calls_that_go_on_and_on_in_as_many_processes_as_one_caller_may_have_leave_room_for_another", &["python3"]) {
        return;
    }
    let (auth, tokens) = tokens_of(["hog", "other"]);
    let mut options = options(READY, "legacy");
    options.limits.patience = Duration::from_secs(60);
    let portal = Setup::of([]).auth(auth).program("local", Program::new(options)).start().await;
    let first = Client::modern(portal.address).holding(&tokens[0]);
    let portal = listed_for(portal, first).await;
    let mut busy = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let mut client = Client::modern(portal.address).holding(&tokens[0]).begun().await;
        busy.spawn(async move { client.call("local_hang", json!({})).await });
    }
    // Until those that find no place have been told.
    for _ in 0..4 {
        let refused = busy.join_next().await.unwrap().unwrap();
        assert!(message(&refused).contains("12 sessions of yours"), "{refused:?}");
    }
    for _ in 0..3 {
        let began = Instant::now();
        let mut client = Client::modern(portal.address).holding(&tokens[1]).begun().await;
        let answer = client.call("local_pid", json!({})).await;
        assert!(!answer.text().is_empty() && began.elapsed() < Duration::from_secs(8), "{answer:?} after {:?}", began.elapsed());
    }
    busy.abort_all();
}
