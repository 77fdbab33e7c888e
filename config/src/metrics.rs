//! The `metrics` section: where metrics are served.

use crate::{
    Check,
    declare::{Form, Show, section},
    forms::{Address, loopback},
};
use serde_json::Value;
use std::{fmt, net::SocketAddr, str::FromStr};

section! {
    /// Metrics.
    pub struct Metrics, written MetricsSource at "metrics." {
        /// Address and port of `/metrics` (Prometheus) and `/healthz`, or `off`.
        listen: Switch<SocketAddr> as Address = Switch::On(loopback(9464));
    }
}

/// A value that can be turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch<T> {
    /// Turned off.
    Off,
    /// Turned on, with this value.
    On(T),
}

impl<T: FromStr> FromStr for Switch<T> {
    type Err = T::Err;
    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "off" { Ok(Switch::Off) } else { text.parse().map(Switch::On) }
    }
}

impl<T: fmt::Display> fmt::Display for Switch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Switch::Off => f.write_str("off"),
            Switch::On(value) => value.fmt(f),
        }
    }
}

impl Form<Switch<SocketAddr>> for Address {
    fn read(source: Self::Source, default: Switch<SocketAddr>, check: &mut Check<'_>) -> Option<Switch<SocketAddr>> {
        let Some(text) = source else { return Some(default) };
        check.parsed(&text, &format!("an address with a port, as {default}, or off"))
    }
}

impl Show<Switch<SocketAddr>> for Address {
    fn show(value: &Switch<SocketAddr>) -> Value {
        value.to_string().into()
    }
}
