//! Exports of events from this host: collectors and syslog servers.

use crate::{
    Check, SecretRef,
    declare::{Form, One, mapping},
    forms::{FilePaths, OwnText, Texts},
};
use gnomon_export::{EndpointError, MAX_HEADERS, OtlpEndpoint, SyslogEndpoint};
use serde_json::{Value, json};
use serde_saphyr::Spanned;
use std::{fmt, path::PathBuf};

mapping! {
    #[derive(Default)]
    struct OtlpSource at "events.otlp." {
        /// The URL of an OpenTelemetry collector that every event is sent to as a log record (OTLP over HTTP, protobuf), or
        /// `off`. Without a path it is `/v1/logs`. With `http` everybody on the way can read events.
        endpoint as OwnText, without "off", sample "'https://collector.example:4318'";
        /// `NAME=SECRET` for each header of these requests, at most 16. The secret is the header's whole value, as `Bearer …`,
        /// and is named as passwords are: `file:/path` (first line), `env:NAME`, or `credential:NAME` (systemd).
        headers as Texts, without "none", sample "['Authorization=file:/etc/gnomon/otlp-authorization']";
        /// PEM files with further authorities to trust when the collector is verified. Relative to this file.
        ca as FilePaths, without "the system's roots", sample "[corp-root.pem]";
    }
}

mapping! {
    #[derive(Default)]
    struct SyslogSource at "events.syslog." {
        /// A syslog server that every event is sent to (RFC 5424), as `tls://HOST:PORT` or `tcp://HOST:PORT`, or `off`. With
        /// `tcp` everybody on the way can read events.
        endpoint as OwnText, without "off", sample "'tls://siem.example:6514'";
        /// PEM files with further authorities to trust when the syslog server is verified. Relative to this file.
        ca as FilePaths, without "the system's roots", sample "[corp-root.pem]";
    }
}

/// A collector that speaks OTLP over HTTP.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// Its address.
    pub endpoint: OtlpEndpoint,
    /// Headers that authenticate us.
    pub headers: Vec<NamedSecret>,
    /// Authorities to trust besides the system's.
    pub ca: Vec<PathBuf>,
}

/// A syslog server over TCP.
#[derive(Clone, Debug)]
pub struct Syslog {
    /// Its address.
    pub endpoint: SyslogEndpoint,
    /// Authorities to trust besides the system's.
    pub ca: Vec<PathBuf>,
}

/// A header and where its value is.
#[derive(Clone, Debug)]
pub struct NamedSecret {
    /// In lower case.
    pub name: String,
    /// The reference to its value.
    pub secret: SecretRef,
}

impl fmt::Display for NamedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.secret)
    }
}

impl Form<Option<Otlp>> for One<OtlpSource> {
    fn read(source: OtlpSource, _: Option<Otlp>, check: &mut Check<'_>) -> Option<Option<Otlp>> {
        // Checked also while nothing is sent, so that turning it on brings no surprise.
        let headers = check.headers(source.headers);
        let Some(text) = source.endpoint.filter(|text| text.value != "off") else { return Some(None) };
        let endpoint = check.endpoint(&text)?;
        if endpoint.is_exposed() && !headers.is_empty() {
            check.refuse(text.referenced, "the headers' secrets would be readable on the way; use https".to_owned());
        }
        Some(Some(Otlp { endpoint, headers, ca: check.paths(source.ca) }))
    }

    fn show(value: &Option<Otlp>) -> Value {
        value.as_ref().map_or_else(
            || json!({"endpoint": "off"}),
            |otlp| {
                json!({
                    "endpoint": otlp.endpoint.to_string(),
                    "headers": otlp.headers.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "ca": FilePaths::show(&otlp.ca),
                })
            },
        )
    }
}

impl Form<Option<Syslog>> for One<SyslogSource> {
    fn read(source: SyslogSource, _: Option<Syslog>, check: &mut Check<'_>) -> Option<Option<Syslog>> {
        let Some(text) = source.endpoint.filter(|text| text.value != "off") else { return Some(None) };
        match text.value.parse() {
            Ok(endpoint) => Some(Some(Syslog { endpoint, ca: check.paths(source.ca) })),
            Err(error) => check.refused(text.referenced, format!("`{}` is not a syslog server: {error}", text.value)),
        }
    }

    fn show(value: &Option<Syslog>) -> Value {
        value.as_ref().map_or_else(
            || json!({"endpoint": "off"}),
            |syslog| json!({"endpoint": syslog.endpoint.to_string(), "ca": FilePaths::show(&syslog.ca)}),
        )
    }
}

impl Check<'_> {
    fn endpoint(&mut self, text: &Spanned<String>) -> Option<OtlpEndpoint> {
        match text.value.parse() {
            Ok(endpoint) => Some(endpoint),
            // The text holds a secret: it is not repeated.
            Err(error @ EndpointError::UserInfo) => self.refused(text.referenced, error.to_string()),
            Err(error) => self.refused(text.referenced, format!("`{}` is not the URL of a collector: {error}", text.value)),
        }
    }

    pub(crate) fn headers(&mut self, texts: Vec<Spanned<String>>) -> Vec<NamedSecret> {
        if let Some(text) = texts.get(MAX_HEADERS) {
            self.refuse(text.referenced, format!("there are more than {MAX_HEADERS} headers; remove some"));
        }
        texts.into_iter().filter_map(|text| self.header(&text)).collect()
    }

    /// Parses a header. A text that is not understood may be the secret itself, so errors do not repeat it.
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
}
