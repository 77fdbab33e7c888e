//! What an exporter does, seen from a collector that misbehaves.
#![allow(clippy::unwrap_used)]

mod collector;
/// What carries the requests where gnomon runs.
#[path = "../../../../serve/src/posting.rs"]
mod posting;

use collector::{Answer, Collector, text};
use gnomon_export::{ExportMetrics, Exporter, ExporterOptions, OtlpOptions, OtlpSink, Sink};
use gnomon_http::UpstreamTls;
use gnomon_ledger::{Event, Ledger, LedgerOptions, Recorded, Writer};
use gnomon_observe::{Field, Observation};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use posting::Posting;
use prometheus::{Registry, TextEncoder};
use std::{
    collections::HashSet,
    path::PathBuf,
    time::{Duration, Instant},
};
use tempfile::TempDir;

mod rsyslog;
mod stories;

/// A host with a ledger.
pub struct Host {
    pub dir: TempDir,
    pub ledger: Ledger,
    writer: Writer,
    pub registry: Registry,
    pub metrics: ExportMetrics,
}

impl Host {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, writer) = Ledger::open(LedgerOptions::new(dir.path().join("ledger.sqlite"))).await.unwrap();
        let registry = Registry::new();
        let metrics = ExportMetrics::register(&registry).unwrap();
        Self { dir, ledger, writer, registry, metrics }
    }

    /// Records an event for each tool, durably.
    pub async fn record(&self, tools: impl IntoIterator<Item = String>) {
        for tool in tools {
            let mut seen = Observation::new();
            seen.set(Field::ToolName, tool);
            seen.set(Field::ServerPort, 443u64);
            assert_eq!(self.ledger.record(Event::now(seen)), Recorded::Queued);
        }
        self.ledger.flush().await.unwrap();
    }

    pub fn export(&self, url: &str) -> Exporter {
        self.export_with(url, Vec::new(), Vec::new())
    }

    pub fn export_with(&self, url: &str, headers: Vec<(String, String)>, ca: Vec<PathBuf>) -> Exporter {
        let options = OtlpOptions {
            endpoint: url.parse().unwrap(),
            headers,
            version: "0.0.0",
            describe: |json| json.chars().take(40).collect(),
            post: Box::new(Posting::verifying(UpstreamTls::with_roots(gnomon_export::roots(&ca).unwrap()).unwrap())),
        };
        let options_of_export = ExporterOptions { ledger: self.dir.path().join("ledger.sqlite"), state: self.dir.path().to_owned() };
        Exporter::start(options_of_export, Sink::Otlp(Box::new(OtlpSink::new(options).unwrap())), &self.metrics).unwrap()
    }

    /// The value of a series, `name{labels}` as exposed.
    pub fn metric(&self, series: &str) -> u64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("no {series} in {text}"));
        line.trim().parse().unwrap()
    }

    pub async fn close(self) {
        self.writer.shutdown().await;
    }
}

pub fn numbered(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|number| format!("tool-{number}"))
}

/// Waits for a condition.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn holds_poison(batch: &ExportLogsServiceRequest) -> bool {
    let mut records = batch.resource_logs.iter().flat_map(|logs| &logs.scope_logs).flat_map(|logs| &logs.log_records);
    records.any(|record| text(record, "gen_ai.tool.name").is_some_and(|tool| tool.starts_with("poison")))
}

pub fn distinct(texts: &[String]) -> usize {
    texts.iter().collect::<HashSet<_>>().len()
}
