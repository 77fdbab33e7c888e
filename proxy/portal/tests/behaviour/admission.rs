//! Who gets in, and how far.

use crate::{
    Setup,
    client::Client,
    server::{Server, Speaks},
};
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::json;
use std::time::Duration;
use time::format_description::well_known::Rfc3339;

#[tokio::test]
async fn web_pages_of_other_origins_and_other_host_names_get_nowhere() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let client = Client::modern(portal.address);
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}});
    for (header, value, status) in [
        ("host", "evil.example", 403),
        ("host", "localhost.evil.example:80", 403),
        ("host", "localhost:1234", 200),
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://localhost:3000", 200),
    ] {
        assert_eq!(client.post(&[(header, value)], initialize.clone()).await.status, status, "{header}: {value}");
    }
}

#[tokio::test]
async fn session_ids_are_random_say_nothing_and_work_only_while_they_live() {
    let server = Server::start("secretname", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let (one, two) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    assert_ne!(one.session(), two.session());
    assert_eq!(one.session().len(), 32);
    assert!(!one.session().contains("secretname"));
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    assert_eq!(one.post(&[], ping.clone()).await.status, 400);
    assert_eq!(one.post(&[("mcp-session-id", "guessed")], ping.clone()).await.status, 404);
    assert_eq!(one.post(&[("mcp-session-id", &one.session())], ping.clone()).await.status, 200);
    assert_eq!(one.send(Method::DELETE, &[("mcp-session-id", &one.session())], String::new()).await.status, 200);
    assert_eq!(one.post(&[("mcp-session-id", &one.session())], ping.clone()).await.status, 404);
    assert_eq!(two.post(&[("mcp-session-id", &two.session())], ping).await.status, 200);
}

#[tokio::test]
async fn what_policy_hides_cannot_be_called_by_any_road() {
    let server = Server::start("one", Speaks::Both).await;
    let other = Server::start("two", Speaks::Legacy).await;
    let policy = "[{allow: {servers: [one], tools: [echo, ask]}}]";
    let portal = Setup::of([("one", server.url()), ("two", other.url())]).policy(policy).start().await;
    for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
        assert_eq!(client.names("tools/list", "tools", "name").await, ["one_echo", "one_ask"]);
        assert!(client.names("prompts/list", "prompts", "name").await.is_empty());
        assert!(client.names("resources/list", "resources", "uri").await.is_empty());
        let hidden = client.call("one_delete_all", json!({})).await;
        let unknown = client.call("one_nothing", json!({})).await;
        let text = |answer: &crate::client::Answer| answer.last()["error"]["message"].as_str().unwrap().replace("delete_all", "nothing");
        assert_eq!(text(&hidden), text(&unknown), "whether it exists is not told");
        for name in ["two_echo", "one_one_echo", "ONE_echo", "one_echo ", "echo"] {
            assert!(client.call(name, json!({"text": "x"})).await.last()["error"]["code"].is_i64(), "{name}");
        }
        for (method, params) in [
            ("prompts/get", json!({"name": "one_greet"})),
            ("prompts/get", json!({"name": "one_echo"})),
            ("resources/read", json!({"uri": "one+note://one/1"})),
            ("resources/read", json!({"uri": "note://one/1"})),
            ("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "one_greet"}, "argument": {"name": "x", "value": ""}})),
        ] {
            assert!(client.request(method, params.clone()).await.last()["error"]["code"].is_i64(), "{method} {params}");
        }
    }
    assert!(server.got("tools/call").is_empty() && other.got("tools/call").is_empty());
    assert!(server.got("resources/read").is_empty() && server.got("prompts/get").is_empty());
}

#[tokio::test]
async fn policy_looks_at_the_arguments_that_the_server_will_get() {
    let server = Server::start("one", Speaks::Both).await;
    let policy = "[{allow: {servers: [one], tools: [echo], when: 'args.text == \"please\"'}}]";
    let portal = Setup::of([("one", server.url())]).policy(policy).start().await;
    let mut client = Client::legacy(portal.address).await;
    assert_eq!(client.call("one_echo", json!({"text": "please"})).await.text(), "one: please");
    assert_eq!(client.call("one_echo", json!({"text": "now"})).await.last()["error"]["code"], -32602);
    assert_eq!(client.call("one_echo", json!({})).await.last()["error"]["code"], -32602);
    assert_eq!(server.got("tools/call").len(), 1);
}

#[tokio::test]
async fn requests_that_are_too_large_or_of_another_kind_are_refused_in_plain_words() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let client = Client::legacy(portal.address).await;
    let session = client.session();
    let large = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "y".repeat(2 << 20)}});
    assert_eq!(client.post(&[("mcp-session-id", &session)], large).await.status, 413);
    let ping = || json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let batch = json!([ping(), ping()]);
    assert_eq!(client.post(&[("mcp-session-id", &session)], batch).await.status, 400, "batches belong to 2025-03-26");
    assert_eq!(client.post(&[("mcp-session-id", &session), ("mcp-protocol-version", "1999-01-01")], ping()).await.status, 400);
    assert_eq!(client.send(Method::PUT, &[], String::new()).await.status, 405);
}

