//! What a server asks a person to fill in (elicitation, 2025-06-18 and later): the schema of its form, and whether an answer fits it.
//!
//! The protocol has both sides check answers ("Both parties SHOULD validate elicitation content against the provided schema",
//! 2025-11-25); the official SDKs do so in servers, other servers and many clients do not.
//!
//! The schema is a stranger's: it is measured when it is asked with, and used off the serving threads, once somebody has answered.

use crate::{
    members::Members,
    rpc::{INVALID_PARAMS, Request, RpcError},
    schema::{Measure, Verdict, check_once},
};
use bytes::Bytes;
use serde_json::Value;

/// Longest schema of a form, bytes. The protocol lets a form have plain values only, one beside the other.
const LONGEST: usize = 32 << 10;

/// The form that a question has: the text of its schema.
#[derive(Clone, Debug)]
pub struct Form(Bytes);

impl Form {
    /// The form of a server's question; none where it is no form: another question, or a page that a person is sent to. A schema that
    /// refers to another document is none either, as that is never fetched.
    ///
    /// # Errors
    /// For the server: its schema costs more than it may, so that no answer could be checked.
    pub fn of(question: &Request) -> Result<Option<Self>, RpcError> {
        if question.method != "elicitation/create" {
            return Ok(None);
        }
        let members = question.members()?;
        let Some(text) = members.get("requestedSchema") else { return Ok(None) };
        let refused = |why: &str| RpcError::new(INVALID_PARAMS, format!("the client is not asked, as of `requestedSchema`: {why}"));
        if text.len() > LONGEST {
            return Err(refused(&format!("it is longer than {LONGEST} bytes")));
        }
        let schema: Value = serde_json::from_str(text).map_err(|error| refused(&error.to_string()))?;
        let measured = Measure::of(&schema).map_err(|why| refused(&why))?;
        Ok(measured.map(|_| Self(Bytes::copy_from_slice(text.as_bytes()))))
    }

