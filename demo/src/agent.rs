//! The sample agent: a process of its own that calls a tool of the sample server, by the proxy where `HTTPS_PROXY` names
//! one, trusting what `SSL_CERT_FILE` holds, as agents do.

use super::server::NAME;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use std::{env, io::Write as _, net::SocketAddr, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls};

/// Most bytes of an answer.
const MOST: usize = 64 << 10;
/// The timeout of the whole conversation.
const PATIENCE: Duration = Duration::from_secs(20);

/// Talks to the sample server at this address, and prints what it was told: one line for each request.
pub fn run(to: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, talk(to)).await.context("nobody answered")? })
}

async fn talk(to: SocketAddr) -> Result<()> {
    let tls = TlsConnector::from(Arc::new(trust()?));
    let name = ServerName::try_from(NAME)?;
    let mut connection = match env::var("HTTPS_PROXY") {
        Ok(proxy) => {
            let proxy: Uri = proxy.parse().context("HTTPS_PROXY")?;
            let proxy = proxy.authority().context("HTTPS_PROXY names no host")?.as_str().to_owned();
            Connection::over(tls.connect(name, tunnel(&proxy).await?).await?).await?
        }
        Err(_) => Connection::over(tls.connect(name, TcpStream::connect(to).await?).await?).await?,
    };
    let client = json!({"name": "sample-agent", "version": "1.0"});
    let hello = connection.ask("initialize", &json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})).await?;
    say(&format!(
        "initialize             {}",
        hello["result"]["serverInfo"]["name"].as_str().map_or_else(|| refusal(&hello), str::to_owned)
    ))?;
    let called = connection.ask("tools/call", &json!({"name": "save_note", "arguments": {"text": "Our plans for next year"}})).await?;
    let text = called["result"]["content"][0]["text"].as_str().map_or_else(|| refusal(&called), str::to_owned);
    say(&format!("tools/call save_note   {text}"))
}

fn refusal(answer: &Value) -> String {
    answer["error"]["message"].as_str().unwrap_or("no answer").to_owned()
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// A configuration that trusts the file that SSL_CERT_FILE names, and nothing else.
fn trust() -> Result<rustls::ClientConfig> {
    let file = env::var_os("SSL_CERT_FILE").context("SSL_CERT_FILE is not set")?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&file)? {
        // A system's bundle may hold what rustls does not take.
        let _ = roots.add(certificate?);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// A tunnel to the sample server through a proxy (RFC 9110 9.3.6).
async fn tunnel(proxy: &str) -> Result<TokioIo<hyper::upgrade::Upgraded>> {
    let stream = TcpStream::connect(proxy).await.with_context(|| format!("connecting to {proxy}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let request = Request::connect(format!("{NAME}:443")).header(header::HOST, format!("{NAME}:443")).body(Full::<Bytes>::default())?;
    let answer = sender.send_request(request).await?;
    ensure!(answer.status().is_success(), "the proxy says {}", answer.status());
    Ok(TokioIo::new(hyper::upgrade::on(answer).await?))
}

struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    next: u32,
}

impl Connection {
    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, next: 1 })
    }

    async fn ask(&mut self, method: &str, params: &Value) -> Result<Value> {
        let message = json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params});
        self.next += 1;
        let request = Request::post("/mcp")
            .header(header::HOST, NAME)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(header::USER_AGENT, "sample-agent/1.0")
            .body(Full::from(message.to_string()))?;
        let answer = self.sender.send_request(request).await?;
        #[expect(clippy::disallowed_methods, reason = "bounded")]
        let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(anyhow::Error::from_boxed)?;
        serde_json::from_slice(&body.to_bytes()).context("the answer is not JSON")
    }
}
