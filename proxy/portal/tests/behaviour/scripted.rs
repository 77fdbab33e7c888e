//! What a model reads about its scripts: what was done, what was not, and what to do next.

use crate::{
    Setup,
    admission::two_tokens,
    client::{Answer, Client, next_event},
    server::{Server, Speaks},
};
use gnomon_portal::CodeMode;
use serde_json::{Value, json};
use std::time::Duration;

async fn run(client: &mut Client, tool: &str, code: &str) -> Answer {
    client.call(&format!("portal_codemode_{tool}"), json!({"code": code})).await
}

fn failed(answer: &Answer) -> bool {
    answer.last()["result"]["isError"] == true
}

/// A chat server with a tool that posts, one with a long answer, one that fails for some time, and one that never answers.
async fn chat() -> Server {
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let tools = json!([
        {"name": "post_message", "description": "Post a message. To a channel or a person.", "inputSchema": {"type": "object", "properties": {"channel": {"type": "string"}, "text": {"type": "string"}}, "required": ["channel"]}},
        {"name": "history", "description": "All that was said", "inputSchema": object(json!({"bytes": {"type": "integer"}}))},
        {"name": "busy", "description": "Is busy", "inputSchema": object(json!({}))},
    ]);
    Server::with_tools("chat", Speaks::Both, tools, |tool, arguments| match tool {
        "post_message" => json!({"content": [{"type": "text", "text": "12345678901234567890"}], "_meta": {"etag": "e1"}}),
        "busy" => json!({"content": [{"type": "text", "text": "too many requests"}], "isError": true, "_meta": {"retryAfter": 7}}),
        _ => json!({"content": [{"type": "text", "text": "x".repeat(arguments["bytes"].as_u64().unwrap_or(10) as usize)}]}),
    })
    .await
}

