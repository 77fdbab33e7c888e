//! The metrics that Prometheus scrapes. Every label value comes from a closed set or from the loaded rules, so a client cannot grow a
//! series.

use crate::{FlowOutcome, exposition, finish::user_of};
use gnomon_engine::{Filter, FilterStatus, Origin, RuleSet, Targets};
use gnomon_inspect::{Passage, Sighting};
use gnomon_ledger::{Detection, HostPort, LedgerCounts, Today};
use gnomon_observe::{Action, Channel, Field, Lookup, OWN_RULES, Observation, Value};
use parking_lot::{Mutex, MutexGuard};
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector,
};
use smol_str::SmolStr;
use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

/// The result of reading the rules again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The new rules are in force.
    Success,
    /// The new rules are invalid, and those from before stay.
    Failure,
}

impl Reload {
    const ALL: [Self; 2] = [Self::Success, Self::Failure];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// The metrics of one gnomon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    detections: IntCounterVec,
    today: Mutex<Today>,
    /// The events of verdicts whose exceptions are in force.
    excepted: Mutex<HashSet<SmolStr>>,
    messages: IntCounterVec,
    flows: IntCounterVec,
    passed: IntCounterVec,
    duration: Histogram,
    rules: IntGauge,
    reloads: IntCounterVec,
    reloaded: IntGauge,
    reload_succeeded: IntGauge,
    decisions_current: IntGauge,
    configured: IntGauge,
    rule_info: IntGaugeVec,
    ca_not_after: IntGauge,
    armed: IntGauge,
    memory_short: IntCounter,
    turned_away: IntCounter,
    unfinished: IntCounter,
}

impl Metrics {
    /// Makes all series; those of the loaded rules stand at 0, so that the first detection is an
    /// increase that an alert can see.
    ///
    /// # Errors
    /// When the registry refuses a name, which is a mistake in this file.
    pub fn new(rules: &RuleSet, version: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let made = Made(&registry);
        let metrics = Self {
            detections: made.counter(
                "gnomon_detections_total",
                "Detections by the rule that stands for them: of each call one.",
                &["rule", "level", "class", "channel", "action"],
            )?,
            today: Mutex::default(),
            excepted: Mutex::default(),
            messages: made.counter("gnomon_mcp_messages_total", "MCP messages from clients.", &["method", "channel", "sanctioned"])?,
            flows: made.counter("gnomon_flows_total", "Client connections by how they ended.", &["outcome"])?,
            passed: made.counter(
                "gnomon_passed_total",
                "Connections and messages that were passed on unread, by the reason.",
                &["reason"],
            )?,
            duration: made.register(Histogram::with_opts(
                HistogramOpts::new("gnomon_proxy_request_duration_seconds", "From a request's head to its answer's head.")
                    .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            )?)?,
            rules: made.gauge("gnomon_rules_loaded", "Rules in force.")?,
            reloads: made.counter("gnomon_rules_reload_total", "Times that the rules were read again while running.", &["outcome"])?,
            reloaded: made.gauge(
                "gnomon_rules_last_reload_success_timestamp_seconds",
                "When rules were last put in force, at the start included, in seconds since 1970.",
            )?,
            reload_succeeded: made
                .gauge("gnomon_rules_last_reload_successful", "1 while the rules in force are those on disk, as last read.")?,
            decisions_current: made.gauge(
                "gnomon_decisions_last_read_successful",
                "1 while the decisions about servers that are in force are those that were made, as last read; 0 where their database or files cannot be read, or the database is not the one that was read.",
            )?,
            configured: made.gauge(
                "gnomon_config_last_reload_successful",
                "1 while the portals' policies, log-ins and servers in force are those of the configuration, as last read.",
            )?,
            rule_info: made.gauges(
                "gnomon_rule_info",
                "1 for each rule in force, with its title and the pack it shipped in, `own`, or `gnomon` for what it detects by itself.",
                &["rule", "title", "pack"],
            )?,
            ca_not_after: made.gauge(
                "gnomon_ca_not_after_timestamp_seconds",
                "When the certificate authority that clients trust expires, seconds since the Unix epoch.",
            )?,
            armed: made.gauge("gnomon_armed", "1 while gnomon is armed, 0 while the kill switch stops all interference.")?,
            memory_short: made.register(IntCounter::new(
                "gnomon_memory_short_total",
                "Times that memory became short: from then on a client that takes nothing of its answer for a second loses its connection.",
            )?)?,
            turned_away: made.register(IntCounter::new(
                "gnomon_metrics_turned_away_total",
                "Connections to the listener of the metrics that were closed unserved, as their address has three quarters of its places.",
            )?)?,
            unfinished: made.register(IntCounter::new(
                "gnomon_unfinished_total",
                "Exchanges and calls that ended without being recorded, which is a defect: must stay 0.",
            )?)?,
            registry: registry.clone(),
        };
        made.gauges("gnomon_build_info", "1, labelled with the version.", &["version"])?.with_label_values(&[version]).set(1);
        // The name that Prometheus gives it: what was counted by a process this young happened just now.
        let started = made.register(Gauge::new("process_start_time_seconds", "When gnomon started, seconds since the Unix epoch.")?)?;
        started.set(now().as_secs_f64());
        metrics.begin(rules);
        Ok(metrics)
    }

