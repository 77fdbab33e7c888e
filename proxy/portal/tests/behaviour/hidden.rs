//! A caller from whom policy hides a server gets nothing of it: no instructions, no name, no notifications.

use crate::{
    Setup,
    admission::two_tokens,
    client::{Client, next_event},
    server::{Server, Speaks, closed_port},
};
use serde_json::{Value, json};
use std::time::Duration;

const POLICY: &str = "[{allow: {servers: ['*'], groups: [adas]}}, {allow: {servers: [open], groups: [eves]}}]";

#[tokio::test]
async fn instructions_and_outages_of_hidden_servers_are_not_sent_to_callers_that_may_not_use_them() {
    let (open, secret) = (Server::start("open", Speaks::Legacy).await, Server::start("secret", Speaks::Legacy).await);
    let gone = format!("http://{}/mcp", closed_port());
    let (auth, [ada, eve]) = two_tokens();
    let portal = Setup::of([("open", open.url()), ("secret", secret.url()), ("gone", gone)]).auth(auth).policy(POLICY).start().await;
    for (bearer, sees) in [(&ada, true), (&eve, false)] {
        let mut client = Client::modern(portal.address).holding(bearer);
        let session = client.initialize().await;
        let discovered = client.request("server/discover", json!({})).await;
        for answer in [&session, &discovered] {
            let said = answer.last()["result"]["instructions"].as_str().unwrap();
            assert!(said.contains("Ask open for it."), "{said}");
            assert_eq!((said.contains("secret"), said.contains("gone")), (sees, sees), "{said}");
        }
        for mut client in [Client::modern(portal.address).holding(bearer), Client::modern(portal.address).holding(bearer).begun().await] {
            let list = client.request("tools/list", json!({})).await;
            let missing = list.last()["result"]["_meta"]["dev.gnomon/missing"].to_string();
            assert_eq!(missing.contains("gone"), sees, "{missing}");
            let refused = client.call("gone_tool", json!({})).await;
            let text = refused.last()["error"]["message"].as_str().unwrap();
            assert_eq!(text != "Unknown tool: gone_tool", sees, "{text}");
        }
    }
}

#[tokio::test]
async fn rules_judge_instructions_as_they_judge_lists() {
    let server = Server::start("one", Speaks::Legacy).await;
    let other = Server::start("two", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url()), ("two", other.url())]).rule("block", "mcp.server.name: one").start().await;
    let client = Client::modern(portal.address);
    let said = client.initialize().await.last()["result"]["instructions"].as_str().unwrap_or_default().to_owned();
    assert!(said.contains("Ask two") && !said.contains("Ask one"), "{said}");
}

fn documents(method: &str) -> Option<Value> {
    (method == "resources/list").then(|| {
        json!({"resources": [
            {"uri": "doc://open/a", "name": "a"}, {"uri": "doc://secret/b", "name": "b"}, {"uri": "doc://secret/b/deeper", "name": "c"},
        ]})
    })
}

#[tokio::test]
async fn only_resources_that_a_caller_may_read_are_watched_for_them() {
    let server = Server::scripted("u1", Speaks::Modern, |method, _| documents(method)).await;
    let (auth, [ada, eve]) = two_tokens();
    let policy = "[{allow: {servers: [u1], groups: [adas]}}, {allow: {servers: [u1], resources: ['doc://open/**'], groups: [eves]}}]";
    let portal = Setup::of([("u1", server.url())]).auth(auth).policy(policy).start().await;
    let uris = json!(["u1+doc://open/a", "u1+doc://secret/b", "u1+doc://nothing"]);
    let mut streams = Vec::new();
    for (bearer, granted) in
        [(&ada, json!(["u1+doc://open/a", "u1+doc://secret/b", "u1+doc://nothing"])), (&eve, json!(["u1+doc://open/a"]))]
    {
        let mut client = Client::modern(portal.address).holding(bearer);
        client.names("resources/list", "resources", "uri").await;
        let (headers, body) = client.message("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": uris}}));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut stream = client.open(&headers, body).await.into_body();
        let acknowledged = next_event(&mut stream).await;
        assert_eq!(acknowledged["params"]["notifications"]["resourceSubscriptions"], granted, "{acknowledged}");
        streams.push(stream);
    }
    watched(&server, 3).await;
    for uri in ["doc://secret/b", "doc://secret/b/deeper", "doc://open/a"] {
        server.say("notifications/resources/updated", json!({"uri": uri}));
    }
    let [ada, eve] = &mut streams[..] else { unreachable!() };
    assert_eq!(next_event(ada).await["params"]["uri"], "u1+doc://secret/b");
    assert_eq!(next_event(ada).await["params"]["uri"], "u1+doc://open/a", "the whole URI counts");
    assert_eq!(next_event(eve).await["params"]["uri"], "u1+doc://open/a");
    // When policy takes a right away, the subscription ends too.
    portal.regulate("[{allow: {servers: [u1], resources: ['doc://secret/**'], groups: [adas]}}]");
    for uri in ["doc://open/a", "doc://secret/b"] {
        server.say("notifications/resources/updated", json!({"uri": uri}));
    }
    assert_eq!(next_event(ada).await["params"]["uri"], "u1+doc://secret/b");
}

