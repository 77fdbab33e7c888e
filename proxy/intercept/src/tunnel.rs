//! Inside a CONNECT, or a connection that the kernel redirected: what the client sends first decides
//! between reading and passing on.

use crate::{
    FlowOutcome, chained,
    first_bytes::{HttpLike, asks_for_a_tunnel, asks_the_server, head_is_over, host_in, http_like},
    forward::{Route, flow_outcome},
    front::Asking,
    peek::Peeked,
    proxy::Shared,
    serve::{Speaks, serve as serve_http},
};
use bytes::{Bytes, BytesMut};
use gnomon_engine::Answer;
use gnomon_http::{Alpn, ConnectHead, Destination, DialError, InvalidDestination, LeafName, NetNs, Scheme, SendError, UpstreamStream};
use gnomon_inspect::{Hello, Sighting, Telling};
use gnomon_observe::{Action, Channel, Field};
use gnomon_wire::hello::{ClientHello, HelloParser, HelloStatus, Transport};
use rustls::AlertDescription;
use smol_str::SmolStr;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// How long a silent client is waited for before the server is asked whether it speaks first.
const CLIENT_SPEAKS: Duration = Duration::from_millis(40);
/// Most bytes read to see what a client speaks.
const PEEK: usize = 80 << 10;
/// How long it may take to find out whether a name is one of an address.
const RESOLVE: Duration = Duration::from_secs(2);
/// Bytes per direction of a connection that is passed on.
const COPY: usize = 32 << 10;

/// What the client said first.
enum First {
    Tls(Box<ClientHello>),
    Http(Speaks),
    /// A request for a tunnel, to another proxy.
    Connect,
    /// Another request to another proxy.
    ForProxy,
    /// Neither, or TLS that nobody could read.
    Other,
    /// Nothing yet, and the server spoke.
    ServerSpoke,
    /// Nothing yet, and the server cannot be reached.
    Unreachable(SendError),
    Gone,
}

/// Where a redirected program wanted to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Original {
    pub address: SocketAddr,
    /// The network namespace of the program, unless it is the proxy's.
    pub netns: Option<NetNs>,
}

pub(crate) struct Tunnel {
    pub(crate) shared: Arc<Shared>,
    asking: Asking,
    /// The name or address that the client asked for.
    host: String,
    port: u16,
    pub(crate) client: TcpStream,
    /// What the client said that is not passed on yet.
    pub(crate) seen: Bytes,
    /// The address that a redirected program asked for: the connection goes there and nowhere else.
    original: Option<SocketAddr>,
    /// Where connections are made from.
    netns: Option<NetNs>,
    /// How the proxy at `original` was asked for the tunnel to `host`, if there is one.
    through: Option<ConnectHead>,
    /// The connection to `host`, or to `original`, where it is open already.
    pub(crate) server: Option<TcpStream>,
}

/// Serves one tunnel. `early` is what the client sent right behind its CONNECT.
pub(crate) async fn serve(shared: Arc<Shared>, asking: Asking, host: String, port: u16, client: TcpStream, early: Bytes) {
    let mut tunnel = Tunnel { shared, asking, host, port, client, seen: early, original: None, netns: None, through: None, server: None };
    let first = match timeout(tunnel.shared.options.hello_timeout, tunnel.peek()).await {
        Ok(Ok(first)) => first,
        Ok(Err(_)) | Err(_) => First::Gone,
    };
    tunnel.take(first).await;
}

/// Serves a connection that the kernel redirected. `server` is the one that the program wanted, unless
/// a rule refuses it whatever is said.
pub(crate) async fn serve_original(shared: Arc<Shared>, asking: Asking, original: Original, client: TcpStream, server: Option<TcpStream>) {
    let Original { address, netns } = original;
    let (host, port) = (address.ip().to_string(), address.port());
    let seen = Bytes::new();
    Tunnel { shared, asking, host, port, client, seen, original: Some(address), netns, through: None, server }.begin().await;
}

