//! The kernel half's metrics for Prometheus. Label values come from closed sets: a name from the sensor that this build does not know
//! is left out.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gnomon_link::{Adoption, COST, COST_KERNEL, COST_PROCESS, Feature, FeatureState, GenerationEvidence, Program as Counted};
use gnomon_sensor::{Close, Outcome, Program, Reason};
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::absence::Absences;
use crate::identities::{Unknown, Who};

/// TLS or not, for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Its ClientHello was read.
    Yes,
    /// The flow ended without one.
    No,
    /// The flow began as TLS, and its ClientHello could not be read.
    Unreadable,
}

impl Tls {
    const ALL: [Self; 3] = [Self::Yes, Self::No, Self::Unreadable];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Work that was dropped because a bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    /// A flow was forgotten.
    Flow,
    /// A ClientHello was not put together.
    Hello,
    /// A flow was judged before it was known whose it is.
    Waiting,
    /// A record that the kernel half cannot have written.
    Record,
    /// A message of the sensor that could not be read.
    Message,
    /// A local server is not asked where it listens.
    Listener,
}

impl Shed {
    const ALL: [Self; 6] = [Self::Flow, Self::Hello, Self::Waiting, Self::Record, Self::Message, Self::Listener];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Hello => "hello",
            Self::Waiting => "waiting",
            Self::Record => "record",
            Self::Message => "message",
            Self::Listener => "listener",
        }
    }
}

/// What became of a report that a program was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartOutcome {
    /// A local MCP server, which was judged.
    Server,
    /// A part of one that was told before.
    Part,
    /// A known agent.
    Agent,
    /// Looked at, and none of these.
    Other,
    /// Not looked at: its name is of no interest.
    PassedOver,
    /// Not looked at: too many at a time, or of one user.
    Busy,
    /// The process had ended.
    Gone,
    /// The process had called exec again, which is reported by itself.
    Stale,
    /// The sensor could not read it.
    Unreadable,
    /// The sensor did not answer in time.
    Late,
}

impl StartOutcome {
    const ALL: [Self; 10] = [
        Self::Server,
        Self::Part,
        Self::Agent,
        Self::Other,
        Self::PassedOver,
        Self::Busy,
        Self::Gone,
        Self::Stale,
        Self::Unreadable,
        Self::Late,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Part => "part",
            Self::Agent => "agent",
            Self::Other => "other",
            Self::PassedOver => "passed_over",
            Self::Busy => "busy",
            Self::Gone => "gone",
            Self::Stale => "stale",
            Self::Unreadable => "unreadable",
            Self::Late => "late",
        }
    }
}

/// States of a feature, as labels.
const STATES: [(FeatureState, &str); 4] = [
    (FeatureState::Ok, "ok"),
    (FeatureState::Unsupported, "unsupported"),
    (FeatureState::Broken, "broken"),
    (FeatureState::NotApplicable, "not_applicable"),
];

/// The capabilities that the sensor can do without, as it names them among its features.
const CAPABILITIES: [&str; 6] = ["cap_dac_read_search", "cap_sys_ptrace", "cap_sys_admin", "cap_setuid", "cap_setgid", "cap_dac_override"];

/// Directions, as the program sees them.
const SENT: &str = "sent";
const RECEIVED: &str = "received";

/// The result of adopting scopes of `gnomon exec` that were there before the sensor.
const ADOPTED: &str = "adopted";
const LOST: &str = "lost";

/// What is known of a home.
const READ: &str = "read";
const UNREAD: &str = "unread";

/// The counter that the kernel keeps of its own, beside the outcomes.
const MISSED: &str = "missed";
/// The outcomes of connections of which nothing is known.
const UNFILED: [&str; 3] = [Outcome::RingFull.name(), Outcome::TableFull.name(), MISSED];

