//! A failing server never affects another: the table of failures, each with nine healthy servers beside it.

use crate::{
    Running, Setup,
    client::{Answer, Client},
    server::{Server, Speaks, Unknown, black_hole, closed_port},
};
use serde_json::{Value, json};
use std::{
    future::Future,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{broadcast, mpsc},
};

/// The time in which the nine must answer, whatever the tenth does.
const AT_ONCE: Duration = Duration::from_secs(5);

const NAMES: [&str; 9] = ["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"];

struct Fleet {
    servers: Vec<Server>,
    portal: Running,
}

impl Fleet {
    async fn with(bad: String) -> Self {
        let mut servers = Vec::new();
        for (index, name) in NAMES.into_iter().enumerate() {
            servers.push(Server::start(name, if index % 2 == 0 { Speaks::Legacy } else { Speaks::Modern }).await);
        }
        let mut all: Vec<(&'static str, String)> = NAMES.into_iter().zip(servers.iter().map(Server::url)).collect();
        all.insert(4, ("bad", bad));
        Self { servers, portal: Setup::of(all).start().await }
    }

    /// Checks that all nine answer at once, in both eras.
    async fn nine_answer(&self, client: &mut Client) {
        let tools = at_once("the list", client.names("tools/list", "tools", "name")).await;
        for name in NAMES {
            assert!(tools.contains(&format!("{name}_echo")), "{name}: {tools:?}");
            let answer = at_once(name, client.call(&format!("{name}_echo"), json!({"text": "hi"}))).await;
            assert_eq!(answer.text(), format!("{name}: hi"), "{answer:?}");
        }
        assert_eq!(self.servers.len(), NAMES.len());
    }
}

async fn at_once<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(AT_ONCE, future).await.unwrap_or_else(|_| panic!("{what} had to wait for a server in trouble"))
}

fn missing(answer: &Answer) -> Value {
    answer.last()["result"]["_meta"]["dev.gnomon/missing"].clone()
}

fn leaks_nothing(answer: &Answer) {
    let text = format!("{:?}", answer.messages);
    assert!(!text.contains("127.0.0.1") && !text.contains("http"), "{text}");
}

#[tokio::test]
async fn a_server_that_is_not_there_costs_the_others_nothing_and_is_named() {
    let fleet = Fleet::with(format!("http://{}/mcp", closed_port())).await;
    for mut client in [at_once("the session", Client::legacy(fleet.portal.address)).await, Client::modern(fleet.portal.address)] {
        fleet.nine_answer(&mut client).await;
        let list = client.request("tools/list", json!({})).await;
        assert_eq!(missing(&list)[0]["server"], "bad", "{list:?}");
        leaks_nothing(&list);
        let call = at_once("the call", client.call("bad_echo", json!({"text": "x"}))).await;
        assert!(call.last()["error"]["message"].as_str().unwrap().contains("server `bad`"), "{call:?}");
        leaks_nothing(&call);
    }
    let told = Client::modern(fleet.portal.address).initialize().await;
    assert!(told.last()["result"]["instructions"].as_str().unwrap().contains("bad is not available"), "{told:?}");
}

#[tokio::test]
async fn a_server_that_accepts_connections_and_never_answers_delays_no_other() {
    let (address, _hole) = black_hole().await;
    let fleet = Fleet::with(format!("http://{address}/mcp")).await;
    let mut client = at_once("the session", Client::legacy(fleet.portal.address)).await;
    fleet.nine_answer(&mut client).await;
    fleet.nine_answer(&mut Client::modern(fleet.portal.address)).await;
}

#[tokio::test]
async fn a_server_that_freezes_keeps_its_tools_on_the_list_and_holds_up_only_its_own_callers() {
    let bad = Server::start("bad", Speaks::Both).await;
    let fleet = Fleet::with(bad.url()).await;
    let mut client = Client::legacy(fleet.portal.address).await;
    assert_eq!(client.call("bad_echo", json!({"text": "x"})).await.text(), "bad: x");
    bad.freeze();
    fleet.nine_answer(&mut client).await;
    assert!(client.names("tools/list", "tools", "name").await.contains(&"bad_echo".to_owned()));
}

