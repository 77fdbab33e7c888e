//! A promise that is used in place of its value is an error, or is reported.

use gnomon_codemode::{CallEnd, Limit, Limits, ScriptOutcome};

use crate::stage::{run, run_with, sandbox, thrown, value};

#[tokio::test]
async fn a_promise_that_is_used_as_its_value_is_an_error_that_says_await() {
    let sandbox = sandbox().await;
    let own = "const get = async (n) => ({ n, rows: await codemode.test_echo([n]) });";
    for made in ["codemode.test_echo({ a: 1 })", "get(3)", "Promise.all([codemode.test_echo(1)])", "codemode.test_echo(1).then((a) => a)"] {
        for used in [
            "`${r}`",
            "r + 1",
            "r == '5'",
            "r > 2",
            "Number(r)",
            "String(r)",
            "r.toString()",
            "JSON.stringify(r)",
            "JSON.stringify({ a: [r] })",
            "Object.keys(r).length",
            "Object.entries(r)",
            "Object.assign({}, r)",
            "'rows' in r",
            "Array.isArray(r)",
            "r.length",
            "r.length > 2",
            "r.items",
            "r.map((a) => a)",
            "[...r]",
            "JSON.parse(r)",
            "(() => { for (const k in r) return k })()",
            "[r].join()",
        ] {
            let text = thrown(&sandbox, &format!("async () => {{ {own} const r = {made}; return {used} }}")).await;
            assert!(text.contains("put await before"), "{made}; {used}\n{text}");
        }
    }
    for used in ["({ ...r })", "r.size = 1", "delete r.a", "Object.hasOwn(r, 'a')", "Object.fromEntries(r)"] {
        let text = thrown(&sandbox, &format!("async () => {{ const r = codemode.test_echo({{ a: 1 }}); return {used} }}")).await;
        assert!(text.contains("put await before"), "{used}\n{text}");
    }
}

#[tokio::test]
async fn promises_that_are_awaited_are_what_they_are_in_the_language() {
    let sandbox = sandbox().await;
    for (code, json) in [
        ("async () => (await codemode.test_echo({ a: 1 })).a", "1"),
        ("async () => codemode.test_echo(1).then((a) => a + 1)", "2"),
        ("async () => codemode.test_fail().catch((e) => e.name)", "\"ToolError\""),
        ("async () => { let n = 0; await codemode.test_echo(1).finally(() => n++); return n }", "1"),
        ("async () => Promise.all([codemode.test_echo(1), 2, Promise.resolve(3)])", "[1,2,3]"),
        ("async () => (await Promise.allSettled([codemode.test_fail()]))[0].status", "\"rejected\""),
        ("async () => { const p = codemode.test_echo(1); return [p instanceof Promise, typeof p.then, await p] }", "[true,\"function\",1]"),
        ("async () => { const out = []; for await (const a of [codemode.test_echo(1), 2]) out.push(a); return out }", "[1,2]"),
        (
            "async () => { class Job extends Promise { get kind() { return 'job' } } return [Job.resolve(1).kind, await Job.resolve(1)] }",
            "[\"job\",1]",
        ),
        ("async () => [3, 1, 2].sort((a, b) => a - b).filter((a) => a > 1).find((a) => a > 2)", "3"),
        ("async () => ['b', 'a'].sort().some((a) => a === 'b')", "true"),
        ("async () => { async function* all() { yield 1; yield codemode.test_echo(2) } return all() }", "[1,2]"),
        ("async () => ({ all: (async function* () { yield { a: 1 } })() })", "{\"all\":[{\"a\":1}]}"),
    ] {
        assert_eq!(value(&sandbox, code).await, json, "{code}");
    }
}

