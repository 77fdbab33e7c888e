//! What the portal holds of a server besides the way to it: who judges what passes, and whose its tasks are.

use crate::{
    judged::Judge,
    metrics::PortalMetrics,
    names::{Prefix, exposed_name},
    tasks::Tasks,
};
use bytes::Bytes;
use gnomon_upstream::{
    News, Oversight,
    catalogue::Kind,
    left_out::LeftOut,
    members::Members,
    rpc::{self, Notification, Outcome, quoted},
};
use smol_str::SmolStr;

/// A server of a portal.
pub type Upstream = gnomon_upstream::Upstream<Held>;

/// What the portal holds of one server.
pub struct Held {
    /// Judges every message between clients and the server; without it nothing does.
    pub(crate) judge: Option<Judge>,
    /// The server's tasks, as far as calls told of them.
    pub(crate) tasks: Tasks,
    prefix: Prefix,
    metric: Option<PortalMetrics>,
}

impl Held {
    /// Of a server of which nothing is known yet.
    pub(crate) fn new(server: &SmolStr, prefix: Prefix, judge: Option<Judge>, metric: Option<PortalMetrics>) -> Self {
        if let Some(metric) = &metric {
            metric.show(server);
        }
        Self { judge, tasks: Tasks::default(), prefix, metric }
    }
}

impl Oversight for Held {
    fn judges(&self) -> bool {
        self.judge.is_some()
    }

    fn judge(&self, method: &str, outcome: &Outcome, news: News) -> Result<(), String> {
        self.judge.as_ref().map_or(Ok(()), |judge| judge.own(method, outcome, news).map_err(|error| error.to_string()))
    }

    fn left_out(&self, server: &str, kind: Kind, left_out: &[LeftOut]) {
        if let Some(metric) = &self.metric {
            metric.set_left_out(server, kind, left_out);
        }
    }
}

/// A notification of a server's as clients get it: resources under the name by which clients know them.
pub(crate) fn outward(upstream: &Upstream, notification: &Notification) -> Bytes {
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