/// Two service tokens, and an `auth` that knows them.
pub fn two_tokens() -> (String, [String; 2]) {
    tokens_of(["ada", "eve"])
}

/// The same under these names.
pub fn tokens_of<const N: usize>(names: [&str; N]) -> (String, [String; N]) {
    let tokens = names.map(|_| gnomon_access::generate_token().unwrap());
    let known: Vec<String> =
        names.iter().zip(&tokens).map(|(name, token)| format!("{{name: {name}, sha256: '{}', groups: [{name}s]}}", token.sha256)).collect();
    (format!("{{mode: tokens, tokens: [{}]}}", known.join(", ")), tokens.map(|token| format!("Bearer {}", token.token)))
}

#[tokio::test]
async fn a_session_works_for_the_caller_who_began_it_and_nobody_else() {
    let server = Server::start("one", Speaks::Legacy).await;
    let (auth, [ada, eve]) = two_tokens();
    let portal = Setup::of([("one", server.url())]).auth(auth).start().await;
    let client = Client::modern(portal.address);
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}});
    let refused = client.post(&[], initialize.clone()).await;
    assert_eq!(refused.status, 401);
    assert!(refused.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"), "{refused:?}");
    assert_eq!(client.post(&[("authorization", "Bearer gnomon_wrong")], initialize.clone()).await.status, 401);
    let begun = client.post(&[("authorization", &ada)], initialize).await;
    let session = begun.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    for (token, status) in [(&ada, 200), (&eve, 404)] {
        let answer = client.post(&[("authorization", token), ("mcp-session-id", &session)], ping.clone()).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    assert_eq!(client.send(Method::DELETE, &[("authorization", &eve), ("mcp-session-id", &session)], String::new()).await.status, 404);
    assert_eq!(client.post(&[("authorization", &ada), ("mcp-session-id", &session)], ping).await.status, 200);
}

#[tokio::test]
async fn each_caller_sees_and_calls_what_policy_gives_their_group() {
    let server = Server::start("one", Speaks::Modern).await;
    let (auth, [ada, eve]) = two_tokens();
    let policy = "[{allow: {servers: [one], groups: [adas]}}, {allow: {servers: [one], tools: [echo], groups: [eves]}}]";
    let portal = Setup::of([("one", server.url())]).auth(auth).policy(policy).start().await;
    let mut client = Client::modern(portal.address);
    for (token, tools, may_delete) in [(&ada, 6, true), (&eve, 1, false)] {
        let (headers, body) = client.message("tools/list", json!({}));
        let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(("authorization", token));
        let list = client.post(&headers, body).await;
        assert_eq!(list.last()["result"]["tools"].as_array().unwrap().len(), tools, "{list:?}");
        assert_eq!(list.last()["result"]["cacheScope"], "private");
        let (headers, body) = client.message("tools/call", json!({"name": "one_delete_all", "arguments": {}}));
        let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(("authorization", token));
        let call = client.post(&headers, body).await;
        assert_eq!(call.text() == "deleted", may_delete, "{call:?}");
    }
    assert!(!format!("{:?}", server.got("tools/call")).contains(eve.as_str()), "tokens of clients stay here");
}

#[tokio::test]
async fn a_caller_that_may_use_no_tool_reaches_no_task() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).policy("[{allow: {servers: [other]}}]").start().await;
    for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
        for method in ["tasks/get", "tasks/result", "tasks/cancel", "tasks/list"] {
            let answer = client.request(method, json!({})).await;
            assert!(answer.last()["error"]["code"].is_i64(), "{method}: {answer:?}");
            assert!(server.got(method).is_empty(), "{method}");
        }
    }
}

#[tokio::test]
async fn a_page_of_an_origin_that_is_let_in_may_read_its_answers_and_no_other_page_may() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, _) = two_tokens();
    let portal = Setup::of([("one", server.url())]).auth(auth).origins(&["https://inspector.example"]).start().await;
    let client = Client::modern(portal.address);
    let asks = |origin: &'static str| {
        let request = client.build(
            Method::OPTIONS,
            &[
                ("origin", origin),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "authorization,content-type,mcp-session-id,mcp-param-region,x-evil"),
            ],
            String::new(),
        );
        client.http.request(request)
    };
    let granted = asks("https://inspector.example").await.unwrap();
    assert_eq!(granted.status(), 204, "before anybody logs in");
    assert_eq!(granted.headers()["access-control-allow-origin"], "https://inspector.example");
    assert_eq!(granted.headers()["access-control-allow-headers"], "authorization, content-type, mcp-session-id, mcp-param-region");
    assert!(!granted.headers().contains_key("access-control-allow-credentials"));
    let refused = asks("https://evil.example").await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers().get("access-control-allow-origin")), (403, None));
    // A refusal is readable as well: it says where to log in.
    let turned_away = client.build(Method::POST, &[("origin", "https://inspector.example")], "{}".to_owned());
    let turned_away = client.http.request(turned_away).await.unwrap();
    assert_eq!(turned_away.status(), 401);
    assert_eq!(turned_away.headers()["access-control-allow-origin"], "https://inspector.example");
    assert!(turned_away.headers()["access-control-expose-headers"].to_str().unwrap().contains("www-authenticate"));
}

