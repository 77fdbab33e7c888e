//! What a program has access to, and what it outputs.

use std::sync::atomic::Ordering;

use gnomon_codemode::{Limits, Names, Program, ScriptOutcome, Severity};

use crate::stage::{TOOLS, Tools, run, sandbox, thrown, value, works};

#[tokio::test]
async fn every_shape_that_models_write_is_a_program() {
    let sandbox = sandbox().await;
    for code in [
        "async () => 7",
        "async () => { return 7 }",
        "async function main() { return 7 }",
        "() => 7;",
        "7",
        "await codemode.test_add({ a: 3, b: 4 })",
        "codemode.test_add({ a: 3, b: 4 })",
        "const sum = await codemode.test_add({ a: 3, b: 4 });\nreturn sum;",
        "const sum = await codemode.test_add({ a: 3, b: 4 });\nsum",
        "```js\nasync () => 7\n```",
        "```typescript\nasync (): Promise<number> => { const n: number = 7; return n as number; }\n```",
        "export default async () => 7",
        "async function main(): Promise<number> { return 7 }\nawait main()",
        "const main = async () => 7;\nmain();",
        "enum E { A = 7 }\nE.A satisfies number",
        "(async () => 7)()",
    ] {
        assert_eq!(value(&sandbox, code).await, "7", "{code}");
    }
    assert_eq!(value(&sandbox, "").await, "null");
    assert_eq!(value(&sandbox, "async () => {}").await, "null");
}

