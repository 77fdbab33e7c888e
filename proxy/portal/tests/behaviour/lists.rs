//! Lists of servers: nothing in the list of one server costs others their tools, time or memory.

use crate::{
    Running, Setup,
    admission::two_tokens,
    client::{Answer, Client, next_event},
    server::{Server, Speaks},
    soon,
};
use gnomon_access::Policy;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Tools because of which clients reject a whole list, each with a word of the reason.
fn odd_tools() -> Vec<(Value, &'static str)> {
    let tool = |name: &str, member: &str, value: Value| {
        let mut tool = json!({"name": name, "inputSchema": {"type": "object"}});
        tool[member] = value;
        tool
    };
    vec![
        (json!({"name": "schemaless"}), "inputSchema"),
        (tool("null", "inputSchema", Value::Null), "inputSchema"),
        (tool("untyped", "inputSchema", json!({})), "type: object"),
        (tool("described", "description", json!(7)), "description"),
        (tool("titled", "title", json!({"en": "x"})), "title"),
        (tool("annotated", "annotations", json!("read only")), "annotations"),
        (tool("hinted", "annotations", json!({"readOnlyHint": "yes"})), "readOnlyHint"),
        (tool("results", "outputSchema", json!("text")), "outputSchema"),
        (tool("pictured", "icons", json!({"src": "x"})), "icons"),
        (tool("meta", "_meta", json!([])), "_meta"),
        (tool("optional", "inputSchema", json!({"type": "object", "required": "x"})), "required"),
    ]
}

