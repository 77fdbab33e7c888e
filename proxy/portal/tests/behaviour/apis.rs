//! APIs described by documents: thousands of operations at the cost of two tools, handled like every other call.

#[path = "../../../openapi/tests/behaviour/generated.rs"]
mod generated;

use crate::{
    ApiSetup, Running, Setup,
    api::{HttpApi, Sent, answer, json},
    client::{Answer, Client},
    server::{Server, Speaks},
};
use gnomon_audit::{RecordKind, Status};
use gnomon_upstream::endpoint::Limits;
use serde_json::{Value, json as value};
use std::time::{Duration, Instant};

const CODE: &str = "?codemode=search_and_execute";

async fn run(client: &mut Client, tool: &str, code: &str) -> Answer {
    client.call(&format!("portal_codemode_{tool}"), value!({"code": code})).await
}

fn failed(answer: &Answer) -> bool {
    answer.last()["result"]["isError"] == true
}

fn echo(sent: &Sent) -> Option<Vec<u8>> {
    json("200 OK", &value!({"line": sent.line, "headers": sent.headers, "body": sent.body}).to_string())
}

/// A small shop: one operation of each kind.
fn shop(server: &str) -> Value {
    value!({
        "openapi": "3.0.3",
        "info": {"title": "Shop"},
        "servers": [{"url": format!("{server}/v1")}],
        "security": [{"key": []}],
        "paths": {
            "/items": {
                "get": {"operationId": "listItems", "summary": "Lists items", "parameters": [
                    {"name": "q", "in": "query", "schema": {"type": "string"}},
                    {"name": "tags", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                    {"name": "lang", "in": "cookie", "schema": {"type": "string"}},
                    {"name": "api_key", "in": "query", "schema": {"type": "string"}}],
                    "responses": {"200": {"content": {"application/json": {"schema": {"type": "object", "required": ["never"]}}}}}},
                "post": {"operationId": "createItem", "summary": "Makes an item", "security": [{"login": []}], "requestBody": {"required": true,
                    "content": {"application/json": {"schema": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}}}},
            },
            "/items/{id}": {
                "get": {"operationId": "getItem", "summary": "Reads an item", "security": [{"token": []}, {"query": []}],
                    "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}]},
                "delete": {"operationId": "deleteItem", "summary": "Removes an item",
                    "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}]},
            },
            "/open": {"get": {"operationId": "open", "security": [], "summary": "Asks for nothing"}},
        },
        "components": {"securitySchemes": {
            "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}, "token": {"type": "http", "scheme": "bearer"},
            "query": {"type": "apiKey", "in": "query", "name": "api_key"}, "login": {"type": "http", "scheme": "basic"},
            "jar": {"type": "apiKey", "in": "cookie", "name": "sid"},
        }},
    })
}

async fn portal(api: &HttpApi, change: impl FnOnce(ApiSetup) -> ApiSetup) -> Running {
    Setup::of([]).api(change(ApiSetup::new("shop", &shop(&api.url())))).start().await
}

#[tokio::test]
async fn scripts_find_and_call_operations_and_lists_show_those_that_are_allowed() {
    let api = HttpApi::start(echo).await;
    let portal = portal(&api, |shop| shop.allow(&["getItem", "createItem"]).writes(&["createItem"])).await;
    for (mut plain, mut code) in [
        (Client::modern(portal.address), Client::modern(portal.address).at(CODE)),
        (Client::legacy(portal.address).await, Client::legacy(portal.address).await.at(CODE)),
    ] {
        assert_eq!(plain.names("tools/list", "tools", "name").await, ["shop_createItem", "shop_getItem"]);
        let found = run(&mut code, "search", "async () => (await codemode.search('items')).map(t => t.name).sort()").await;
        assert_eq!(found.text(), "[\"shop_createItem\",\"shop_getItem\",\"shop_listItems\"]");
        let declared = run(&mut code, "search", "codemode.describe('shop_listItems')").await;
        assert!(declared.text().contains("tags?: Array<string>") && declared.text().contains("Lists items"), "{}", declared.text());
        let got = run(&mut code, "execute", "async () => (await codemode.shop_listItems({q: 'a b&c', tags: ['x', 'y']})).line").await;
        assert_eq!(got.text(), "GET /v1/items?q=a%20b%26c&tags=x&tags=y HTTP/1.1", "{got:?}");
        let direct = plain.call("shop_getItem", value!({"id": "7/8"})).await;
        assert_eq!(direct.last()["result"]["structuredContent"]["line"], "GET /v1/items/7%2F8 HTTP/1.1", "{direct:?}");
        let made = plain.call("shop_createItem", value!({"body": {"name": "lamp"}})).await;
        assert_eq!(made.last()["result"]["structuredContent"]["body"], "{\"name\":\"lamp\"}");
        let unlisted = plain.call("shop_listItems", value!({})).await;
        assert!(failed(&unlisted) && unlisted.text().contains("within scripts of Code Mode only"), "{unlisted:?}");
        let unfit = plain.call("shop_createItem", value!({"body": {}})).await;
        assert!(failed(&unfit) && unfit.text().contains("input schema"), "{unfit:?}");
    }
    assert_eq!(api.sent().len(), 6);
}

#[tokio::test]
async fn operations_that_write_are_hidden_and_refused_with_the_reason_unless_they_are_allowed() {
    let api = HttpApi::start(echo).await;
    let portal = portal(&api, |shop| shop.allow(&["*"])).await;
    let mut plain = Client::modern(portal.address);
    assert_eq!(plain.names("tools/list", "tools", "name").await, ["shop_listItems", "shop_getItem", "shop_open"]);
    let mut code = Client::modern(portal.address).at(CODE);
    for find in [
        "async () => (await codemode.tools()).map(t => t.name)",
        "async () => (await codemode.search('item', {limit: 50})).map(t => t.name)",
    ] {
        let found = run(&mut code, "search", find).await;
        assert!(found.text().contains("getItem") && !found.text().contains("deleteItem"), "{}", found.text());
    }
    for code_ in
        ["codemode.shop_deleteItem({id: '7'})", "codemode.shop_createItem({body: {name: 'x'}})", "codemode.describe('shop_deleteItem')"]
    {
        let refused = run(&mut code, "execute", code_).await;
        assert!(failed(&refused) && refused.text().contains("`openapi.writes` of server `shop` does not name it"), "{refused:?}");
    }
    assert!(failed(&plain.call("shop_deleteItem", value!({"id": "7"})).await));
    assert!(api.sent().is_empty());
    let records = portal.records(7).await;
    let refused = records.iter().filter(|record| record.tool.as_deref() == Some("deleteItem")).map(|record| record.status.unwrap());
    assert!(refused.clone().count() >= 1 && refused.clone().all(|status| status == Status::Refused), "{records:?}");
}

#[tokio::test]
async fn credentials_go_where_the_document_says_to_the_operations_that_ask_and_are_seen_by_nobody() {
    let api = HttpApi::start(|sent| {
        let echoed = value!({"seen": format!("{sent:?}")}).to_string();
        answer(
            "200 OK",
            &format!("content-type: application/json\r\nlink: <{}>\r\netag: {:?}\r\n", sent.line, sent.header("x-api-key")),
            echoed.as_bytes(),
        )
    })
    .await;
    let secrets = [("key", "key-secret-1"), ("query", "q&secret=2"), ("login", "me:pass-secret-3")];
    let portal = portal(&api, |shop| shop.writes(&["*"]).secrets(&secrets).header("x-tenant", "tenant-secret-4")).await;
    let mut client = Client::modern(portal.address).at(CODE);
    let code = "async () => JSON.stringify([
        await codemode.shop_listItems({'X-Trace': 't', lang: 'de', api_key: 'mine'}), await codemode.shop_getItem({id: '1'}),
        await codemode.shop_createItem({body: {name: 'x'}}), await codemode.shop_open({})])";
    let told = run(&mut client, "execute", code).await;
    let sent = api.sent();
    assert_eq!(sent[0].header("x-api-key"), ["key-secret-1"]);
    assert_eq!((sent[0].header("x-trace"), sent[0].header("cookie")), (vec!["t"], vec!["lang=de"]));
    assert_eq!(sent[0].line, "GET /v1/items?api_key=mine HTTP/1.1");
    assert_eq!(sent[1].line, "GET /v1/items/1?api_key=q%26secret%3D2 HTTP/1.1", "the first alternative has no secret, the second has");
    assert_eq!(sent[2].header("authorization"), ["Basic bWU6cGFzcy1zZWNyZXQtMw=="]);
    assert!(sent[3].header("x-api-key").is_empty() && sent[3].header("authorization").is_empty());
    assert!(sent.iter().all(|sent| sent.header("x-tenant") == ["tenant-secret-4"]), "{sent:#?}");
    assert!(!failed(&told), "{told:?}");
    let everything = format!("{told:?}{:?}{:?}", portal.records(5).await, portal.events(1).await);
    for secret in ["key-secret", "q&secret", "q%26secret", "pass-secret", "bWU6cGFzcy1zZWNyZXQtMw", "tenant-secret"] {
        assert!(!everything.contains(secret), "{secret} in {everything}");
    }
    assert!(told.text().contains("[secret]"));
}

#[tokio::test]
async fn no_argument_reaches_another_path_header_or_host() {
    let api = HttpApi::start(echo).await;
    let portal = portal(&api, |shop| shop.secrets(&[("key", "key-secret-1")])).await;
    let mut client = Client::modern(portal.address).at(CODE);
    for arguments in [
        "shop_getItem({id: '../admin'})",
        "shop_getItem({id: '..'})",
        "shop_getItem({id: '%2e%2e%2fadmin'})",
        "shop_getItem({id: ''})",
        "shop_getItem({id: '1\\r\\nX: y'})",
        "shop_listItems({'X-Trace': 'a\\r\\nHost: evil.example'})",
        "shop_listItems({Host: 'evil.example'})",
        "shop_listItems({Authorization: 'x'})",
    ] {
        let refused = run(&mut client, "execute", &format!("codemode.{arguments}")).await;
        assert!(failed(&refused), "{arguments}: {refused:?}");
    }
    assert!(api.sent().is_empty(), "{:?}", api.lines());
    for (arguments, line) in [
        ("shop_getItem({id: '@evil.example/x'})", "GET /v1/items/%40evil.example%2Fx HTTP/1.1"),
        ("shop_getItem({id: 'a?admin=1#x'})", "GET /v1/items/a%3Fadmin%3D1%23x HTTP/1.1"),
        ("shop_listItems({q: 'x&api_key=evil HTTP/1.1'})", "GET /v1/items?q=x%26api_key%3Devil%20HTTP%2F1.1 HTTP/1.1"),
        ("shop_listItems({lang: 'a; sid=evil'})", "GET /v1/items HTTP/1.1"),
    ] {
        run(&mut client, "execute", &format!("codemode.{arguments}")).await;
        let last = api.sent().pop().unwrap();
        assert_eq!(last.line, line);
        assert!(
            last.header("host") == [api.address.to_string()]
                && last.header("cookie").iter().all(|cookie| *cookie == "lang=a%3B%20sid%3Devil"),
            "{last:?}"
        );
    }
}

#[tokio::test]
async fn redirections_are_reported_and_not_followed() {
    let other = HttpApi::start(echo).await;
    let api = HttpApi::start(|sent| {
        let port = sent.line.split(['=', ' ']).nth(2).unwrap_or_default();
        answer("302 Found", &format!("location: http://127.0.0.1:{port}/stolen\r\n"), b"")
    })
    .await;
    let portal = portal(&api, |shop| shop.secrets(&[("key", "key-secret-1")])).await;
    let mut client = Client::modern(portal.address).at(CODE);
    let moved = run(&mut client, "execute", &format!("codemode.shop_listItems({{q: '{}'}})", other.address.port())).await;
    assert!(failed(&moved) && moved.text().contains("HTTP 302") && moved.text().contains("not followed"), "{moved:?}");
    assert_eq!((api.sent().len(), other.sent().len()), (1, 0));
}

#[tokio::test]
async fn answers_without_end_bombs_and_errors_end_within_their_bounds() {
    const BODY: usize = 8 << 20;
    let api = HttpApi::start(|sent| match sent.line.split(['=', ' ']).nth(2).unwrap_or_default() {
        "huge" => answer("200 OK", "content-type: application/json\r\n", &vec![b'1'; BODY]),
        "bomb" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut encoder, &vec![b'0'; 64 << 20]).unwrap();
            answer("200 OK", "content-type: application/json\r\ncontent-encoding: gzip\r\n", &encoder.finish().unwrap())
        }
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut encoder, b"{\"fine\":true}").unwrap();
            answer("200 OK", "content-type: application/json\r\ncontent-encoding: gzip\r\n", &encoder.finish().unwrap())
        }
        "broken" => answer("200 OK", "content-encoding: gzip\r\n", b"no gzip"),
        "slow" => Some(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n1".to_vec()),
        "silent" => None,
        "cut" => Some(b"nonsense\r\n\r\n".to_vec()),
        "error" => json("500 Internal Server Error", &format!("{{\"message\":\"{}\"}}", "x".repeat(1 << 19))),
        _ => json("200 OK", "[1]"),
    })
    .await;
    let limits = Limits { patience: Duration::from_secs(2), message: 1 << 20 };
    let portal = portal(&api, |shop| shop.limits(limits)).await;
    let mut client = Client::modern(portal.address).at(CODE);
    for (kind, said) in [
        ("huge", "larger than"),
        ("bomb", "larger than"),
        ("broken", "corrupt content coding"),
        ("slow", "no answer within"),
        ("silent", "no answer within"),
        ("cut", "closed the connection"),
        ("error", "HTTP 500 Internal Server Error: {\"message\":\"xxx"),
    ] {
        let begun = Instant::now();
        let told = run(&mut client, "execute", &format!("codemode.shop_listItems({{q: '{kind}'}})")).await;
        assert!(failed(&told) && told.text().contains(said), "{kind}: {told:?}");
        assert!(begun.elapsed() < Duration::from_secs(10) && told.text().len() < 10_000, "{kind}");
        // The next call is sent all the same: the API does not count as down.
        assert_eq!(run(&mut client, "execute", "codemode.shop_listItems({q: 'well'})").await.text(), "[1]", "after {kind}");
    }
    assert_eq!(run(&mut client, "execute", "codemode.shop_listItems({q: 'gzip'})").await.text(), "{\"fine\":true}");
}

