//! What judges: rules among what configuration and people say of servers. One way for live traffic and for recordings, so that
//! they differ in nothing else.

use crate::{complaint::Complaint, rule_files, runtime::runtime};
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
    let surroundings = Surroundings {
        sanctioned: config.sanctioned_hosts(),
        catalogue: rule_files::catalogue(&config.rules.hosts)?,
        registered: config.registered(),
    };
    let bounds = Bounds { window: config.proxy.window_bytes, ..Bounds::default() };
    Ok(Inspector::new(rules, surroundings, bounds))
}

/// The same for recordings: with the reviews of this state folder as they hold now, if there is one.
///
/// # Errors
/// A catalogue is bad, or what was decided cannot be read.
pub fn of_recordings(config: &Config, rules: RuleSet, state_dir: Option<&Path>) -> Result<Arc<Inspector>> {
    let inspector = inspector(config, Arc::new(rules))?;
    if let Some(state_dir) = state_dir {
        let decided = runtime()?
            .block_on(config.decided(state_dir).reviews())
            .map_err(|error| Complaint::input(error.to_string()).next("mend it, or name another folder with --state-dir"))?;
        let now_ms = unix_millis(SystemTime::now());
        inspector.replace_reviews(Arc::new(reviews(&decided, now_ms)));
    }
    Ok(Arc::new(inspector))
}

/// What holds of these decisions at this moment.
pub fn reviews<'d>(decisions: impl IntoIterator<Item = &'d Decision>, now_ms: i64) -> Reviews {
    decisions.into_iter().map(|decision| (decision.server.host.clone(), decision.server.port, decision.state_at(now_ms))).collect()
}
