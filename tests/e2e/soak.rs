//! Many requests, with every fault that a client or a server can make among them: memory stays level, and every call is accounted for at
//! both ends.
//!
//! `GNOMON_SOAK` is the number of requests, 8,000 by default; `cargo xtask soak` makes a million.

use crate::{
    exec::GNOMON,
    stops::free,
    support::{
        HOST,
        authority::{Authority, trusting},
        rules::block,
    },
};
use flate2::{Compression, write::GzEncoder};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Clients at the same time.
const CLIENTS: usize = 24;
/// Requests until memory is level, as caches fill until then.
const WARM: usize = 250_000;
/// The longest that a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a request does, and which fault happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An allowed call, answered.
    Plain,
    /// The same, compressed with gzip.
    Coded,
    /// The same with 100 KB of arguments.
    Large,
    /// The answer is a list of two thousand values.
    LongAnswer,
    /// A rule blocks it.
    Blocked,
    /// The server closes instead of answering.
    Closes,
    /// The server resets instead of answering.
    Resets,
    /// The server closes in the middle of its answer.
    Partial,
    /// The client resets while it waits for the answer.
    Impatient,
    /// The client sends a FIN while it waits for the answer, and goes on reading.
    HalfClosed,
    /// The client closes in the middle of its request.
    Unfinished,
    /// The client sends something other than HTTP.
    Garbage,
    /// The client connects and sends nothing.
    Mute,
}

impl Kind {
    fn of(number: usize) -> Self {
        // The fault of each request follows from its number, so that both ends know it.
        match number.wrapping_mul(2_654_435_761) >> 7 & 63 {
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
            _ => Self::Plain,
        }
    }

    /// Whether the client's connection may break.
    fn may_fail(self) -> bool {
        self.ends_connection() && self != Self::HalfClosed
    }

    /// Whether the client's connection ends with the request.
    fn ends_connection(self) -> bool {
        !matches!(self, Self::Plain | Self::Coded | Self::Large | Self::LongAnswer | Self::Blocked)
    }
}

/// What happened to each request, by its number.
struct Book {
    /// How often the server acted on it.
    executed: Vec<AtomicU8>,
    /// The number of events about it.
    told: Vec<AtomicU8>,
    /// Whether its client received the whole answer.
    answered: Vec<AtomicU8>,
}

impl Book {
    fn new(requests: usize) -> Arc<Self> {
        let none = || (0..requests).map(|_| AtomicU8::new(0)).collect();
        Arc::new(Self { executed: none(), told: none(), answered: none() })
    }
}

/// Reads a message's head, and its body by the Content-Length.
async fn message<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<(String, Vec<u8>)> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    while buffer.len() < end + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let body = buffer[end..end + length].to_vec();
    buffer.drain(..end + length);
    Ok((head, body))
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
        let number = usize::try_from(asked["id"].as_u64().unwrap()).unwrap();
        book.executed[number].fetch_add(1, Ordering::Relaxed);
        let content = match Kind::of(number) {
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
            Kind::LongAnswer => vec![serde_json::json!({"type": "text", "text": "a line of text"}); 2000],
            _ => vec![serde_json::json!({"type": "text", "text": "done"})],
        };
        let answer = serde_json::json!({"jsonrpc": "2.0", "id": number, "result": {"content": content}}).to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        let most = if Kind::of(number) == Kind::Partial { answer.len() / 2 } else { answer.len() };
        stream.write_all(format!("{head}{}", &answer[..most]).as_bytes()).await?;
        stream.flush().await?;
        if most < answer.len() {
            return stream.shutdown().await;
        }
    }
}

/// Two servers that behave alike: one without TLS, one with.
async fn servers(book: &Arc<Book>, authority: &Authority) -> [SocketAddr; 2] {
    let acceptor = TlsAcceptor::from(authority.server(HOST, &["http/1.1"]));
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
                    serve(stream, &book, |stream| _ = stream.get_ref().0.set_zero_linger()).await
                });
            }
        });
    }
    addresses.try_into().unwrap()
}

/// The bytes of the request with this number.
fn request(number: usize, target: &str, host: &str) -> Vec<u8> {
    let kind = Kind::of(number);
    let tool = if kind == Kind::Blocked { "blocked_tool" } else { "any_tool" };
    let text = if kind == Kind::Large { "x".repeat(100_000) } else { "a few words".to_owned() };
    let call = serde_json::json!({
        "jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": {"text": text}}
    });
    let (mut body, mut coding) = (call.to_string().into_bytes(), "");
    if kind == Kind::Coded {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&body).unwrap();
        (body, coding) = (encoder.finish().unwrap(), "content-encoding: gzip\r\n");
    }
    let head = format!("POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{coding}");
    [format!("{head}content-length: {}\r\n\r\n", body.len()).into_bytes(), body].concat()
}

