//! Events leave this host, where the configuration says so.

use crate::{complaint::Complaint, config::Config, line, options::ledger_in};
use anyhow::Result;
use gnomon_export::{ExportMetrics, Exporter, ExporterOptions, OtlpOptions, OtlpSink, Sink};
use prometheus::Registry;
use std::path::Path;

/// What is sent where, while gnomon runs.
#[derive(Default)]
pub struct Exports {
    running: Vec<Exporter>,
}

impl Exports {
    /// Starts what is configured. The ledger must be open.
    ///
    /// # Errors
    /// When a secret, an authority or a cursor cannot be read.
    pub fn start(config: &Config, state_dir: &Path, registry: &Registry) -> Result<Self> {
        let metrics = ExportMetrics::register(registry)?;
        let mut running = Vec::new();
        if let Some(otlp) = &config.events.otlp {
            let headers = otlp.headers.iter().map(|header| Ok((header.name.clone(), header.secret.fetch()?)));
            let sink = OtlpSink::new(OtlpOptions {
                endpoint: otlp.endpoint.clone(),
                headers: headers.collect::<Result<_, Complaint>>()?,
                ca: otlp.ca.clone(),
                version: env!("CARGO_PKG_VERSION"),
                describe: line::of_json,
            });
            let sink = Sink::Otlp(sink.map_err(|error| Complaint::input(format!("events.otlp: {error}")))?);
            let options = ExporterOptions { ledger: ledger_in(state_dir), state: state_dir.to_owned() };
            running.push(Exporter::start(options, sink, &metrics)?);
        }
        Ok(Self { running })
    }

    /// Sends what is left, for some seconds at most.
    pub async fn stop(self) {
        for exporter in self.running {
            exporter.stop().await;
        }
    }
}