    /// Memory has become short.
    pub fn memory_is_short(&self) {
        self.memory_short.inc();
    }

    /// The values before anything has happened: what alerts ask for is there from the start.
    fn begin(&self, rules: &RuleSet) {
        // The messages that alerts ask for stand at 0 as well; others appear with their first.
        for method in ["initialize", "server/discover", "tools/list", "tools/call"] {
            for sanctioned in ["true", "false"] {
                self.messages.with_label_values(&[method, Channel::Https.as_str(), sanctioned]);
            }
        }
        for outcome in FlowOutcome::ALL {
            self.flows.with_label_values(&[outcome.as_str()]);
        }
        for passage in Passage::ALL {
            self.passed.with_label_values(&[passage.reason()]);
        }
        for outcome in Reload::ALL {
            self.reloads.with_label_values(&[outcome.as_str()]);
        }
        for holds in [&self.armed, &self.decisions_current, &self.configured] {
            holds.set(1);
        }
        self.put_in_force();
        self.rules_replaced(rules);
        for rule in OWN_RULES {
            self.detections.with_label_values(&[rule.id, rule.level.as_str(), rule.class.as_str(), "", Action::Log.as_str()]);
        }
    }

    /// The registry in which others register their metrics, to be scraped with the rest.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Other rules are in force: their series stand at 0 from now on. Series of rules that are gone
    /// keep their counts.
    pub fn rules_replaced(&self, rules: &RuleSet) {
        self.rules.set(i64::try_from(rules.rules().len()).unwrap_or(i64::MAX));
        self.verdicts(rules);
        self.rule_info.reset();
        for rule in OWN_RULES {
            self.rule_info.with_label_values(&[rule.id, rule.name, "gnomon"]).set(1);
        }
        for rule in rules.rules() {
            let pack = match rule.origin {
                Origin::Vendor => rule.file.split('/').next().unwrap_or_default(),
                Origin::Admin => "own",
            };
            self.rule_info.with_label_values(&[rule.id.as_str(), rule.title.as_str(), pack]).set(1);
            for channel in [Channel::Https, Channel::Http] {
                // A rule that interferes only logs where it is too late: in a flow that is watched.
                for action in [rule.response.action, Action::Log] {
                    let labels = [rule.id.as_str(), rule.level.as_str(), rule.class.as_str(), channel.as_str(), action.as_str()];
                    self.detections.with_label_values(&labels);
                }
            }
        }
    }

    /// An incident that a rule raised, of which people found something to be none, is raised anew by what is told next.
    fn verdicts(&self, rules: &RuleSet) {
        let acting = || rules.filters().iter().filter(|filter| matches!(filter.status, FilterStatus::Acts(_)));
        let mut known = self.excepted.lock();
        let new: Vec<&Filter> = acting().filter(|filter| filter.event.as_ref().is_some_and(|event| !known.contains(event))).collect();
        let names: HashSet<&str> = new
            .iter()
            .flat_map(|filter| match &filter.targets {
                Targets::Named(names) => names.as_slice(),
                Targets::Any => &[],
            })
            .map(SmolStr::as_str)
            .collect();
        let is_named = |id: &str| {
            let rule = rules.rules().iter().find(|rule| rule.id == id);
            names.contains(id) || rule.and_then(|rule| rule.name.as_deref()).is_some_and(|name| names.contains(name))
        };
        if !names.is_empty() {
            self.incidents().excepted(is_named);
        }
        *known = acting().filter_map(|filter| filter.event.clone()).collect();
    }

    /// Takes over the incidents of today from before this start ([`gnomon_ledger::Questions::catch_up`]).
    pub fn caught_up(&self, today: Today, rules: &RuleSet) {
        *self.incidents() = today;
        self.excepted.lock().clear();
        self.verdicts(rules);
    }

