//! Many requests, with every fault that a client or a server can make among them: memory stays level, and every call is accounted for at
//! both ends.
//!
//! `GNOMON_SOAK` is the number of requests, 8,000 by default; `cargo xtask soak` makes a million.

use crate::{
    exec::GNOMON,
    soak_server::{Book, Kind, PATIENCE, body_of, message, number_of, request, servers},
    stops::free,
    support::{
        HOST,
        authority::{Authority, trusting},
        client::{Ends, H2, h2_answer},
        rules::block,
    },
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use std::{
    fmt, fs,
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
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Clients at the same time.
const CLIENTS: usize = 24;
/// Requests until memory is level, as caches fill until then.
const WARM: usize = 250_000;
/// How long a client leaves an answer unread: all that gnomon takes of it meanwhile is within its bound for one.
const LEAVES_UNREAD: Duration = Duration::from_millis(250);

/// How a client connects to its server.
struct Road {
    proxy: SocketAddr,
    plain: SocketAddr,
    tls: u16,
    connector: TlsConnector,
    /// The same for HTTP/2.
    of_streams: TlsConnector,
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

/// The answers in a body: in an event, in a batch, or one.
fn answers(body: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(body);
    let said = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&text);
    match serde_json::from_str::<Value>(said).unwrap_or_default() {
        Value::Array(all) => all,
        one => vec![one],
    }
}

/// Whether these are the answers to all calls of this request.
fn are_whole(number: usize, answers: &[Value]) -> bool {
    let its_own = |said: &Value| number_of(&said["id"].to_string()) == Some(number);
    answers.len() == usize::from(Kind::of(number).calls()) && answers.iter().all(its_own)
}

impl Road {
    /// Opens a tunnel to this server.
    async fn tunnel(&self, to: &str) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.proxy).await?;
        stream.set_nodelay(true)?;
        stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n").as_bytes()).await?;
        let (head, _) = message(&mut stream, &mut Vec::new()).await?;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        Ok(stream)
    }

    /// The server with TLS, as clients ask for it.
    fn named(&self) -> String {
        format!("{HOST}:{}", self.tls)
    }

    async fn connect(&self, with_tls: bool) -> io::Result<Box<dyn Stream>> {
        if with_tls {
            let stream = self.tunnel(&self.named()).await?;
            return Ok(Box::new(self.connector.connect(ServerName::try_from(HOST).unwrap(), stream).await?));
        }
        let stream = TcpStream::connect(self.proxy).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    /// Makes one request and waits for its end. Returns whether the connection can be used again.
    async fn make(&self, number: usize, stream: &mut Box<dyn Stream>, with_tls: bool, book: &Book) -> io::Result<bool> {
        let kind = Kind::of(number);
        let (target, host) = match with_tls {
            true => ("/mcp".to_owned(), self.named()),
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
            Kind::Impatient | Kind::Unread => {
                book.until_executed(number).await;
                if kind == Kind::Unread {
                    tokio::time::sleep(LEAVES_UNREAD).await;
                }
                stream.reset();
                return Ok(false);
            }
            Kind::HalfClosed => stream.shutdown().await?,
            _ => {}
        }
        let (head, body) = message(stream, &mut Vec::new()).await?;
        let said = answers(&body);
        let refused = said.iter().filter(|said| said["result"]["isError"] == true).count();
        let due = if kind.is_blocked() { usize::from(kind.calls()) } else { 0 };
        assert_eq!(refused, due, "{number} {kind:?}, TLS: {with_tls}: {head} {said:?}");
        assert!(kind != Kind::HalfClosed || head.starts_with("http/1.1 200"), "{number} TLS: {with_tls}: {head} {said:?}");
        if head.starts_with("http/1.1 200") && are_whole(number, &said) {
            book.answered[number].store(1, Ordering::Relaxed);
        }
        let of_events = head.contains("content-type: text/event-stream");
        assert!(kind != Kind::Events || of_events, "{number} TLS: {with_tls}: {head}");
        Ok(!kind.ends_connection())
    }

    /// Makes a request on a connection of its own.
    async fn make_apart(&self, number: usize, book: &Book) -> io::Result<()> {
        if Kind::of(number) == Kind::OddLine {
            let plain = self.plain.to_string();
            let mut stream = self.tunnel(&plain).await?;
            stream.write_all(&request(number, "/mcp", &plain)).await?;
            let (head, _) = message(&mut stream, &mut Vec::new()).await?;
            assert!(head.starts_with("http/1.1 403"), "{number}: {head}");
            book.answered[number].store(1, Ordering::Relaxed);
            return Ok(());
        }
        let tunnel = self.tunnel(&self.named()).await?;
        let stream = self.of_streams.connect(ServerName::try_from(HOST).unwrap(), tunnel).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "{number}");
        let mut client = H2::over(stream).await;
        let url = format!("https://{}/mcp", self.named());
        let head = http::Request::post(url).header("content-type", "application/json").body(()).unwrap();
        let (response, mut sends) = client.begin(head, Ends::WithBody).await;
        sends.send_data(body_of(number).into(), true).map_err(io::Error::other)?;
        if Kind::of(number) == Kind::Http2Reset {
            book.until_executed(number).await;
            sends.send_reset(h2::Reason::CANCEL);
            drop(response);
        } else {
            let answer = h2_answer(response).await.map_err(io::Error::other)?;
            if answer.status == 200 && are_whole(number, &answers(&answer.body)) {
                book.answered[number].store(1, Ordering::Relaxed);
            }
        }
        // The connection's task ends by itself, once all is sent.
        Ok(())
    }
}

