//! A server as incidents and sums tell servers apart: a name or address, and a port. One host may have many.
//!
//! The port of HTTPS is the one that people leave out, and so do texts, hashes and rows that are made of it: `mcp.example.com` is port 443,
//! or one of which no port is known. What was made by versions that knew no port stays what it was for servers of HTTPS.

use gnomon_observe::{Field, Lookup, Observation};
use std::{fmt, net::Ipv6Addr};

/// The port of HTTPS.
const HTTPS: u16 = 443;

/// A server: its name or address, and its port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort<'a> {
    host: &'a str,
    /// None for that of HTTPS, and where there is none.
    port: Option<u16>,
}

impl<'a> HostPort<'a> {
    /// The server of this name or address at this port.
    #[must_use]
    pub fn new(host: &'a str, port: Option<u16>) -> Self {
        Self { host, port: port.filter(|port| !matches!(*port, 0 | HTTPS)) }
    }

    /// The server that an observation tells of: by its name, else the local server, else the address that was dialled; with an empty name
    /// where it tells of none.
    #[must_use]
    pub fn of(seen: &'a Observation) -> Self {
        let port = |field| match seen.get(field) {
            Lookup::Value(value) => value.as_int().and_then(|port| u16::try_from(port).ok()),
            Lookup::Absent | Lookup::Unreadable => None,
        };
        let named = seen.text(Field::ServerAddress).map(|host| Self::new(host, port(Field::ServerPort)));
        named
            .or_else(|| Some(Self::new(seen.text(Field::LocalServer)?, None)))
            .or_else(|| Some(Self::new(seen.text(Field::DestinationAddress)?, port(Field::DestinationPort))))
            .unwrap_or_default()
    }

    /// What [`fmt::Display`] wrote.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        let at = |(host, port): (&'a str, &str)| Some((host, port.parse().ok()?));
        match text.strip_prefix('[').and_then(|rest| rest.split_once("]:")).and_then(at) {
            Some((host, port)) => Self::new(host, Some(port)),
            None if text.parse::<Ipv6Addr>().is_ok() => Self::new(text, None),
            None => text.rsplit_once(':').and_then(at).map_or_else(|| Self::new(text, None), |(host, port)| Self::new(host, Some(port))),
        }
    }

    /// The name or address.
    #[must_use]
    pub fn host(self) -> &'a str {
        self.host
    }

    /// The port, unless it is that of HTTPS or there is none.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => f.write_str(self.host),
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_name_and_a_port_and_that_of_https_is_left_out() {
        for (host, port, text) in [
            ("a.example", Some(443), "a.example"),
            ("a.example", None, "a.example"),
            ("a.example", Some(80), "a.example:80"),
            ("2001:db8::1", Some(8443), "[2001:db8::1]:8443"),
            ("2001:db8::1", Some(443), "2001:db8::1"),
        ] {
            let server = HostPort::new(host, port);
            assert_eq!(server.to_string(), text);
            assert_eq!(HostPort::parse(text), server);
        }
        assert_ne!(HostPort::new("a", Some(80)), HostPort::new("a", Some(81)));
        let mut seen = Observation::new();
        seen.set(Field::DestinationAddress, "192.0.2.7");
        seen.set(Field::DestinationPort, 8080_i64);
        assert_eq!(HostPort::of(&seen).to_string(), "192.0.2.7:8080");
        seen.set(Field::LocalServer, "pkg:npm/x");
        assert_eq!(HostPort::of(&seen).to_string(), "pkg:npm/x");
        seen.set(Field::ServerAddress, "a.example");
        seen.set(Field::ServerPort, 9000_i64);
        assert_eq!(HostPort::of(&seen).to_string(), "a.example:9000");
    }
}
