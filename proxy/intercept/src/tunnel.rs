//! Inside a CONNECT: what the client sends first decides between reading and passing on.

use crate::{
    FlowOutcome,
    forward::{Route, flow_outcome},
    front::Asking,
    peek::Peeked,
    proxy::Shared,
    serve::{Speaks, serve as serve_http},
};
use bytes::{Bytes, BytesMut};
use gnomon_engine::Answer;
use gnomon_http::{Alpn, Destination, LeafName, Scheme, SendError};
use gnomon_inspect::{Connection, Hello, Telling};
use gnomon_observe::{Action, Channel};
use gnomon_wire::hello::{ClientHello, HelloParser, HelloStatus};
use rustls::AlertDescription;
use smol_str::SmolStr;
use std::{io, sync::Arc, time::Duration};
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
/// Bytes per direction of a connection that is passed on.
const COPY: usize = 32 << 10;
/// The client preface of HTTP/2 without TLS (RFC 9113 section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the client said first.
enum First {
    Tls(Box<ClientHello>),
    Http(Speaks),
    /// Neither, or TLS that nobody could read.
    Other,
    /// Nothing yet, and the server spoke.
    ServerSpoke(TcpStream),
    /// Nothing yet, and the server cannot be reached.
    Unreachable(SendError),
    Gone,
}

struct Tunnel {
    shared: Arc<Shared>,
    asking: Asking,
    host: String,
    port: u16,
    client: TcpStream,
    seen: Bytes,
}

/// Serves one tunnel. `early` is what the client sent right behind its CONNECT.
pub(crate) async fn serve(shared: Arc<Shared>, asking: Asking, host: String, port: u16, client: TcpStream, early: Bytes) {
    let mut tunnel = Tunnel { shared, asking, host, port, client, seen: early };
    let first = match timeout(tunnel.shared.options.hello_timeout, tunnel.peek()).await {
        Ok(Ok(first)) => first,
        Ok(Err(_)) | Err(_) => First::Gone,
    };
    match first {
        First::Tls(hello) => tunnel.tls(&hello).await,
        First::Http(speaks) => tunnel.http(speaks).await,
        First::Other => tunnel.pass(FlowOutcome::Passthrough, None).await,
        First::ServerSpoke(server) => tunnel.pass(FlowOutcome::Passthrough, Some(server)).await,
        First::Unreachable(error) => tunnel.shared.recorder.flow(flow_outcome(&error), Vec::new()),
        First::Gone => tunnel.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new()),
    }
}

