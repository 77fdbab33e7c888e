//! TLS inside a tunnel: opened with a certificate of ours and read, unless it is bypassed or its server speaks something of its own.

use super::{
    Tunnel,
    pass::Words,
    peek::{CLIENT_SPEAKS, LINE_GOES_ON, Spoke, either},
};
use crate::{
    asking::SILENCE,
    first_bytes::{Line, Speaks, first_line, last_line},
    framing::Twice,
    passages::{line_goes_on, passage_of, server_first},
    peek::Peeked,
    reply,
    resets::Resets as _,
    route::{Client, Route, Toward, flow_outcome},
    serve::serve as serve_http,
    splice::{Said, splice, splice_watching},
    unverified,
};
use bytes::BytesMut;
use gnomon_engine::Answer;
use gnomon_http::{Alpn, Destination, Scheme, SendError, UpstreamStream};
use gnomon_inspect::{Connection, Hello, Passage, Passed, Telling};
use gnomon_observe::{Channel, Field};
use gnomon_record::FlowOutcome;
use gnomon_tls::LeafName;
use gnomon_wire::hello::{ClientHello, Transport};
use rustls::AlertDescription;
use smol_str::SmolStr;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

type Opened = TlsStream<Peeked<TcpStream>>;

impl Tunnel {
    pub(super) async fn tls(mut self, hello: &ClientHello) {
        // The server goes by the name in the client's handshake, so that is where the
        // connection goes: a name on the bypass list cannot be borrowed for another server.
        let name = hello.sni.clone().unwrap_or_else(|| self.host.clone());
        let (mut connection, refused) = self.named(hello, &name).await;
        // Behind another proxy only the name that it was asked for is certain.
        let vouched = self.through.is_none() || name == self.host;
        if vouched && (self.shared.options.bypass.matches(&name, self.port) || (connection.is_bypassed() && !refused)) {
            match connection.pass(Passage::Bypass, FlowOutcome::Bypassed.as_str()) {
                Passed::Go(_) => return self.bypass(&connection, &name).await,
                // Refused by its name: reported as other refusals are.
                Passed::Refuse(..) if refused => {}
                // Requests may be sent there, but it may not pass unread.
                Passed::Refuse(_, text, reports) => {
                    self.shared.recorder.flow(FlowOutcome::Refused, reports);
                    return self.refuse(Words::TlsAlert, &text).await;
                }
            }
        }
        let (Ok(leaf), Ok(destination)) = (LeafName::parse(&name), self.destination(Scheme::Https, &name, Alpn::None)) else {
            // A name that no certificate can be for: its server may take it all the same.
            return self.pass_judged(&connection, Passage::ServerNameInvalid).await;
        };
        let foreign = if hello.alpn.is_empty() { Passage::ForeignInTls } else { Passage::ForeignAlpn };
        let offered: Vec<Alpn> = hello.alpn.iter().map(|name| Alpn::from_wire(Some(name))).filter(|a| *a != Alpn::None).collect();
        if !refused && offered.is_empty() && !hello.alpn.is_empty() && self.server_is_foreign(&destination, &hello.alpn).await {
            if self.original.is_none() && name != self.host {
                (self.host, self.server) = (name, None);
            } else if self.original.is_some() && !self.leads_to_original(&name).await {
                connection = self.under_all_names(connection, &[]).await;
            }
            return self.pass_judged(&connection, Passage::ForeignAlpn).await;
        }
        let Agreed { destination, chosen, problem } = match refused {
            // Nothing will be sent to the server, so it is not even dialled.
            true => Agreed::on(destination.with_alpn(fallback(&offered)), &offered, None),
            false => self.agree(destination, &offered).await,
        };
        if let Some(SendError::Tls(error)) = &problem
            && Client::of(&self.asking) == Client::Unaware
        {
            let reports = unverified::reports(&self.shared, &self.asking.seat, &connection, &error.to_string());
            self.shared.recorder.flow(FlowOutcome::UpstreamUnverified, reports);
            return self.alert(unverified::alert(error)).await;
        }
        let Ok(config) = self.shared.leaves.server_config(&leaf, chosen) else {
            let outcome = FlowOutcome::ClientFailed;
            self.shared.recorder.flow(outcome, connection.broken_off(outcome.as_str(), Telling::Always));
            return;
        };
        let client = Peeked::new(self.seen, self.client);
        let accepted = timeout(self.shared.options.hello_timeout, TlsAcceptor::from(config).accept(client)).await;
        let stream = match accepted {
            Ok(Ok(stream)) => {
                self.asking.seat.takes_a_step();
                stream
            }
            Ok(Err(error)) => {
                let outcome = handshake_outcome(&error);
                let telling = if outcome == FlowOutcome::CaRejected { Telling::Always } else { Telling::IfMatched };
                self.shared.recorder.flow(outcome, connection.broken_off(outcome.as_str(), telling));
                return;
            }
            Err(_) => {
                self.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new());
                return;
            }
        };
        let route = Route {
            connection,
            destination,
            toward: Toward::Server,
            client: Client::of(&self.asking),
            sni: hello.sni.as_deref().map(SmolStr::new),
            alpn: match chosen {
                Alpn::H2 => Some("h2"),
                Alpn::Http11 => Some("http/1.1"),
                Alpn::None => None,
            },
            problem,
            departure: None,
            seat: self.asking.seat.clone(),
            twice: Twice::default(),
            learnt: Arc::default(),
            shared: self.shared,
        };
        if chosen == Alpn::None {
            // Only the bytes themselves can show that this is HTTP.
            return within(route, stream, if refused { Far::Refused } else { Far::Unopened }, foreign).await;
        }
        let outcome = route.problem.as_ref().map_or(FlowOutcome::Intercepted, flow_outcome);
        route.shared.recorder.flow(outcome, Vec::new());
        serve_http(route, stream, if chosen == Alpn::H2 { Speaks::Http2 } else { Speaks::Http1 }).await;
    }

    /// The connection as judged by all the names that its server has, this one in the client's handshake first, and whether one of them is
    /// refused.
    async fn named(&self, hello: &ClientHello, name: &str) -> (Connection, bool) {
        let mut seen = self.observe(Channel::Https);
        seen.set(Field::Ja4, hello.ja4(Transport::Tcp));
        let (mut connection, _) = self.asking.open(&self.shared.inspector, seen);
        let facts = Hello { sni: hello.sni.as_deref(), random: Some(&hello.random) };
        let answer = connection.hello(&self.host, self.port, &facts);
        let mut refused = matches!(answer, Answer::Decided(v) if v.action.interferes()) || matches!(answer, Answer::Undecidable(_));
        if hello.sni.is_some() && self.original.is_none() && name != self.host {
            // The name that the client asked the proxy for still counts beside the one inside.
            connection = self.under_all_names(connection, &[&self.host]).await;
            refused |= connection.is_refused();
        }
        if hello.sni.is_none() {
            // By address: the names that the address has count as well.
            connection = self.under_all_names(connection, &[]).await;
            refused |= connection.is_refused();
        }
        (connection, refused)
    }

    /// The protocol that the server chooses of those that its client offers.
    async fn agree(&mut self, destination: Destination, offered: &[Alpn]) -> Agreed {
        let pools = &self.shared.pools;
        let negotiated = match self.server.take().filter(|_| self.original.is_some()) {
            Some(server) => pools.negotiate_over(destination.clone(), offered, server).await,
            None => pools.negotiate(destination.clone(), offered).await,
        };
        match negotiated {
            Ok(destination) => Agreed::on(destination, offered, None),
            Err(error) => Agreed::on(destination.with_alpn(fallback(offered)), offered, Some(error)),
        }
    }

    /// Passes on unread what is bypassed by this name. A name is no more than what the client says: it
    /// must not buy the way to another server. Where it does not lead to the address that a program asked
    /// for, the connection goes to where it does lead.
    async fn bypass(mut self, connection: &Connection, name: &str) {
        let named = self.original.is_none_or(|original| name != original.ip().to_string());
        if named && self.through.is_none() && self.original.is_some() && !self.leads_to_original(name).await {
            (self.original, self.server) = (None, None);
        } else if self.original.is_none() && name != self.host {
            self.server = None;
        }
        self.host = name.to_owned();
        self.pass_judged(connection, Passage::Bypass).await;
    }

    /// True if the server, offered the client's ALPN protocols, chooses one that is not HTTP. Its certificate does not matter
    /// for that: nothing is sent to it, and the connection that is used verifies it.
    async fn server_is_foreign(&mut self, destination: &Destination, offered: &[Vec<u8>]) -> bool {
        let tcp = self.server.take();
        self.heard.clear();
        let asked = self.shared.pools.choice(destination, offered, tcp);
        let chosen = timeout(self.shared.options.hello_timeout, asked).await;
        // HTTP by its older names is read as what it is: servers that choose them speak HTTP/1.1 all the same.
        let is_http = |name: &[u8]| Alpn::from_wire(Some(name)) != Alpn::None || matches!(name, b"http/1.0" | b"http/0.9");
        matches!(chosen, Ok(Some(name)) if !is_http(&name))
    }
}

