//! One call in progress: its observation, the standing of its rules, and what it waits for.

use crate::said;
use crate::sighting::{Findings, MessageFinding};
use gnomon_engine::{Answer, Progress, RuleIndex, Verdict};
use gnomon_observe::{Action, Evidence, Family, Field, Observation};
use gnomon_wire::{
    jsonrpc::{Id, Message, MessageKind, ParamsShape, Presence, Scalar, Shape, Version},
    mcp::{self, Signature, SignatureSet},
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
    /// The action decided on the request side.
    pub action: Action,
    pub deciding: Option<RuleIndex>,
    /// The report made of it while its answer was long in coming.
    pub early: Option<Early>,
    /// Bytes of memory that it takes, about, where it is kept until its answer comes.
    pub kept: usize,
}

/// A message that is to be judged.
pub(crate) struct Heard {
    pub seen: Observation,
    pub findings: Findings,
    pub subject: Subject,
    pub id: Option<Id>,
    pub method: Option<SmolStr>,
}

/// A report that did not wait for the answer. The call stays open, as rules may yet find something in the answer.
#[derive(Clone, Debug)]
pub(crate) struct Early {
    /// The call's number ([`crate::Sighting::call`]).
    pub number: u32,
    /// The rules that stood for its reports; none where there was nothing to report yet.
    pub rules: Option<Vec<RuleIndex>>,
}

/// The subject of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The exchange as such: its body held no JSON-RPC message.
    Exchange,
    /// A JSON-RPC message of this kind.
    Message(MessageKind),
    /// A body that was meant as JSON-RPC and cannot be read.
    Malformed,
}

impl Subject {
    /// True if it expects an answer, as far as is known.
    pub const fn is_question(self) -> bool {
        matches!(self, Self::Message(MessageKind::Request) | Self::Malformed)
    }
}

/// An interfering rule that still waits for the answer, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    No,
    ForAnswer,
}

impl Call {
    /// True if it is itself the answer to a question of the server's.
    pub const fn is_answer(&self) -> bool {
        matches!(self.subject, Subject::Message(MessageKind::Response | MessageKind::Error))
    }

    /// Takes over a verdict that lets it pass.
    pub fn settle(&mut self, answer: Answer) {
        if let Answer::Decided(Verdict { action, rule }) = answer
            && !action.interferes()
        {
            (self.action, self.deciding) = (action, rule);
        }
    }
}

/// Writes the facts of a request message into the observation.
pub(crate) fn describe(seen: &mut Observation, findings: &mut Findings, message: &Message) {
    let counted = count(message, findings);
    let method = message.method.as_ref();
    seen.set_some(Field::RpcMethod, method.cloned());
    seen.set_some(Field::RpcId, message.id.as_ref().map(id_text));
    if message.shape == Shape::Batch {
        seen.set(Field::BatchIndex, message.index as u64);
    }
    if counted != Counted::Other {
        findings.message = if counted == Counted::Mcp { MessageFinding::Mcp } else { MessageFinding::Likely };
        // As MCP writes it where some servers read that of it: what was written is in `rpc.method`.
        let read = method.and_then(|method| mcp::without_gaps(method));
        seen.set_some(Field::McpMethod, read.map(SmolStr::new_static).or_else(|| method.cloned()));
        if read.is_some() {
            seen.set_partial(Field::RpcMethod);
        }
        match method.map(|method| mcp::canonical_method(method)) {
            Some("tools/call") => set_named(seen, Field::ToolName, message, (&message.name, message.name_is_odd)),
            // It names nothing, and its parameters are what it is about.
            Some("completion/complete") if matches!(message.params, ParamsShape::Array | ParamsShape::Other) => {
                seen.set_unreadable(Field::ToolArguments);
                seen.set_family_unreadable(Family::Argument);
            }
            Some("prompts/get") => set_named(seen, Field::PromptName, message, (&message.name, message.name_is_odd)),
            Some(m) if m.get(..10).is_some_and(|begin| begin.eq_ignore_ascii_case("resources/")) => {
                set_named(seen, Field::ResourceUri, message, (&message.uri, message.uri_is_odd))
            }
            _ => {}
        }
        let version = message.meta.protocol_version.clone().or_else(|| match &message.protocol_version {
            Some(Scalar::Str(version)) => Some(version.clone()),
            _ => None,
        });
        seen.set_some(Field::McpProtocolVersion, version);
        // The client's name in the message takes precedence over that of `initialize`.
        seen.set_some(Field::McpClientName, message.client_name.clone().or_else(|| message.meta.client_name.clone()));
        seen.set_some(Field::McpClientVersion, message.client_version.clone().or_else(|| message.meta.client_version.clone()));
    }
    if message.truncated {
        said::cut(seen);
        note(seen, Field::Truncated, "names");
    }
    if !message.arguments.is_empty() {
        seen.set(Field::ToolArguments, message.arguments.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>());
        for (path, value) in &message.arguments {
            seen.set_member(Family::Argument, path.clone(), value.clone());
        }
    }
    if message.arguments_truncated.is_cut() {
        // The partial text is dropped as well: a rule must not take a part for the whole.
        seen.clear(Field::ToolArguments);
        seen.set_unreadable(Field::ToolArguments);
        seen.set_family_unreadable(Family::Argument);
        note(seen, Field::Truncated, "arguments");
    }
}

