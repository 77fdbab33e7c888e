//! The text of a refusal that a client gets: which rule refused it, and why.

use gnomon_engine::Rule;
use gnomon_observe::Action;
use smol_str::{SmolStr, format_smolstr};

/// The text of a refusal: one line, which clients show to a model and to a person.
pub(crate) fn refusal_text(rule: Option<&Rule>, action: Action) -> String {
    let response = rule.map(|r| &r.response);
    let to = response.and_then(|r| r.to.as_deref());
    let text = match (response.and_then(|r| r.message.as_deref()), action, to) {
        (Some(message), _, Some(to)) if action == Action::Redirect && !message.contains(to) => format!("{message} Use {to} instead."),
        (Some(message), ..) => message.to_owned(),
        (None, Action::Redirect, Some(to)) => {
            format!("This MCP server is not sanctioned by your organisation. Use {to} instead. ({})", rule_words(rule))
        }
        (None, ..) => format!("Blocked by gnomon on behalf of your organisation: {}", rule_words(rule)),
    };
    text.split(['\r', '\n']).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}

fn rule_words(rule: Option<&Rule>) -> SmolStr {
    rule.map_or(SmolStr::new_static("no rule"), |r| format_smolstr!("{} [rule {}]", r.title, r.id))
}
