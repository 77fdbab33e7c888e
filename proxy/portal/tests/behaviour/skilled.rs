//! Skills (SEP-2640) of several servers: one list, in which each entry leads to its server and policy holds for all.

use crate::{
    Setup,
    client::Client,
    extended::SKILLS,
    server::{Server, Speaks},
};
use gnomon_portal::Prefix;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn entry(name: &str, more: Value) -> Value {
    let folder = format!("skill://acme/{name}");
    let file = |path: &str| json!({"uri": format!("{folder}/{path}"), "digest": format!("sha256:{}", "0a".repeat(32)), "size": 3});
    let mut entry = json!({
        "uri": format!("{folder}/SKILL.md"), "frontmatter": {"name": name, "description": "d"}, "resources": [file("SKILL.md"), file("a.md")],
    });
    more.as_object().unwrap().iter().for_each(|(key, value)| entry[key] = value.clone());
    entry
}

/// A server with three skills, one a page, and one that cannot be held to anything.
async fn skilled(name: &'static str, speaks: Speaks) -> Server {
    let all = [entry("refunds", json!({"vendor": 1.0})), entry("moving", json!({"resources": "dynamic"})), entry("secret", json!({}))];
    Server::scripted(name, speaks, move |method, params| {
        let uri = params["uri"].as_str().unwrap_or_default();
        match method {
            "capabilities" => Some(json!({"extensions": {SKILLS: {"directoryRead": true}}})),
            "skills/list" => {
                let place: usize = params["cursor"].as_str().map_or(0, |cursor| cursor.parse().unwrap());
                let mut page = json!({"skills": [all[place]], "ttlMs": 5000, "cacheScope": "public"});
                if place < 2 {
                    page["nextCursor"] = json!((place + 1).to_string());
                }
                Some(page)
            }
            "skills/get" => all.iter().find(|entry| entry["uri"] == uri).map(|skill| json!({"skill": skill, "ttlMs": 1, "cacheScope": "public"})),
            "resources/directory/read" if uri == "skill://acme/refunds" => Some(json!({"resources": [
                {"uri": "skill://acme/refunds/SKILL.md", "name": "SKILL.md"}, {"uri": "skill://acme/refunds/b", "name": "b", "mimeType": "inode/directory"},
            ]})),
            "resources/read" => Some(json!({"contents": [{"uri": uri, "text": name}]})),
            _ => None,
        }
    })
    .await
}

#[tokio::test]
async fn skills_of_all_servers_are_one_list_and_each_leads_to_its_own_server() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let (one, two) = (skilled("one", speaks).await, skilled("two", speaks).await);
        let plain = Server::start("plain", speaks).await;
        let portal = Setup::of([("one", one.url()), ("plain", plain.url()), ("two", two.url())]).start().await;
        for (era, mut client) in [Client::legacy(portal.address).await, Client::modern(portal.address)].into_iter().enumerate() {
            let list = client.request("skills/list", json!({})).await;
            let result = &list.last()["result"];
            let uris: Vec<&str> = result["skills"].as_array().unwrap().iter().map(|skill| skill["uri"].as_str().unwrap()).collect();
            let known = |server: &str, name: &str| format!("skill://{server}/acme/{name}/SKILL.md");
            assert_eq!(uris, [known("one", "refunds"), known("one", "secret"), known("two", "refunds"), known("two", "secret")]);
            let first = &result["skills"][0];
            assert_eq!((&first["vendor"], &first["frontmatter"]["name"]), (&json!(1.0), &json!("refunds")));
            assert_eq!(first["resources"][1]["uri"], "skill://one/acme/refunds/a.md");
            let left_out = &result["_meta"]["dev.gnomon/left-out"];
            assert_eq!((left_out.as_array().unwrap().len(), &left_out[0]["name"]), (2, &json!("skill://acme/moving/SKILL.md")));
            let told = (&result["resultType"], &result["ttlMs"], &result["cacheScope"]);
            match era {
                0 => assert_eq!(told, (&Value::Null, &Value::Null, &Value::Null)),
                _ => assert_eq!(told, (&json!("complete"), &json!(5000), &json!("private"))),
            }
            for server in ["one", "two"] {
                let got = client.request("skills/get", json!({"uri": known(server, "refunds")})).await;
                let result = &got.last()["result"];
                assert_eq!(
                    (&result["skill"]["uri"], &result["skill"]["vendor"]),
                    (&json!(known(server, "refunds")), &json!(1.0)),
                    "{got:?}"
                );
                assert_eq!(result["cacheScope"], if era == 0 { "public" } else { "private" });
                let read = client.request("resources/read", json!({"uri": known(server, "refunds")})).await;
                let content = &read.last()["result"]["contents"][0];
                assert_eq!((&content["text"], &content["uri"]), (&json!(server), &json!(known(server, "refunds"))));
                let folder = client.request("resources/directory/read", json!({"uri": format!("skill://{server}/acme/refunds")})).await;
                let within = &folder.last()["result"]["resources"];
                assert_eq!(
                    (&within[0]["uri"], &within[1]["uri"]),
                    (&json!(known(server, "refunds")), &json!(format!("skill://{server}/acme/refunds/b")))
                );
            }
            for uri in ["skill://one/acme/none/SKILL.md", "skill://plain/acme/refunds/SKILL.md", "skill://none/x/SKILL.md"] {
                let unknown = client.request("skills/get", json!({"uri": uri})).await;
                assert!(unknown.last()["error"]["code"].is_i64(), "{uri}: {unknown:?}");
            }
            let moving = client.request("skills/get", json!({"uri": known("one", "moving")})).await;
            let why = (&moving.last()["error"]["code"], moving.last()["error"]["message"].as_str().unwrap().contains("dynamic"));
            assert_eq!(why, (&json!(-32602), true), "{moving:?}");
        }
        assert!(plain.got("skills/list").is_empty() && plain.got("skills/get").is_empty(), "a server without skills is not asked");
    }
}

