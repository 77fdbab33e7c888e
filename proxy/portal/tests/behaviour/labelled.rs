//! Names and descriptions that an administrator gave: clients see them, and everything else keeps using the server's own.

use crate::{
    Setup,
    client::Client,
    server::{Server, Speaks},
};
use gnomon_portal::{Label, Labels};
use serde_json::json;

fn labels() -> Labels {
    let label = |alias: Option<&str>, description: Option<&str>, enabled| Label {
        alias: alias.map(Into::into),
        description: description.map(Into::into),
        enabled,
    };
    Labels {
        tools: [
            ("echo".into(), label(Some("repeat-it"), Some("Says it again."), None)),
            ("delete_all".into(), label(None, None, Some(false))),
        ]
        .into(),
        prompts: [("greet".into(), label(Some("hello"), None, None))].into(),
    }
}

#[tokio::test]
async fn clients_know_an_entry_by_its_alias_and_its_server_by_its_own_name() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let server = Server::start("one", speaks).await;
        // Policy uses the server's own names.
        let policy = "[{allow: {servers: [one], tools: [echo, delete_all, wait], prompts: [greet]}}]";
        let portal = Setup::of([("one", server.url())]).labels("one", labels()).policy(policy).start().await;
        for mut client in [Client::modern(portal.address), Client::legacy(portal.address).await] {
            assert_eq!(client.names("tools/list", "tools", "name").await, ["one_repeat-it", "one_wait"]);
            let listed = client.request("tools/list", json!({})).await;
            assert_eq!(listed.last()["result"]["tools"][0]["description"], "Says it again.");
            assert_eq!(client.call("one_repeat-it", json!({"text": "x"})).await.text(), "one: x");
            for hidden in ["one_echo", "one_delete_all"] {
                assert_eq!(client.call(hidden, json!({"text": "x"})).await.last()["error"]["code"], -32602, "{hidden}");
            }
            assert_eq!(client.names("prompts/list", "prompts", "name").await, ["one_hello"]);
            let prompt = client.request("prompts/get", json!({"name": "one_hello"})).await;
            assert_eq!(prompt.last()["result"]["messages"][0]["content"]["text"], "one", "{prompt:?}");
        }
        assert!(server.got("tools/call").iter().all(|got| got.body["params"]["name"] == "echo"));
        let events = portal.events(2).await;
        assert!(events.iter().any(|event| event.to_string().contains("\"echo\"")), "events keep to the server's own names");
    }
}

#[tokio::test]
async fn code_mode_shows_and_calls_by_the_alias() {
    let server = Server::start("one", Speaks::Modern).await;
    let portal = Setup::of([("one", server.url())]).labels("one", labels()).start().await;
    let mut client = Client::modern(portal.address).at("?codemode=search_and_execute");
    let found = client
        .call(
            "portal_codemode_search",
            json!({"code": "async () => (await codemode.search('says it again')).map(t => [t.name, t.description])"}),
        )
        .await;
    assert!(found.text().contains("one_repeat_it") && found.text().contains("Says it again."), "{found:?}");
    let called = client.call("portal_codemode_execute", json!({"code": "codemode.one_repeat_it({text: 'x'})"})).await;
    assert_eq!(called.text(), "one: x", "{called:?}");
}
