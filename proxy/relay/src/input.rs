//! The input that a result still asks for (`input_required`, 2026-07-28).

use bytes::Bytes;
use gnomon_upstream::members::Members;
use serde_json::{Map, Value};

/// How often a server may ask for more before it must answer.
pub const MAX_ROUNDS: usize = 10;

/// The input that a server of the stateless era asks for before it answers.
pub struct RequestedInput {
    /// The questions, by keys that it chose.
    pub requests: Vec<(String, Value)>,
    /// JSON.
    pub state: Option<String>,
}

/// The input that a result asks for, if it does.
#[must_use]
pub fn wanted_input(result: &Bytes) -> Option<RequestedInput> {
    let members = Members::read(result).ok()?;
    if members.text("resultType").as_deref() != Some("input_required") {
        return None;
    }
    let requests = members.get("inputRequests").and_then(|json| serde_json::from_str::<Map<String, Value>>(json).ok());
    Some(RequestedInput {
        requests: requests.unwrap_or_default().into_iter().collect(),
        state: members.get("requestState").map(str::to_owned),
    })
}