#[tokio::test]
async fn a_stream_ends_when_the_proof_of_its_caller_does() {
    let server = Server::start("one", Speaks::Both).await;
    let token = gnomon_access::generate_token().unwrap();
    let end = time::OffsetDateTime::now_utc() + Duration::from_secs(3);
    let written = end.format(&Rfc3339).unwrap();
    let auth = format!("{{mode: tokens, tokens: [{{name: ada, sha256: '{}', expires: '{written}'}}]}}", token.sha256);
    let portal = Setup::of([("one", server.url())]).auth(auth).start().await;
    let bearer = format!("Bearer {}", token.token);
    let mut client = Client::modern(portal.address);
    let (headers, body) = client.message("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.push(("authorization", &bearer));
    let mut stream = client.open(&headers, body).await.into_body();
    assert_eq!(crate::client::next_event(&mut stream).await["method"], "notifications/subscriptions/acknowledged");
    let last = crate::client::next_event(&mut stream).await;
    assert_eq!(last["result"]["resultType"], "complete", "{last}");
    assert!(time::OffsetDateTime::now_utc() >= end);
}

#[tokio::test]
async fn streams_that_wait_for_news_end_once_a_reload_takes_their_caller_s_token_or_its_groups_and_others_go_on() {
    let server = Server::start("one", Speaks::Both).await;
    let tokens = ["ada", "bob", "eve"].map(|name| (name, gnomon_access::generate_token().unwrap()));
    let entry =
        |(name, token): &(&str, gnomon_access::NewToken)| format!("{{name: {name}, sha256: '{}', groups: [{name}s]}}", token.sha256);
    let auth = |entries: &[String]| format!("{{mode: tokens, tokens: [{}]}}", entries.join(", "));
    let all = tokens.each_ref().map(entry);
    let portal = Setup::of([("one", server.url())]).auth(auth(&all)).start().await;
    let mut streams = Vec::new();
    for (_, token) in &tokens {
        let bearer = format!("Bearer {}", token.token);
        let mut client = Client::modern(portal.address).holding(&bearer);
        let (headers, body) = client.message("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut subscribed = client.open(&headers, body).await.into_body();
        assert_eq!(crate::client::next_event(&mut subscribed).await["method"], "notifications/subscriptions/acknowledged");
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}});
        let begun = client.post(&[], initialize).await;
        let session = begun.headers["mcp-session-id"].to_str().unwrap().to_owned();
        let standing = client.listen(&session).await;
        streams.push((subscribed, standing));
    }
    // Ada's token is gone, and Bob is in another group.
    portal.reauthenticate(&auth(&[all[1].replace("bobs", "others"), all[2].clone()])).await;
    for (subscribed, standing) in &mut streams[..2] {
        assert_eq!(crate::client::next_event(subscribed).await["result"]["resultType"], "complete");
        assert!(crate::soon("the end of the stream", standing.frame()).await.is_none());
    }
    portal.regulate("[{allow: {servers: ['*']}}]");
    let (subscribed, standing) = &mut streams[2];
    for stream in [subscribed, standing] {
        assert_eq!(crate::client::next_event(stream).await["method"], "notifications/tools/list_changed");
    }
}

#[tokio::test]
async fn in_a_session_nothing_is_heard_of_a_server_that_a_reload_takes_away() {
    let server = Server::scripted("u1", Speaks::Legacy, |_, _| None).await;
    let portal = Setup::of([("u1", server.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    client.request("logging/setLevel", json!({"level": "debug"})).await;
    client.call("u1_echo", json!({"text": "x"})).await;
    let mut stream = client.stand().await;
    server.heard_by(2).await;
    server.say("notifications/message", json!({"level": "info", "data": "before"}));
    assert_eq!(crate::client::next_event(&mut stream).await["params"]["data"], "before");
    portal.regulate("[{allow: {servers: [other]}}]");
    server.say("notifications/message", json!({"level": "info", "data": "secret"}));
    tokio::time::sleep(Duration::from_millis(200)).await;
    portal.regulate("[{allow: {servers: ['*']}}]");
    server.say("notifications/message", json!({"level": "info", "data": "after"}));
    loop {
        let event = crate::client::next_event(&mut stream).await;
        assert_ne!(event["params"]["data"], "secret");
        if event["params"]["data"] == "after" {
            return;
        }
    }
}