#[tokio::test]
async fn a_server_that_dies_keeps_its_tools_on_the_list_and_is_back_when_it_is_back() {
    let bad = Server::start("bad", Speaks::Legacy).await;
    let fleet = Fleet::with(bad.url()).await;
    let mut client = Client::legacy(fleet.portal.address).await;
    assert_eq!(client.call("bad_echo", json!({"text": "x"})).await.text(), "bad: x");
    let address = bad.stop().await;
    let failed = at_once("the call", client.call("bad_echo", json!({"text": "x"}))).await;
    assert!(failed.last()["error"]["message"].as_str().unwrap().contains("server `bad`"), "{failed:?}");
    leaks_nothing(&failed);
    fleet.nine_answer(&mut client).await;
    let list = client.request("tools/list", json!({})).await;
    assert!(list.last()["result"]["tools"].to_string().contains("bad_echo"), "the last list is served");
    let back = Server::start_at("bad", Speaks::Legacy, address).await;
    // In the same session, without a new initialization by the client.
    let answered = async {
        loop {
            let answer = client.call("bad_echo", json!({"text": "again"})).await;
            if answer.text() == "bad: again" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    crate::soon("the server to be used again", answered).await;
    assert!(!back.got("tools/call").is_empty());
}

#[tokio::test]
async fn a_server_that_forgets_its_sessions_is_begun_with_anew_without_the_client_noticing() {
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    for mut client in [Client::legacy(portal.address).await, Client::modern(portal.address)] {
        assert_eq!(client.call("one_echo", json!({"text": "1"})).await.text(), "one: 1");
        server.forget_sessions();
        assert_eq!(client.call("one_echo", json!({"text": "2"})).await.text(), "one: 2");
    }
    let calls = async {
        loop {
            let records = portal.records(1).await;
            let calls: Vec<_> = records.into_iter().filter(|record| record.kind == gnomon_audit::RecordKind::Call).collect();
            if calls.len() >= 4 {
                return calls;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let attempts: Vec<_> = crate::soon("four calls", calls).await.iter().map(|call| call.attempts).collect();
    assert_eq!(attempts, [None, Some(2), None, Some(2)], "each is recorded with how often its server was asked");
    assert_eq!(server.got("tools/call").len(), 6);
}

#[tokio::test]
async fn a_server_that_says_in_its_own_way_that_it_forgot_is_begun_with_anew() {
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    for unknown in [Unknown::BadRequest, Unknown::Words] {
        server.answers_unknown(unknown);
        server.forget_sessions();
        assert_eq!(client.call("one_echo", json!({"text": "1"})).await.text(), "one: 1", "{unknown:?}");
    }
    // A result of the call itself goes to the client, and the call is not repeated.
    let before = server.got("tools/call").len();
    server.answers_unknown(Unknown::OfTheRequest);
    server.forget_sessions();
    let failed = client.call("one_echo", json!({"text": "1"})).await;
    assert_eq!(failed.last()["error"]["code"], -32000, "{failed:?}");
    assert_eq!(server.got("tools/call").len(), before + 1);
}

#[tokio::test]
async fn a_server_that_comes_late_is_announced() {
    let address = closed_port();
    let portal = Setup::of([("one", format!("http://{address}/mcp"))]).start().await;
    let mut client = Client::modern(portal.address);
    assert!(client.names("tools/list", "tools", "name").await.is_empty());
    let server = Server::start_at("one", Speaks::Both, address).await;
    let listed = async {
        while client.names("tools/list", "tools", "name").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    crate::soon("the server's tools", listed).await;
    assert_eq!(client.call("one_echo", json!({"text": "x"})).await.text(), "one: x");
    assert!(!server.got("tools/list").is_empty());
}

#[tokio::test]
async fn a_server_that_freezes_while_it_has_sessions_is_known_as_gone_within_twenty_seconds_and_told_once() {
    let bad = Server::start("bad", Speaks::Legacy).await;
    let fleet = Fleet::with(bad.url()).await;
    let mut client = Client::legacy(fleet.portal.address).await;
    assert_eq!(client.call("bad_echo", json!({"text": "x"})).await.text(), "bad: x");
    let (other, session) = (Client::legacy(fleet.portal.address).await, client.session());
    bad.freeze();
    let frozen = Instant::now();
    // Ending a session and notifications about it wait for no server.
    let level = client.request("logging/setLevel", json!({"level": "info"}));
    within("the level", Duration::from_secs(2), level).await;
    let told = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
    within("the notification", Duration::from_secs(2), client.post(&[("mcp-session-id", &session)], told)).await;
    ends(&other).await;
    let named = async {
        loop {
            let list = client.request("tools/list", json!({})).await;
            if missing(&list)[0]["server"] == "bad" {
                return list;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let list = within("the server to be known as gone", Duration::from_secs(20), named).await;
    assert!(missing(&list)[0]["why"].as_str().unwrap().contains("gave no answer"), "{list:?}");
    assert!(list.last()["result"]["tools"].to_string().contains("bad_echo"), "the last list is served");
    let failed = within("the error", Duration::from_secs(1), client.call("bad_echo", json!({"text": "x"}))).await;
    assert!(failed.last()["error"]["message"].as_str().unwrap().contains("server `bad`"), "{failed:?}");
    ends(&client).await;
    assert!(fleet.portal.metrics().contains(r#"gnomon_portal_server_up{portal="main",server="bad"} 0"#));
    assert!(fleet.portal.metrics().contains(r#"gnomon_portal_server_down{portal="main",reason="frozen",server="bad"} 1"#));
    // It is tried again meanwhile, and reported once.
    tokio::time::sleep(Duration::from_secs(24).saturating_sub(frozen.elapsed())).await;
    let gone = healths(&fleet.portal).await;
    assert_eq!(gone, [("server_gone".to_owned(), "bad".to_owned())]);
}

/// Ends a session; that waits for no server.
async fn ends(client: &Client) {
    let session = client.session();
    let headers = [("mcp-session-id", session.as_str())];
    within("the end of a session", Duration::from_secs(2), client.send(http::Method::DELETE, &headers, String::new())).await;
}

/// The health events about the portal's servers, in order.
async fn healths(portal: &Running) -> Vec<(String, String)> {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let events = portal.events(1).await;
    let of_health = events.iter().filter(|event| event["gnomon.detection.class"] == "health");
    of_health.map(|event| (text(event, "gnomon.health"), text(event, "gnomon.server.id"))).collect()
}

async fn within<T>(what: &str, most: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(most, future).await.unwrap_or_else(|_| panic!("{what} took more than {most:?}"))
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_an_event_of_class_health_each_time_and_a_metric() {
    let server = Server::start("one", Speaks::Legacy).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let mut client = Client::legacy(portal.address).await;
    assert_eq!(client.call("one_echo", json!({"text": "1"})).await.text(), "one: 1");
    let here = r#"gnomon_portal_server_up{portal="main",server="one"} 1"#;
    let metrics = portal.metrics();
    for line in [
        here,
        r#"gnomon_portal_server_calls_total{portal="main",server="one",status="ok"} 1"#,
        r#"gnomon_portal_server_sessions{portal="main",server="one"} 1"#,
        r#"gnomon_portal_server_seconds_count{portal="main",server="one"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let address = server.stop().await;
    assert_ne!(client.call("one_echo", json!({"text": "2"})).await.text(), "one: 2");
    let refused = r#"gnomon_portal_server_down{portal="main",reason="refused",server="one"} 1"#;
    crate::soon("the server to be gone", async {
        while !portal.metrics().contains(refused) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // After several attempts nothing has changed.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let _back = Server::start_at("one", Speaks::Legacy, address).await;
    crate::soon("the server to be back", async {
        while !portal.metrics().contains(here) || client.call("one_echo", json!({"text": "3"})).await.text() != "one: 3" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(!portal.metrics().contains("gnomon_portal_server_down{"), "there is no reason left");
    let told = [("server_gone".to_owned(), "one".to_owned()), ("server_back".to_owned(), "one".to_owned())];
    assert_eq!(healths(&portal).await, told);
}

#[tokio::test]
async fn a_session_goes_on_where_its_server_comes_back_as_one_of_the_other_era_only() {
    for (before, after) in [(Speaks::Legacy, Speaks::Modern), (Speaks::Modern, Speaks::Legacy)] {
        let server = Server::start("one", before).await;
        let portal = Setup::of([("one", server.url())]).start().await;
        let mut clients = [Client::legacy(portal.address).await, Client::modern(portal.address)];
        for client in &mut clients {
            assert_eq!(client.call("one_echo", json!({"text": "1"})).await.text(), "one: 1");
        }
        let _back = Server::start_at("one", after, server.stop().await).await;
        for client in &mut clients {
            let again = async {
                while client.call("one_echo", json!({"text": "2"})).await.text() != "one: 2" {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            within("the server to be used again", Duration::from_secs(20), again).await;
        }
    }
}

#[tokio::test]
async fn the_first_call_after_a_server_of_the_older_era_became_stateless_is_answered() {
    for modern in [false, true] {
        let server = Server::start("one", Speaks::Legacy).await;
        let portal = Setup::of([("one", server.url())]).start().await;
        let mut client = if modern { Client::modern(portal.address) } else { Client::legacy(portal.address).await };
        assert_eq!(client.call("one_echo", json!({"text": "1"})).await.text(), "one: 1");
        server.becomes(Speaks::Modern);
        assert_eq!(client.call("one_echo", json!({"text": "2"})).await.text(), "one: 2", "stateless: {modern}");
    }
}

/// A server that answers every POST with this head, and everything else with 405.
async fn answers(post: &'static str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut begin = [0; 4096];
                let read = tcp.read(&mut begin).await.unwrap_or(0);
                let head = if begin[..read].starts_with(b"POST") { post } else { "405 Method Not Allowed" };
                let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = tcp.write_all(answer.as_bytes()).await;
                // Reads the rest of the request, as the answer would be lost otherwise.
                let _ = tokio::time::timeout(Duration::from_millis(200), tcp.read(&mut begin)).await;
            });
        }
    });
    format!("http://{address}/mcp")
}

#[tokio::test]
async fn a_server_that_does_not_answer_as_mcp_is_reported_as_such_without_the_address_it_redirects_to() {
    for (post, why) in [
        ("404 Not Found", "HTTP 404"),
        ("401 Unauthorized", "gnomon holds none for it (HTTP 401)"),
        ("307 Temporary Redirect\r\nlocation: http://other.example/mcp?key=1", "HTTP 307, a redirect"),
    ] {
        let portal = Setup::of([("bad", answers(post).await)]).start().await;
        let list = crate::soon(post, async {
            loop {
                let list = Client::modern(portal.address).request("tools/list", json!({})).await;
                if missing(&list)[0]["why"].as_str().is_some_and(|told| told.contains(why)) {
                    return list;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        assert!(!format!("{list:?}").contains("other.example"), "{list:?}");
    }
}

/// A listener whose queue is full, so that the kernel answers nobody else who wants in, and what fills it.
async fn full() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    while let Ok(taken) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(listener.local_addr().unwrap())).await {
        waiting.push(taken.unwrap());
        assert!(waiting.len() < 8, "a listener that accepts nothing takes whoever comes");
    }
    (listener, waiting)
}

#[tokio::test]
async fn each_reason_why_a_server_is_not_there_is_told_apart_in_metrics_and_lists() {
    let (listener, _waiting) = full().await;
    let plain = answers("200 OK").await.replacen("http:", "https:", 1);
    let table = [
        ("closed", format!("http://{}/mcp", closed_port()), "refused", "nobody listens at its address"),
        ("nameless", "http://nobody.invalid/mcp".to_owned(), "dns", "its name has no address"),
        ("plain", plain, "tls", "TLS with it fails"),
        ("failing", answers("503 Service Unavailable").await, "http_5xx", "HTTP 503"),
        ("elsewhere", answers("404 Not Found").await, "http_4xx", "HTTP 404"),
        ("locked", answers("401 Unauthorized").await, "unauthorized", "HTTP 401"),
        ("full", format!("http://{}/mcp", listener.local_addr().unwrap()), "timeout", "no connection came about in time"),
    ];
    let portal = Setup::of(table.iter().map(|(id, url, ..)| (*id, url.clone()))).start().await;
    let mut client = Client::modern(portal.address);
    let told = async {
        loop {
            let (metrics, missing) = (portal.metrics(), missing(&client.request("tools/list", json!({})).await));
            let is_told = |(id, _, reason, words): &(&str, String, &str, &str)| {
                let series = format!(r#"gnomon_portal_server_down{{portal="main",reason="{reason}",server="{id}"}} 1"#);
                let why = missing.as_array().into_iter().flatten().find(|one| one["server"] == *id).and_then(|one| one["why"].as_str());
                metrics.contains(&series) && why.is_some_and(|why| why.contains(words))
            };
            if table.iter().all(is_told) {
                return metrics;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let metrics = crate::soon("each reason", told).await;
    assert_eq!(metrics.matches("gnomon_portal_server_down{").count(), table.len(), "one reason for each: {metrics}");
}

/// A server of HTTP+SSE that refuses `initialize`, and keeps its stream open; it tells of each stream that its client lets go.
async fn refuses_on_its_stream(let_go: mpsc::Sender<()>) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (says, _) = broadcast::channel::<String>(16);
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let (says, let_go) = (says.clone(), let_go.clone());
            tokio::spawn(async move {
                let (mut read, mut part) = (Vec::new(), [0; 4096]);
                let body = loop {
                    let length = tcp.read(&mut part).await.unwrap_or(0);
                    read.extend_from_slice(&part[..length]);
                    let head = read.windows(4).position(|end| end == b"\r\n\r\n");
                    let body = head.map(|head| serde_json::from_slice::<Value>(&read[head + 4..]).unwrap_or_default());
                    if length == 0 || body.as_ref().is_some_and(|body| read.starts_with(b"GET") || body.is_object()) {
                        break body.unwrap_or_default();
                    }
                };
                if read.starts_with(b"GET") {
                    let mut said = says.subscribe();
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: endpoint\ndata: /say\n\n";
                    tcp.write_all(head.as_bytes()).await.unwrap();
                    let message = said.recv().await.unwrap();
                    let _ = tcp.write_all(format!("data: {message}\n\n").as_bytes()).await;
                    while tcp.read(&mut part).await.is_ok_and(|length| length > 0) {}
                    let _ = let_go.send(()).await;
                    return;
                }
                let is_sent = read.starts_with(b"POST /say");
                if is_sent {
                    let refused = json!({"jsonrpc": "2.0", "id": body["id"], "error": {"code": -32603, "message": "not now"}});
                    let _ = says.send(refused.to_string());
                }
                let head = if is_sent { "202 Accepted" } else { "405 Method Not Allowed" };
                let _ = tcp.write_all(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes()).await;
            });
        }
    });
    format!("http://{address}/mcp")
}

#[tokio::test]
async fn the_stream_of_a_server_that_refuses_a_session_is_let_go() {
    let (sender, mut let_go) = mpsc::channel(16);
    let _portal = Setup::of([("bad", refuses_on_its_stream(sender).await)]).start().await;
    crate::soon("the stream to be let go", let_go.recv()).await.unwrap();
}
