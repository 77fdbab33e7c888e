//! The table of passages, walked. Each entry that the bytes of a client or a server bring about is made here with a call in it, in front of
//! a server that acts on whatever arrives; the question is whether the tool ran. The others have a test by name.

use super::*;
use gnomon_engine::Source;
use gnomon_inspect::Extent;
use gnomon_stage::{DEADLINE, authority::Authority, client::handshake, eager::Eager, request::h1_head, rules::rule, upstream::Upstream};
use std::{
    any::Any,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};
use tokio::{io::AsyncRead, net::TcpListener};

/// What a server could read in what passes by an entry. It is said here once more, as the table is what is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    /// A request.
    Requests,
    /// Messages, or anything else.
    Anything,
    /// Another protocol.
    NoRequest,
    /// What somebody wants passed.
    Waived,
}

/// None for what takes more than bytes: see [`test_of`].
fn carries(passage: Passage) -> Option<Carries> {
    Some(match passage {
        Passage::HelloUnreadable
        | Passage::HelloTooLong
        | Passage::ServerNameInvalid
        | Passage::RequestLineOdd
        | Passage::RequestLineLong
        | Passage::ServerFirstHttp
        | Passage::OtherProxy
        | Passage::OtherProxyOdd
        | Passage::Upgraded
        | Passage::NoRoom => Carries::Requests,
        Passage::WebSocket | Passage::Grpc | Passage::Rows | Passage::ForeignBody => Carries::Anything,
        Passage::ForeignAlpn
        | Passage::ForeignInTls
        | Passage::Foreign
        | Passage::LineUnfinished
        | Passage::NothingSaid
        | Passage::ServerFirst => Carries::NoRequest,
        Passage::Bypass | Passage::Disarmed | Passage::ConnectWithin => Carries::Waived,
        // The first takes an owner whose scope enforces nothing; what the second hides is for the client to act on; the third takes a
        // server that reads no body.
        Passage::BeyondShare | Passage::EventsUnreadable | Passage::RequestWithin => return None,
    })
}

/// The rule in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Under {
    NoRule,
    /// The README's: it blocks a method and names no host.
    Calls,
    /// One that blocks the server.
    Host,
    /// One that blocks the method at the server.
    CallsThere,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
struct Case {
    passage: Passage,
    carries: Carries,
    road: Road,
    under: Under,
    /// Further lines of a request's head, which say that it is MCP.
    signs: &'static str,
}

impl Case {
    /// Whether it passes unread.
    fn passes(&self) -> bool {
        match (self.passage, self.under, self.carries) {
            // While gnomon is disarmed nothing is refused.
            (Passage::Disarmed, ..) | (_, Under::NoRule, _) => true,
            (_, Under::Host, _) => false,
            (_, _, Carries::NoRequest | Carries::Waived) => true,
            (_, _, Carries::Requests) => false,
            (_, under, Carries::Anything) => under == Under::Calls && self.signs.is_empty(),
        }
    }

    /// Whether the tool runs. What follows the beginning of a line, and what is in another proxy's tunnel, is looked at.
    fn runs(&self) -> bool {
        let is_looked_at = matches!(self.passage, Passage::LineUnfinished | Passage::ConnectWithin);
        self.passes() && (self.under == Under::NoRule || !is_looked_at)
    }

    /// Whether a refusal names the entry. A rule for the host alone may be decided before, and what says MCP is read as that.
    fn is_named(&self) -> bool {
        let comes_later = matches!(self.passage, Passage::Bypass | Passage::OtherProxy | Passage::Upgraded);
        let by_host = self.under == Under::Host && (comes_later || self.passage.extent() == Extent::Message);
        !by_host && (self.signs.is_empty() || self.passage == Passage::WebSocket)
    }

    /// Whether what passes is no event, as no rule asks for one and no server could take it for a request.
    fn is_silent(&self) -> bool {
        self.under == Under::NoRule && (self.carries != Carries::Requests || self.passage == Passage::OtherProxy)
    }

