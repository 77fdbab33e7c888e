//! The `metrics` section: where metrics are served.

use crate::{
    declare::section,
    forms::{Address, loopback},
};
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
