//! The `events` section: where events are kept and sent, and for how long.

use crate::{
    Check, Otlp, Syslog,
    declare::{Form, One, Part, Show, section},
    exports::{OtlpSource, SyslogSource},
    forms::{EventFile, Number},
};
use serde_json::Value;
use std::path::PathBuf;

section! {
    /// Events.
    pub struct Events, written EventsSource at "events." {
        /// A file to which events are appended as JSON lines, `-` for standard output, or `off`. It is rotated within the
        /// bounds of `events.retention`. Relative to this file.
        jsonl: Jsonl as EventFile = Jsonl::Off, sample "events.jsonl";
        /// The collector that events are sent to, if any.
        otlp: Option<Otlp> as One<OtlpSource>;
        /// The syslog server that events are sent to, if any.
        syslog: Option<Syslog> as One<SyslogSource>;
        /// The retention of events.
        retention: Retention as Part<Retention>;
    }
}

section! {
    /// Retention of events, by age and size.
    pub struct Retention, written RetentionSource at "events.retention." {
        /// Retention of events, days: in the ledger and in the file of JSON lines.
        days: u64 as Number<1, 3650> = 30;
        /// Most GiB of the ledger's database, and of the file of JSON lines with those it was rotated to; beyond it the oldest
        /// events go. The database's write-ahead log comes on top, at most 64 MiB.
        max_gib: u64 as Number<1, 4096> = 2;
    }
}

/// The destination of JSON lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jsonl {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// To a file.
    File(PathBuf),
}

impl Jsonl {
    /// `off`, `-`, or a path.
    pub fn named(text: &str) -> Self {
        match text {
            "off" => Jsonl::Off,
            "-" => Jsonl::Stdout,
            path => Jsonl::File(path.into()),
        }
    }
}

impl Form<Jsonl> for EventFile {
    fn read(source: Self::Source, default: Jsonl, check: &mut Check<'_>) -> Option<Jsonl> {
        Some(match source.map(|text| Jsonl::named(&text.value)) {
            Some(Jsonl::File(path)) => Jsonl::File(check.dir.join(path)),
            Some(other) => other,
            None => default,
        })
    }
}

impl Show<Jsonl> for EventFile {
    fn show(value: &Jsonl) -> Value {
        match value {
            Jsonl::Off => "off".into(),
            Jsonl::Stdout => "-".into(),
            Jsonl::File(path) => path.display().to_string().into(),
        }
    }
}
