//! What a hostile server or client sends costs nobody else their tools, memory or time.

use super::sdk::Portal;
use crate::{
    mcp::{Era, call, text},
    support::{
        authority::{Authority, trusting},
        neighbours::{Calls, Endured, best_of_three},
        soon,
    },
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// Returns the answer to a method with these parameters.
type Script = fn(&str, &Value) -> Option<Value>;

/// A server of the stateless era that answers as the script says.
async fn serve(script: Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let answer = service_fn(move |request: Request<Incoming>| async move {
                #[expect(clippy::disallowed_methods, reason = "bounded")]
                let body = Limited::new(request.into_body(), 2 << 20).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let answer = match (
                    body["method"].as_str().unwrap_or_default(),
                    script(body["method"].as_str().unwrap_or_default(), &body["params"]),
                ) {
                    (_, Some(mut result)) => {
                        result["resultType"] = "complete".into();
                        json!({"jsonrpc": "2.0", "id": body["id"], "result": result})
                    }
                    ("server/discover", None) => json!({"jsonrpc": "2.0", "id": body["id"], "result": {
                        "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}, "resources": {}},
                    }}),
                    _ => json!({"jsonrpc": "2.0", "id": body["id"], "error": {"code": -32601, "message": "no"}}),
                };
                let response = Response::builder().header("content-type", "application/json");
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(answer.to_string()))).unwrap())
            });
            tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(tcp), answer).await });
        }
    });
    address
}

fn http() -> reqwest::Client {
    http_from(Ipv4Addr::LOCALHOST)
}

/// A client with this address, by which the portal tells callers without a log-in apart.
fn http_from(address: Ipv4Addr) -> reqwest::Client {
    // The client library requires a TLS configuration, though no TLS is used.
    let tls = trusting(Authority::new("nobody").certificate(), &[]);
    reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).local_address(IpAddr::V4(address)).build().unwrap()
}

fn well(method: &str, params: &Value) -> Option<Value> {
    match method {
        "tools/list" => Some(json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})),
        "tools/call" => Some(json!({"content": [{"type": "text", "text": format!("echo of {}", params["name"].as_str()?)}]})),
        _ => None,
    }
}

