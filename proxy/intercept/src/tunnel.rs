//! Inside a CONNECT, or a connection that the kernel redirected: what the client sends first decides
//! between reading and passing on.

mod chained;
mod names;
mod pass;
mod peek;
mod plain;
mod tls;

use crate::{
    asking::Asking,
    first_bytes::Speaks,
    passages,
    route::{Toward, flow_outcome},
    shared::Shared,
};
use bytes::{Bytes, BytesMut};
use gnomon_http::{Alpn, ConnectHead, Destination, Dialer, InvalidDestination, NearEnd, Scheme, UpstreamTcp};
use gnomon_inspect::Passage;
use gnomon_observe::{Channel, Field, Observation};
use gnomon_record::FlowOutcome;
use peek::{First, Spoke};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// The original destination of a redirected program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Original {
    pub address: SocketAddr,
    /// The namespace and user it would have connected from.
    pub near: NearEnd,
}

pub(crate) struct Tunnel {
    pub(crate) shared: Arc<Shared>,
    asking: Asking,
    /// The name or address that the client asked for.
    host: String,
    port: u16,
    pub(crate) client: TcpStream,
    /// Bytes of the client that are not passed on yet.
    pub(crate) seen: Bytes,
    /// Bytes of the server that are not passed on yet.
    heard: BytesMut,
    /// The address that a redirected program asked for: the connection goes there and nowhere else.
    original: Option<SocketAddr>,
    /// The namespace and user that connections are made from.
    near: NearEnd,
    /// How the proxy at `original` was asked for the tunnel to `host`, if there is one.
    through: Option<ConnectHead>,
    /// The connection to `host`, or to `original`, where it is open already.
    pub(crate) server: Option<UpstreamTcp>,
    /// True if the server has sent the settings of HTTP/2 before the client said anything.
    settings: bool,
}

/// Serves one tunnel. `early` is what the client sent right behind its CONNECT.
pub(crate) async fn serve(shared: Arc<Shared>, asking: Asking, host: String, port: u16, client: TcpStream, early: Bytes) {
    let (heard, near) = (BytesMut::new(), asking.near(None));
    // Normalised as for dialling, so that both see the same host.
    let host = gnomon_kit::address(&host).map_or(host, |address| address.to_string());
    let mut tunnel = Tunnel {
        shared,
        asking,
        host,
        port,
        client,
        seen: early,
        heard,
        original: None,
        near,
        through: None,
        server: None,
        settings: false,
    };
    let (seat, recorder) = (tunnel.asking.seat.clone(), tunnel.shared.recorder.clone());
    let leads = async move {
        let first = match timeout(tunnel.shared.options.hello_timeout, tunnel.peek()).await {
            Ok(Ok(first)) => first,
            Ok(Err(_)) | Err(_) => First::Gone,
        };
        tunnel.asking.seat.takes_a_step();
        tunnel.take(first).await;
    };
    // Neither the tunnel nor a handshake in it is a request.
    if seat.until_needed(leads).await.is_none() && seat.gave_up() {
        recorder.flow(FlowOutcome::Silent, Vec::new());
    }
}

/// Serves a connection that the kernel redirected. `server` is the one that the program wanted, unless
/// a rule refuses it whatever is said.
pub(crate) async fn serve_original(
    shared: Arc<Shared>,
    asking: Asking,
    original: Original,
    client: TcpStream,
    server: Option<UpstreamTcp>,
) {
    let Original { address, near } = original;
    let (host, port) = (address.ip().to_string(), address.port());
    let (seen, heard) = (Bytes::new(), BytesMut::new());
    Tunnel { shared, asking, host, port, client, seen, heard, original: Some(address), near, through: None, server, settings: false }
        .begin()
        .await;
}

impl Tunnel {
    /// The observation of the connection before its client sends anything. Where the client asks for an address, that is the destination.
    fn observe(&self, channel: Channel) -> Observation {
        let mut seen = self.asking.observe(channel);
        if self.original.is_none() && self.host.parse::<IpAddr>().is_ok() {
            seen.set(Field::DestinationAddress, self.host.as_str());
            seen.set(Field::DestinationPort, self.port);
        }
        seen
    }

    /// The tunnel inside of the one that the proxy at `original` opened.
    pub(crate) fn within(self, head: ConnectHead, host: String, port: u16) -> Self {
        Self { host, port, through: Some(head), settings: false, ..self }
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
                _ = stop.wait_for(|stopping| *stopping) => return self.break_off(),
            };
            tunnel.seen = buffer.freeze();
            spoke
        } else {
            Ok(Ok(Spoke::Client(tunnel.seen.len())))
        };
        let first = match spoke {
            // It may have nothing to send and still want to read.
            Ok(Ok(Spoke::Client(0))) => First::Unread(Passage::NothingSaid),
            Ok(Ok(Spoke::Client(_))) => match timeout(hello_timeout, tunnel.peek()).await {
                Ok(Ok(first)) => first,
                Ok(Err(_)) | Err(_) => First::Gone,
            },
            Ok(Ok(Spoke::Server)) => First::Unread(passages::server_first(&tunnel.heard)),
            Ok(Ok(Spoke::Nobody(error))) => First::Unreachable(error),
            Ok(Err(_)) | Err(_) => First::Gone,
        };
        self.take(first).await;
    }

    async fn take(self, first: First) {
        match first {
            First::Tls(_) | First::Http(_) | First::ToProxy | First::Connect if !self.shared.inspector.is_armed() => {
                self.pass(Passage::Disarmed).await
            }
            First::Tls(hello) => self.tls(&hello).await,
            First::Http(speaks) => self.http(speaks, Toward::Server).await,
            First::ToProxy => self.http(Speaks::Http1, Toward::Proxy).await,
            First::Connect => {
                let _asks = self.asking.seat.begin();
                if let Some(tunnel) = self.may_ask().await {
                    chained::serve(tunnel).await;
                }
            }
            // A server that expects HTTP/2 has spoken, and its client says something else.
            First::Unread(Passage::Foreign | Passage::LineUnfinished) if self.settings => self.pass(Passage::ServerFirstHttp).await,
            First::Unread(passage) => self.pass(passage).await,
            First::Nothing => self.says_nothing().await,
            First::Unreachable(error) => self.shared.recorder.flow(flow_outcome(&error), Vec::new()),
            First::Gone => self.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new()),
        }
    }

    /// Dials and resolves for the client's principal, from its namespace and user.
    fn dialer(&self) -> Dialer {
        self.shared.dialer.from(self.near).on_behalf_of(self.asking.principal())
    }

    /// The destination of what is read: by name, and at the address that the program chose.
    fn destination(&self, scheme: Scheme, name: &str, alpn: Alpn) -> Result<Destination, InvalidDestination> {
        let destination = Destination::new(scheme, name, self.port, alpn, self.asking.principal())?.from(self.near);
        Ok(match self.original {
            Some(original) => destination.at(original).through(self.through.clone()),
            None => destination,
        })
    }
}
