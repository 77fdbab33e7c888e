//! Reviews of servers: the decision, its author, time and reason. Where decisions are kept is said elsewhere.

use crate::Condition;
use gnomon_observe::{Field, Review};
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv6Addr, str::FromStr};
use thiserror::Error;

/// The longest name of a server, owner or reason, in bytes.
pub const MAX_REVIEW_TEXT: usize = 1024;

/// A server that decisions are about: a name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReviewedServer {
    /// Lower case, no trailing dot.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

impl fmt::Display for ReviewedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// A server as a person names it: the port may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedServer {
    /// The server's host, as [`ReviewedServer::host`].
    pub host: String,
    /// The port, where one was named.
    pub port: Option<u16>,
}

/// Text that names no server.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("`{0}` names no server; write HOST or HOST:PORT, as mcp.example.com or [2001:db8::1]:8443")]
pub struct NoServer(String);

impl FromStr for NamedServer {
    type Err = NoServer;

    fn from_str(text: &str) -> Result<Self, NoServer> {
        let wrong = || NoServer(text.to_owned());
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) if host.parse::<Ipv6Addr>().is_ok() => (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
            Some(_) => return Err(wrong()),
            None if text.parse::<Ipv6Addr>().is_ok() => (text, Some("")),
            None => text.split_once(':').map_or((text, Some("")), |(host, port)| (host, Some(port).filter(|port| !port.is_empty()))),
        };
        let port = match port {
            None => return Err(wrong()),
            Some("") => None,
            Some(port) => Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?),
        };
        // However an address is spelled, it is one server.
        let host = gnomon_kit::address(host).map_or_else(|| host.trim_end_matches('.').to_ascii_lowercase(), |address| address.to_string());
        let named = !host.is_empty() && host.len() <= MAX_REVIEW_TEXT;
        if !named || host.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | '/' | '@' | '?' | '#' | '[' | ']')) {
            return Err(wrong());
        }
        Ok(Self { host, port })
    }
}

/// The decider: the system's facts on the process that wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedBy {
    /// The name of the user who logged in, else of the process's user.
    pub user: Option<String>,
    /// The user who logged in (audit session; sudo does not change it), if the system knows.
    pub login_uid: Option<u32>,
    /// The process's effective user.
    pub uid: u32,
}

/// One decision: a line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The time, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The decider.
    pub by: DecidedBy,
    /// About which server.
    pub server: ReviewedServer,
    /// The decision; never `expired`, which comes of itself.
    pub state: Review,
    /// The owner who answers for the server.
    pub owner: Option<String>,
    /// The reason.
    pub reason: Option<String>,
    /// The expiry, milliseconds since the Unix epoch; a denial without one is permanent.
    pub until_ms: Option<i64>,
}

impl Decision {
    /// Its state at this moment.
    #[must_use]
    pub fn state_at(&self, now_ms: i64) -> Review {
        match (self.state, self.until_ms) {
            (Review::Approved, Some(until)) if now_ms >= until => Review::Expired,
            // A denial that ran out leaves the server to be looked at again; it does not allow it.
            (Review::Denied, Some(until)) if now_ms >= until => Review::Expired,
            (state, _) => state,
        }
    }
}

/// Conditions that match the events of this server.
#[must_use]
pub fn conditions_on(server: &ReviewedServer) -> Vec<Condition> {
    vec![Condition::is(Field::ServerAddress, &*server.host), Condition::is(Field::ServerPort, server.port.to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(host: &str, state: Review, until_ms: Option<i64>) -> Decision {
        Decision {
            at_ms: 1,
            by: DecidedBy { user: Some("ada".to_owned()), login_uid: Some(1000), uid: 0 },
            server: ReviewedServer { host: host.to_owned(), port: 443 },
            state,
            owner: Some("team".to_owned()),
            reason: Some("needed".to_owned()),
            until_ms,
        }
    }

    #[test]
    fn an_approval_runs_out_by_itself_and_so_does_a_denial_without_allowing() {
        let approved = decision("a.example", Review::Approved, Some(100));
        assert_eq!((approved.state_at(99), approved.state_at(100)), (Review::Approved, Review::Expired));
        assert_eq!(decision("a.example", Review::Denied, Some(100)).state_at(100), Review::Expired);
        assert_eq!(decision("a.example", Review::Denied, None).state_at(i64::MAX), Review::Denied);
        assert_eq!(decision("a.example", Review::InReview, None).state_at(i64::MAX), Review::InReview);
    }

    #[test]
    fn servers_are_named_as_people_name_them() {
        for (text, host, port) in [
            ("MCP.example.com.", "mcp.example.com", None),
            ("mcp.example.com:8443", "mcp.example.com", Some(8443)),
            ("10.0.0.1:80", "10.0.0.1", Some(80)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:DB8::1]:443", "2001:db8::1", Some(443)),
            ("[::1]", "::1", None),
        ] {
            assert_eq!(text.parse(), Ok(NamedServer { host: host.to_owned(), port }), "{text}");
        }
        for bad in ["", ".", "a b", "a:0", "a:x", "a:", "*.a.example", "https://a.example", "a/b", "[a]:1", "[::1]x", "a@b", "a\u{7}"] {
            assert!(bad.parse::<NamedServer>().is_err(), "{bad}");
        }
        assert_eq!(ReviewedServer { host: "::1".to_owned(), port: 1 }.to_string(), "[::1]:1");
    }
}
