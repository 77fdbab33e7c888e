//! Pages of tools (`ui://`) of several servers: no two are mixed up, policy holds for them as for their tools, and what they may load stays
//! as their server declared it.

use crate::{
    Setup,
    client::Client,
    server::{Server, Speaks},
};
use serde_json::{Value, json};

const TYPE: &str = "text/html;profile=mcp-app";

/// A server with two tools that have pages, one named in each of the two ways, and a tool that only pages may call.
async fn paged(name: &'static str, speaks: Speaks) -> Server {
    let tool = |name: &str, meta: Value| json!({"name": name, "inputSchema": {"type": "object"}, "_meta": meta});
    let csp = json!({"csp": {"connectDomains": ["https://api.example"]}, "permissions": {"camera": {}}, "domain": "d"});
    Server::scripted(name, speaks, move |method, params| match method {
        "tools/list" => Some(json!({"tools": [
            tool("dash", json!({"ui": {"resourceUri": "ui://app/dash"}, "ui/resourceUri": "ui://app/dash", "kept": 1.0})),
            tool("secret", json!({"ui/resourceUri": "ui://app/secret"})),
            tool("refresh", json!({"ui": {"resourceUri": "ui://app/dash", "visibility": ["app"]}})),
            tool("plain", json!({})),
        ]})),
        "resources/list" => Some(json!({"resources": [
            {"uri": "ui://app/dash", "name": "dash", "mimeType": TYPE, "_meta": {"ui": csp}},
            {"uri": "ui://app/secret", "name": "secret", "mimeType": TYPE},
        ]})),
        "resources/templates/list" => Some(json!({"resourceTemplates": [{"uriTemplate": "ui://app/of/{id}", "name": "of"}]})),
        "resources/read" => Some(json!({"contents": [{"uri": params["uri"], "mimeType": TYPE, "text": name, "_meta": {"ui": csp}}]})),
        "tools/call" => Some(json!({
            "content": [{"type": "text", "text": name}, {"type": "resource_link", "uri": "ui://app/dash", "name": "dash"}],
            "_meta": {"ui": {"resourceUri": "ui://app/dash"}},
        })),
        _ => None,
    })
    .await
}

async fn two(speaks: Speaks) -> (Server, Server) {
    (paged("one", speaks).await, paged("two", speaks).await)
}

fn setup((one, two): &(Server, Server)) -> Setup {
    Setup::of([("one", one.url()), ("two", two.url())])
}

#[tokio::test]
async fn pages_of_two_servers_with_one_uri_are_two_and_each_leads_to_its_own_server() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let servers = two(speaks).await;
        let portal = setup(&servers).start().await;
        for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
            let list = client.request("tools/list", json!({})).await;
            let tools = list.last()["result"]["tools"].as_array().unwrap();
            let meta = |name: &str| tools.iter().find(|tool| tool["name"] == name).unwrap()["_meta"].clone();
            for server in ["one", "two"] {
                let page = format!("ui://{server}/app/dash");
                let own = json!({"ui": {"resourceUri": page}, "ui/resourceUri": page, "kept": 1.0});
                assert_eq!(meta(&format!("{server}_dash")), own, "both keys");
                assert_eq!(meta(&format!("{server}_refresh")), json!({"ui": {"resourceUri": page, "visibility": ["app"]}}));
                let read = client.request("resources/read", json!({"uri": page})).await;
                let content = &read.last()["result"]["contents"][0];
                assert_eq!((&content["uri"], &content["text"]), (&json!(page), &json!(server)));
                let csp = json!({"ui": {"csp": {"connectDomains": ["https://api.example"]}, "permissions": {"camera": {}}, "domain": "d"}});
                assert_eq!(content["_meta"], csp, "what it may load and do stays as it is");
                let called = client.call(&format!("{server}_dash"), json!({})).await;
                let result = &called.last()["result"];
                assert_eq!((&result["content"][1]["uri"], &result["_meta"]["ui"]["resourceUri"]), (&json!(page), &json!(page)));
                let of = client.request("resources/read", json!({"uri": format!("ui://{server}/app/of/7")})).await;
                assert_eq!(of.last()["result"]["contents"][0]["text"], server);
            }
            let pages = ["ui://one/app/dash", "ui://one/app/secret", "ui://two/app/dash", "ui://two/app/secret"];
            assert_eq!(client.names("resources/list", "resources", "uri").await, pages);
            let templates = client.names("resources/templates/list", "resourceTemplates", "uriTemplate").await;
            assert_eq!(templates, ["ui://one/app/of/{id}", "ui://two/app/of/{id}"]);
        }
        assert_eq!(servers.0.got("resources/read").last().unwrap().body["params"]["uri"], "ui://app/of/7");
    }
}

