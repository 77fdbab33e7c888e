//! What portals show of themselves as metrics. Labels are of the configuration and of fixed sets.

use crate::{
    server_metrics::{ServerMetrics, ServersMetrics},
    telling,
};
use gnomon_upstream::{
    catalogue::Kind,
    left_out::{LeftOut, Reason},
};
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

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
    servers: ServersMetrics,
}

impl PortalMetrics {
    /// `gnomon_portal_entries_left_out` is without a series until a list was fetched.
    ///
    /// # Errors
    /// When the name of a metric is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help =
            "Entries of a server's list that are not offered, by why: clients could not read the list with them, or they cost too much.";
        let left_out = IntGaugeVec::new(Opts::new("gnomon_portal_entries_left_out", help), &["server", "list", "reason"])?;
        let help = "What portals turned away because callers took what there is for them: requests (503), and answers and \
                    messages to clients, by want of `room` for them in memory; `connections`, which are closed.";
        let refused = IntCounterVec::new(Opts::new("gnomon_portal_refused_total", help), &["lacking"])?;
        registry.register(Box::new(telling::counter()?))?;
        registry.register(Box::new(left_out.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        let metrics = Self { left_out, refused, servers: ServersMetrics::register(registry)? };
        for lacking in Lacking::ALL {
            metrics.count(lacking, 0);
        }
        Ok(metrics)
    }

    /// Shows the series of a server, as they are in the reference.
    pub fn show(&self, server: &str) {
        let _ = self.of("main", server);
        self.servers.show("main", server);
    }

    /// The series of a server.
    pub fn of(&self, portal: &str, server: &str) -> ServerMetrics {
        for kind in Kind::ALL {
            self.set_left_out(server, kind, &[]);
        }
        self.servers.of(portal, server)
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
