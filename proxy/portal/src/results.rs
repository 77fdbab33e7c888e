//! The meaning of results: whether a call succeeded, and the client's error if it did not.

use bytes::Bytes;
use gnomon_audit::Status;
use gnomon_lists::route::Routed;
use gnomon_relay::{
    acts::Ending,
    error::{CallError, refused as words},
    ground::Ground,
    input::{RequestedInput, wanted_input},
    large::{self, LARGE},
};
use gnomon_upstream::{
    UpstreamError,
    carried::{CarriedOut, Sent, changes},
    members::Members,
    rpc::{METHOD_NOT_FOUND, Outcome, UNSUPPORTED_VERSION},
};
use serde_json::{Value, value::RawValue};
use smol_str::{SmolStr, ToSmolStr};
use tokio::runtime::Handle;

/// The member of a result's `_meta` that says whether its call was carried out.
const META: &str = "dev.gnomon/carriedOut";

/// A result as the stateless era has it.
///
/// # Errors
/// [`CallError::Unread`].
pub(crate) async fn complete(owner: &SmolStr, outcome: Outcome) -> Result<Outcome, CallError> {
    let Outcome::Result(result) = outcome else { return Ok(outcome) };
    let bytes = result.len();
    let completed = move || match Members::read(&result) {
        Ok(members) if members.get("resultType").is_none() => members.with(&[("resultType", Some("\"complete\""))]),
        Ok(_) | Err(_) => result,
    };
    large::read(owner, bytes, completed).await.map(Outcome::Result)
}

/// The input that a result asks for, if it does.
///
/// # Errors
/// [`CallError::Unread`].
pub(crate) async fn wanted(owner: &SmolStr, result: &Bytes) -> Result<Option<RequestedInput>, CallError> {
    let (bytes, result) = (result.len(), result.clone());
    large::read(owner, bytes, move || wanted_input(&result)).await
}

/// A server's answer that is read.
pub(crate) struct Answered {
    pub outcome: Outcome,
    pub ending: Ending,
    /// Whether it says that its server knows no such call.
    pub unknown: bool,
}

/// Reads the answer to a request of this method: its shape, and how it ends.
///
/// # Errors
/// [`CallError::Unread`], or what is wrong with it.
pub(crate) async fn read(owner: &SmolStr, method: &SmolStr, outcome: Outcome) -> Result<Answered, CallError> {
    let (Outcome::Result(body) | Outcome::Error(body)) = &outcome;
    let (bytes, method) = (body.len(), method.clone());
    let read = move || {
        let outcome = sound(&method, outcome)?;
        let (ending, unknown) = (answered(&outcome), knows_no_call(&method, &outcome));
        Ok(Answered { outcome, ending, unknown })
    };
    large::read(owner, bytes, read).await?.map_err(|wrong: UpstreamError| wrong.into())
}

/// True if a server of the stateless era answers as one that has left it: it knows no call.
fn knows_no_call(method: &str, outcome: &Outcome) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
        && outcome.code().is_some_and(|code| [METHOD_NOT_FOUND, UNSUPPORTED_VERSION].map(i64::from).contains(&code))
}

