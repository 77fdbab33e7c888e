//! Host names as configuration writes them: `mcp.corp.example`, `*.corp.example`, `host:8443`.
//! Matching is by whole labels, never by substring, so `mcp.corp.example.evil.test` matches nothing.

use std::str::FromStr;
use thiserror::Error;

/// One configured host: exact, or every name below a suffix; any port, or one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    name: String,
    scope: Scope,
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Exact,
    Below,
}

/// Text that is not a host pattern.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("`{pattern}` is not a host pattern: {cause}; write `mcp.example.com`, `*.example.com` or `example.com:8443`")]
pub struct InvalidHostPattern {
    pattern: String,
    cause: &'static str,
}

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;
    fn from_str(text: &str) -> Result<Self, InvalidHostPattern> {
        let fail = |cause| InvalidHostPattern { pattern: text.to_owned(), cause };
        let (rest, scope) = match text.strip_prefix("*.") {
            Some(rest) => (rest, Scope::Below),
            None => (text, Scope::Exact),
        };
        // A bracketed IPv6 address keeps its colons; anything else has at most one, before the port.
        let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, tail)) => (host, Some(tail.strip_prefix(':').ok_or_else(|| fail("junk after `]`"))?)),
            None => match rest.split_once(':') {
                Some((_, tail)) if tail.contains(':') => (rest, None),
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = port.map(|p| p.parse().map_err(|_| fail("the port is not a number from 0 to 65535"))).transpose()?;
        let name = normal_host(host);
        if name.is_empty() {
            return Err(fail("it has no name"));
        }
        if name.contains(['*', '/', ' ', '@']) {
            return Err(fail("it holds a character that no host name has (a wildcard is only allowed as `*.` in front)"));
        }
        Ok(Self { name, scope, port })
    }
}

impl HostPattern {
    /// True if the pattern matches `host` (already [`normal_host`]) at `port`.
    #[must_use]
    pub fn matches(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|p| p != port) {
            return false;
        }
        match self.scope {
            Scope::Exact => host == self.name,
            Scope::Below => host.strip_suffix(self.name.as_str()).is_some_and(|head| head.len() > 1 && head.ends_with('.')),
        }
    }
}

/// Several patterns.
#[derive(Clone, Debug, Default)]
pub struct HostPatterns(Vec<HostPattern>);

impl HostPatterns {
    /// Reads them all.
    ///
    /// # Errors
    /// The first that is not a pattern.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidHostPattern> {
        patterns.into_iter().map(str::parse).collect::<Result<_, _>>().map(Self)
    }

    /// True if any pattern matches `host` (already [`normal_host`]) at `port`.
    #[must_use]
    pub fn matches(&self, host: &str, port: u16) -> bool {
        self.0.iter().any(|pattern| pattern.matches(host, port))
    }
}

/// A host name in the one form that is compared: lower case, no trailing dot, no brackets; an address in its shortest form, however
/// it is spelled ([`gnomon_kit::address`]), as dialling treats all spellings alike.
#[must_use]
pub fn normal_host(host: &str) -> String {
    if let Some(address) = gnomon_kit::address(host) {
        return address.to_string();
    }
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, host: &str, port: u16) -> bool {
        pattern.parse::<HostPattern>().unwrap().matches(&normal_host(host), port)
    }

    #[test]
    fn names_match_whole_and_never_as_a_part() {
        assert!(matches("mcp.corp.example", "MCP.corp.example.", 443));
        assert!(!matches("mcp.corp.example", "mcp.corp.example.evil.test", 443));
        assert!(!matches("mcp.corp.example", "xmcp.corp.example", 443));
    }

    #[test]
    fn a_wildcard_means_names_below_and_not_the_name_itself() {
        assert!(matches("*.corp.example", "a.b.corp.example", 443));
        assert!(!matches("*.corp.example", "corp.example", 443));
        assert!(!matches("*.corp.example", "evilcorp.example", 443));
    }

    #[test]
    fn a_port_narrows_and_ipv6_needs_brackets_for_it() {
        assert!(matches("a.example:8443", "a.example", 8443) && !matches("a.example:8443", "a.example", 443));
        assert!(matches("[::1]:8443", "::1", 8443) && matches("::1", "::1", 1));
    }

    #[test]
    fn nonsense_is_refused_with_the_cause() {
        for bad in ["", "*.", "a*b.example", "https://a.example", "a.example:http"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }
}