/// What is spoken with client and server.
struct Agreed {
    destination: Destination,
    /// With the client.
    chosen: Alpn,
    /// Why the server cannot be reached, if it cannot.
    problem: Option<SendError>,
}

impl Agreed {
    fn on(destination: Destination, offered: &[Alpn], problem: Option<SendError>) -> Self {
        let chosen = match destination.alpn() {
            _ if offered.is_empty() => Alpn::None,
            Alpn::None => fallback(offered),
            chosen => chosen,
        };
        Self { destination, chosen, problem }
    }
}

/// The protocol with a client whose server has chosen none.
fn fallback(offered: &[Alpn]) -> Alpn {
    if offered.contains(&Alpn::Http11) || offered.is_empty() { Alpn::Http11 } else { Alpn::H2 }
}

/// The server's side of a connection whose client is read.
enum Far {
    /// A rule refuses the server by its name: it is not connected to.
    Refused,
    Unopened,
    Open(UpstreamStream),
    Unreachable(SendError),
}

/// Serves what is inside of TLS for which no protocol was agreed on: HTTP is served, the rest asks the judge, by the name `foreign` where it is
/// no HTTP.
async fn within(mut route: Route, mut client: Opened, mut far: Far, foreign: Passage) {
    let (mut seen, mut heard) = (BytesMut::new(), BytesMut::new());
    let mut stop = route.shared.stopping();
    // A program that knows of no proxy may keep a connection for as long as its server allows before it says anything.
    let silence = if route.client == Client::Unaware { Duration::MAX } else { SILENCE };
    let spoke = tokio::select! {
        spoke = timeout(silence, said_first(&route, &mut client, (&mut seen, &mut heard), &mut far, foreign)) => spoke.unwrap_or(Ok(Inside::Gone)),
        _ = stop.wait_for(|stopping| *stopping) => return client.resets(),
    };
    let passage = match spoke {
        Ok(Inside::Http(speaks)) => {
            match far {
                Far::Open(server) if speaks == Speaks::Http1 => route.shared.pools.offer(&route.destination, server),
                Far::Unreachable(error) => route.problem = Some(error),
                Far::Open(_) | Far::Refused | Far::Unopened => {}
            }
            if speaks == Speaks::Http2 {
                route.destination = route.destination.with_alpn(Alpn::H2);
            }
            let outcome = route.problem.as_ref().map_or(FlowOutcome::Intercepted, flow_outcome);
            route.shared.recorder.flow(outcome, Vec::new());
            return serve_http(route, Peeked::new(seen.freeze(), client), speaks).await;
        }
        Ok(Inside::Unread(passage)) => passage,
        Ok(Inside::Silent) => {
            let (Passed::Go(reports) | Passed::Refuse(_, _, reports)) =
                route.connection.pass(Passage::NothingSaid, FlowOutcome::ClientFailed.as_str());
            return route.shared.recorder.flow(FlowOutcome::ClientFailed, reports);
        }
        Ok(Inside::Gone) | Err(_) => return route.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new()),
    };
    let _passes = route.seat.begin();
    let outcome = FlowOutcome::of(passage);
    let reports = match route.connection.pass(passage, outcome.as_str()) {
        Passed::Go(reports) => reports,
        Passed::Refuse(_, text, reports) => {
            route.shared.recorder.flow(FlowOutcome::Refused, reports);
            if matches!(passage, Passage::RequestLineOdd | Passage::RequestLineLong | Passage::OtherProxyOdd) {
                let _ = client.write_all(reply::raw_refusal(&text).as_bytes()).await;
            }
            let _ = client.shutdown().await;
            return;
        }
    };
    let server = match far {
        Far::Open(server) => Ok(server),
        Far::Unopened => route.shared.pools.open(&route.destination).await,
        Far::Unreachable(error) => Err(error),
        // Refused by its name, which passing would be as well.
        Far::Refused => return route.shared.recorder.flow(FlowOutcome::Refused, reports),
    };
    let mut server = match server {
        Ok(server) => server,
        Err(error) => return route.shared.recorder.flow(flow_outcome(&error), reports),
    };
    route.shared.recorder.metrics().passed(passage);
    route.shared.recorder.flow(outcome, reports);
    let said = Said { client: seen.freeze(), server: heard.freeze() };
    let seat = route.seat.clone();
    if line_goes_on(passage, &said.client) || passage == foreign && first_line(&said.client) == Line::Strange {
        let may_pass = |line: Line, said: &[u8]| {
            let unread = if matches!(line, Line::Http(_)) { Line::Odd } else { line };
            let passage = passage_of(unread, said, foreign).unwrap_or(Passage::RequestLineOdd);
            match route.connection.pass(passage, FlowOutcome::of(passage).as_str()) {
                Passed::Go(reports) => {
                    route.shared.recorder.metrics().passed(passage);
                    route.shared.recorder.report(reports);
                    true
                }
                Passed::Refuse(_, _, reports) => {
                    route.shared.recorder.flow(FlowOutcome::Refused, reports);
                    false
                }
            }
        };
        splice_watching(&mut client, &mut server, said, &seat, may_pass).await;
    } else {
        splice(&mut client, &mut server, said, &seat).await;
    }
}

