//! The metrics of portals. Labels are of the configuration and of fixed sets.

use crate::{
    ground::{self, RefusalCounts},
    server_metrics::{ServerMetrics, ServersMetrics, remove},
    telling,
};
use gnomon_upstream::{
    catalogue::Kind,
    left_out::{LeftOut, Reason},
};
use parking_lot::{Mutex, MutexGuard};
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use smol_str::SmolStr;
use std::{collections::HashMap, sync::Arc};

/// The reason that a request was refused before it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// Memory for requests, or for what is to be sent.
    Room,
    /// Places for connections.
    Connections,
}

impl Lacking {
    const ALL: [Self; 2] = [Self::Room, Self::Connections];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Connections => "connections",
        }
    }
}

/// Metrics of all portals of a gnomon.
#[derive(Clone, Debug)]
pub struct PortalMetrics {
    left_out: IntGaugeVec,
    refused: IntCounterVec,
    refusals: IntCounterVec,
    sessions: IntGaugeVec,
    servers: ServersMetrics,
    shown: Arc<Shown>,
}

impl PortalMetrics {
    /// `gnomon_portal_entries_left_out` is without a series until a list was fetched.
    ///
    /// # Errors
    /// When the name of a metric is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help =
            "Entries of a server's list that are not offered, by reason: clients could not read the list with them, or they cost too much.";
        let left_out = IntGaugeVec::new(Opts::new("gnomon_portal_entries_left_out", help), &["server", "list", "reason"])?;
        let help = "What portals turned away because callers took what there is for them: requests (503), and answers and \
                    messages to clients, by want of `room` for them in memory; `connections`, which are closed.";
        let refused = IntCounterVec::new(Opts::new("gnomon_portal_refused_total", help), &["lacking"])?;
        registry.register(Box::new(telling::counter()?))?;
        registry.register(Box::new(left_out.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        let help = "Sessions that clients have with a portal; those of the protocol that knows none (2026-07-28) have none.";
        let sessions = IntGaugeVec::new(Opts::new("gnomon_portal_sessions", help), &["portal"])?;
        registry.register(Box::new(sessions.clone()))?;
        let (refusals, servers) = (ground::counter(registry)?, ServersMetrics::register(registry)?);
        let metrics = Self { left_out, refused, refusals, sessions, servers, shown: Arc::default() };
        for lacking in Lacking::ALL {
            metrics.count(lacking, 0);
        }
        Ok(metrics)
    }

    /// Shows the series of a portal and a server, as they are in the reference.
    pub fn show(&self, server: &str) {
        let _ = (self.refusals("main"), self.sessions("main"));
        let _ = self.of("main", server);
        self.servers.show("main", server);
    }

    /// The counts of what a portal refuses by itself.
    #[must_use]
    pub fn refusals(&self, portal: &str) -> RefusalCounts {
        RefusalCounts::of(&self.refusals, portal)
    }

    /// The number of sessions that clients have with a portal.
    #[must_use]
    pub fn sessions(&self, portal: &str) -> IntGauge {
        self.sessions.with_label_values(&[portal])
    }

    /// The series of a server.
    pub fn of(&self, portal: &str, server: &str) -> ServerMetrics {
        for kind in Kind::ALL {
            self.set_left_out(server, kind, &[]);
        }
        self.servers.of(portal, server)
    }

    /// The same, whose series go when the last who keeps this for the server does: with a server that is offered no longer they would
    /// say for ever what it was.
    pub(crate) fn kept(&self, portal: &SmolStr, server: &SmolStr) -> Keeps {
        let of = (portal.clone(), server.clone());
        *self.shown.table().entry(of.clone()).or_default() += 1;
        Keeps { metrics: self.clone(), of }
    }

    /// Removes the series of a server at a portal, and those that it has wherever it is offered if it is at no other.
    fn forget(&self, (portal, server): (&SmolStr, &SmolStr), last: Last) {
        self.servers.forget(portal, server);
        if last == Last::Anywhere {
            remove(&self.left_out, &[("server", server)]);
        }
    }

    pub(crate) fn set_left_out(&self, server: &str, kind: Kind, left_out: &[LeftOut]) {
        for reason in Reason::ALL {
            let count = left_out.iter().filter(|left| left.reason == reason).count();
            let gauge = self.left_out.with_label_values(&[server, kind.key(), reason.as_str()]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts a refusal, as there is not enough of this.
    pub fn refused(&self, lacking: Lacking) {
        self.count(lacking, 1);
    }

    fn count(&self, lacking: Lacking, count: u64) {
        self.refused.with_label_values(&[lacking.as_str()]).inc_by(count);
    }
}

/// The holders of the series of a server at a portal: one that replaces another holds them beside it for a while.
#[derive(Debug, Default)]
struct Shown(Mutex<HashMap<(SmolStr, SmolStr), usize>>);

impl Shown {
    fn table(&self) -> MutexGuard<'_, HashMap<(SmolStr, SmolStr), usize>> {
        self.0.lock()
    }
}

/// Whether a server is still shown elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// Another portal offers it.
    Here,
    /// No portal does.
    Anywhere,
}

/// Holds the series of a server at a portal until this is dropped.
pub(crate) struct Keeps {
    metrics: PortalMetrics,
    of: (SmolStr, SmolStr),
}

impl Drop for Keeps {
    fn drop(&mut self) {
        let (portal, server) = &self.of;
        // Locked until they are gone: a concurrent start makes them anew.
        let mut shown = self.metrics.shown.table();
        if let Some(count) = shown.get_mut(&self.of) {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        shown.remove(&self.of);
        let last = if shown.keys().any(|(_, other)| other == server) { Last::Here } else { Last::Anywhere };
        self.metrics.forget((portal, server), last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acts::Ending;
    use gnomon_audit::Status;
    use prometheus::TextEncoder;

    #[test]
    fn the_series_of_a_server_go_with_the_last_who_holds_them_and_no_others_do() {
        let registry = Registry::new();
        let metrics = PortalMetrics::register(&registry).unwrap();
        let (main, other, notes, docs): (SmolStr, SmolStr, SmolStr, SmolStr) =
            ("main".into(), "other".into(), "notes".into(), "docs".into());
        let hold = |portal: &SmolStr, server: &SmolStr| {
            let keeps = metrics.kept(portal, server);
            metrics.of(portal, server).ended(&Ending::of(Status::Refused));
            keeps
        };
        let series = |portal: &str, server: &str| {
            let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
            let portal = format!("portal=\"{portal}\"");
            let server = format!("server=\"{server}\"");
            let at = text.lines().filter(|line| line.contains(&portal) && line.contains(&server)).count();
            (at > 5, text.lines().any(|line| line.starts_with("gnomon_portal_entries_left_out") && line.contains(&server)))
        };
        let (old, elsewhere, _stays) = (hold(&main, &notes), hold(&other, &notes), hold(&main, &docs));
        let new = hold(&main, &notes);
        drop(old);
        assert_eq!(series("main", "notes"), (true, true), "another has taken its place");
        drop(new);
        assert_eq!(series("main", "notes"), (false, true), "another portal offers it");
        drop(elsewhere);
        assert_eq!((series("other", "notes"), series("main", "docs")), ((false, false), (true, true)));
    }
}