#[tokio::test]
async fn calls_go_to_the_host_and_come_back_as_values() {
    let sandbox = sandbox().await;
    assert_eq!(value(&sandbox, "async () => codemode.test_echo({ a: [1, null, 'ü\\u2028'] })").await, "{\"a\":[1,null,\"ü\u{2028}\"]}");
    assert_eq!(value(&sandbox, "async () => codemode.test_echo()").await, "{}");
    assert_eq!(value(&sandbox, "async () => codemode['test_' + 'echo'](5)").await, "5");
    assert_eq!(value(&sandbox, "async () => (await codemode.tools()).map(t => t.name)").await, r#"["test_echo","test_add"]"#);
    assert_eq!(value(&sandbox, "async () => codemode.search('x', { limit: 3 })").await, r#"{"searched":["x",{"limit":3}]}"#);
    assert_eq!(value(&sandbox, "async () => codemode.describe('y')").await, r#"{"described":["y"]}"#);
    let failed = thrown(&sandbox, "async () => codemode.test_fail({})").await;
    assert!(failed.starts_with("ToolError: the tool says no"), "{failed}");
    assert_eq!(value(&sandbox, "async () => { try { await codemode.test_fail() } catch (e) { return e.name } }").await, "\"ToolError\"");
    assert_eq!(value(&sandbox, "async () => (await codemode.test_big()).length").await, (200 << 10).to_string());
}

#[tokio::test]
async fn an_unknown_name_is_a_type_error_that_names_the_nearest() {
    let sandbox = sandbox().await;
    let text = thrown(&sandbox, "async () => codemode.test_ecko({})").await;
    assert!(text.starts_with("TypeError: codemode.test_ecko is not a function; did you mean codemode.test_echo?"), "{text}");
    for name in
        ["__proto__", "constructor", "hasOwnProperty", "toString", "__defineGetter__", "test_echo\\0", " test_echo", "Test_echo", ""]
    {
        let text = thrown(&sandbox, &format!("async () => codemode['{name}']({{}})")).await;
        assert!(text.starts_with("TypeError: codemode."), "{name}: {text}");
    }
}

#[tokio::test]
async fn calls_at_the_same_time_are_bounded() {
    let sandbox = sandbox().await;
    let tools = Tools::default();
    let program =
        Program { code: "async () => Promise.all(Array.from({ length: 60 }, () => codemode.test_slow()))", names: &Names::new(TOOLS) };
    let execution = sandbox.execute(program, &Limits::default(), &tools).await.unwrap();
    assert!(matches!(execution.outcome, ScriptOutcome::Value(_)), "{:?}", execution.outcome);
    assert_eq!(execution.host_calls, 60);
    assert_eq!(tools.most.load(Ordering::SeqCst), 16);
    assert!(execution.wall_time.as_millis() >= 400 && execution.sandbox_time.as_millis() < 400, "{execution:?}");
}

#[tokio::test]
async fn long_answers_at_the_same_time_all_arrive() {
    let sandbox = sandbox().await;
    let code = "async () => (await Promise.all(Array.from({ length: 40 }, () => codemode.test_big()))).map((text) => text.length).join()";
    assert_eq!(value(&sandbox, code).await, format!("{:?}", vec![(200 << 10).to_string(); 40].join(",")));
}

#[tokio::test]
async fn the_console_is_kept_and_cut() {
    let sandbox = sandbox().await;
    let execution = run(
        &sandbox,
        "async () => { console.log('a', { b: 1 }); console.warn(new Error('c')); console.error(1n); console.log('\\ud800') }",
    )
    .await;
    let lines: Vec<_> = execution.logs.iter().map(|line| (line.severity, line.text.as_str())).collect();
    assert_eq!(lines, [(Severity::Log, "a {\"b\":1}"), (Severity::Warn, "Error: c"), (Severity::Error, "1"), (Severity::Log, "\u{fffd}")]);
    assert!(!execution.truncated);
    for code in [
        "async () => { for (let i = 0; i < 1e5; i++) console.log('line ' + i) }",
        "async () => { for (let i = 0; i < 1e5; i++) console.log() }",
    ] {
        let execution = run(&sandbox, code).await;
        assert!(matches!(execution.outcome, ScriptOutcome::Value(_)), "{:?}", execution.outcome);
        assert!(execution.truncated);
        assert!(execution.logs.iter().map(|line| line.text.len()).sum::<usize>() <= 16 << 10);
    }
}

#[tokio::test]
async fn an_error_is_told_with_its_place_and_without_our_own_frames() {
    let sandbox = sandbox().await;
    let text = thrown(&sandbox, "async () => {\n  const a = null;\n  return a.b;\n}").await;
    assert!(text.starts_with("TypeError: cannot read property 'b' of null"), "{text}");
    assert!(text.contains("script:3") && !text.contains("prelude"), "{text}");
    let text = thrown(&sandbox, "async () => { const x: = 3 }").await;
    assert!(text.starts_with("SyntaxError: ") && text.contains("line 1, column "), "{text}");
    let text = thrown(&sandbox, "async () => fetch('https://example.com')").await;
    assert!(text.contains("'fetch'") || text.contains("fetch is not defined (there is no network"), "{text}");
    assert!(thrown(&sandbox, "async () => { throw 5 }").await.starts_with("thrown: 5"));
    assert!(thrown(&sandbox, "async () => new Promise(() => {})").await.contains("never settles"));
}

#[tokio::test]
async fn no_two_executions_share_anything() {
    let sandbox = sandbox().await;
    let first = value(&sandbox, "async () => { globalThis.left = 1; Array.prototype.map = 5; return Math.random() }").await;
    assert_ne!(first, value(&sandbox, "async () => Math.random()").await);
    assert_eq!(value(&sandbox, "async () => [typeof left, typeof [].map]").await, r#"["undefined","function"]"#);
    works(&sandbox).await;
}

#[tokio::test]
async fn a_dropped_execution_drops_its_calls_and_its_process() {
    let sandbox = std::sync::Arc::new(sandbox().await);
    let tools = std::sync::Arc::new(Tools::default());
    let (inner_sandbox, inner_tools) = (std::sync::Arc::clone(&sandbox), std::sync::Arc::clone(&tools));
    let execution = tokio::spawn(async move {
        let program = Program { code: "async () => codemode.test_hang()", names: &Names::new(TOOLS) };
        inner_sandbox.execute(program, &Limits::default(), &*inner_tools).await
    });
    tools.hung.notified().await;
    execution.abort();
    assert!(execution.await.unwrap_err().is_cancelled());
    assert_eq!(tools.dropped.load(Ordering::SeqCst), 1);
    works(&sandbox).await;
}