/// Sets the name in a message. A name by position, or of another type than a string, is up to the server's interpretation.
fn set_named(seen: &mut Observation, field: Field, message: &Message, (name, odd): (&Option<SmolStr>, Presence)) {
    if matches!(message.params, ParamsShape::Array | ParamsShape::Other) {
        seen.set_unreadable(field);
        seen.set_unreadable(Field::ToolArguments);
        seen.set_family_unreadable(Family::Argument);
    } else if odd.is_present() {
        seen.set_unreadable(field);
    } else {
        seen.set_some(field, name.clone());
        // Some servers trim it, or drop what cannot be seen.
        if name.as_ref().is_some_and(|name| name.trim() != name.as_str() || name.contains(char::is_control)) {
            seen.set_partial(field);
        }
    }
}

/// Writes down a body that was meant as JSON-RPC and cannot be read: `partial` helps the reader of
/// the event and no rule.
pub(crate) fn describe_malformed(seen: &mut Observation, findings: &mut Findings, reason: &str) {
    findings.message = MessageFinding::Malformed;
    findings.evidence.insert(Evidence::Body);
    seen.set(Field::Malformed, reason);
    said::unread(seen);
}

/// The request that an answer belongs to is not known.
pub(crate) fn forget_request(seen: &mut Observation) {
    said::unread(seen);
    seen.set_unreadable(Field::BodyText);
    seen.set_unreadable(Field::RequestSize);
}

/// Writes down that the message was counted and not judged.
pub(crate) fn note_unjudged(seen: &mut Observation) {
    seen.clear(Field::ToolArguments);
    seen.set(Field::Malformed, "too_many_messages");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Mcp,
    Likely,
    Other,
}

/// Whether the message is MCP. A method that other protocols share counts only beside another
/// signature of the same request: what was seen of its client before is no reason for a verdict.
pub(super) fn count(message: &Message, findings: &mut Findings) -> Counted {
    let has = |signatures: &[Signature]| findings.signatures.iter().any(|s| signatures.contains(&s));
    let beside = has(&[Signature::H1, Signature::H2, Signature::H3, Signature::P1]);
    let well_formed = message.jsonrpc == Version::V2;
    // Path and `Accept` alone are weak, and so is the method; together they are something.
    let likely = well_formed && has(&[Signature::P2]);
    let named = message.method.as_deref().map(mcp::canonical_method) != Some("tools/call") || message.name.is_some();
    match mcp::message_signature(message) {
        Some(Signature::B4) if !beside && !likely => Counted::Other,
        Some(signature) => {
            findings.signatures.insert(signature);
            let sure = well_formed && named && (signature != Signature::B4 || beside);
            if sure { Counted::Mcp } else { Counted::Likely }
        }
        // Answers that a client posts have no method; the flow's headers tell what they belong to.
        None if matches!(message.kind, MessageKind::Other) => Counted::Other,
        None if beside => Counted::Mcp,
        None if likely => Counted::Likely,
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

/// Compares two ids as the client wrote them, for matching answers.
pub(crate) fn same_id(a: Option<&Id>, b: Option<&Id>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || id_text(a) == id_text(b) || number(a).is_some_and(|a| number(b) == Some(a)),
        _ => false,
    }
}

/// The number that an id is to a client which reads it as one, as JavaScript does: `1`, `1.0` and `"1"` are the same.
fn number(id: &Id) -> Option<f64> {
    match id {
        Id::Str(text) | Id::Num(text) => text.trim().parse().ok(),
        Id::Null | Id::Other => None,
    }
}

fn id_text(id: &Id) -> SmolStr {
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

/// Writes down what in a message points to MCP.
pub(crate) fn set_signatures(seen: &mut Observation, findings: &Findings) {
    if !findings.signatures.is_empty() {
        seen.set(Field::Signatures, names(findings.signatures));
    }
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
