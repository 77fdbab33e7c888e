//! The portal's state of a server besides its connections: the judge of its messages, and the owners of its tasks.

use crate::{
    error::CallError,
    handles,
    judged::Judge,
    large,
    metrics::{Keeps, PortalMetrics},
    names::{Prefix, exposed_name},
    server_metrics::{Came, Known, ServerMetrics},
    tasks::Tasks,
};
use bytes::Bytes;
use gnomon_upstream::{
    Asked, LegacySession, News, Objection, Oversight, UpstreamError,
    catalogue::Kind,
    left_out::LeftOut,
    members::Members,
    rpc::{self, Notification, Outcome, quoted},
};
use parking_lot::Mutex;
use prometheus::IntGauge;
use smol_str::SmolStr;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

/// A server of a portal.
pub type Upstream = gnomon_upstream::Upstream<Held>;

/// A server, and the session that a client has with it.
pub type Reached = (Arc<Upstream>, Arc<LegacySession>);

/// The portal's own data on one server.
pub struct Held {
    /// Judges every message between clients and the server; without it nothing does.
    pub judge: Option<Judge>,
    /// The server's tasks, as far as calls have reported them.
    pub tasks: Tasks,
    portal: SmolStr,
    server: SmolStr,
    prefix: Prefix,
    metric: Option<PortalMetrics>,
    /// Metrics of calls of it, sessions with it, and its presence.
    pub counted: Option<ServerMetrics>,
    known: Known,
    /// The reason that it is down.
    down: Mutex<Option<&'static str>>,
    /// True once it is no longer offered: its state is not reported any more.
    retired: AtomicBool,
    /// Last: what else is dropped may count.
    _series: Option<Keeps>,
}

impl Held {
    /// The data on a server of which nothing is known yet.
    pub fn new((portal, server): (&SmolStr, &SmolStr), prefix: Prefix, judge: Option<Judge>, metric: Option<PortalMetrics>) -> Self {
        let series = metric.as_ref().map(|metric| metric.kept(portal, server));
        let counted = metric.as_ref().map(|metric| metric.of(portal, server));
        let (portal, server) = (portal.clone(), server.clone());
        let (tasks, known, down, retired) = (Tasks::default(), Known::default(), Mutex::default(), AtomicBool::new(false));
        Self { judge, tasks, portal, server, prefix, metric, counted, known, down, retired, _series: series }
    }

    /// The id by which an owner knows a task of this server.
    #[must_use]
    pub fn known_task(&self, owner: &str, id: &str) -> Option<SmolStr> {
        handles::seal((&self.portal, &self.server), owner, id)
    }

    /// This server's own id of the task that an owner knows by this one; none where that is none of its tasks, or another's.
    #[must_use]
    pub fn own_task(&self, owner: &str, known: &str) -> Option<SmolStr> {
        let (server, id) = handles::open(&self.portal, owner, known)?;
        (server == self.server).then_some(id)
    }

    /// Marks it as no longer offered: from now on its presence is not reported.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.is_down_for(None);
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Sets the reason that it is down, or that it is not.
    fn is_down_for(&self, why: Option<&UpstreamError>) {
        let before = std::mem::replace(&mut *self.down.lock(), why.map(UpstreamError::reason));
        if let (Some(counted), Some(before)) = (&self.counted, before) {
            counted.no_longer(before);
        }
        if let (Some(counted), Some(why)) = (&self.counted, why) {
            counted.is_gone(why);
        }
    }
}

impl Oversight for Held {
    fn judges(&self) -> bool {
        self.judge.is_some()
    }

    async fn judge(&self, asked: &Asked<'_>, outcome: &Outcome, news: News) -> Result<(), Objection> {
        let Some(judge) = &self.judge else { return Ok(()) };
        judge.own(asked, outcome, news).await.map_err(|error| match error {
            CallError::Refused(refusal) => Objection { rule: Some(refusal.rule_id), why: refusal.text },
            other => Objection { rule: None, why: other.to_string() },
        })
    }

    async fn read<T: Send + 'static>(&self, bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        large::read(&self.server, bytes, work).await.ok()
    }

    fn withheld(&self, what: &'static str, rules: &[SmolStr]) {
        if let Some(counted) = self.counted.as_ref().filter(|_| !self.is_retired()) {
            counted.withholds(what, rules);
        }
    }

    fn edition(&self) -> u64 {
        self.judge.as_ref().map_or(0, |judge| judge.edition())
    }

    fn left_out(&self, server: &str, kind: Kind, left_out: &[LeftOut]) {
        if let Some(metric) = self.metric.as_ref().filter(|_| !self.is_retired()) {
            metric.set_left_out(server, kind, left_out);
        }
    }

    fn is_gone(&self, _: &str, why: &UpstreamError) {
        if self.is_retired() {
            return;
        }
        self.is_down_for(Some(why));
        if self.known.gone() == Came::Away
            && let Some(judge) = &self.judge
        {
            judge.server_is("server_gone", &format!(" is not there ({}): {why}", why.reason()));
        }
    }

    fn is_here(&self, _: &str) {
        if self.is_retired() {
            return;
        }
        self.is_down_for(None);
        if let Some(counted) = &self.counted {
            counted.is_here();
        }
        if self.known.here() == Came::Back
            && let Some(judge) = &self.judge
        {
            judge.server_is("server_back", " is there again");
        }
    }

    fn is_silent(&self, _: &str, since: Option<SystemTime>) {
        if let Some(counted) = self.counted.as_ref().filter(|_| !self.is_retired()) {
            counted.is_silent(since);
        }
    }

    fn sessions(&self) -> Option<IntGauge> {
        self.counted.as_ref().map(ServerMetrics::sessions)
    }
}

/// A notification of a server's as clients get it: resources under the name by which clients know them.
pub fn outward(upstream: &Upstream, notification: &Notification) -> Bytes {
    let params = notification.params.as_ref();
    if upstream.held.prefix == Prefix::Always
        && notification.method == "notifications/resources/updated"
        && let Ok(members) = Members::of(params)
        && let Some(uri) = members.text("uri")
    {
        let known = quoted(&exposed_name(Kind::Resource, &upstream.id, &uri));
        return rpc::notification(&notification.method, Some(&members.with(&[("uri", Some(&known))])));
    }
    rpc::notification(&notification.method, params.map(|params| &**params))
}