fn odd(method: &str, _: &Value) -> Option<Value> {
    match method {
        "tools/list" => Some(json!({"tools": [
            {"name": "schemaless"}, {"name": "null", "inputSchema": null}, {"name": "described", "description": 7, "inputSchema": {"type": "object"}},
            {"name": "hinted", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": "yes"}},
            {"name": "good", "inputSchema": {"type": "object"}},
        ]})),
        "resources/list" => Some(json!({"resources": [{"uri": "doc://nameless"}, {"uri": "doc://good", "name": "good"}]})),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_reads_the_lists_of_a_portal_whatever_one_server_lists() {
    let dir = tempfile::tempdir().unwrap();
    let portal = Portal::of(dir.path(), &[("odd", serve(odd).await), ("well", serve(well).await)]);
    for era in [Era::Sessions, Era::Stateless] {
        let session = era.open(http(), &format!("http://{}/mcp", portal.address)).await;
        let tools = soon("the tools", session.list_tools(None)).await.unwrap();
        assert_eq!(tools.tools.iter().map(|tool| tool.name.as_ref()).collect::<Vec<_>>(), ["odd_good", "well_echo"], "{era:?}");
        let resources = soon("the resources", session.list_resources(None)).await.unwrap();
        assert_eq!(resources.resources.iter().map(|one| one.uri.as_str()).collect::<Vec<_>>(), ["odd+doc://good"], "{era:?}");
        assert_eq!(text(&call(&session, "well_echo").await), "echo of echo", "{era:?}");
        soon("the end", session.cancel()).await.unwrap();
    }
}

/// A list without an end, in pages of 9 MB, and a tool whose schema takes twice as long to check with each level of its arguments.
fn greedy(method: &str, params: &Value) -> Option<Value> {
    let page: usize = params["cursor"].as_str().and_then(|cursor| cursor.parse().ok()).unwrap_or_default();
    let described = |n: usize, first: &str| json!({first: format!("x://{page}/{n}"), "name": format!("p{page}n{n}"), "description": "d".repeat(90_000)});
    match method {
        "tools/list" => {
            let next = json!({"$ref": "#/$defs/n"});
            let part = json!({"properties": {"a": next}, "required": ["b"]});
            let mut tools = vec![
                json!({"name": "forks", "inputSchema": {"type": "object", "$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [part, part]}}}}),
            ];
            for n in 0..100 {
                let mut tool = described(n, "vendor");
                tool["inputSchema"] = json!({"type": "object"});
                tools.push(tool);
            }
            Some(json!({"tools": tools, "nextCursor": (page + 1).to_string()}))
        }
        "resources/list" => {
            Some(json!({"resources": (0..100).map(|n| described(n, "uri")).collect::<Vec<_>>(), "nextCursor": (page + 1).to_string()}))
        }
        "tools/call" => Some(json!({"content": []})),
        _ => None,
    }
}

async fn post(http: &reqwest::Client, portal: SocketAddr, tool: &str, arguments: Value) -> Value {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments, "_meta": meta}});
    let request =
        http.post(format!("http://{portal}/mcp")).header("content-type", "application/json").header("mcp-protocol-version", "2026-07-28");
    let answer = request.header("mcp-method", "tools/call").header("mcp-name", tool).body(body.to_string()).send().await.unwrap();
    let body = answer.text().await.unwrap();
    // The answer to a call that takes long is an event stream.
    let mut answers = body.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap_or(line)).ok());
    answers.next_back().unwrap_or_else(|| panic!("{body}"))
}

/// Four callers with twenty calls a second each, for this long. How long each call took since it was due.
async fn neighbours(portal: SocketAddr, time: Duration) -> Calls {
    let callers: Vec<JoinHandle<Vec<Duration>>> = (11..=14)
        .map(|number| {
            tokio::spawn(async move {
                let (http, begun, mut took) = (http_from(Ipv4Addr::new(127, 0, 0, number)), Instant::now(), Vec::new());
                let mut tick = tokio::time::interval(Duration::from_millis(50));
                while begun.elapsed() < time {
                    let due = tick.tick().await;
                    let answer = post(&http, portal, "well_echo", json!({})).await;
                    assert_eq!(answer["result"]["content"][0]["text"], "echo of echo", "{answer}");
                    took.push(due.elapsed());
                }
                took
            })
        })
        .collect();
    let mut calls = Calls { took: Vec::new(), failed: Vec::new() };
    for caller in callers {
        calls.took.extend(caller.await.unwrap());
    }
    calls.took.sort_unstable();
    calls
}

fn endured(before: &Calls, during: &Calls) -> Endured {
    Endured { calls: before.took.len() + during.took.len(), before: before.p99(), during: during.p99() }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_server_nor_a_caller_fills_the_memory_or_holds_up_others() {
    best_of_three(greedy_server_and_caller).await;
}

async fn greedy_server_and_caller() -> ((), Endured) {
    let dir = tempfile::tempdir().unwrap();
    let portal = Portal::of(dir.path(), &[("greedy", serve(greedy).await), ("well", serve(well).await)]);
    let address = portal.address;
    soon("the lists", async {
        while post(&http(), address, "greedy_p0n0", json!({})).await["result"].is_null() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let before = neighbours(address, Duration::from_secs(3)).await;
    let (settled, client) = (portal.resident(), Arc::new(http()));
    let arguments = (0..60).fold(json!(1), |value, _| json!({"a": value}));
    let costly: Vec<JoinHandle<()>> = (0..4)
        .map(|_| {
            let (client, arguments) = (client.clone(), arguments.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    let answer = post(&client, address, "greedy_forks", arguments.clone()).await;
                    assert_eq!(answer["result"]["isError"], true, "{answer}");
                }
            })
        })
        .collect();
    let flood = tokio::spawn(async move {
        for n in 0..200 {
            let params = json!({
                "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": {"name": "flood", "version": n.to_string(), "x": "x".repeat(1_000_000)},
            });
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
            let request = client.post(format!("http://{address}/mcp")).header("content-type", "application/json");
            assert!(request.body(body.to_string()).send().await.unwrap().status().is_success());
        }
    });
    let during = neighbours(address, Duration::from_secs(3)).await;
    flood.await.unwrap();
    for calls in costly {
        calls.await.unwrap();
    }
    let after = portal.resident();
    println!("resident {settled} MiB with endless lists, {after} MiB after the flood");
    // 8 MiB of tools and 4 MiB of resources, held twice because they are renamed; the rest is what any portal needs.
    assert!(settled <= 160, "{settled} MiB");
    assert!(after <= settled + 40, "{settled} MiB became {after} MiB");
    ((), endured(&before, &during))
}

/// A server that accepts every call and answers none.
async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let answer = service_fn(move |request: Request<Incoming>| async move {
                #[expect(clippy::disallowed_methods, reason = "bounded")]
                let body = Limited::new(request.into_body(), 8 << 20).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let result = match body["method"].as_str() {
                    Some("server/discover") => {
                        json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
                    }
                    Some("tools/list") => {
                        json!({"resultType": "complete", "tools": [{"name": "hold", "inputSchema": {"type": "object"}}]})
                    }
                    _ => std::future::pending().await,
                };
                let answer = json!({"jsonrpc": "2.0", "id": body["id"], "result": result}).to_string();
                Ok::<_, Infallible>(
                    Response::builder().header("content-type", "application/json").body(Full::new(Bytes::from(answer))).unwrap(),
                )
            });
            tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(tcp), answer).await });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn large_calls_to_a_server_that_never_answers_take_so_much_memory_and_small_ones_go_on() {
    best_of_three(large_calls_that_wait).await;
}

