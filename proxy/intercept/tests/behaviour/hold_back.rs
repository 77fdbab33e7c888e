//! Every combination of transport, coding and verdict. Of a blocked message nothing reaches the upstream, and its client gets an answer it
//! understands; an allowed message passes byte for byte.

use gnomon_stage::{
    HOST,
    client::{Answer, H1, H2},
    coding::Coding,
    gnomon::Gnomon,
    request::{call, chunk, h1_head, h1_post, h2_post, json_headers, request},
    rules::{self, MESSAGE, PORTAL, block, rule},
    upstream::Upstream,
};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// HTTP/1.1, `Content-Length`, head and body in one write.
    Length,
    /// HTTP/1.1, each byte in a chunk and a write of its own.
    OneByteChunks,
    /// HTTP/1.1, the last byte in a chunk of its own.
    SplitEnd,
    /// HTTP/2, one DATA frame.
    OneFrame,
    /// HTTP/2, a DATA frame for every seven bytes.
    ManyFrames,
}

/// What the request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    AllowedCall,
    BlockedCall,
    ExplainedCall,
    LocatedCall,
    AllowedNotification,
    BlockedNotification,
    BlockedRequest,
    AllowedBatch,
    BlockedBatch,
    AllowedGet,
    BlockedGet,
}

use Ask::*;

#[derive(Clone, Copy, Debug)]
struct Row(Wire, Coding, Ask);

const WIRES: [Wire; 5] = [Wire::Length, Wire::OneByteChunks, Wire::SplitEnd, Wire::OneFrame, Wire::ManyFrames];
const OTHER_ASKS: [Ask; 7] =
    [ExplainedCall, LocatedCall, AllowedNotification, BlockedNotification, BlockedRequest, AllowedBatch, BlockedBatch];

/// Every transport in every coding, allowed and blocked; the other requests in some of them.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for wire in WIRES {
        for coding in Coding::ALL {
            rows.extend([Row(wire, coding, AllowedCall), Row(wire, coding, BlockedCall)]);
        }
    }
    for ask in OTHER_ASKS {
        rows.extend([
            Row(Wire::Length, Coding::Identity, ask),
            Row(Wire::SplitEnd, Coding::Gzip, ask),
            Row(Wire::OneFrame, Coding::Zstd, ask),
            Row(Wire::ManyFrames, Coding::Brotli, ask),
        ]);
    }
    for ask in [AllowedGet, BlockedGet] {
        rows.extend([Row(Wire::Length, Coding::Identity, ask), Row(Wire::OneFrame, Coding::Identity, ask)]);
    }
    rows
}

fn rules() -> Vec<gnomon_engine::Source> {
    let explain = format!("action: redirect, mode: explain, to: '{PORTAL}', message: '{MESSAGE}'");
    let location = format!("action: redirect, mode: location, to: '{PORTAL}'");
    vec![
        block(1, "gen_ai.tool.name: blocked_tool"),
        rule(2, "Explained", "gen_ai.tool.name: explained_tool", &explain),
        rule(3, "Located", "gen_ai.tool.name: located_tool", &location),
        block(4, "mcp.method.name: resources/list"),
        block(5, "mcp.method.name: notifications/roots/list_changed"),
        block(6, "http.request.method: GET, url.path: /forbidden"),
    ]
}

impl Ask {
    fn body(self) -> Option<Value> {
        Some(match self {
            AllowedCall => call("a \"quoted\" id", "allowed_tool"),
            BlockedCall => call("a \"quoted\" id", "blocked_tool"),
            ExplainedCall => call(17, "explained_tool"),
            LocatedCall => call(17, "located_tool"),
            AllowedNotification => json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
            BlockedNotification => json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}),
            BlockedRequest => request(17, "resources/list"),
            AllowedBatch => json!([call(1, "allowed_tool"), request(2, "tools/list")]),
            BlockedBatch => json!([call(1, "allowed_tool"), request(2, "tools/list"), call(3, "blocked_tool"), request(4, "tools/list")]),
            AllowedGet | BlockedGet => return None,
        })
    }

    /// The number of the rule that refuses it.
    fn refused_by(self) -> Option<u8> {
        match self {
            BlockedCall | BlockedBatch => Some(1),
            ExplainedCall => Some(2),
            LocatedCall => Some(3),
            BlockedRequest => Some(4),
            BlockedNotification => Some(5),
            BlockedGet => Some(6),
            AllowedCall | AllowedNotification | AllowedBatch | AllowedGet => None,
        }
    }

    fn path(self) -> &'static str {
        if self == BlockedGet { "/forbidden" } else { "/rpc" }
    }
}

