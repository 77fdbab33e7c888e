//! Refusals as HTTP responses.

use crate::{
    Refusal, Target,
    dialogue::{Form, Wants},
};

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The `Content-Type`, if there is a body.
    pub content_type: Option<&'static str>,
    /// The `Location`, for redirects.
    pub location: Option<String>,
    /// The body.
    pub body: String,
}

impl Refusal {
    /// The HTTP answer to the refused request.
    #[must_use]
    pub fn reply(&self) -> Reply {
        if let Some(location) = &self.location {
            let body = format!("{}\n", self.text);
            return Reply { status: 307, content_type: Some(TEXT), location: Some(location.clone()), body };
        }
        let status = match self.form {
            Form::Foreign => {
                return Reply { status: 403, content_type: Some(TEXT), location: None, body: format!("{}\n", self.text) };
            }
            Form::Unreadable => 400,
            Form::Single | Form::Batch => 200,
        };
        match self.answer() {
            None => Reply { status: 202, content_type: None, location: None, body: String::new() },
            Some(answer) => self.json(status, answer),
        }
    }

    /// The target's message as a server-sent event.
    #[must_use]
    pub fn event_for(&self, target: &Target) -> Option<String> {
        self.message_for(target).map(|message| event(&message))
    }

    fn json(&self, status: u16, body: String) -> Reply {
        match self.wants {
            Wants::Json => Reply { status, content_type: Some("application/json"), location: None, body },
            Wants::Events => Reply { status, content_type: Some("text/event-stream"), location: None, body: event(&body) },
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn event(data: &str) -> String {
    format!("event: message\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_observe::Action;
    use gnomon_wire::jsonrpc::{Id, MessageKind};
    use serde_json::json;

    fn refusal(form: Form, targets: Vec<Target>) -> Refusal {
        Refusal {
            action: Action::Block,
            rule: None,
            rule_id: "r1".into(),
            text: "not here \"now\"".into(),
            location: None,
            targets,
            form,
            wants: Wants::Json,
        }
    }

    fn request(id: &str, method: &str) -> Target {
        Target { id: Some(Id::Num(id.into())), method: Some(method.into()), kind: MessageKind::Request }
    }

    fn notification() -> Target {
        Target { id: None, method: Some("notifications/cancelled".into()), kind: MessageKind::Notification }
    }

    #[test]
    fn a_refused_tool_call_is_a_failed_result_with_the_same_id() {
        let reply = refusal(Form::Single, vec![request("7", "tools/call")]).reply();
        let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!((reply.status, &body["id"], &body["result"]["isError"]), (200, &json!(7), &json!(true)));
        assert_eq!(body["result"]["content"][0]["text"], "not here \"now\"");
    }

    #[test]
    fn any_other_refused_request_is_an_error_with_the_same_id() {
        let mut target = request("7", "tools/list");
        target.id = Some(Id::Str("a\"b".into()));
        let body: serde_json::Value = serde_json::from_str(&refusal(Form::Single, vec![target]).reply().body).unwrap();
        assert_eq!((&body["id"], &body["error"]["code"]), (&json!("a\"b"), &json!(-32600)));
    }

    #[test]
    fn a_refused_notification_is_accepted_without_a_body() {
        let reply = refusal(Form::Single, vec![notification()]).reply();
        assert_eq!((reply.status, reply.body.as_str(), reply.content_type), (202, "", None));
    }

    #[test]
    fn a_batch_is_answered_as_an_array_with_one_entry_per_request() {
        let reply = refusal(Form::Batch, vec![request("1", "tools/list"), notification(), request("2", "tools/call")]).reply();
        let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(body.as_array().map(Vec::len), Some(2));
        let one = refusal(Form::Batch, vec![request("1", "tools/list")]).reply();
        assert!(one.body.starts_with('['));
    }

    #[test]
    fn a_client_that_takes_only_events_gets_an_event() {
        let mut refusal = refusal(Form::Single, vec![request("1", "tools/call")]);
        refusal.wants = Wants::Events;
        let reply = refusal.reply();
        assert_eq!(reply.content_type, Some("text/event-stream"));
        assert!(reply.body.starts_with("event: message\ndata: {") && reply.body.ends_with("}\n\n"));
    }

    #[test]
    fn what_is_not_json_rpc_is_forbidden_in_plain_words() {
        let reply = refusal(Form::Foreign, vec![]).reply();
        assert_eq!((reply.status, reply.body.as_str()), (403, "not here \"now\"\n"));
    }
}
