use super::{Unreadable, expression, normalise};

/// The body of the function that `code` becomes.
fn body(code: &str) -> String {
    let whole = normalise(code).unwrap();
    let inner = whole.strip_prefix("(async()=>{").and_then(|rest| rest.strip_suffix("})")).unwrap();
    inner.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn types_are_stripped() {
    assert_eq!(body("const n: number = 1 as any; return n!"), "const n = 1;; return n;;");
    assert_eq!(body("interface A { b: string }\ntype C = A;\nconst d = {} satisfies A; d"), "const d = {};; return ( d )");
    assert_eq!(body("import type { A } from './a'; 1"), "return ( 1 )");
    assert_eq!(body("async (a: string): Promise<void> => {}"), "return ( async (a) => {} )");
}

#[test]
fn fences_and_talk_around_them_are_taken_off() {
    for code in ["```ts\n1 as number\n```", "```\n1\n```", "```javascript\n1", "Here you are:\n```js\n1\n```\nIt returns one."] {
        assert_eq!(body(code), "return ( 1 )", "{code}");
    }
    assert_eq!(expression("```js\nasync () => 1;\n```"), Some("async () => 1"));
    assert_eq!(expression("```\n```"), None);
    assert_eq!(expression(" ; "), None);
}

#[test]
fn the_last_expression_is_the_result() {
    assert_eq!(body("const a = 1;\na + 1;"), "const a = 1;; return ( a + 1 )");
    assert_eq!(body("f();\ng();"), "f();; return ( g() )".replace("f();;", "f();"));
    assert_eq!(body("if (a) { b() }"), "if (a) { b(); };");
}

#[test]
fn a_function_that_nobody_calls_is_the_program() {
    assert_eq!(body("async function main() { return 1 }"), "async function main() { return 1; }; return ( main )");
    assert_eq!(body("const main = async () => 1"), "const main = async () => 1;; return ( main )");
    assert_eq!(body("export default async () => 1"), "return ( async () => 1 )");
    assert_eq!(body("export async function run() {}"), "async function run() {}; return ( run )");
    assert_eq!(body("export default main;\nfunction main() {}"), "function main() {} return ( main )");
}

#[test]
fn nothing_is_a_program_that_does_nothing() {
    assert_eq!(normalise("  ").unwrap(), "(async()=>{})");
    assert_eq!(body("// only a comment"), "");
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    let Err(Unreadable::Syntax { line, column, .. }) = normalise("const a = 1;\nconst b: = 2") else { panic!() };
    assert_eq!((line, column), (2, 10));
    assert_eq!(normalise("import fs from 'fs'; fs.readFileSync('/etc/passwd')"), Err(Unreadable::Module));
    assert_eq!(normalise("export * from 'x'"), Err(Unreadable::Module));
}
