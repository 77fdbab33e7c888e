//! Results are plain, exact values; whatever is not one is reported.

use crate::stage::{run, sandbox, thrown, value};

#[tokio::test]
async fn a_result_that_is_read_as_what_it_was_made_of_is_an_error_that_tells_what_it_is() {
    let sandbox = sandbox().await;
    for (code, says) in [
        ("(await codemode.test_echo({ rows: [] })).content?.[0]?.text ?? 'no answer'", "an object of rows"),
        ("(await codemode.test_echo([1, 2])).content", "a list of 2"),
        ("((await codemode.test_echo({ a: 1 })).structuredContent?.issues ?? []).length", "an object of a"),
        ("(await codemode.test_slow()).content?.[0]?.text ?? 'no answer'", "a text"),
        ("(await codemode.test_echo({ content: 'words' })).content[0].text ?? 'none'", "a text"),
        ("(await codemode.withMeta('test_echo', { a: 1 })).value.content", "an object of a"),
        ("(await codemode.test_echo({ a: 1 })) > 2", "an object: use one of its fields"),
    ] {
        let text = thrown(&sandbox, &format!("async () => {code}")).await;
        assert!(text.contains(says), "{code}\n{text}");
    }
    for (code, json) in [
        ("async () => (await codemode.test_echo({ content: [1] })).content", "[1]"),
        ("async () => { const r = await codemode.test_echo({ a: 1 }); r.content = 5; return r }", r#"{"a":1,"content":5}"#),
        (
            "async () => { const r = await codemode.test_echo({ a: 1 }); return [Object.keys(r), { ...r }, r.isError] }",
            r#"[["a"],{"a":1},false]"#,
        ),
        ("async () => `${await codemode.test_echo({ a: [1] })}`", r#""{\"a\":[1]}""#),
        ("async () => /overrun/.test(await codemode.test_echo({ content: 'an overrun' }))", "true"),
        ("async () => { const r = await codemode.test_echo({ a: 1 }); r.a = 2; return String(r) }", r#""{\"a\":2}""#),
        ("async () => JSON.parse(await codemode.test_echo({ a: [1] })).a", "[1]"),
        ("async () => JSON.parse(await codemode.test_echo([1, 2]))", "[1,2]"),
        ("async () => JSON.parse('[1]', (k, v) => v)", "[1]"),
    ] {
        assert_eq!(value(&sandbox, code).await, json, "{code}");
    }
}

#[tokio::test]
async fn an_integer_that_numbers_do_not_hold_keeps_all_its_digits_both_ways() {
    let sandbox = sandbox().await;
    let id = "async () => (await codemode.test_echo({ id: 9007199254740993n, small: 7 }))";
    assert_eq!(value(&sandbox, id).await, r#"{"id":"9007199254740993","small":7}"#);
    let again = "async () => { const { id } = await codemode.test_echo({ id: 9007199254740993n }); return `${await codemode.test_echo({ id: BigInt(id), n: [1n] })}` }";
    assert_eq!(value(&sandbox, again).await, r#""{\"id\":9007199254740993,\"n\":[1]}""#);
    // One that has lost digits already goes nowhere.
    for (number, is_told) in
        [("9007199254740993", true), ("-9007199254740992", true), ("2 ** 60", true), ("9007199254740991", false), ("-0.5", false)]
    {
        let code = format!(
            "async () => {{ try {{ await codemode.test_echo({{ a: [{number}] }}); return 'sent' }} catch (e) {{ return e.message }} }}"
        );
        let told = value(&sandbox, &code).await;
        assert_eq!(told.contains("beyond 2^53") && told.contains("BigInt("), is_told, "{number}: {told}");
        assert_eq!(told == "\"sent\"", !is_told, "{number}: {told}");
    }
}

#[tokio::test]
async fn arguments_that_json_has_no_form_for_are_errors_that_name_them() {
    let sandbox = sandbox().await;
    for (code, says) in [
        ("{ text: '😀😀😀'.slice(0, 5) }", "the argument text is a text that ends or begins in half a character: cut it by characters"),
        ("{ n: 0 / 0 }", "the argument n is NaN"),
        ("{ n: 1 / 0 }", "the argument n is Infinity"),
        ("{ text: () => 1 }", "the argument text is a function: call it"),
        ("{ text: Symbol('x') }", "the argument text is a symbol"),
        ("{ all: (async function* () {})() }", "the argument all is an async iterator"),
    ] {
        let text = thrown(&sandbox, &format!("async () => codemode.test_echo({code})")).await;
        assert!(text.contains(says), "{code}\n{text}");
    }
    assert_eq!(value(&sandbox, "async () => [0 / 0, '😀'.slice(0, 1)]").await, "[\"NaN\",\"\u{fffd}\"]");
}

#[tokio::test]
async fn what_is_asked_of_the_portal_wrongly_is_an_error_and_not_left_out() {
    let sandbox = sandbox().await;
    for (code, says) in [
        ("codemode.result('id', '24000')", "codemode.result takes the number of the character"),
        ("codemode.result('id', { from: 24000 })", "takes the number of the character"),
        ("codemode.result('id', 24000.5)", "takes the number of the character"),
        ("codemode.result('id', -5)", "takes the number of the character"),
        ("codemode.result('id', NaN)", "takes the number of the character"),
        ("codemode.result('id', null)", "takes the number of the character"),
        ("codemode.search('x', { limit: '3' })", "limit is a whole number"),
        ("codemode.search('x', { max: 3 })", "has no option max"),
        ("codemode.search('x', 3)", "the second argument of codemode.search is an object"),
        ("codemode.tools('git')", "codemode.search('words', {server: 'name'"),
        ("codemode.withMeta(codemode.test_echo, {})", "say which tool by its name"),
        ("codemode.call('test_echo', { a: 1 })", "a tool is called by its name, as in codemode.test_echo({…})"),
        ("Object.keys(codemode)", "codemode.tools()"),
        ("'test_echo' in codemode", "codemode.tools()"),
        ("crypto.subtle.digest('SHA-256', new Uint8Array(1))", "there is no crypto.subtle here"),
        ("Math.max(...new Array(100000).fill(1))", "reduce"),
        ("import('fs')", "there is no file system"),
    ] {
        let text = thrown(&sandbox, &format!("async () => {code}")).await;
        assert!(text.contains(says), "{code}\n{text}");
    }
    assert_eq!(value(&sandbox, "async () => codemode.result('r', undefined)").await, r#"{"kept":["r"]}"#);
    let none = run(&sandbox, "async () => codemode.search('none')").await;
    assert!(none.logs.iter().any(|line| line.text.starts_with("codemode.search found nothing")), "{none:?}");
}

#[tokio::test]
async fn other_languages_and_lost_functions_are_named() {
    let sandbox = sandbox().await;
    for (code, says) in [
        ("r = await codemode.test_echo({});\nreturn r", "declare it: const r = …"),
        ("const out = codemode.test_echo(n=2)\nprint(out)", "this is Python; in JavaScript named arguments are an object"),
        ("module.exports = async () => codemode.test_echo({})", "leave import, require and module.exports out"),
        ("import { codemode } from 'codemode';\ncodemode.test_echo({})", "leave import and export out"),
        (
            "async () => { await codemode.test_echo(1) }\n\nasync () => { await codemode.test_echo(2) }",
            "a function before the last one would never run",
        ),
        ("const post = async () => { await codemode.test_echo(1) };\nconst done = async () => 'done';", "`post` would never run"),
    ] {
        let text = thrown(&sandbox, code).await;
        assert!(text.contains(says), "{code}\n{text}");
    }
    for (code, json) in [
        ("const post = async () => codemode.test_echo(1);\nconst all = async () => [await post()];", "[1]"),
        ("const post = async () => codemode.test_echo(1);\nawait post()", "1"),
        ("const twice = (n) => n * 2;\nasync () => codemode.test_echo(1)", "1"),
        ("function helper() {}\nasync function main() { return 3 }", "3"),
    ] {
        assert_eq!(value(&sandbox, code).await, json, "{code}");
    }
}

#[tokio::test]
async fn a_form_of_a_language_is_right_or_an_error() {
    let sandbox = sandbox().await;
    for (code, json) in [
        ("1234567.891.toLocaleString()", "1,234,567.891"),
        ("(-1234.5).toLocaleString('en-US')", "-1,234.5"),
        ("(1234.5).toLocaleString('en-US', { minimumFractionDigits: 2 })", "1,234.50"),
        ("(1234.567).toLocaleString(undefined, { maximumFractionDigits: 1 })", "1,234.6"),
        ("(1234).toLocaleString('en', { useGrouping: false })", "1234"),
        ("(1234.5).toLocaleString('en-US', { style: 'currency', currency: 'USD' })", "$1,234.50"),
        ("(0.256).toLocaleString('en-US', { style: 'percent' })", "26%"),
        ("(0.5).toLocaleString()", "0.5"),
        ("(100).toLocaleString()", "100"),
        ("(0).toLocaleString()", "0"),
        ("12345678901234567890n.toLocaleString()", "12,345,678,901,234,567,890"),
        ("'ß'.toLocaleUpperCase('de')", "SS"),
    ] {
        assert_eq!(value(&sandbox, &format!("async () => {code}")).await, format!("\"{json}\""), "{code}");
    }
    assert_eq!(value(&sandbox, "async () => ['a'.localeCompare('b'), new Date(0).toLocaleDateString().length > 5]").await, "[-1,true]");
    for code in [
        "(1234.5).toLocaleString('de-DE')",
        "(1234.5).toLocaleString('en-US', { style: 'currency', currency: 'EUR' })",
        "(1234.5).toLocaleString('en-US', { notation: 'compact' })",
        "new Date(0).toLocaleTimeString('en-US', { timeZone: 'Asia/Tokyo', hour12: false })",
        "new Date(0).toLocaleString(undefined, { timeZone: 'Asia/Tokyo' })",
        "new Date(0).toLocaleDateString('de-DE')",
        "'a2'.localeCompare('a10', undefined, { numeric: true })",
        "'i'.toLocaleUpperCase('tr')",
    ] {
        let text = thrown(&sandbox, &format!("async () => {code}")).await;
        assert!(text.contains("as there is no Intl: "), "{code}\n{text}");
    }
}
