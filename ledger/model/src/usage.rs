//! Totals over a span of time: calls by day, detections, which connections
//! were not read. Summed from the events that retention has kept.
//!
//! Names were chosen by strangers, so every list is bounded; what does not fit is counted as others.

use crate::{once::Once, seen::Seen};
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
    /// Calls that were refused, redirected or changed, and messages and connections that could not be read and were; each once.
    pub stopped: u64,
    /// Detections: for each call one of each rule that stands for it, those that one event sums up included.
    pub detections: u64,
    /// MCP messages that reached no server, as it could not be dialled; they are not among the others.
    pub unreached: u64,
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

    /// Takes a name out, with what was counted of it.
    pub fn take(&mut self, name: &str) -> Option<u64> {
        self.names.remove(name)
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
    /// Shadow servers (name and port), by the MCP messages that they were sent.
    pub shadow_servers: Tally,
    /// Servers that could not be dialled, by the MCP messages that were for them.
    pub unreached_servers: Tally,
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
    counted: Once,
    stopped: Once,
}

impl Summing {
    /// Usage of so many days from midnight `from_ms` on.
    pub(crate) fn new(from_ms: i64, days: usize) -> Self {
        let day = |n: usize| DayUsage { day_ms: from_ms + n as i64 * DAY_MS, ..DayUsage::default() };
        Self {
            usage: Usage { days: (0..days).map(day).collect(), ..Usage::default() },
            from_ms,
            counted: Once::default(),
            stopped: Once::default(),
        }
    }