    /// The rules were read again.
    pub fn rules_reloaded(&self, outcome: Reload) {
        self.reloads.with_label_values(&[outcome.as_str()]).inc();
        match outcome {
            Reload::Success => self.put_in_force(),
            Reload::Failure => self.reload_succeeded.set(0),
        }
    }

    /// Counts a reload of the configuration.
    pub fn configuration_reloaded(&self, outcome: Reload) {
        self.configured.set(i64::from(outcome == Reload::Success));
    }

    fn put_in_force(&self) {
        self.reload_succeeded.set(1);
        self.reloaded.set(i64::try_from(now().as_secs()).unwrap_or(i64::MAX));
    }

    /// Sets whether the decisions about servers in force are current.
    pub fn decisions_read(&self, current: bool) {
        self.decisions_current.set(current.into());
    }

    /// The certificate authority in use ends then, seconds since the Unix epoch.
    pub fn ca_not_after(&self, unix_seconds: i64) {
        self.ca_not_after.set(unix_seconds);
    }

    /// Counts how a connection ended.
    pub fn flow(&self, outcome: FlowOutcome) {
        self.flows.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Counts a passage.
    pub fn passed(&self, passage: Passage) {
        self.passed.with_label_values(&[passage.reason()]).inc();
    }

    /// A request was answered so long after its head came.
    pub fn answered(&self, after: Duration) {
        self.duration.observe(after.as_secs_f64());
    }

    pub(crate) fn event(&self, seen: &Observation) {
        let text = |field| seen.text(field).unwrap_or("");
        let channel = text(Field::Channel);
        if let Some(rule) = seen.text(Field::RuleId) {
            let action = seen.text(Field::Action).unwrap_or(Action::Log.as_str());
            self.detections
                .with_label_values(&[rule, text(Field::RuleLevel), text(Field::DetectionClass), channel, action])
                .inc_by(seen.calls());
        }
    }

    /// Takes the detections of one exchange into the incidents of today.
    pub(crate) fn detected(&self, sightings: &[Sighting], when: SystemTime) {
        let mut found: Vec<Detection<'_>> = sightings.iter().filter_map(|sighting| detection(&sighting.seen)).collect();
        if !found.is_empty() {
            self.incidents().detected(when, &mut found);
        }
    }

    /// The incidents of today.
    pub fn incidents(&self) -> MutexGuard<'_, Today> {
        self.today.lock()
    }

    /// Counts who is turned away by the listener of the metrics.
    #[must_use]
    pub fn turned_away(&self) -> IntCounter {
        self.turned_away.clone()
    }

    /// Counts what ended without being recorded.
    pub(crate) fn unfinished(&self) -> IntCounter {
        self.unfinished.clone()
    }

    /// gnomon may interfere again.
    pub fn armed(&self) {
        self.armed.set(1);
    }

    /// The kill switch keeps gnomon from interfering.
    pub fn disarmed(&self) {
        self.armed.set(0);
    }

    /// Counts an MCP message once, however many reports it has.
    pub(crate) fn message(&self, seen: &Observation) {
        let Some(method) = seen.text(Field::McpMethod) else { return };
        let method = if gnomon_wire::mcp::is_mcp_method(method) { gnomon_wire::mcp::canonical_method(method) } else { "other" };
        let sanctioned = match seen.get(Field::Sanctioned) {
            Lookup::Value(Value::Bool(true)) => "true",
            _ => "false",
        };
        self.messages.with_label_values(&[method, seen.text(Field::Channel).unwrap_or(""), sanctioned]).inc_by(seen.calls());
    }

    /// The text exposition format, with what the ledger counts.
    #[must_use]
    pub fn render(&self, ledger: &LedgerCounts) -> String {
        let mut text = Vec::new();
        // Writing to memory fails only for metrics without a name or value, which there are none of.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        let mut text = String::from_utf8_lossy(&text).into_owned();
        exposition::ledger(&mut text, ledger);
        exposition::incidents(&mut text, &mut self.incidents(), SystemTime::now());
        text
    }
}

/// Makes metrics in a registry.
struct Made<'r>(&'r Registry);

impl Made<'_> {
    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }
}

/// A detection as incidents of today count it; none if the event is not one.
fn detection(seen: &Observation) -> Option<Detection<'_>> {
    let (level, class) = (seen.text(Field::RuleLevel)?, seen.text(Field::DetectionClass)?);
    Some(Detection {
        user: user_of(seen),
        server: HostPort::of(seen),
        rule: seen.text(Field::RuleId)?,
        level: level.parse().ok()?,
        class: class.parse().ok()?,
        burst: seen.text(Field::IncidentId)?,
    })
}

/// The time since the Unix epoch.
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