fn left_out(answer: &Answer) -> Vec<Value> {
    answer.last()["result"]["_meta"]["dev.gnomon/left-out"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn an_odd_entry_is_left_out_and_told_and_all_others_stay() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let odd = Server::scripted("odd", speaks, |method, _| {
            let good = json!({"name": "good", "inputSchema": {"type": "object"}, "vendor": {"kept": 1.0}});
            let tools: Vec<Value> = odd_tools().into_iter().map(|(tool, _)| tool).chain([good]).collect();
            match method {
                "tools/list" => Some(json!({"tools": tools})),
                "tools/call" => Some(json!({"content": [{"type": "text", "text": "it ran"}]})),
                "resources/list" => Some(json!({"resources": [
                    {"uri": "doc://nameless"}, {"uri": "no scheme", "name": "x"}, {"uri": "doc://sized", "name": "x", "size": "big"},
                    {"uri": "doc://good", "name": "good"},
                ]})),
                "resources/templates/list" => Some(json!({"resourceTemplates": [
                    {"uriTemplate": "doc://{nameless}"}, {"uriTemplate": "doc://{good}", "name": "good"},
                ]})),
                "prompts/list" => {
                    Some(json!({"prompts": [{"name": "bad", "arguments": [{"name": 7}]}, {"name": "icons", "icons": 7}, {"name": "good"}]}))
                }
                _ => None,
            }
        })
        .await;
        let well = Server::start("well", Speaks::Both).await;
        let portal = Setup::of([("odd", odd.url()), ("well", well.url())]).start().await;
        for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
            let list = client.request("tools/list", json!({})).await;
            let names: Vec<_> = list.last()["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
            assert_eq!(names[..2], ["odd_good", "well_echo"], "{names:?}");
            assert_eq!(names.len(), 7, "{names:?}");
            assert_eq!(list.last()["result"]["tools"][0]["vendor"], json!({"kept": 1.0}));
            let told = left_out(&list);
            assert_eq!(told.len(), odd_tools().len(), "{told:?}");
            for ((tool, word), told) in odd_tools().iter().zip(&told) {
                assert_eq!((&told["server"], &told["name"]), (&json!("odd"), &tool["name"]));
                assert!(told["why"].as_str().unwrap().contains(word), "{told} {word}");
                let refused = client.call(&format!("odd_{}", tool["name"].as_str().unwrap()), json!({})).await;
                let why = refused.last()["error"]["message"].as_str().unwrap();
                assert!(why.contains("is not offered") && why.contains(word), "{why}");
            }
            assert_eq!(client.call("odd_good", json!({})).await.text(), "it ran");
            assert_eq!(client.names("resources/list", "resources", "uri").await, ["odd+doc://good", "well+note://well/1"]);
            let templates = client.request("resources/templates/list", json!({})).await;
            assert_eq!(templates.last()["result"]["resourceTemplates"], json!([{"uriTemplate": "odd+doc://{good}", "name": "good"}]));
            assert_eq!(left_out(&templates).len(), 1);
            assert_eq!(client.names("prompts/list", "prompts", "name").await, ["odd_good", "well_greet"]);
        }
        assert_eq!(odd.got("tools/call").len(), 2, "what is left out is not called");
        let metrics = portal.metrics();
        let count = odd_tools().len();
        for line in [
            format!(r#"gnomon_portal_entries_left_out{{list="tools",reason="shape",server="odd"}} {count}"#),
            r#"gnomon_portal_entries_left_out{list="resources",reason="shape",server="odd"} 3"#.to_owned(),
            r#"gnomon_portal_entries_left_out{list="tools",reason="shape",server="well"} 0"#.to_owned(),
        ] {
            assert!(metrics.contains(&line), "{line} is not in {metrics}");
        }
    }
}

#[tokio::test]
async fn a_name_that_is_not_what_it_looks_like_is_left_out_and_told_and_all_others_stay() {
    const ODD: [(&str, &str); 8] = [
        ("evil\r\nX-Inj: 1", "U+000D"),
        ("\u{1b}[31mred", "U+001B"),
        ("\u{202e}gnp", "U+202E"),
        ("g\u{43e}od", "U+043E"),
        ("*", "`*`"),
        ("a,b] } }", "`,`"),
        ("two words", "` `"),
        ("good\u{200b}", "U+200B"),
    ];
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let odd = Server::scripted("odd", speaks, |method, _| match method {
            "tools/list" => {
                let tools = ODD.iter().map(|(name, _)| *name).chain(["good"]);
                let tools: Vec<Value> = tools.map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect();
                Some(json!({"tools": tools}))
            }
            "tools/call" => Some(json!({"content": [{"type": "text", "text": "it ran"}]})),
            _ => None,
        })
        .await;
        let portal = Setup::of([("odd", odd.url())]).start().await;
        for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
            let list = client.request("tools/list", json!({})).await;
            let names: Vec<_> = list.last()["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
            assert_eq!(names, ["odd_good"]);
            let told = left_out(&list);
            assert_eq!(told.len(), ODD.len(), "{told:?}");
            for ((_, what), told) in ODD.iter().zip(&told) {
                assert!(told["why"].as_str().unwrap().contains(what), "{told} {what}");
                let shown = told["name"].as_str().unwrap();
                assert!(!shown.contains(|c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{200b}')), "{told}");
            }
            assert_eq!(client.call("odd_good", json!({})).await.text(), "it ran");
        }
        let line = format!(r#"gnomon_portal_entries_left_out{{list="tools",reason="name",server="odd"}} {}"#, ODD.len());
        assert!(portal.metrics().contains(&line), "{line}");
    }
}

#[tokio::test]
async fn what_only_the_stateless_era_lets_a_schema_be_is_listed_for_its_clients_only() {
    let server = Server::scripted("one", Speaks::Both, |method, _| {
        let list = json!({"name": "rows", "inputSchema": {"type": "object"}, "outputSchema": {"type": "array"}});
        (method == "tools/list").then(|| json!({"tools": [list, {"name": "plain", "inputSchema": {"type": "object"}}]}))
    })
    .await;
    let portal = Setup::of([("one", server.url())]).start().await;
    assert_eq!(Client::modern(portal.address).names("tools/list", "tools", "name").await, ["one_rows", "one_plain"]);
    assert_eq!(Client::legacy(portal.address).await.names("tools/list", "tools", "name").await, ["one_plain"]);
}

#[tokio::test]
async fn entries_that_policy_hides_are_not_named_as_left_out_either() {
    let server = Server::scripted("odd", Speaks::Both, |method, _| {
        let list = json!({"tools": [{"name": "secret"}, {"name": "echo", "inputSchema": {"type": "object"}}]});
        (method == "tools/list").then_some(list)
    })
    .await;
    let portal = Setup::of([("odd", server.url())]).policy("[{allow: {servers: [odd], tools: [echo]}}]").start().await;
    let mut client = Client::modern(portal.address);
    let list = client.request("tools/list", json!({})).await;
    assert!(left_out(&list).is_empty(), "{list:?}");
    let hidden = client.call("odd_secret", json!({})).await;
    assert_eq!(hidden.last()["error"]["message"], "Unknown tool: odd_secret");
}

/// A schema in which each level takes twice as long to check as the next.
fn doubling(levels: usize) -> Value {
    let next = |n: usize| json!({"$ref": format!("#/$defs/l{n}")});
    let mut defs: serde_json::Map<_, _> = (0..levels).map(|n| (format!("l{n}"), json!({"allOf": [next(n + 1), next(n + 1)]}))).collect();
    defs.insert(format!("l{levels}"), json!({"type": "object"}));
    json!({"type": "object", "allOf": [next(0)], "$defs": defs})
}

/// A value in which each level takes twice as long to check as the next.
fn forking() -> Value {
    let next = json!({"$ref": "#/$defs/n"});
    let part = json!({"properties": {"a": next}, "required": ["b"]});
    json!({"type": "object", "$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [part, part]}}})
}

#[tokio::test]
async fn no_schema_holds_up_other_callers_whoever_wrote_it() {
    let server = Server::scripted("costly", Speaks::Both, |method, params| match method {
        "tools/list" => Some(json!({"tools": [
            {"name": "input", "inputSchema": doubling(64)},
            {"name": "output", "inputSchema": {"type": "object"}, "outputSchema": doubling(28)},
            {"name": "forks", "inputSchema": forking()},
            {"name": "returns", "inputSchema": {"type": "object"}, "outputSchema": forking()},
        ]})),
        "tools/call" if params["name"] == "returns" => {
            Some(json!({"content": [], "structuredContent": (0..100).fold(json!(1), |value, _| json!({"a": value}))}))
        }
        "tools/call" => Some(json!({"content": [{"type": "text", "text": "it ran"}]})),
        _ => None,
    })
    .await;
    let well = Server::start("well", Speaks::Both).await;
    let portal = Setup::of([("costly", server.url()), ("well", well.url())]).start().await;
    let mut client = Client::modern(portal.address);
    let list = client.request("tools/list", json!({})).await;
    let told = left_out(&list);
    assert_eq!(told.iter().map(|told| told["name"].as_str().unwrap()).collect::<Vec<_>>(), ["input", "output"]);
    assert!(told.iter().all(|told| told["why"].as_str().unwrap().contains("its schema")), "{told:?}");
    // As many at once as there could be threads, and more.
    let costly: Vec<_> = (0..8)
        .map(|n| {
            let address = portal.address;
            let arguments = (0..60).fold(json!(1), |value, _| json!({"a": value}));
            tokio::spawn(async move {
                let mut client = Client::modern(address);
                match n % 2 {
                    0 => client.call("costly_forks", arguments).await,
                    _ => client.call("costly_returns", json!({})).await,
                }
            })
        })
        .collect();
    for _ in 0..50 {
        let begun = Instant::now();
        assert_eq!(client.call("well_echo", json!({"text": "x"})).await.text(), "well: x");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
    for call in costly {
        let answer = call.await.unwrap();
        assert!(answer.last()["result"]["isError"] == true && answer.text().contains("cannot be checked"), "{answer:?}");
    }
    assert!(server.got("tools/call").iter().all(|got| got.body["params"]["name"] == "returns"), "what cannot be checked is not called");
}

#[tokio::test]
async fn an_expression_that_cannot_be_used_leaves_the_rest_of_its_schema_in_force_at_the_server() {
    let server = Server::scripted("odd", Speaks::Both, |method, _| match method {
        "tools/list" => Some(json!({"tools": [{"name": "pay", "inputSchema": {
            "type": "object", "required": ["n"], "additionalProperties": false,
            "properties": {"n": {"type": "integer", "maximum": 5}, "s": {"type": "string", "pattern": "^(docs"}},
            "patternProperties": {"^x[": {"type": "integer"}, "^y": {"type": "integer"}},
        }}]})),
        "tools/call" => Some(json!({"content": [{"type": "text", "text": "it ran"}]})),
        _ => None,
    })
    .await;
    let portal = Setup::of([("odd", server.url())]).start().await;
    let mut ran = 0;
    for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
        for wrong in [json!({}), json!({"n": "x"}), json!({"n": 6}), json!({"n": 1, "s": 1}), json!({"n": 1, "y": "text"})] {
            let answer = client.call("odd_pay", wrong.clone()).await;
            assert_eq!(answer.last()["result"]["isError"], true, "{wrong}: {answer:?}");
        }
        // The expressions that are left out refuse nothing.
        for right in [json!({"n": 1, "s": "anything"}), json!({"n": 1, "x": "text", "y": 1})] {
            assert_eq!(client.call("odd_pay", right.clone()).await.text(), "it ran", "{right}");
            ran += 1;
        }
    }
    let got = server.got("tools/call");
    assert!(got.len() == ran && got.iter().all(|got| got.body["params"]["arguments"]["n"] == 1), "what does not fit never ran: {got:#?}");
}

#[tokio::test]
async fn a_list_without_end_is_kept_up_to_its_bound_and_costs_others_nothing() {
    let server = Server::scripted("endless", Speaks::Both, |method, params| {
        (method == "tools/list").then(|| {
            let page: usize = params["cursor"].as_str().and_then(|cursor| cursor.parse().ok()).unwrap_or_default();
            let tool =
                |n: usize| json!({"name": format!("p{page}n{n}"), "description": "d".repeat(99_000), "inputSchema": {"type": "object"}});
            json!({"tools": (0..9).map(tool).collect::<Vec<_>>(), "nextCursor": (page + 1).to_string()})
        })
    })
    .await;
    let portal = Setup::of([("endless", server.url())]).start().await;
    let mut client = Client::modern(portal.address);
    soon("the list", async {
        while client.names("tools/list", "tools", "name").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let list = client.request("tools/list", json!({})).await;
    let bytes = list.last()["result"]["tools"].to_string().len();
    assert!(bytes <= (8 << 20) + 100_000, "{bytes}");
    assert!(
        left_out(&list).iter().any(|told| told["why"].as_str().is_some_and(|why| why.contains("longer than"))),
        "{:?}",
        left_out(&list)
    );
    assert!(server.got("tools/list").len() <= 12, "{} pages were fetched", server.got("tools/list").len());
}

#[tokio::test]
async fn a_list_of_more_entries_than_are_kept_is_not_fetched_further() {
    let server = Server::scripted("long", Speaks::Both, |method, params| {
        (method == "tools/list").then(|| {
            let page: usize = params["cursor"].as_str().and_then(|cursor| cursor.parse().ok()).unwrap_or_default();
            let tool = |n: usize| json!({"name": format!("p{page}n{n}"), "inputSchema": {"type": "object"}});
            json!({"tools": (0..2500).map(tool).collect::<Vec<_>>(), "nextCursor": (page + 1).to_string()})
        })
    })
    .await;
    let portal = Setup::of([("long", server.url())]).start().await;
    let mut client = Client::modern(portal.address);
    soon("the list", async {
        while client.names("tools/list", "tools", "name").await.len() != 10_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let pages: Vec<_> = server.got("tools/list").iter().map(|got| got.body["params"]["cursor"].clone()).collect();
    assert_eq!(pages, [json!(null), json!("1"), json!("2"), json!("3")]);
}

#[tokio::test]
async fn a_flood_of_changes_is_looked_at_once_in_a_second_and_the_last_one_counts() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let server = Server::scripted("one", speaks, |_, _| None).await;
        let portal = Setup::of([("one", server.url())]).start().await;
        let mut client = Client::modern(portal.address);
        assert_eq!(client.call("one_echo", json!({"text": "x"})).await.text(), "one: x");
        server.heard_by(1).await;
        let before = server.got("tools/list").len();
        let began = Instant::now();
        for _ in 0..50 {
            server.say("notifications/tools/list_changed", json!({}));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        soon("the last change", async {
            while server.got("tools/list").len() < before + 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert!(began.elapsed() >= Duration::from_millis(900), "{speaks:?}: {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
        let looked = server.got("tools/list").len() - before;
        assert!(looked <= 2 + usize::try_from(began.elapsed().as_secs()).unwrap(), "{speaks:?}: {looked}");
    }
}

#[tokio::test]
async fn a_change_of_a_list_that_is_told_in_a_call_s_answer_is_fetched_and_told_as_any_other() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let tools = Arc::new(std::sync::Mutex::new(vec!["say"]));
        let told = tools.clone();
        let server = Server::scripted("one", speaks, move |method, _| {
            let tool = |name: &&str| json!({"name": name, "inputSchema": {"type": "object"}});
            (method == "tools/list").then(|| json!({"tools": told.lock().unwrap().iter().map(tool).collect::<Vec<_>>()}))
        })
        .await;
        let portal = Setup::of([("one", server.url())]).start().await;
        let mut client = Client::legacy(portal.address).await;
        assert_eq!(client.names("tools/list", "tools", "name").await, ["one_say"]);
        let mut stream = client.stand().await;
        tools.lock().unwrap().push("new");
        let change = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
        let answer = client.call("one_say", json!({"say": vec![change; 20]})).await;
        assert_eq!(answer.messages.len(), 1, "{speaks:?}: it says nothing of lists: {answer:?}");
        assert_eq!(next_event(&mut stream).await["method"], "notifications/tools/list_changed");
        assert_eq!(client.names("tools/list", "tools", "name").await, ["one_say", "one_new"], "{speaks:?}: by then it is fetched");
        let more = tokio::time::timeout(Duration::from_millis(500), next_event(&mut stream)).await;
        assert!(more.is_err(), "{speaks:?}: once is enough: {more:?}");
    }
}

#[tokio::test]
async fn what_a_server_refuses_to_watch_is_not_acknowledged_and_what_it_grants_is() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let server = Server::scripted("one", speaks, |method, params| {
            let resource = |name: &str| json!({"uri": format!("doc://{name}"), "name": name});
            match method {
                "resources/list" => {
                    let resources = ["open", "shut"].map(resource);
                    Some(json!({"resources": resources}))
                }
                "resources/subscribe" if params["uri"] == "doc://open" => Some(json!({})),
                _ => None,
            }
        })
        .await;
        server.grants(&["doc://open"]);
        let portal = Setup::of([("one", server.url())]).start().await;
        let mut client = Client::modern(portal.address);
        assert_eq!(client.names("resources/list", "resources", "uri").await.len(), 2);
        let wanted = json!({"notifications": {"resourceSubscriptions": ["one+doc://open", "one+doc://shut"], "toolsListChanged": true}});
        let (headers, body) = client.message("subscriptions/listen", wanted);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let began = Instant::now();
        let mut stream = client.open(&headers, body).await.into_body();
        let acknowledged = next_event(&mut stream).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{speaks:?}: {:?}", began.elapsed());
        let granted = &acknowledged["params"]["notifications"];
        assert_eq!(granted, &json!({"resourceSubscriptions": ["one+doc://open"], "toolsListChanged": true}), "{speaks:?}");
    }
}

const UPDATED: &str = "notifications/resources/updated";

/// A server of the older era with one resource, whose changes it announces.
async fn with_document(name: &'static str) -> Server {
    Server::scripted(name, Speaks::Legacy, |method, _| match method {
        "resources/list" => Some(json!({"resources": [{"uri": "doc://a", "name": "a"}]})),
        "resources/subscribe" => Some(json!({})),
        _ => None,
    })
    .await
}

/// A subscription to what is wanted, which watches this resource.
async fn listening(portal: &Running, bearer: Option<&str>, uri: &str, mut wanted: Value) -> hyper::body::Incoming {
    let mut client = Client::modern(portal.address);
    if let Some(bearer) = bearer {
        client = client.holding(bearer);
    }
    wanted["resourceSubscriptions"] = json!([uri]);
    let (headers, body) = client.message("subscriptions/listen", json!({"notifications": wanted}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut stream = client.open(&headers, body).await.into_body();
    let granted = next_event(&mut stream).await;
    assert_eq!(granted["params"]["notifications"]["resourceSubscriptions"], json!([uri]), "{granted}");
    stream
}

#[tokio::test]
async fn what_a_server_says_of_resources_that_nobody_watches_is_told_to_nobody_and_drowns_no_other_server_s_news() {
    let policy = "[{allow: {servers: ['*'], groups: [adas]}}, {allow: {servers: [quiet], groups: [eves]}}]";
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let noisy = Server::scripted("noisy", speaks, |_, _| None).await;
        let quiet = with_document("quiet").await;
        let (auth, [_, eve]) = two_tokens();
        let portal = Setup::of([("noisy", noisy.url()), ("quiet", quiet.url())]).auth(auth).policy(policy).start().await;
        // By then their lists are fetched.
        noisy.heard_by(1).await;
        quiet.heard_by(1).await;
        let wanted = json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true});
        let mut stateless = listening(&portal, Some(eve.as_str()), "quiet+doc://a", wanted).await;
        let mut client = Client::modern(portal.address).holding(&eve).begun().await;
        let watched = client.request("resources/subscribe", json!({"uri": "quiet+doc://a"})).await;
        assert!(watched.last()["result"].is_object(), "{watched:?}");
        let mut standing = client.stand().await;
        // The portal's own stream, and the session's.
        quiet.heard_by(2).await;
        let before = noisy.got("tools/list").len();
        let made_up = (0..5_000).map(|number| json!({"uri": format!("doc://a{number}")}));
        noisy.say_each(UPDATED, made_up.chain([json!({"uri": "doc://a"})])).await;
        // What it says last is heard last.
        noisy.say("notifications/tools/list_changed", json!({}));
        soon("the flood to be heard", async {
            while noisy.got("tools/list").len() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        quiet.say(UPDATED, json!({"uri": "doc://a"}));
        for stream in [&mut stateless, &mut standing] {
            let told = next_event(stream).await;
            assert_eq!((&told["method"], &told["params"]["uri"]), (&json!(UPDATED), &json!("quiet+doc://a")), "{speaks:?}: {told}");
            let more = tokio::time::timeout(Duration::from_millis(300), next_event(stream)).await;
            assert!(more.is_err(), "{speaks:?}: {more:?}");
        }
    }
}

#[tokio::test]
async fn a_resource_that_changes_without_end_is_told_of_once_in_a_second_and_the_last_change_counts() {
    let server = with_document("one").await;
    let portal = Setup::of([("one", server.url())]).start().await;
    server.heard_by(1).await;
    let mut stream = listening(&portal, None, "one+doc://a", json!({})).await;
    server.say(UPDATED, json!({"uri": "doc://a"}));
    assert_eq!(next_event(&mut stream).await["method"], UPDATED);
    let began = Instant::now();
    for _ in 0..50 {
        server.say(UPDATED, json!({"uri": "doc://a"}));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(next_event(&mut stream).await["method"], UPDATED);
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
    let more = tokio::time::timeout(Duration::from_millis(300), next_event(&mut stream)).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn a_listener_that_missed_changes_is_told_of_each_resource_that_it_watches_and_may_read() {
    let server = with_document("one").await;
    let portal = Setup::of([("one", server.url())]).start().await;
    server.heard_by(1).await;
    let mut stream = listening(&portal, None, "one+doc://a", json!({})).await;
    let policy = Arc::new(Policy::parse("[{allow: {servers: ['*']}}]", "policy.yml").unwrap());
    let told = soon("word of what was missed", async {
        loop {
            // More changes at once than wait for a listener, none of which it has asked for.
            (0..2_000).for_each(|_| portal.portal.regulate(policy.clone(), HashMap::new()));
            if let Ok(told) = tokio::time::timeout(Duration::from_millis(200), next_event(&mut stream)).await {
                return told;
            }
        }
    })
    .await;
    assert_eq!((&told["method"], &told["params"]["uri"]), (&json!(UPDATED), &json!("one+doc://a")), "{told}");
}