#[tokio::test]
async fn what_a_script_says_is_done_is_done_and_a_failure_tells_what_was() {
    let server = chat().await;
    let portal = Setup::of([("chat", server.url())]).code_mode(CodeMode::Enforced).start().await;
    let mut client = Client::modern(portal.address);
    let sent = run(&mut client, "execute", "async () => { codemode.chat_post_message({channel: 'a'}); return 'sent' }").await;
    assert!(sent.text().starts_with("sent\n\nA call was still under way"), "{}", sent.text());
    assert_eq!(server.got("tools/call").len(), 1);
    let broken =
        "async () => { await codemode.chat_post_message({channel: 'a'}); await codemode.chat_busy().catch(() => 0); return null.x }";
    let broken = run(&mut client, "execute", broken).await;
    assert!(failed(&broken), "{broken:?}");
    let told = "Calls before that: chat_post_message ok; chat_busy failed. What is ok was done: do not do it again.";
    assert!(broken.text().ends_with(told) && broken.text().contains("script:1:"), "{}", broken.text());
    let nothing = run(&mut client, "execute", "async () => { await codemode.chat_post_message({channel: 'a'}) }").await;
    assert_eq!(nothing.text(), "null\n\nThe script returned nothing: `return` what is to be known. Its calls: chat_post_message ok.");
    let unreadable = run(&mut client, "execute", "namespace N { export class {} }").await;
    assert!(failed(&unreadable) && unreadable.text().starts_with("Error: SyntaxError: "), "{unreadable:?}");
    assert!(portal.metrics().contains(r#"gnomon_codemode_executions_total{outcome="violation",tool="portal_codemode_execute"} 0"#));
}

#[tokio::test]
async fn digits_stay_text_and_what_comes_beside_an_answer_can_be_had() {
    let server = chat().await;
    let portal = Setup::of([("chat", server.url())]).code_mode(CodeMode::Enforced).start().await;
    let mut client = Client::modern(portal.address);
    let post = run(&mut client, "execute", "async () => codemode.chat.post_message({channel: 'a'})").await;
    assert_eq!(post.text(), "12345678901234567890");
    let post = run(&mut client, "execute", "async () => codemode.withMeta('chat_post_message', {channel: 'a'})").await;
    let post: Value = serde_json::from_str(post.text()).unwrap();
    assert_eq!((&post["value"], &post["meta"]["etag"]), (&json!("12345678901234567890"), &json!("e1")));
    let busy = "async () => { try { await codemode.withMeta('chat_busy') } catch (e) { return [e.message, e.meta.retryAfter] } }";
    assert_eq!(run(&mut client, "execute", busy).await.text(), r#"["too many requests",7]"#);
}

#[tokio::test]
async fn a_search_prints_a_line_for_each_tool_and_a_call_in_it_is_told_where_to_call() {
    let server = chat().await;
    let portal = Setup::of([("chat", server.url())]).code_mode(CodeMode::Enforced).start().await;
    let mut client = Client::modern(portal.address);
    let found = run(&mut client, "search", "async () => codemode.search('send a message', {limit: 1})").await;
    let found: Value = serde_json::from_str(found.text()).unwrap();
    let line = "chat_post_message({channel: string, text?: string})";
    assert_eq!(found, json!([{"name": "chat_post_message", "signature": line, "summary": "Post a message"}]));
    let whole =
        "async () => (await codemode.search('send a message', {limit: 1})).map(t => [t.server, t.description, t.inputSchema.required])";
    let whole = run(&mut client, "search", whole).await;
    assert_eq!(whole.text(), r#"[["chat","Post a message. To a channel or a person.",["channel"]]]"#);
    let called = run(&mut client, "search", "async () => codemode.chat_post_message({channel: 'a'})").await;
    assert!(failed(&called) && called.text().contains("call it in portal_codemode_execute"), "{called:?}");
    assert!(server.got("tools/call").is_empty());
    let described = run(&mut client, "search", "async () => codemode.describe('chat_post_message', 'chat_busy')").await;
    assert!(described.text().contains("channel: string;") && described.text().contains("chat_busy"), "{}", described.text());
    let slip = run(&mut client, "search", "async () => codemode.describe('chat_post_massage')").await;
    assert!(slip.text().contains("did you mean `chat_post_message`?"), "{}", slip.text());
}

#[tokio::test]
async fn a_long_result_is_kept_for_the_caller_of_its_script_and_for_no_other() {
    let server = chat().await;
    let (auth, [ada, eve]) = two_tokens();
    let portal = Setup::of([("chat", server.url())]).auth(auth).code_mode(CodeMode::Enforced).start().await;
    let mut client = Client::modern(portal.address).holding(&ada);
    // Longer than one answer could be before; the whole result is kept.
    let long = run(&mut client, "execute", "async () => (await codemode.chat_history({bytes: 600000})) + 'end'").await;
    assert!(long.text().contains("TRUNCATED: 600003 characters"), "{}", &long.text()[24_000..]);
    let id = long.text().split("codemode.result('").nth(1).and_then(|rest| rest.split('\'').next()).unwrap().to_owned();
    let rest = run(&mut client, "execute", &format!("async () => codemode.result('{id}', 599999)")).await;
    assert_eq!(rest.text(), "xend");
    let value = run(&mut client, "search", &format!("async () => (await codemode.result('{id}')).length")).await;
    assert_eq!(value.text(), "600003");
    assert_eq!(server.got("tools/call").len(), 1, "nothing was run again");
    for (bearer, name) in [(&eve, id.as_str()), (&ada, "gnomon.other")] {
        let mut other = Client::modern(portal.address).holding(bearer);
        let none = run(&mut other, "execute", &format!("async () => codemode.result('{name}')")).await;
        assert!(failed(&none) && none.text().contains("no result is kept by this name"), "{none:?}");
    }
}

#[tokio::test]
async fn a_script_that_is_out_of_time_tells_which_call_did_not_answer() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).code_mode(CodeMode::Enforced).wall_time(Duration::from_secs(2)).start().await;
    let mut client = Client::modern(portal.address);
    let late = run(&mut client, "execute", "async () => { await codemode.one_echo({text: 'x'}); return codemode.one_wait({}) }").await;
    assert!(failed(&late), "{late:?}");
    assert!(late.text().contains("Calls before that: one_echo ok; one_wait unanswered, perhaps done."), "{}", late.text());
}

#[tokio::test]
async fn a_client_that_wants_to_hear_of_progress_hears_of_each_call() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).code_mode(CodeMode::Enforced).start().await;
    let mut client = Client::legacy(portal.address).await;
    let code = "async () => { await codemode.one_echo({text: 'x'}); await codemode.one_echo({text: 'y'}); return 'done' }";
    let params = json!({"name": "portal_codemode_execute", "arguments": {"code": code}, "_meta": {"progressToken": "mine"}});
    let (headers, body) = client.message("tools/call", params);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut stream = client.open(&headers, body).await.into_body();
    for step in [1, 2] {
        let said = next_event(&mut stream).await;
        assert_eq!(said["params"], json!({"progressToken": "mine", "progress": step, "message": "one_echo"}), "{said}");
    }
    assert_eq!(next_event(&mut stream).await["result"]["content"][0]["text"], "done");
}
