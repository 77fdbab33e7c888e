//! The sample server: MCP over HTTPS (2025-11-25, Streamable HTTP) with one tool, not sanctioned.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use gnomon_http::Alpn;
use gnomon_tls::{CertificateAuthority, LeafCache, LeafName};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A name that no other server has (RFC 2606).
pub const NAME: &str = "mcp.notes.example";
/// Most bytes of a request.
const MOST: usize = 64 << 10;

/// The sample server at work, for as long as the runtime lives.
pub struct Server {
    /// Its address.
    pub address: SocketAddr,
    calls: Arc<AtomicUsize>,
}

impl Server {
    /// Starts it on a free port of loopback. Its authority, which is not gnomon's, is made in this folder.
    pub async fn start(folder: &Path) -> Result<Self> {
        let (authority, _) = CertificateAuthority::load_or_create(folder).context("making an authority for the sample server")?;
        let leaves = LeafCache::new(Arc::new(authority), NonZeroUsize::MIN);
        let tls = TlsAcceptor::from(leaves.server_config(&LeafName::parse(NAME)?, Alpn::Http11)?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening on loopback")?;
        let server = Self { address: listener.local_addr()?, calls: Arc::default() };
        let calls = Arc::clone(&server.calls);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, calls) = (tls.clone(), Arc::clone(&calls));
                tokio::spawn(async move {
                    // A client that breaks off is no business of ours.
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = hyper::service::service_fn(|request| answer(request, &calls));
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(server)
    }

    /// How often its tool was called so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

async fn answer(request: Request<Incoming>, calls: &AtomicUsize) -> Result<Response<Full<Bytes>>, Infallible> {
    let empty = |status| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Ok(response)
    };
    if request.method() != Method::POST {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    #[expect(clippy::disallowed_methods, reason = "bounded")]
    let Ok(body) = Limited::new(request.into_body(), MOST).collect().await else { return empty(StatusCode::PAYLOAD_TOO_LARGE) };
    let Ok(message) = serde_json::from_slice::<Value>(&body.to_bytes()) else { return empty(StatusCode::BAD_REQUEST) };
    let Some(id) = message.get("id") else { return empty(StatusCode::ACCEPTED) };
    let result = match message["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "Sample notes", "version": "1.0"},
        }),
        Some("tools/call") => {
            calls.fetch_add(1, Ordering::Relaxed);
            json!({"content": [{"type": "text", "text": "The note was saved."}]})
        }
        _ => json!({}),
    };
    let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
    let mut response = Response::new(Full::from(answer.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}
