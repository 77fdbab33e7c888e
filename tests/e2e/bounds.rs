//! No client can take the resources that others need: descriptors, connections, streams, places, room in the ledger.

use crate::{
    alerts::prometheus::Watched,
    support::{
        DEADLINE, HOST,
        client::{Ends, H1, H2, tls, tunnel},
        coding::Coding,
        gnomon::Gnomon,
        neighbours::{Endured, Neighbours, TOOL, again, best_of_three, from, resident},
        request::{call, h1_post, h2_post},
        rules, soon,
        upstream::{Answer, Upstream, by_default},
    },
};
use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// The `gnomon` command with a low limit of file descriptors.
pub struct Poor {
    pub child: Child,
    pub proxy: SocketAddr,
    metrics: SocketAddr,
    state: tempfile::TempDir,
}

impl Poor {
    fn with(descriptors: usize) -> Self {
        // The soft limit is lower still: gnomon raises it to the hard limit.
        Self::limited_by(&format!("ulimit -Sn {} && ulimit -Hn {descriptors}", descriptors / 2))
    }

    /// The limits are set by a shell's command.
    pub fn limited_by(limits: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limits} && exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_gnomon")).args(["proxy", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--state-dir"]);
        command.arg(state.path()).arg("--events").arg(state.path().join("events.jsonl"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut after = |words: &str| -> SocketAddr {
            let found = lines.find_map(|line| line.split_once(words)?.1.split([',', '/']).next()?.parse().ok());
            found.expect("it says where it is")
        };
        let (proxy, metrics) = (after("inline proxy on "), after("metrics   http://"));
        std::thread::spawn(move || lines.for_each(|line| eprintln!("gnomon: {line}")));
        Self { child, proxy, metrics, state }
    }

    /// Stops it, and returns its events, one a line.
    fn finish(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
        std::fs::read_to_string(self.state.path().join("events.jsonl")).unwrap_or_default()
    }
}

impl Drop for Poor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A tool server on every address of loopback. `/endless` gets an answer that does not end, `/flood` one of a terabyte. Returns its port
/// and the count of calls that it ran.
pub async fn everywhere() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let (port, acted) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = acted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, counted.clone()));
        }
    });
    (port, acted)
}

async fn serve(mut stream: TcpStream, acted: Arc<AtomicUsize>) {
    let mut seen = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut seen).await {
        while let Some(end) = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok()).unwrap_or(0);
            if seen.len() < end + 4 + length {
                break;
            }
            let body: Vec<u8> = seen.drain(..end + 4 + length).skip(end + 4).collect();
            if String::from_utf8_lossy(&body).contains(TOOL) {
                acted.fetch_add(1, Ordering::SeqCst);
            }
            let answer = if head.contains(" /flood ") {
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000000000000\r\n\r\n"
            } else if head.contains(" /endless ") {
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n"
            } else {
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[]}  }"
            };
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            while head.contains(" /flood ") && stream.write_all(&FLOOD).await.is_ok() {}
        }
    }
}

static FLOOD: [u8; 64 << 10] = [b'x'; 64 << 10];

