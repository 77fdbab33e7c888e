//! Protocol extensions with several servers behind the portal: which of them are announced to whom.

use crate::{
    Setup,
    client::Client,
    server::{Server, Speaks},
};
use gnomon_portal::Prefix;
use serde_json::{Value, json};

pub const TASKS: &str = "io.modelcontextprotocol/tasks";
pub const APPS: &str = "io.modelcontextprotocol/ui";
pub const SKILLS: &str = "io.modelcontextprotocol/skills";

/// A server that declares these further capabilities.
async fn with(name: &'static str, speaks: Speaks, capabilities: Value) -> Server {
    Server::scripted(name, speaks, move |method, _| (method == "capabilities").then(|| capabilities.clone())).await
}

/// The capabilities that the portal declares, to clients of both eras.
async fn offered(portal: std::net::SocketAddr) -> [Value; 2] {
    let legacy = Client::modern(portal).initialize().await.last()["result"]["capabilities"].clone();
    let modern = Client::modern(portal).request("server/discover", json!({})).await.last()["result"]["capabilities"].clone();
    [legacy, modern]
}

#[tokio::test]
async fn the_extensions_that_servers_offer_and_the_portal_can_keep_are_offered_in_each_era_and_no_others() {
    let tasks = json!({"list": {}, "requests": {"tools": {"call": {}}}});
    let one = json!({"extensions": {TASKS: {"own": 1}, "com.example/unknown": {}}});
    let two = json!({"tasks": tasks, "extensions": {SKILLS: {"directoryRead": true, "own": 1}, APPS: {}}});
    let (one, two) = (with("one", Speaks::Modern, one).await, with("two", Speaks::Legacy, two).await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let [legacy, modern] = offered(portal.address).await;
    assert_eq!(modern["extensions"], json!({TASKS: {}, SKILLS: {"directoryRead": true}, APPS: {}}));
    assert_eq!(legacy["extensions"], json!({SKILLS: {"directoryRead": true}, APPS: {}}), "tasks of this era are another protocol");
    assert_eq!((&legacy["tasks"], modern.get("tasks")), (&tasks, None));
    // Nothing is announced of a server that policy hides.
    portal.regulate("[{allow: {servers: [one]}}]");
    let [legacy, modern] = offered(portal.address).await;
    assert_eq!((legacy.get("extensions"), &modern["extensions"]), (None, &json!({TASKS: {}})));
}

#[tokio::test]
async fn a_portal_that_shows_a_single_server_s_own_names_offers_the_same_of_its_extensions() {
    let said = json!({"tasks": {"list": {}}, "extensions": {TASKS: {}, "com.example/unknown": {}}, "vendor": {"kept": 1}});
    let one = with("one", Speaks::Both, said).await;
    let portal = Setup::of([("one", one.url())]).prefix(Prefix::Never).start().await;
    let [legacy, modern] = offered(portal.address).await;
    assert_eq!((&modern["extensions"], modern.get("tasks")), (&json!({TASKS: {}}), None));
    assert_eq!((legacy.get("extensions"), &legacy["tasks"]), (None, &json!({"list": {}})));
    assert_eq!(legacy["vendor"], json!({"kept": 1}), "what else it says is its own affair");
}

#[tokio::test]
async fn a_server_is_told_of_the_extensions_that_a_client_declares_and_the_portal_can_keep_and_of_no_others() {
    let declared = json!({"elicitation": {}, "extensions": {TASKS: {}, APPS: {"mimeTypes": ["a/b"]}, "com.example/unknown": {"x": 1}}});
    let apps = json!({"elicitation": {}, "extensions": {APPS: {"mimeTypes": ["a/b"]}}});
    let (one, two) = (Server::start("one", Speaks::Modern).await, Server::start("two", Speaks::Legacy).await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let mut legacy = Client::modern(portal.address).begun_with("2025-11-25", declared.clone()).await;
    let mut modern = Client::modern(portal.address).declaring(declared);
    for client in [&mut legacy, &mut modern] {
        for server in ["one", "two"] {
            assert_eq!(client.call(&format!("{server}_echo"), json!({"text": "x"})).await.text(), format!("{server}: x"));
        }
    }
    let told: Vec<Value> =
        one.got("tools/call").iter().map(|got| got.body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"].clone()).collect();
    let both = json!({"elicitation": {}, "extensions": {TASKS: {}, APPS: {"mimeTypes": ["a/b"]}}});
    assert_eq!(told, [apps.clone(), both]);
    // The first session is the portal's own.
    let told: Vec<Value> = two.got("initialize").iter().skip(1).map(|got| got.body["params"]["capabilities"].clone()).collect();
    assert_eq!(told, [apps.clone(), apps]);
}