/// An HTTP/1.1 or HTTP/2 client.
enum Client {
    One(Box<H1<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>>),
    Two(H2),
}

impl Client {
    async fn connect(gnomon: &Gnomon, wire: Wire) -> Self {
        match wire {
            Wire::OneFrame | Wire::ManyFrames => Self::Two(H2::connect(gnomon).await),
            _ => Self::One(Box::new(H1::connect(gnomon).await)),
        }
    }

    async fn ask(&mut self, Row(wire, coding, ask): Row, body: &[u8]) -> Answer {
        match self {
            Self::One(client) if ask.body().is_none() => client.send(&[h1_head("GET", ask.path(), "")]).await,
            Self::One(client) => {
                let framing = match wire {
                    Wire::Length => format!("content-length: {}\r\n", body.len()),
                    _ => "transfer-encoding: chunked\r\n".to_owned(),
                };
                let head = h1_head("POST", ask.path(), &format!("{}{framing}", json_headers(coding)));
                let mut pieces = vec![head];
                match wire {
                    Wire::Length => pieces[0].extend_from_slice(body),
                    Wire::OneByteChunks => pieces.extend(body.chunks(1).map(chunk)),
                    _ => {
                        let (most, last) = body.split_at(body.len() - 1);
                        pieces.extend([chunk(most), chunk(last)]);
                    }
                }
                if wire != Wire::Length {
                    pieces.push(b"0\r\n\r\n".to_vec());
                }
                client.send(&pieces).await
            }
            Self::Two(client) if ask.body().is_none() => {
                let request = http::Request::get(format!("https://{HOST}{}", ask.path())).body(()).unwrap();
                client.send(request, &[]).await.unwrap()
            }
            Self::Two(client) => {
                let size = if wire == Wire::OneFrame { body.len() } else { 7 };
                let frames: Vec<Vec<u8>> = body.chunks(size).map(<[u8]>::to_vec).collect();
                client.send(h2_post(ask.path(), coding), &frames).await.unwrap()
            }
        }
    }

    /// Makes a harmless call on the same connection.
    async fn go_on(&mut self) -> Answer {
        let body = call("next", "allowed_tool").to_string();
        match self {
            Self::One(client) => client.send(&[h1_post("/next", body.as_bytes())]).await,
            Self::Two(client) => client.send(h2_post("/next", Coding::Identity), &[body.into_bytes()]).await.unwrap(),
        }
    }

