//! What each request of the soak does, the servers that act on it, and the book in which both ends are written down.

use crate::support::{HOST, authority::Authority};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{
    future::poll_fn,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The longest that a client or a server waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Calls in a batch.
const BATCH: u8 = 3;
/// Bytes of an answer that is left unread: more than the kernel's buffers on the way take.
const UNREAD: usize = 4 << 20;

/// What a request does, and which fault happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An allowed call, answered.
    Plain,
    /// The same, compressed with gzip.
    Coded,
    /// The same under the name of a coding that it does not have, as its server overlooks it.
    FalselyCoded,
    /// The same with 100 KB of arguments.
    Large,
    /// Several in one batch.
    Batch,
    /// The answer is a list of two thousand values.
    LongAnswer,
    /// The answer is an event stream that begins with a comment.
    Events,
    /// A rule blocks it.
    Blocked,
    /// A rule blocks it, under the name of a coding that it does not have.
    BlockedFalselyCoded,
    /// A rule blocks one call of a batch, and with it the batch.
    BlockedBatch,
    /// Its request line is one that some servers read and gnomon does not.
    OddLine,
    /// The server closes instead of answering.
    Closes,
    /// The server resets instead of answering.
    Resets,
    /// The server closes in the middle of its answer.
    Partial,
    /// The client resets while it waits for the answer.
    Impatient,
    /// The client reads nothing of a long answer, and resets after a while.
    Unread,
    /// The client sends a FIN while it waits for the answer, and goes on reading.
    HalfClosed,
    /// The client closes in the middle of its request.
    Unfinished,
    /// The client sends something other than HTTP.
    Garbage,
    /// The client connects and sends nothing.
    Mute,
    /// An allowed call over HTTP/2, answered.
    Http2,
    /// The same, and the client resets the stream while it waits for the answer.
    Http2Reset,
}

impl Kind {
    pub fn of(number: usize) -> Self {
        // The fault of each request follows from its number, so that both ends know it.
        let spread = number.wrapping_mul(2_654_435_761) >> 7;
        match spread & 63 {
            0..=1 => Self::Coded,
            2 => Self::Large,
            3 => Self::LongAnswer,
            4..=7 => Self::Blocked,
            8..=9 => Self::Closes,
            10..=11 => Self::Resets,
            12..=13 => Self::Partial,
            14..=15 => Self::Impatient,
            16 => Self::HalfClosed,
            17..=18 => Self::Unfinished,
            19 => Self::Garbage,
            20 => Self::Mute,
            21 => Self::FalselyCoded,
            22 => Self::BlockedFalselyCoded,
            23 => Self::Batch,
            24 => Self::BlockedBatch,
            25..=26 => Self::Events,
            27 => Self::OddLine,
            28 => Self::Http2,
            29 => Self::Http2Reset,
            // Fewer, as each takes its client a while and its server megabytes.
            30 if spread >> 6 & 3 == 0 => Self::Unread,
            _ => Self::Plain,
        }
    }

    /// How many calls it has: if they pass, each is executed, and either way each is an event.
    pub fn calls(self) -> u8 {
        if matches!(self, Self::Batch | Self::BlockedBatch) { BATCH } else { 1 }
    }

    /// Whether a rule refuses what it says.
    pub fn is_blocked(self) -> bool {
        matches!(self, Self::Blocked | Self::BlockedFalselyCoded | Self::BlockedBatch)
    }

    /// Whether it is made on a connection of its own, whatever its client speaks otherwise.
    pub fn is_apart(self) -> bool {
        matches!(self, Self::OddLine | Self::Http2 | Self::Http2Reset)
    }

    /// Whether the client's connection may break.
    pub fn may_fail(self) -> bool {
        self.ends_connection() && self != Self::HalfClosed
    }

    /// Whether the client's connection ends with the request.
    pub fn ends_connection(self) -> bool {
        let goes_on =
            matches!(self, Self::Plain | Self::Coded | Self::FalselyCoded | Self::Large | Self::Batch | Self::LongAnswer | Self::Events);
        !goes_on && !self.is_blocked()
    }