#[tokio::test]
async fn operations_are_judged_recorded_and_hidden_like_any_tool() {
    let api = HttpApi::start(echo).await;
    let setup = Setup::of([])
        .api(ApiSetup::new("shop", &shop(&api.url())).allow(&["*"]).writes(&["deleteItem"]))
        .policy("[{allow: {servers: [shop], tools: ['*Item*'], hints: {read_only: true}}}]")
        .rule("block", "gen_ai.tool.call.arguments|contains: forbidden");
    let portal = setup.start().await;
    let mut plain = Client::modern(portal.address);
    assert_eq!(plain.names("tools/list", "tools", "name").await, ["shop_listItems", "shop_getItem"]);
    let mut code = Client::modern(portal.address).at(CODE);
    for hidden in ["codemode.shop_deleteItem({id: '1'})", "codemode.shop_open({})", "codemode.shop_createItem({body: {name: 'x'}})"] {
        let answer = run(&mut code, "execute", hidden).await;
        assert!(failed(&answer) && answer.text().contains("is not a function"), "{hidden}: {answer:?}");
    }
    let blocked = run(&mut code, "execute", "codemode.shop_getItem({id: 'forbidden'})").await;
    assert!(failed(&blocked) && blocked.text().contains("Rule 0"), "{blocked:?}");
    assert!(api.sent().is_empty());
    run(&mut code, "execute", "codemode.shop_getItem({id: '1'})").await;
    let records = portal.records(8).await;
    let call = records
        .iter()
        .find(|record| record.kind == RecordKind::Call && record.status == Some(Status::Ok) && record.tool.as_deref() == Some("getItem"));
    let call = call.unwrap_or_else(|| panic!("{records:#?}"));
    assert_eq!(call.server.as_deref(), Some("shop"));
    assert_eq!(call.server_url.as_deref(), Some(&*format!("{}/v1", api.url())));
    assert!(call.execution.is_some());
}