/// Clients of one address ask for 250 servers each, every request over a connection of its own.
async fn asks_for_many(proxy: SocketAddr, port: u16, path: &'static str, clients: u8, answers: Arc<[AtomicUsize; 2]>) {
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let answers = answers.clone();
        tasks.spawn(async move {
            for number in 1..=250 {
                let server = SocketAddr::from((Ipv4Addr::new(127, 1, client, number), port));
                let Ok(mut stream) = from(0, proxy).await else { continue };
                let request = format!("GET http://{server}{path} HTTP/1.1\r\nhost: {server}\r\n\r\n");
                let _ = stream.write_all(request.as_bytes()).await;
                let mut head = [0; 12];
                if timeout(DEADLINE, stream.read_exact(&mut head)).await.is_ok_and(|read| read.is_ok()) {
                    answers[usize::from(&head[9..] != b"200")].fetch_add(1, Ordering::SeqCst);
                }
                if path == "/endless" {
                    // The connections on both sides of the proxy stay open until the test ends.
                    std::mem::forget(stream.into_std());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// What a client is answered that asks at an address of the metrics.
async fn probed(metrics: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(metrics).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Gnomon with few descriptors before a client that asks for many servers, and neighbours that are measured; the numbers of the client's
/// answers, 200 and others.
async fn with_few_descriptors(path: &'static str) -> ([usize; 2], Endured) {
    let (port, acted) = everywhere().await;
    let gnomon = Poor::with(384);
    let (proxy, metrics) = (gnomon.proxy, gnomon.metrics);
    let neighbours = Neighbours { proxy, server: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) };
    let answers = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let asks = async {
        let ask = || asks_for_many(proxy, port, path, 8, answers.clone());
        match path {
            // What is asked for stays open.
            "/endless" => ask().await,
            // More often, and no port would be left for the client.
            _ => again(Duration::from_secs(5), ask).await,
        }
    };
    let scraped = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        probed(metrics, "/metrics").await
    };
    let mut page: Option<std::io::Result<String>> = None;
    let fault = async {
        tokio::join!(asks, async { page = Some(scraped.await) });
    };
    let endured = neighbours.endure(Duration::from_millis(1_500), Duration::from_millis(3_000), fault).await;
    let page = page.expect("the metrics have descriptors of their own").unwrap();
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("\ngnomon_upstream_connections"), "{page}");
    let memory = resident(gnomon.child.id());
    assert!(memory < 160 << 20, "{memory}");
    let calls = endured.calls;
    assert_eq!(acted.load(Ordering::SeqCst), calls, "each call ran once");
    let events = gnomon.finish();
    assert_eq!(events.lines().filter(|line| line.contains(TOOL)).count(), calls, "each call is in the events");
    ([answers[0].load(Ordering::SeqCst), answers[1].load(Ordering::SeqCst)], endured)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_requests_a_thousand_servers_takes_no_descriptor_that_others_or_the_ledger_need() {
    let [answered, _] = best_of_three(|| with_few_descriptors("/")).await;
    assert!(answered > 100, "their own calls go on, as idle connections make room: {answered}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_keeps_all_connections_busy_is_refused_and_no_other() {
    let [answered, _] = best_of_three(|| with_few_descriptors("/endless")).await;
    assert!(answered > 10, "{answered}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_answers_cost_little_memory_each() {
    const CLIENTS: usize = 200;
    let (port, _) = everywhere().await;
    let gnomon = Poor::with(4096);
    let mut unread = Vec::new();
    let mut before = 0;
    for number in 0..=CLIENTS {
        let mut client = TcpStream::connect(gnomon.proxy).await.unwrap();
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        client.write_all(format!("GET http://{server}/flood HTTP/1.1\r\nhost: {server}\r\n\r\n").as_bytes()).await.unwrap();
        unread.push(client);
        if number == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            before = resident(gnomon.child.id());
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let each = resident(gnomon.child.id()).saturating_sub(before) / u64::try_from(CLIENTS).unwrap();
    assert!(each < 256 << 10, "{each} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_download_delays_no_other_request_to_its_host() {
    let upstream = Upstream::answering(&["h2"], |received| {
        if received.path != "/large" {
            return by_default(received);
        }
        let (answer, pieces) = Answer::events();
        for _ in 0..512 {
            let _ = pieces.send(vec![b'x'; 64 << 10]);
        }
        // The sender is leaked, so that the answer never ends.
        std::mem::forget(pieces);
        Some(answer)
    })
    .await;
    let gnomon = Gnomon::with().rules(rules::shipped()).before(&upstream).await;
    let mut slow = H2::connect(&gnomon).await;
    let request = http::Request::get(format!("https://{HOST}/large")).body(()).unwrap();
    let (response, _body) = slow.begin(request, Ends::WithHead).await;
    let unread = soon("the head", response).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for number in 0..20 {
        let mut client = H2::connect(&gnomon).await;
        let answer = client.send(h2_post("/rpc", Coding::Identity), &[call(number, TOOL).to_string().into_bytes()]).await.unwrap();
        assert_eq!(answer.status, 200, "request {number}");
        client.close().await;
    }
    drop(unread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_send_nothing_take_no_place_from_others() {
    let upstream = Upstream::answering(&["http/1.1"], by_default).await;
    let gnomon = Gnomon::with().max_connections(10).before(&upstream).await;
    let mut mute = Vec::new();
    for _ in 0..40 {
        mute.push(TcpStream::connect(gnomon.address).await.unwrap());
    }
    for number in 0..5 {
        let mut client = H1::connect(&gnomon).await;
        assert_eq!(client.send(&[h1_post("/rpc", call(number, TOOL).to_string().as_bytes())]).await.status, 200);
        client.close().await;
    }
    // Neither do clients that open a tunnel and send nothing in it.
    for _ in 0..40 {
        mute.push(tunnel(gnomon.address, &format!("{HOST}:443")).await);
    }
    let mut client = H1::connect(&gnomon).await;
    assert_eq!(client.send(&[h1_post("/rpc", call(9, TOOL).to_string().as_bytes())]).await.status, 200);
    client.close().await;
    let page = gnomon.metrics();
    let silent = page.lines().find_map(|line| line.strip_prefix("gnomon_flows_total{outcome=\"silent\"} ")).unwrap();
    assert!(silent.parse::<usize>().unwrap() >= 60, "{silent}");
}

/// Opens a connection each time that this much has passed, and keeps forty: of each three, one says nothing, one nothing within a tunnel,
/// and one nothing after a request.
async fn says_nothing(proxy: SocketAddr, server: SocketAddr, every: Duration, opened: &AtomicUsize) {
    let mut kept = VecDeque::new();
    loop {
        tokio::time::sleep(every).await;
        let Ok(mut stream) = from(0, proxy).await else { continue };
        let said = match opened.fetch_add(1, Ordering::SeqCst) % 3 {
            0 => String::new(),
            1 => format!("CONNECT {server} HTTP/1.1\r\nhost: {server}\r\n\r\n"),
            _ => format!("GET http://{server}/ HTTP/1.1\r\nhost: {server}\r\n\r\n"),
        };
        let _ = stream.write_all(said.as_bytes()).await;
        kept.push_back(stream);
        if kept.len() > 40 {
            kept.pop_front();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_slow_no_call_of_another_though_they_would_fill_all_places() {
    let (port, acted) = everywhere().await;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let measured = async || {
        let (before, opened) = (acted.load(Ordering::SeqCst), AtomicUsize::new(0));
        let gnomon = Gnomon::with().max_connections(10).start().await;
        let neighbours = Neighbours { proxy: gnomon.address, server };
        let fault = says_nothing(gnomon.address, server, Duration::from_millis(10), &opened);
        let endured = neighbours.endure(Duration::from_millis(1_500), Duration::from_secs(3), fault).await;
        let opened = opened.load(Ordering::SeqCst);
        assert!(opened > 60, "{opened}");
        assert_eq!(acted.load(Ordering::SeqCst) - before, endured.calls, "each call ran once");
        ((), endured)
    };
    best_of_three(measured).await;
}

/// An answer that begins and never ends.
fn endless() -> Answer {
    let (answer, pieces) = Answer::events();
    let _ = pieces.send(b": x\n\n".to_vec());
    std::mem::forget(pieces);
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_send_nothing_inside_tls_take_no_place_from_others() {
    let upstream = Upstream::answering(&["http/1.1"], by_default).await;
    let gnomon = Gnomon::with().max_connections(10).before(&upstream).await;
    let mut mute = Vec::new();
    for alpn in [&["http/1.1"][..], &["h2"], &[]] {
        for _ in 0..15 {
            let mut client = tls(&gnomon, HOST, alpn).await;
            // Half of them send the beginning of a head.
            if mute.len() % 2 == 0 {
                let _ = client.write_all(b"POST /rpc HTTP/1.1\r\nhost: ").await;
            }
            mute.push(client);
        }
        let mut client = H1::connect(&gnomon).await;
        assert_eq!(client.send(&[h1_post("/rpc", call(9, TOOL).to_string().as_bytes())]).await.status, 200, "{alpn:?}");
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_makes_room_and_one_with_a_call_in_flight_does_not() {
    let upstream =
        Upstream::answering(
            &["http/1.1", "h2"],
            |received| if received.path == "/endless" { Some(endless()) } else { by_default(received) },
        )
        .await;
    let gnomon = Gnomon::with().max_connections(2).before(&upstream).await;
    let mut busy = H1::connect(&gnomon).await;
    busy.write(&h1_post("/endless", call(1, TOOL).to_string().as_bytes())).await;
    assert_eq!(busy.head().await.unwrap().status, 200);
    let mut resting = H1::connect(&gnomon).await;
    assert_eq!(resting.send(&[h1_post("/rpc", call(2, TOOL).to_string().as_bytes())]).await.status, 200);
    let mut next = H1::connect(&gnomon).await;
    assert_eq!(next.send(&[h1_post("/rpc", call(3, TOOL).to_string().as_bytes())]).await.status, 200);
    let mut last = H2::connect(&gnomon).await;
    let answer = last.send(h2_post("/rpc", Coding::Identity), &[call(4, TOOL).to_string().into_bytes()]).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(busy.chunk().await.unwrap().as_deref(), Some(&b": x\n\n"[..]));
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(100), busy.stream.read(&mut byte)).await.is_err(), "it goes on");
    resting.close().await;
    let page = gnomon.metrics();
    assert!(page.contains("gnomon_flows_total{outcome=\"silent\"}"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_counts_among_the_connections_until_it_ends() {
    let upstream =
        Upstream::answering(&["http/1.1"], |received| if received.path == "/endless" { Some(endless()) } else { by_default(received) })
            .await;
    let gnomon = Gnomon::with().max_connections(3).before(&upstream).await;
    let mut open = Vec::new();
    for number in 0..3 {
        let mut client = H1::connect(&gnomon).await;
        client.write(&h1_post("/endless", call(number, TOOL).to_string().as_bytes())).await;
        assert_eq!(client.head().await.unwrap().status, 200);
        open.push(client);
    }
    let mut next = TcpStream::connect(gnomon.address).await.unwrap();
    next.write_all(format!("CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = [0; 12];
    assert!(timeout(Duration::from_millis(400), next.read_exact(&mut head)).await.is_err(), "all places are taken");
    // A reset: the client is gone. An end of its side alone would leave the place taken.
    open.pop().unwrap().stream.get_ref().0.set_zero_linger().unwrap();
    soon("its turn", next.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_so_many_connections_whatever_they_carry() {
    let upstream = Upstream::answering(&["http/1.1"], by_default).await;
    let gnomon = Gnomon::with().user("ada", "a").user("bob", "b").per_user(2).before(&upstream).await;
    let connect = |credentials: &'static str| {
        let request = format!("CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\nproxy-authorization: Basic {credentials}\r\n\r\n");
        let address = gnomon.address;
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut head = [0; 12];
            soon("an answer", stream.read_exact(&mut head)).await.unwrap();
            (stream, String::from_utf8_lossy(&head[9..]).into_owned())
        }
    };
    let (ada, bob) = ("YWRhOmE=", "Ym9iOmI=");
    let (first, second, third) = (connect(ada).await, connect(ada).await, connect(ada).await);
    assert_eq!((&*first.1, &*second.1, &*third.1), ("200", "200", "429"));
    assert_eq!(connect(bob).await.1, "200");
    drop((first, second));
    soon("a place", async {
        while connect(ada).await.1 != "200" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A client that sent a FIN may still be reading, so its place is kept for a short while; after that it goes to whoever waits.
#[tokio::test]
async fn clients_that_have_gone_while_their_servers_are_silent_keep_no_places_from_others() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to_silent = silent.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = silent.accept().await {
            let mut some = [0; 1024];
            let _ = stream.read(&mut some).await;
            counted.fetch_add(1, Ordering::SeqCst);
            held.push(stream);
        }
    });
    let (port, _) = everywhere().await;
    let gnomon = Gnomon::with().max_connections(4).start().await;
    for n in 0..4 {
        let mut gone = TcpStream::connect(gnomon.address).await.unwrap();
        // Plain HTTP, HTTP in a tunnel, and a protocol that gnomon does not know.
        let said = match n {
            0 | 1 => format!("POST http://{to_silent}/ HTTP/1.1\r\nHost: {to_silent}\r\nContent-Length: 2\r\n\r\n{{}}"),
            2 => format!("CONNECT {to_silent} HTTP/1.1\r\nHost: {to_silent}\r\n\r\nGET / HTTP/1.1\r\nHost: {to_silent}\r\n\r\n"),
            _ => format!("CONNECT {to_silent} HTTP/1.1\r\nHost: {to_silent}\r\n\r\n\x00\x01\x02\x03 nobody's protocol\n"),
        };
        gone.write_all(said.as_bytes()).await.unwrap();
        let before = tokio::time::Instant::now();
        while asked.load(Ordering::SeqCst) <= n {
            assert!(before.elapsed() < Duration::from_secs(10), "{n}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gone.shutdown().await.unwrap();
        // The socket stays open after its FIN, as when the kernel finishes the connections of a program that has ended.
        std::mem::forget(gone.into_std().unwrap());
    }
    let comes = async {
        let mut stream = TcpStream::connect(gnomon.address).await.unwrap();
        let request = format!("GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(Duration::from_secs(15), comes).await.expect("a place");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Asks for the metrics again and again and reads nothing, and comes again once it is put out.
async fn asks_and_does_not_read(metrics: SocketAddr) {
    let request = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(64);
    loop {
        let Ok(mut stream) = TcpStream::connect(metrics).await else { continue };
        while stream.write_all(request.as_bytes()).await.is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_ask_for_metrics_and_do_not_read_them_keep_no_probe_waiting() {
    /// docs/alerts.md: such clients do not raise `GnomonProxyDown`. It is raised by scrapes that fail, and a scrape fails after ten seconds,
    /// the default `scrape_timeout` of Prometheus, which the example leaves as it is. So no probe may take as long, whatever the machine is.
    const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
    let gnomon = Watched::start();
    let metrics = gnomon.metrics;
    let mut flood = tokio::task::JoinSet::new();
    (0..600).for_each(|_| _ = flood.spawn(asks_and_does_not_read(metrics)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut took = Vec::new();
    for (path, end) in [("/healthz", "ok\n"), ("/metrics", "\n")].repeat(10) {
        let began = std::time::Instant::now();
        let answer = timeout(SCRAPE_TIMEOUT, probed(metrics, path)).await.expect("an answer within a scrape's time").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(end), "{answer}");
        took.push(began.elapsed());
    }
    println!("{took:?}");
    flood.shutdown().await;
}
