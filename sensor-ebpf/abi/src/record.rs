//! The records of the ring buffer.

use crate::{Address, Owner, filled};

/// Values of [`Header::kind`].
pub mod kind {
    /// A [`super::Connect`].
    pub const CONNECT: u16 = 1;
    /// A [`super::Close`].
    pub const CLOSE: u16 = 2;
    /// A [`super::Hello`] and the bytes after it.
    pub const HELLO: u16 = 3;
    /// A [`super::Start`].
    pub const START: u16 = 4;
}

/// Values of [`Connect::decision`].
pub mod decision {
    /// Goes direct: the scope asks for nothing else.
    pub const OBSERVED: u16 = 0;
    /// Sent to our listener.
    pub const REDIRECTED: u16 = 1;
    /// Goes direct, as it could not be redirected.
    pub const FAIL_OPEN: u16 = 2;
    /// Refused, as it could not be redirected.
    pub const FAIL_CLOSED: u16 = 3;
    /// A datagram to port 443, refused.
    pub const QUIC_REFUSED: u16 = 4;
    /// Goes direct, as the proxy does not dial such addresses.
    pub const EXEMPT: u16 = 5;
    /// Goes direct to a loopback address on which nobody listens, so that it fails as it would without us.
    pub const NOBODY: u16 = 6;
    /// Refused, as the proxy could not connect to that address a moment ago.
    pub const FAILED_LATELY: u16 = 7;
}

/// Values of [`Close::end`].
pub mod end {
    /// The connection was established, and is over.
    pub const CLOSED: u32 = 0;
    /// It was never established: refused, timed out, or given up.
    pub const REFUSED: u32 = 1;
    /// No SYN left: no route, for example.
    pub const UNSENT: u32 = 2;
}

/// What each record begins with.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u16,
    /// The number of meaningful bytes in this record, this header included. The kernel reserves hellos in a few sizes; the bytes beyond
    /// `len` are left over from earlier records.
    pub len: u16,
    /// 0.
    pub reserved: u32,
}

/// `connect()` was called, or a datagram was refused.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The header.
    pub header: Header,
    /// One of [`decision`].
    pub decision: u16,
    /// A [`crate::Reason`] plus one, or 0.
    pub reason: u16,
    /// 0.
    pub reserved: u32,
    /// Who, and where to.
    pub owner: Owner,
}

/// A connection that was reported as [`Connect`] is over.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The header.
    pub header: Header,
    /// The socket's cookie.
    pub cookie: u64,
    /// Bytes received; the peer's FIN counts as one.
    pub received: u64,
    /// Bytes sent that the peer acknowledged; the SYN and the FIN count as one each.
    pub sent: u64,
    /// Nanoseconds from `connect()` to the end.
    pub duration_ns: u64,
    /// The local address.
    pub local: Address,
    /// One of [`end`].
    pub end: u32,
    /// 0.
    pub reserved: u32,
}

/// A part of what a connection sent first, where that resembles a TLS ClientHello. `length` bytes follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The header.
    pub header: Header,
    /// The socket's cookie.
    pub cookie: u64,
    /// Where in the connection's bytes this part begins.
    pub offset: u32,
    /// How many bytes are still to come, as far as is known; 0 for the last part.
    pub remaining: u32,
    /// How many bytes follow this struct.
    pub length: u32,
    /// 1 if the hello is longer than what is captured (16 KiB).
    pub truncated: u32,
}

/// A process called `execve`, and runs another program from now on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The header.
    pub header: Header,
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`) of the call: with the process's number it names what runs.
    pub began_ns: u64,
    /// The id of the cgroup (the inode number of its folder) that the process is in.
    pub cgroup: u64,
    /// The process, in the first PID namespace.
    pub tgid: u32,
    /// The user id, in the first user namespace.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// 0.
    pub reserved: u32,
    /// The name of the file that was asked for, without its folders, cut: the kernel's own at this moment. The process may choose
    /// another one later.
    pub comm: [u8; 16],
}

filled!(Header, 8);
filled!(Connect, 16 + 104);
filled!(Close, 8 + 4 * 8 + 24 + 8);
filled!(Hello, 16 + 16);
filled!(Start, 8 + 2 * 8 + 4 * 4 + 16);
