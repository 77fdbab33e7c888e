//! The metrics of each server: whether it is up, and if not why; calls, errors, sessions, latencies.

use crate::acts::Ending;
use gnomon_upstream::UpstreamError;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector as _, MetricVec, MetricVecBuilder},
};
use smol_str::SmolStr;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicU8, Ordering},
    time::SystemTime,
};

/// Seconds that servers take: from a local one to a model's answer.
const TOOK: [f64; 8] = [0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0, 120.0];

/// The metrics of all servers.
#[derive(Clone, Debug)]
pub(crate) struct ServersMetrics {
    up: IntGaugeVec,
    down: IntGaugeVec,
    calls: IntCounterVec,
    errors: IntCounterVec,
    took: HistogramVec,
    sessions: IntGaugeVec,
    changed: IntGaugeVec,
    silent: IntGaugeVec,
    withheld: IntGaugeVec,
}

impl ServersMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// One of these names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let of = ["portal", "server"];
        let help = "1 while a server that a portal offers answers, 0 while it does not and before it first did.";
        let up = IntGaugeVec::new(Opts::new("gnomon_portal_server_up", help), &of)?;
        let help = "1 for the reason why a server is not there now: refused, dns, tls, forbidden_address, timeout (no connection), \
                    frozen (a connection and no answer), unreachable, broke_off, not_started, unauthorized, http_4xx, http_5xx, \
                    http_other, protocol, too_large or error_answer.";
        let down = IntGaugeVec::new(Opts::new("gnomon_portal_server_down", help), &["portal", "server", "reason"])?;
        let help = "Requests of clients that were to go to a server, by how they ended: ok, input_required (it asks for input before it answers), error, refused (by policy, rules or the \
                    tool's schema), unavailable, unanswered (it left and no answer came) or cancelled.";
        let calls = IntCounterVec::new(Opts::new("gnomon_portal_server_calls_total", help), &["portal", "server", "status"])?;
        let help = "Requests of clients to which a server gave no answer, by reason: as in gnomon_portal_server_down, or down, where \
                    it was known to be, or busy, where their caller has its share of the calls under way.";
        let errors = IntCounterVec::new(Opts::new("gnomon_portal_server_errors_total", help), &["portal", "server", "reason"])?;
        let help = "How long servers take to answer requests of clients.";
        let opts = HistogramOpts::new("gnomon_portal_server_seconds", help).buckets(TOOK.to_vec());
        let took = HistogramVec::new(opts, &of)?;
        let help = "Sessions that are open with a server, for clients.";
        let sessions = IntGaugeVec::new(Opts::new("gnomon_portal_server_sessions", help), &of)?;
        let help = "When a server last became present or absent, seconds since 1970; 0 before it was first asked.";
        let changed = IntGaugeVec::new(Opts::new("gnomon_portal_server_changed_timestamp_seconds", help), &of)?;
        let help = "When a server was last heard that is at calls and does not answer whether it is there, seconds since 1970: it is \
                    frozen, or does one thing at a time. 0 otherwise.";
        let silent = IntGaugeVec::new(Opts::new("gnomon_portal_server_silent_timestamp_seconds", help), &of)?;
        registry.register(Box::new(silent.clone()))?;
        let help = "1 for each rule that withholds something of a server from everybody: a list as a whole (of an API, operations of it), \
                    by its key, or its instructions.";
        let withheld = IntGaugeVec::new(Opts::new("gnomon_portal_server_withheld", help), &["portal", "server", "what", "rule"])?;
        registry.register(Box::new(withheld.clone()))?;
        registry.register(Box::new(changed.clone()))?;
        registry.register(Box::new(up.clone()))?;
        registry.register(Box::new(down.clone()))?;
        registry.register(Box::new(calls.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        registry.register(Box::new(took.clone()))?;
        registry.register(Box::new(sessions.clone()))?;
        Ok(Self { up, down, calls, errors, took, sessions, changed, silent, withheld })
    }

    /// The series of one server.
    pub fn of(&self, portal: &str, server: &str) -> ServerMetrics {
        let of = [portal, server];
        self.up.with_label_values(&of).set(0);
        self.changed.with_label_values(&of).set(0);
        self.silent.with_label_values(&of).set(0);
        self.calls.with_label_values(&[portal, server, "ok"]);
        self.errors.with_label_values(&[portal, server, "timeout"]);
        self.took.with_label_values(&of);
        let sessions = self.sessions.with_label_values(&of);
        ServerMetrics { all: self.clone(), portal: portal.into(), server: server.into(), sessions }
    }

    /// Removes the series of one server.
    pub fn forget(&self, portal: &str, server: &str) {
        let of = [("portal", portal), ("server", server)];
        remove(&self.up, &of);
        remove(&self.down, &of);
        remove(&self.calls, &of);
        remove(&self.errors, &of);
        remove(&self.took, &of);
        remove(&self.sessions, &of);
        remove(&self.changed, &of);
        remove(&self.silent, &of);
        remove(&self.withheld, &of);
    }

    /// Shows every series that there may be.
    pub fn show(&self, portal: &str, server: &str) {
        let _ = self.of(portal, server);
        self.down.with_label_values(&[portal, server, "timeout"]);
        self.withheld.with_label_values(&[portal, server, "tools", "a rule"]);
    }
}