/// How a client connects to its server.
struct Road {
    proxy: SocketAddr,
    plain: SocketAddr,
    tls: u16,
    connector: TlsConnector,
}

/// A client's connection, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    fn reset(&self);
}

impl Stream for TcpStream {
    fn reset(&self) {
        let _ = self.set_zero_linger();
    }
}

impl Stream for tokio_rustls::client::TlsStream<TcpStream> {
    fn reset(&self) {
        let _ = self.get_ref().0.set_zero_linger();
    }
}

impl Road {
    async fn connect(&self, with_tls: bool) -> io::Result<Box<dyn Stream>> {
        let mut stream = TcpStream::connect(self.proxy).await?;
        stream.set_nodelay(true)?;
        if !with_tls {
            return Ok(Box::new(stream));
        }
        let to = format!("{HOST}:{}", self.tls);
        stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n").as_bytes()).await?;
        let mut buffer = Vec::new();
        let (head, _) = message(&mut stream, &mut buffer).await?;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        Ok(Box::new(self.connector.connect(ServerName::try_from(HOST).unwrap(), stream).await?))
    }

    /// Makes one request and waits for its end. Returns whether the connection can be used again.
    async fn make(&self, number: usize, stream: &mut Box<dyn Stream>, with_tls: bool, book: &Book) -> io::Result<bool> {
        let kind = Kind::of(number);
        let (target, host) = match with_tls {
            true => ("/mcp".to_owned(), format!("{HOST}:{}", self.tls)),
            false => (format!("http://{}/mcp", self.plain), self.plain.to_string()),
        };
        let bytes = request(number, &target, &host);
        match kind {
            Kind::Mute => return Ok(false),
            Kind::Garbage => {
                stream.write_all(b"\x16\x03\x01\x00\x02\x01\x00SSH-2.0-nothing\r\n\r\n").await?;
                let _ = timeout(Duration::from_secs(1), stream.read(&mut [0; 512])).await;
                return Ok(false);
            }
            Kind::Unfinished => {
                stream.write_all(&bytes[..bytes.len() - 10]).await?;
                stream.flush().await?;
                return Ok(false);
            }
            _ => stream.write_all(&bytes).await?,
        }
        stream.flush().await?;
        match kind {
            Kind::Impatient => {
                while book.executed[number].load(Ordering::Relaxed) == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                stream.reset();
                return Ok(false);
            }
            Kind::HalfClosed => stream.shutdown().await?,
            _ => {}
        }
        let mut buffer = Vec::new();
        let (head, body) = message(stream, &mut buffer).await?;
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let refused = said["result"]["isError"] == true;
        assert!(!refused || kind == Kind::Blocked, "{number} {kind:?}: {head} {said}");
        assert!(kind != Kind::HalfClosed || head.starts_with("http/1.1 200"), "{number} TLS: {with_tls}: {head} {said}");
        if head.starts_with("http/1.1 200") && said["id"].as_u64() == Some(number as u64) {
            book.answered[number].store(1, Ordering::Relaxed);
        }
        Ok(!kind.ends_connection())
    }
}

/// A gnomon whose events are read as they are written.
struct Soaked {
    child: Child,
    reads: Option<thread::JoinHandle<()>>,
    metrics: SocketAddr,
    state: PathBuf,
}

