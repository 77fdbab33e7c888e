//! The events in the ledger that rules would have matched, by the code that judges live.
//!
//! Stored events are what gnomon reported, not all traffic, and hold no arguments and no bodies; what they cannot answer is
//! said beside the numbers.

use super::Chosen;
use crate::stored;
use anyhow::Result;
use gnomon_cli::{judging, line::clean};
use gnomon_engine::RuleSet;
use gnomon_inspect::{Inspector, judge_recorded};
use gnomon_kit::unix_millis;
use gnomon_ledger::EventFilter;
use gnomon_observe::{Field, Lookup, Observation, Value};
use smol_str::SmolStr;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, Write},
    sync::Arc,
    time::SystemTime,
};

/// Most events that are looked at.
const MAX_EVENTS: usize = 200_000;
/// The most users and servers that are named.
const SHOWN: usize = 3;

#[derive(Default)]
struct Matches {
    count: u64,
    users: BTreeMap<String, u64>,
    servers: BTreeMap<String, u64>,
}

/// Says of these rules what they would have matched since then. Without a ledger it says nothing.
pub fn tell(chosen: &Chosen, set: &RuleSet, rules: &[SmolStr], since: SystemTime) -> Result<()> {
    let Some(ledger) = chosen.state().ledger().ok().filter(|path| path.exists() && !rules.is_empty()) else { return Ok(()) };
    let config = chosen.settle()?;
    let decided = judging::decided(&config, chosen.state().dir().ok().as_deref())?;
    if let Some(stale) = &decided.stale {
        writeln!(io::stderr(), "{}", stale.note())?;
    }
    let inspector = judging::of_recordings(&config, set.clone(), &decided)?;
    let mut found: HashMap<SmolStr, Matches> = HashMap::new();
    let mut calls: HashSet<String> = HashSet::new();
    let filter = EventFilter { since_ms: Some(unix_millis(since)), ..EventFilter::default() };
    let count = stored::each(&ledger, filter, MAX_EVENTS, |event| {
        // A call with several detections is several events.
        let is_new = stored::text(&event, "gnomon.observation.id").is_none_or(|call| calls.insert(call));
        if let Some(seen) = Observation::from_json(&event).ok().filter(|_| is_new) {
            count_matches(&inspector, seen, rules, &mut found);
        }
    })?;
    let mut out = io::stdout().lock();
    let days = SystemTime::now().duration_since(since).unwrap_or_default().as_secs_f64() / 86_400.0;
    let span = if days >= 1.5 { format!("{days:.0} days") } else { format!("{:.0} hours", (days * 24.0).max(1.0)) };
    for rule in set.rules().iter().filter(|rule| rules.contains(&rule.id)) {
        let none = Matches::default();
        let matches = found.get(&rule.id).unwrap_or(&none);
        let times = if matches.count == 1 { "once".to_owned() } else { format!("{} times", matches.count) };
        write!(out, "{}: would have matched {times} in {span} of recorded events", clean(&rule.title))?;
        match (top(&matches.users), top(&matches.servers)) {
            (None, None) => writeln!(out)?,
            (users, servers) => {
                writeln!(out, "; users {}; servers {}", users.as_deref().unwrap_or("unknown"), servers.as_deref().unwrap_or("unknown"))?
            }
        }
        let unanswered: Vec<String> = rule.fields.iter().filter(|field| !field.is_stored()).map(ToString::to_string).collect();
        if !unanswered.is_empty() {
            writeln!(out, "  events never hold {}: only a recording with bodies can answer, `gnomon replay`", unanswered.join(", "))?;
        }
    }
    if count >= MAX_EVENTS {
        writeln!(out, "  only the first {MAX_EVENTS} events were looked at; --since takes a shorter time")?;
    }
    Ok(())
}

fn count_matches(inspector: &Arc<Inspector>, seen: Observation, rules: &[SmolStr], found: &mut HashMap<SmolStr, Matches>) {
    let mut counted: HashSet<SmolStr> = HashSet::new();
    for sighting in judge_recorded(inspector, seen) {
        let Lookup::Value(Value::List(matched)) = sighting.seen.get(Field::RulesMatched) else { continue };
        for id in matched.iter().filter(|id| rules.contains(id)) {
            if counted.insert(id.clone()) {
                let matches = found.entry(id.clone()).or_default();
                matches.count += 1;
                let mut count = |into: fn(&mut Matches) -> &mut BTreeMap<String, u64>, field| {
                    if let Some(text) = sighting.seen.text(field) {
                        *into(matches).entry(text.to_owned()).or_default() += 1;
                    }
                };
                count(|matches| &mut matches.users, Field::UserName);
                count(|matches| &mut matches.servers, Field::ServerAddress);
            }
        }
    }
}

fn top(counts: &BTreeMap<String, u64>) -> Option<String> {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
    let shown: Vec<String> = sorted.iter().take(SHOWN).map(|(name, count)| format!("{} {count}", clean(name))).collect();
    let more = sorted.len().saturating_sub(SHOWN);
    match (shown.is_empty(), more) {
        (true, _) => None,
        (_, 0) => Some(shown.join(", ")),
        _ => Some(format!("{} and {more} more", shown.join(", "))),
    }
}
