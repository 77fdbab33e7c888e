//! `floor-http`: the least an HTTP-aware intercepting proxy can do, and so the unit of every ratio.
//!
//! CONNECT, a minted leaf, TLS on both sides, hyper, one pooled upstream client, and a substring
//! search over the request body as it streams. No rules, no events, no limits: whatever gnomon
//! adds to this is the price of its judgement.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::Parser;
use gnomon_bench::pki::{self, Mint, PemPair};
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const NEEDLE: &[u8] = br#""tools/call""#;
const CARRY: usize = NEEDLE.len() - 1;
const MAX_CONNECT_HEAD: usize = 4096;

/// Bodies in which the needle was found; kept so that the search cannot be optimised away.
static HITS: AtomicU64 = AtomicU64::new(0);

type Upstream = Client<hyper_rustls::HttpsConnector<HttpConnector>, Searched>;

#[derive(Parser)]
struct Args {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    ca_cert: PathBuf,
    #[arg(long)]
    ca_key: PathBuf,
    #[arg(long)]
    upstream_ca: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    pki::install_provider();
    let mint = Arc::new(Mint::open(&PemPair { cert: args.ca_cert, key: args.ca_key })?);
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(pki::client_config(&[&args.upstream_ca])?)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    let upstream: Upstream = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
    let listener = TcpListener::bind(("127.0.0.1", args.port)).await?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (mint, upstream) = (Arc::clone(&mint), upstream.clone());
        tokio::spawn(async move {
            let _ = intercept(stream, &mint, upstream).await;
        });
    }
}

async fn intercept(mut stream: TcpStream, mint: &Mint, upstream: Upstream) -> Result<()> {
    // Without this every new connection waits about 40 ms for a delayed ACK.
    stream.set_nodelay(true)?;
    let authority: Arc<str> = read_connect(&mut stream).await?.into();
    let host = authority.rsplit_once(':').map_or(&*authority, |(host, _)| host);
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let tls = tokio_rustls::TlsAcceptor::from(mint.config(host)?).accept(stream).await?;
    let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| forward(upstream.clone(), Arc::clone(&authority), request));
    if is_h2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .adaptive_window(true)
            .serve_connection(TokioIo::new(tls), service)
            .await?;
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await?;
    }
    Ok(())
}

async fn read_connect(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > MAX_CONNECT_HEAD || stream.read_buf(&mut head).await? == 0 {
            bail!("no CONNECT head");
        }
    }
    let line = String::from_utf8_lossy(&head);
    match line.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) {
        Some(authority) => Ok(authority.to_owned()),
        None => bail!("not a CONNECT"),
    }
}

async fn forward(
    upstream: Upstream,
    authority: Arc<str>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, hyper::http::Error> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = format!("https://{authority}{path}").parse()?;
    head.headers.remove(hyper::header::HOST);
    head.version = hyper::Version::HTTP_11;
    match upstream.request(Request::from_parts(head, Searched::new(body))).await {
        Ok(response) => Ok(response.map(BodyExt::boxed)),
        Err(_) => Response::builder().status(StatusCode::BAD_GATEWAY).body(Empty::new().map_err(|never| match never {}).boxed()),
    }
}

/// A request body that is searched as it passes, with the needle found across frame borders too.
struct Searched {
    inner: Incoming,
    tail: Vec<u8>,
}

impl Searched {
    fn new(inner: Incoming) -> Self {
        Self { inner, tail: Vec::with_capacity(2 * CARRY) }
    }

    fn search(&mut self, data: &[u8]) {
        self.tail.extend_from_slice(&data[..data.len().min(CARRY)]);
        if memchr::memmem::find(&self.tail, NEEDLE).is_some() || memchr::memmem::find(data, NEEDLE).is_some() {
            HITS.fetch_add(1, Ordering::Relaxed);
        }
        self.tail.clear();
        self.tail.extend_from_slice(&data[data.len().saturating_sub(CARRY)..]);
    }
}

impl Body for Searched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.search(data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
