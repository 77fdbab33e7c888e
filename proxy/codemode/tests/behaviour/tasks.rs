//! What is done with code beside running it.

use gnomon_codemode::{Limit, Limits, Names, Program, Raw, Sandbox, ScriptOutcome, Task};

use crate::stage::{TOOLS, Tools, sandbox};

async fn perform(sandbox: &Sandbox, code: &str, task: Task<'_>, limits: &Limits) -> ScriptOutcome {
    let names = Names::new(TOOLS);
    let ended = sandbox.perform((Program { code, names: &names }, task), limits, &Tools::default()).await.unwrap();
    assert!(!matches!(task, Task::Read) || ended.host_calls == 0);
    ended.outcome
}

#[tokio::test]
async fn a_function_is_given_arguments_as_its_second() {
    let sandbox = sandbox().await;
    let arguments = Raw::from_string(r#"{"n":[1,{"__proto__":2}],"text":"ü\u0000"}"#.to_owned()).unwrap();
    for (code, value) in [
        ("async (codemode, args) => codemode.test_echo({ n: args.n[0], text: args.text.length })", r#"{"n":1,"text":2}"#),
        ("async ({ codemode }, { n }) => (await codemode.test_add({ a: n[0], b: 1 }))", "2"),
        ("async (codemode, args: { n: number[] }): Promise<number> => args.n.length", "2"),
        ("async () => 'none'", "\"none\""),
        ("const f = (a) => a + 1; f(1)", "2"),
    ] {
        match perform(&sandbox, code, Task::RunWith(&arguments), &Limits::default()).await {
            ScriptOutcome::Value(json) => assert_eq!(json.get(), value, "{code}"),
            other => panic!("{code}\n{other:?}"),
        }
    }
}

#[tokio::test]
async fn code_that_is_read_is_not_run_and_its_mistakes_are_told_as_when_it_is() {
    let sandbox = sandbox().await;
    for code in ["async (codemode, args) => codemode.test_hang({})", "codemode.test_echo({})", "for (;;);", "throw new Error('x')"] {
        let read = perform(&sandbox, code, Task::Read, &Limits::default()).await;
        assert!(matches!(&read, ScriptOutcome::Value(json) if json.get() == "true"), "{code}\n{read:?}");
    }
    for (code, told) in [
        ("async () => {", "SyntaxError"),
        ("import fs from 'fs'; fs.x()", "modules cannot be imported"),
        ("def f(x):\n  return x", "this is Python"),
        ("{\"a\": 1}", "this is data, which does nothing"),
    ] {
        let read = perform(&sandbox, code, Task::Read, &Limits::default()).await;
        assert!(matches!(&read, ScriptOutcome::Thrown { message } if message.contains(told)), "{code}\n{read:?}");
    }
    let short = Limits { code: 10, ..Limits::default() };
    assert!(matches!(perform(&sandbox, "async () => 'long'", Task::Read, &short).await, ScriptOutcome::Limit(Limit::Code)));
}
