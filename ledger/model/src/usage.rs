//! Totals over a span of time: calls by day, detections, which connections
//! were not read. Summed from the events that retention has kept.
//!
//! Names were chosen by strangers, so every list is bounded; what does not fit is counted as others.

use crate::seen::Seen;
use gnomon_observe::{Class, Level};
use serde::Serialize;
use std::collections::BTreeMap;

/// Most names of each list.
pub const MAX_REPORT_NAMES: usize = 1_000;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Calls of one day, UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DayUsage {
    /// Midnight before it, milliseconds since the Unix epoch.
    pub day_ms: i64,
    /// MCP messages to sanctioned servers.
    pub sanctioned: u64,
    /// MCP messages to others.
    pub shadow: u64,
    /// Calls that were refused, redirected or changed.
    pub stopped: u64,
    /// Detections.
    pub detections: u64,
}

/// Names and how often each was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// At most [`MAX_REPORT_NAMES`].
    pub names: BTreeMap<String, u64>,
    /// All that did not fit.
    pub others: u64,
}

impl Tally {
    fn add(&mut self, name: &str) {
        self.add_calls(name, 1);
    }

    fn add_calls(&mut self, name: &str, calls: u64) {
        let room = self.names.len() < MAX_REPORT_NAMES;
        match self.names.get_mut(name) {
            Some(count) => *count += calls,
            None if room => {
                self.names.insert(name.to_owned(), calls);
            }
            None => self.others += calls,
        }
    }

    /// The sum of all counts, those that did not fit included.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.names.values().sum::<u64>() + self.others
    }

    /// The most frequent first.
    #[must_use]
    pub fn by_count(&self) -> Vec<(&str, u64)> {
        let mut sorted: Vec<_> = self.names.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        sorted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        sorted
    }
}

/// Usage in a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Its days, oldest first.
    pub days: Vec<DayUsage>,
    /// Users who called MCP servers, and how often.
    pub users: Tally,
    /// Shadow servers, by their calls.
    pub shadow_servers: Tally,
    /// Connections that were not read as HTTP, by why: `gnomon.flow.outcome`, and the reason of a bypass.
    pub unread: Tally,
    /// Detections by class.
    pub classes: BTreeMap<Class, u64>,
    /// Detections by level.
    pub levels: BTreeMap<Level, u64>,
    /// Detections by rule title.
    pub rules: Tally,
    /// Those of them below level medium, of which there are no alerts.
    pub low: Tally,
}

/// Sums events up, one after the other.
#[derive(Debug)]
pub(crate) struct Summing {
    usage: Usage,
    from_ms: i64,
    last_call: Option<String>,
}

impl Summing {
    /// Usage of so many days from midnight `from_ms` on.
    pub(crate) fn new(from_ms: i64, days: usize) -> Self {
        let day = |n: usize| DayUsage { day_ms: from_ms + n as i64 * DAY_MS, ..DayUsage::default() };
        Self { usage: Usage { days: (0..days).map(day).collect(), ..Usage::default() }, from_ms, last_call: None }
    }

    /// Adds an event; a text that is none, or of another time, is skipped.
    pub(crate) fn add(&mut self, at_ms: i64, json: &str) {
        let Some(seen) = Seen::of(json) else { return };
        let place = usize::try_from((at_ms - self.from_ms).div_euclid(DAY_MS)).ok();
        let Some(day) = place.and_then(|place| self.usage.days.get_mut(place)) else { return };
        if seen.is_detection() {
            day.detections += 1;
            if let Some(class) = seen.class.as_deref().and_then(|word| word.parse().ok()) {
                *self.usage.classes.entry(class).or_default() += 1;
            }
            let rule = seen.rule_name.as_deref().unwrap_or("-");
            if let Some(level) = seen.level.as_deref().and_then(|word| word.parse::<Level>().ok()) {
                *self.usage.levels.entry(level).or_default() += 1;
                if level < Level::Medium {
                    self.usage.low.add(rule);
                }
            }
            self.usage.rules.add(rule);
        }
        // A call that is several events is one call; they stand together.
        if seen.call.is_some() && self.last_call.as_deref() == seen.call.as_deref() {
            return;
        }
        self.last_call = seen.call.as_deref().map(str::to_owned);
        let calls = seen.calls();
        if seen.method.is_some() {
            if seen.sanctioned == Some(true) {
                day.sanctioned += calls;
            } else {
                day.shadow += calls;
                self.usage.shadow_servers.add_calls(seen.server().unwrap_or("?"), calls);
            }
            day.stopped += if seen.is_stopped() { calls } else { 0 };
            self.usage.users.add_calls(seen.user().unwrap_or("?"), calls);
        }
        if let Some(flow) = seen.flow.as_deref() {
            match seen.bypass.as_deref() {
                Some(reason) => self.usage.unread.add(&format!("{flow}: {reason}")),
                None => self.usage.unread.add(flow),
            }
        }
    }

