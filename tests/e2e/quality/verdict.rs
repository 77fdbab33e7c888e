//! Compares the events of a case with the corpus.

use super::corpus::{Case, Expected};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The highest confidence among the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sureness {
    Nothing,
    Suspected,
    Probable,
    Confirmed,
}

impl Sureness {
    pub fn of(events: &[Value]) -> Self {
        let each = events.iter().map(|event| match event["gnomon.confidence"].as_str() {
            Some("confirmed") => Self::Confirmed,
            Some("probable") => Self::Probable,
            Some("suspected") => Self::Suspected,
            Some(other) => panic!("unknown confidence {other}"),
            None => Self::Nothing,
        });
        each.max().unwrap_or(Self::Nothing)
    }
}

/// The kinds of evidence that the events name.
pub fn evidence(events: &[Value]) -> BTreeSet<String> {
    let lists = events.iter().filter_map(|event| event["gnomon.evidence"].as_array());
    lists.flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// How the events differ from what the corpus expects, if they do.
pub fn shortfall(case: &Case, events: &[Value]) -> Option<String> {
    let sureness = Sureness::of(events);
    let right = match case.expected {
        Expected::Mcp | Expected::Malformed => sureness >= Sureness::Probable,
        Expected::Suspected => sureness == Sureness::Suspected,
        Expected::NotMcp => sureness <= Sureness::Suspected,
        Expected::Anything | Expected::Later => true,
    };
    if !right {
        return Some(format!("{:?} came out {sureness:?}", case.expected));
    }
    match case.expected {
        Expected::Mcp => unread(&case.facts, events),
        Expected::Malformed => {
            let named = events.iter().any(|e| e.get("gnomon.malformed").is_some() || e.get("gnomon.mismatch").is_some());
            (!named).then(|| format!("found ({sureness:?}), but no event names the fault {}", case.facts["reason"]))
        }
        _ => None,
    }
}

/// The first expected fact of the message that is in no event.
fn unread(facts: &Value, events: &[Value]) -> Option<String> {
    for (fact, field) in [("rpc_method", "rpc.method"), ("tool", "gen_ai.tool.name")] {
        if let Some(wanted) = facts[fact].as_str()
            && !events.iter().any(|event| event[field] == wanted)
        {
            return Some(format!("no event has {field} = {wanted:?}"));
        }
    }
    let messages = facts["batch"].as_u64().or_else(|| facts["repeat"].as_u64().map(|n| n + 1))?;
    // Equal calls of a batch are one event, which counts them.
    let each = events.iter().filter_map(|event| Some((event["gnomon.batch.index"].as_u64()?, event["gnomon.calls"].as_u64().unwrap_or(1))));
    let found: u64 = each.collect::<BTreeMap<_, _>>().into_values().sum();
    (found != messages).then(|| format!("{found} of {messages} messages of the batch have events"))
}
