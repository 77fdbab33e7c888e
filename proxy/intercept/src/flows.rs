//! How connections end, as counted in `gnomon_flows_total{outcome}`.

/// The outcome of one client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowOutcome {
    /// TLS was read.
    Intercepted,
    /// HTTP without TLS was read.
    Plain,
    /// Passed on unread because the configuration or a rule says so.
    Bypassed,
    /// Passed on unread because it is neither TLS nor HTTP.
    Passthrough,
    /// Refused: not authenticated, own listener, metadata address, loop.
    Refused,
    /// Came to a listener of redirected connections, and it is not known that it was redirected.
    Unowned,
    /// Wanted an address that means another machine to the proxy: loopback of another network namespace.
    OutOfReach,
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
    /// All outcomes.
    pub const ALL: [FlowOutcome; 11] = [
        Self::Intercepted,
        Self::Plain,
        Self::Bypassed,
        Self::Passthrough,
        Self::Refused,
        Self::Unowned,
        Self::OutOfReach,
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
            Self::Passthrough => "passthrough",
            Self::Refused => "refused",
            Self::Unowned => "unowned",
            Self::OutOfReach => "out_of_reach",
            Self::Unreachable => "unreachable",
            Self::UpstreamUnverified => "upstream_unverified",
            Self::CaRejected => "ca_rejected",
            Self::ClientFailed => "client_failed",
        }
    }
}