    /// Adds an event; a text that is none, or of another time, is skipped.
    pub(crate) fn add(&mut self, at_ms: i64, json: &str) {
        let Some(seen) = Seen::of(json) else { return };
        let place = usize::try_from((at_ms - self.from_ms).div_euclid(DAY_MS)).ok();
        let Some(day) = place.and_then(|place| self.usage.days.get_mut(place)) else { return };
        if seen.is_outcome() {
            return;
        }
        let calls = seen.calls();
        if seen.is_detection() {
            day.detections += calls;
            if let Some(class) = seen.class.as_deref().and_then(|word| word.parse().ok()) {
                *self.usage.classes.entry(class).or_default() += calls;
            }
            let rule = seen.rule_name.as_deref().unwrap_or("-");
            if let Some(level) = seen.level.as_deref().and_then(|word| word.parse::<Level>().ok()) {
                *self.usage.levels.entry(level).or_default() += calls;
                if level < Level::Medium {
                    self.usage.low.add_calls(rule, calls);
                }
            }
            self.usage.rules.add_calls(rule, calls);
        }
        // It may be stopped by what its answer says, after it was counted.
        if seen.is_stopped() && self.stopped.is_first(seen.call.as_deref()) {
            day.stopped += calls;
        }
        if !self.counted.is_first(seen.call.as_deref()) {
            return;
        }
        let server = || seen.server().map_or_else(|| "?".to_owned(), |server| server.to_string());
        if seen.method.is_some() && seen.is_unreached() {
            day.unreached += calls;
            self.usage.unreached_servers.add_calls(&server(), calls);
        } else if seen.method.is_some() {
            if seen.sanctioned == Some(true) {
                day.sanctioned += calls;
            } else {
                day.shadow += calls;
                self.usage.shadow_servers.add_calls(&server(), calls);
            }
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
        deltas.add(0, &seen, 0, &mut Once::default());
        assert_eq!(deltas.servers.values().map(|delta| delta.calls).sum::<i64>(), 118);
    }

    /// Of a batch beyond 32 calls one event stands for several; one call may be several detections; one may be found in a late answer.
    #[test]
    fn the_page_and_the_incidents_count_one_call_as_one_call() {
        let event = |call: &str, more: &str| {
            format!(
                r#"{{"event.kind":"alert","gnomon.observation.id":"{call}","user.name":"eve","server.address":"a","server.port":80,
                    "rule.id":"r","rule.name":"R","rule.level":"high","gnomon.detection.class":"mcp"{more}}}"#
            )
        };
        let (of_call, block) = (r#","mcp.method.name":"tools/call""#, r#","gnomon.action":"block""#);
        let batch: Vec<String> = (0..33)
            .map(|n| {
                let calls = if n == 32 { r#","gnomon.calls":68"# } else { "" };
                event(&format!("b{n}"), &format!(r#"{of_call}{calls},"gnomon.batch.index":{n},"http.request.body.size":9890"#))
            })
            .collect();
        let other =
            |call: &str, more: &str| event(call, more).replace(r#""rule.id":"r","rule.name":"R""#, r#""rule.id":"s","rule.name":"S""#);
        let blocked = [event("1", &format!("{of_call}{block}")), other("1", &format!("{of_call}{block}"))];
        let unread = [
            event("2", &format!(r#"{block},"gnomon.malformed":"truncated""#)),
            event("3", &format!(r#"{block},"gnomon.flow.outcome":"refused""#)),
        ];
        let withheld = [event("4", of_call), other("5", of_call), other("4", &format!("{of_call}{block}"))];
        let events: Vec<String> = batch.into_iter().chain(blocked).chain(unread).chain(withheld).collect();
        let (mut page, mut incidents, mut calls) = (Summing::new(0, 1), crate::daily::Summing::default(), Once::default());
        // The writer begins a group with each of them, at worst: the late answer's is in another than the call's.
        let mut groups: Vec<crate::Deltas> = Vec::new();
        for (n, json) in events.iter().enumerate() {
            page.add(n as i64 / 50, json);
            incidents.add(n as i64 / 50, json);
            let mut seen = gnomon_observe::Observation::new();
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
            for (name, value) in &object {
                seen.set_json(name, value).unwrap();
            }
            let mut deltas = crate::Deltas::default();
            deltas.add(0, &seen, 0, &mut calls);
            groups.push(deltas);
        }
        let (page, incidents) = (page.finish(), incidents.finish().incidents);
        let [day] = page.days.as_slice() else { panic!("{page:?}") };
        let [incident] = incidents.as_slice() else { panic!("{incidents:?}") };
        assert_eq!(
            (day.shadow, day.stopped),
            (103, 4),
            "100 of the batch, one blocked and two; stopped are also what was unread and what was withheld"
        );
        assert_eq!((incident.stopped, incident.detections), (day.stopped, day.detections));
        assert_eq!((page.rules.by_count(), page.classes[&Class::Mcp]), (vec![("R", 104), ("S", 3)], 107));
        let by_rule: Vec<_> = incident.rules.iter().map(|rule| (rule.name.as_deref().unwrap(), rule.detections)).collect();
        assert_eq!(by_rule, page.rules.by_count());
        assert_eq!(page.rules.total(), day.detections);
        assert_eq!(page.shadow_servers.by_count(), [("a:80", 103)]);
        assert_eq!(incident.bytes_out, 9890, "a body of a batch is one body");
        let in_inventory = groups.iter().flat_map(|deltas| deltas.servers.values()).map(|delta| delta.calls).sum::<i64>();
        let requests = groups.iter().flat_map(|deltas| deltas.volumes.sums.values()).map(|sum| sum.requests).sum::<i64>();
        assert_eq!((in_inventory, requests), (103, 103), "the inventory and the hourly sums count as the page does");
    }

    #[test]
    fn what_reached_no_server_is_no_use_of_it() {
        let mut summing = Summing::new(0, 1);
        let event = r#"{"event.kind":"alert","gnomon.observation.id":"1","mcp.method.name":"tools/call","error.type":"upstream_unreachable","server.address":"no.example","server.port":443}"#;
        summing.add(0, event);
        summing.add(0, &event.replace(r#""1""#, r#""2""#).replace("upstream_unreachable\"", "-32601\",\"http.response.status_code\":200"));
        let usage = summing.finish();
        assert_eq!((usage.days[0].shadow, usage.days[0].unreached), (1, 1));
        assert_eq!(
            (usage.shadow_servers.by_count(), usage.unreached_servers.by_count()),
            (vec![("no.example", 1)], vec![("no.example", 1)])
        );
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
