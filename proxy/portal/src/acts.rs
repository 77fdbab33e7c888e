//! What is done through the portal, for the audit: each request with who, what, by which line of policy, and how it ended.
//!
//! An act that is dropped before its end was taken back by its client, and is recorded as that.

use crate::{
    call::{Call, From},
    era,
    portal::Portal,
    rpc::{INTERNAL_ERROR, Outcome, RpcError},
    session::Session,
    upstream::Client,
};
use gnomon_access::{Caller, Challenge, LineRef, Peer};
use gnomon_audit::{Audit, Kind, Record, Status, redact, text_digest};
use quick_cache::sync::Cache;
use serde_json::Value;
use smol_str::{SmolStr, ToSmolStr};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// How long a caller is taken to be logged in, for the audit: requests carry their proof each.
const LOGGED_IN: Duration = Duration::from_secs(60 * 60);
/// How often refusals of one address are recorded, as anybody can cause them.
const REFUSED_EVERY: Duration = Duration::from_secs(10);
/// Largest result that is read for its record, bytes.
const LARGEST_RESULT: usize = 256 << 10;
/// Most callers, and most addresses, that are remembered.
const MOST: usize = 10_000;

/// Whether answers wait for the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// They do not: records are durable a fifth of a second later.
    Soon,
    /// An answer is given once its record is durable, or not at all.
    BeforeAnswer,
}

/// What of a call's payload is recorded, redacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payloads {
    /// The arguments of tools and prompts.
    pub arguments: bool,
    /// What came of them.
    pub results: bool,
}

/// Where acts are recorded.
pub struct Acts {
    audit: Audit,
    durability: Durability,
    payloads: Payloads,
    portal: SmolStr,
    seen: Cache<(SmolStr, IpAddr), Instant>,
    refused: Cache<IpAddr, Instant>,
}

impl Acts {
    /// Records the acts of this portal.
    #[must_use]
    pub fn new(audit: Audit, durability: Durability, portal: SmolStr) -> Self {
        Self { audit, durability, payloads: Payloads::default(), portal, seen: Cache::new(MOST), refused: Cache::new(MOST) }
    }

    /// With this of the payloads.
    #[must_use]
    pub fn with(mut self, payloads: Payloads) -> Self {
        self.payloads = payloads;
        self
    }

    /// What is lost the audit itself counts and tells.
    fn keep(&self, record: Record) {
        let _ = self.audit.record(record);
    }

    fn record(&self, kind: Kind) -> Record {
        Record { kind, portal: Some(self.portal.clone()), ..Record::at(SystemTime::now()) }
    }

    /// Somebody was let in: recorded when they were not seen for a while.
    pub(crate) fn let_in(&self, caller: &Caller) {
        let key = (caller.subject.clone(), caller.address);
        if self.seen.get(&key).is_some_and(|at| at.elapsed() < LOGGED_IN) {
            return;
        }
        self.seen.insert(key, Instant::now());
        let mut record = self.record(Kind::Login);
        by(&mut record, caller);
        self.keep(record);
    }

    /// Somebody was not.
    pub(crate) fn turned_away(&self, peer: &Peer, challenge: &Challenge) {
        let address = peer.address.ip().to_canonical();
        if self.refused.get(&address).is_some_and(|at| at.elapsed() < REFUSED_EVERY) {
            return;
        }
        self.refused.insert(address, Instant::now());
        self.keep(Record {
            source_address: Some(address.to_smolstr()),
            status: Some(Status::Refused),
            error: Some(challenge.status.as_u16().to_smolstr()),
            message: Some(challenge.text.clone()),
            ..self.record(Kind::LoginRefused)
        });
    }

    /// A session begins.
    pub(crate) fn session_begins(&self, caller: &Caller, session: &Session) {
        let mut record = self.record(Kind::SessionStart);
        by(&mut record, caller);
        with(&mut record, &session.client);
        record.session = Some(session.digest());
        record.protocol_version = Some(session.client.version.clone());
        self.keep(record);
    }

    /// One ends: its client said so, or it was not used for too long, or there were too many.
    pub(crate) fn session_ends(&self, session: &Session) {
        let mut record = self.record(Kind::SessionEnd);
        record.user_id = Some(session.owner().clone());
        with(&mut record, &session.client);
        record.session = Some(session.digest());
        self.keep(record);
    }
}

/// Who, as far as it is proven.
fn by(record: &mut Record, caller: &Caller) {
    record.user_id = Some(caller.subject.clone());
    record.user_name.clone_from(&caller.user);
    record.user_email.clone_from(&caller.email);
    record.groups = caller.groups.to_vec();
    record.auth_method = Some(SmolStr::new_static(caller.method.as_str()));
    record.auth_client.clone_from(&caller.client);
    record.source_address = Some(caller.address.to_smolstr());
    record.source_country.clone_from(&caller.country);
    if let Some(device) = &caller.device {
        record.device_sha256 = Some(device.sha256.clone());
        record.device_subject.clone_from(&device.subject);
    }
    if let Some(process) = &caller.process {
        record.process_executable.clone_from(&process.executable);
        record.process_sha256.clone_from(&process.sha256);
        record.process_user.clone_from(&process.user);
    }
}

/// What the client says of itself.
fn with(record: &mut Record, client: &Client) {
    let (name, version) = client.named();
    record.client_name = name;
    record.client_version = version;
}

