//! The ledger's counters in the text format of Prometheus. The ledger knows no metrics library, and the library has no counter that can
//! be set to a count, so these lines are written here.

use gnomon_ledger::{LedgerCounts, Today};
use gnomon_observe::Level;
use std::{fmt::Write, time::SystemTime};

/// The label `incident` of those that are summed up.
const OTHERS: &str = "others";

/// Adds the incidents of today. Those that are summed up stand there from the start, so that the first one is a rise.
pub(crate) fn incidents(text: &mut String, today: &mut Today, now: SystemTime) {
    // Writing to memory does not fail.
    let _ = writeln!(
        text,
        "# HELP gnomon_incident_active Incidents of today (UTC), one user at one server: 1 for each by its first gnomon.incident.id, the most \
         serious level so far and the rule that raised it to that; under \"{OTHERS}\" the number of further ones, and of those that are low.\n\
         # TYPE gnomon_incident_active gauge"
    );
    for incident in today.shown(now) {
        let (id, severity, rule) = (&incident.id, incident.level.as_str(), &incident.rule);
        let _ = writeln!(text, "gnomon_incident_active{{incident=\"{id}\",rule=\"{rule}\",severity=\"{severity}\"}} 1");
    }
    for level in [Level::Low, Level::Medium, Level::High, Level::Critical] {
        let (severity, number) = (level.as_str(), today.summed(level));
        let _ = writeln!(text, "gnomon_incident_active{{incident=\"{OTHERS}\",rule=\"\",severity=\"{severity}\"}} {number}");
    }
}

/// Adds the ledger's metrics.
pub(crate) fn ledger(text: &mut String, counts: &LedgerCounts) {
    let LedgerCounts { acknowledged, dropped, first_seen, forgotten, queued, capacity, clock_ahead_s } = *counts;
    let mut metric = |name: &str, kind: &str, help: &str, samples: &[(String, i128)]| {
        // Writing to memory does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let label = |name: &str, value: &str| format!("{{{name}=\"{value}\"}}");
    let alone = |value: i128| [(String::new(), value)];
    let size = |events: usize| i128::try_from(events).unwrap_or(i128::MAX);
    let reasons: Vec<_> = dropped.iter().map(|(reason, count)| (label("reason", reason.as_str()), count.into())).collect();
    let servers = [(label("status", "sanctioned"), first_seen.sanctioned.into()), (label("status", "shadow"), first_seen.shadow.into())];
    metric("gnomon_events_dropped_total", "counter", "Events that were not written.", &reasons);
    let removed = [(label("reason", "age"), forgotten.age.into()), (label("reason", "size"), forgotten.size.into())];
    metric("gnomon_events_forgotten_total", "counter", "Events that retention removed from the ledger.", &removed);
    metric("gnomon_events_written_total", "counter", "Events that are durable.", &alone(acknowledged.into()));
    metric(
        "gnomon_ledger_clock_behind_seconds",
        "gauge",
        "By how much the system's clock is ahead of the time by which events are too old: negative where it is behind, 0 where it is believed.",
        &alone(clock_ahead_s.into()),
    );
    metric("gnomon_ledger_queue_capacity_events", "gauge", "How many events may wait to be written.", &alone(size(capacity)));
    metric("gnomon_ledger_queue_events", "gauge", "Events that wait to be written.", &alone(size(queued)));
    metric(
        "gnomon_servers_first_seen_total",
        "counter",
        "Entries that were new to the inventory, by whether the organisation allows the server.",
        &servers,
    );
}