    async fn close(self) {
        match self {
            Self::One(client) => client.close().await,
            Self::Two(client) => client.close().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_message_leaves_nothing_at_the_upstream_and_an_allowed_one_passes_unchanged() {
    let mut failed = Vec::new();
    for row in rows() {
        if let Err(error) = tokio::spawn(hold(row)).await {
            let panic = error.into_panic();
            let cause = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            failed.push(format!("{row:?}: {}", cause.unwrap_or_default()));
        }
    }
    assert!(failed.is_empty(), "{} of {} rows failed:\n{}", failed.len(), rows().len(), failed.join("\n"));
}

async fn hold(row: Row) {
    let Row(wire, coding, ask) = row;
    let alpn = if matches!(wire, Wire::OneFrame | Wire::ManyFrames) { "h2" } else { "http/1.1" };
    let upstream = Upstream::start(&[alpn]).await;
    let gnomon = Gnomon::with().rules(rules()).before(&upstream).await;
    let mut client = Client::connect(&gnomon, wire).await;
    let plain = ask.body().map(|body| body.to_string()).unwrap_or_default();
    let body = coding.encode(plain.as_bytes());

    let answer = client.ask(row, &body).await;
    match ask.refused_by() {
        Some(_) => {
            check_refusal(ask, &answer);
            assert_eq!(upstream.paths(), Vec::<String>::new(), "the upstream saw a head");
            assert_eq!(upstream.log.bytes.load(Ordering::SeqCst), 0, "the upstream saw bytes");
        }
        None => {
            upstream.requests(|all| {
                assert_eq!((all.len(), all[0].path.as_str()), (1, "/rpc"));
                if ask != AllowedGet {
                    assert_eq!(all[0].raw, body, "the body was changed");
                    assert_eq!(all[0].decoded, plain.as_bytes());
                    assert_eq!(all[0].headers.get("content-encoding").map(|v| v.to_str().unwrap()), coding.header());
                }
            });
            check_passed(ask, &answer);
        }
    }

    let next = client.go_on().await;
    assert_eq!((next.status, &next.json()["id"]), (200, &json!("next")));
    client.close().await;
    let events = gnomon.finish().await;
    let (asked, after): (Vec<_>, Vec<_>) = events.into_iter().partition(|e| e["url.path"] == ask.path());
    assert_eq!(after.len(), 1);
    check_events(row, &asked, body.len());
}

fn check_refusal(ask: Ask, answer: &Answer) {
    let failed_call = |id: Value, message: &Value| {
        assert_eq!((&message["id"], &message["result"]["isError"]), (&id, &json!(true)));
        let text = message["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains(MESSAGE), "{text}");
        text.to_owned()
    };
    let error = |id: Value, message: &Value| {
        assert_eq!(message["id"], id);
        assert!(message["error"]["message"].as_str().unwrap().contains(MESSAGE), "{message}");
    };
    let status = match ask {
        BlockedNotification => 202,
        BlockedGet => 403,
        LocatedCall => 307,
        _ => 200,
    };
    assert_eq!(answer.status, status, "{answer:?}");
    match ask {
        BlockedCall => drop(failed_call(json!("a \"quoted\" id"), &answer.json())),
        ExplainedCall => assert!(failed_call(json!(17), &answer.json()).contains(PORTAL)),
        LocatedCall => assert_eq!(answer.header("location"), Some(PORTAL)),
        BlockedRequest => error(json!(17), &answer.json()),
        BlockedNotification => assert!(answer.body.is_empty()),
        BlockedGet => assert!(answer.text().contains(MESSAGE)),
        BlockedBatch => {
            let messages = answer.json();
            assert_eq!(messages.as_array().map(Vec::len), Some(4), "{messages}");
            failed_call(json!(1), &messages[0]);
            error(json!(2), &messages[1]);
            failed_call(json!(3), &messages[2]);
            error(json!(4), &messages[3]);
        }
        AllowedCall | AllowedNotification | AllowedBatch | AllowedGet => unreachable!("not refused"),
    }
}

fn check_passed(ask: Ask, answer: &Answer) {
    match ask {
        AllowedGet => assert_eq!(answer.text(), "GET /rpc"),
        AllowedNotification => assert_eq!(answer.status, 202),
        AllowedBatch => assert_eq!(answer.json().as_array().map(Vec::len), Some(2)),
        _ => assert_eq!(answer.json()["result"]["content"][0]["text"], "done by the upstream"),
    }
    assert_eq!(answer.header("x-gnomon"), None);
}

fn check_events(Row(wire, _, ask): Row, events: &[Value], body: usize) {
    let expected = match ask {
        AllowedGet => 0,
        AllowedBatch => 2,
        BlockedBatch => 4,
        _ => 1,
    };
    assert_eq!(events.len(), expected, "{events:#?}");
    let Some(number) = ask.refused_by() else {
        assert!(events.iter().all(|e| e["event.kind"] == "event" && e["gnomon.action"] == "allow" && e.get("rule.id").is_none()));
        return;
    };
    let alerts = events.iter().filter(|e| e["event.kind"] == "alert").count();
    assert_eq!(alerts, 1, "one refusal is one alert: {events:#?}");
    let seen = events.iter().find(|e| ask != BlockedBatch || e["jsonrpc.request.id"] == "3").unwrap();
    let action = if matches!(ask, ExplainedCall | LocatedCall) { "redirect" } else { "block" };
    assert_eq!(seen["rule.id"], rules::id(number));
    assert_eq!(seen["gnomon.action"], action);
    assert_eq!(seen["server.address"], HOST);
    assert_eq!(seen["gnomon.channel"], "https");
    assert_eq!(seen["network.protocol.version"], if matches!(wire, Wire::OneFrame | Wire::ManyFrames) { "2" } else { "1.1" });
    assert!(seen.get("http.response.status_code").is_none(), "no server answered: {seen}");
    if ask == BlockedGet {
        return;
    }
    assert_eq!(seen["gnomon.confidence"], "confirmed");
    // The end of a coding adds nothing to the message, so it may arrive after the verdict.
    let read = seen["http.request.body.size"].as_u64().unwrap();
    assert!((1..=body as u64).contains(&read), "{read} of {body}");
    let message = if ask == BlockedBatch { ask.body().unwrap()[2].clone() } else { ask.body().unwrap() };
    assert_eq!(seen["mcp.method.name"], message["method"]);
    let id = message.get("id").map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
    assert_eq!(seen.get("jsonrpc.request.id").and_then(Value::as_str), id.as_deref());
    assert_eq!(seen.get("gen_ai.tool.name"), message["params"].get("name"));
}
