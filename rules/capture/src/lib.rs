//! Packet captures to exchanges.
//!
//! [`read`] takes a pcap or pcapng file, puts each TCP connection in order and hands out what can be judged: plaintext HTTP/1
//! requests with their answers, and the ClientHello of TLS. What cannot be read (TLS itself, HTTP/2, segments that were not
//! captured) is counted in [`Totals`] with its reason, so that silence never looks like peace.
//!
//! The trade-off: a connection is kept until it ends and then read as a whole, which is simple and costs memory up to
//! [`Bounds`]; what exceeds them is cut and counted. There is no clock and no I/O but the reader.
//!
//! An attacker controls every byte. Of overlapping segments the first that came counts, as in Linux for data already handed on; another
//! system may have read something else.
#![deny(missing_docs)]

mod conversation;
mod http;
mod packet;
mod reader;
mod reassembly;
mod unread;

pub use conversation::{Captured, Endpoints};
pub use http::{Message, Parsed, exchanges};
pub use reader::{Bounds, CaptureError, Totals, read};
pub use reassembly::{Gap, Reassembly};
pub use unread::Unread;