    fn coding(self) -> &'static str {
        match self {
            Self::Coded => "content-encoding: gzip\r\n",
            Self::FalselyCoded | Self::BlockedFalselyCoded => "content-encoding: deflate\r\n",
            _ => "",
        }
    }
}

/// What happened to each request, by its number.
pub struct Book {
    /// How often the server acted on it.
    pub executed: Vec<AtomicU8>,
    /// The number of events about its calls.
    pub told: Vec<AtomicU8>,
    /// Whether its client received the whole answer.
    pub answered: Vec<AtomicU8>,
    /// Odd request lines that events tell of: nothing of such a request is read, so it has no number there.
    pub odd: AtomicU64,
}

impl Book {
    pub fn new(requests: usize) -> Arc<Self> {
        let none = || (0..requests).map(|_| AtomicU8::new(0)).collect();
        Arc::new(Self { executed: none(), told: none(), answered: none(), odd: AtomicU64::new(0) })
    }

    /// Waits until the server has acted on this request.
    pub async fn until_executed(&self, number: usize) {
        while self.executed[number].load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The number of the request that a call with this id belongs to.
pub fn number_of(id: &str) -> Option<usize> {
    id.trim_matches('"').split('-').next()?.parse().ok()
}

async fn more<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Takes all that comes up to this end, and that.
async fn up_to<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>, end: &[u8]) -> io::Result<Vec<u8>> {
    loop {
        if let Some(at) = buffer.windows(end.len()).position(|window| window == end) {
            return Ok(buffer.drain(..at + end.len()).collect());
        }
        more(stream, buffer).await?;
    }
}

async fn exactly<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    while buffer.len() < length {
        more(stream, buffer).await?;
    }
    Ok(buffer.drain(..length).collect())
}

/// Reads a message's head in lower case, and its body by its Content-Length or in chunks.
pub async fn message<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<(String, Vec<u8>)> {
    let head = up_to(stream, buffer, b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    if !head.contains("\r\ntransfer-encoding: chunked") {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
        return Ok((head, exactly(stream, buffer, length).await?));
    }
    let mut body = Vec::new();
    loop {
        let line = up_to(stream, buffer, b"\r\n").await?;
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim_end(), 16).map_err(io::Error::other)?;
        let chunk = exactly(stream, buffer, size + 2).await?;
        if size == 0 {
            return Ok((head, body));
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

/// The answer to the call with this id.
fn answer(id: &Value, kind: Kind) -> Value {
    let text = |text: &str| json!({"type": "text", "text": text});
    let content = match kind {
        Kind::LongAnswer => vec![text("a line of text"); 2000],
        Kind::Unread => vec![text(&"x".repeat(UNREAD))],
        _ => vec![text("done")],
    };
    json!({"jsonrpc": "2.0", "id": id, "result": {"content": content}})
}

/// Acts on every call, and answers as the call's number says.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, book: &Book, reset: impl Fn(&S)) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let (head, mut body) = message(&mut stream, &mut buffer).await?;
        if head.contains("content-encoding: gzip") {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain)?;
            body = plain;
        }
        let asked: Value = serde_json::from_slice(&body)?;
        let ids: Vec<Value> = match &asked {
            Value::Array(calls) => calls.iter().map(|call| call["id"].clone()).collect(),
            call => vec![call["id"].clone()],
        };
        for id in &ids {
            book.executed[number_of(&id.to_string()).unwrap()].fetch_add(1, Ordering::Relaxed);
        }
        let kind = Kind::of(number_of(&ids[0].to_string()).unwrap());
        match kind {
            Kind::Closes => return stream.shutdown().await,
            Kind::Resets => {
                reset(&stream);
                return Ok(());
            }
            Kind::Impatient => {
                // Waits until the client has closed.
                let _ = timeout(PATIENCE, stream.read(&mut [0])).await;
                return Ok(());
            }
            _ => {}
        }
        let answers: Vec<Value> = ids.iter().map(|id| answer(id, kind)).collect();
        let answer = if kind == Kind::Batch { Value::Array(answers).to_string() } else { answers[0].to_string() };
        if kind == Kind::Events {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            // The empty chunk is the last.
            for piece in [": at work\n\n", "data: ", answer.as_str(), "\n\n", ""] {
                stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await?;
                stream.flush().await?;
            }
            continue;
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        let most = if kind == Kind::Partial { answer.len() / 2 } else { answer.len() };
        stream.write_all(format!("{head}{}", &answer[..most]).as_bytes()).await?;
        stream.flush().await?;
        if most < answer.len() {
            return stream.shutdown().await;
        }
    }
}

/// The same over HTTP/2.
async fn serve_streams(stream: TlsStream<TcpStream>, book: Arc<Book>) -> io::Result<()> {
    let mut connection = h2::server::handshake(stream).await.map_err(io::Error::other)?;
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer_stream(request.into_body(), respond, book.clone()));
    }
    Ok(())
}

