//! An attacker who has taken over the engine gets nothing, and is noticed.

use std::time::{Duration, Instant};

use gnomon_codemode::{Limit, Limits, Names, Program, Sandbox, ScriptOutcome, Violation};

use crate::stage::{TOOLS, Tools, run, run_with, start, works};

/// System calls that are not on the allow-list.
const DEEDS: [&str; 13] =
    ["open", "connect", "connect unix", "exec", "fork", "thread", "kill", "pidfd", "ioctl", "dup", "unlimit", "priority", "sleep"];

const SIGSYS: i32 = 31;

async fn nothing_gets_out(sandbox: &Sandbox) {
    for deed in DEEDS {
        let outcome = run(sandbox, &format!("rehearse:{deed}")).await.outcome;
        assert!(matches!(outcome, ScriptOutcome::Violation(Violation::Signal(SIGSYS))), "{deed}: {outcome:?}");
        works(sandbox).await;
    }
}

#[tokio::test]
async fn a_system_call_that_is_not_on_the_list_kills_on_every_host() {
    for refused in [
        &[][..],
        &["no-namespaces"],
        &["no-landlock"],
        &["as-nobody"],
        &["as-nobody", "in-the-service"],
        &["as-nobody", "no-namespaces", "no-landlock"],
    ] {
        let sandbox = start(refused).await.unwrap();
        nothing_gets_out(&sandbox).await;
        assert_eq!(sandbox.restarts(), 0, "{refused:?}");
    }
}

#[tokio::test]
async fn an_end_without_an_answer_is_a_violation() {
    let sandbox = start(&[]).await.unwrap();
    for (deed, expected) in [("leave", Violation::Exit(0)), ("panic", Violation::Exit(73)), ("abort", Violation::Signal(SIGSYS))] {
        let outcome = run(&sandbox, &format!("rehearse:{deed}")).await.outcome;
        assert!(matches!(outcome, ScriptOutcome::Violation(violation) if violation == expected), "{deed}: {outcome:?}");
        works(&sandbox).await;
    }
}

#[tokio::test]
async fn what_was_learned_of_one_process_s_memory_is_worth_nothing_to_the_next_and_costs_no_other_its_script() {
    let sandbox = start(&[]).await.unwrap();
    let before = sandbox.process().await.unwrap();
    works(&sandbox).await;
    assert_eq!(sandbox.process().await, Some(before), "a script that does what it may changes nothing");
    let (tools, names, limits) = (Tools::default(), Names::new(TOOLS), Limits::default());
    let program = Program { code: "async () => { await sleep(1500); return 'whole' }", names: &names };
    let breaks_out = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let outcome = run(&sandbox, "rehearse:open").await.outcome;
        assert!(matches!(outcome, ScriptOutcome::Violation(_)), "{outcome:?}");
        works(&sandbox).await;
    };
    let (beside, ()) = tokio::join!(sandbox.execute(program, &limits, &tools), breaks_out);
    assert!(matches!(&beside.unwrap().outcome, ScriptOutcome::Value(value) if value.get() == "\"whole\""));
    assert_ne!(sandbox.process().await, Some(before));
    assert_eq!(sandbox.restarts(), 0, "nothing of it died");
}

#[tokio::test]
async fn memory_beyond_the_bound_is_refused_by_the_kernel() {
    let sandbox = start(&[]).await.unwrap();
    let outcome = run(&sandbox, "rehearse:memory").await.outcome;
    // The worker counted the memory it got and exited; with more than the bound it would have panicked.
    assert!(matches!(outcome, ScriptOutcome::Violation(Violation::Exit(0))), "{outcome:?}");
    works(&sandbox).await;
}

#[tokio::test]
async fn a_worker_that_spins_is_killed() {
    let sandbox = start(&[]).await.unwrap();
    let limits = Limits { sandbox_time: Duration::from_millis(100), ..Limits::default() };
    let before = Instant::now();
    let outcome = run_with(&sandbox, &limits, "rehearse:spin").await.outcome;
    assert!(matches!(outcome, ScriptOutcome::Limit(Limit::SandboxTime)), "{outcome:?}");
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    works(&sandbox).await;
}

#[tokio::test]
async fn frames_that_the_engine_never_sends_end_the_execution() {
    let sandbox = start(&[]).await.unwrap();
    // The call `x({})` with this id.
    let call = |id: u8| format!("0703{id:02x}0178027b7d").replacen("07", "07000000", 1);
    let calls = |count: u8| (1..=count).map(call).collect::<String>();
    for (what, frames) in [
        ("a length of four gigabytes", "ffffffff".to_owned()),
        ("a length above the bound", "00004000".to_owned()),
        ("a frame of nothing", "00000000".to_owned()),
        ("no message", "04000000deadbeef".to_owned()),
        ("a message and more", "020000000004".to_owned()),
        ("a hundred megabytes", "00ff000000*".to_owned()),
        ("text that is no UTF-8", "0400000002000180".to_owned()),
        ("a length in the message beyond it", "05000000020080ff7f".to_owned()),
        ("a wait for nothing", "0100000004".to_owned()),
        ("code that was read before it was begun", "0100000001".to_owned()),
        ("code that is read twice", "010000000001000000010100000000".to_owned()),
        ("a call while code is read", format!("0100000000{}", call(1))),
        ("a call out of order", call(2)),
        ("a call twice", call(1).repeat(2)),
        ("too many calls at once", calls(17)),
        ("arguments that are no JSON", "06000000030101780155".to_owned()),
        ("a result that is no JSON", "050000000500015500".to_owned()),
        ("a word while waiting", format!("{}0100000004{}", call(1), "0100000004")),
        ("a word after the end", "0500000005000131000100000004".to_owned()),
        ("half a frame, and silence", "ff".to_owned()),
    ] {
        let limits = Limits { wall_time: Duration::from_millis(500), ..Limits::default() };
        let outcome = run_with(&sandbox, &limits, &format!("rehearse:{frames}")).await.outcome;
        match outcome {
            ScriptOutcome::Violation(Violation::Protocol(_)) => {}
            // Who says nothing and computes nothing is ended by the clock on the wall.
            ScriptOutcome::Limit(Limit::WallTime) if what.ends_with("silence") => {}
            other => panic!("{what}: {other:?}"),
        }
        works(&sandbox).await;
    }
}
