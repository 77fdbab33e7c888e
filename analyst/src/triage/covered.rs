//! What an exception would have silenced: the events of the last days that it covers, counted in the ledger before anything is written.

use crate::{
    scaffold::{self, Named},
    stored::{self, Event},
};
use anyhow::Result;
use gnomon_cli::line::counted;
use gnomon_kit::unix_millis;
use gnomon_ledger::EventFilter;
use serde_json::Value;
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

/// Days that are looked at.
pub(super) const DAYS: u64 = 30;
/// Most events of a rule that are looked at.
const MOST: usize = 100_000;

/// The events of a rule.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Covered {
    /// Those that the exception covers.
    of: usize,
    /// All of the rule, as far as they were looked at.
    all: usize,
}

impl Covered {
    /// Counts the events of this rule in the ledger, by the fields that the exception for `event` compares.
    pub(super) fn count(ledger: &Path, rule: &Named, event: &Event, fields: &[String]) -> Result<Self> {
        let since = SystemTime::now().checked_sub(Duration::from_secs(DAYS * 24 * 60 * 60)).unwrap_or(SystemTime::UNIX_EPOCH);
        let filter = EventFilter { since_ms: Some(unix_millis(since)), rule: Some(rule.id.clone()), ..EventFilter::default() };
        let mut covered = Self::default();
        covered.all = stored::each(ledger, filter, MOST, |other| covered.of += usize::from(covers(event, fields, &other)))?;
        Ok(covered)
    }

    /// `2 of 14 events`
    pub(super) fn told(&self) -> String {
        let beyond = if self.all >= MOST { " that were looked at" } else { "" };
        format!("{} of {}{beyond}", self.of, counted(self.all as u64, "event"))
    }
}

/// True if the exception for `event`, which compares these fields, is for the other event as well.
fn covers(event: &Event, fields: &[String], other: &Event) -> bool {
    fields.iter().all(|field| match (event.get(field), other.get(field)) {
        (Some(Value::String(one)), Some(Value::String(two))) if !scaffold::is_cased(field) => one.eq_ignore_ascii_case(two),
        (one, two) => one.is_some() && one == two,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaffold::Exception;
    use gnomon_engine::{Finding, explain};
    use serde_json::json;

    #[test]
    fn what_is_counted_is_what_the_exception_excepts() {
        let event = json!({"user.name": "ada", "server.address": "a.example", "server.port": 443, "gen_ai.tool.name": "Search*"});
        let event = event.as_object().unwrap();
        let rules = [Named { id: "11111111-2222-4333-8444-555555555555".to_owned(), title: None }];
        for (field, value) in [
            ("user.name", json!("ada")),
            ("user.name", json!("Ada")),
            ("user.name", json!(null)),
            ("server.address", json!("A.example")),
            ("server.address", json!("b.example")),
            ("server.port", json!(8443)),
            ("gen_ai.tool.name", json!("search*")),
            ("gen_ai.tool.name", json!("Searches")),
        ] {
            let mut other = event.clone();
            if value.is_null() {
                other.remove(field)
            } else {
                other.insert(field.to_owned(), value.clone())
            };
            for wider in [&[][..], &["user.name".to_owned()], &["server.address".to_owned()]] {
                let fields = scaffold::narrow(event, wider).unwrap();
                let exception = Exception { event, fields: &fields, rules: &rules, stay: &[], owner: None, reason: None, until: None };
                let seen = stored::observation(&other, []).unwrap();
                // The document begins after two lines of comment.
                let told = explain(&exception.text(), 3, &seen).unwrap();
                assert_eq!(covers(event, &fields, &other), told.finding == Finding::False, "{field}: {value}, without {wider:?}");
            }
        }
    }
}
