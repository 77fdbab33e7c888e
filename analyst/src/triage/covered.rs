//! What an exception would have silenced: the events of the last days that it covers, counted in the ledger before anything is written.

use crate::{
    scaffold::{self, Named},
    stored::{self, Event},
};
use anyhow::Result;
use gnomon_cli::line::counted;
use gnomon_kit::unix_millis;
use gnomon_ledger::{Condition, EventFilter};
use gnomon_observe::Field;
use serde_json::Value;
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

/// Days that are looked at.
pub(super) const DAYS: u64 = 30;
/// Most events of a rule that are looked at.
const MOST: usize = 100_000;

/// The events of a rule: those that it decided, as the report and incidents count them. A call that others found something in as well has
/// events of theirs, which name it too.
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
        let conditions = vec![Condition::is(Field::RuleId, rule.id.as_str())];
        let filter = EventFilter { since_ms: Some(unix_millis(since)), conditions, ..EventFilter::default() };
        let mut covered = Self::default();
        covered.all = stored::each(ledger, filter, MOST, |other| covered.of += usize::from(covers(event, fields, &other)))?;
        Ok(covered)
    }

    /// `2 of 14 events`
    pub(super) fn told(&self) -> String {
        if self.all == 0 {
            return "no event is its own".to_owned();
        }
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
    use gnomon_cli::runtime;
    use gnomon_engine::{Finding, explain};
    use gnomon_ledger::{Ledger, LedgerOptions};
    use gnomon_observe::Observation;
    use serde_json::json;

    #[test]
    fn an_event_that_another_rule_decided_is_no_event_of_the_rule() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.sqlite");
        let (ours, other) = ("11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555");
        runtime().unwrap().block_on(async {
            let (ledger, writer) = Ledger::open(LedgerOptions::new(&path)).await.unwrap();
            // Of each call an event for its server, and one for its arguments; each names both rules.
            for user in ["ada", "ada", "bob"] {
                for rule in [ours, other] {
                    let mut seen = Observation::new();
                    for (field, value) in
                        [(Field::EventKind, "alert"), (Field::UserName, user), (Field::ServerAddress, "a.example"), (Field::RuleId, rule)]
                    {
                        seen.set(field, value);
                    }
                    seen.set(Field::RulesMatched, vec![ours.into(), other.into()]);
                    let _ = ledger.record(gnomon_ledger::Event::now(seen));
                }
            }
            writer.shutdown().await;
        });
        let event = json!({"user.name": "ada", "server.address": "a.example"});
        let fields = ["user.name".to_owned(), "server.address".to_owned()];
        let count =
            |id: &str| Covered::count(&path, &Named { id: id.to_owned(), title: None }, event.as_object().unwrap(), &fields).unwrap();
        assert_eq!((count(ours).told(), count(other)), ("2 of 3 events".to_owned(), Covered { of: 2, all: 3 }));
        assert_eq!(count("77777777-2222-4333-8444-555555555555").told(), "no event is its own");
    }

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
