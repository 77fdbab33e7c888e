//! What passes is unchanged; what does not match the server's own schema does not pass.

use crate::{
    Setup,
    client::Client,
    server::{Server, Speaks},
};
use gnomon_portal::Prefix;
use http::Method;
use serde_json::json;

#[tokio::test]
async fn payloads_reach_the_server_and_come_back_byte_for_byte() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let server = Server::start("one", speaks).await;
        let portal = Setup::of([("one", server.url())]).start().await;
        let client = Client::legacy(portal.address).await;
        let arguments = r#"{ "text" : "a\u0041\/é",  "n":1.0, "z":{"b":1,"a":2} }"#;
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{{"name":"one_echo","arguments":{arguments},"vendor":{{"k":1}}}}}}"#
        );
        let answer = client.send(Method::POST, &[("mcp-session-id", &client.session())], body).await;
        let raw = String::from_utf8(server.got("tools/call")[0].raw.to_vec()).unwrap();
        assert!(raw.contains(&format!(r#""arguments":{arguments}"#)) && raw.contains(r#""vendor":{"k":1}"#), "{raw}");
        assert!(raw.contains(r#""name":"echo""#), "{raw}");
        assert_eq!(answer.last()["id"], "x");
        assert_eq!(answer.last()["result"]["vendor"]["number"].to_string(), "1.0", "{answer:?}");
    }
}

#[tokio::test]
async fn entries_of_lists_keep_what_their_server_wrote() {
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let answer = Client::legacy(portal.address).await.request("tools/list", json!({})).await;
    let echo = &answer.last()["result"]["tools"][0];
    assert_eq!((&echo["name"], echo["vendor"]["kept"].to_string().as_str()), (&json!("one_echo"), "1.0"));
}

#[tokio::test]
async fn neither_side_gets_the_others_credentials() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::modern(portal.address);
    let (headers, body) = client.message("tools/call", json!({"name": "one_echo", "arguments": {"text": "x"}}));
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.extend([("authorization", "Bearer client-secret"), ("cookie", "a=client-secret"), ("x-api-key", "client-secret")]);
    assert_eq!(client.post(&headers, body).await.text(), "one: x");
    for method in ["server/discover", "tools/list", "tools/call"] {
        for got in server.got(method) {
            assert!(!format!("{:?}", got.headers).contains("client-secret"), "{:?}", got.headers);
        }
    }
}

#[tokio::test]
async fn a_result_that_breaks_the_tools_own_schema_does_not_pass() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let server = Server::start("one", speaks).await;
        let portal = Setup::of([("one", server.url())]).start().await;
        for mut client in [Client::modern(portal.address), Client::legacy(portal.address).await] {
            let answer = client.call("one_wrong", json!({})).await;
            assert_eq!(answer.last()["result"]["isError"], true);
            assert!(answer.text().contains("output schema") && !answer.text().contains("many"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn arguments_that_two_readers_could_read_in_two_ways_are_refused() {
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let client = Client::legacy(portal.address).await;
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one_echo","name":"one_delete_all","arguments":{}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one_echo","arguments":{"text":"a","text":"b"}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{}}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"tools/call"}"#,
        "{\"jsonrpc\":\"2.0\"",
    ] {
        let answer = client.send(Method::POST, &[("mcp-session-id", &client.session())], body.to_owned()).await;
        assert!(answer.last()["error"]["code"].as_i64().is_some_and(|code| code <= -32600), "{body}: {answer:?}");
    }
    assert!(server.got("tools/call").is_empty());
}

#[tokio::test]
async fn a_portal_with_one_server_can_show_its_own_names() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).prefix(Prefix::Never).start().await;
    let mut client = Client::legacy(portal.address).await;
    assert_eq!(client.call("echo", json!({"text": "hi"})).await.text(), "one: hi");
    assert_eq!(client.names("resources/list", "resources", "uri").await, ["note://one/1"]);
}
