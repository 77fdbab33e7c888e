//! From sightings to events: ids, time, incident, kind. The only place with a clock and a random
//! source, so that live traffic and replay differ in nothing else.

use crate::aftermath::Told;
use gnomon_inspect::Sighting;
use gnomon_kit::whole_millis;
use gnomon_ledger::{HostPort, Ids, Incidents};
use gnomon_observe::{Action, Field, Observation, SCHEMA_VERSION};
use smol_str::{SmolStr, ToSmolStr};
use std::time::{Duration, SystemTime};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

const MILLIS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The time of an observation, and the duration of its exchange so far.
pub(crate) struct When {
    pub seen: SystemTime,
    pub lasted: Option<Duration>,
}

/// Finishes the reports of exchanges.
#[derive(Debug, Default)]
pub struct Finisher {
    incidents: Incidents,
    ids: Ids,
}

impl Finisher {
    /// Begins with no incidents.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Turns the reports of one exchange into events. `when` is when they were seen, `duration` how
    /// long the exchange took so far.
    pub fn finish(&mut self, mut sightings: Vec<Sighting>, when: SystemTime, duration: Option<Duration>) -> Vec<Observation> {
        let time = timestamp(when);
        self.relate(&mut sightings, &Told::default(), &When { seen: when, lasted: duration });
        let stamp = |sighting: Sighting| {
            let mut seen = sighting.seen;
            seen.set(Field::Timestamp, time.clone());
            seen.set(Field::EventId, self.ids.text(when));
            seen.set(Field::Schema, SCHEMA_VERSION);
            seen
        };
        sightings.into_iter().map(stamp).collect()
    }

    /// As [`Finisher::finish`], but for what the ledger fills in by itself: time, id, schema. Calls that were recorded before keep
    /// their name.
    pub(crate) fn relate(&mut self, sightings: &mut [Sighting], told: &Told, when: &When) {
        let (when, duration) = (when.seen, when.lasted);
        let mut call: Option<(u32, SmolStr)> = None;
        for sighting in sightings {
            let id = match &call {
                Some((number, id)) if *number == sighting.call => id.clone(),
                _ => told.id(sighting.call).cloned().unwrap_or_else(|| self.ids.text(when)),
            };
            call = Some((sighting.call, id.clone()));
            let seen = &mut sighting.seen;
            seen.conceal();
            // Detections of gnomon's own have no rule that is loaded.
            let kind = match (seen.text(Field::RuleId), sighting.action) {
                (None, _) | (Some(_), Action::Allow) => "event",
                (Some(_), _) => {
                    let rule = seen.text(Field::RuleId).unwrap_or_default();
                    let (incident, standing) = self.incidents.assign(user_of(seen), HostPort::of(seen), rule, when);
                    seen.set(Field::IncidentId, incident.text());
                    standing.kind()
                }
            };
            seen.set(Field::EventKind, kind);
            seen.set(Field::ObservationId, id);
            seen.set_some(Field::DurationMs, duration.map(whole_millis));
        }
    }
}

/// The user's name, else number, else the client's address.
pub(crate) fn user_of(seen: &Observation) -> &str {
    [Field::UserName, Field::UserId, Field::SourceAddress].into_iter().find_map(|field| seen.text(field)).unwrap_or_default()
}

fn timestamp(when: SystemTime) -> SmolStr {
    OffsetDateTime::from(when).format(MILLIS).map(SmolStr::from).unwrap_or_else(|_| "1970-01-01T00:00:00.000Z".to_smolstr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_observe::Class;

    fn sighting(call: u32, class: Class) -> Sighting {
        let mut seen = Observation::new();
        seen.set(Field::SourceAddress, "127.0.0.1");
        Sighting { seen, rule: None, action: Action::Log, class, call }
    }

    #[test]
    fn reports_of_one_call_share_its_id_and_calls_do_not() {
        let sightings = vec![sighting(0, Class::Mcp), sighting(0, Class::Dlp), sighting(1, Class::Mcp)];
        let events = Finisher::new().finish(sightings, SystemTime::UNIX_EPOCH, None);
        let ids: Vec<_> = events.iter().map(|e| e.text(Field::ObservationId).unwrap().to_owned()).collect();
        assert!(ids[0] == ids[1] && ids[1] != ids[2]);
        assert_eq!(events[0].text(Field::Timestamp), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(events[0].text(Field::EventKind), Some("event"));
    }
}
