//! The protocol between gnomon's processes, over Unix sockets that keep message boundaries (`SOCK_SEQPACKET`).
//!
//! The sensor is privileged and parses nothing from the network; the proxy reads what strangers send and has no
//! privilege. This crate is all that passes between them, and between `gnomon exec` and a running gnomon: typed
//! messages, and the descriptors that belong to them. One enum for each direction ([`ToSensor`], [`ToProxy`],
//! [`ToGnomon`], [`ToExec`]), so that an end can only say what the other listens to.
//!
//! It deliberately does not match answers to questions, reconnect, or decide who may ask for what. It says
//! who is at the other end ([`Channel::peer`]) and leaves the policy to the caller.
//!
//! The trade-off: a message is bounded by its types, at most [`MAX_MESSAGE`] bytes and [`MAX_DESCRIPTORS`]
//! descriptors, and what does not fit (a long command line) is cut. In return nothing is streamed, one system call
//! moves a message, and no peer can make the other end hold more than one message or wait longer than it said.
//!
//! ```
//! use std::time::Duration;
//! use gnomon_link::{Channel, SensorEnd, ToSensor};
//!
//! let (proxy, sensor) = Channel::pair()?;
//! let sensor: SensorEnd = sensor;
//! proxy.send(&ToSensor::Features { token: 7 }, &[], Duration::from_secs(1))?;
//! let asked = sensor.recv(Duration::from_secs(1))?;
//! assert_eq!(asked.message, ToSensor::Features { token: 7 });
//! # Ok::<(), gnomon_link::LinkError>(())
//! ```

#![warn(missing_docs)]

#[cfg(feature = "tokio")]
mod asynchronous;
mod bounds;
mod channel;
mod codec;
mod error;
mod greeting;
mod listener;
mod message;
mod packet;
mod peer;

#[cfg(feature = "tokio")]
pub use asynchronous::{AsyncChannel, AsyncListener};
pub use bounds::{Label, List, Long, Name, Text, TooMany};
pub use channel::Channel;
pub use codec::{DecodeError, EncodeError, decode, encode};
pub use error::LinkError;
pub use greeting::Sensor;
pub use listener::{Access, Listener};
pub use message::*;
pub use packet::Received;
pub use peer::PeerCredentials;

/// Most bytes of a message.
pub const MAX_MESSAGE: usize = 64 << 10;

/// Most descriptors that travel with a message.
pub const MAX_DESCRIPTORS: usize = 4;

/// The proxy's end.
pub type ProxyEnd = Channel<ToSensor, ToProxy>;
/// The sensor's end.
pub type SensorEnd = Channel<ToProxy, ToSensor>;
/// The end of `gnomon exec`.
pub type ExecEnd = Channel<ToGnomon, ToExec>;
/// The end of the gnomon that `gnomon exec` joins.
pub type GnomonEnd = Channel<ToExec, ToGnomon>;
