//! Records of the kernel half, from bytes to types.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use gnomon_sensor_abi::{self as abi, Reason, decision, end, kind};

use crate::bytes::read;
use crate::owner::{Comm, Owner, address};

/// The decision on a `connect()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let go direct, as nothing else was asked for.
    Observed,
    /// Sent to our listener.
    Redirected,
    /// To be redirected, but let go direct.
    FailOpen(Reason),
    /// To be redirected, but refused.
    FailClosed(Reason),
    /// A datagram to port 443, refused.
    QuicRefused,
    /// Let go direct in a scope that redirects, as the proxy does not dial such addresses.
    Exempt,
    /// Let go direct to a loopback address without a listener.
    Nobody,
    /// Refused, as the proxy could not connect to that address a moment ago.
    FailedLately,
}

/// `connect()` was called, or a datagram was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The owner and destination.
    pub owner: Owner,
    /// The decision.
    pub decision: Decision,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Established, then closed.
    Closed,
    /// Never established: refused, timed out or aborted.
    Refused,
    /// No SYN left, as there was no route for example.
    Unsent,
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The socket's cookie.
    pub cookie: u64,
    /// Bytes received; the peer's FIN counts as one.
    pub received: u64,
    /// Bytes sent and acknowledged; the SYN and the FIN count as one each.
    pub sent: u64,
    /// From `connect()` to the end.
    pub duration: Duration,
    /// The local address, if a SYN left.
    pub local: Option<SocketAddr>,
    /// Its end.
    pub end: End,
}

/// A part of what a connection sent first, where that resembles a TLS ClientHello. Parts come in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The socket's cookie.
    pub cookie: u64,
    /// The offset of this part in the connection's bytes.
    pub offset: u32,
    /// The number of bytes still to come, as far as is known; 0 for the last part.
    pub remaining: u32,
    /// True if the hello is longer than the capture limit (16 KiB).
    pub truncated: bool,
    /// The bytes, as sent.
    pub bytes: &'a [u8],
}

/// A process called `execve`, and runs another program from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Time since boot (`CLOCK_BOOTTIME`) of the call, in nanoseconds: as an owner's generation has it.
    pub began_ns: NonZeroU64,
    /// The id of the cgroup; see [`crate::CgroupId`].
    pub cgroup: u64,
    /// The process, in the first PID namespace.
    pub pid: u32,
    /// The user, in the first user namespace.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The name of the file that was asked for, without its folders, at most 15 bytes.
    pub name: Comm,
}

/// A report of the kernel half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A connection begins.
    Connect(Connect),
    /// The first bytes it sent.
    Hello(Hello<'a>),
    /// A connection ended.
    Close(Close),
    /// A program was started.
    Start(Start),
}

/// Bytes that the kernel half cannot have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The record is shorter than it says, or than its kind needs.
    #[error("a record of {0} bytes is too short")]
    Short(usize),
    /// No such kind.
    #[error("no kind of record has the number {0}")]
    Kind(u16),
    /// A field has a value that it cannot have.
    #[error("{0} cannot have that value")]
    Field(&'static str),
    /// The ring's own structure is broken; its records are lost.
    #[error("the ring buffer is inconsistent")]
    Ring,
}

impl<'a> Record<'a> {
    /// Reads a record; `bytes` may be longer than it.
    ///
    /// # Errors
    /// When the kernel half cannot have written this.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let short = Malformed::Short(bytes.len());
        let header: abi::Header = read(bytes).ok_or(short)?;
        let bytes = bytes.get(..usize::from(header.len)).ok_or(short)?;
        let short = Malformed::Short(bytes.len());
        match header.kind {
            kind::CONNECT => Connect::new(&read(bytes).ok_or(short)?).map(Self::Connect),
            kind::CLOSE => Close::new(&read(bytes).ok_or(short)?).map(Self::Close),
            kind::HELLO => {
                let raw: abi::Hello = read(bytes).ok_or(short)?;
                let length = usize::try_from(raw.length).map_err(|_| short)?;
                let rest = bytes.get(size_of::<abi::Hello>()..).and_then(|rest| rest.get(..length)).ok_or(short)?;
                let truncated = raw.truncated != 0;
                Ok(Self::Hello(Hello { cookie: raw.cookie, offset: raw.offset, remaining: raw.remaining, truncated, bytes: rest }))
            }
            kind::START => Start::new(&read(bytes).ok_or(short)?).map(Self::Start),
            other => Err(Malformed::Kind(other)),
        }
    }
}

impl Connect {
    fn new(raw: &abi::Connect) -> Result<Self, Malformed> {
        let reason = || {
            let index = usize::from(raw.reason).checked_sub(1).ok_or(Malformed::Field("reason"))?;
            Reason::ALL.get(index).copied().ok_or(Malformed::Field("reason"))
        };
        let decision = match raw.decision {
            decision::OBSERVED => Decision::Observed,
            decision::REDIRECTED => Decision::Redirected,
            decision::FAIL_OPEN => Decision::FailOpen(reason()?),
            decision::FAIL_CLOSED => Decision::FailClosed(reason()?),
            decision::QUIC_REFUSED => Decision::QuicRefused,
            decision::EXEMPT => Decision::Exempt,
            decision::NOBODY => Decision::Nobody,
            decision::FAILED_LATELY => Decision::FailedLately,
            _ => return Err(Malformed::Field("decision")),
        };
        Ok(Self { owner: Owner::new(&raw.owner).ok_or(Malformed::Field("original"))?, decision })
    }
}

impl Start {
    fn new(raw: &abi::Start) -> Result<Self, Malformed> {
        let began_ns = NonZeroU64::new(raw.began_ns).ok_or(Malformed::Field("began"))?;
        Ok(Self { began_ns, cgroup: raw.cgroup, pid: raw.tgid, uid: raw.uid, gid: raw.gid, name: Comm::from(raw.comm) })
    }
}

impl Close {
    fn new(raw: &abi::Close) -> Result<Self, Malformed> {
        let end = match raw.end {
            end::CLOSED => End::Closed,
            end::REFUSED => End::Refused,
            end::UNSENT => End::Unsent,
            _ => return Err(Malformed::Field("end")),
        };
        Ok(Self {
            cookie: raw.cookie,
            received: raw.received,
            sent: raw.sent,
            duration: Duration::from_nanos(raw.duration_ns),
            local: address(&raw.local),
            end,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Record::parse(&bytes);
        }

        #[test]
        fn a_plausible_header_before_any_bytes_does_not_either(
            kind in 0_u16..6, len in 0_u16..700, rest in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut bytes = [kind.to_ne_bytes(), len.to_ne_bytes()].concat();
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&rest);
            if let Ok(Record::Hello(hello)) = Record::parse(&bytes) {
                prop_assert!(hello.bytes.len() <= usize::from(len));
            }
        }
    }

    #[test]
    fn a_hello_has_only_the_bytes_that_it_says_although_more_were_reserved() {
        let mut bytes = vec![0_u8; 32 + 640];
        bytes[..2].copy_from_slice(&kind::HELLO.to_ne_bytes());
        bytes[2..4].copy_from_slice(&35_u16.to_ne_bytes());
        bytes[24..28].copy_from_slice(&3_u32.to_ne_bytes());
        bytes[32..37].copy_from_slice(b"abcde");
        let Ok(Record::Hello(hello)) = Record::parse(&bytes) else { panic!("not a hello") };
        assert_eq!(hello.bytes, b"abc");
    }
}