impl Tunnel {
    /// What is inside of the tunnel that the proxy at `original` opened.
    pub(crate) fn within(self, head: ConnectHead, host: String, port: u16) -> Self {
        Self { host, port, through: Some(head), ..self }
    }

    /// Serves it from the client's first byte on, or the server's.
    pub(crate) async fn begin(mut self) {
        let tunnel = &mut self;
        let hello_timeout = tunnel.shared.options.hello_timeout;
        // A program may keep a connection for as long as its server allows before it says anything.
        let silence = if tunnel.server.is_some() { Duration::MAX } else { hello_timeout };
        let mut stop = tunnel.shared.stopping();
        let spoke = if tunnel.seen.is_empty() {
            let mut buffer = BytesMut::with_capacity(4096);
            let spoke = tokio::select! {
                spoke = timeout(silence, tunnel.first_byte(&mut buffer)) => spoke,
                _ = stop.wait_for(|stopping| *stopping) => return,
            };
            tunnel.seen = buffer.freeze();
            spoke
        } else {
            Ok(Ok(Spoke::Client(tunnel.seen.len())))
        };
        let first = match spoke {
            // It may have nothing to say and still want to hear.
            Ok(Ok(Spoke::Client(0))) => First::Other,
            Ok(Ok(Spoke::Client(_))) => match timeout(hello_timeout, tunnel.peek()).await {
                Ok(Ok(first)) => first,
                Ok(Err(_)) | Err(_) => First::Gone,
            },
            Ok(Ok(Spoke::Server)) => First::ServerSpoke,
            Ok(Ok(Spoke::Nobody(error))) => First::Unreachable(error),
            Ok(Err(_)) | Err(_) => First::Gone,
        };
        self.take(first).await;
    }