    /// The memory that it takes, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Holds a client's answer, the JSON text of its result, against the form. What declines, or is no answer yet, has nothing to fit.
    ///
    /// # Errors
    /// What does not fit, without the value, or why that could not be found out.
    pub async fn holds(&self, answer: &[u8]) -> Result<(), String> {
        let members = Members::read(answer).map_err(|_| "it is not an object with distinct members".to_owned())?;
        if members.text("action").as_deref() != Some("accept") {
            return Ok(());
        }
        let content = members.get("content").filter(|content| *content != "null").unwrap_or("{}");
        Members::read(content.as_bytes()).map_err(|_| "`content` is not an object with distinct members".to_owned())?;
        let content: Value = serde_json::from_str(content).map_err(|error| error.to_string())?;
        match check_once(self.0.clone(), content).await {
            Verdict::Fits => Ok(()),
            Verdict::Differs(what) => Err(what),
            Verdict::Unknown(why) => Err(format!("it cannot be checked: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::Id;
    use serde_json::json;
    use std::time::{Duration, Instant};

    fn question(method: &str, params: Value) -> Request {
        Request::new(Id::number(1), method.into(), Some(Bytes::from(params.to_string())))
    }

    fn form(schema: Value) -> Form {
        Form::of(&question("elicitation/create", json!({"message": "?", "requestedSchema": schema}))).unwrap().unwrap()
    }

    async fn holds(form: &Form, answer: Value) -> Result<(), String> {
        form.holds(answer.to_string().as_bytes()).await
    }

    #[tokio::test]
    async fn an_answer_fits_the_form_that_it_is_given_to_or_is_told_what_does_not() {
        // As in the protocol's own example, with each kind of field that it lets forms have.
        let form = form(json!({"type": "object", "properties": {
            "name": {"type": "string", "title": "Name", "minLength": 2},
            "mail": {"type": "string", "format": "email"},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "news": {"type": "boolean", "default": false},
            "colour": {"type": "string", "enum": ["red", "blue"], "enumNames": ["Red", "Blue"]},
            "titled": {"type": "string", "oneOf": [{"const": "#f00", "title": "Red"}, {"const": "#00f", "title": "Blue"}]},
            "several": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "maxItems": 1},
        }, "required": ["name"]}));
        for fits in [
            json!({"action": "accept", "content": {"name": "Ann"}}),
            json!({"action": "accept", "content": {"name": "Ann", "age": 30, "news": true, "colour": "red", "titled": "#f00", "several": ["b"]}}),
            json!({"action": "decline"}),
            json!({"action": "cancel", "content": {"age": "thirty"}}),
            json!({"action": "decline", "content": null}),
        ] {
            assert_eq!(holds(&form, fits.clone()).await, Ok(()), "{fits}");
        }
        for (differs, at) in [
            (json!({"age": 30}), "name"),
            (json!({"name": "Ann", "age": "thirty"}), "/age"),
            (json!({"name": "Ann", "age": 151}), "/age"),
            (json!({"name": "A"}), "/name"),
            (json!({"name": "Ann", "colour": "secret"}), "/colour"),
            (json!({"name": "Ann", "titled": "Red"}), "/titled"),
            (json!({"name": "Ann", "several": ["a", "b"]}), "/several"),
        ] {
            let why = holds(&form, json!({"action": "accept", "content": differs})).await.unwrap_err();
            assert!(why.contains(at) && !why.contains("secret") && !why.contains("thirty"), "{differs}: {why}");
        }
        for (twice, at) in [
            (r#"{"action":"accept","action":"decline","content":{"name":"Ann"}}"#, "distinct"),
            (r#"{"action":"accept","content":{"name":"Ann","name":1}}"#, "content"),
            (r#"{"action":"accept"}"#, "name"),
            (r#"{"action":"accept","content":"Ann"}"#, "content"),
            ("[]", "object"),
        ] {
            assert!(form.holds(twice.as_bytes()).await.unwrap_err().contains(at), "{twice}");
        }
    }

    #[tokio::test]
    async fn questions_without_a_form_have_none_and_a_form_that_costs_too_much_is_not_asked() {
        for none in [
            question("sampling/createMessage", json!({"requestedSchema": {"type": "object"}})),
            question("elicitation/create", json!({"mode": "url", "url": "https://x.example", "message": "?", "elicitationId": "1"})),
            question("elicitation/create", json!({"message": "?", "requestedSchema": {"$ref": "https://x.example/schema"}})),
        ] {
            assert!(Form::of(&none).unwrap().is_none(), "{none:?}");
        }
        let doubling: serde_json::Map<_, _> = (0..40)
            .map(|n| {
                (format!("l{n}"), json!({"allOf": [{"$ref": format!("#/$defs/l{}", n + 1)}, {"$ref": format!("#/$defs/l{}", n + 1)}]}))
            })
            .chain([("l40".to_owned(), json!({}))])
            .collect();
        for costly in [json!({"$ref": "#/$defs/l0", "$defs": doubling}), json!({"description": "x".repeat(LONGEST)})] {
            let error = Form::of(&question("elicitation/create", json!({"message": "?", "requestedSchema": costly}))).unwrap_err();
            assert!(error.code == INVALID_PARAMS && error.message.contains("`requestedSchema`"), "{error:?}");
        }
        // Patterns whose programs are large, and one that no engine takes: neither holds a thread that serves.
        let patterns: Vec<_> = (0..80).map(|n| json!({"pattern": format!(r"^\pL{{90}}{n}$")})).collect();
        for odd in [json!({"allOf": patterns}), json!({"type": "no such type"})] {
            let (form, begun) = (form(odd), Instant::now());
            let _ = holds(&form, json!({"action": "accept", "content": {}})).await;
            assert!(begun.elapsed() < Duration::from_secs(6));
        }
        let why = holds(&form(json!({"type": "no such type"})), json!({"action": "accept", "content": {}})).await.unwrap_err();
        assert!(why.starts_with("it cannot be checked"), "{why}");
    }
}