/// Removes the series of a metric that have these labels, whatever others they have.
pub(crate) fn remove<T: MetricVecBuilder>(metric: &MetricVec<T>, labels: &[(&str, &str)]) {
    for family in metric.collect() {
        for series in family.get_metric() {
            let all: HashMap<&str, &str> = series.get_label().iter().map(|label| (label.name(), label.value())).collect();
            if labels.iter().all(|(name, value)| all.get(name) == Some(value)) {
                // The series may be gone already.
                let _ = metric.remove(&all);
            }
        }
    }
}

/// Seconds since 1970.
fn seconds(at: SystemTime) -> i64 {
    i64::try_from(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// The metrics of one server.
#[derive(Clone, Debug)]
pub struct ServerMetrics {
    all: ServersMetrics,
    portal: SmolStr,
    server: SmolStr,
    sessions: IntGauge,
}

impl ServerMetrics {
    /// Sets that the server is up.
    pub fn is_here(&self) {
        self.is_up(1);
    }

    /// Sets it as up, and since when if it was not.
    fn is_up(&self, now: i64) {
        let of = [&self.portal, &self.server];
        let (up, changed) = (self.all.up.with_label_values(&of), self.all.changed.with_label_values(&of));
        if up.get() != now || changed.get() == 0 {
            changed.set(seconds(SystemTime::now()));
        }
        up.set(now);
    }

    /// Sets since when the server, which is at calls, has said nothing; or that it has not fallen silent.
    pub fn is_silent(&self, since: Option<SystemTime>) {
        self.all.silent.with_label_values(&[&self.portal, &self.server]).set(since.map_or(0, seconds));
    }

    /// Sets that the server is down, and why.
    pub fn is_gone(&self, why: &UpstreamError) {
        self.is_up(0);
        self.all.down.with_label_values(&[&self.portal, &self.server, why.reason()]).set(1);
    }

    /// Sets which rules withhold this of the server.
    pub fn withholds(&self, what: &'static str, rules: &[SmolStr]) {
        remove(&self.all.withheld, &[("portal", &*self.portal), ("server", &*self.server), ("what", what)]);
        for rule in rules {
            self.all.withheld.with_label_values(&[&*self.portal, &*self.server, what, &**rule]).set(1);
        }
    }

    /// Clears this reason for being down.
    pub fn no_longer(&self, reason: &str) {
        let _ = self.all.down.remove_label_values(&[&self.portal, &self.server, reason]);
    }

    /// A request of a client ended.
    pub fn ended(&self, ending: &Ending) {
        let status = ending.status.as_str();
        self.all.calls.with_label_values(&[&self.portal, &self.server, status]).inc();
        if let Some(took) = ending.upstream {
            self.all.took.with_label_values(&[&self.portal, &self.server]).observe(took.as_secs_f64());
        }
    }

    /// The server gave no answer.
    pub fn failed(&self, why: &UpstreamError) {
        self.all.errors.with_label_values(&[&self.portal, &self.server, why.reason()]).inc();
    }

    /// The number of sessions with it.
    pub fn sessions(&self) -> IntGauge {
        self.sessions.clone()
    }
}

/// The last known presence of a server, so that each change is reported once.
#[derive(Debug, Default)]
pub struct Known(AtomicU8);

/// A change of presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// No change.
    Nothing,
    /// The server went away.
    Away,
    /// The server came for the first time.
    First,
    /// The server came back.
    Back,
}

impl Known {
    const HERE: u8 = 1;
    const GONE: u8 = 2;

    pub fn gone(&self) -> Came {
        if self.0.swap(Self::GONE, Ordering::AcqRel) == Self::GONE { Came::Nothing } else { Came::Away }
    }

    pub fn here(&self) -> Came {
        match self.0.swap(Self::HERE, Ordering::AcqRel) {
            Self::HERE => Came::Nothing,
            Self::GONE => Came::Back,
            _ => Came::First,
        }
    }
}