    async fn take(self, first: First) {
        match first {
            First::Tls(_) | First::Http(_) if !self.shared.inspector.is_armed() => {
                self.pass_reported(FlowOutcome::Disarmed, Vec::new()).await;
            }
            First::Tls(hello) => self.tls(&hello).await,
            First::Http(speaks) => self.http(speaks).await,
            First::Connect => chained::serve(self).await,
            First::ForProxy => self.pass(FlowOutcome::OtherProxy).await,
            First::Other | First::ServerSpoke => self.pass(FlowOutcome::Passthrough).await,
            First::Unreachable(error) => self.shared.recorder.flow(flow_outcome(&error), Vec::new()),
            First::Gone => self.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new()),
        }
    }

    /// Reads until it is clear what the client speaks. A client that waits for the server is noticed
    /// by the server's first byte.
    async fn peek(&mut self) -> io::Result<First> {
        let mut buffer = BytesMut::from(&self.seen[..]);
        let mut hello = HelloParser::new();
        let mut parsed = 0;
        let first = loop {
            if !buffer.is_empty() {
                let status = hello.push(&buffer[parsed..]);
                parsed = buffer.len();
                match status {
                    Ok(HelloStatus::Complete(hello)) => break First::Tls(hello),
                    Ok(HelloStatus::Incomplete) if buffer.len() < PEEK => {}
                    Ok(HelloStatus::NotTls) => match http_like(&buffer) {
                        // Meant for another proxy, which would not understand it the way a server must.
                        HttpLike::Yes(Speaks::Http1) if self.original.is_some() && !asks_the_server(&buffer) => {
                            break if self.through.is_none() && asks_for_a_tunnel(&buffer) { First::Connect } else { First::ForProxy };
                        }
                        HttpLike::Yes(speaks) => break First::Http(speaks),
                        HttpLike::Maybe => {}
                        HttpLike::No => break First::Other,
                    },
                    Ok(HelloStatus::Incomplete) | Err(_) => break First::Other,
                }
            }
            buffer.reserve(4096);
            let read = if buffer.is_empty() {
                match self.first_byte(&mut buffer).await? {
                    Spoke::Client(read) => read,
                    Spoke::Server => break First::ServerSpoke,
                    Spoke::Nobody(error) => break First::Unreachable(error),
                }
            } else {
                self.client.read_buf(&mut buffer).await?
            };
            if read == 0 {
                break if buffer.is_empty() { First::Gone } else { First::Other };
            }
        };
        self.seen = buffer.freeze();
        Ok(first)
    }

    async fn first_byte(&mut self, buffer: &mut BytesMut) -> io::Result<Spoke> {
        if self.server.is_none() {
            if self.original.is_some() {
                return self.client.read_buf(buffer).await.map(Spoke::Client);
            }
            tokio::select! {
                read = self.client.read_buf(buffer) => return read.map(Spoke::Client),
                () = sleep(CLIENT_SPEAKS) => {}
            }
            match self.shared.dialer.tcp(&self.host, self.port).await {
                Ok(stream) => self.server = Some(stream),
                Err(error) => return Ok(Spoke::Nobody(error.into())),
            }
        }
        let Some(server) = &self.server else { return Ok(Spoke::Server) };
        let mut byte = [0];
        tokio::select! {
            biased;
            read = self.client.read_buf(buffer) => read.map(Spoke::Client),
            // Looked at, as what was read before may have left it marked as readable. An end and an error count too.
            _ = server.peek(&mut byte) => Ok(Spoke::Server),
        }
    }

    /// The destination of what is read: by name, and at the address that the program chose.
    fn destination(&self, scheme: Scheme, name: &str, alpn: Alpn) -> Result<Destination, InvalidDestination> {
        let destination = Destination::new(scheme, name, self.port, alpn, self.asking.principal())?.within(self.netns);
        Ok(match self.original {
            Some(original) => destination.at(original).through(self.through.clone()),
            None => destination,
        })
    }

    /// Passes on unread what is bypassed by this name. A name is no more than what the client says: it
    /// must not buy the way to another server. Where it does not lead to the address that a program asked
    /// for, the connection goes to where it does lead.
    async fn bypass(mut self, name: &str, reports: Vec<Sighting>) {
        let named = self.original.is_none_or(|original| name != original.ip().to_string());
        if named && self.through.is_none() && !self.leads_to_original(name).await {
            (self.original, self.server) = (None, None);
        }
        self.host = name.to_owned();
        self.pass_reported(FlowOutcome::Bypassed, reports).await;
    }

    /// Whether a name, as we resolve it, is one of the address that the program asked for.
    async fn leads_to_original(&self, name: &str) -> bool {
        let Some(original) = self.original else { return false };
        match timeout(RESOLVE, self.shared.dialer.addresses(name, self.port)).await {
            Ok(Ok(addresses)) => addresses.iter().any(|address| address.ip().to_canonical() == original.ip()),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    async fn tls(mut self, hello: &ClientHello) {
        let mut seen = self.asking.observe(Channel::Https);
        seen.set(Field::Ja4, hello.ja4(Transport::Tcp));
        let (mut connection, _) = self.asking.open(&self.shared.inspector, seen);
        let facts = Hello { sni: hello.sni.as_deref(), random: Some(&hello.random) };
        let answer = connection.hello(&self.host, self.port, &facts);
        // What the client names in its handshake is what the server will go by, so that is where the
        // connection goes: a name on the bypass list cannot be borrowed for another server.
        let name = hello.sni.clone().unwrap_or_else(|| self.host.clone());
        let refused = matches!(answer, Answer::Decided(v) if v.action.interferes()) || matches!(answer, Answer::Undecidable(_));
        // Behind another proxy nobody vouches for a name but the one that it was asked for.
        let vouched = self.through.is_none() || name == self.host;
        if vouched && (self.shared.options.bypass.matches(&name, self.port) || (connection.is_bypassed() && !refused)) {
            let reports = connection.report(Action::Allow, FlowOutcome::Bypassed.as_str(), Telling::IfMatched);
            self.bypass(&name, reports).await;
            return;
        }
        let (Ok(leaf), Ok(destination)) = (LeafName::parse(&name), self.destination(Scheme::Https, &name, Alpn::None)) else {
            self.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new());
            return;
        };
        let offered: Vec<Alpn> = hello.alpn.iter().map(|name| Alpn::from_wire(Some(name))).filter(|a| *a != Alpn::None).collect();
        if offered.is_empty() && !hello.alpn.is_empty() {
            // Neither HTTP/1.1 nor HTTP/2: not ours to read.
            let reports = connection.report(Action::Allow, FlowOutcome::Passthrough.as_str(), Telling::IfMatched);
            if self.original.is_none() && name != self.host {
                (self.host, self.server) = (name, None);
            }
            self.pass_reported(FlowOutcome::Passthrough, reports).await;
            return;
        }
        let fallback = if offered.contains(&Alpn::Http11) || offered.is_empty() { Alpn::Http11 } else { Alpn::H2 };
        let (destination, problem) = if refused {
            // Nothing will be asked of the server, so it is not even dialled.
            (destination.with_alpn(fallback), None)
        } else {
            let pools = &self.shared.pools;
            let negotiated = match self.server.take().filter(|_| self.original.is_some()) {
                Some(server) => pools.negotiate_over(destination.clone(), &offered, server).await,
                None => pools.negotiate(destination.clone(), &offered).await,
            };
            match negotiated {
                Ok(destination) => (destination, None),
                Err(error) => (destination.with_alpn(fallback), Some(error)),
            }
        };
        let chosen = if offered.is_empty() {
            Alpn::None
        } else if destination.alpn() == Alpn::None {
            fallback
        } else {
            destination.alpn()
        };
        let Ok(config) = self.shared.leaves.server_config(&leaf, chosen) else {
            self.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new());
            return;
        };
        let client = Peeked::new(self.seen, self.client);
        let accepted = timeout(self.shared.options.hello_timeout, TlsAcceptor::from(config).accept(client)).await;
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let outcome = handshake_outcome(&error);
                let telling = if outcome == FlowOutcome::CaRejected { Telling::Always } else { Telling::IfMatched };
                self.shared.recorder.flow(outcome, connection.report(Action::Allow, outcome.as_str(), telling));
                return;
            }
            Err(_) => {
                self.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new());
                return;
            }
        };
        let outcome = problem.as_ref().map_or(FlowOutcome::Intercepted, flow_outcome);
        self.shared.recorder.flow(outcome, Vec::new());
        let speaks = if chosen == Alpn::H2 { Speaks::Http2 } else { Speaks::Http1 };
        let route = Route {
            connection,
            destination,
            sni: hello.sni.as_deref().map(SmolStr::new),
            alpn: match chosen {
                Alpn::H2 => Some("h2"),
                Alpn::Http11 => Some("http/1.1"),
                Alpn::None => None,
            },
            problem,
            shared: self.shared,
        };
        serve_http(route, stream, speaks).await;
    }

    /// HTTP without TLS inside the tunnel.
    async fn http(mut self, speaks: Speaks) {
        let name = match (self.original, &self.through) {
            // Whoever says to be a proxy can say to have reached any name.
            (Some(original), Some(_)) => original.ip().to_string(),
            (Some(_), None) => self.name_in_host().await,
            (None, _) => self.host.clone(),
        };
        let (mut connection, _) = self.asking.open(&self.shared.inspector, self.asking.observe(Channel::Http));
        let _ = connection.hello(&name, self.port, &Hello::default());
        let alpn = if speaks == Speaks::Http2 { Alpn::H2 } else { Alpn::Http11 };
        let Ok(destination) = self.destination(Scheme::Http, &name, alpn) else {
            self.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new());
            return;
        };
        if let Some(server) = self.server.take() {
            self.shared.pools.offer(&destination, UpstreamStream::Plain(server));
        }
        self.shared.recorder.flow(FlowOutcome::Plain, Vec::new());
        let route = Route { connection, destination, sni: None, alpn: None, problem: None, shared: self.shared.clone() };
        serve_http(route, Peeked::new(self.seen, self.client), speaks).await;
    }

    /// The name that a redirected request gives its server, if it is one of the address that the program
    /// asked for; else the address. Nothing else vouches for a name without TLS.
    async fn name_in_host(&mut self) -> String {
        let mut buffer = BytesMut::from(&self.seen[..]);
        let read = async {
            while !head_is_over(&buffer) && buffer.len() < PEEK {
                buffer.reserve(4096);
                if !matches!(self.client.read_buf(&mut buffer).await, Ok(read) if read > 0) {
                    break;
                }
            }
        };
        // What did not come in time is waited for by whoever serves the request.
        let _ = timeout(self.shared.options.hello_timeout, read).await;
        self.seen = buffer.freeze();
        match host_in(&self.seen) {
            Some(name) if name != self.host && self.leads_to_original(&name).await => name,
            _ => self.host.clone(),
        }
    }

    pub(crate) async fn pass(self, outcome: FlowOutcome) {
        let (mut connection, _) = self.asking.open(&self.shared.inspector, self.asking.observe(Channel::Https));
        let answer = connection.hello(&self.host, self.port, &Hello::default());
        let refused = matches!(answer, Answer::Decided(v) if v.action.interferes());
        let action = if refused { Action::Block } else { Action::Allow };
        let outcome = if refused { FlowOutcome::Refused } else { outcome };
        let reports = connection.report(action, outcome.as_str(), Telling::IfMatched);
        if refused {
            self.shared.recorder.flow(outcome, reports);
            return self.break_off();
        }
        self.pass_reported(outcome, reports).await;
    }

    /// A program that knows of no proxy sees a reset where its server cannot be had, as an end would be taken for an answer.
    fn break_off(self) {
        if self.original.is_some() {
            let _ = self.client.set_zero_linger();
        }
    }

    /// A connection to where the program wanted to go, or through that proxy.
    async fn dial(&self, original: SocketAddr) -> Result<TcpStream, DialError> {
        let dialer = self.shared.dialer.within(self.netns);
        let tcp = dialer.address(original).await?;
        match &self.through {
            Some(head) => dialer.through(tcp, original, head).await,
            None => Ok(tcp),
        }
    }

    /// Copies bytes both ways, untouched.
    async fn pass_reported(mut self, outcome: FlowOutcome, reports: Vec<Sighting>) {
        let server = match (self.server.take(), self.original) {
            (Some(server), _) => Ok(server),
            (None, Some(original)) => self.dial(original).await,
            (None, None) => self.shared.dialer.within(self.netns).tcp(&self.host, self.port).await,
        };
        let mut server = match server {
            Ok(server) => server,
            Err(error) => {
                self.shared.recorder.flow(flow_outcome(&error.into()), reports);
                return self.break_off();
            }
        };
        self.shared.recorder.flow(outcome, reports);
        if server.write_all(&self.seen).await.is_err() {
            return self.break_off();
        }
        let mut stop = self.shared.stopping();
        tokio::select! {
            copied = copy_bidirectional_with_sizes(&mut self.client, &mut server, COPY, COPY) => if copied.is_err() {
                // One side broke off: the other is to see that, and not an end.
                let _ = (self.client.set_zero_linger(), server.set_zero_linger());
            },
            _ = stop.wait_for(|stopping| *stopping) => {}
        }
    }
}

/// Who sent the first byte.
enum Spoke {
    Client(usize),
    Server,
    Nobody(SendError),
}

/// A client that does not know our authority says so with one of these alerts (RFC 8446 section
/// 6.2). `ech_required` is another matter: it means that the client wanted ECH, not that it pins.
fn handshake_outcome(error: &io::Error) -> FlowOutcome {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked,
        )) => FlowOutcome::CaRejected,
        _ => FlowOutcome::ClientFailed,
    }
}