/// What a process has of memory, in KiB.
#[derive(Clone, Copy)]
struct Memory {
    /// Private to it.
    own: u64,
    /// With the pages of files, such as its program and its databases.
    resident: u64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB of its own, {} KiB resident", self.own, self.resident)
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
                let number = event["jsonrpc.request.id"].as_str().and_then(number_of);
                if let Some(number) = number.filter(|_| event["event.kind"] != "outcome") {
                    book.told[number].fetch_add(1, Ordering::Relaxed);
                }
                if event["gnomon.passage"] == "request_line_odd" {
                    book.odd.fetch_add(event["gnomon.calls"].as_u64().unwrap_or(1), Ordering::Relaxed);
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

    fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |name: &str| -> u64 {
            status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok()).unwrap()
        };
        Memory { own: of("RssAnon:"), resident: of("VmRSS:") }
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

/// The medians of the samples that were taken while the count of finished requests was in this range.
fn median(samples: &[(usize, Memory)], done: Range<usize>) -> Memory {
    let within: Vec<Memory> = samples.iter().filter(|(number, _)| done.contains(number)).map(|(_, memory)| *memory).collect();
    let middle = |mut values: Vec<u64>| {
        values.sort_unstable();
        values[values.len() / 2]
    };
    let own = middle(within.iter().map(|memory| memory.own).collect());
    Memory { own, resident: middle(within.iter().map(|memory| memory.resident).collect()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_accounted_for_at_both_ends_and_memory_stays_where_it_is() {
    let requests: usize = std::env::var("GNOMON_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(8_000);
    let (folder, book, authority) = (tempfile::tempdir().unwrap(), Book::new(requests), Authority::new("the upstream's authority"));
    let [plain, tls] = servers(&book, &authority).await;
    let (gnomon, proxy) = Soaked::start(folder.path(), &authority, tls, &book);
    let root = CertificateDer::from_pem_file(gnomon.state.join("ca.pem")).unwrap();
    let connector = TlsConnector::from(trusting(&root, &["http/1.1"]));
    let of_streams = TlsConnector::from(trusting(&root, &["h2"]));
    let road = Arc::new(Road { proxy, plain, tls: tls.port(), connector, of_streams });
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
                let kind = Kind::of(number);
                if kind.is_apart() {
                    let made = timeout(PATIENCE, road.make_apart(number, &book)).await;
                    made.unwrap_or_else(|_| panic!("{number} {kind:?}: nothing happens"))
                        .unwrap_or_else(|error| panic!("{number} {kind:?}: {error}"));
                    continue;
                }
                let mut stream = match kept.take() {
                    Some(stream) => stream,
                    None => road.connect(with_tls).await.unwrap(),
                };
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
            println!("{done} of {requests}, {}", gnomon.memory());
        }
    }
    let (mut before, mut after) = (level.unwrap(), gnomon.memory());
    // Memory varies by some percent with the requests in flight, so a long run compares medians, not single samples.
    if requests >= 4 * WARM {
        before = median(&samples, WARM..2 * WARM);
        after = median(&samples, requests - WARM..requests);
    }
    println!("memory at first: {before}; at the end: {after}");
    let lost = gnomon.counted("gnomon_events_dropped_total");
    assert_eq!(gnomon.counted("gnomon_unfinished_total"), 0);
    gnomon.finish();
    let (mut executed, mut untold, mut odd) = (0, 0, 0);
    for number in 0..requests {
        let kind = Kind::of(number);
        let count = |of: &[AtomicU8]| of[number].load(Ordering::Relaxed);
        let (acted, told, answered) = (count(&book.executed), count(&book.told), count(&book.answered));
        executed += usize::from(acted);
        match kind {
            _ if kind.is_blocked() => assert_eq!((acted, answered), (0, 1), "{number} {kind:?}: refused, and its client told so"),
            Kind::OddLine => {
                assert_eq!((acted, told, answered), (0, 0, 1), "{number}: refused unread, and its client told so");
                odd += 1;
            }
            Kind::Mute | Kind::Garbage | Kind::Unfinished => assert_eq!(acted, 0, "{number} {kind:?}"),
            Kind::Closes | Kind::Resets | Kind::Partial | Kind::Impatient | Kind::Unread | Kind::Http2Reset => {
                assert_eq!((acted, answered), (1, 0), "{number} {kind:?}");
            }
            _ => assert_eq!((acted, answered), (kind.calls(), 1), "{number} {kind:?}"),
        }
        if acted > 0 || kind.is_blocked() {
            untold += u64::from(kind.calls().saturating_sub(told));
            assert!(told <= kind.calls(), "{number} {kind:?}: told {told} times");
        }
    }
    println!("{requests} requests, {executed} calls carried out, {lost} events dropped and counted");
    let told_odd = book.odd.load(Ordering::Relaxed);
    assert!(told_odd <= odd, "{told_odd} events of {odd} odd request lines");
    untold += odd - told_odd;
    assert!(untold <= lost, "{untold} calls and odd lines are not on record, and {lost} are counted as lost");
    // Memory may still be growing when a short run ends.
    let most = if requests >= 4 * WARM { before.own + before.own / 20 } else { before.own + 16 * 1024 };
    assert!(after.own <= most, "at first: {before}; at the end: {after}");
}
