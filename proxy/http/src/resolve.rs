//! `HOST:PORT:ADDR[:PORT]`: send connections for one host and port to a given address.
//!
//! The spelling is curl's `--resolve` with an optional port of its own, as `--connect-to` has.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use smol_str::SmolStr;

/// An override of name resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveOverride {
    /// The host name or address as clients ask for it, in lower case, without brackets.
    pub host: SmolStr,
    /// The port as clients ask for it.
    pub port: u16,
    /// The address to connect to instead. Still subject to [`ForbiddenAddresses`](crate::ForbiddenAddresses).
    pub address: SocketAddr,
}

/// An error of reading an override. The text names the part at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResolve {
    /// Too few or too many parts.
    #[error("`{0}`: expected HOST:PORT:ADDR[:PORT], with IPv6 addresses in brackets")]
    Shape(String),
    /// The host is empty.
    #[error("`{0}`: the host is empty")]
    Host(String),
    /// A port is not a number from 1 to 65535.
    #[error("`{0}`: `{1}` is not a port (1 to 65535)")]
    Port(String, String),
    /// The address is neither IPv4 nor bracketed IPv6.
    #[error("`{0}`: `{1}` is not an IP address (names are not resolved here)")]
    Address(String, String),
}

impl FromStr for ResolveOverride {
    type Err = InvalidResolve;

    fn from_str(text: &str) -> Result<Self, InvalidResolve> {
        let shape = || InvalidResolve::Shape(text.to_owned());
        let port = |part: &str| match part.parse::<u16>() {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(InvalidResolve::Port(text.to_owned(), part.to_owned())),
        };
        let (host, rest) = bracketed(text).ok_or_else(shape)?;
        if host.is_empty() {
            return Err(InvalidResolve::Host(text.to_owned()));
        }
        let (asked_port, rest) = rest.split_once(':').ok_or_else(shape)?;
        let asked_port = port(asked_port)?;
        let (address, rest) = match bracketed(rest) {
            Some((address, rest)) => (address, Some(rest)),
            None => (rest.trim_start_matches('[').trim_end_matches(']'), None),
        };
        if rest.is_some_and(|rest| rest.contains(':')) {
            return Err(shape());
        }
        let ip: IpAddr = address.parse().map_err(|_| InvalidResolve::Address(text.to_owned(), address.to_owned()))?;
        let dialled_port = rest.map_or(Ok(asked_port), port)?;
        Ok(Self { host: SmolStr::new(host.to_ascii_lowercase()), port: asked_port, address: SocketAddr::new(ip, dialled_port) })
    }
}

/// Splits `[v6]:rest` or `part:rest` at the colon that ends the part.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('[') {
        Some(inner) => inner.split_once("]:"),
        None => text.split_once(':'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, u16, String), InvalidResolve> {
        let o = text.parse::<ResolveOverride>()?;
        Ok((o.host.to_string(), o.port, o.address.to_string()))
    }

    #[test]
    fn overrides_are_read_in_every_documented_form() {
        let ok = |host: &str, port, address: &str| Ok((host.to_owned(), port, address.to_owned()));
        assert_eq!(parse("Mcp.Example:443:127.0.0.1"), ok("mcp.example", 443, "127.0.0.1:443"));
        assert_eq!(parse("mcp.example:443:127.0.0.1:8443"), ok("mcp.example", 443, "127.0.0.1:8443"));
        assert_eq!(parse("mcp.example:443:[::1]"), ok("mcp.example", 443, "[::1]:443"));
        assert_eq!(parse("mcp.example:443:[::1]:8443"), ok("mcp.example", 443, "[::1]:8443"));
        assert_eq!(parse("[2001:db8::1]:443:[::1]:8443"), ok("2001:db8::1", 443, "[::1]:8443"));
    }

    #[test]
    fn a_bad_override_says_which_part_is_wrong() {
        assert!(matches!(parse("mcp.example"), Err(InvalidResolve::Shape(_))));
        assert!(matches!(parse("mcp.example:443"), Err(InvalidResolve::Shape(_))));
        assert!(matches!(parse("mcp.example:443:127.0.0.1:1:2"), Err(InvalidResolve::Shape(_))));
        assert!(matches!(parse(":443:127.0.0.1"), Err(InvalidResolve::Host(_))));
        assert!(matches!(parse("mcp.example:http:127.0.0.1"), Err(InvalidResolve::Port(..))));
        assert!(matches!(parse("mcp.example:0:127.0.0.1"), Err(InvalidResolve::Port(..))));
        assert!(matches!(parse("mcp.example:443:127.0.0.1:70000"), Err(InvalidResolve::Port(..))));
        assert!(matches!(parse("mcp.example:443:localhost"), Err(InvalidResolve::Address(..))));
    }
}