#[tokio::test]
async fn an_operation_that_the_rules_refuse_is_not_offered_and_costs_no_other() {
    let api = HttpApi::start(echo).await;
    let setup = Setup::of([]).api(ApiSetup::new("shop", &shop(&api.url()))).rule("block", "gnomon.tools|contains: listItems");
    let portal = setup.start().await;
    let mut client = Client::modern(portal.address).at(CODE);
    let found = run(&mut client, "search", "async () => (await codemode.tools()).map(t => t.name)").await;
    assert_eq!(found.text(), "[\"shop_getItem\",\"shop_open\"]");
}

#[tokio::test]
async fn a_model_reads_no_more_for_2500_operations_than_for_one_tool() {
    let jira = Server::start("one", Speaks::Modern).await;
    let api = HttpApi::start(echo).await;
    let few = Setup::of([("one", jira.url())]).start().await;
    let document = generated::document("3.1.0", 500, &api.url());
    let many = Setup::of([("one", jira.url())]).api(ApiSetup::new("api", &document).writes(&["*"])).start().await;
    let mut texts = Vec::new();
    for portal in [&few, &many] {
        texts.push(Client::modern(portal.address).at(CODE).request("tools/list", value!({})).await.last()["result"]["tools"].to_string());
    }
    assert_eq!(texts[0], texts[1]);
    let mut client = Client::modern(many.address).at(CODE);
    let all = run(&mut client, "search", "async () => (await codemode.tools()).filter(t => t.server === 'api').length").await;
    assert_eq!(all.text(), (500 * generated::EACH).to_string());
    let begun = Instant::now();
    let found = run(&mut client, "search", "async () => (await codemode.search('list customer 421')).map(t => t.name)").await;
    assert!(found.text().starts_with("[\"api_"), "{}", found.text());
    println!("search over 2,500 operations: {:?}", begun.elapsed());
    // Each of them is a name that a script can call.
    let every = "async () => { let wrong = 0; for (const t of await codemode.tools()) { if (t.server === 'api' && typeof codemode[t.name] !== 'function') wrong++; } return wrong; }";
    assert_eq!(run(&mut client, "execute", every).await.text(), "0");
}
