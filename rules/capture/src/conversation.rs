//! One TCP connection: both directions in order, and what it comes to when it has ended.

use crate::{
    Unread,
    http::{self, Message, Parsed},
    packet::Segment,
    reassembly::Reassembly,
};
use gnomon_wire::hello::{ClientHello, HelloParser, HelloStatus, Opening, opening};
use std::{net::SocketAddr, time::Duration};

/// Most bytes of a direction that wait for a missing segment.
const MAX_WAITING: usize = 1 << 20;
/// The most bytes that are kept of a TLS connection: its ClientHello.
const MAX_HELLO: usize = 64 << 10;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// The end that opened the connection, as far as the capture shows it.
    pub client: SocketAddr,
    /// The end that it was opened to.
    pub server: SocketAddr,
}

/// Something found in a capture.
#[derive(Debug)]
pub enum Captured {
    /// A plaintext HTTP/1 request and, if it was captured, its answer.
    Exchange {
        /// The two endpoints.
        endpoints: Endpoints,
        /// The connection's first packet: time since the Unix epoch.
        when: Duration,
        /// The request.
        request: Message,
        /// The answer.
        response: Option<Message>,
    },
    /// The beginning of a TLS connection; what follows is hidden.
    Hello {
        /// The two endpoints.
        endpoints: Endpoints,
        /// The connection's first packet: time since the Unix epoch.
        when: Duration,
        /// The parsed ClientHello, boxed for its size.
        hello: Box<ClientHello>,
    },
    /// A connection, or the rest of one, that could not be judged.
    Unread {
        /// The two endpoints.
        endpoints: Endpoints,
        /// The connection's first packet: time since the Unix epoch.
        when: Duration,
        /// The reason.
        reason: Unread,
    },
}

#[derive(Debug)]
struct Direction {
    order: Reassembly,
    bytes: Vec<u8>,
    /// All bytes that were carried, kept or not.
    carried: u64,
    has_ended: bool,
    was_cut: bool,
}

impl Direction {
    fn new() -> Self {
        Self { order: Reassembly::new(MAX_WAITING), bytes: Vec::new(), carried: 0, has_ended: false, was_cut: false }
    }

    fn take(&mut self, segment: &Segment<'_>, bound: usize) {
        if segment.syn {
            self.order.syn(segment.sequence);
        }
        let sequence = if segment.syn { segment.sequence.wrapping_add(1) } else { segment.sequence };
        self.carried += segment.payload.len() as u64;
        self.has_ended |= segment.ends;
        if self.bytes.len() < bound {
            self.order.segment(sequence, segment.payload, &mut self.bytes);
        } else {
            self.was_cut |= !segment.payload.is_empty();
        }
    }
}

/// A connection while it lasts.
#[derive(Debug)]
pub(crate) struct Conversation {
    endpoints: Endpoints,
    when: Duration,
    began: bool,
    from_client: Direction,
    from_server: Direction,
}

impl Conversation {
    /// Begins with its first captured segment. Without a SYN, the lower port is taken for the server's.
    pub(crate) fn begin(segment: &Segment<'_>, when: Duration) -> Self {
        let forth = Endpoints { client: segment.source, server: segment.destination };
        let back = Endpoints { client: segment.destination, server: segment.source };
        let endpoints = match (segment.syn, segment.ack) {
            (true, true) => back,
            (true, false) => forth,
            (false, _) if segment.destination.port() <= segment.source.port() => forth,
            (false, _) => back,
        };
        Self { endpoints, when, began: segment.syn, from_client: Direction::new(), from_server: Direction::new() }
    }

    /// Adds a segment; `bound` is the most bytes that are kept of a direction.
    pub(crate) fn take(&mut self, segment: &Segment<'_>, bound: usize) {
        let bound = if self.is_tls() { MAX_HELLO } else { bound };
        let direction = if segment.source == self.endpoints.client { &mut self.from_client } else { &mut self.from_server };
        direction.take(segment, bound);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.from_client.has_ended && self.from_server.has_ended
    }

    /// True if this segment opens a new connection between the same two ends.
    pub(crate) fn is_over_for(&self, segment: &Segment<'_>) -> bool {
        segment.syn && !segment.ack && (self.from_client.has_ended || self.from_server.has_ended)
    }

    /// Memory held, approximately, in bytes.
    pub(crate) fn kept(&self) -> usize {
        let of = |direction: &Direction| direction.bytes.len() + direction.order.waiting();
        of(&self.from_client) + of(&self.from_server)
    }

    /// Bytes that TLS hides.
    pub(crate) fn hidden(&self) -> u64 {
        if self.is_tls() { self.from_client.carried + self.from_server.carried } else { 0 }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(opening(&self.from_client.bytes), Opening::Tls | Opening::OddTls)
    }

    /// Ends the connection and hands out its pending messages.
    pub(crate) fn end(self, mut found: impl FnMut(Captured)) {
        let Self { endpoints, when, began, from_client, from_server } = self;
        let unread = |reason| Captured::Unread { endpoints, when, reason };
        let bytes = from_client.bytes.as_slice();
        if bytes.is_empty() {
            if from_client.carried + from_server.carried > 0 {
                found(unread(if from_client.order.is_broken() { Unread::Missing } else { Unread::Other }));
            }
            return;
        }
        if matches!(opening(bytes), Opening::Tls | Opening::OddTls) {
            return found(match HelloParser::new().push(bytes) {
                Ok(HelloStatus::Complete(hello)) => Captured::Hello { endpoints, when, hello },
                _ => unread(if from_client.order.is_broken() { Unread::Missing } else { Unread::Other }),
            });
        }
        if bytes.starts_with(b"PRI * HTTP/2.0\r\n") {
            return found(unread(Unread::Http2));
        }
        let Parsed { exchanges, rest } = http::exchanges(bytes, &from_server.bytes);
        let none = exchanges.is_empty();
        for (request, response) in exchanges {
            found(Captured::Exchange { endpoints, when, request, response });
        }
        let reason = match rest {
            _ if from_client.was_cut || from_server.was_cut => Some(Unread::TooLong),
            _ if from_client.order.is_broken() || from_server.order.is_broken() => Some(Unread::Missing),
            Some(_) if !began && none => Some(Unread::Begun),
            rest => rest,
        };
        if let Some(reason) = reason {
            found(unread(reason));
        }
    }
}
