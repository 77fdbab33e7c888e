//! What is to happen to the connections of a cgroup.

use crate::filled;

/// Values of [`Scope::mode`].
pub mod mode {
    /// Tag flows, touch nothing.
    pub const OBSERVE: u8 = 0;
    /// Send TCP connections to our listener.
    pub const REDIRECT: u8 = 1;
    /// Do not look at all.
    pub const OFF: u8 = 2;
}

/// Values of [`Scope::quic`].
pub mod quic {
    /// Leave UDP alone.
    pub const LEAVE: u8 = 0;
    /// In redirect scopes, refuse UDP to port 443, so that clients fall back to TCP.
    pub const REFUSE: u8 = 1;
}

/// Values of [`Scope::fail`].
pub mod fail {
    /// What cannot be redirected goes direct.
    pub const OPEN: u8 = 0;
    /// What cannot be redirected is refused with `EPERM`.
    pub const CLOSED: u8 = 1;
}

/// Values of [`Scope::port_rule`].
pub mod ports {
    /// Every port.
    pub const ALL: u8 = 0;
    /// The ports listed.
    pub const LISTED: u8 = 1;
}

/// What is to happen to the connections of one cgroup and those below it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// One of [`mode`].
    pub mode: u8,
    /// One of [`quic`].
    pub quic: u8,
    /// One of [`fail`].
    pub fail: u8,
    /// One of [`ports`].
    pub port_rule: u8,
    /// The user half's name for it.
    pub id: u32,
    /// The ports listed; unused places are 0.
    pub ports: [u16; 16],
}

/// The configuration of the kernel half, written once.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The mark (`SO_MARK`) by which our listeners are recognised.
    pub mark: u32,
    /// Their port.
    pub port: u16,
    /// The port where programs ask the proxy themselves: of other connections than those to these two ports it never
    /// asks whose they are, so their owners are not filed. 0 where it is not known: then all are.
    pub explicit_port: u16,
    /// The reader is woken when this many bytes wait.
    pub wake_bytes: u32,
    /// Most connections that are tracked at a time of those who share their table: one service, one user's sessions.
    pub flows_each: u32,
    /// What applies to cgroups without a scope.
    pub default_scope: Scope,
    /// The cgroup below which connections are seen, by id: starts of programs are seen below it as well.
    pub seen: u64,
    /// One of [`starts`].
    pub starts: u32,
    /// 0.
    pub reserved: u32,
}

/// Values of [`Config::starts`].
pub mod starts {
    /// When a process began to run its program is remembered, and not reported.
    pub const REMEMBERED: u32 = 0;
    /// It is reported as well.
    pub const REPORTED: u32 = 1;
}

filled!(Scope, 40);
filled!(Config, 16 + 40 + 16);