async fn large_calls_that_wait() -> ((), Endured) {
    let dir = tempfile::tempdir().unwrap();
    let portal = Portal::of(dir.path(), &[("silent", silent().await), ("well", serve(well).await)]);
    let address = portal.address;
    soon("the servers", async {
        while post(&http(), address, "well_echo", json!({})).await["result"].is_null() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let before = neighbours(address, Duration::from_secs(2)).await;
    let (settled, client) = (portal.resident(), http());
    let body = |text: &str| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "silent_hold", "arguments": {"text": text}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }}})
        .to_string()
    };
    // One long text, and JSON that takes many times its size once it is parsed.
    let bodies = [body(&"x".repeat(3_900_000)), body("HERE").replace(r#""HERE""#, &format!("[{}]", vec![r#"{"a":1}"#; 40_000].join(",")))];
    let calls: Vec<JoinHandle<u16>> = (0..160)
        .map(|number| {
            let request = client.post(format!("http://{address}/mcp")).header("content-type", "application/json");
            let request =
                request.header("mcp-protocol-version", "2026-07-28").header("mcp-method", "tools/call").header("mcp-name", "silent_hold");
            let request = request.body(bodies[number % 2].clone());
            tokio::spawn(async move {
                let answer = request.send().await.unwrap();
                let status = answer.status().as_u16();
                // The answer is a stream without events; dropping it cancels the call.
                let _ = answer.bytes().await;
                status
            })
        })
        .collect();
    let during = neighbours(address, Duration::from_secs(4)).await;
    let most = portal.resident();
    let over: Vec<_> = calls.iter().filter(|call| call.is_finished()).collect();
    println!("resident {settled} MiB, {most} MiB with large calls; {} of 160 are over", over.len());
    assert!((120..160).contains(&over.len()), "{} were refused", over.len());
    assert!(most <= settled + 256, "{settled} MiB became {most} MiB");
    calls.iter().for_each(JoinHandle::abort);
    ((), endured(&before, &during))
}
