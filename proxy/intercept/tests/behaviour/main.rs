//! The inline proxy as its clients and servers have it: real sockets, real TLS, a server that acts on the first complete JSON value.
#![allow(clippy::unwrap_used)]

mod answers;
mod bodies;
mod evasions;
mod expecting;
mod hold_back;
mod meaning;
mod passage;
mod passages;
mod recorded;
mod short;
mod texts;
mod unread;
mod urls;
mod withheld;
