//! One client connection: TCP, CONNECT where there is a proxy, a full TLS handshake, HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::pki;

/// A request body of the load generator.
pub type RequestBody = BoxBody<Bytes, Infallible>;

const HOST: &str = "localhost";
const MAX_CONNECT_ANSWER: usize = 8192;

/// The HTTP version a load speaks to the contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    Http1,
    /// HTTP/2, all requests on one connection.
    Http2,
}

/// How to reach the upstream: straight, or through one proxy.
#[derive(Clone)]
pub struct Route {
    upstream_port: u16,
    proxy: Option<SocketAddr>,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Route {
    /// A route to `localhost:upstream_port` that trusts the given CA files and never resumes a
    /// TLS session, so that every new connection costs a full handshake.
    ///
    /// # Errors
    /// When a CA file cannot be read.
    pub fn new(upstream_port: u16, proxy: Option<SocketAddr>, ca_files: &[&Path]) -> Result<Self> {
        let mut config = pki::client_config(ca_files)?;
        config.resumption = rustls::client::Resumption::disabled();
        let mut h2 = config.clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        h2.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { upstream_port, proxy, http1: Arc::new(config).into(), http2: Arc::new(h2).into() })
    }

    /// Opens a connection and has it ready for a first request.
    ///
    /// # Errors
    /// When the proxy refuses, TLS fails, or the wanted protocol is not negotiated.
    pub async fn open(&self, protocol: Protocol) -> Result<Connection> {
        let upstream = SocketAddr::from(([127, 0, 0, 1], self.upstream_port));
        let mut stream = TcpStream::connect(self.proxy.unwrap_or(upstream)).await?;
        stream.set_nodelay(true)?;
        if self.proxy.is_some() {
            self.ask_for_tunnel(&mut stream).await?;
        }
        let name = ServerName::try_from(HOST)?;
        match protocol {
            Protocol::Http1 => {
                let tls = self.http1.connect(name, stream).await?;
                let (sender, driver) = http1::handshake(TokioIo::new(tls)).await?;
                tokio::spawn(driver);
                Ok(Connection::Http1(sender))
            }
            Protocol::Http2 => {
                let tls = self.http2.connect(name, stream).await?;
                ensure!(tls.get_ref().1.alpn_protocol() == Some(b"h2"), "h2 was not negotiated");
                let (sender, driver) = http2::Builder::new(TokioExecutor::new()).adaptive_window(true).handshake(TokioIo::new(tls)).await?;
                tokio::spawn(driver);
                Ok(Connection::Http2(sender))
            }
        }
    }

    async fn ask_for_tunnel(&self, stream: &mut TcpStream) -> Result<()> {
        let port = self.upstream_port;
        let ask = format!("CONNECT {HOST}:{port} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await?;
        let mut answer = Vec::with_capacity(512);
        while !answer.ends_with(b"\r\n\r\n") {
            ensure!(answer.len() <= MAX_CONNECT_ANSWER, "the answer to CONNECT has no end");
            ensure!(stream.read_buf(&mut answer).await? > 0, "the proxy closed on CONNECT");
        }
        let line = String::from_utf8_lossy(&answer);
        let line = line.lines().next().unwrap_or_default();
        if line.split(' ').nth(1) != Some("200") {
            bail!("CONNECT was refused: {line}");
        }
        Ok(())
    }

    /// A request in the form the protocol wants: absolute for h2, with `Host` for h1.
    ///
    /// # Errors
    /// When `path` is no valid path.
    pub fn request(&self, protocol: Protocol, method: Method, path: &str, body: RequestBody) -> Result<Request<RequestBody>> {
        let authority = format!("{HOST}:{}", self.upstream_port);
        let request = Request::builder()
            .method(method)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        let request = match protocol {
            Protocol::Http1 => request.uri(path).header("host", authority),
            Protocol::Http2 => request.uri(format!("https://{authority}{path}")),
        };
        Ok(request.body(body)?)
    }
}

/// An open connection to the upstream.
pub enum Connection {
    /// HTTP/1.1.
    Http1(http1::SendRequest<RequestBody>),
    /// HTTP/2; clones share the connection.
    Http2(http2::SendRequest<RequestBody>),
}

impl Connection {
    /// Sends one request and waits for the head of the answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>> {
        Ok(match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }
}