    fn rules(&self) -> Vec<Source> {
        let blocks = match self.under {
            Under::NoRule => return Vec::new(),
            Under::Calls => CALLS.to_owned(),
            Under::Host => format!("server.address: {HOST}"),
            Under::CallsThere => format!("server.address: {HOST}, {CALLS}"),
        };
        let notes = rule(2, "Notes the entry", &format!("gnomon.passage: {}", self.passage.reason()), "action: log");
        vec![block(1, &blocks), notes]
    }

    /// With these rules, and a name for the server.
    fn setup(&self, server: SocketAddr) -> Setup {
        Gnomon::with().rules(self.rules()).resolve_port(HOST, server)
    }

    /// Waits until the tool has run, or the client has an answer or an end.
    async fn settles<S: AsyncRead + Unpin>(&self, server: &impl Acts, stream: &mut S) {
        if self.runs() {
            soon(&format!("the call of {self:?}"), async {
                while server.ran() == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
        } else {
            let _ = soon(&format!("the refusal of {self:?}"), stream.read(&mut [0; 4096])).await;
        }
    }
}

/// A server that acts on what it receives.
trait Acts {
    fn address(&self) -> SocketAddr;
    /// How many calls it executed.
    fn ran(&self) -> u64;
}

fn is_call(bytes: &[u8]) -> bool {
    bytes.windows(10).any(|ten| ten == b"tools/call")
}

impl Acts for Lenient {
    fn address(&self) -> SocketAddr {
        self.address
    }
    /// Behind a ClientHello, in whose bytes quotes may stand, what arrived counts as executed.
    fn ran(&self) -> u64 {
        self.calls().max(u64::from(is_call(&self.got())))
    }
}

/// One that gives one answer to the first head that it gets, and executes what comes behind that in whatever protocol.
struct Turned {
    address: SocketAddr,
    ran: Arc<AtomicU64>,
}

impl Turned {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, ran) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let counted = ran.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let ran = counted.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                    let (mut eager, mut buffer) = (Eager::default(), vec![0; 4096]);
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        let mut executed = Vec::new();
                        eager.feed(&buffer[..length], &mut executed);
                        let calls = executed.iter().filter(|value| is_call(value)).count();
                        ran.fetch_add(calls as u64, Ordering::SeqCst);
                    }
                });
            }
        });
        Self { address, ran }
    }
}

impl Acts for Turned {
    fn address(&self) -> SocketAddr {
        self.address
    }
    fn ran(&self) -> u64 {
        self.ran.load(Ordering::SeqCst)
    }
}

/// One that undoes a coding which only its clients know: every byte is inverted.
struct Inverting(Upstream);

