//! Where events are sent besides this host's own files.

use super::{Check, SecretRef, raw};
use gnomon_export::{EndpointError, MAX_HEADERS, OtlpEndpoint, SyslogEndpoint};
use serde_saphyr::{Location, Spanned};
use std::{fmt, path::PathBuf};

/// A collector that speaks OTLP over HTTP.
#[derive(Clone, Debug)]
pub struct Otlp {
    pub endpoint: OtlpEndpoint,
    pub headers: Vec<NamedSecret>,
    pub ca: Vec<PathBuf>,
}

/// A syslog server over TCP.
#[derive(Clone, Debug)]
pub struct Syslog {
    pub endpoint: SyslogEndpoint,
    pub ca: Vec<PathBuf>,
}

/// A header and where its value is.
#[derive(Clone, Debug)]
pub struct NamedSecret {
    /// In lower case.
    pub name: String,
    pub secret: SecretRef,
}

impl fmt::Display for NamedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.secret)
    }
}

impl Check<'_> {
    pub(super) fn otlp(&mut self, otlp: raw::Otlp) -> Option<Otlp> {
        // Checked also while nothing is sent, so that turning it on brings no surprise.
        let headers = self.headers(otlp.headers);
        let text = otlp.endpoint.filter(|text| text.value != "off")?;
        let endpoint = self.endpoint(&text)?;
        if endpoint.is_exposed() && !headers.is_empty() {
            self.refuse(text.referenced, "the headers' secrets would be readable on the way; use https".to_owned());
        }
        Some(Otlp { endpoint, headers, ca: self.paths(otlp.ca) })
    }

    pub(super) fn syslog(&mut self, syslog: raw::Syslog) -> Option<Syslog> {
        let text = syslog.endpoint.filter(|text| text.value != "off")?;
        match text.value.parse() {
            Ok(endpoint) => Some(Syslog { endpoint, ca: self.paths(syslog.ca) }),
            Err(error) => self.refused(text.referenced, format!("`{}` is not a syslog server: {error}", text.value)),
        }
    }

    fn endpoint(&mut self, text: &Spanned<String>) -> Option<OtlpEndpoint> {
        match text.value.parse() {
            Ok(endpoint) => Some(endpoint),
            // The text holds a secret: it is not repeated.
            Err(error @ EndpointError::UserInfo) => self.refused(text.referenced, error.to_string()),
            Err(error) => self.refused(text.referenced, format!("`{}` is not the URL of a collector: {error}", text.value)),
        }
    }

    pub(super) fn headers(&mut self, texts: Vec<Spanned<String>>) -> Vec<NamedSecret> {
        if let Some(text) = texts.get(MAX_HEADERS) {
            self.refuse(text.referenced, format!("there are more than {MAX_HEADERS} headers; remove some"));
        }
        texts.into_iter().filter_map(|text| self.header(&text)).collect()
    }

    /// What is not understood may be the secret itself: it is not repeated.
    fn header(&mut self, text: &Spanned<String>) -> Option<NamedSecret> {
        let parsed = text.value.split_once('=').and_then(|(name, secret)| Some((name.parse::<http::HeaderName>().ok()?, secret)));
        let Some((name, secret)) = parsed else {
            return self.refused(text.referenced, "write NAME=SECRET, as Authorization=file:/etc/gnomon/otlp-authorization".to_owned());
        };
        // What frames the request.
        if [http::header::CONTENT_TYPE, http::header::CONTENT_LENGTH, http::header::TRANSFER_ENCODING, http::header::HOST].contains(&name) {
            return self.refused(text.referenced, format!("gnomon sets `{name}` itself; remove it"));
        }
        match self.secret(secret) {
            Ok(secret) => Some(NamedSecret { name: name.to_string(), secret }),
            Err(cause) => self.refused(text.referenced, cause.to_string()),
        }
    }

    pub(super) fn refused<T>(&mut self, place: Location, cause: String) -> Option<T> {
        self.refuse(place, cause);
        None
    }
}
