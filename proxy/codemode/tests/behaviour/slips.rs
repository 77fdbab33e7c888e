//! Slips that would be wrong without a word are errors that say what to do, remarks, or come out as they were meant.

use crate::stage::{run, sandbox, thrown, value};

#[tokio::test]
async fn a_result_taken_for_a_list_or_a_text_that_it_is_not_says_where_those_are() {
    let sandbox = sandbox().await;
    for (code, says) in [
        (
            "(await codemode.test_echo({ total: 3, items: [1, 2, 3] })).length",
            "an object of total, items: its list is .items, as in .items.length",
        ),
        ("(await codemode.test_echo({ items: [1] })).map((one) => one)", "its list is .items, as in .items.map"),
        ("(await codemode.test_echo({ a: 1 })).split(',')", "an object of a: use one of its fields"),
        ("(await codemode.test_echo({ content: 'a b' })).filter(Boolean)", "its text is .content"),
    ] {
        let text = thrown(&sandbox, &format!("async () => {code}")).await;
        assert!(text.contains(says), "{code}\n{text}");
    }
    for (code, json) in [
        ("(await codemode.test_echo({ length: 7 })).length", "7"),
        ("Object.assign(await codemode.test_echo({ a: 1 }), { length: 2, map: 3 })", r#"{"a":1,"length":2,"map":3}"#),
        ("(await codemode.test_echo({ a: { b: 1 } })).a.length ?? 'none'", "\"none\""),
    ] {
        assert_eq!(value(&sandbox, &format!("async () => {code}")).await, json, "{code}");
    }
}

#[tokio::test]
async fn what_only_says_something_is_a_text_for_whoever_takes_it_for_one() {
    let sandbox = sandbox().await;
    for (code, json) in [
        ("`${said}!`", "\"one\\ntwo!\""),
        ("said.split('\\n')", r#"["one","two"]"#),
        ("[said.length, said.includes('two'), said.content]", r#"[7,true,"one\ntwo"]"#),
        ("said", r#"{"content":"one\ntwo"}"#),
        ("JSON.parse(await codemode.test_echo({ result: '{\"a\": 1}' })).a", "1"),
        ("`${await codemode.test_echo({ id: 'x' })}`", r#""{\"id\":\"x\"}""#),
    ] {
        let code = format!("async () => {{ const said = await codemode.test_echo({{ content: 'one\\ntwo' }}); return {code} }}");
        assert_eq!(value(&sandbox, &code).await, json, "{code}");
    }
}

#[tokio::test]
async fn an_object_is_no_text_and_no_key() {
    let sandbox = sandbox().await;
    for code in ["`by ${user}`", "'by ' + user", "({ [user]: 1 })", "[user].join()", "user > 1", "encodeURIComponent(user)"] {
        let text = thrown(&sandbox, &format!("async () => {{ const user = {{ login: 'ana' }}; return {code} }}")).await;
        assert!(text.contains("an object is used as a text or a number: use one of its fields (login)"), "{code}\n{text}");
    }
    for (code, json) in [
        ("`${[1, [2, 3]]} ${new Date(0).getTime()} ${() => 1}`", "\"1,2,3 0 () => 1\""),
        ("`${new Error('x')} ${/a/} ${new URL('http://a/')}`", "\"Error: x /a/ http://a/\""),
        ("`${{ toString() { return 'own' } }}` + { valueOf() { return 1 } }", "\"own1\""),
        ("new Date(86400000) - new Date(0)", "86400000"),
        ("[{} === {}, {} == null, Object.prototype.toString.call([])]", r#"[false,false,"[object Array]"]"#),
    ] {
        assert_eq!(value(&sandbox, &format!("async () => {code}")).await, json, "{code}");
    }
}

#[tokio::test]
async fn sorting_is_as_it_was_meant_or_an_error() {
    let sandbox = sandbox().await;
    for code in ["[10, 9, 1].sort()", "[10, 9, 1].toSorted()"] {
        assert!(thrown(&sandbox, &format!("async () => {code}")).await.contains("((a, b) => a - b)"), "{code}");
    }
    for (code, json) in [
        ("[3, 1, 2].sort()", "[1,2,3]"),
        ("['b', 'a', 10].sort()", "[10,\"a\",\"b\"]"),
        ("[2, 30, 1, 30, 4].sort((a, b) => a < b)", "[30,30,4,2,1]"),
        ("[2, 30, 1, 4].toSorted((a, b) => a > b)", "[1,2,4,30]"),
        ("[10, 9, 1].sort((a, b) => a - b)", "[1,9,10]"),
    ] {
        assert_eq!(value(&sandbox, &format!("async () => {code}")).await, json, "{code}");
    }
}

#[tokio::test]
async fn maps_sets_and_errors_are_written_with_what_they_hold() {
    let sandbox = sandbox().await;
    let code = "async () => JSON.stringify([new Map([['a', 1]]), new Set([1]), new RangeError('far'), /x/])";
    assert_eq!(value(&sandbox, code).await, r#""[{\"a\":1},[1],{\"name\":\"RangeError\",\"message\":\"far\"},\"/x/\"]""#);
    let text = thrown(&sandbox, "async () => Object.entries(new Map([['a', 1]]))").await;
    assert!(text.contains("[...map.entries()]"), "{text}");
}

#[tokio::test]
async fn a_field_that_is_not_there_reaches_no_tool_and_no_result_without_a_word() {
    let sandbox = sandbox().await;
    for code in ["`by ${user.name}`", "'sum ' + 2 * user.age", "`on ${new Date(user.born)}`"] {
        let code = format!("async () => {{ const user = {{ login: 'ana' }}; return codemode.test_echo({{ text: {code} }}) }}");
        let execution = run(&sandbox, &code).await;
        assert_eq!(execution.host_calls, 0, "{execution:?}");
        assert!(thrown(&sandbox, &code).await.contains("which nothing gave: a field is not there"), "{code}");
    }
    // What the code or an answer says itself is no slip.
    for code in [
        "async () => codemode.test_echo({ text: 'x is undefined' })",
        "async () => { const said = await codemode.test_words(); return codemode.test_echo({ text: said }) }",
        "codemode.test_echo({ text: 'NaN' })",
    ] {
        let execution = run(&sandbox, code).await;
        let echoed = execution.called.iter().any(|called| called.tool == "test_echo");
        assert!(echoed && execution.remark.is_empty(), "{code} {execution:?}");
    }
    for (code, remark) in [
        ("[{ n: 1, author: user.name }, { n: 2, author: user.name }]", "undefined throughout the result, and left out: `author`"),
        ("JSON.stringify({ author: user.name })", "left out: `author`"),
        ("[user.name]", "each item of a list"),
        ("`by ${user.name}`", "undefined stands in the result"),
        ("[{ n: 1, author: user.name }, { n: 2, author: 'x' }]", ""),
        ("[{ n: 1, author: user.name ?? undefined }]", ""),
    ] {
        let execution = run(&sandbox, &format!("async () => {{ const user = {{ login: 'ana' }}; return {code} }}")).await;
        assert!(if remark.is_empty() { execution.remark.is_empty() } else { execution.remark.contains(remark) }, "{code} {execution:?}");
    }
}

#[tokio::test]
async fn a_failure_that_nobody_looked_at_is_told() {
    let sandbox = sandbox().await;
    let note = "Note: test_fail failed, and the script did not look at why: the tool says no";
    for code in [
        "async () => { try { await codemode.test_fail() } catch { return [] } }",
        "async () => codemode.test_fail().catch(() => null)",
        "async () => (await Promise.allSettled([codemode.test_fail()])).length",
    ] {
        assert_eq!(run(&sandbox, code).await.remark, note, "{code}");
    }
    for code in [
        "async () => { try { await codemode.test_fail() } catch (e) { return e.message } }",
        "async () => { try { await codemode.test_fail() } catch (e) { return e } }",
        "async () => { try { await codemode.test_fail() } catch (e) { console.log(e) } }",
        "async () => { try { await codemode.test_fail() } catch (e) { return String(e) } }",
    ] {
        assert_eq!(run(&sandbox, code).await.remark, "", "{code}");
    }
}

#[tokio::test]
async fn calls_of_other_languages_are_named_as_such() {
    let sandbox = sandbox().await;
    for (code, says) in [
        ("print(default_api.test_echo(a=1))", "this is Python; in JavaScript named arguments are an object: codemode.<name>({a: …})"),
        ("[test_echo(a=1, b=2)]", "codemode.<name>({a: …})"),
        ("<tool_call>\n{\"name\": \"test_echo\", \"arguments\": {}}\n</tool_call>", "this is a call as data"),
    ] {
        let text = thrown(&sandbox, code).await;
        assert!(text.contains(says), "{code}\n{text}");
    }
}
