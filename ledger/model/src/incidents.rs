//! Incidents: tells first detections from repeats. In memory and bounded; nothing is remembered across a restart, so the first detection
//! after one is a first again.

use quick_cache::{Equivalent, unsync::Cache};
use smol_str::SmolStr;
use std::{
    fmt,
    hash::{Hash, Hasher},
    time::{Duration, SystemTime},
};

use crate::{HostPort, ids::Ids};
use gnomon_kit::unix_millis;

/// Detections of one client, server and rule that follow each other within this time are one
/// incident.
pub const INCIDENT_WINDOW: Duration = Duration::from_secs(10);

/// The number of incidents remembered at once by default. Beyond it the least used are forgotten, and their next detection is a first
/// again: too many alerts, never too few.
pub const INCIDENT_CAPACITY: usize = 4096;

/// Names an incident; the text of a UUID version 7 made from its first detection's time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IncidentId(SmolStr);

impl IncidentId {
    /// The text of `gnomon.incident.id`; copies share it.
    #[must_use]
    pub fn text(&self) -> SmolStr {
        self.0.clone()
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The role of a detection in its incident: `event.kind` is `alert` for the first, `signal` for its repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentRole {
    /// The first of its incident.
    First,
    /// A later detection of its incident.
    Repeat,
}

impl IncidentRole {
    /// The word for `event.kind`.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            IncidentRole::First => "alert",
            IncidentRole::Repeat => "signal",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    client: SmolStr,
    server: SmolStr,
    port: Option<u16>,
    rule: SmolStr,
}

/// A [`Key`] that borrows its texts, for looking up.
struct KeyRef<'a> {
    client: &'a str,
    server: HostPort<'a>,
    rule: &'a str,
}

impl Hash for KeyRef<'_> {
    /// As that of [`Key`], field by field.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.client, self.server.host(), self.server.port(), self.rule).hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        (self.client, self.server.host(), self.server.port(), self.rule)
            == (key.client.as_str(), key.server.as_str(), key.port, key.rule.as_str())
    }
}

struct Last {
    id: IncidentId,
    at_ms: i64,
}

/// The incidents that are still open.
pub struct Incidents {
    open: Cache<Key, Last>,
    ids: Ids,
}

impl fmt::Debug for Incidents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incidents").field("open", &self.open.len()).finish_non_exhaustive()
    }
}

impl Default for Incidents {
    fn default() -> Self {
        Self::with_capacity(INCIDENT_CAPACITY)
    }
}

impl Incidents {
    /// An empty table that remembers at most `capacity` incidents.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { open: Cache::new(capacity.max(1)), ids: Ids::default() }
    }

    /// The incident that a detection belongs to. `at` is the time of the detection, live or as
    /// recorded; detections need not come in order of time.
    pub fn assign(&mut self, client: &str, server: HostPort<'_>, rule: &str, at: SystemTime) -> (IncidentId, IncidentRole) {
        let at_ms = unix_millis(at);
        if let Some(mut last) = self.open.get_mut(&KeyRef { client, server, rule })
            && u128::from(last.at_ms.abs_diff(at_ms)) <= INCIDENT_WINDOW.as_millis()
        {
            last.at_ms = last.at_ms.max(at_ms);
            return (last.id.clone(), IncidentRole::Repeat);
        }
        let id = IncidentId(self.ids.text(at));
        let key = Key { client: client.into(), server: server.host().into(), port: server.port(), rule: rule.into() };
        self.open.insert(key, Last { id: id.clone(), at_ms });
        (id, IncidentRole::First)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;
    use uuid::Uuid;

    fn server(host: &str) -> HostPort<'_> {
        HostPort::new(host, Some(8443))
    }

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_800_000_000_000 + ms)
    }

    #[test]
    fn detections_within_ten_seconds_of_the_last_are_one_incident() {
        let mut incidents = Incidents::default();
        let (first, standing) = incidents.assign("codex", server("mcp.example.com"), "rule", at(0));
        assert_eq!(standing, IncidentRole::First);
        assert_eq!(incidents.assign("codex", server("mcp.example.com"), "rule", at(9_000)), (first.clone(), IncidentRole::Repeat));
        // The window counts from the last detection, not from the first.
        assert_eq!(incidents.assign("codex", server("mcp.example.com"), "rule", at(19_000)), (first.clone(), IncidentRole::Repeat));
        let (second, standing) = incidents.assign("codex", server("mcp.example.com"), "rule", at(29_001));
        assert_eq!(standing, IncidentRole::First);
        assert_ne!(first, second);
    }

    #[test]
    fn another_client_server_or_rule_is_another_incident() {
        let mut incidents = Incidents::default();
        let calls = [("a", "b", "c"), ("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x")];
        for (client, server, rule) in calls {
            assert_eq!(incidents.assign(client, self::server(server), rule, at(0)).1, IncidentRole::First);
        }
        for (client, server, rule) in calls {
            assert_eq!(incidents.assign(client, self::server(server), rule, at(1)).1, IncidentRole::Repeat);
        }
        // A host may have several servers.
        assert_eq!(incidents.assign("a", HostPort::new("b", Some(8444)), "c", at(1)).1, IncidentRole::First);
    }

    #[test]
    fn detections_out_of_order_still_belong_together() {
        let mut incidents = Incidents::default();
        let (first, _) = incidents.assign("a", server("b"), "c", at(5_000));
        assert_eq!(incidents.assign("a", server("b"), "c", at(0)), (first.clone(), IncidentRole::Repeat));
        assert_eq!(incidents.assign("a", server("b"), "c", at(15_000)), (first.clone(), IncidentRole::Repeat));
    }

    #[test]
    fn a_flood_of_clients_does_not_grow_it() {
        let mut incidents = Incidents::with_capacity(16);
        for n in 0..1_000 {
            let _ = incidents.assign(&n.to_string(), server("b"), "c", at(n));
        }
        assert!(incidents.open.len() <= 16);
    }

    #[test]
    fn an_incident_is_named_by_a_version_7_uuid_of_its_time() {
        let (id, _) = Incidents::default().assign("a", server("b"), "c", at(0));
        let uuid: Uuid = id.text().parse().unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        let (seconds, _) = uuid.get_timestamp().unwrap().to_unix();
        assert_eq!(seconds, 1_800_000_000);
        assert_eq!(id.to_string(), id.text());
    }
}