    pub(crate) fn finish(self) -> Usage {
        self.usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_day_and_once_however_many_events_they_are() {
        let mut summing = Summing::new(0, 2);
        summing.add(0, r#"{"event.kind":"alert","gnomon.observation.id":"1","mcp.method.name":"tools/call","gnomon.action":"block","server.address":"a","gnomon.detection.class":"mcp","rule.level":"high","rule.name":"R"}"#);
        summing.add(0, r#"{"event.kind":"alert","gnomon.observation.id":"1","mcp.method.name":"tools/call","gnomon.action":"block","server.address":"a","gnomon.detection.class":"dlp"}"#);
        summing.add(
            DAY_MS,
            r#"{"event.kind":"event","gnomon.observation.id":"2","mcp.method.name":"ping","gnomon.sanctioned":true,"user.name":"ada"}"#,
        );
        summing.add(DAY_MS, r#"{"gnomon.flow.outcome":"around_proxy","gnomon.bypass.reason":"stale_heartbeat"}"#);
        summing.add(2 * DAY_MS, r#"{"mcp.method.name":"ping"}"#);
        summing.add(-1, r#"{"mcp.method.name":"ping"}"#);
        summing.add(0, "nonsense");
        let usage = summing.finish();
        let days: Vec<_> = usage.days.iter().map(|day| (day.sanctioned, day.shadow, day.stopped, day.detections)).collect();
        assert_eq!(days, [(0, 1, 1, 2), (1, 0, 0, 0)]);
        assert_eq!((usage.classes[&Class::Mcp], usage.classes[&Class::Dlp], usage.levels[&Level::High]), (1, 1, 1));
        assert_eq!(usage.unread.by_count(), [("around_proxy: stale_heartbeat", 1)]);
        assert_eq!(usage.shadow_servers.by_count(), [("a", 1)]);
    }

    #[test]
    fn detections_that_no_alert_is_raised_for_are_counted_by_rule() {
        let mut summing = Summing::new(0, 1);
        for (rule, level) in [("A", "low"), ("A", "low"), ("B", "informational"), ("C", "medium"), ("D", "critical")] {
            summing.add(0, &format!(r#"{{"event.kind":"alert","rule.name":"{rule}","rule.level":"{level}"}}"#));
        }
        summing.add(0, r#"{"event.kind":"event","rule.name":"E","rule.level":"low"}"#);
        let usage = summing.finish();
        assert_eq!(usage.low.by_count(), [("A", 2), ("B", 1)]);
        assert_eq!(usage.rules.by_count(), [("A", 2), ("B", 1), ("C", 1), ("D", 1)]);
    }

    #[test]
    fn calls_that_one_event_sums_up_all_count() {
        let event = r#"{"event.kind":"event","gnomon.observation.id":"1","mcp.method.name":"tools/call","gnomon.action":"block","gnomon.calls":118,"server.address":"a","user.name":"ada"}"#;
        let mut summing = Summing::new(0, 1);
        summing.add(0, event);
        let usage = summing.finish();
        assert_eq!((usage.days[0].shadow, usage.days[0].stopped), (118, 118));
        assert_eq!((usage.shadow_servers.by_count(), usage.users.by_count()), (vec![("a", 118)], vec![("ada", 118)]));

        let mut seen = gnomon_observe::Observation::new();
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(event).unwrap();
        for (name, value) in &object {
            seen.set_json(name, value).unwrap();
        }
        let mut deltas = crate::Deltas::default();
        deltas.add(0, &seen, 0);
        assert_eq!(deltas.servers.values().map(|delta| delta.calls).sum::<i64>(), 118);
    }

    #[test]
    fn a_flood_of_names_is_counted_and_not_kept() {
        let mut tally = Tally::default();
        for n in 0..MAX_REPORT_NAMES + 7 {
            tally.add(&n.to_string());
        }
        assert_eq!((tally.names.len(), tally.others), (MAX_REPORT_NAMES, 7));
    }
}
