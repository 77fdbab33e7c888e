//! The route of a connection's requests: all that is known of it once it is known to speak HTTP.

use crate::{
    asking::Asking,
    client_seats::ClientSeat,
    departure::Departure,
    framing::Twice,
    headers::{remove_hop_headers, remove_hop_headers_to_a_proxy},
    learnt::Learnt,
    shared::Shared,
};
use gnomon_http::{Destination, DialError, SendError};
use gnomon_inspect::Connection;
use gnomon_record::FlowOutcome;
use http::{HeaderMap, Request, Version, uri};
use smol_str::SmolStr;
use std::sync::Arc;

/// The destination of a connection's requests.
#[derive(Clone)]
pub(crate) struct Route {
    pub shared: Arc<Shared>,
    /// The seat of the client's connection.
    pub seat: Arc<ClientSeat>,
    pub connection: Connection,
    pub destination: Destination,
    pub toward: Toward,
    pub client: Client,
    /// The server name of the ClientHello.
    pub sni: Option<SmolStr>,
    /// The protocol that ALPN chose between client and proxy.
    pub alpn: Option<&'static str>,
    /// The error of reaching the server, known before the first request.
    pub problem: Option<SendError>,
    /// Whether a request on this connection said twice where it ends.
    pub twice: Twice,
    /// What its requests have shown so far.
    pub learnt: Arc<Learnt>,
    /// How far the client is with what it has to say, over HTTP/1.1.
    pub departure: Option<Arc<Departure>>,
}

/// Whether a client knows that it speaks to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// A client that does: errors are answers of ours.
    Knows,
    /// A redirected client. A server that breaks off breaks off: it would take words of ours for the server's.
    Unaware,
}

impl Client {
    pub fn of(asking: &Asking) -> Self {
        if asking.owned.as_ref().is_some_and(|owned| owned.redirected) { Self::Unaware } else { Self::Knows }
    }
}

/// Marks an answer that is not given: the connection, or over HTTP/2 the stream, ends without it.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the server gave no answer")]
pub(crate) struct BrokenOff;

/// The kind of server at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toward {
    Server,
    /// Another proxy: each request names its server.
    Proxy,
}

impl Toward {
    /// The other end that a request is for. Where the connection's first request was for its server, a later one may be for what a proxy alone can
    /// fetch; over TLS the name in the handshake says what is at the other end.
    pub fn of<B>(route: &Route, request: &Request<B>) -> Self {
        let fetched_otherwise = request.uri().scheme().is_some_and(|scheme| ![uri::Scheme::HTTP, uri::Scheme::HTTPS].contains(scheme));
        match route.toward {
            Self::Server if fetched_otherwise && request.version() < Version::HTTP_2 && route.sni.is_none() => Self::Proxy,
            toward => toward,
        }
    }

    pub fn remove_hop_headers(self, headers: &mut HeaderMap) {
        match self {
            Self::Server => remove_hop_headers(headers),
            Self::Proxy => remove_hop_headers_to_a_proxy(headers),
        }
    }
}

/// The outcome by which a connection is counted whose server cannot be reached.
pub(crate) fn flow_outcome(error: &SendError) -> FlowOutcome {
    match error {
        SendError::Dial(DialError::Forbidden { .. }) => FlowOutcome::Refused,
        SendError::Dial(DialError::OutOfReach { .. }) => FlowOutcome::OutOfReach,
        SendError::Dial(DialError::Short { .. }) => FlowOutcome::OverShare,
        SendError::Tls(_) => FlowOutcome::UpstreamUnverified,
        _ => FlowOutcome::Unreachable,
    }
}
