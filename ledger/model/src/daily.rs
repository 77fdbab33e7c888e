//! Detections of one user at one server (name and port) on one day (UTC): what an analyst works through, where
//! `gnomon.incident.id` only joins what came within seconds.
//!
//! Counted from the events themselves, so it says what retention has kept and needs no table. Every
//! name in it was chosen by strangers, so every list is bounded.

use crate::{HostPort, once::Once, seen::Seen, today::DAY_MS};
use gnomon_observe::{Class, Confidence, Level};
use hashbrown::HashMap;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// Most daily incidents of one answer; detections of further ones are only counted.
pub const MAX_DAILY: usize = 10_000;
/// Most programs, tools and rules of each.
pub const MAX_DAILY_NAMES: usize = 16;

/// A rule that matched, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleCount {
    /// Its id.
    pub id: String,
    /// Its title.
    pub name: Option<String>,
    /// Its level.
    pub level: Option<Level>,
    /// The number of its detections.
    pub detections: u64,
}

/// Detections of one user at one server on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DailyIncident {
    /// Names it, now and after every restart: made of day, user and server.
    pub id: String,
    /// The day, as 2026-11-20, UTC.
    pub day: String,
    /// The user's name, else number, else the client's address.
    pub user: Option<String>,
    /// The server's name, else address.
    pub server: Option<String>,
    /// Its TCP port; absent where there is none.
    pub port: Option<u16>,
    /// The number of detections: for each call one of each rule that stands for it, those that one event sums up included.
    pub detections: u64,
    /// The number of them that opened a burst (`event.kind: alert`).
    pub alerts: u64,
    /// The number of calls refused, redirected or changed, and of messages and connections that could not be read and were; each once,
    /// however many detections it has.
    pub stopped: u64,
    /// The number of detections of each class.
    pub classes: BTreeMap<Class, u64>,
    /// The rules of the detections, most frequent first, at most [`MAX_DAILY_NAMES`].
    pub rules: Vec<RuleCount>,
    /// The most serious level.
    pub level: Option<Level>,
    /// The strongest confidence.
    pub confidence: Option<Confidence>,
    /// Sanctioned or not, as of the last detection.
    pub sanctioned: Option<bool>,
    /// First detection, milliseconds since the Unix epoch.
    pub first_seen_ms: i64,
    /// Last detection, likewise.
    pub last_seen_ms: i64,
    /// Programs, else what clients call themselves, as `claims: "…"`; at most [`MAX_DAILY_NAMES`].
    pub programs: Vec<String>,
    /// Tools that were called, likewise.
    pub tools: Vec<String>,
    /// Bytes of request bodies, those of stopped requests included.
    pub bytes_out: u64,
    /// `event.id` of the first detection.
    pub first_event: Option<String>,
    /// `event.id` of the last detection.
    pub last_event: Option<String>,
}

/// The daily incidents of a span of time.
#[derive(Clone, Debug, Default)]
pub struct DailyIncidents {
    /// The most recently seen first.
    pub incidents: Vec<DailyIncident>,
    /// Detections that belong to none of them, as there are more than [`MAX_DAILY`].
    pub left_out: u64,
}

/// The daily incident that a detection belongs to.
pub(crate) fn id_of(at_ms: i64, json: &str) -> Option<String> {
    let seen = Seen::of(json)?;
    Some(id(&day(at_ms), seen.user(), seen.server()))
}

/// Sums detections up, one after the other.
#[derive(Default)]
pub(crate) struct Summing {
    by_id: HashMap<String, DailyIncident>,
    left_out: u64,
    stopped: Once,
    sized: Once,
    last_batch: Option<(i64, u64)>,
}