async fn answer_stream(mut body: h2::RecvStream, mut respond: h2::server::SendResponse<Bytes>, book: Arc<Book>) {
    let mut whole = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        whole.extend_from_slice(&data);
    }
    let Ok(asked) = serde_json::from_slice::<Value>(&whole) else { return };
    let number = number_of(&asked["id"].to_string()).unwrap();
    book.executed[number].fetch_add(1, Ordering::Relaxed);
    if Kind::of(number) == Kind::Http2Reset {
        let _ = timeout(PATIENCE, poll_fn(|context| respond.poll_reset(context))).await;
        return;
    }
    let head = http::Response::builder().header("content-type", "application/json").body(()).unwrap();
    if let Ok(mut sends) = respond.send_response(head, false) {
        let _ = sends.send_data(answer(&asked["id"], Kind::of(number)).to_string().into(), true);
    }
}

/// Two servers that behave alike: one without TLS, one with.
pub async fn servers(book: &Arc<Book>, authority: &Authority) -> [SocketAddr; 2] {
    let acceptor = TlsAcceptor::from(authority.server(HOST, &["h2", "http/1.1"]));
    let mut addresses = Vec::new();
    for with_tls in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
        let (book, acceptor) = (book.clone(), acceptor.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (book, acceptor) = (book.clone(), acceptor.clone());
                let _ = stream.set_nodelay(true);
                tokio::spawn(async move {
                    if !with_tls {
                        return serve(stream, &book, |stream| _ = stream.set_zero_linger()).await;
                    }
                    let stream = acceptor.accept(stream).await?;
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        return serve_streams(stream, book).await;
                    }
                    serve(stream, &book, |stream| _ = stream.get_ref().0.set_zero_linger()).await
                });
            }
        });
    }
    addresses.try_into().unwrap()
}

/// What the request with this number says.
pub fn body_of(number: usize) -> Vec<u8> {
    let kind = Kind::of(number);
    let text = if kind == Kind::Large { "x".repeat(100_000) } else { "a few words".to_owned() };
    let call = |id: Value, blocked: bool| {
        let tool = if blocked { "blocked_tool" } else { "any_tool" };
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {"text": text}}})
    };
    let said = match kind {
        // Of the blocked one the call in the middle is what a rule names.
        Kind::Batch | Kind::BlockedBatch => {
            let part = |part: u8| call(json!(format!("{number}-{part}")), kind.is_blocked() && part == 1);
            Value::Array((0..BATCH).map(part).collect())
        }
        _ => call(json!(number), kind.is_blocked()),
    };
    let plain = said.to_string().into_bytes();
    if kind != Kind::Coded {
        return plain;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&plain).unwrap();
    encoder.finish().unwrap()
}

/// The bytes of the request with this number, over HTTP/1.1.
pub fn request(number: usize, target: &str, host: &str) -> Vec<u8> {
    let (kind, body) = (Kind::of(number), body_of(number));
    let version = if kind == Kind::OddLine { "HTTP/1.2" } else { "HTTP/1.1" };
    let head = format!("POST {target} {version}\r\nhost: {host}\r\ncontent-type: application/json\r\n{}", kind.coding());
    [format!("{head}content-length: {}\r\n\r\n", body.len()).into_bytes(), body].concat()
}
