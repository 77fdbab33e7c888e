//! One call on its way: what was seen of it, how far rules are decided, and what it waits for.

use crate::sighting::{Findings, MessageFinding};
use gnomon_engine::{Progress, RuleIndex};
use gnomon_observe::{Action, Evidence, Family, Field, Observation};
use gnomon_wire::{
    jsonrpc::{Id, Kind, Message, Scalar},
    mcp::{Signature, SignatureSet},
};
use smol_str::SmolStr;

/// A message (or a whole exchange without one) between its request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub seen: Observation,
    pub progress: Progress,
    pub findings: Findings,
    pub subject: Subject,
    pub id: Option<Id>,
    pub method: Option<SmolStr>,
    pub waits: Waits,
    /// What was decided on the request side.
    pub action: Action,
    pub deciding: Option<RuleIndex>,
}

/// What a call stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The exchange as such: its body held no JSON-RPC message.
    Exchange,
    /// A JSON-RPC message of this kind.
    Message(Kind),
    /// A body that was meant as JSON-RPC and cannot be read.
    Malformed,
}

/// Whether an interfering rule still waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    No,
    ForAnswer,
}

/// Writes what a request message says into the observation.
pub(crate) fn describe(seen: &mut Observation, findings: &mut Findings, message: &Message, batch: bool) {
    let counted = count(message, findings);
    let method = message.method.as_ref();
    seen.set_some(Field::RpcMethod, method.cloned());
    seen.set_some(Field::RpcId, message.id.as_ref().map(id_text));
    if batch {
        seen.set(Field::BatchIndex, message.index as u64);
    }
    if counted == Counted::Mcp {
        findings.message = MessageFinding::Mcp;
        seen.set_some(Field::McpMethod, method.cloned());
        match method.map(SmolStr::as_str) {
            Some("tools/call") => seen.set_some(Field::ToolName, message.name.clone()),
            Some("prompts/get") => seen.set_some(Field::PromptName, message.name.clone()),
            Some(m) if m.starts_with("resources/") => seen.set_some(Field::ResourceUri, message.uri.clone()),
            _ => {}
        }
        let version = message.meta.protocol_version.clone().or_else(|| match &message.protocol_version {
            Some(Scalar::Str(version)) => Some(version.clone()),
            _ => None,
        });
        seen.set_some(Field::McpProtocolVersion, version);
        // What the message says stands above what the session began with.
        seen.set_some(Field::McpClientName, message.client_name.clone().or_else(|| message.meta.client_name.clone()));
        seen.set_some(Field::McpClientVersion, message.client_version.clone().or_else(|| message.meta.client_version.clone()));
    }
    if message.truncated {
        // Which capture was cut is not told apart: none of them may be relied on.
        for field in CAPTURED {
            seen.clear(*field);
            seen.set_unreadable(*field);
        }
        note(seen, Field::Truncated, "names");
    }
    if !message.arguments.is_empty() {
        seen.set(Field::ToolArguments, message.arguments.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>());
        for (path, value) in &message.arguments {
            seen.set_member(Family::Argument, path.clone(), value.clone());
        }
    }
    if message.arguments_truncated.is_cut() {
        // What was read is dropped as well: a rule must not conclude from a part that it was all.
        seen.clear(Field::ToolArguments);
        seen.set_unreadable(Field::ToolArguments);
        seen.set_family_unreadable(Family::Argument);
        note(seen, Field::Truncated, "arguments");
    }
}

/// Fields that a message fills and that nobody can rely on when it cannot be read.
const CAPTURED: &[Field] = &[
    Field::McpMethod,
    Field::ToolName,
    Field::PromptName,
    Field::ResourceUri,
    Field::RpcId,
    Field::RpcMethod,
    Field::McpClientName,
    Field::McpClientVersion,
];

/// Writes down a body that was meant as JSON-RPC and cannot be read: `partial` helps the reader of
/// the event and no rule.
pub(crate) fn describe_malformed(seen: &mut Observation, findings: &mut Findings, reason: &str) {
    findings.message = MessageFinding::Malformed;
    findings.evidence.insert(Evidence::Body);
    seen.set(Field::Malformed, reason);
    for field in CAPTURED {
        seen.set_unreadable(*field);
    }
    seen.set_unreadable(Field::ToolArguments);
    seen.set_family_unreadable(Family::Argument);
    seen.set_unreadable(Field::RequestModel);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Mcp,
    Other,
}

/// Whether the message is MCP. A method that other protocols share counts only beside another
/// signature of the same flow.
fn count(message: &Message, findings: &mut Findings) -> Counted {
    let beside = findings.signatures.iter().any(|s| matches!(s, Signature::H1 | Signature::H2 | Signature::H3 | Signature::P1))
        || findings.spoke_before == crate::sighting::SpokeBefore::Yes;
    match gnomon_wire::mcp::message_signature(message) {
        Some(Signature::B4) if !beside => Counted::Other,
        Some(signature) => {
            findings.signatures.insert(signature);
            Counted::Mcp
        }
        // Answers that a client posts have no method; the flow's headers tell what they belong to.
        None if beside && matches!(message.kind, Kind::Response | Kind::Error | Kind::Request | Kind::Notification) => Counted::Mcp,
        None => Counted::Other,
    }
}

/// Signatures that hold without a JSON-RPC body.
pub(crate) fn without_body(signatures: SignatureSet) -> SignatureSet {
    let mut kept = SignatureSet::EMPTY;
    for signature in signatures.iter().filter(|s| *s != Signature::P1) {
        kept.insert(signature);
    }
    kept
}

pub(crate) fn id_text(id: &Id) -> SmolStr {
    match id {
        Id::Str(text) => text.clone(),
        Id::Num(text) => text.clone(),
        Id::Null => SmolStr::new_static("null"),
        Id::Other => SmolStr::new_static("invalid"),
    }
}

pub(crate) fn names(signatures: SignatureSet) -> Vec<SmolStr> {
    signatures.iter().map(|s| SmolStr::new_static(s.as_str())).collect()
}

/// Adds a word to a list field.
pub(crate) fn note(seen: &mut Observation, field: Field, word: &'static str) {
    let mut list = match seen.get(field) {
        gnomon_observe::Lookup::Value(gnomon_observe::Value::List(list)) => list.clone(),
        _ => Vec::new(),
    };
    list.push(SmolStr::new_static(word));
    seen.set(field, list);
}
