//! A call whose server died, froze or broke off: whoever called learns whether it may have been carried out.

use crate::{
    Setup,
    asking::{Asking, Says},
    client::{Answer, Client},
    programs::{self, READY},
    soon,
};
use gnomon_audit::{Record, RecordKind, Status};
use gnomon_upstream::Program;
use serde_json::json;
use std::time::Duration;

const PERHAPS: &str = "; the call may have been carried out: check before you repeat it";
const NO: &str = "; the call was not carried out";

fn told(answer: &Answer) -> (String, String) {
    let error = &answer.last()["error"];
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (text(&error["message"]), text(&error["data"]["carriedOut"]))
}

async fn statuses(portal: &crate::Running, calls: usize) -> Vec<Status> {
    soon("the records", async {
        loop {
            let records = portal.records(1).await;
            let of: Vec<&Record> = records.iter().filter(|record| record.kind == RecordKind::Call).collect();
            if of.len() >= calls {
                return of.iter().filter_map(|record| record.status).collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_call_whose_server_is_gone_before_it_answers_may_have_been_carried_out_and_one_that_finds_nobody_was_not() {
    for says in [Says::InAnswer, Says::OnStream, Says::BesideDocument, Says::Sse, Says::InResult] {
        let server = Asking::start("one", says).await;
        let portal = Setup::of([("one", server.url())]).start().await;
        let mut clients = [Client::legacy(portal.address).await, Client::modern(portal.address)];
        let calls = clients.each_mut().map(|client| client.call("one_wait", json!({})));
        let ended = async {
            server.called(2).await;
            drop(server);
        };
        let (answers, ()) = soon("the calls to end", async { tokio::join!(futures_util::future::join_all(calls), ended) }).await;
        for answer in &answers {
            let (text, word) = told(answer);
            assert!(text.starts_with("server `one`: ") && text.ends_with(PERHAPS) && word == "perhaps", "{says:?}: {answer:?}");
        }
        for client in &mut clients {
            let (text, word) = soon("nobody", async {
                loop {
                    let told = told(&client.call("one_wait", json!({})).await);
                    // A session that still seems open breaks off first.
                    if !told.0.ends_with(PERHAPS) {
                        return told;
                    }
                }
            })
            .await;
            assert!(text.starts_with("server `one`: ") && text.ends_with(NO) && word == "no", "{says:?}: {text}");
        }
        let statuses = statuses(&portal, 4).await;
        assert_eq!(statuses[..2], [Status::Unanswered; 2], "{says:?}");
        assert_eq!(statuses.last(), Some(&Status::Unavailable), "{says:?}");
    }
}

#[tokio::test]
async fn a_call_that_ends_with_its_clients_own_session_is_no_fault_of_its_server() {
    if !gnomon_testkit::has("a_call_that_ends_with_its_clients_own_session_is_no_fault_of_its_server", &["python3"]) {
        return;
    }
    let program = Program::new(programs::options(READY, "legacy"));
    let portal = programs::listed(Setup::of([]).program("local", program).start().await).await;
    let mut client = Client::legacy(portal.address).await;
    let pid = client.call("local_pid", json!({})).await.text().to_owned();
    let (other, session) = (Client::modern(portal.address), client.session());
    let ends = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        other.send(http::Method::DELETE, &[("mcp-session-id", &session)], String::new()).await
    };
    let (answer, ended) = soon("both to end", async { tokio::join!(client.call("local_wait", json!({})), ends) }).await;
    assert_eq!(ended.status, 200);
    assert!(told(&answer).0.starts_with("server `local`: its session was ended before it answered"), "{pid}: {answer:?}");
    assert_eq!(statuses(&portal, 2).await[1], Status::Cancelled);
    let metrics = portal.metrics();
    let errors: Vec<&str> = metrics.lines().filter(|line| line.starts_with("gnomon_portal_server_errors_total{")).collect();
    assert!(errors.iter().all(|line| line.ends_with(" 0")), "{errors:?}");
}

#[tokio::test]
async fn a_call_that_ends_its_program_or_hangs_there_may_have_been_carried_out_and_a_script_is_told_which() {
    if !gnomon_testkit::has(
        "a_call_that_ends_its_program_or_hangs_there_may_have_been_carried_out_and_a_script_is_told_which",
        &["python3"],
    ) {
        return;
    }
    for mode in ["legacy", "modern"] {
        let mut options = programs::options(READY, mode);
        options.limits.patience = Duration::from_secs(2);
        let program = Program::new(options);
        let portal = programs::listed(Setup::of([]).program("local", program.clone()).start().await).await;
        for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
            for tool in ["local_die", "local_hang"] {
                let (text, word) = soon("the program", async {
                    loop {
                        let told = told(&client.call(tool, json!({})).await);
                        // It may still be about to be back.
                        if told.1 != "no" {
                            return told;
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                })
                .await;
                assert!(text.starts_with("server `local`: ") && text.ends_with(PERHAPS) && word == "perhaps", "{mode} {tool}: {text}");
            }
        }
        assert!(statuses(&portal, 4).await.contains(&Status::Unanswered));
        soon("everything to stop", program.stop()).await;
    }
    let portal = programs::listed(Setup::of([]).program("local", Program::new(programs::options(READY, "legacy"))).start().await).await;
    let mut client = Client::legacy(portal.address).await.at("?codemode=search_and_execute");
    let code = "async () => { await codemode.local_echo({text: 'x'}); await codemode.local_die({}) }";
    let answer = client.call("portal_codemode_execute", json!({"code": code})).await;
    let text = answer.text();
    assert!(text.contains("the call may have been carried out: check before you repeat it"), "{text}");
    assert!(text.contains("Calls before that: local_echo ok; local_die without an answer, perhaps done."), "{text}");
    let code = "async () => { try { await codemode.local_die({}) } catch {} return 'all is well' }";
    let text = soon("a program", async {
        loop {
            let answer = client.call("portal_codemode_execute", json!({"code": code})).await;
            if answer.text() != "all is well" {
                return answer.text().to_owned();
            }
        }
    })
    .await;
    assert!(text.starts_with("all is well\n\nCheck before you repeat: local_die without an answer, perhaps done."), "{text}");
}
