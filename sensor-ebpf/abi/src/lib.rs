//! The types that the kernel half and the user half of the sensor share: map keys and values, and
//! the records of the ring buffer.
//!
//! Every type is `#[repr(C)]` without padding, which is asserted at compile time, so that no byte of
//! kernel memory leaks and both halves agree on every offset. Values that an enum would hold are
//! plain integers here: what comes out of the kernel's memory is parsed into an enum once, by the
//! user half. Numbers are in host byte order unless a field says otherwise.
//!
//! What this crate deliberately does not do: parse, or keep compatibility between versions. Both
//! halves are built from one tree, and the object is part of the program that loads it.

#![no_std]

#[cfg(feature = "user")]
extern crate std;

mod count;
mod record;
mod scope;

pub use count::{Outcome, Program, REASONS, Reason, TALLY, Tally};
pub use record::{Close, Connect, Header, Hello, Start, decision, end, kind};
pub use scope::{Config, Scope, fail, mode, ports, quic, starts};

/// `AF_INET`.
pub const AF_INET: u16 = 2;
/// `AF_INET6`.
pub const AF_INET6: u16 = 10;

/// `level` of the private socket option that answers with an [`Owner`]: no protocol of the kernel
/// uses this number, so without our program the kernel refuses it.
pub const OWNER_LEVEL: i32 = 0x676e;
/// `optname` of that option.
pub const OWNER_OPTION: i32 = 1;

/// How old the proxy's heartbeat may be, in nanoseconds.
pub const STALE_NS: u64 = 1_000_000_000;

/// The last 96 bits of an IPv4 address mapped into IPv6 (RFC 4291 2.5.5.2), as a word in network order.
pub const MAPPED: u32 = 0xffff_u32.to_be();

/// An address and a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address in network order; an IPv4 address is the first word, the others are 0.
    pub words: [u32; 4],
    /// The port.
    pub port: u16,
    /// [`AF_INET`] or [`AF_INET6`]; 0 for no address.
    pub family: u16,
    /// 0.
    pub reserved: u32,
}

/// Who made a connection, and where to: known when `connect()` was called.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The kernel's socket cookie: unique until the machine is restarted.
    pub cookie: u64,
    /// The cookie of the network namespace.
    pub netns: u64,
    /// The id of the cgroup (the inode number of its folder) that the calling task was in.
    pub cgroup: u64,
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`) when `connect()` was called.
    pub connected_ns: u64,
    /// Nanoseconds since boot when the process last called `execve`; 0 when that was not seen.
    pub generation_ns: u64,
    /// The process, in the first PID namespace.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// The user id, in the first user namespace.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// Where the program wanted to connect to.
    pub original: Address,
    /// [`Scope::id`] of the scope that decided.
    pub scope: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// The thread's name, for display only: a process chooses it.
    pub comm: [u8; 16],
}

/// Bits of [`Owner::flags`].
pub mod flag {
    /// The connection goes to our listener instead of [`super::Owner::original`].
    pub const REDIRECTED: u32 = 1;
    /// A SYN was about to leave. Kernel half only.
    pub const SYN_SENT: u32 = 2;
}

/// How an owner is found from the proxy's end of a connection. By both addresses and the program's port alone it would be
/// taken for another one: a port may be connected to many others at a time, and to the same one after the other. So the
/// sequence number tells them apart, which the kernel chooses at random (RFC 6528), and the proxy's port is compared.
/// Addresses are as in [`Address::words`]; mapped ones are turned into IPv4.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerKey {
    /// The namespace's cookie; 0 on kernels whose `getsockopt` programs cannot know it.
    pub netns: u64,
    /// The program's address.
    pub from: [u32; 4],
    /// The proxy's address.
    pub to: [u32; 4],
    /// The program's port.
    pub from_port: u16,
    /// [`AF_INET`] or [`AF_INET6`].
    pub family: u16,
    /// The sequence number of the first byte that the program sends.
    pub first_seq: u32,
}

/// An address that the proxy could not connect to lately, for whom and from where.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedKey {
    /// The cookie of the program's network namespace.
    pub netns: u64,
    /// The address as in [`Address::words`]; mapped ones are turned into IPv4.
    pub words: [u32; 4],
    /// The port.
    pub port: u16,
    /// [`AF_INET`] or [`AF_INET6`].
    pub family: u16,
    /// The user whose program it was: filters by user may let others through.
    pub uid: u32,
}

/// Asserts that a type's fields fill it.
macro_rules! filled {
    ($type:ty, $size:expr) => {
        const _: () = assert!(size_of::<$type>() == $size);
        #[cfg(feature = "user")]
        // SAFETY: `repr(C)`, `Copy`, only integers and arrays of integers, and no padding: the size
        // asserted above is the sum of the fields' sizes.
        unsafe impl aya::Pod for $type {}
    };
}
pub(crate) use filled;

filled!(Address, 24);
filled!(Owner, 5 * 8 + 4 * 4 + 24 + 8 + 16);
filled!(PeerKey, 8 + 2 * 16 + 4 + 4);
filled!(FailedKey, 8 + 16 + 4 + 4);