/// How a request ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub status: Status,
    /// A word for it, where something went wrong.
    pub error: Option<SmolStr>,
    /// The rule that refused it.
    pub rule: Option<SmolStr>,
    /// How long its server took.
    pub upstream: Option<Duration>,
}

impl Ending {
    pub fn of(status: Status) -> Self {
        Self { status, error: None, rule: None, upstream: None }
    }

    pub fn because(status: Status, error: impl Into<SmolStr>) -> Self {
        Self { error: Some(error.into()), ..Self::of(status) }
    }
}

/// A request under way. Does nothing where there is no audit.
pub(crate) struct Act {
    begun: Instant,
    open: Option<(Arc<Acts>, Box<Record>)>,
}

impl Act {
    /// A caller asks for something.
    pub fn begin(portal: &Portal, kind: Kind, call: &Call, method: &str) -> Self {
        let open = portal.options.acts.as_ref().map(|acts| {
            let mut record = Box::new(acts.record(kind));
            by(&mut record, &call.caller);
            record.method = Some(method.into());
            record.execution = call.script.as_ref().map(|script| script.execution.clone());
            match &call.from {
                From::Session(session) => {
                    with(&mut record, &session.client);
                    record.session = Some(session.digest());
                    record.protocol_version = Some(session.client.version.clone());
                }
                From::Stateless(client) => {
                    with(&mut record, client);
                    record.protocol_version = Some(SmolStr::new_static(era::MODERN[0]));
                }
            }
            (acts.clone(), record)
        });
        Self { begun: Instant::now(), open }
    }

    /// What it is about, by the name that the server or else the client gives it.
    pub fn names(&mut self, name: impl FnOnce() -> SmolStr) {
        let Some((_, record)) = &mut self.open else { return };
        let slot = match record.method.as_deref() {
            Some("tools/call") => &mut record.tool,
            Some("prompts/get") => &mut record.prompt,
            Some("resources/read" | "resources/subscribe" | "resources/unsubscribe") => &mut record.resource,
            _ => return,
        };
        *slot = Some(name());
    }

    /// What it is called with.
    pub fn takes(&mut self, arguments: Option<&Value>) {
        if let (Some((acts, record)), Some(arguments)) = (&mut self.open, arguments)
            && acts.payloads.arguments
        {
            let mut arguments = arguments.clone();
            redact(&mut arguments);
            record.arguments = Some(arguments);
        }
    }

    /// It runs code: its digest is recorded, as code may hold what people typed.
    pub fn executes(&mut self, execution: &SmolStr, code: &str) {
        let Some((_, record)) = &mut self.open else { return };
        record.execution = Some(execution.clone());
        record.code_sha256 = Some(text_digest(code));
        record.request_bytes = Some(code.len() as u64);
    }

    /// The code asked for so many calls.
    pub fn called(&mut self, calls: u32) {
        if let Some((_, record)) = &mut self.open {
            record.calls = Some(calls.into());
        }
    }

    /// It turned out to be a part of one that has its own record.
    pub fn is_another(&mut self) {
        self.open = None;
    }

    /// The server that it goes to.
    pub fn goes_to(&mut self, server: &SmolStr, url: Option<SmolStr>, request_bytes: usize) {
        let Some((_, record)) = &mut self.open else { return };
        record.server = Some(server.clone());
        record.server_url = url;
        record.request_bytes = Some(request_bytes as u64);
    }

    /// The line of policy that decided.
    pub fn decided_by(&mut self, line: Option<&LineRef>) {
        if let (Some((_, record)), Some(line)) = (&mut self.open, line) {
            record.policy_line = Some(line.to_smolstr());
            record.policy_text = Some(SmolStr::new(&*line.text));
        }
    }

    /// It is over: gives the answer, or where it may not be given what is said instead.
    pub async fn end(mut self, ending: Ending, outcome: Outcome) -> Outcome {
        let Some((acts, mut record)) = self.open.take() else { return outcome };
        record.status = Some(ending.status);
        record.error = ending.error;
        record.rules = ending.rule.into_iter().collect();
        record.upstream_duration_ms = ending.upstream.map(milliseconds);
        record.duration_ms = Some(milliseconds(self.begun.elapsed()));
        let (Outcome::Result(body) | Outcome::Error(body)) = &outcome;
        record.response_bytes = Some(body.len() as u64);
        if acts.payloads.results && record.kind == Kind::Call {
            record.result = Some(result(body));
        }
        if acts.durability == Durability::Soon {
            acts.keep(*record);
            return outcome;
        }
        match acts.audit.record_durably(*record).await {
            Ok(_) => outcome,
            Err(error) => {
                RpcError::new(INTERNAL_ERROR, format!("{error}, so the answer is withheld; tell whoever runs this portal")).into()
            }
        }
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        if let Some((acts, mut record)) = self.open.take() {
            record.status = Some(Status::Cancelled);
            record.duration_ms = Some(milliseconds(self.begun.elapsed()));
            acts.keep(*record);
        }
    }
}

/// A result as it is recorded.
fn result(body: &[u8]) -> Value {
    if body.len() > LARGEST_RESULT {
        return Value::String(format!("not recorded: {} bytes", body.len()));
    }
    let mut result = serde_json::from_slice(body).unwrap_or_default();
    redact(&mut result);
    result
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