impl Tunnel {
    /// Reads until it is clear what the client speaks. A client that waits for the server is noticed
    /// by the server's first byte.
    async fn peek(&mut self) -> io::Result<First> {
        let mut buffer = BytesMut::from(&self.seen[..]);
        let mut hello = HelloParser::new();
        let mut parsed = 0;
        let mut server: Option<TcpStream> = None;
        let first = loop {
            if !buffer.is_empty() {
                let status = hello.push(&buffer[parsed..]);
                parsed = buffer.len();
                match status {
                    Ok(HelloStatus::Complete(hello)) => break First::Tls(hello),
                    Ok(HelloStatus::Incomplete) if buffer.len() < PEEK => {}
                    Ok(HelloStatus::NotTls) => match http_like(&buffer) {
                        HttpLike::Yes(speaks) => break First::Http(speaks),
                        HttpLike::Maybe => {}
                        HttpLike::No => break First::Other,
                    },
                    Ok(HelloStatus::Incomplete) | Err(_) => break First::Other,
                }
            }
            buffer.reserve(4096);
            let read = if buffer.is_empty() {
                match self.first_byte(&mut buffer, &mut server).await? {
                    Spoke::Client(read) => read,
                    Spoke::Server => match server.take() {
                        Some(server) => break First::ServerSpoke(server),
                        None => break First::Gone,
                    },
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

    async fn first_byte(&mut self, buffer: &mut BytesMut, server: &mut Option<TcpStream>) -> io::Result<Spoke> {
        if server.is_none() {
            tokio::select! {
                read = self.client.read_buf(buffer) => return read.map(Spoke::Client),
                () = sleep(CLIENT_SPEAKS) => {}
            }
            match self.shared.dialer.tcp(&self.host, self.port).await {
                Ok(stream) => *server = Some(stream),
                Err(error) => return Ok(Spoke::Nobody(error.into())),
            }
        }
        let Some(server) = server else { return Ok(Spoke::Server) };
        tokio::select! {
            read = self.client.read_buf(buffer) => read.map(Spoke::Client),
            readable = server.readable() => readable.map(|()| Spoke::Server),
        }
    }

    async fn tls(self, hello: &ClientHello) {
        let (mut connection, _) = Connection::open(&self.shared.inspector, self.asking.observe(Channel::Https));
        let facts = Hello { sni: hello.sni.as_deref(), random: Some(&hello.random) };
        let answer = connection.hello(&self.host, self.port, &facts);
        // What the client names in its handshake is what the server will go by, so that is where the
        // connection goes: a name on the bypass list cannot be borrowed for another server.
        let name = hello.sni.clone().unwrap_or_else(|| self.host.clone());
        let refused = matches!(answer, Answer::Decided(v) if v.action.interferes()) || matches!(answer, Answer::Undecidable(_));
        if self.shared.options.bypass.matches(&name, self.port) || (connection.is_bypassed() && !refused) {
            let reports = connection.report(Action::Allow, FlowOutcome::Bypassed.as_str(), Telling::IfMatched);
            let tunnel = Tunnel { host: name, ..self };
            tunnel.pass_reported(FlowOutcome::Bypassed, None, reports).await;
            return;
        }
        let (Ok(leaf), Ok(destination)) =
            (LeafName::parse(&name), Destination::new(Scheme::Https, &name, self.port, Alpn::None, self.asking.principal()))
        else {
            self.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new());
            return;
        };
        let offered: Vec<Alpn> = hello.alpn.iter().map(|name| Alpn::from_wire(Some(name))).filter(|a| *a != Alpn::None).collect();
        if offered.is_empty() && !hello.alpn.is_empty() {
            // Neither HTTP/1.1 nor HTTP/2: not ours to read.
            let reports = connection.report(Action::Allow, FlowOutcome::Passthrough.as_str(), Telling::IfMatched);
            let tunnel = Tunnel { host: name, ..self };
            tunnel.pass_reported(FlowOutcome::Passthrough, None, reports).await;
            return;
        }
        let fallback = if offered.contains(&Alpn::Http11) || offered.is_empty() { Alpn::Http11 } else { Alpn::H2 };
        let (destination, problem) = if refused {
            // Nothing will be asked of the server, so it is not even dialled.
            (destination.with_alpn(fallback), None)
        } else {
            match self.shared.pools.negotiate(destination.clone(), &offered).await {
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
            client: self.asking.client,
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
    async fn http(self, speaks: Speaks) {
        let (mut connection, _) = Connection::open(&self.shared.inspector, self.asking.observe(Channel::Http));
        let _ = connection.hello(&self.host, self.port, &Hello::default());
        let alpn = if speaks == Speaks::Http2 { Alpn::H2 } else { Alpn::Http11 };
        let Ok(destination) = Destination::new(Scheme::Http, &self.host, self.port, alpn, self.asking.principal()) else {
            self.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new());
            return;
        };
        self.shared.recorder.flow(FlowOutcome::Plain, Vec::new());
        let route = Route {
            connection,
            destination,
            client: self.asking.client,
            sni: None,
            alpn: None,
            problem: None,
            shared: self.shared.clone(),
        };
        serve_http(route, Peeked::new(self.seen, self.client), speaks).await;
    }

    async fn pass(self, outcome: FlowOutcome, server: Option<TcpStream>) {
        let (mut connection, _) = Connection::open(&self.shared.inspector, self.asking.observe(Channel::Https));
        let answer = connection.hello(&self.host, self.port, &Hello::default());
        let refused = matches!(answer, Answer::Decided(v) if v.action.interferes());
        let action = if refused { Action::Block } else { Action::Allow };
        let outcome = if refused { FlowOutcome::Refused } else { outcome };
        let reports = connection.report(action, outcome.as_str(), Telling::IfMatched);
        if refused {
            self.shared.recorder.flow(outcome, reports);
            return;
        }
        self.pass_reported(outcome, server, reports).await;
    }

    /// Copies bytes both ways, untouched.
    async fn pass_reported(mut self, outcome: FlowOutcome, server: Option<TcpStream>, reports: Vec<gnomon_inspect::Sighting>) {
        let server = match server {
            Some(server) => Ok(server),
            None => self.shared.dialer.tcp(&self.host, self.port).await,
        };
        let mut server = match server {
            Ok(server) => server,
            Err(error) => {
                self.shared.recorder.flow(flow_outcome(&error.into()), reports);
                return;
            }
        };
        self.shared.recorder.flow(outcome, reports);
        if server.write_all(&self.seen).await.is_err() {
            return;
        }
        let mut stop = self.shared.stopping();
        tokio::select! {
            _ = copy_bidirectional_with_sizes(&mut self.client, &mut server, COPY, COPY) => {}
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

enum HttpLike {
    Yes(Speaks),
    Maybe,
    No,
}

/// Whether these first bytes are HTTP. Read until they match or first differ, so that a split
/// request line is no way around.
fn http_like(bytes: &[u8]) -> HttpLike {
    let shared = bytes.len().min(H2_PREFACE.len());
    if bytes[..shared] == H2_PREFACE[..shared] {
        return if shared == H2_PREFACE.len() { HttpLike::Yes(Speaks::Http2) } else { HttpLike::Maybe };
    }
    const LONGEST_LINE: usize = 16 << 10;
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
        let begins = bytes.iter().take(24).all(|b| b.is_ascii_graphic() || *b == b' ' || *b == b'\r');
        return if begins && bytes.len() < LONGEST_LINE { HttpLike::Maybe } else { HttpLike::No };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    if line.is_empty() {
        // An empty line before the request line is allowed (RFC 9112 section 2.2).
        return if bytes.len() > end + 1 { http_like(&bytes[end + 1..]) } else { HttpLike::Maybe };
    }
    if line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") { HttpLike::Yes(Speaks::Http1) } else { HttpLike::No }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8]) -> &'static str {
        match http_like(bytes) {
            HttpLike::Yes(Speaks::Http1) => "http1",
            HttpLike::Yes(Speaks::Http2) => "http2",
            HttpLike::Maybe => "maybe",
            HttpLike::No => "no",
        }
    }

    #[test]
    fn every_prefix_of_a_request_line_stays_undecided_until_its_end() {
        let line = b"POST /mcp HTTP/1.1\r\n";
        for end in 1..line.len() {
            assert_eq!(kind(&line[..end]), "maybe", "{end}");
        }
        assert_eq!(kind(line), "http1");
        for end in 1..H2_PREFACE.len() {
            assert_eq!(kind(&H2_PREFACE[..end]), "maybe", "{end}");
        }
        assert_eq!(kind(H2_PREFACE), "http2");
    }

    #[test]
    fn other_protocols_are_not_taken_for_http() {
        assert_eq!(kind(b"CONNECT {\"verbose\":false}\r\n"), "no");
        assert_eq!(kind(b"SSH-2.0-OpenSSH_9.2\r\n"), "no");
        assert_eq!(kind(b"\x00\x00\x00\x08\x04\xd2\x16\x2f"), "no");
    }
}
