//! The ends of connections, as counted in `gnomon_flows_total{outcome}`.

use gnomon_inspect::Passage;

/// The outcome of one client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowOutcome {
    /// TLS was read.
    Intercepted,
    /// HTTP without TLS was read.
    Plain,
    /// Passed on unread because the configuration or a rule says so.
    Bypassed,
    /// Passed on unread because the kill switch disarmed gnomon.
    Disarmed,
    /// Passed on unread because it is neither TLS nor HTTP.
    Passthrough,
    /// Passed on unread because it is meant for another proxy: a request without TLS, or a tunnel that it did not open in a
    /// way that could be followed.
    OtherProxy,
    /// Refused: not authenticated, own listener, metadata address, loop.
    Refused,
    /// Came to a listener of redirected connections, and it is not known that it was redirected; or a program of this host asked the
    /// proxy itself, and whose it is got lost.
    Unowned,
    /// Came from another network namespace, in which no socket could be opened to dial from.
    OutOfReach,
    /// Refused: the user or address has as many connections as one may and none ended in time, or there are no more to upstreams and
    /// it has its share.
    OverShare,
    /// Passed on unread because the user has as many connections as one may, from a scope that enforces nothing.
    BeyondShare,
    /// Sent nothing, and others needed its place.
    Silent,
    /// The upstream could not be reached.
    Unreachable,
    /// The upstream's certificate was not accepted.
    UpstreamUnverified,
    /// The client does not accept our certificate authority.
    CaRejected,
    /// The client broke off or sent nonsense.
    ClientFailed,
}

impl FlowOutcome {
    /// The outcome of a connection that is passed on for this reason.
    #[must_use]
    pub const fn of(passage: Passage) -> Self {
        match passage {
            Passage::Bypass => Self::Bypassed,
            Passage::Disarmed => Self::Disarmed,
            Passage::BeyondShare => Self::BeyondShare,
            Passage::OtherProxy | Passage::OtherProxyOdd | Passage::ConnectWithin => Self::OtherProxy,
            Passage::HelloUnreadable
            | Passage::HelloTooLong
            | Passage::ServerNameInvalid
            | Passage::ForeignAlpn
            | Passage::ForeignInTls
            | Passage::Foreign
            | Passage::RequestLineOdd
            | Passage::RequestLineLong
            | Passage::LineUnfinished
            | Passage::NothingSaid
            | Passage::ServerFirst
            | Passage::ServerFirstHttp
            | Passage::Upgraded => Self::Passthrough,
            // Messages of a connection that is read.
            Passage::WebSocket
            | Passage::Grpc
            | Passage::RequestWithin
            | Passage::NoRoom
            | Passage::Rows
            | Passage::EventsUnreadable
            | Passage::ForeignBody => Self::Intercepted,
        }
    }

    /// All outcomes.
    pub const ALL: [FlowOutcome; 16] = [
        Self::Intercepted,
        Self::Plain,
        Self::Bypassed,
        Self::Disarmed,
        Self::Passthrough,
        Self::OtherProxy,
        Self::Refused,
        Self::Unowned,
        Self::OutOfReach,
        Self::OverShare,
        Self::BeyondShare,
        Self::Silent,
        Self::Unreachable,
        Self::UpstreamUnverified,
        Self::CaRejected,
        Self::ClientFailed,
    ];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intercepted => "intercepted",
            Self::Plain => "plain",
            Self::Bypassed => "bypassed",
            Self::Disarmed => "disarmed",
            Self::Passthrough => "passthrough",
            Self::OtherProxy => "other_proxy",
            Self::Refused => "refused",
            Self::Unowned => "unowned",
            Self::OutOfReach => "out_of_reach",
            Self::OverShare => "over_share",
            Self::BeyondShare => "beyond_share",
            Self::Silent => "silent",
            Self::Unreachable => "unreachable",
            Self::UpstreamUnverified => "upstream_unverified",
            Self::CaRejected => "ca_rejected",
            Self::ClientFailed => "client_failed",
        }
    }
}
