//! How the descriptors of the serving process are shared out: what listens, keeps and tells goes before what clients ask for.

use gnomon_config::Config;
use gnomon_http::{MAX_LOOKUPS, UpstreamBudget, UpstreamCounts};
use prometheus::{
    IntCounter, IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;

/// The descriptors to request if the hard limit is infinite.
const WANTED: u64 = 1 << 20;
/// The reserve for the ledger, the audit, metrics and their scrapers, listeners, programs: whatever the limit.
const RESERVED: usize = 64;
/// The part of the limit that is reserved, one in so many, if that is more.
const RESERVED_PART: usize = 16;
/// The part for name lookups, one in so many; they hold up to two each.
const LOOKUPS_PART: usize = 16;
/// Most connections to upstreams, whatever the limit.
const MOST_UPSTREAMS: usize = 16_384;
/// Most of them without a request.
const MOST_IDLE: usize = 1024;

/// The listeners for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listens {
    /// The proxy and the portals.
    All,
    /// `gnomon portal`.
    PortalsAlone,
}

/// The shares of descriptors.
#[derive(Clone, Debug)]
pub struct Descriptors {
    /// Client connections, for each listener.
    pub clients: usize,
    /// Connections to upstreams, for all.
    pub upstreams: Arc<UpstreamBudget>,
    /// Name lookups at a time, for each dialer.
    pub lookups: usize,
}

impl Descriptors {
    /// Raises the soft limit to the hard one and shares it out. Programs that are started inherit it.
    pub fn share_out(config: &Config, listens: Listens) -> Self {
        let limit = getrlimit(Resource::Nofile);
        let hard = limit.maximum.unwrap_or(WANTED);
        let soft = limit.current.unwrap_or(WANTED);
        let raised = Rlimit { current: Some(hard), maximum: limit.maximum };
        let descriptors = if soft < hard && setrlimit(Resource::Nofile, raised).is_ok() { hard } else { soft };
        let limit = usize::try_from(descriptors.min(WANTED)).unwrap_or(usize::MAX);
        let descriptors = Self::of(limit, config, listens);
        let clients = descriptors.clients;
        for key in above(&asked(config, listens), clients) {
            tracing::warn!(
                limit,
                clients,
                "{key} is more than the limit of open files leaves room for; raise it (LimitNOFILE=, ulimit -Hn)"
            );
        }
        descriptors
    }

    fn of(limit: usize, config: &Config, listens: Listens) -> Self {
        let lookups = (limit / LOOKUPS_PART).clamp(1, MAX_LOOKUPS);
        let reserved = (RESERVED + 2 * lookups).max(limit / RESERVED_PART);
        let rest = limit.saturating_sub(reserved);
        let asked = asked(config, listens);
        let clients = (rest / 2 / asked.len().max(1)).max(1);
        let taken: usize = asked.iter().map(|(_, most)| *most.min(&clients)).sum();
        let upstreams = rest.saturating_sub(taken).clamp(1, MOST_UPSTREAMS);
        Self { clients, upstreams: UpstreamBudget::new(upstreams, (upstreams / 2).clamp(1, MOST_IDLE)), lookups }
    }
}

/// The connections that each listener may have, by the key of the configuration.
fn asked(config: &Config, listens: Listens) -> Vec<(String, usize)> {
    let of_proxy = (listens == Listens::All).then(|| ("proxy.max_connections".to_owned(), config.proxy.max_connections));
    let of_portals = config.portals.iter().map(|portal| (format!("portals[].max_connections of {}", portal.id), portal.max_connections));
    of_proxy.into_iter().chain(of_portals).collect()
}

/// The keys that ask for more than there are.
fn above(asked: &[(String, usize)], clients: usize) -> impl Iterator<Item = &str> {
    asked.iter().filter(move |(_, most)| *most > clients).map(|(key, _)| key.as_str())
}

/// Metrics of connections to upstreams, read when they are scraped.
pub struct UpstreamMetrics {
    budget: Arc<UpstreamBudget>,
    connections: IntGaugeVec,
    limit: IntGauge,
    refused: IntCounter,
    closed: IntCounter,
}

impl UpstreamMetrics {
    /// Registers them with the rest.
    ///
    /// # Errors
    /// When the registry refuses a name, which is a mistake in this file.
    pub fn register(budget: Arc<UpstreamBudget>, registry: &Registry) -> Result<(), prometheus::Error> {
        let connections = Opts::new("gnomon_upstream_connections", "Connections to upstreams that carry requests, and idle ones.");
        registry.register(Box::new(Self {
            budget,
            connections: IntGaugeVec::new(connections, &["state"])?,
            limit: IntGauge::new("gnomon_upstream_connections_limit", "How many connections to upstreams there may be.")?,
            refused: IntCounter::new(
                "gnomon_upstream_refused_total",
                "Connections to upstreams that were refused (503) as there were too many, or too many of one user or address.",
            )?,
            closed: IntCounter::new("gnomon_upstream_idle_closed_total", "Idle connections to upstreams that were closed to make room.")?,
        }))
    }
}

impl Collector for UpstreamMetrics {
    fn desc(&self) -> Vec<&Desc> {
        [self.connections.desc(), self.limit.desc(), self.refused.desc(), self.closed.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let UpstreamCounts { open, most, idle, refused, closed, .. } = self.budget.counts();
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.connections.with_label_values(&["busy"]).set(gauge(open.saturating_sub(idle)));
        self.connections.with_label_values(&["idle"]).set(gauge(idle));
        self.limit.set(gauge(most));
        self.refused.inc_by(refused.saturating_sub(self.refused.get()));
        self.closed.inc_by(closed.saturating_sub(self.closed.get()));
        [self.connections.collect(), self.limit.collect(), self.refused.collect(), self.closed.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_limit_all_shares_together_stay_below_it() {
        for limit in [256, 1024, 4096, 65_536, 1 << 20] {
            let config = Config::default();
            let Descriptors { clients, upstreams, lookups } = Descriptors::of(limit, &config, Listens::All);
            let clients = clients.min(config.proxy.max_connections);
            let used = clients + upstreams.counts().most + 2 * lookups + RESERVED;
            assert!(used <= limit, "{used} of {limit}");
            assert!(clients >= 40 && upstreams.counts().most >= 40, "{limit}: {clients} {upstreams:?}");
        }
    }

    #[test]
    fn who_asks_for_more_than_there_are_is_named_by_a_key_that_counts_there() {
        let text = "servers: [{id: docs, url: 'https://docs.example/mcp'}]\n\
                    portals: [{id: main, listen: '127.0.0.1:0', servers: [docs], max_connections: 100}]\n";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gnomon.yml");
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&path).unwrap();
        let keys = |listens, clients| above(&asked(&config, listens), clients).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(keys(Listens::PortalsAlone, 50), ["portals[].max_connections of main"]);
        assert_eq!(keys(Listens::PortalsAlone, 200), [""; 0]);
        assert_eq!(keys(Listens::All, 200), ["proxy.max_connections"]);
        assert_eq!(keys(Listens::All, 50), ["proxy.max_connections", "portals[].max_connections of main"]);
    }
}
