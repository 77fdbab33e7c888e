//! What a script reports as done has been done; otherwise it is an error that says what to do.

use gnomon_codemode::{CallEnd, Limit, Limits, ScriptOutcome};

use crate::stage::{run, run_with, sandbox, thrown, value, works};

#[tokio::test]
async fn calls_that_nobody_awaits_are_made_and_waited_for() {
    let sandbox = sandbox().await;
    let execution = run(&sandbox, "async () => { codemode.test_echo({ a: 1 }); codemode.test_slow(); return 'sent' }").await;
    assert!(matches!(&execution.outcome, ScriptOutcome::Value(value) if value.get() == "\"sent\""), "{execution:?}");
    let ends: Vec<_> = execution.called.iter().map(|called| (called.tool.as_str(), called.end)).collect();
    assert_eq!(ends, [("test_echo", CallEnd::Answered), ("test_slow", CallEnd::Answered)]);
    let many = run(&sandbox, "async () => { for (let i = 0; i < 50; i++) codemode.test_slow(); return 'sent' }").await;
    assert_eq!((many.host_calls, many.called.iter().filter(|called| called.end == CallEnd::Answered).count()), (50, 50));
    // The result includes what these calls lead to, and the error of one fails the script.
    let pushed =
        "async () => { const out = []; [1, 2, 3].forEach(async (a) => { out.push(await codemode.test_add({ a, b: 1 })) }); return out }";
    assert_eq!(value(&sandbox, pushed).await, "[2,3,4]");
    let later = "async () => { const out = []; [1, 2].forEach(async (a) => { await sleep(20 * a); out.push(await codemode.test_echo(a)) }); return out }";
    assert_eq!(value(&sandbox, later).await, "[1,2]");
    let failed = thrown(&sandbox, "async () => { codemode.test_fail({}); return 'sent' }").await;
    assert!(failed.starts_with("ToolError: the tool says no (nothing awaited this: put await before each call)"), "{failed}");
    assert_eq!(
        value(&sandbox, "async () => { const p = codemode.test_fail(); await sleep(5); return p.catch(() => 'seen') }").await,
        "\"seen\""
    );
}

#[tokio::test]
async fn a_call_that_lost_a_race_is_not_waited_for() {
    let sandbox = sandbox().await;
    let code = "async () => Promise.race([codemode.test_hang(), sleep(50).then(() => 'too slow')])";
    let execution = run_with(&sandbox, &Limits::default(), code).await;
    assert!(matches!(&execution.outcome, ScriptOutcome::Value(value) if value.get() == "\"too slow\""), "{execution:?}");
    assert!(execution.wall_time.as_secs() < 20 && execution.called[0].end == CallEnd::Unanswered, "{execution:?}");
    let code =
        "async () => { const fast = await Promise.race([codemode.test_echo('fast'), sleep(30000)]); codemode.test_slow(); return fast }";
    let execution = run_with(&sandbox, &Limits::default(), code).await;
    assert!(matches!(&execution.outcome, ScriptOutcome::Value(value) if value.get() == "\"fast\""), "{execution:?}");
    assert_eq!(execution.called[1].end, CallEnd::Answered, "nobody raced this one");
}

