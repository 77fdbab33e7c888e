//! The addresses of receivers, as the configuration names them.

use http::{Uri, uri::Scheme};
use std::{fmt, net::IpAddr, str::FromStr};
use thiserror::Error;

/// An error in an address.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum EndpointError {
    /// Not an absolute http or https URL.
    #[error("write a URL, as https://collector.example:4318")]
    NotAUrl,
    /// The URL has a user or password.
    #[error("a user or password does not belong in the URL; name where the secret is under `headers`")]
    UserInfo,
}

/// The URL of an OTLP receiver for logs over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint(Uri);

impl OtlpEndpoint {
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    /// True if data sent there can be read on the way: plain HTTP to another machine.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        self.0.scheme() == Some(&Scheme::HTTP) && !local
    }
}

impl FromStr for OtlpEndpoint {
    type Err = EndpointError;

    /// A URL without a path gets `/v1/logs`, the path that the OTLP specification gives to logs.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let uri: Uri = text.parse().map_err(|_| EndpointError::NotAUrl)?;
        let mut parts = uri.into_parts();
        if parts.scheme != Some(Scheme::HTTP) && parts.scheme != Some(Scheme::HTTPS) {
            return Err(EndpointError::NotAUrl);
        }
        match &parts.authority {
            Some(authority) if authority.as_str().contains('@') => return Err(EndpointError::UserInfo),
            Some(authority) if !authority.host().is_empty() => {}
            _ => return Err(EndpointError::NotAUrl),
        }
        if parts.path_and_query.as_ref().is_none_or(|path| path == "/") {
            parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/v1/logs"));
        }
        Uri::from_parts(parts).map(Self).map_err(|_| EndpointError::NotAUrl)
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Not the address of a syslog server.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("write tls://HOST:PORT or tcp://HOST:PORT, as tls://siem.example:6514")]
pub struct SyslogEndpointError;

/// A syslog server that takes TCP, with TLS or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogEndpoint {
    tls: Tls,
    host: String,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    Yes,
    No,
}

impl SyslogEndpoint {
    pub(crate) fn is_tls(&self) -> bool {
        self.tls == Tls::Yes
    }

    /// A name or an address, without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for SyslogEndpoint {
    type Err = SyslogEndpointError;

    /// Parses an address. The default port is 6514 for TLS (RFC 5425) and 601 without (RFC 3195, as most receivers have it).
    fn from_str(text: &str) -> Result<Self, SyslogEndpointError> {
        let uri: Uri = text.parse().map_err(|_| SyslogEndpointError)?;
        let (tls, usual) = match uri.scheme_str() {
            Some("tls") => (Tls::Yes, 6514),
            Some("tcp") => (Tls::No, 601),
            _ => return Err(SyslogEndpointError),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
        let authority = authority.filter(|_| uri.path_and_query().is_none_or(|path| path == "/")).ok_or(SyslogEndpointError)?;
        Ok(Self { tls, host: authority.host().trim_matches(['[', ']']).to_owned(), port: authority.port_u16().unwrap_or(usual) })
    }
}

impl fmt::Display for SyslogEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { "tls" } else { "tcp" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_gets_the_one_for_logs() {
        for (text, whole) in [
            ("https://c.example:4318", "https://c.example:4318/v1/logs"),
            ("https://c.example/", "https://c.example/v1/logs"),
            ("http://[::1]:4318/otlp/v1/logs", "http://[::1]:4318/otlp/v1/logs"),
        ] {
            assert_eq!(text.parse::<OtlpEndpoint>().unwrap().to_string(), whole);
        }
    }

    #[test]
    fn what_is_no_url_or_carries_a_password_is_refused() {
        for text in ["", "collector:4318", "c.example", "ftp://c.example", "grpc://c.example:4317", "https://", "/v1/logs"] {
            assert_eq!(text.parse::<OtlpEndpoint>(), Err(EndpointError::NotAUrl), "{text}");
        }
        assert_eq!("https://a:b@c.example".parse::<OtlpEndpoint>(), Err(EndpointError::UserInfo));
    }

    #[test]
    fn a_syslog_server_is_named_by_transport_host_and_port() {
        for (text, whole) in [
            ("tls://siem.example", "tls://siem.example:6514"),
            ("tcp://siem.example:514", "tcp://siem.example:514"),
            ("tcp://[::1]", "tcp://[::1]:601"),
        ] {
            assert_eq!(text.parse::<SyslogEndpoint>().unwrap().to_string(), whole);
        }
        for text in ["", "siem.example:514", "udp://siem.example", "tls://", "tls://a@b", "tls://siem.example/path", "https://siem.example"]
        {
            assert_eq!(text.parse::<SyslogEndpoint>(), Err(SyslogEndpointError), "{text}");
        }
    }

    #[test]
    fn plain_http_is_exposed_unless_it_stays_on_the_host() {
        for (text, exposed) in [
            ("http://c.example", true),
            ("https://c.example", false),
            ("http://127.0.0.1:1", false),
            ("http://[::1]", false),
            ("http://localhost", false),
        ] {
            assert_eq!(text.parse::<OtlpEndpoint>().unwrap().is_exposed(), exposed, "{text}");
        }
    }
}
