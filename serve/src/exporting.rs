//! Events leave this host, where the configuration says so.

use crate::posting::Posting;
use anyhow::Result;
use gnomon_cli::{Complaint, line, options::ledger_in};
use gnomon_config::Config;
use gnomon_export::{ExportMetrics, Exporter, ExporterOptions, OtlpOptions, OtlpSink, Sink, SyslogOptions, SyslogSink};
use gnomon_http::UpstreamTls;
use prometheus::Registry;
use std::path::Path;

/// Checks that secrets and authorities of the exports can be had, as a start would. Blocks while it reads files.
///
/// # Errors
/// A secret or certificate cannot be read.
pub fn check_exports(config: &Config) -> Result<()> {
    if let Some(otlp) = &config.events.otlp {
        otlp.headers.iter().try_for_each(|header| header.secret.fetch().map(drop))?;
        gnomon_export::roots(&otlp.ca).map_err(|error| Complaint::input(format!("events.otlp: {error}")))?;
    }
    if let Some(syslog) = &config.events.syslog {
        gnomon_export::roots(&syslog.ca).map_err(|error| Complaint::input(format!("events.syslog: {error}")))?;
    }
    Ok(())
}

/// The exports of events, while gnomon runs.
#[derive(Default)]
pub struct Exports {
    running: Vec<Exporter>,
}

impl Exports {
    /// Starts the configured exports. The ledger must be open.
    ///
    /// # Errors
    /// When a secret, an authority or a cursor cannot be read.
    pub fn start(config: &Config, state_dir: &Path, registry: &Registry) -> Result<Self> {
        let metrics = ExportMetrics::register(registry)?;
        let from = ExporterOptions { ledger: ledger_in(state_dir), state: state_dir.to_owned() };
        let mut running = Vec::new();
        if let Some(otlp) = &config.events.otlp {
            let headers = otlp.headers.iter().map(|header| Ok((header.name.clone(), header.secret.fetch()?)));
            let headers = headers.collect::<Result<_, Complaint>>()?;
            let complaint = |error: &dyn std::fmt::Display| Complaint::input(format!("events.otlp: {error}"));
            let roots = gnomon_export::roots(&otlp.ca).map_err(|error| complaint(&error))?;
            let tls = UpstreamTls::with_roots(roots).map_err(|error| complaint(&error))?;
            let sink = OtlpSink::new(OtlpOptions {
                endpoint: otlp.endpoint.clone(),
                headers,
                version: env!("CARGO_PKG_VERSION"),
                describe: line::of_json,
                post: Box::new(Posting::verifying(tls)),
            });
            let sink = Sink::Otlp(Box::new(sink.map_err(|error| complaint(&error))?));
            running.push(Exporter::start(from.clone(), sink, &metrics)?);
        }
        if let Some(syslog) = &config.events.syslog {
            let options = SyslogOptions { endpoint: syslog.endpoint.clone(), ca: syslog.ca.clone(), describe: line::of_json };
            let sink = SyslogSink::new(options).map_err(|error| Complaint::input(format!("events.syslog: {error}")))?;
            running.push(Exporter::start(from, Sink::Syslog(sink), &metrics)?);
        }
        Ok(Self { running })
    }

    /// Sends the remaining events, for some seconds at most.
    pub async fn stop(self) {
        for exporter in self.running {
            exporter.stop().await;
        }
    }
}
