//! Exports of events from this host: collectors and syslog servers.

use crate::{
    Check, SecretRef,
    declare::{Form, One, Show, mapping},
    forms::{FilePaths, OwnText, written},
    key::Shape,
};
use gnomon_export::{EndpointError, MAX_HEADERS, OtlpEndpoint, SyslogEndpoint};
use serde_json::{Value, json};
use serde_saphyr::{Location, Spanned};
use std::{fmt, path::PathBuf};

mapping! {
    /// A collector that speaks OTLP over HTTP.
    pub struct Otlp, written OtlpSource: Default at "events.otlp.", with (check) {
        /// The URL of an OpenTelemetry collector that every event is sent to as a log record (OTLP over HTTP, protobuf), or
        /// `off`. Without a path it is `/v1/logs`. With `http` everybody on the way can read events.
        endpoint: OtlpEndpoint as OwnText, fit endpoint.and_then(|text| check.collector(&text)), without "off",
            sample "'https://collector.example:4318'";
        /// `NAME=SECRET` for each header of these requests, at most 16. The secret is the header's whole value, as `Bearer …`,
        /// and is named as passwords are: `file:/path` (first line), `env:NAME`, or `credential:NAME` (systemd).
        headers: Vec<NamedSecret> as NamedSecrets, without "none", sample "['Authorization=file:/etc/gnomon/otlp-authorization']";
        /// PEM files with further authorities to trust when the collector is verified, or its own certificate. Relative to this file.
        ca: Vec<PathBuf> as FilePaths, without "the system's roots", sample "[corp-root.pem]";
    }
}

mapping! {
    /// A syslog server over TCP.
    pub struct Syslog, written SyslogSource: Default at "events.syslog.", with (check) {
        /// A syslog server that every event is sent to (RFC 5424), as `tls://HOST:PORT` or `tcp://HOST:PORT`, or `off`. With
        /// `tcp` everybody on the way can read events.
        endpoint: SyslogEndpoint as OwnText, fit endpoint.and_then(|text| check.syslog(&text)), without "off",
            sample "'tls://siem.example:6514'";
        /// PEM files with further authorities to trust when the syslog server is verified, or its own certificate. Relative to this file.
        ca: Vec<PathBuf> as FilePaths, without "the system's roots", sample "[corp-root.pem]";
    }
}

written! {
    /// Headers, each with a reference to its value.
    NamedSecrets: Vec<Spanned<String>>, Shape::Texts;
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

/// The place of an endpoint; none where it is `off`.
fn sent(endpoint: Option<&Spanned<String>>) -> Option<Location> {
    endpoint.filter(|text| text.value != "off").map(|text| text.referenced)
}

impl Form<Option<Otlp>> for One<OtlpSource> {
    fn read(source: OtlpSource, _: Option<Otlp>, check: &mut Check<'_>) -> Option<Option<Otlp>> {
        let Some(place) = sent(source.endpoint.as_ref()) else {
            // Checked also while nothing is sent, so that turning it on brings no surprise.
            check.headers(source.headers);
            return Some(None);
        };
        let otlp = Otlp::read(source, check)?;
        if otlp.endpoint.is_exposed() && !otlp.headers.is_empty() {
            check.refuse(place, "the headers' secrets would be readable on the way; use https".to_owned());
        }
        Some(Some(otlp))
    }
}

impl Show<Option<Otlp>> for One<OtlpSource> {
    fn show(value: &Option<Otlp>) -> Value {
        value.as_ref().map_or_else(|| json!({"endpoint": "off"}), Otlp::show)
    }
}

impl Show<OtlpEndpoint> for OwnText {
    fn show(value: &OtlpEndpoint) -> Value {
        value.to_string().into()
    }
}

impl Form<Option<Syslog>> for One<SyslogSource> {
    fn read(source: SyslogSource, _: Option<Syslog>, check: &mut Check<'_>) -> Option<Option<Syslog>> {
        match sent(source.endpoint.as_ref()) {
            None => Some(None),
            Some(_) => Syslog::read(source, check).map(Some),
        }
    }
}

impl Show<Option<Syslog>> for One<SyslogSource> {
    fn show(value: &Option<Syslog>) -> Value {
        value.as_ref().map_or_else(|| json!({"endpoint": "off"}), Syslog::show)
    }
}

impl Show<SyslogEndpoint> for OwnText {
    fn show(value: &SyslogEndpoint) -> Value {
        value.to_string().into()
    }
}

impl Form<Vec<NamedSecret>> for NamedSecrets {
    fn read(source: Self::Source, _: Vec<NamedSecret>, check: &mut Check<'_>) -> Option<Vec<NamedSecret>> {
        Some(check.headers(source))
    }
}

impl Show<Vec<NamedSecret>> for NamedSecrets {
    fn show(value: &Vec<NamedSecret>) -> Value {
        value.iter().map(ToString::to_string).collect()
    }
}

impl Check<'_> {
    fn collector(&mut self, text: &Spanned<String>) -> Option<OtlpEndpoint> {
        match text.value.parse() {
            Ok(endpoint) => Some(endpoint),
            // The text holds a secret: it is not repeated.
            Err(error @ EndpointError::UserInfo) => self.refused(text.referenced, error.to_string()),
            Err(error) => self.refused(text.referenced, format!("`{}` is not the URL of a collector: {error}", text.value)),
        }
    }

    fn syslog(&mut self, text: &Spanned<String>) -> Option<SyslogEndpoint> {
        match text.value.parse() {
            Ok(endpoint) => Some(endpoint),
            Err(error) => self.refused(text.referenced, format!("`{}` is not a syslog server: {error}", text.value)),
        }
    }

    fn headers(&mut self, texts: Vec<Spanned<String>>) -> Vec<NamedSecret> {
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