/// The answer to a call that failed, and its form in the audit: with what is known of whether it was carried out.
pub(crate) fn refused(routed: &Routed, error: &CallError, sent: Sent) -> (Outcome, Ending) {
    let carried = error.carried_out(sent);
    let ending = match error {
        CallError::Refused(refusal) | CallError::Withheld(refusal, _) => {
            let why = if carried.is_none() { "rule" } else { "withheld" };
            Ending { rule: Some(refusal.rule_id.clone()), ..Ending::because(Status::Refused, why) }
        }
        CallError::Upstream(UpstreamError::Rpc(outcome)) => return (outcome.clone(), answered(outcome)),
        CallError::Denied(denied) => Ending::because(Status::Refused, denied.code.to_smolstr()).on(Ground::Policy),
        CallError::Upstream(UpstreamError::Ended) => Ending::because(Status::Cancelled, error.kind()),
        // Not sent, as its caller has their share of the calls under way.
        CallError::Upstream(UpstreamError::Busy(_)) => Ending::because(Status::Unavailable, error.kind()).on(Ground::Share),
        // Ours to say: the server has no part in it.
        CallError::Untranslatable(_)
        | CallError::Unread
        | CallError::NotTakenUp(_)
        | CallError::Unfit(_)
        | CallError::NotKept
        | CallError::NoRoom
        | CallError::Withdrawn
        | CallError::Unfulfilled(_) => {
            let status = if carried == Some(CarriedOut::Perhaps) { Status::Unanswered } else { Status::Refused };
            Ending::because(status, error.kind())
        }
        CallError::Upstream(_) | CallError::Unrecorded => {
            let status = if carried == Some(CarriedOut::Perhaps) { Status::Unanswered } else { Status::Unavailable };
            Ending::because(status, error.kind())
        }
    };
    match error {
        CallError::Refused(refusal) | CallError::Withheld(refusal, _) if routed.method == "tools/call" => {
            (failed(&words(refusal, carried), carried), ending)
        }
        other => (other.outcome(&routed.server.id, carried.filter(|_| changes(&routed.method))), ending),
    }
}