impl Soaked {
    fn start(folder: &Path, authority: &Authority, tls: SocketAddr, book: &Arc<Book>) -> (Self, SocketAddr) {
        let (proxy, metrics, state) = (free(), free(), folder.join("state"));
        fs::create_dir(folder.join("rules")).unwrap();
        fs::write(folder.join("rules/rule.yml"), block(1, "gen_ai.tool.name: blocked_tool").text).unwrap();
        let mut command = Command::new(GNOMON);
        command.args(["proxy", "--packs", "none", "--events", "-", "--listen", &proxy.to_string(), "--metrics", &metrics.to_string()]);
        command.arg("--state-dir").arg(&state).arg("--rules").arg(folder.join("rules"));
        command.arg("--upstream-ca").arg(authority.pem_file()).args(["--resolve", &format!("{HOST}:{}:127.0.0.1", tls.port())]);
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let events = BufReader::new(child.stdout.take().unwrap());
        let book = book.clone();
        let reads = thread::spawn(move || {
            for line in events.lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap();
                let id = event["jsonrpc.request.id"].as_str().and_then(|id| id.parse::<usize>().ok());
                if let Some(number) = id.filter(|_| event["event.kind"] != "outcome") {
                    book.told[number].fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(proxy).is_err() || !state.join("ca.pem").exists() {
            assert!(Instant::now() < deadline, "{}", fs::read_to_string(folder.join("log")).unwrap());
            thread::sleep(Duration::from_millis(20));
        }
        (Self { child, reads: Some(reads), metrics, state }, proxy)
    }

    /// Its private memory in KiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap()
    }

    /// The sum of a counter's series.
    fn counted(&self, name: &str) -> u64 {
        let mut stream = std::net::TcpStream::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let series = page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        series.filter_map(|line| line.split(' ').next_back()?.parse::<u64>().ok()).sum()
    }

    /// Stops it once all its events have been read.
    fn finish(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        self.reads.take().unwrap().join().unwrap();
    }
}

impl Drop for Soaked {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The median of the samples that were taken while the count of finished requests was in this range.
fn median(samples: &[(usize, u64)], done: Range<usize>) -> u64 {
    let mut within: Vec<u64> = samples.iter().filter(|(number, _)| done.contains(number)).map(|(_, memory)| *memory).collect();
    within.sort_unstable();
    within[within.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_accounted_for_at_both_ends_and_memory_stays_where_it_is() {
    let requests: usize = std::env::var("GNOMON_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(8_000);
    let (folder, book, authority) = (tempfile::tempdir().unwrap(), Book::new(requests), Authority::new("the upstream's authority"));
    let [plain, tls] = servers(&book, &authority).await;
    let (gnomon, proxy) = Soaked::start(folder.path(), &authority, tls, &book);
    let root = CertificateDer::from_pem_file(gnomon.state.join("ca.pem")).unwrap();
    let connector = TlsConnector::from(trusting(&root, &["http/1.1"]));
    let road = Arc::new(Road { proxy, plain, tls: tls.port(), connector });
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (road, next, book) = (road.clone(), next.clone(), book.clone());
        let with_tls = client % 2 == 0;
        clients.spawn(async move {
            let mut kept: Option<Box<dyn Stream>> = None;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= requests {
                    return;
                }
                let mut stream = match kept.take() {
                    Some(stream) => stream,
                    None => road.connect(with_tls).await.unwrap(),
                };
                let kind = Kind::of(number);
                match timeout(PATIENCE, road.make(number, &mut stream, with_tls, &book)).await {
                    Ok(Ok(true)) => kept = Some(stream),
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => assert!(kind.may_fail(), "{number} {kind:?}, TLS: {with_tls}: {error}"),
                    Err(_) => panic!("{number} {kind:?}: nothing happens"),
                }
            }
        });
    }
    let (mut level, mut samples) = (None, Vec::new());
    let (mut told, mut looked) = (Instant::now(), Instant::now());
    while !clients.is_empty() {
        if let Ok(Some(ended)) = timeout(Duration::from_millis(200), clients.join_next()).await {
            ended.unwrap();
        }
        let done = next.load(Ordering::Relaxed).min(requests);
        if level.is_none() && done >= WARM.min(requests / 2) {
            level = Some(gnomon.memory());
        }
        if looked.elapsed() > Duration::from_secs(1) {
            looked = Instant::now();
            samples.push((done, gnomon.memory()));
        }
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            println!("{done} of {requests}, {} KiB", gnomon.memory());
        }
    }
    let (mut before, mut after) = (level.unwrap(), gnomon.memory());
    // Memory varies by some percent with the requests in flight, so a long run compares medians, not single samples.
    if requests >= 4 * WARM {
        before = median(&samples, WARM..2 * WARM);
        after = median(&samples, requests - WARM..requests);
    }
    println!("memory of its own: {before} KiB at first, {after} KiB at the end");
    let lost = gnomon.counted("gnomon_events_dropped_total");
    assert_eq!(gnomon.counted("gnomon_unfinished_total"), 0);
    gnomon.finish();
    let (mut executed, mut untold) = (0, 0);
    for number in 0..requests {
        let kind = Kind::of(number);
        let count = |of: &[AtomicU8]| of[number].load(Ordering::Relaxed);
        let (acted, told, answered) = (count(&book.executed), count(&book.told), count(&book.answered));
        executed += usize::from(acted);
        match kind {
            Kind::Blocked => assert_eq!((acted, answered), (0, 1), "{number}: refused, and its client told so"),
            Kind::Mute | Kind::Garbage | Kind::Unfinished => assert_eq!(acted, 0, "{number} {kind:?}"),
            Kind::Closes | Kind::Resets | Kind::Partial | Kind::Impatient => assert_eq!((acted, answered), (1, 0), "{number} {kind:?}"),
            _ => assert_eq!((acted, answered), (1, 1), "{number} {kind:?}"),
        }
        if acted > 0 || kind == Kind::Blocked {
            untold += u64::from(told == 0);
            assert!(told <= 1, "{number} {kind:?}: told {told} times");
        }
    }
    println!("{requests} requests, {executed} of them carried out, {lost} events dropped and counted");
    assert!(untold <= lost, "{untold} calls are not on record, and {lost} are counted as lost");
    // Memory may still be growing when a short run ends.
    let most = if requests >= 4 * WARM { before + before / 20 } else { before + 16 * 1024 };
    assert!(after <= most, "{before} KiB at first, {after} KiB at the end");
}