impl Summing {
    /// Adds a detection that was recorded at that moment; a text that is no event is skipped.
    pub(crate) fn add(&mut self, at_ms: i64, json: &str) {
        let Some(seen) = Seen::of(json) else { return };
        let (user, server, day) = (seen.user(), seen.server(), day(at_ms));
        let id = id(&day, user, server);
        let room = self.by_id.len() < MAX_DAILY;
        let incident = match self.by_id.get_mut(&id) {
            Some(incident) => incident,
            None if !room => {
                self.left_out += seen.calls();
                return;
            }
            None => self.by_id.entry(id.clone()).or_insert_with(|| DailyIncident {
                id,
                day,
                user: user.map(str::to_owned),
                server: server.map(|server| server.host().to_owned()),
                port: seen.port(),
                first_seen_ms: at_ms,
                last_seen_ms: at_ms,
                first_event: seen.id.as_deref().map(str::to_owned),
                detections: 0,
                alerts: 0,
                stopped: 0,
                classes: BTreeMap::new(),
                rules: Vec::new(),
                level: None,
                confidence: None,
                sanctioned: None,
                programs: Vec::new(),
                tools: Vec::new(),
                bytes_out: 0,
                last_event: None,
            }),
        };
        incident.add(at_ms, &seen);
        if seen.is_stopped() && self.stopped.is_first(seen.call.as_deref()) {
            incident.stopped += seen.calls();
        }
        // Each call of a batch has the size of the whole body.
        let batch = seen.batch.map(|_| (at_ms, seen.bytes.unwrap_or(0)));
        let again = batch.is_some() && batch == self.last_batch;
        self.last_batch = batch;
        if self.sized.is_first(seen.call.as_deref()) && !again {
            incident.bytes_out = incident.bytes_out.saturating_add(seen.bytes.unwrap_or(0));
        }
    }

    pub(crate) fn finish(self) -> DailyIncidents {
        let mut incidents: Vec<_> = self.by_id.into_values().collect();
        for incident in &mut incidents {
            incident.rules.sort_by(|a, b| b.detections.cmp(&a.detections).then_with(|| a.id.cmp(&b.id)));
            incident.programs.sort_unstable();
            incident.tools.sort_unstable();
        }
        incidents.sort_by(|a, b| b.last_seen_ms.cmp(&a.last_seen_ms).then_with(|| a.id.cmp(&b.id)));
        DailyIncidents { incidents, left_out: self.left_out }
    }
}

impl DailyIncident {
    fn add(&mut self, at_ms: i64, seen: &Seen<'_>) {
        let calls = seen.calls();
        self.detections += calls;
        self.alerts += u64::from(seen.kind.as_deref() == Some("alert"));
        if let Some(class) = seen.class.as_deref().and_then(|word| word.parse().ok()) {
            *self.classes.entry(class).or_default() += calls;
        }
        let level: Option<Level> = seen.level.as_deref().and_then(|word| word.parse().ok());
        self.level = self.level.max(level);
        self.confidence = self.confidence.max(seen.confidence.as_deref().and_then(|word| word.parse().ok()));
        self.sanctioned = seen.sanctioned.or(self.sanctioned);
        if at_ms < self.first_seen_ms {
            self.first_seen_ms = at_ms;
            self.first_event = seen.id.as_deref().map(str::to_owned);
        }
        if at_ms >= self.last_seen_ms {
            self.last_seen_ms = at_ms;
            self.last_event = seen.id.as_deref().map(str::to_owned);
        }
        note(&mut self.programs, seen.program().as_deref());
        note(&mut self.tools, seen.tool.as_deref());
        if let Some(rule) = seen.rule.as_deref() {
            let room = self.rules.len() < MAX_DAILY_NAMES;
            match self.rules.iter_mut().find(|known| known.id == rule) {
                Some(known) => known.detections += calls,
                None if !room => {}
                None => {
                    let name = seen.rule_name.as_deref().map(str::to_owned);
                    self.rules.push(RuleCount { id: rule.to_owned(), name, level, detections: calls });
                }
            }
        }
    }
}

fn note(names: &mut Vec<String>, name: Option<&str>) {
    if let Some(name) = name
        && names.len() < MAX_DAILY_NAMES
        && names.iter().all(|known| known != name)
    {
        names.push(name.to_owned());
    }
}

