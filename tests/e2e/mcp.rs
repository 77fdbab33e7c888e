//! A real MCP client and server (the official SDK), in every era of the protocol, with gnomon between them.

use crate::support::{
    HOST,
    authority::{Authority, trusting},
    client::{H1, tls},
    gnomon::Gnomon,
    request,
    rules::{MESSAGE, block, id, shipped},
    soon,
    upstream::Upstream,
};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rmcp::{
    ClientLifecycleMode, ClientServiceExt, ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig, ContentBlock, Implementation,
        ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
    },
    service::{RequestContext, RoleClient, RunningService},
    transport::{
        StreamableHttpClientTransport,
        streamable_http_client::StreamableHttpClientTransportConfig,
        streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager},
    },
};
use serde_json::{Value, json};
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server with two tools that answer with their own name.
#[derive(Clone)]
pub struct Tools;

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build()).with_server_info(Implementation::new("e2e-server", "1.2.0"))
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({"type": "object"}).as_object().unwrap().clone();
        let tool = |name: &'static str| Tool::new(name, "Says its name", schema.clone());
        Ok(ListToolsResult::with_all_items(vec![tool("allowed_tool"), tool("blocked_tool")]))
    }

    async fn call_tool(&self, request: CallToolRequestParams, _: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text(format!("this is {}", request.name))]).into())
    }
}

/// Serves it under this host name.
pub async fn serve(authority: &Authority, name: &str, alpn: &[&str], config: StreamableHttpServerConfig) -> SocketAddr {
    let service: StreamableHttpService<Tools, LocalSessionManager> = StreamableHttpService::new(|| Ok(Tools), Arc::default(), config);
    let acceptor = TlsAcceptor::from(authority.server(name, alpn));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, service) = (acceptor.clone(), service.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let answer = service_fn(move |request| {
                    let service = service.clone();
                    async move { Ok::<_, Infallible>(service.handle(request).await) }
                });
                if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tls), answer).await;
                } else {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(tls), answer).await;
                }
            });
        }
    });
    address
}

pub type Client = RunningService<RoleClient, ClientConfig>;

/// The era of the protocol that a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// `initialize`, sessions, event streams.
    Sessions,
    /// `initialize`, answers as JSON.
    Json,
    /// `server/discover`, no sessions.
    Stateless,
}

impl Era {
    fn version(self) -> &'static str {
        if self == Self::Stateless { "2026-07-28" } else { "2025-11-25" }
    }

    pub fn server(self) -> StreamableHttpServerConfig {
        let sessions = self == Self::Sessions;
        StreamableHttpServerConfig::default().with_legacy_session_mode(sessions).with_json_response(!sessions).with_allowed_hosts([HOST])
    }

    async fn connect(self, gnomon: &Gnomon) -> Client {
        let proxy = reqwest::Proxy::all(format!("http://{}", gnomon.address)).unwrap();
        let tls = trusting(&gnomon.root, &["http/1.1"]);
        let http = reqwest::Client::builder().proxy(proxy).http1_only().tls_backend_preconfigured((*tls).clone()).build().unwrap();
        self.open(http, &format!("https://{HOST}/rpc")).await
    }

    /// Opens a client session of this era.
    pub async fn open(self, http: reqwest::Client, url: &str) -> Client {
        let config = StreamableHttpClientTransportConfig::with_uri(url.to_owned());
        let transport = StreamableHttpClientTransport::with_client(http, config);
        let client = ClientConfig::new(ClientCapabilities::default(), Implementation::new("e2e-client", "9.9"));
        let lifecycle = match self {
            Self::Stateless => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
            Self::Sessions | Self::Json => ClientLifecycleMode::Initialize,
        };
        let client = client.with_protocol_version(ProtocolVersion::V_2025_11_25);
        soon("the session", client.serve_with_lifecycle(transport, lifecycle)).await.unwrap()
    }
}

pub async fn call(client: &Client, tool: &'static str) -> CallToolResult {
    soon(tool, client.call_tool(CallToolRequestParams::new(tool))).await.unwrap()
}

