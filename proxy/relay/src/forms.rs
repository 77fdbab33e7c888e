//! The forms that clients are asked to fill in (elicitation), kept until they have answered, and what of an answer goes to its server.
//!
//! A server decides how long a form is, and a client how long it waits: what they take together is bounded for the process and shared by
//! callers, none of whom has more than is left.

use bytes::Bytes;
use gnomon_shares::{Bounds, Share, Shares};
use gnomon_upstream::{
    form::Form,
    members::Members,
    rpc::{INTERNAL_ERROR, INVALID_PARAMS, Outcome, Request, RpcError},
};
use std::sync::{Arc, LazyLock};

/// The unit of counting, bytes.
const UNIT: usize = 1 << 10;
/// The memory of all of them, bytes.
const ALL: usize = 16 << 20;

static ROOM: LazyLock<Arc<Shares>> = LazyLock::new(|| Shares::new(Bounds { all: ALL / UNIT, each: ALL / UNIT, times_free: 1 }));

/// What a person is asked (elicitation), as far as their answer is held against it.
#[derive(Clone, Debug)]
pub struct Elicited {
    /// None where there is nothing to fill in, or it cannot be checked.
    form: Option<Form>,
    begins: Begins,
}

/// What an answer may be instead of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    Nothing,
    /// The server wishes for a task of the client's, which answers later (2025-11-25).
    ATask,
}

impl Elicited {
    /// The client's answer, the JSON text of its result, as its server gets it: what is declined or cancelled has no content.
    ///
    /// # Errors
    /// What does not fit, without the value, or why that could not be found out.
    pub async fn answered(&self, answer: &Bytes) -> Result<Bytes, String> {
        let members = Members::read(answer).map_err(|_| "it is not an object with distinct members".to_owned())?;
        let odd = |name: &str| ["action", "content"].into_iter().find(|known| name != *known && name.eq_ignore_ascii_case(known));
        if let Some(known) = members.iter().find_map(|(name, _)| odd(name)) {
            return Err(format!("`{known}` is written in another case"));
        }
        let without = || if members.get("content").is_none() { answer.clone() } else { members.with(&[("content", None)]) };
        match members.text("action").as_deref() {
            Some("accept") => {
                if let Some(form) = &self.form {
                    form.holds(answer).await?;
                }
                Ok(answer.clone())
            }
            Some("decline" | "cancel") => Ok(without()),
            None if self.begins == Begins::ATask && members.get("action").is_none() && members.object("task").is_some() => Ok(without()),
            Some(_) | None => Err("`action` is none of `accept`, `decline` and `cancel`".to_owned()),
        }
    }
}

/// What a person is asked, with its place among all.
#[derive(Debug)]
pub struct KeptForm {
    asked: Elicited,
    _room: Share,
}

impl KeptForm {
    /// That of a question to this caller's client; none where it is none to a person.
    ///
    /// # Errors
    /// For the server: no answer could be checked, or too many forms wait already.
    pub fn of(question: &Request, holder: &str) -> Result<Option<Self>, RpcError> {
        if question.method != "elicitation/create" {
            return Ok(None);
        }
        let form = Form::of(question)?;
        let begins = if question.members()?.get("task").is_some() { Begins::ATask } else { Begins::Nothing };
        let room = ROOM.take_some(&holder.into(), form.as_ref().map_or(0, Form::bytes).div_ceil(UNIT).max(1));
        let room = room.map_err(|_| RpcError::new(INTERNAL_ERROR, "the client has not filled in earlier forms"))?;
        Ok(Some(Self { asked: Elicited { form, begins }, _room: room }))
    }

    /// What is asked.
    #[must_use]
    pub fn asked(&self) -> &Elicited {
        &self.asked
    }
}

/// A client's answer to a question; in place of one that does not fit it an error for whoever asked.
pub(crate) async fn held(kept: Option<KeptForm>, said: Outcome) -> Outcome {
    let (Some(kept), Outcome::Result(result)) = (&kept, &said) else { return said };
    match kept.asked.answered(result).await {
        Ok(answer) => Outcome::Result(answer),
        Err(why) => {
            tracing::debug!("a client's answer does not fit what it was asked: {why}");
            RpcError::new(INVALID_PARAMS, format!("the client's answer does not fit `requestedSchema`: {why}")).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_upstream::rpc::Id;
    use serde_json::{Value, json};

    fn kept(params: &Value) -> KeptForm {
        let question = Request::new(Id::number(1), "elicitation/create".into(), Some(Bytes::from(params.to_string())));
        KeptForm::of(&question, "somebody").unwrap().unwrap()
    }

    async fn answered(asked: &KeptForm, answer: &str) -> Result<Value, String> {
        let answer = asked.asked().answered(&Bytes::copy_from_slice(answer.as_bytes())).await?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }

    #[tokio::test]
    async fn no_content_that_its_form_forbids_goes_to_a_server_whatever_the_action_is() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "maximum": 5}}, "required": ["n"]});
        let form = kept(&json!({"message": "?", "requestedSchema": schema}));
        let good = r#"{"action":"accept","content":{"n":3},"_meta":{"x":1}}"#;
        assert_eq!(answered(&form, good).await, Ok(serde_json::from_str(good).unwrap()));
        for unfit in [
            r#"{"action":"Accept","content":{"n":9}}"#,
            r#"{"action":"accept ","content":{"n":9}}"#,
            r#"{"action":["accept"],"content":{"n":9}}"#,
            r#"{"action":null,"content":{"n":9}}"#,
            r#"{"content":{"n":9}}"#,
            r#"{"task":{"taskId":"t"},"content":{"n":9}}"#,
            r#"{"action":"decline","Action":"accept","content":{"n":9}}"#,
            r#"{"action":"accept","content":{"n":3},"Content":{"n":9}}"#,
            r#"{"action":"decline","action":"accept","content":{"n":9}}"#,
            r#"{"\u0061ction":"accept","content":{"n":9}}"#,
            "{}",
            "[]",
        ] {
            assert!(answered(&form, unfit).await.is_err(), "{unfit}");
        }
        for action in ["decline", "cancel"] {
            let answer = json!({"action": action, "content": {"n": 9}, "_meta": {"x": 1}}).to_string();
            assert_eq!(answered(&form, &answer).await, Ok(json!({"action": action, "_meta": {"x": 1}})));
        }
    }

    #[tokio::test]
    async fn a_question_without_a_form_takes_the_three_actions_and_a_task_where_one_was_wished_for() {
        let page = kept(&json!({"mode": "url", "url": "https://x.example", "message": "?", "elicitationId": "1"}));
        assert_eq!(answered(&page, r#"{"action":"accept"}"#).await, Ok(json!({"action": "accept"})));
        assert!(answered(&page, r#"{"action":"yes"}"#).await.is_err());
        let later = kept(&json!({"message": "?", "requestedSchema": {"type": "object"}, "task": {}}));
        let begun = r#"{"task":{"taskId":"t"},"content":{"n":9}}"#;
        assert_eq!(answered(&later, begun).await, Ok(json!({"task": {"taskId": "t"}})));
    }
}
