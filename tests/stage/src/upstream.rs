//! A server behind the proxy that **acts on the first complete JSON value** and writes down every byte it receives. What it did not receive
//! cannot have been executed.

pub mod h1;
pub mod h2;

use super::{authority::Authority, coding::Decoder, eager::Eager, soon};
use http::{HeaderMap, Method};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};
use tokio_rustls::TlsAcceptor;

/// One request, as far as it was received.
pub struct Received {
    pub connection: usize,
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    /// The body without transfer coding.
    pub raw: Vec<u8>,
    /// The body without content coding.
    pub decoded: Vec<u8>,
    /// The complete JSON values, in order; they count as executed.
    pub executed: Vec<Vec<u8>>,
    /// How it ended; `None` while it is being received.
    pub end: Option<End>,
    decoder: Decoder,
    eager: Eager,
    pub answered: Answered,
}

/// Whether a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    NotYet,
    Yes,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last byte, as framed.
    Clean,
    /// The connection broke off before that.
    Broken,
    /// An RST_STREAM of HTTP/2 with this code, also for a complete request whose answer is still to come.
    Reset(u32),
}

/// What the upstream answers.
pub enum Answer {
    Full {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// In pieces, as the test sends them.
    Stream {
        headers: Vec<(&'static str, String)>,
        pieces: mpsc::UnboundedReceiver<Vec<u8>>,
    },
    /// `101` with these further header lines; after that it echoes everything.
    Switch(&'static str),
    /// It acts on the request and does not answer.
    Nothing,
}

impl Answer {
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::full("application/json", body)
    }

    pub fn full(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::Full { status: 200, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }

    pub fn status(status: u16) -> Self {
        Self::Full { status, headers: Vec::new(), body: Vec::new() }
    }

    /// An event stream, and the sender that feeds it.
    pub fn events() -> (Self, mpsc::UnboundedSender<Vec<u8>>) {
        let (send, pieces) = mpsc::unbounded_channel();
        (Self::Stream { headers: vec![("content-type", "text/event-stream".to_owned())], pieces }, send)
    }
}

/// Decides on the answer. Called at the head, after each piece of the body, and at the end; the first answer is sent.
pub type Responder = Arc<dyn Fn(&Received) -> Option<Answer> + Send + Sync>;

/// What an upstream received.
#[derive(Default)]
pub struct Log {
    requests: Mutex<Vec<Received>>,
    changed: Notify,
    /// Bytes of plain text received over HTTP/1.1, heads and framing included.
    pub bytes: AtomicU64,
    connections: AtomicUsize,
}

impl Log {
    pub fn begin(&self, connection: usize, method: Method, path: String, headers: HeaderMap) -> usize {
        let coding = headers.get("content-encoding").and_then(|v| v.to_str().ok());
        let received = Received {
            connection,
            decoder: Decoder::new(coding),
            method,
            path,
            headers,
            raw: Vec::new(),
            decoded: Vec::new(),
            executed: Vec::new(),
            end: None,
            eager: Eager::default(),
            answered: Answered::NotYet,
        };
        let mut requests = self.requests.lock().unwrap();
        requests.push(received);
        self.changed.notify_waiters();
        requests.len() - 1
    }

    pub fn data(&self, request: usize, bytes: &[u8]) {
        let mut requests = self.requests.lock().unwrap();
        let Received { raw, decoded, executed, decoder, eager, .. } = &mut requests[request];
        raw.extend_from_slice(bytes);
        let plain = decoder.feed(bytes);
        eager.feed(&plain, executed);
        decoded.extend_from_slice(&plain);
        self.changed.notify_waiters();
    }

    pub fn end(&self, request: usize, end: End) {
        self.requests.lock().unwrap()[request].end.get_or_insert(end);
        self.changed.notify_waiters();
    }

    /// The client reset a request that was complete.
    pub fn reset(&self, request: usize, code: u32) {
        self.requests.lock().unwrap()[request].end = Some(End::Reset(code));
        self.changed.notify_waiters();
    }

    /// Reads the requests so far.
    pub fn look<R>(&self, look: impl FnOnce(&[Received]) -> R) -> R {
        look(&self.requests.lock().unwrap())
    }

    pub fn count_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    /// The answer, once the responder gives one.
    pub fn answer(&self, request: usize, responder: &Responder) -> Option<Answer> {
        let mut requests = self.requests.lock().unwrap();
        let received = &mut requests[request];
        if received.answered == Answered::Yes {
            return None;
        }
        let answer = responder(received)?;
        received.answered = Answered::Yes;
        Some(answer)
    }
}

/// A running upstream; ends with the test's runtime.
pub struct Upstream {
    pub address: SocketAddr,
    pub authority: Authority,
    pub log: Arc<Log>,
}

impl Upstream {
    /// Answers every complete request with [`by_default`].
    pub async fn start(alpn: &[&str]) -> Self {
        Self::answering(alpn, |_| None).await
    }

    /// Answers with `responder`, and with [`by_default`] where that returns `None`.
    pub async fn answering(alpn: &[&str], responder: impl Fn(&Received) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", super::HOST, alpn, responder).await
    }

    /// The same, on another address and under another name.
    pub async fn at(
        address: &str,
        name: &str,
        alpn: &[&str],
        responder: impl Fn(&Received) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let responder: Responder = Arc::new(move |received| responder(received).or_else(|| by_default(received)));
        let authority = Authority::new("the upstream's authority");
        let acceptor = TlsAcceptor::from(authority.server(name, alpn));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let shared = log.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let _ = tcp.set_nodelay(true);
                let (acceptor, log, responder) = (acceptor.clone(), shared.clone(), responder.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let connection = log.connections.fetch_add(1, Ordering::SeqCst);
                    if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                        h2::serve(tls, connection, log, responder).await;
                    } else {
                        h1::serve(tls, connection, log, responder).await;
                    }
                });
            }
        });
        Self { address, authority, log }
    }

    /// Speaks HTTP/1.1 without TLS.
    pub async fn without_tls(responder: impl Fn(&Received) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let responder: Responder = Arc::new(move |received| responder(received).or_else(|| by_default(received)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let shared = log.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(h1::serve(tcp, connection, shared.clone(), responder.clone()));
            }
        });
        Self { address, authority: Authority::new("nobody asks for it"), log }
    }

    /// Reads the requests so far.
    pub fn requests<R>(&self, look: impl FnOnce(&[Received]) -> R) -> R {
        self.log.look(look)
    }

    /// The path of each request.
    pub fn paths(&self) -> Vec<String> {
        self.requests(|all| all.iter().map(|r| r.path.clone()).collect())
    }

    /// All JSON values that were executed.
    pub fn executed(&self) -> Vec<String> {
        self.requests(|all| all.iter().flat_map(|r| &r.executed).map(|v| String::from_utf8_lossy(v).into_owned()).collect())
    }

    /// Waits until the requests are as `wanted`.
    pub async fn until(&self, what: &str, wanted: impl Fn(&[Received]) -> bool) {
        soon(what, async {
            loop {
                let changed = self.log.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.requests(&wanted) {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }
}

/// The default answer to a complete request: to JSON-RPC a result with the same id, or 202 if there is none; to anything else its method
/// and path as text.
pub fn by_default(received: &Received) -> Option<Answer> {
    if received.end != Some(End::Clean) {
        return None;
    }
    let Ok(message) = serde_json::from_slice::<serde_json::Value>(&received.decoded) else {
        return Some(Answer::full("text/plain", format!("{} {}", received.method, received.path)));
    };
    let result = |message: &serde_json::Value| {
        let id = message.get("id")?;
        let content = serde_json::json!([{"type": "text", "text": "done by the upstream"}]);
        Some(serde_json::json!({"jsonrpc": "2.0", "id": id, "result": {"content": content}}))
    };
    match message.as_array() {
        Some(batch) => Some(Answer::json(serde_json::Value::from_iter(batch.iter().filter_map(result)).to_string())),
        None => Some(result(&message).map_or_else(|| Answer::status(202), |answer| Answer::json(answer.to_string()))),
    }
}