pub fn text(result: &CallToolResult) -> String {
    serde_json::to_value(result).unwrap()["content"][0]["text"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_of_either_era_passes_unchanged_and_a_blocked_call_leaves_it_usable() {
    for era in [Era::Sessions, Era::Json, Era::Stateless] {
        let authority = Authority::new("the server's authority");
        let address = serve(&authority, HOST, &["http/1.1"], era.server()).await;
        let rules = shipped().into_iter().chain([block(1, "gen_ai.tool.name: blocked_tool")]);
        let gnomon = Gnomon::with().rules(rules).resolve(HOST, address).trust(authority.pem_file()).start().await;
        let client = era.connect(&gnomon).await;
        let tools = soon("the tools", client.list_tools(None)).await.unwrap();
        assert_eq!(tools.tools.iter().map(|t| t.name.as_ref()).collect::<Vec<_>>(), ["allowed_tool", "blocked_tool"]);
        let result = call(&client, "allowed_tool").await;
        assert_eq!((result.is_error, text(&result).as_str()), (Some(false), "this is allowed_tool"), "{era:?}");
        let refused = call(&client, "blocked_tool").await;
        assert_eq!(refused.is_error, Some(true), "{era:?}");
        assert!(text(&refused).contains(MESSAGE), "{era:?}: {}", text(&refused));
        assert_eq!(text(&call(&client, "allowed_tool").await), "this is allowed_tool", "{era:?}");
        soon("the end", client.cancel()).await.unwrap();
        let events = gnomon.finish().await;
        check_events(era, &events);
    }
}

/// A name of the catalogue that ships.
const KNOWN: &str = "mcp.stripe.com";

#[tokio::test]
async fn a_server_of_the_catalogue_is_told_with_its_class() {
    let upstream = Upstream::at("127.0.0.1:0", KNOWN, &["http/1.1"], |_| None).await;
    let setup = Gnomon::with().shipped_catalogue().rules(shipped());
    let gnomon = setup.resolve(KNOWN, upstream.address).trust(upstream.authority.pem_file()).start().await;
    let mut client = H1::over(tls(&gnomon, KNOWN, &["http/1.1"]).await);
    let body = request::call(1, "any_tool").to_string();
    let head = format!("POST / HTTP/1.1\r\nhost: {KNOWN}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    assert_eq!(client.send(&[head.into_bytes(), body.into_bytes()]).await.status, 200);
    client.close().await;
    let events = gnomon.finish().await;
    let event = events.iter().find(|event| event["gen_ai.tool.name"] == "any_tool").unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!((&event["server.address"], &event["gnomon.server.catalogue"]), (&json!(KNOWN), &json!("mcp")), "{event:#}");
}

fn check_events(era: Era, events: &[Value]) {
    let of = |method: &str| events.iter().filter(|e| e["mcp.method.name"] == method).collect::<Vec<_>>();
    let first = if era == Era::Stateless { "server/discover" } else { "initialize" };
    for method in [first, "tools/list", "tools/call"] {
        assert!(!of(method).is_empty(), "{era:?} {method}: {events:#?}");
    }
    for seen in of(first).into_iter().chain(of("tools/list")).chain(of("tools/call")) {
        assert_eq!(seen["mcp.protocol.version"], era.version(), "{seen:#}");
        assert_eq!(seen["gnomon.confidence"], "confirmed");
        assert!(seen["jsonrpc.request.id"].is_string());
        assert_eq!(seen["source.address"], "127.0.0.1", "{seen:#}");
        assert!(seen["source.port"].as_u64().is_some_and(|port| (1..=65_535).contains(&port)), "{seen:#}");
        assert_eq!((&seen["server.address"], &seen["url.path"]), (&json!(HOST), &json!("/rpc")));
    }
    let named = if era == Era::Stateless { of("tools/call") } else { of("initialize") };
    assert!(named.iter().all(|e| e["mcp.client.name"] == "e2e-client" && e["mcp.client.version"] == "9.9"), "{named:#?}");
    assert!(of(first).iter().any(|e| e["mcp.server.name"] == "e2e-server" && e["mcp.server.version"] == "1.2.0"), "{:#?}", of(first));
    let has = |e: &Value, field: &str, sign: &str| e[field].as_array().is_some_and(|signs| signs.contains(&json!(sign)));
    let sign = if era == Era::Stateless { "B2" } else { "B3" };
    assert!(of("tools/call").iter().all(|e| has(e, "gnomon.signatures", sign)), "{era:?}: {:#?}", of("tools/call"));
    assert!(of("tools/list").iter().any(|e| has(e, "gnomon.response.signatures", "R1")), "{era:?}: {:#?}", of("tools/list"));
    assert!(of("tools/list").iter().any(|e| e["gnomon.tools"] == json!(["allowed_tool", "blocked_tool"])));
    let calls: Vec<_> = of("tools/call").iter().map(|e| (e["gen_ai.tool.name"].clone(), e["gnomon.action"].clone())).collect();
    let blocked: Vec<_> = of("tools/call").into_iter().filter(|e| e["gen_ai.tool.name"] == "blocked_tool").collect();
    assert!(blocked.iter().any(|e| e["rule.id"] == id(1) && e["gnomon.action"] == "block"), "{calls:?}");
    assert_eq!(calls.iter().filter(|(tool, _)| tool == "allowed_tool").count(), 2, "{calls:?}");
    if era == Era::Sessions {
        assert!(of("tools/call").iter().all(|e| e["mcp.session.id"].is_string()));
    }
}
