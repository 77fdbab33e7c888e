//! A local server, apart from its messages: that it was started, or that a client's configuration file lists it. All that is known of it
//! is known at once, so its phases are walked at once.

use crate::{
    Inspector, Sighting, normal_host,
    shadow::would,
    sighting::{Findings, sightings},
};
use gnomon_engine::{Enforcement, Verdict};
use gnomon_observe::{Action, Channel, Confidence, Evidence, Field, Lookup, Observation, Phase, Value};
use std::sync::Arc;

/// True if an observation is of a local server apart from its messages.
pub(crate) fn is_local(seen: &Observation) -> bool {
    seen.text(Field::Channel).is_some_and(|channel| channel == Channel::Process.as_str() || channel == Channel::Config.as_str())
}

/// Judges it. Nothing is held back for it, so that a rule which would refuse is told in `gnomon.would`.
#[must_use]
pub fn judge_local(inspector: &Arc<Inspector>, mut seen: Observation) -> Vec<Sighting> {
    let server = seen.text(Field::ServerAddress).map(normal_host);
    if let Some(server) = server {
        let port = match seen.get(Field::ServerPort) {
            Lookup::Value(Value::Int(port)) => u16::try_from(*port).unwrap_or_default(),
            _ => 0,
        };
        inspector.describe_standing(&mut seen, &inspector.reviews(), &server, port);
        let surroundings = inspector.surroundings();
        seen.set_some(Field::Catalogue, surroundings.catalogue.lookup(&server).map(|entry| entry.kind.as_str()));
    }
    let mut findings = Findings { local: confidence(&seen), ..Findings::default() };
    if findings.local.is_some() {
        let is_start = seen.text(Field::Channel) == Some(Channel::Process.as_str());
        findings.evidence.insert(if is_start { Evidence::Process } else { Evidence::Config });
    }
    let rules = inspector.rules();
    let mut progress = rules.start();
    for phase in Phase::ALL {
        let _ = rules.judge(&seen, *phase, &mut progress);
    }
    let (action, allows) = match rules.passing(&progress) {
        Verdict { action: Action::Allow, rule: Some(rule) } => (Action::Allow, Some(rule)),
        // There is nothing to refuse.
        _ => (Action::Log, None),
    };
    let would = would(&rules, &progress, Enforcement::Shadow);
    seen.set_some(Field::Would, would.map(|(action, _)| action.as_str()));
    sightings(&rules, &progress, seen, findings, action, would.map(|(_, rule)| rule).or(allows))
}

/// How sure it is that this is an MCP server: its package is known, or a client lists it; a name alone is a hint.
fn confidence(seen: &Observation) -> Option<Confidence> {
    match seen.text(Field::LocalKnownBy)? {
        "catalogue" | "config" => Some(Confidence::Probable),
        _ => Some(Confidence::Suspected),
    }
}