/// Waits until the portal is subscribed to this many of its resources.
async fn watched(server: &Server, count: usize) {
    crate::soon("the subscription", async {
        loop {
            let last = server.got("subscriptions/listen").pop();
            let uris = last.and_then(|got| got.body["params"]["notifications"]["resourceSubscriptions"].as_array().map(Vec::len));
            if uris == Some(count) {
                return server.heard_by(1).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn in_a_session_a_server_tells_of_resources_that_may_be_read_and_of_no_others() {
    let server = Server::scripted("u1", Speaks::Legacy, |method, _| {
        documents(method).or_else(|| (method == "resources/subscribe").then(|| json!({})))
    })
    .await;
    let portal = Setup::of([("u1", server.url())]).policy("[{allow: {servers: [u1], resources: ['doc://open/**']}}]").start().await;
    let mut client = Client::legacy(portal.address).await;
    client.names("resources/list", "resources", "uri").await;
    let refused = client.request("resources/subscribe", json!({"uri": "u1+doc://secret/b"})).await;
    assert!(refused.last()["error"]["code"].is_i64(), "{refused:?}");
    let done = client.request("resources/subscribe", json!({"uri": "u1+doc://open/a"})).await;
    assert!(done.last()["result"].is_object(), "{done:?}");
    let mut stream = client.stand().await;
    // The portal's own stream, and the session's.
    server.heard_by(2).await;
    for uri in ["doc://secret/b", "doc://open/a"] {
        server.say("notifications/resources/updated", json!({"uri": uri}));
    }
    assert_eq!(next_event(&mut stream).await["params"]["uri"], "u1+doc://open/a");
}

#[tokio::test]
async fn changed_lists_are_announced_to_callers_that_may_see_them() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let open = Server::scripted("open", speaks, |_, _| None).await;
        let secret = Server::scripted("secret", speaks, |_, _| None).await;
        let (auth, [_, eve]) = two_tokens();
        let portal = Setup::of([("open", open.url()), ("secret", secret.url())]).auth(auth).policy(POLICY).start().await;
        let mut modern = Client::modern(portal.address).holding(&eve);
        assert_eq!(modern.names("prompts/list", "prompts", "name").await, ["open_greet"]);
        let wanted = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true}});
        let (headers, body) = modern.message("subscriptions/listen", wanted);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut listening = modern.open(&headers, body).await.into_body();
        assert_eq!(next_event(&mut listening).await["method"], "notifications/subscriptions/acknowledged");
        let mut standing = Client::modern(portal.address).holding(&eve).begun().await.stand().await;
        for server in [&open, &secret] {
            server.heard_by(1).await;
        }
        secret.say("notifications/tools/list_changed", json!({}));
        // The portal took notice of it when it fetched the list again.
        crate::soon("the list to be fetched", async {
            while secret.got("tools/list").len() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        open.say("notifications/prompts/list_changed", json!({}));
        for stream in [&mut listening, &mut standing] {
            assert_eq!(next_event(stream).await["method"], "notifications/prompts/list_changed", "{speaks:?}");
        }
    }
}

#[tokio::test]
async fn the_reason_of_a_denial_is_told_to_whoever_may_use_something_else_of_the_server_and_to_nobody_else() {
    let server = Server::scripted("one", Speaks::Modern, |method, _| {
        (method == "tools/list").then(|| {
            let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
            json!({"tools": [tool("read"), tool("drop"), tool("hush")]})
        })
    })
    .await;
    let policy =
        "[{allow: {servers: [one], groups: [adas]}}, {deny: {tools: [drop], reason: 'Nothing is dropped.'}}, {deny: {tools: [hush]}}]";
    let (auth, [ada, eve]) = two_tokens();
    let portal = Setup::of([("one", server.url())]).auth(auth).policy(policy).start().await;
    for (bearer, tool, told) in [
        (&ada, "one_drop", "`one_drop` is not allowed here: Nothing is dropped."),
        (&ada, "one_hush", "Unknown tool: one_hush"),
        (&eve, "one_drop", "Unknown tool: one_drop"),
    ] {
        let mut client = Client::modern(portal.address).holding(bearer);
        let listed = client.request("tools/list", json!({})).await.last()["result"].to_string();
        assert!(!listed.contains("drop"), "{listed}");
        assert_eq!(client.call(tool, json!({})).await.last()["error"]["message"], told);
    }
}