#[tokio::test]
async fn a_callback_whose_promise_is_not_awaited_is_an_error() {
    let sandbox = sandbox().await;
    for name in ["filter", "some", "every", "find", "findIndex", "findLast", "findLastIndex"] {
        for made in ["async (n) => (await codemode.test_echo(n)) > 1", "(n) => codemode.test_echo(n)"] {
            let text = thrown(&sandbox, &format!("async () => [1, 2].{name}({made})")).await;
            assert!(text.contains(&format!("the function given to {name} returns a promise")) && text.contains("Promise.all"), "{text}");
        }
    }
    assert!(thrown(&sandbox, "async () => [1, 2].sort(async (a, b) => a - b)").await.contains("given to sort returns a promise"));
}

#[tokio::test]
async fn a_value_that_was_made_before_calls_were_over_is_told() {
    let sandbox = sandbox().await;
    for code in [
        "async () => { const out = []; [1].forEach(async (n) => { out.push(await codemode.test_echo(n)) }); return out.length }",
        "async () => { let last; codemode.test_echo(1).then((r) => { last = r }); return { last: last ?? null } }",
        "async () => { if (codemode.test_echo(false)) return 'open' }",
        "async () => { const ok = async (n) => (await codemode.test_echo(n)) > 5; return ok(3) ? 'yes' : 'no' }",
        "async () => { codemode.test_echo(1); return 'sent' }",
    ] {
        let execution = run(&sandbox, code).await;
        assert!(matches!(execution.outcome, ScriptOutcome::Value(_)), "{code}\n{execution:?}");
        assert!(
            execution.remark.starts_with("A call was still under way when the script returned") && execution.remark.contains("await"),
            "{code}\n{execution:?}"
        );
    }
    for code in [
        "async () => Promise.all([1, 2].map(async (n) => codemode.test_echo(n)))",
        "async () => [1, 2].map(async (n) => codemode.test_echo(n))",
        "async () => ({ a: codemode.test_echo(1) })",
        "async () => Promise.race([codemode.test_hang(), sleep(5)])",
        "async () => { const t = setTimeout(() => {}, 60000); clearTimeout(t); return codemode.test_echo(1) }",
    ] {
        let execution = run(&sandbox, code).await;
        assert!(matches!(execution.outcome, ScriptOutcome::Value(_)) && execution.remark.is_empty(), "{code}\n{execution:?}");
    }
}

#[tokio::test]
async fn a_timer_that_will_never_act_is_told() {
    let sandbox = sandbox().await;
    let execution = run(&sandbox, "async () => { setTimeout(() => codemode.test_echo(1), 20000); return 'scheduled' }").await;
    assert!(execution.remark.starts_with("A timer that was to act in 20 s was dropped"), "{execution:?}");
    let execution = run(&sandbox, "async () => { setInterval(() => codemode.test_echo(1), 20000); return 'watching' }").await;
    assert!(execution.remark.starts_with("An interval was dropped"), "{execution:?}");
    let thrown = thrown(&sandbox, "async () => { queueMicrotask(() => { throw new Error('late') }); await sleep(1); return 1 }").await;
    assert!(thrown.starts_with("Error: late"), "{thrown}");
}

#[tokio::test]
async fn the_bound_of_calls_ends_a_script_whatever_it_catches() {
    let sandbox = sandbox().await;
    let limits = Limits { calls: 5, ..Limits::default() };
    for code in [
        "async () => { const all = await Promise.allSettled(Array.from({ length: 6 }, (_, n) => codemode.test_echo(n))); return { sent: all.length } }",
        "async () => { for (let n = 0; n < 6; n++) await codemode.test_echo(n).catch(() => {}); return 'posted all' }",
        "async () => { try { for (let n = 0; n < 6; n++) await codemode.test_echo(n) } catch {} return 'ok' }",
    ] {
        let execution = run_with(&sandbox, &limits, code).await;
        assert!(matches!(execution.outcome, ScriptOutcome::Limit(Limit::Calls)), "{code}\n{execution:?}");
        assert!(execution.called.iter().all(|called| called.end == CallEnd::Answered) && execution.called.len() <= 5, "{execution:?}");
    }
}