/// A tool's failure, so that the model reads it; beside it what is known of the call, as errors have it in their data.
fn failed(text: &str, carried: Option<CarriedOut>) -> Outcome {
    let failed = Outcome::failed_tool(text);
    match (&failed, carried) {
        (Outcome::Result(result), Some(carried)) => match Members::read(result) {
            Ok(members) => Outcome::Result(members.with(&[("_meta", Some(&format!(r#"{{"{META}":"{}"}}"#, carried.word())))])),
            Err(_) => failed,
        },
        _ => failed,
    }
}

/// How the audit has what a server answered.
pub(crate) fn answered(outcome: &Outcome) -> Ending {
    match outcome {
        Outcome::Error(_) => Ending::because(Status::Error, outcome.code().unwrap_or_default().to_smolstr()),
        Outcome::Result(result) => {
            // Most results say nothing of it, and are not read for it.
            let says = |what: &[u8]| memchr::memmem::find(result, what).is_some();
            if !says(b"\"isError\"") && !says(b"\"input_required\"") {
                return Ending::of(Status::Ok);
            }
            match Members::read(result) {
                Ok(members) if members.flag("isError") == Some(true) => Ending::because(Status::Error, "tool_error"),
                Ok(members) if members.text("resultType").as_deref() == Some("input_required") => Ending::of(Status::InputRequired),
                Ok(_) | Err(_) => Ending::of(Status::Ok),
            }
        }
    }
}

/// An answer of the shape that the protocol gives it, as far as clients choke on what differs.
///
/// # Errors
/// [`UpstreamError::Protocol`] that says what is wrong with it.
fn sound(method: &str, outcome: Outcome) -> Result<Outcome, UpstreamError> {
    let wrong = match &outcome {
        Outcome::Error(error) => wrong_error(error),
        Outcome::Result(result) => wrong_result(method, result),
    };
    wrong.map_or(Ok(outcome), |wrong| Err(UpstreamError::Protocol(wrong.to_owned())))
}

fn wrong_error(error: &[u8]) -> Option<&'static str> {
    let Ok(members) = Members::read(error) else { return Some("its error is not an object with distinct members") };
    if members.get("code").is_none_or(|code| serde_json::from_str::<i64>(code).is_err()) {
        return Some("its error has no code that is a whole number");
    }
    members.text("message").is_none().then_some("its error has no message that is a text")
}

fn wrong_result(method: &str, result: &[u8]) -> Option<&'static str> {
    if result.first() != Some(&b'{') {
        return Some("its result is not an object");
    }
    if method == "tasks/get" {
        // The answer of its tool stands in it.
        let inner = Members::read(result).ok().and_then(|members| members.get("result"));
        return inner.and_then(|inner| wrong_result("tools/call", inner.as_bytes()));
    }
    let (list, wrong) = match method {
        "tools/call" | "tasks/result" => ("content", "`content` of its result is not a list of objects"),
        "prompts/get" => ("messages", "`messages` of its result is not a list of objects"),
        "resources/read" => ("contents", "`contents` of its result is not a list of objects"),
        _ => return None,
    };
    let Ok(members) = Members::read(result) else { return Some("its result is not an object with distinct members") };
    let of_objects = |json| serde_json::from_str::<Vec<&RawValue>>(json).is_ok_and(|all| all.iter().all(|one| one.get().starts_with('{')));
    if members.get(list).is_some_and(|json| !of_objects(json)) {
        return Some(wrong);
    }
    (members.get("isError").is_some() && members.flag("isError").is_none()).then_some("`isError` of its result is not a boolean")
}

/// Holds a result against the tool's own output schema.
pub(crate) async fn checked(owner: &SmolStr, routed: &Routed, outcome: Outcome) -> Outcome {
    let (Some(exposed), Outcome::Result(result)) = (&routed.exposed, &outcome) else { return outcome };
    if routed.method != "tools/call" || !exposed.entry.has_output_schema() {
        return outcome;
    }
    let wrong = if result.len() < LARGE {
        match structured(result) {
            Some(structured) => exposed.entry.wrong_output(&structured).await,
            None => None,
        }
    } else {
        // What is read of it takes a multiple of its length, and is freed where it was made.
        let (bytes, result, entry, runtime) = (result.len(), result.clone(), exposed.entry.clone(), Handle::current());
        let check = move || structured(&result).and_then(|structured| runtime.block_on(entry.wrong_output(&structured)));
        let unchecked = |error: CallError| Some(format!("the result cannot be checked against the tool's own output schema: {error}"));
        large::read(owner, bytes, check).await.unwrap_or_else(unchecked)
    };
    wrong.map_or(outcome, |wrong| Outcome::failed_tool(&wrong))
}

/// The structured content of a result that is no failure.
fn structured(result: &[u8]) -> Option<Value> {
    let members = Members::read(result).ok()?;
    if members.flag("isError") == Some(true) {
        return None;
    }
    members.get("structuredContent").and_then(|json| serde_json::from_str(json).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_choke_on_in_an_answer_is_found_and_nothing_else() {
        let result = |text: &'static str| Outcome::Result(Bytes::from_static(text.as_bytes()));
        let error = |text: &'static str| Outcome::Error(Bytes::from_static(text.as_bytes()));
        for (method, outcome) in [
            ("tools/call", error(r#""text""#)),
            ("tools/call", error("[]")),
            ("tools/call", error(r#"{"message":"no code"}"#)),
            ("tools/call", error(r#"{"code":1.5,"message":"m"}"#)),
            ("completion/complete", error(r#"{"code":1,"message":5}"#)),
            ("tools/call", result(r#"{"content":"x"}"#)),
            ("tools/call", result(r#"{"content":null}"#)),
            ("tasks/result", result(r#"{"content":[{"type":"text","text":"a"},"x"]}"#)),
            ("tools/call", result(r#"{"content":[],"isError":"no"}"#)),
            ("prompts/get", result(r#"{"messages":{}}"#)),
            ("resources/read", result(r#"{"contents":"x"}"#)),
            ("completion/complete", result(r#"["x"]"#)),
        ] {
            assert!(sound(method, outcome.clone()).is_err(), "{method} {outcome:?}");
        }
        for (method, outcome) in [
            ("tools/call", error(r#"{"code":-32602,"message":"m","data":"x","more":1}"#)),
            ("tools/call", result(r#"{"content" : [ {"type":"text","text":"a"} ],"isError":true,"vendor":1}"#)),
            ("tools/call", result(r#"{"task":{"taskId":"t"}}"#)),
            ("tools/call", result(r#"{"resultType":"input_required","inputRequests":{}}"#)),
            ("completion/complete", result(r#"{"completion":{},"content":"x"}"#)),
        ] {
            assert!(sound(method, outcome.clone()).is_ok(), "{method} {outcome:?}");
        }
    }
}
