//! What the rules in force look into, and what not: the page's silence must not be taken for an answer.

use gnomon_cli::{Complaint, line::one_line};
use gnomon_engine::{Arguments, RuleSet};
use gnomon_observe::{Field, FieldRef, PASSING};
use serde::Serialize;

/// Never looked at, whatever the rules.
const NEVER: [&str; 2] = ["which models are asked and for what", "what other hosts saw"];

/// Subjects that rules may look into or not, by what rules in force read.
#[derive(Debug, Default, Serialize)]
pub struct Looked {
    /// Looked into by some rule in force when the page was made.
    pub looked_at: Vec<&'static str>,
    /// Not looked into.
    pub not_looked_at: Vec<&'static str>,
    /// Why neither is known, where the rules could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules_unread: Option<String>,
}

/// The name of what servers say in a field of this kind; none for other fields.
const fn said_in(field: Field) -> Option<&'static str> {
    match field {
        Field::ToolResult => Some("results of tools"),
        Field::ToolDescription => Some("what lists say of tools"),
        Field::ErrorMessage => Some("texts of errors"),
        Field::ServerInstructions => Some("instructions of servers"),
        Field::PromptText => Some("prompts that servers give"),
        Field::ResourceText => Some("resources that servers give"),
        _ => None,
    }
}

impl Looked {
    /// What these rules look into.
    pub fn by(rules: Result<&RuleSet, &Complaint>) -> Self {
        let rules = match rules {
            Ok(rules) => rules,
            Err(error) => {
                return Self { not_looked_at: NEVER.to_vec(), rules_unread: Some(error.cause.clone()), ..Self::default() };
            }
        };
        let filters = rules.filters().iter().flat_map(|filter| &filter.fields);
        let asked: Vec<&FieldRef> = rules.rules().iter().flat_map(|rule| &rule.fields).chain(filters).collect();
        let wanted = rules.wanted();
        let mut looked = Self::default();
        looked.add("arguments of calls", wanted.arguments != Arguments::Unwanted);
        looked.add("the beginning of what clients send", wanted.body_text);
        for field in PASSING {
            if let Some(name) = said_in(field) {
                looked.add(name, asked.contains(&&FieldRef::Field(field)));
            }
        }
        looked.not_looked_at.extend(NEVER);
        looked
    }

    fn add(&mut self, subject: &'static str, is_looked_at: bool) {
        if is_looked_at { self.looked_at.push(subject) } else { self.not_looked_at.push(subject) }
    }

    /// The sentences of the page, without control characters.
    pub fn told(&self) -> Vec<String> {
        let unread = self
            .rules_unread
            .iter()
            .map(|why| format!("Whether rules look into arguments and answers is not known, as they cannot be read: {}", one_line(why)));
        let looked = (!self.looked_at.is_empty()).then(|| format!("Looked into by the rules in force: {}", self.looked_at.join(", ")));
        let not = format!("Not looked at: {}", self.not_looked_at.join(", "));
        unread.chain(looked).chain([not]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_text_that_passes_has_a_name_on_the_page() {
        for field in PASSING {
            assert!(said_in(field).is_some(), "{field}");
        }
    }
}
