//! Each bound, and what the model is told when a script hits it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gnomon_codemode::{Limit, Limits, ScriptOutcome};

use crate::stage::{run_with, sandbox, works};

#[tokio::test]
async fn each_bound_ends_an_execution_under_its_own_name() {
    let sandbox = sandbox().await;
    let busy = Limits { sandbox_time: Duration::from_millis(300), ..Limits::default() };
    let short = Limits { wall_time: Duration::from_millis(800), ..Limits::default() };
    // Time enough to meet the other bounds on a busy machine.
    let long_enough =
        Limits { sandbox_time: Duration::from_secs(10), wall_time: Duration::from_secs(15), heap: 16 << 20, ..Limits::default() };
    let long = format!("async () => {}1", " ".repeat(70_000));
    let deep = format!("let a: any = {}1", "!".repeat(60_000));
    for (limit, code) in [
        (Limit::SandboxTime, "async () => { while (true) {} }"),
        (Limit::WallTime, "async () => codemode.test_hang()"),
        (Limit::Heap, "async () => { const kept = []; for (;;) kept.push('x'.repeat(1 << 20) + kept.length) }"),
        (Limit::Stack, "async () => { const f = () => f() + 1; return f() }"),
        (Limit::Calls, "async () => { for (;;) await codemode.test_add({}) }"),
        (Limit::Arguments, "async () => codemode.test_echo('x'.repeat(300 << 10))"),
        (Limit::Answer, "async () => codemode.test_long()"),
        (Limit::Result, "async () => 'x'.repeat(2 << 20)"),
        (Limit::Code, &long),
        (Limit::Nesting, &deep),
    ] {
        let limits = match limit {
            Limit::SandboxTime => &busy,
            Limit::WallTime => &short,
            _ => &long_enough,
        };
        let outcome = run_with(&sandbox, limits, code).await.outcome;
        assert!(matches!(outcome, ScriptOutcome::Limit(met) if met == limit), "{limit:?}: {outcome:?}");
        assert!(limit.text(limits).ends_with('.'));
        works(&sandbox).await;
    }
}

#[tokio::test]
async fn waiting_for_tools_is_not_counted_as_computing() {
    let sandbox = sandbox().await;
    let limits = Limits { sandbox_time: Duration::from_millis(150), ..Limits::default() };
    let execution = run_with(&sandbox, &limits, "async () => { for (let i = 0; i < 5; i++) await codemode.test_slow() }").await;
    assert!(matches!(execution.outcome, ScriptOutcome::Value(_)), "{:?}", execution.outcome);
    assert!(execution.wall_time >= Duration::from_millis(500) && execution.sandbox_time < Duration::from_millis(150), "{execution:?}");
    let outcome = run_with(&sandbox, &limits, "async () => { await codemode.test_slow(); for (;;); }").await.outcome;
    assert!(matches!(outcome, ScriptOutcome::Limit(Limit::SandboxTime)), "{outcome:?}");
}

#[tokio::test]
async fn a_host_that_is_busy_with_other_things_makes_no_endless_loop_of_a_short_one() {
    let sandbox = sandbox().await;
    let limits = Limits { sandbox_time: Duration::from_secs(1), ..Limits::default() };
    let over = Arc::new(AtomicBool::new(false));
    // Two for each processor, as the worker gives way to everybody.
    let others: Vec<_> = (0..std::thread::available_parallelism().unwrap().get() * 2)
        .map(|_| {
            let over = over.clone();
            std::thread::spawn(move || while !over.load(Ordering::Relaxed) {})
        })
        .collect();
    let code = "async () => { let n = 0; for (let i = 0; i < 300_000; i++) n += i % 7; return n }";
    let execution = run_with(&sandbox, &limits, code).await;
    over.store(true, Ordering::Relaxed);
    others.into_iter().for_each(|other| other.join().unwrap());
    assert!(matches!(execution.outcome, ScriptOutcome::Value(_)), "{execution:?}");
}

#[tokio::test]
async fn while_a_person_is_waited_for_no_clock_of_the_execution_runs() {
    let sandbox = sandbox().await;
    let limits = Limits { sandbox_time: Duration::from_millis(150), wall_time: Duration::from_millis(250), ..Limits::default() };
    let execution = run_with(&sandbox, &limits, "async () => [await codemode.test_person(), await codemode.test_person()]").await;
    assert!(matches!(execution.outcome, ScriptOutcome::Value(_)), "{:?}", execution.outcome);
    let outcome = run_with(&sandbox, &limits, "async () => { await codemode.test_person(); await codemode.test_hang() }").await.outcome;
    assert!(matches!(outcome, ScriptOutcome::Limit(Limit::WallTime)), "{outcome:?}");
}

#[tokio::test]
async fn native_loops_die_within_a_tenth_of_a_second_of_their_limit() {
    let sandbox = sandbox().await;
    let limits = Limits { sandbox_time: Duration::from_millis(200), ..Limits::default() };
    for code in [
        "async () => { const a = []; a[4294967294] = 1; a.sort() }",
        "async () => { const a = []; a.length = 4294967295; return a.join('').length }",
        "async () => Array.prototype.reverse.call({ length: 2 ** 53 - 1 })",
        "async () => { const p = codemode.test_slow(); Array.prototype.reverse.call({ length: 2 ** 53 - 1 }) }",
        "async () => { for (;;); }",
    ] {
        // The best of three, as other programs use this machine too.
        let mut over = Duration::MAX;
        for _ in 0..3 {
            let execution = run_with(&sandbox, &limits, code).await;
            assert!(matches!(execution.outcome, ScriptOutcome::Limit(Limit::SandboxTime)), "{code}: {:?}", execution.outcome);
            over = over.min(execution.sandbox_time.saturating_sub(limits.sandbox_time));
        }
        println!("{over:?} {code}");
        assert!(over < Duration::from_millis(100), "{over:?} {code}");
    }
}

#[tokio::test]
async fn bounds_that_no_worker_can_hold_are_cut() {
    let sandbox = sandbox().await;
    let boundless = Limits {
        sandbox_time: Duration::MAX,
        wall_time: Duration::MAX,
        heap: usize::MAX,
        stack: usize::MAX,
        calls: u32::MAX,
        in_flight: 0,
        arguments: usize::MAX,
        answer: usize::MAX,
        result: usize::MAX,
        logs: usize::MAX,
        code: usize::MAX,
    };
    let outcome = run_with(&sandbox, &boundless, "async () => codemode.test_add({ a: 1 })").await.outcome;
    assert!(matches!(&outcome, ScriptOutcome::Value(value) if value.get() == "1"), "{outcome:?}");
    let outcome = run_with(&sandbox, &boundless, "async () => { const f = () => f() + 1; return f() }").await.outcome;
    assert!(matches!(outcome, ScriptOutcome::Limit(Limit::Stack | Limit::Heap)), "{outcome:?}");
    works(&sandbox).await;
}