/// The day of a moment, as 2026-11-20.
fn day(at_ms: i64) -> String {
    let date = OffsetDateTime::from_unix_timestamp(at_ms.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

/// `20261120-` and twelve digits of a SHA-256 over the names, with a mark between them that neither can hold.
fn id(day: &str, user: Option<&str>, server: Option<HostPort<'_>>) -> String {
    let mut hash = Sha256::new();
    for part in [day, user.unwrap_or_default(), &server.unwrap_or_default().to_string()] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digits = hex::encode(&hash.finalize()[..6]);
    format!("i{}-{digits}", day.replace('-', ""))
}

/// The span of the day in a daily incident's id, from and until, milliseconds; none if it is no such id.
pub(crate) fn day_of_id(id: &str) -> Option<(i64, i64)> {
    let date = id.strip_prefix('i')?.split('-').next().filter(|digits| digits.len() == 8)?;
    let number = |range: std::ops::Range<usize>| date.get(range)?.parse::<u16>().ok();
    let month = time::Month::try_from(u8::try_from(number(4..6)?).ok()?).ok()?;
    let date = time::Date::from_calendar_date(i32::from(number(0..4)?), month, u8::try_from(number(6..8)?).ok()?).ok()?;
    let from = date.midnight().assume_utc().unix_timestamp() * 1000;
    Some((from, from + DAY_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_795_176_000_000;

    #[test]
    fn detections_are_joined_by_user_server_and_day() {
        let mut summing = Summing::default();
        let event = |user: &str, server: &str, rule: &str| {
            format!(
                r#"{{"event.kind":"alert","user.name":"{user}","server.address":"{server}","rule.id":"{rule}","rule.level":"high",
                    "gnomon.action":"block","gnomon.confidence":"probable","gnomon.detection.class":"mcp","http.request.body.size":10}}"#
            )
        };
        summing.add(NOON, &event("ada", "a.example", "r1"));
        summing.add(NOON + 1000, &event("ada", "a.example", "r2"));
        summing.add(NOON + 2000, &event("ada", "a.example", "r2"));
        summing.add(NOON, &event("bob", "a.example", "r1"));
        summing.add(NOON, &event("ada", "b.example", "r1"));
        summing.add(NOON + DAY_MS, &event("ada", "a.example", "r1"));
        summing.add(NOON, "no event");
        let found = summing.finish();
        assert_eq!((found.incidents.len(), found.left_out), (4, 0));
        let most = found.incidents.iter().max_by_key(|incident| incident.detections).unwrap();
        assert_eq!((most.day.as_str(), most.detections, most.stopped, most.bytes_out), ("2026-11-20", 3, 3, 30));
        assert_eq!((most.last_seen_ms - most.first_seen_ms, most.classes[&Class::Mcp]), (2000, 3));
        assert_eq!(most.rules.iter().map(|rule| (rule.id.as_str(), rule.detections)).collect::<Vec<_>>(), [("r2", 2), ("r1", 1)]);
        assert_eq!((most.level, most.confidence), (Some(Level::High), Some(Confidence::Probable)));
    }

    #[test]
    fn an_id_is_the_same_every_time_and_tells_its_day() {
        let at = |host, port| Some(HostPort::new(host, port));
        let one = id("2026-11-20", Some("ada"), at("a.example", Some(443)));
        // Made by versions that knew no port.
        assert_eq!(one, id("2026-11-20", Some("ada"), at("a.example", None)));
        assert_ne!(one, id("2026-11-20", Some("adaa"), at(".example", None)));
        assert_ne!(one, id("2026-11-20", Some("ada"), at("a.example", Some(8443))));
        let (from, until) = day_of_id(&one).unwrap();
        assert!(from <= NOON && NOON < until && until - from == DAY_MS);
        for bad in ["", "i", "i2026112-x", "i20261320-x", "i20261131-x", "019a9f3e-4b7c", "iäöüä-x"] {
            assert_eq!(day_of_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_flood_of_names_is_counted_and_not_kept() {
        let mut summing = Summing::default();
        for n in 0..MAX_DAILY + 5 {
            summing.add(NOON, &format!(r#"{{"server.address":"{n}","process.executable.path":"/{n}"}}"#));
        }
        for n in 0..100 {
            summing.add(NOON, &format!(r#"{{"server.address":"0","gen_ai.tool.name":"{n}","rule.id":"{n}"}}"#));
        }
        let found = summing.finish();
        assert_eq!((found.incidents.len(), found.left_out), (MAX_DAILY, 5));
        let most = found.incidents.iter().max_by_key(|incident| incident.detections).unwrap();
        assert_eq!((most.detections, most.tools.len(), most.rules.len()), (101, MAX_DAILY_NAMES, MAX_DAILY_NAMES));
    }

    #[test]
    fn each_server_of_a_host_is_an_incident_of_its_own() {
        let mut summing = Summing::default();
        for (n, port) in [19011, 19012, 19013, 19011].into_iter().enumerate() {
            let call = format!(r#"{{"gnomon.observation.id":"{n}","user.name":"dan","server.address":"127.0.0.1","server.port":{port}}}"#);
            summing.add(NOON, &call);
        }
        let found = summing.finish().incidents;
        let mut shown: Vec<_> = found.iter().map(|day| (day.server.as_deref(), day.port, day.detections)).collect();
        shown.sort_unstable();
        let host = Some("127.0.0.1");
        assert_eq!(shown, [(host, Some(19011), 2), (host, Some(19012), 1), (host, Some(19013), 1)]);
    }
}