#[tokio::test]
async fn policy_holds_for_skills_in_lists_reads_and_folders() {
    let (one, two) = (skilled("one", Speaks::Both).await, skilled("two", Speaks::Both).await);
    let policy = "[{deny: {servers: ['*'], resources: ['skill://acme/secret/*', 'skill://acme/refunds/b', 'skill://acme/moving/*']}}, {allow: {servers: [one]}}]";
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).policy(policy).start().await;
    let mut client = Client::modern(portal.address);
    let list = client.request("skills/list", json!({})).await;
    assert_eq!(list.last()["result"]["skills"].as_array().unwrap().len(), 1);
    assert_eq!(list.last()["result"].get("_meta"), None, "what is hidden is not named as left out either");
    for (method, uri) in [
        ("skills/get", "skill://one/acme/secret/SKILL.md"),
        ("resources/read", "skill://one/acme/secret/a.md"),
        ("resources/directory/read", "skill://one/acme/refunds/b"),
        ("skills/get", "skill://two/acme/refunds/SKILL.md"),
        ("skills/get", "skill://acme/secret/SKILL.md"),
    ] {
        let hidden = client.request(method, json!({"uri": uri})).await;
        assert_eq!(hidden.last()["error"]["code"], -32602, "{method} {uri}: {hidden:?}");
    }
    assert!(one.got("skills/get").is_empty() && two.got("skills/list").is_empty());
    let folder = client.request("resources/directory/read", json!({"uri": "skill://one/acme/refunds"})).await;
    assert_eq!(folder.last()["result"]["resources"].as_array().unwrap().len(), 1, "{folder:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_named_as_missing_and_holds_no_list_of_skills_up() {
    let (one, two) = (skilled("one", Speaks::Modern).await, skilled("two", Speaks::Modern).await);
    let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
    let mut client = Client::modern(portal.address);
    assert_eq!(client.request("skills/list", json!({})).await.last()["result"]["skills"].as_array().unwrap().len(), 4);
    two.freeze();
    let begun = Instant::now();
    let list = client.request("skills/list", json!({})).await;
    let result = &list.last()["result"];
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!((result["skills"].as_array().unwrap().len(), &result["ttlMs"]), (2, &json!(0)));
    assert_eq!(result["_meta"]["dev.gnomon/missing"][0]["server"], "two");
}

#[tokio::test]
async fn without_a_server_that_has_skills_there_are_no_such_methods_and_with_one_its_own_names_may_be_shown() {
    let plain = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", plain.url())]).start().await;
    for method in ["skills/list", "skills/get", "resources/directory/read"] {
        let unknown = Client::modern(portal.address).request(method, json!({"uri": "skill://one/x"})).await;
        assert_eq!((unknown.status.as_u16(), &unknown.last()["error"]["code"]), (404, &json!(-32601)), "{method}");
    }
    let one = skilled("one", Speaks::Both).await;
    let portal = Setup::of([("one", one.url())]).prefix(Prefix::Never).start().await;
    let mut client = Client::modern(portal.address);
    let list = client.request("skills/list", json!({})).await;
    assert_eq!(list.last()["result"]["skills"][0], entry("refunds", json!({"vendor": 1.0})));
    let got = client.request("skills/get", json!({"uri": "skill://acme/refunds/SKILL.md"})).await;
    assert_eq!(got.last()["result"]["skill"], entry("refunds", json!({"vendor": 1.0})));
}