fn inverted(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

impl Acts for Inverting {
    fn address(&self) -> SocketAddr {
        self.0.address
    }
    fn ran(&self) -> u64 {
        self.0.requests(|all| all.iter().filter(|received| is_call(&inverted(&received.raw))).count() as u64)
    }
}

/// gnomon, the server behind it, and the client's connection, which stays open until it is dropped.
type Made = (Gnomon, Box<dyn Acts>, Box<dyn Any>);

fn called() -> Vec<u8> {
    call(1, "any_tool").to_string().into_bytes()
}

fn behind(first: &[u8]) -> Vec<u8> {
    [first, &called()].concat()
}

const POST: &str = "POST /mcp HTTP/1.1\r\n";

/// Brings the entry about, with a call in it.
async fn make(case: &Case) -> Made {
    let lenient = Lenient::start().await;
    match case.passage {
        Passage::HelloUnreadable | Passage::HelloTooLong | Passage::ServerNameInvalid => hello(case, lenient).await,
        Passage::ForeignAlpn | Passage::ForeignInTls | Passage::Bypass => within_tls(case).await,
        Passage::Disarmed => says(case, lenient, &request(POST)).await,
        Passage::Foreign => says(case, lenient, &behind(b"EHLO me.example\r\n")).await,
        // It has no end of a line, and its client ends its side.
        Passage::NothingSaid => says(case, lenient, &behind(b"ruok ")).await,
        Passage::RequestLineOdd | Passage::RequestLineLong => {
            let (line, _) = lines::lines().into_iter().find(|(_, passage)| *passage == case.passage).unwrap();
            says(case, lenient, &request(&line)).await
        }
        Passage::OtherProxyOdd => says(case, lenient, &request(&format!("POST http://{HOST}/mcp HTTP/1.2\r\n"))).await,
        Passage::LineUnfinished => unfinished(case, lenient, Case::setup, request(POST).split_at(9)).await,
        Passage::NoRoom => {
            let body = call(1, "any_tool").to_string().replace("/srv/plan", &"a".repeat(60_000));
            let bytes = post("/rpc", "content-type: application/json\r\n", body.as_bytes());
            let little = |case: &Case, server| case.setup(server).held_bytes(64 << 10);
            unfinished(case, lenient, little, bytes.split_at(bytes.len() - 4)).await
        }
        Passage::ServerFirst => server_first(case, b"220 mail.example ESMTP\r\n", &behind(b"EHLO me.example\r\n")).await,
        Passage::ServerFirstHttp => server_first(case, b"HTTP/1.1 200 OK\r\n\r\n", &request(POST)).await,
        Passage::ConnectWithin => connect_within(case).await,
        Passage::OtherProxy => {
            // Whether that opened a tunnel or answered a request is not known.
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nwelcome";
            let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\n\r\n");
            turns(case, connect.as_bytes(), answer, &request(POST)).await
        }
        Passage::Upgraded => {
            let answer = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
            turns(case, &upgrades::opens("tcp"), answer, &called()).await
        }
        Passage::WebSocket => {
            let answer = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            let length = u16::try_from(called().len()).unwrap().to_be_bytes();
            let frame = behind(&[0x81, 0x7e, length[0], length[1]]);
            turns(case, &within_http::websocket("/chat", case.signs), answer, &frame).await
        }
        Passage::Rows => {
            let rows = [behind(b"{\"index\":{}}\n"), b"\n".to_vec()].concat();
            let lines = format!("content-type: application/x-ndjson\r\n{}", case.signs);
            says(case, lenient, &post("/logs/_bulk", &lines, &rows)).await
        }
        Passage::Grpc => {
            let length = u32::try_from(called().len()).unwrap().to_be_bytes();
            let frame = [&[0_u8][..], &length, &inverted(&called())].concat();
            let lines = format!("content-type: application/grpc+inverted\r\n{}", case.signs);
            says(case, inverting().await, &post("/greet.Greeter/Hello", &lines, &frame)).await
        }
        Passage::ForeignBody => {
            let body = [&b"INV1"[..], &inverted(&called())].concat();
            let lines = format!("content-type: application/octet-stream\r\ncontent-encoding: x-inverted\r\n{}", case.signs);
            says(case, inverting().await, &post("/rpc", &lines, &body)).await
        }
        Passage::BeyondShare | Passage::EventsUnreadable | Passage::RequestWithin => panic!("{case:?} takes more than bytes"),
    }
}

async fn inverting() -> Inverting {
    Inverting(Upstream::without_tls(|_| None).await)
}

fn post(path: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = h1_head("POST", path, &format!("{lines}content-length: {}\r\n", body.len()));
    bytes.extend_from_slice(body);
    bytes
}

/// Says all of it at once, without TLS.
async fn says(case: &Case, server: impl Acts + 'static, bytes: &[u8]) -> Made {
    let (gnomon, mut stream) = reach(case.setup(server.address()), case.road, server.address()).await;
    if case.passage == Passage::Disarmed {
        gnomon.inspector.disarm();
    }
    // If gnomon refuses in the middle of it, the rest cannot be sent.
    let _ = stream.write_all(bytes).await;
    if case.passage == Passage::NothingSaid {
        let _ = stream.shutdown().await;
    }
    case.settles(&server, &mut stream).await;
    (gnomon, Box::new(server), Box::new(stream))
}

/// Waits until so many bytes have arrived.
async fn arrives(server: &Lenient, length: usize) {
    soon("the beginning at the server", async {
        while server.got().len() < length {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A ClientHello that is not read, and the call behind it.
async fn hello(case: &Case, server: Lenient) -> Made {
    let (first, _) = tls::unreadable().into_iter().find(|(_, passage)| *passage == case.passage).unwrap();
    let (gnomon, mut stream) = reach(case.setup(server.address), case.road, server.address).await;
    let _ = stream.write_all(&first).await;
    if case.passes() {
        arrives(&server, first.len()).await;
    }
    let _ = stream.write_all(&called()).await;
    case.settles(&server, &mut stream).await;
    (gnomon, Box::new(server), Box::new(stream))
}

/// TLS of which gnomon reads nothing, or nothing that it knows.
async fn within_tls(case: &Case) -> Made {
    let alpn: &[&str] = match case.passage {
        Passage::Bypass => &["http/1.1"],
        Passage::ForeignAlpn => &["postgresql"],
        _ => &[],
    };
    let said = match case.passage {
        Passage::Bypass => request(POST),
        Passage::ForeignAlpn => behind(b"\0\0\0\x08\0\x03\0\0"),
        _ => behind(b"EHLO me.example\r\n"),
    };
    let authority = Authority::new("theirs");
    let server = Lenient::with_tls(&authority, HOST, alpn, b"").await;
    let setup = match case.passage {
        Passage::Bypass => case.setup(server.address).bypass(HOST),
        // Of another organisation, whose authority gnomon does not know.
        Passage::ForeignAlpn => case.setup(server.address),
        _ => case.setup(server.address).trust(authority.pem_file()),
    };
    let (gnomon, stream) = reach(setup, case.road, server.address).await;
    let is_opened = case.passage == Passage::ForeignInTls || !case.passes();
    let root = if is_opened { &gnomon.root } else { authority.certificate() };
    let mut tls = handshake(stream, root, HOST, alpn).await.unwrap();
    let _ = tls.write_all(&said).await;
    let _ = tls.flush().await;
    case.settles(&server, &mut tls).await;
    (gnomon, Box::new(server), Box::new(tls))
}

/// A beginning, and the rest once that has arrived.
async fn unfinished(case: &Case, server: Lenient, setup: impl Fn(&Case, SocketAddr) -> Setup, (begun, rest): (&[u8], &[u8])) -> Made {
    let (gnomon, mut stream) = reach(setup(case, server.address), case.road, server.address).await;
    let _ = stream.write_all(begun).await;
    if case.passes() {
        // Not to the last byte: gnomon may write a head in another way.
        arrives(&server, begun.len() - begun.len() / 10).await;
        let _ = stream.write_all(rest).await;
    }
    case.settles(&server, &mut stream).await;
    (gnomon, Box::new(server), Box::new(stream))
}

/// The call, once the server has spoken or the connection is over.
async fn server_first(case: &Case, greeting: &'static [u8], said: &[u8]) -> Made {
    let server = Lenient::greeting(greeting).await;
    let (gnomon, mut stream) = reach(case.setup(server.address), case.road, server.address).await;
    let _ = soon("the greeting or an end", stream.read_exact(&mut vec![0; greeting.len()])).await;
    let _ = stream.write_all(said).await;
    case.settles(&server, &mut stream).await;
    (gnomon, Box::new(server), Box::new(stream))
}

/// A request to turn the connection into something else, and the call in that, whatever the answer is.
async fn turns(case: &Case, asks: &[u8], answer: &'static str, said: &[u8]) -> Made {
    let server = Turned::start(answer).await;
    let (gnomon, mut stream) = reach(case.setup(server.address), case.road, server.address).await;
    let _ = exchange(&mut stream, asks).await;
    let _ = stream.write_all(said).await;
    case.settles(&server, &mut stream).await;
    (gnomon, Box::new(server), Box::new(stream))
}

/// A call in TLS, in a tunnel that another proxy opens.
async fn connect_within(case: &Case) -> Made {
    let authority = Authority::new("theirs");
    let server = Lenient::with_tls(&authority, HOST, &["http/1.1"], b"").await;
    let proxy = hosts::second_proxy(server.address).await;
    let (gnomon, mut stream) = reach(case.setup(proxy).trust(authority.pem_file()), case.road, proxy).await;
    let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\n\r\n");
    let answer = exchange(&mut stream, connect.as_bytes()).await.unwrap();
    assert_eq!(answer.starts_with("HTTP/1.1 200 Go ahead"), case.passes(), "{case:?}: {answer}");
    if !case.passes() {
        return (gnomon, Box::new(server), Box::new(stream));
    }
    let mut tls = handshake(stream, &gnomon.root, HOST, &["http/1.1"]).await.unwrap();
    let _ = tls.write_all(&request(POST)).await;
    let _ = tls.flush().await;
    case.settles(&server, &mut tls).await;
    (gnomon, Box::new(server), Box::new(tls))
}

fn is_block(event: &Value) -> bool {
    event["gnomon.action"] == "block"
}

/// The events once they are as wanted, or as they are after the deadline.
async fn events_once(gnomon: &Gnomon, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let events = gnomon.events().await;
        if wanted(&events) || begun.elapsed() > DEADLINE {
            return events;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Makes the attempt, and asks what became of it: in the events, in the count, and at the server.
async fn attempt(case: &Case) {
    let (gnomon, server, _open) = make(case).await;
    let (passage, passes, runs) = (case.passage, case.passes(), case.runs());
    let is_told = |events: &[Value]| {
        let told = told(events, passage);
        let is_blocked = told.iter().any(|event| is_block(event));
        let is_named = match (passes, told.is_empty()) {
            (true, true) => case.is_silent(),
            (true, false) => !is_blocked,
            (false, _) => is_blocked || !case.is_named(),
        };
        is_named && (runs || events.iter().any(is_block))
    };
    let events = events_once(&gnomon, is_told).await;
    assert!(is_told(&events), "{case:?} is not told: {events:#?}");
    if passes {
        gnomon.metrics_until(&format!("gnomon_passed_total{{reason=\"{}\"}} 1", passage.reason())).await;
    }
    assert_eq!(passed(&gnomon, passage), u64::from(passes), "{case:?}");
    assert_eq!(server.ran() > 0, runs, "{case:?}: did the tool run?");
}

async fn walk(under: Under) {
    for &passage in Passage::ALL {
        let Some(carries) = carries(passage) else { continue };
        for road in ROADS {
            attempt(&Case { passage, carries, road, under, signs: "" }).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_rule_without_a_host_no_tool_runs_by_an_entry_in_which_a_server_could_read_a_request() {
    walk(Under::Calls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_rule_for_its_host_no_tool_runs_by_any_entry_but_the_kill_switch() {
    walk(Under::Host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_rule_for_calls_to_its_host_no_tool_runs_by_an_entry_that_may_carry_messages() {
    walk(Under::CallsThere).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_rule_the_call_arrives_by_every_entry_and_is_counted() {
    walk(Under::NoRule).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_rule_without_a_host_no_tool_runs_by_an_entry_that_may_carry_messages_where_its_head_says_mcp() {
    for &passage in Passage::ALL.iter().filter(|passage| carries(**passage) == Some(Carries::Anything)) {
        for road in ROADS {
            let signs = "mcp-protocol-version: 2025-11-25\r\n";
            attempt(&Case { passage, carries: Carries::Anything, road, under: Under::Calls, signs }).await;
        }
    }
}

/// The test of an entry: where it cannot be made here the only one, else one that goes further. The `match` does not compile without a new
/// entry.
fn test_of(passage: Passage) -> &'static str {
    match passage {
        Passage::Bypass => "passage::a_bypassed_server_shows_its_own_certificate_and_is_still_reported",
        Passage::Disarmed => "disarm::disarmed_the_proxy_refuses_nothing_and_opens_no_new_connection",
        Passage::RequestWithin => "passages::within_http::a_request_within_a_body_that_its_server_does_not_read_is_no_way_past_a_rule",
        Passage::BeyondShare => "redirected::users::where_nothing_is_enforced_whatever_is_above_the_share_passes",
        Passage::HelloUnreadable | Passage::HelloTooLong | Passage::ServerNameInvalid => {
            "passages::tls::a_hello_that_cannot_be_read_reaches_no_server_where_a_rule_could_match"
        }
        Passage::ForeignAlpn => "passages::tls::a_protocol_that_the_server_chose_passes_and_a_rule_on_the_host_holds",
        Passage::ForeignInTls => "passages::tls::a_protocol_other_than_http_inside_tls_passes_both_ways",
        Passage::Foreign => "passages::protocols::other_protocols_pass_under_a_rule_without_a_host_and_not_under_one_for_theirs",
        Passage::NothingSaid => "passages::protocols::a_tunnel_that_ends_before_anything_is_said_is_told_where_a_rule_asks_for_it",
        Passage::ServerFirst => "passages::protocols::a_server_that_speaks_first_is_heard_under_a_rule_without_a_host",
        Passage::RequestLineOdd | Passage::RequestLineLong => {
            "passages::lines::no_tool_runs_by_a_request_line_that_only_its_server_understands"
        }
        Passage::LineUnfinished => "passages::lines::a_line_that_is_completed_late_is_still_judged",
        Passage::ServerFirstHttp => "passages::protocols::a_server_that_speaks_http_first_is_not_taken_for_another_protocol",
        Passage::OtherProxyOdd => "passages::hosts::what_may_ask_another_proxy_for_a_blocked_host_does_not_reach_it",
        Passage::OtherProxy => "passages::hosts::what_is_asked_of_another_proxy_runs_no_tool_that_a_rule_blocks",
        Passage::ConnectWithin => "passages::hosts::a_second_proxy_behind_gnomon_works_and_what_it_opens_is_judged",
        Passage::Upgraded => "passages::upgrades::an_upgrade_that_no_rule_could_refuse_is_joined_to_its_server_and_told",
        Passage::WebSocket => "passages::within_http::websocket_passes_unless_it_says_mcp_or_a_rule_means_its_server",
        Passage::Grpc => "passages::within_http::grpc_passes_unless_a_rule_means_its_server",
        Passage::NoRoom => "room::where_no_rule_could_match_what_there_is_no_room_for_passes_and_is_an_event",
        Passage::Rows => "unread::rows_behind_the_first_are_a_passage_that_is_counted_and_named_and_refused_where_a_rule_means_their_place",
        Passage::EventsUnreadable => "withheld::an_event_stream_that_cannot_be_undone_is_refused_where_a_rule_refuses_what_servers_ask",
        Passage::ForeignBody => "unread::what_cannot_be_read_is_refused_where_the_request_says_mcp_or_a_rule_names_its_place",
    }
}

/// The source files of the tests of the proxy, the portal and the whole.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders =
        ["tests", "../portal/tests", "../../tests/e2e"].map(|tests| Path::new(env!("CARGO_MANIFEST_DIR")).join(tests)).to_vec();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                sources.push((path, text));
            }
        }
    }
    sources
}

/// Whether a source has a test function of this name.
fn has_test(source: &str, name: &str) -> bool {
    let declared = format!("fn {name}(");
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    lines.windows(2).any(|two| {
        let is_test = two[0] == "#[test]" || two[0].starts_with("#[tokio::test");
        is_test && two[1].strip_prefix("async ").unwrap_or(two[1]).starts_with(&declared)
    })
}

#[test]
fn every_entry_of_the_table_is_tried_against_a_server_that_acts() {
    let sources = sources();
    for &passage in Passage::ALL {
        let test = test_of(passage);
        let (module, name) = test.rsplit_once("::").unwrap();
        let module = module.replace("::", "/");
        let files = [format!("{module}.rs"), format!("{module}/mod.rs")];
        let is_there = |(path, text): &(PathBuf, String)| files.iter().any(|file| path.ends_with(file)) && has_test(text, name);
        assert!(sources.iter().any(is_there), "{passage:?}: there is no test {test}");
    }
}
