//! Refusals in a form that the client understands.
//!
//! MCP clients show the text of a failed tool call to their model, but hide or mangle HTTP errors;
//! so a refused `tools/call` is an ordinary answer whose result is an error, and every other request
//! gets a JSON-RPC error with its own id. The session stays usable.

use super::Dialogue;
use crate::refusal_text::refusal_text;
use gnomon_engine::{Mode, RuleIndex, Verdict};
use gnomon_observe::Action;
use gnomon_wire::{
    jsonrpc::{Id, MessageKind},
    mcp,
};
use serde_json::json;
use smol_str::SmolStr;

/// JSON-RPC 2.0 "Invalid Request": the one code that all clients show together with its text.
const REFUSED: i32 = -32600;
/// JSON-RPC 2.0 "Parse error".
const UNREADABLE: i32 = -32700;

/// One refused message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The request's id; none for notifications.
    pub id: Option<Id>,
    /// Its method.
    pub method: Option<SmolStr>,
    /// Request, notification, or an answer that the client posted.
    pub kind: MessageKind,
}

/// The form of the refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Not JSON-RPC at all.
    Foreign,
    /// One message.
    Single,
    /// An array of messages.
    Batch,
    /// Meant as JSON-RPC and unreadable.
    Unreadable,
}

/// The media type in which the client accepts answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// `application/json`.
    Json,
    /// `text/event-stream` only.
    Events,
}

/// A request or answer that must not pass, and what to say instead.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Block or redirect.
    pub action: Action,
    /// The rule that decided.
    pub rule: Option<RuleIndex>,
    /// Its id.
    pub rule_id: SmolStr,
    /// One line for the person and the model.
    pub text: String,
    /// The `Location` of an HTTP redirect.
    pub location: Option<String>,
    /// The refused messages.
    pub targets: Vec<Target>,
    pub(crate) form: Form,
    pub(crate) wants: Wants,
}

impl Refusal {
    /// All that answers the refused request, as one JSON text; none where no answer is due, or nothing said that it was JSON-RPC.
    #[must_use]
    pub fn answer(&self) -> Option<String> {
        match self.form {
            Form::Foreign => None,
            Form::Unreadable => {
                let error = json!({"code": UNREADABLE, "message": self.text, "data": self.data()});
                Some(json!({"jsonrpc": "2.0", "id": null, "error": error}).to_string())
            }
            Form::Single | Form::Batch => {
                let messages: Vec<String> = self.targets.iter().filter_map(|t| self.message_for(t)).collect();
                match (messages.as_slice(), self.form) {
                    ([], _) => None,
                    ([one], Form::Single) => Some(one.clone()),
                    (many, _) => Some(format!("[{}]", many.join(","))),
                }
            }
        }
    }

    /// The JSON-RPC message that answers one refused message; none where no answer is due.
    #[must_use]
    pub fn message_for(&self, target: &Target) -> Option<String> {
        let id = match (&target.id, target.kind) {
            (Some(id), MessageKind::Request) => id.to_json(),
            _ => return None,
        };
        let payload = if target.method.as_deref().map(mcp::canonical_method) == Some("tools/call") {
            // `resultType` is required since 2026-07-28 and an unknown member to older clients.
            format!(r#""result":{}"#, json!({"content": [{"type": "text", "text": self.text}], "isError": true, "resultType": "complete"}))
        } else {
            format!(r#""error":{}"#, json!({"code": REFUSED, "message": self.text, "data": self.data()}))
        };
        Some(format!(r#"{{"jsonrpc":"2.0","id":{id},{payload}}}"#))
    }

    fn data(&self) -> serde_json::Value {
        json!({"gnomon": {"action": self.action.as_str(), "rule": self.rule_id}})
    }
}

impl Dialogue {
    /// Makes the refusal and reports all calls that it concerns.
    pub(crate) fn refuse(&mut self, verdict: Verdict) -> Box<Refusal> {
        let refusal = self.refusal(verdict, self.verdicts.targets().to_vec(), self.form());
        if self.verdicts.is_first_told(verdict) {
            for mut call in self.pairing.take_all() {
                call.action = verdict.action;
                call.deciding = verdict.rule;
                self.report(call, Some(&refusal));
            }
            self.flush_tally();
        }
        Box::new(refusal)
    }

    pub(super) fn refusal(&self, verdict: Verdict, targets: Vec<Target>, form: Form) -> Refusal {
        let rule = verdict.rule.and_then(|index| self.basis.rules.rule(index));
        let response = rule.map(|r| &r.response);
        let to = response.and_then(|r| r.to.as_deref());
        let location = response.filter(|r| r.action == Action::Redirect && r.mode == Mode::Location).and(to).map(str::to_owned);
        let text = refusal_text(rule, verdict.action);
        Refusal {
            action: verdict.action,
            rule: verdict.rule,
            rule_id: rule.map(|r| r.id.clone()).unwrap_or_default(),
            text,
            location,
            targets,
            form,
            wants: self.verdicts.wants(),
        }
    }
}
