//! The judge: rules and the reviews and configuration of servers. One way for live traffic and for recordings, so that they differ in
//! nothing else.

use crate::{
    complaint::Complaint,
    decisions::{self, Known},
    rule_files,
    runtime::runtime,
};
use anyhow::Result;
use gnomon_config::Config;
use gnomon_engine::RuleSet;
use gnomon_inspect::{Bounds, Inspector, Reviews, Surroundings};
use gnomon_kit::unix_millis;
use gnomon_ledger::Decision;
use std::{path::Path, sync::Arc, time::SystemTime};

/// These rules where the configuration says what is sanctioned and known, without reviews yet.
///
/// # Errors
/// A catalogue is bad.
pub fn inspector(config: &Config, rules: Arc<RuleSet>) -> Result<Inspector, Complaint> {
    let surroundings = surroundings(config)?;
    let bounds = Bounds { window: config.proxy.window_bytes, ..Bounds::default() };
    Ok(Inspector::new(rules, surroundings, bounds))
}

/// The configuration's sanctioned, known and registered servers.
///
/// # Errors
/// A catalogue is bad.
pub fn surroundings(config: &Config) -> Result<Surroundings, Complaint> {
    Ok(Surroundings {
        sanctioned: config.sanctioned_hosts(),
        catalogue: rule_files::catalogue(&config.rules.hosts)?,
        registered: config.registered(),
    })
}

/// The reviews by which recordings are judged: those of this state folder, none without one; while the database is away those that this
/// host read last.
///
/// # Errors
/// Neither can be read.
pub fn decided(config: &Config, state_dir: Option<&Path>) -> Result<Known> {
    let Some(state_dir) = state_dir else { return Ok(Known { reviews: Vec::new(), stale: None }) };
    let known = runtime()?.block_on(decisions::known(&config.decided(state_dir)));
    let next = "mend it, or name another folder with --state-dir; what this host read of a database before would do, and there is nothing";
    Ok(known.map_err(|error| Complaint::input(error.to_string()).next(next))?)
}

/// The inspector for recordings: with these reviews, as they hold now.
///
/// # Errors
/// A catalogue is bad.
pub fn of_recordings(config: &Config, rules: RuleSet, decided: &Known) -> Result<Arc<Inspector>> {
    let inspector = inspector(config, Arc::new(rules))?;
    inspector.replace_reviews(Arc::new(reviews(&decided.reviews, unix_millis(SystemTime::now()))));
    Ok(Arc::new(inspector))
}

/// The reviews that these decisions make at this moment.
pub fn reviews<'d>(decisions: impl IntoIterator<Item = &'d Decision>, now_ms: i64) -> Reviews {
    decisions.into_iter().map(|decision| (decision.server.host.clone(), decision.server.port, decision.state_at(now_ms))).collect()
}