/// A counter of the kernel half: program, outcome, and the reason or nothing.
type Counter = (&'static str, &'static str, &'static str);

/// The metrics of the kernel half. Clones count into the same series.
#[derive(Clone, Debug)]
pub struct WatchMetrics {
    events: IntCounterVec,
    fail_open: IntCounterVec,
    features: IntGaugeVec,
    up: IntGauge,
    absences: Absences,
    cpu: GaugeVec,
    reduced: IntCounter,
    left: IntCounterVec,
    left_out: IntGauge,
    homes: IntGaugeVec,
    flows: IntCounterVec,
    identities: IntCounterVec,
    shed: IntCounterVec,
    bytes: IntCounterVec,
    starts: IntCounterVec,
    /// The sensor's counters when last read: it counts from its start, as Prometheus does not.
    last: Arc<Mutex<HashMap<Counter, u64>>>,
}

impl WatchMetrics {
    /// Registers the series. Where no sensor runs, `gnomon_sensor_up` is 0.
    ///
    /// # Errors
    /// When they are there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let events = counter(
            "gnomon_sensor_events_total",
            "What the programs of the kernel half did, and did not: attempted is delivered, dropped and filtered together.",
            &["program", "outcome"],
        )?;
        let fail_open =
            counter("gnomon_fail_open_total", "Connections that were to go through the proxy and went direct, by reason.", &["reason"])?;
        let flows = counter("gnomon_flows_seen_total", "Flows that the kernel half saw, by whether they spoke TLS.", &["tls"])?;
        let identities = counter(
            "gnomon_identities_total",
            "Answers to the question who a process is, and connections that did not get one: late, busy.",
            &["outcome"],
        )?;
        let shed = counter("gnomon_watch_shed_total", "What was left out at a bound, or could not be read.", &["what"])?;
        let bytes = counter("gnomon_flow_bytes_total", "Bytes of the flows that ended, as TCP acknowledged them.", &["direction"])?;
        let starts = counter(
            "gnomon_process_starts_total",
            "Programs that were started, as the kernel half delivered it, by what became of the report: each is counted once.",
            &["outcome"],
        )?;
        for outcome in StartOutcome::ALL {
            starts.with_label_values(&[outcome.as_str()]);
        }
        let up = IntGauge::new("gnomon_sensor_up", "1 while the kernel half reports.")?;
        registry.register(Box::new(up.clone()))?;
        let absences = Absences::register(registry)?;
        let features = IntGaugeVec::new(
            Opts::new("gnomon_sensor_feature", "1 for the state that a feature of the kernel half is in."),
            &["feature", "state"],
        )?;
        registry.register(Box::new(features.clone()))?;
        let cpu = GaugeVec::new(
            Opts::new(
                "gnomon_sensor_cpu_ratio",
                "What the sensor took of one processor core when that was last measured, by part: its programs in the kernel, its process.",
            ),
            &["part"],
        )?;
        registry.register(Box::new(cpu.clone()))?;
        for part in [COST_KERNEL, COST_PROCESS] {
            cpu.with_label_values(&[part]);
        }
        let reduced = IntCounter::new(
            "gnomon_sensor_reduced_total",
            "Times that the sensor gave up a program to keep within its share of the processor.",
        )?;
        registry.register(Box::new(reduced.clone()))?;
        let left = counter(
            "gnomon_exec_scopes_left_total",
            "Scopes of gnomon exec that a sensor found with programs in them: adopted, or lost, whose programs go around the proxy.",
            &["outcome"],
        )?;
        for outcome in [ADOPTED, LOST] {
            left.with_label_values(&[outcome]);
        }
        let left_out = IntGauge::new(
            "gnomon_scope_cgroups_left_out",
            "Cgroups that match a scope of the configuration and are in none, as their user has more than are kept of one, or all together.",
        )?;
        registry.register(Box::new(left_out.clone()))?;
        let homes = IntGaugeVec::new(
            Opts::new(
                "gnomon_homes",
                "Home directories by what was known of their clients' files when they were last looked at: read, or unread, of which nothing is told.",
            ),
            &["state"],
        )?;
        registry.register(Box::new(homes.clone()))?;
        for state in [READ, UNREAD] {
            homes.with_label_values(&[state]);
        }
        for program in Program::ALL {
            // Counters that alerts use are exported at 0 as well.
            for outcome in [Outcome::Attempted.name(), Outcome::RingFull.name(), Outcome::TableFull.name(), MISSED] {
                events.with_label_values(&[program.name(), outcome]);
            }
        }
        for reason in Reason::ALL {
            fail_open.with_label_values(&[reason.name()]);
        }
        for feature in known_features() {
            features.with_label_values(&[feature, "ok"]);
        }
        for tls in Tls::ALL {
            flows.with_label_values(&[tls.as_str()]);
        }
        for outcome in Unknown::ALL.map(Unknown::as_str).into_iter().chain(["confirmed", "unverified"]) {
            identities.with_label_values(&[outcome]);
        }
        for direction in [SENT, RECEIVED] {
            bytes.with_label_values(&[direction]);
        }
        for what in Shed::ALL {
            shed.with_label_values(&[what.as_str()]);
        }
        Ok(Self {
            events,
            fail_open,
            features,
            up,
            absences,
            cpu,
            reduced,
            left,
            left_out,
            homes,
            flows,
            identities,
            shed,
            bytes,
            starts,
            last: Arc::default(),
        })
    }

    pub(crate) fn scopes_leave_out(&self, cgroups: usize) {
        self.left_out.set(i64::try_from(cgroups).unwrap_or(i64::MAX));
    }

    pub(crate) fn homes(&self, read: usize, unread: usize) {
        for (state, count) in [(READ, read), (UNREAD, unread)] {
            self.homes.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// The time that there was no sensor before this one, unless it is the first.
    pub(crate) fn began(&self, features: &[Feature]) -> Option<Duration> {
        // A sensor counts from its start.
        self.last.lock().clear();
        self.features(features);
        self.up.set(1);
        self.absences.end(Instant::now())
    }

    pub(crate) fn left(&self, adoption: &Adoption) {
        let outcome = match adoption {
            Adoption::Adopted => ADOPTED,
            Adoption::Lost(_) => LOST,
        };
        self.left.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn ended(&self) {
        self.up.set(0);
    }

    /// From now on a sensor is missing.
    pub(crate) fn missed(&self) {
        self.absences.begin(Instant::now());
    }

    pub(crate) fn features(&self, features: &[Feature]) {
        for feature in features {
            let Some(name) = known_features().find(|known| *known == feature.name.as_str()) else { continue };
            for (state, label) in STATES {
                self.features.with_label_values(&[name, label]).set(i64::from(feature.state == state));
            }
        }
    }

    /// True if connections began meanwhile whose owners were not filed, or that are not in the ring.
    pub(crate) fn counted(&self, programs: &[Counted]) -> bool {
        let mut unfiled = false;
        let mut last = self.last.lock();
        for program in programs {
            if program.name.as_str() == COST {
                self.cost(program);
                continue;
            }
            let Some(name) = Program::ALL.map(Program::name).into_iter().find(|known| *known == program.name.as_str()) else { continue };
            for count in program.counts.iter() {
                let Some((outcome, reason)) = known_outcome(&count.outcome) else { continue };
                let known = last.entry((name, outcome, reason.map_or("", Reason::name))).or_default();
                // A counter that decreased was restarted.
                let more = count.count.checked_sub(*known).unwrap_or(count.count);
                *known = count.count;
                unfiled |= more > 0 && UNFILED.contains(&outcome);
                self.events.with_label_values(&[name, outcome]).inc_by(more);
                if let Some(reason) = reason
                    && outcome == Outcome::FailOpen(reason).name()
                {
                    self.fail_open.with_label_values(&[reason.name()]).inc_by(more);
                }
            }
        }
        unfiled
    }

    fn cost(&self, cost: &Counted) {
        for count in cost.counts.iter() {
            if let Some(part) = [COST_KERNEL, COST_PROCESS].into_iter().find(|part| *part == count.outcome.as_str()) {
                self.cpu.with_label_values(&[part]).set(count.count as f64 / 1e6);
            }
        }
    }

    /// The sensor gave something up.
    pub(crate) fn reduced(&self) {
        self.reduced.inc();
    }

    pub(crate) fn flow(&self, tls: Tls) {
        self.flows.with_label_values(&[tls.as_str()]).inc();
    }

    pub(crate) fn identity(&self, who: &Who) {
        let outcome = match who {
            Who::Known(identity) if identity.generation == GenerationEvidence::Confirmed => "confirmed",
            Who::Known(_) => "unverified",
            Who::Unknown(why) => why.as_str(),
        };
        self.identities.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn start(&self, outcome: StartOutcome) {
        self.starts.with_label_values(&[outcome.as_str()]).inc();
    }

    pub(crate) fn shed(&self, what: Shed, times: usize) {
        self.shed.with_label_values(&[what.as_str()]).inc_by(u64::try_from(times).unwrap_or(u64::MAX));
    }

    pub(crate) fn closed(&self, close: &Close) {
        self.bytes.with_label_values(&[SENT]).inc_by(close.sent);
        self.bytes.with_label_values(&[RECEIVED]).inc_by(close.received);
    }
}

fn known_features() -> impl Iterator<Item = &'static str> {
    ["cgroup2", "maps", "namespaced_owners", "task_lineage", "cpu_bound"]
        .into_iter()
        .chain(CAPABILITIES)
        .chain(Program::ALL.map(Program::name))
}

/// An outcome as the sensor names it: `delivered`, or `fail_open_no_listener` with its reason.
fn known_outcome(name: &str) -> Option<(&'static str, Option<Reason>)> {
    if name == MISSED {
        return Some((MISSED, None));
    }
    Outcome::ALL.into_iter().find_map(|outcome| match outcome.reason() {
        None => (name == outcome.name()).then_some((outcome.name(), None)),
        Some(reason) => {
            let rest = name.strip_prefix(outcome.name())?.strip_prefix(['_', ':', '/', '.'])?;
            (rest == reason.name()).then_some((outcome.name(), Some(reason)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_host::doctor::{self, Need};

    #[test]
    fn each_capability_that_the_sensor_can_do_without_has_a_metric_where_it_is_missing() {
        let mut optional: Vec<_> =
            doctor::CAPABILITIES.iter().filter(|one| one.need == Need::Optional).map(|one| one.name.to_lowercase()).collect();
        let mut known = CAPABILITIES.map(str::to_owned).to_vec();
        optional.sort();
        known.sort();
        assert_eq!(known, optional);
    }
}
