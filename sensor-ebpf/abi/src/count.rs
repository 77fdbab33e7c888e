//! What is counted, per program.
//!
//! For each program `Attempted = Delivered + RingFull + TableFull + Filtered` holds exactly when nothing is in flight. The other counters
//! say more about some of those.

use crate::filled;

/// The programs, in the order of their counters.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// `connect()` over IPv4; each call is an attempt.
    Connect4 = 0,
    /// `connect()` over IPv6.
    Connect6 = 1,
    /// A datagram without `connect()` over IPv4.
    Sendmsg4 = 2,
    /// A datagram without `connect()` over IPv6.
    Sendmsg6 = 3,
    /// The end of a tracked connection.
    SockOps = 4,
    /// A tracked socket is closed; those whose SYN left and that still have an end to come are filtered, as
    /// [`Program::SockOps`] reports them.
    Release = 5,
    /// A segment with payload of a tracked connection whose first bytes are not yet known; of a
    /// segment that is reported in several parts, each part counts.
    Hello = 6,
    /// `getpeername()` over IPv4.
    Peer4 = 7,
    /// `getpeername()` over IPv6.
    Peer6 = 8,
    /// The socket options that the proxy asks for; other options are not counted.
    Sockopt = 9,
    /// `execve`; those that are remembered and not reported are filtered.
    Exec = 10,
}

impl Program {
    /// All, in order.
    pub const ALL: [Self; 11] = [
        Self::Connect4,
        Self::Connect6,
        Self::Sendmsg4,
        Self::Sendmsg6,
        Self::SockOps,
        Self::Release,
        Self::Hello,
        Self::Peer4,
        Self::Peer6,
        Self::Sockopt,
        Self::Exec,
    ];

    /// The name that `bpftool prog` shows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect4 => "gn_connect4",
            Self::Connect6 => "gn_connect6",
            Self::Sendmsg4 => "gn_sendmsg4",
            Self::Sendmsg6 => "gn_sendmsg6",
            Self::SockOps => "gn_sockops",
            Self::Release => "gn_release",
            Self::Hello => "gn_hello",
            Self::Peer4 => "gn_getpeer4",
            Self::Peer6 => "gn_getpeer6",
            Self::Sockopt => "gn_getsockopt",
            Self::Exec => "gn_exec",
        }
    }
}

/// Why a connection that was to be redirected was not.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The proxy has not shown life for a second.
    StaleHeartbeat = 0,
    /// Nobody listens in that network namespace.
    NoListener = 1,
    /// Somebody else listens there.
    ForeignListener = 2,
    /// The socket is bound to a device, so that it could not reach the loopback address.
    BoundDevice = 3,
    /// The flow table is full, so that the proxy could not learn where the connection was to go.
    TableFull = 4,
}

/// How many [`Reason`]s there are.
pub const REASONS: usize = 5;

impl Reason {
    /// All, in order.
    pub const ALL: [Self; REASONS] = [Self::StaleHeartbeat, Self::NoListener, Self::ForeignListener, Self::BoundDevice, Self::TableFull];

    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StaleHeartbeat => "stale_heartbeat",
            Self::NoListener => "no_listener",
            Self::ForeignListener => "foreign_listener",
            Self::BoundDevice => "bound_device",
            Self::TableFull => "table_full",
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The program had something to decide.
    Attempted,
    /// It was reported; for programs that report nothing: they did their work.
    Delivered,
    /// The ring buffer was full.
    RingFull,
    /// A table was full.
    TableFull,
    /// It does not concern us.
    Filtered,
    /// Of those delivered: not all of it could be kept.
    Truncated,
    /// The connection was sent to our listener.
    Redirected,
    /// A datagram to port 443 was refused.
    QuicRefused,
    /// The connection was left alone in a scope that redirects, as the proxy does not dial such addresses: link-local,
    /// cloud metadata, multicast, broadcast.
    Exempt,
    /// The connection to a loopback address was left alone in a scope that redirects, as nobody listens there.
    Nobody,
    /// The connection was refused, as the proxy could not connect to that address a moment ago.
    FailedLately,
    /// The connection went direct instead of to our listener.
    FailOpen(Reason),
    /// The connection was refused instead of going to our listener.
    FailClosed(Reason),
}

impl Outcome {
    /// All, in order.
    pub const ALL: [Self; 11 + 2 * REASONS] = {
        let mut all = [Self::Attempted; 11 + 2 * REASONS];
        let plain = [
            Self::Attempted,
            Self::Delivered,
            Self::RingFull,
            Self::TableFull,
            Self::Filtered,
            Self::Truncated,
            Self::Redirected,
            Self::QuicRefused,
            Self::Exempt,
            Self::Nobody,
            Self::FailedLately,
        ];
        let mut at = 0;
        while at < plain.len() {
            all[at] = plain[at];
            at += 1;
        }
        let mut reason = 0;
        while reason < REASONS {
            all[at + reason] = Self::FailOpen(Reason::ALL[reason]);
            all[at + REASONS + reason] = Self::FailClosed(Reason::ALL[reason]);
            reason += 1;
        }
        all
    };

    /// The name in metrics; [`Outcome::reason`] says more about two of them.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attempted => "attempted",
            Self::Delivered => "delivered",
            Self::RingFull => "dropped_ring_full",
            Self::TableFull => "dropped_table_full",
            Self::Filtered => "filtered",
            Self::Truncated => "truncated",
            Self::Redirected => "redirected",
            Self::QuicRefused => "quic_refused",
            Self::Exempt => "exempt",
            Self::Nobody => "nobody_listens",
            Self::FailedLately => "failed_lately",
            Self::FailOpen(_) => "fail_open",
            Self::FailClosed(_) => "fail_closed",
        }
    }

    /// Why a connection was not redirected.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::FailOpen(reason) | Self::FailClosed(reason) => Some(reason),
            _ => None,
        }
    }
}

/// How many counters each program has.
pub const TALLY: usize = 24;

impl Outcome {
    /// The place of this counter in a [`Tally`].
    #[must_use]
    #[inline(always)]
    pub const fn index(self) -> usize {
        match self {
            Self::Attempted => 0,
            Self::Delivered => 1,
            Self::RingFull => 2,
            Self::TableFull => 3,
            Self::Filtered => 4,
            Self::Truncated => 5,
            Self::Redirected => 6,
            Self::QuicRefused => 7,
            Self::FailOpen(reason) => 8 + reason as usize,
            Self::FailClosed(reason) => 8 + REASONS + reason as usize,
            Self::Exempt => 8 + 2 * REASONS,
            Self::Nobody => 9 + 2 * REASONS,
            Self::FailedLately => 10 + 2 * REASONS,
        }
    }
}

const _: () = assert!(11 + 2 * REASONS <= TALLY);

/// One program's counters on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// By [`Outcome::index`].
    pub counts: [u64; TALLY],
}

filled!(Tally, TALLY * 8);
