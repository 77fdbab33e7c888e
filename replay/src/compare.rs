//! Two sets of rules on the same recordings: what would be stopped that was not, whose it is, and which rules make the
//! difference.

use gnomon_cli::line::{clean, counted};
use gnomon_engine::RuleSet;
use gnomon_observe::{Action, Field, Lookup, Observation, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

/// Most calls that are kept apart; beyond, each counts as another call.
const MAX_CALLS: usize = 1_000_000;
/// Most people that are named.
const SHOWN: usize = 5;

/// A call of a recording: its entry, and its place in a batch.
type Call = (String, i64, i64);

/// The outcomes of one set of rules.
#[derive(Default)]
pub struct Outcomes {
    /// Calls by rule.
    rules: BTreeMap<String, u64>,
    /// Calls that were stopped or changed: how, and whose.
    stopped: BTreeMap<Call, (Action, String)>,
    counted: BTreeSet<(Call, String)>,
}

impl Outcomes {
    /// Takes an event.
    pub fn add(&mut self, event: &Observation) {
        let number = |field| match event.get(field) {
            Lookup::Value(Value::Int(number)) => *number,
            _ => -1,
        };
        let call = (event.text(Field::ReplayFile).unwrap_or_default().to_owned(), number(Field::ReplayIndex), number(Field::BatchIndex));
        if let Lookup::Value(Value::List(rules)) = event.get(Field::RulesMatched) {
            for rule in rules {
                // Several detections of a call name the same rules.
                if self.counted.len() >= MAX_CALLS || self.counted.insert((call.clone(), rule.to_string())) {
                    *self.rules.entry(rule.to_string()).or_default() += 1;
                }
            }
        }
        let action = event.text(Field::Action).and_then(|action| action.parse::<Action>().ok());
        if let Some(action) = action.filter(|action| action.interferes() && self.stopped.len() < MAX_CALLS) {
            let who = [Field::UserName, Field::SourceAddress, Field::McpClientName].into_iter().find_map(|field| event.text(field));
            self.stopped.insert(call, (action, who.unwrap_or("unknown").to_owned()));
        }
    }
}

/// Says what `after` does that `before` did not, for people.
pub fn write(out: &mut impl Write, name: &str, before: (&Outcomes, &RuleSet), after: (&Outcomes, &RuleSet)) -> io::Result<()> {
    let differing = |of: &Outcomes, than: &Outcomes| -> Vec<(Action, String)> {
        let differs = |(call, (action, who)): (&Call, &(Action, String))| {
            than.stopped.get(call).is_none_or(|(other, _)| other != action).then(|| (*action, who.clone()))
        };
        of.stopped.iter().filter_map(differs).collect()
    };
    let (more, less) = (differing(after.0, before.0), differing(before.0, after.0));
    writeln!(
        out,
        "against {name}: would have {}; {}",
        stopped(&more),
        if less.is_empty() { "nothing less".to_owned() } else { format!("no longer {}", stopped(&less)) }
    )?;
    let mut rules: Vec<(i64, String, String)> = Vec::new();
    for id in before.0.rules.keys().chain(after.0.rules.keys()).collect::<BTreeSet<_>>() {
        let count = |of: &Outcomes| i64::try_from(of.rules.get(id).copied().unwrap_or(0)).unwrap_or(i64::MAX);
        let title = after.1.find(id).or_else(|| before.1.find(id)).map(|rule| clean(&rule.title)).unwrap_or_default();
        rules.push((count(after.0) - count(before.0), id.clone(), title));
    }
    rules.sort_by_key(|(change, id, _)| (-change.abs(), id.clone()));
    for (change, id, title) in rules.iter().filter(|(change, ..)| *change != 0) {
        writeln!(out, "  {change:>+6}  {id}  {title}")?;
    }
    Ok(())
}

/// `blocked 17 calls of 3 people (ada 9, bob 5, eve 3)`
fn stopped(calls: &[(Action, String)]) -> String {
    let mut people: BTreeMap<&str, u64> = BTreeMap::new();
    let mut actions: BTreeMap<&str, u64> = BTreeMap::new();
    for (action, who) in calls {
        *people.entry(who).or_default() += 1;
        *actions.entry(action.done()).or_default() += 1;
    }
    if calls.is_empty() {
        return "blocked nothing more".to_owned();
    }
    let what = actions.iter().map(|(verb, count)| format!("{verb} {}", counted(*count, "call"))).collect::<Vec<_>>().join(", ");
    let mut who: Vec<_> = people.iter().collect();
    who.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), **name));
    let named: Vec<_> = who.iter().take(SHOWN).map(|(name, count)| format!("{} {count}", clean(name))).collect();
    let rest = if who.len() > SHOWN { ", …" } else { "" };
    let of = if who.len() == 1 { "1 person".to_owned() } else { format!("{} people", who.len()) };
    format!("{what} of {of} ({}{rest})", named.join(", "))
}