/// The first bytes inside of TLS, classified.
enum Inside {
    Http(Speaks),
    Unread(Passage),
    /// The client ended before it sent anything.
    Silent,
    Gone,
}

async fn said_first(
    route: &Route,
    client: &mut Opened,
    (seen, heard): (&mut BytesMut, &mut BytesMut),
    far: &mut Far,
    foreign: Passage,
) -> io::Result<Inside> {
    loop {
        seen.reserve(4096);
        let read = if seen.is_empty() {
            match first_byte(route, client, seen, far, heard).await? {
                Spoke::Client(read) => read,
                Spoke::Server | Spoke::Nobody(_) => return Ok(Inside::Unread(server_first(heard))),
            }
        } else {
            match timeout(LINE_GOES_ON, client.read_buf(seen)).await {
                Ok(read) => read?,
                Err(_) => return Ok(Inside::Unread(Passage::LineUnfinished)),
            }
        };
        match if read == 0 { last_line(seen) } else { first_line(seen) } {
            _ if seen.is_empty() => return Ok(Inside::Silent),
            Line::Http(speaks) => return Ok(Inside::Http(speaks)),
            line => {
                if let Some(passage) = passage_of(line, seen, foreign) {
                    return Ok(Inside::Unread(passage));
                }
            }
        }
    }
}

async fn first_byte(route: &Route, client: &mut Opened, seen: &mut BytesMut, far: &mut Far, heard: &mut BytesMut) -> io::Result<Spoke> {
    if let Far::Unopened = far {
        tokio::select! {
            read = client.read_buf(seen) => return read.map(Spoke::Client),
            () = sleep(CLIENT_SPEAKS) => {}
        }
        *far = match route.shared.pools.open(&route.destination).await {
            Ok(server) => Far::Open(server),
            Err(error) => Far::Unreachable(error),
        };
    }
    match far {
        Far::Open(server) => either(client, seen, server, heard).await,
        // A client that speaks first gets the reason in its own protocol.
        Far::Refused | Far::Unopened | Far::Unreachable(_) => client.read_buf(seen).await.map(Spoke::Client),
    }
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
