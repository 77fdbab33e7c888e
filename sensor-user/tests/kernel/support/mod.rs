//! What each test needs: a cgroup, a sensor on it, a client in it, a proxy outside.

pub mod client;
pub mod foreign;
pub mod proxy;
pub mod roles;
mod stage;

pub use client::Client;
pub use gnomon_testkit::{has, skip};
pub use proxy::{Proxy, Upstream};
pub use stage::{Seen, Stage, home, mark, needs, redirect, until};