#[tokio::test]
async fn results_hold_what_json_has_no_form_for() {
    let sandbox = sandbox().await;
    for (code, json) in [
        ("[1, 2].map(async (a) => codemode.test_add({ a, b: 1 }))", "[2,3]"),
        (
            "async () => ({ issue: codemode.test_echo({ a: 1 }), deep: [{ again: Promise.resolve(Promise.resolve(1)) }] })",
            r#"{"issue":{"a":1},"deep":[{"again":1}]}"#,
        ),
        ("new Map([['a', 1], ['b', new Set([2])]])", r#"{"a":1,"b":[2]}"#),
        ("new Map([[1, 'one'], [2, 'two']])", r#"{"1":"one","2":"two"}"#),
        ("new Map([[{ k: 1 }, 'v']])", r#"[[{"k":1},"v"]]"#),
        ("new Set(['a', new Map()])", r#"["a",{}]"#),
        (
            "({ e: new TypeError('no'), d: new Date(0), r: /x/g })",
            r#"{"e":{"name":"TypeError","message":"no"},"d":"1970-01-01T00:00:00.000Z","r":"/x/g"}"#,
        ),
        (
            "Object.assign(new Error('no', { cause: new Error('why') }), { code: 7 })",
            r#"{"name":"Error","message":"no","cause":{"name":"Error","message":"why"},"code":7}"#,
        ),
        (
            "({ n: 12345678901234567890n, b: new Uint8Array([1, 255]), f: new Float32Array([0.5]), a: new Uint8Array([7]).buffer, i: new BigInt64Array([-1n]) })",
            r#"{"n":"12345678901234567890","b":[1,255],"f":[0.5],"a":[7],"i":["-1"]}"#,
        ),
        ("new Map([['a', 1]]).entries()", r#"[["a",1]]"#),
        (
            "Promise.allSettled([codemode.test_echo(1), codemode.test_fail()]).then((all) => all.map((one) => one.reason ?? one.value))",
            r#"[1,{"name":"ToolError","message":"the tool says no"}]"#,
        ),
    ] {
        assert_eq!(value(&sandbox, code).await, json, "{code}");
    }
    let failed = thrown(&sandbox, "async () => ({ a: codemode.test_echo(1), b: codemode.test_fail() })").await;
    assert!(failed.starts_with("ToolError: the tool says no"), "{failed}");
    assert!(thrown(&sandbox, "async () => ({ a: new Promise(() => {}) })").await.contains("never settles"));
}

#[tokio::test]
async fn arguments_hold_it_too_and_a_promise_among_them_is_an_error() {
    let sandbox = sandbox().await;
    assert_eq!(
        value(&sandbox, "async () => codemode.test_echo({ m: new Map([['a', 1]]), s: new Set([2]) })").await,
        r#"{"m":{"a":1},"s":[2]}"#
    );
    let text = thrown(&sandbox, "async () => codemode.test_echo({ id: codemode.test_add({ a: 1, b: 1 }) })").await;
    assert!(text.starts_with("TypeError: the argument id is a promise: put await before it"), "{text}");
    let text = thrown(&sandbox, "async () => codemode.test_echo('owner', 'repo')").await;
    assert!(text.contains("codemode.test_echo takes one object with named arguments, and was given 2"), "{text}");
    assert_eq!(value(&sandbox, "async () => Promise.all([{ a: 1 }, { a: 2 }].map(codemode.test_echo))").await, r#"[{"a":1},{"a":2}]"#);
}

#[tokio::test]
async fn a_script_that_returns_nothing_says_so() {
    let sandbox = sandbox().await;
    for (code, nothing) in
        [("async () => { await codemode.test_echo({}) }", true), ("async () => null", false), ("async () => { return }", true), ("", true)]
    {
        let execution = run(&sandbox, code).await;
        assert!(matches!(&execution.outcome, ScriptOutcome::Value(value) if value.get() == "null"), "{code}: {execution:?}");
        assert_eq!(execution.is_undefined, nothing, "{code}");
    }
}

#[tokio::test]
async fn a_failed_script_tells_what_came_of_its_calls() {
    let sandbox = sandbox().await;
    let short = Limits { wall_time: std::time::Duration::from_millis(600), ..Limits::default() };
    let begun = "await codemode.test_echo({}); await codemode.test_fail().catch(() => 0); codemode.test_hang(); await sleep(20);";
    for end in ["null.x", "await new Promise(() => {})", "for (;;);", "const a = []; for (;;) a.push('x'.repeat(1 << 20) + a.length)"] {
        let limits = Limits { sandbox_time: std::time::Duration::from_millis(500), heap: 16 << 20, ..short.clone() };
        let execution = run_with(&sandbox, &limits, &format!("async () => {{ {begun} {end} }}")).await;
        assert!(matches!(execution.outcome, ScriptOutcome::Thrown { .. } | ScriptOutcome::Limit(_)), "{execution:?}");
        let ends: Vec<_> = execution.called.iter().map(|called| (called.tool.as_str(), called.end)).collect();
        assert_eq!(ends, [("test_echo", CallEnd::Answered), ("test_fail", CallEnd::Failed), ("test_hang", CallEnd::Unanswered)], "{end}");
    }
}

#[tokio::test]
async fn habits_of_models_work() {
    let sandbox = sandbox().await;
    for code in [
        "async (codemode) => codemode.test_add({ a: 3, b: 4 })",
        "async ({ codemode }) => codemode.test_add({ a: 3, b: 4 })",
        "async ({ codemode, console }) => { console.log(1); return codemode.test_add({ a: 3, b: 4 }) }",
        "async (context) => context.codemode.test_add({ a: 3, b: 4 })",
        "export default async function main({ codemode }) { return codemode.test_add({ a: 3, b: 4 }) }",
        "async () => codemode.test.add({ a: 3, b: 4 })",
        "async () => codemode['test-add']({ a: 3, b: 4 })",
        "async () => { const { test } = codemode; return test.add({ a: 3, b: 4 }) }",
        r#"{"code": "async () => codemode.test_add({ a: 3, b: 4 })"}"#,
        r#""async () => codemode.test_add({ a: 3, b: 4 })""#,
    ] {
        assert_eq!(value(&sandbox, code).await, "7", "{code}");
    }
    let with_meta = value(&sandbox, "async () => codemode.withMeta('test_echo', { a: 1 })").await;
    assert_eq!(with_meta, r#"{"value":{"a":1},"meta":{"etag":1}}"#);
    let failed = "async () => { try { await codemode.withMeta('test_fail') } catch (e) { return [e.name, e.message, e.meta.retryAfter] } }";
    assert_eq!(value(&sandbox, failed).await, r#"["ToolError","the tool says no",3]"#);
    assert!(thrown(&sandbox, "async () => codemode.withMeta('test_ecko')").await.contains("did you mean codemode.test_echo?"));
    assert_eq!(value(&sandbox, "async () => codemode.result('r', 5)").await, r#"{"kept":["r",5]}"#);
}

#[tokio::test]
async fn what_a_search_finds_is_brief_and_whole_where_it_is_asked_for() {
    let sandbox = sandbox().await;
    assert_eq!(value(&sandbox, "async () => codemode.search('found')").await, r#"[{"name":"a","signature":"a()","summary":"s"}]"#);
    assert_eq!(
        value(&sandbox, "async () => (await codemode.search('found')).map((tool) => tool.inputSchema)").await,
        r#"[{"type":"object"}]"#
    );
}

#[tokio::test]
async fn an_error_says_what_to_do_next() {
    let sandbox = sandbox().await;
    for (code, says) in [
        (
            "async () => codemode.test_echo([1]).map((a) => a)",
            ".map is read of a promise: put await before the call, as in (await codemode.test_echo(…)).map",
        ),
        ("async () => { const { a } = codemode.test_echo({ a: 1 }); return a }", ".a is read of a promise"),
        ("async () => (await codemode.test_echo({})).split(',')", "an object of nothing: use one of its fields"),
        ("async () => (await codemode.test_echo({ a: 1 })).a.split(',')", "log the value"),
        ("async () => { for (const a of codemode.test_echo([])) a }", "gone through as if it were a list: put await before the call"),
        ("async () => (await codemode.test_echo({})).items.map((a) => a)", "?."),
        ("async () => fetch('https://example.com')", "no network here"),
        ("async () => Buffer.from('x', 'base64')", "atob"),
        ("async () => new Intl.NumberFormat('de')", "no internationalisation"),
        ("async () => nonsense()", "codemode.search('words')"),
        ("async () => codemode.test_echo", "the result is a function: call it"),
        ("`async () => codemode.test_echo()`", "code that nothing ran"),
        (r#"{"query": "update ticket"}"#, "this is data"),
        ("async () => Promise.any([codemode.test_fail(), codemode.test_fail()])", "the tool says no; "),
        ("def main():\n    return codemode.test_echo()", "this is Python"),
        ("import json\nprint(json.dumps({}))", "this is Python"),
        ("print('x')", "console.log"),
        ("Which tickets are open?", "this is text and no code"),
        ("async () => { const x = ; }", "send JavaScript or TypeScript"),
        ("async () => codemode.describe(codemode.search('x'))", "the argument 0 is a promise"),
        ("async () => codemode.zzz()", "codemode.search('words')"),
    ] {
        let text = thrown(&sandbox, code).await;
        assert!(text.contains(says), "{code}\n{text}");
    }
    let text = thrown(&sandbox, "async () => codemode.test_deep()").await;
    assert!(text.starts_with("ToolError: Maximum call stack size exceeded"), "a tool's words are no bound of the script: {text}");
    assert!(thrown(&sandbox, "async () => codemode.echo({})").await.contains("did you mean codemode.test_echo?"));
}

#[tokio::test]
async fn errors_are_told_with_the_lines_and_columns_that_the_model_wrote() {
    let sandbox = sandbox().await;
    for (code, place) in [
        ("async () => { const a = null; return a.x }", "script:1:"),
        ("async () => {\n  const a = null;\n  return a.b;\n}", "script:3:"),
        ("\n\n  async () => {\n    const a = null; return a.x;\n  }", "script:4:"),
        ("```js\nasync () => {\n  const a = null; return a.x;\n}\n```", "script:3:"),
        ("Here it is:\n\n```ts\nasync () => {\n  const a: any = null;\n  return a.x;\n}\n```", "script:6:"),
        ("interface A {\n  b: string;\n}\n\n// A comment\n\nconst a: A = null as any;\nconst c = a.b;\nreturn c", "script:8:"),
        ("const one = 1;\n\n\n/* two */\nconst b = null;\nb.c", "script:6:"),
        ("export default async () => {\n  type T = number;\n\n  const a: any = null; return a.x;\n}", "script:4:"),
        ("async () => {\n  const a: string = 'x';\n  enum E { A }\n\n  throw new Error(a + E.A)\n}", "script:5:"),
    ] {
        let text = thrown(&sandbox, code).await;
        assert!(text.contains(place), "{code}\n{text}");
        let number: usize = place.trim_start_matches("script:").trim_end_matches(':').parse().unwrap();
        let written = code.lines().nth(number - 1).unwrap().trim();
        assert!(text.contains(&format!("{number} | {written}")), "{code}\n{text}");
    }
    let column =
        |text: &str| text.split_once("script:1:").unwrap().1.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<usize>().unwrap();
    let near = column(&thrown(&sandbox, "async () => { const a = null; return a.x }").await);
    assert!((28..=42).contains(&near), "{near}");
    let text = thrown(&sandbox, "```ts\nasync () => {\n  const a: = 1;\n}\n```").await;
    assert!(text.contains("line 3, column"), "{text}");
}

#[tokio::test]
async fn a_slip_of_syntax_that_ends_the_compiler_is_no_violation() {
    let sandbox = sandbox().await;
    let outcome = run(&sandbox, "namespace N { export class {} }").await.outcome;
    assert!(matches!(outcome, ScriptOutcome::Unreadable), "{outcome:?}");
    let copies: Vec<String> = (0..4000).map(|number| format!("B{number}=A")).collect();
    let memory = format!("enum E {{ A = \"{}\", {} }}\n1", "x".repeat(30_000), copies.join(","));
    let outcome = run(&sandbox, &memory).await.outcome;
    assert!(
        matches!(
            outcome,
            ScriptOutcome::Unreadable | ScriptOutcome::Thrown { .. } | ScriptOutcome::Value(_) | ScriptOutcome::Limit(Limit::SandboxTime)
        ),
        "{outcome:?}"
    );
    for deed in ["abort while reading", "panic while reading"] {
        let outcome = run(&sandbox, &format!("rehearse:{deed}")).await.outcome;
        assert!(matches!(outcome, ScriptOutcome::Unreadable), "{deed}: {outcome:?}");
        works(&sandbox).await;
    }
}

#[tokio::test]
async fn console_output_before_a_native_loop_is_kept() {
    let sandbox = sandbox().await;
    let limits = Limits { sandbox_time: std::time::Duration::from_millis(200), ..Limits::default() };
    let execution =
        run_with(&sandbox, &limits, "async () => { console.log('here'); Array.prototype.reverse.call({ length: 2 ** 53 - 1 }) }").await;
    assert!(matches!(execution.outcome, ScriptOutcome::Limit(Limit::SandboxTime)), "{execution:?}");
    assert_eq!(execution.logs.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["here"]);
}

#[tokio::test]
async fn a_tool_may_answer_megabytes() {
    let sandbox = sandbox().await;
    let limits = Limits { answer: 6 << 20, ..Limits::default() };
    let execution = run_with(&sandbox, &limits, "async () => (await codemode.test_long()).length").await;
    assert!(matches!(&execution.outcome, ScriptOutcome::Value(value) if value.get() == (5 << 20).to_string()), "{:?}", execution.outcome);
    assert_eq!(Limits::default().answer, 4 << 20);
}