#[tokio::test]
async fn the_page_of_a_hidden_tool_is_hidden_unless_policy_names_it() {
    let servers = two(Speaks::Both).await;
    let policy = "[{deny: {servers: ['*'], tools: [secret]}}, {allow: {servers: ['*']}}]";
    let portal = setup(&servers).policy(policy).start().await;
    let mut client = Client::modern(portal.address);
    assert_eq!(client.names("resources/list", "resources", "uri").await, ["ui://one/app/dash", "ui://two/app/dash"]);
    for uri in ["ui://one/app/secret", "ui://one/app/secret?x", "ui://one/app/%73ecret", "ui://one/app/./secret", "one+ui://app/secret"] {
        let read = client.request("resources/read", json!({"uri": uri})).await;
        assert_eq!(read.last()["error"]["code"], -32602, "{uri}: {read:?}");
    }
    assert!(servers.0.got("resources/read").is_empty());
    portal.regulate(
        "[{deny: {servers: ['*'], tools: [secret]}}, {allow: {servers: ['*']}}, {allow: {servers: [one], resources: ['ui://app/secret']}}]",
    );
    let shown = client.names("resources/list", "resources", "uri").await;
    assert_eq!(shown, ["ui://one/app/dash", "ui://one/app/secret", "ui://two/app/dash"]);
    let read = client.request("resources/read", json!({"uri": "ui://one/app/secret"})).await;
    assert_eq!(read.last()["result"]["contents"][0]["text"], "one");
}

#[tokio::test]
async fn a_tool_whose_page_its_caller_may_not_read_is_listed_without_it() {
    let servers = two(Speaks::Both).await;
    let policy = "[{allow: {servers: ['*'], tools: ['*']}}, {allow: {servers: [two], resources: ['ui://app/dash']}}]";
    let portal = setup(&servers).policy(policy).start().await;
    let mut client = Client::modern(portal.address);
    let list = client.request("tools/list", json!({})).await;
    let tools = list.last()["result"]["tools"].as_array().unwrap();
    let meta = |name: &str| tools.iter().find(|tool| tool["name"] == name).unwrap()["_meta"].clone();
    assert_eq!(meta("one_dash"), json!({"kept": 1.0}));
    assert_eq!(meta("one_refresh"), json!({"ui": {"visibility": ["app"]}}), "whom it is for stays");
    assert_eq!(meta("two_dash")["ui"]["resourceUri"], "ui://two/app/dash");
    assert_eq!(meta("two_secret"), Value::Null);
    assert_eq!(client.call("one_dash", json!({})).await.text(), "one");
}

#[tokio::test]
async fn a_page_calls_tools_by_its_server_s_own_names_where_one_alone_can_be_meant() {
    let (one, plain) = (paged("one", Speaks::Both).await, Server::start("plain", Speaks::Both).await);
    let portal = Setup::of([("one", one.url()), ("plain", plain.url())]).start().await;
    let mut client = Client::modern(portal.address);
    assert_eq!(client.call("refresh", json!({})).await.text(), "one");
    let unknown = client.call("echo", json!({"text": "x"})).await;
    assert_eq!(unknown.last()["error"]["message"], "Unknown tool: echo", "a server without pages has no page that calls it");
    portal.regulate("[{deny: {servers: [one], tools: [refresh]}}, {allow: {servers: ['*']}}]");
    assert_eq!(client.call("refresh", json!({})).await.last()["error"]["message"], "Unknown tool: refresh");
    let servers = two(Speaks::Both).await;
    let portal = setup(&servers).start().await;
    let mut client = Client::modern(portal.address);
    let unclear = client.call("refresh", json!({})).await;
    assert_eq!(unclear.last()["error"]["message"], "Unknown tool: refresh", "none is guessed");
}

#[tokio::test]
async fn what_is_for_pages_only_is_not_told_to_models_that_search() {
    let one = paged("one", Speaks::Both).await;
    let portal = Setup::of([("one", one.url())]).start().await;
    let mut client = Client::modern(portal.address).at("?optimize_context=minimize_tools");
    let names = client.names("tools/list", "tools", "name").await;
    assert!(names.contains(&"one_dash".to_owned()) && !names.contains(&"one_refresh".to_owned()), "{names:?}");
    let mut client = Client::modern(portal.address).at("?codemode=search_and_execute");
    let code = "async () => (await codemode.tools()).map((tool) => tool.name)";
    let told = client.call("portal_codemode_execute", json!({"code": code})).await;
    assert!(told.text().contains("one_dash") && !told.text().contains("one_refresh"), "{told:?}");
}
