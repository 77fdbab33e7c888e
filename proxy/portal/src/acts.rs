//! What is done through the portal, for the audit: each request with who, what, by which line of policy, and how it ended.
//!
//! An act is a duty ([`gnomon_record::Duties`]): one that nobody ended was taken back by its client, or gnomon stopped, and the
//! attendant records it as that.

use crate::{
    call::{Call, From},
    portal::Portal,
    session::Session,
};
use gnomon_access::{Caller, Challenge, LineRef, Peer};
use gnomon_audit::{Audit, Kind, NotWritten, Record, Status, redact, text_digest};
use gnomon_kit::whole_millis;
use gnomon_record::{Duties, Duty, Left, Undertaken};
use gnomon_upstream::{
    Client, era,
    rpc::{INTERNAL_ERROR, Outcome, RpcError},
};
use prometheus::IntCounter;
use quick_cache::sync::Cache;
use serde_json::Value;
use smol_str::{SmolStr, ToSmolStr};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// How long a caller is taken to be logged in, for the audit: requests carry their proof each.
const LOGGED_IN: Duration = Duration::from_secs(60 * 60);
/// How often refusals of one address are recorded, as anybody can cause them.
const REFUSED_EVERY: Duration = Duration::from_secs(10);
/// Largest arguments, and largest result, that are recorded, bytes: they wait in memory for the end of their call.
const LARGEST_PAYLOAD: usize = 256 << 10;
/// Ends of sessions that are recorded together when gnomon stops: far fewer than may wait in the audit's queue.
const AT_A_TIME: usize = 1024;
/// Most callers, and most addresses, that are remembered.
const MOST: usize = 10_000;

/// Whether answers wait for the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// They do not: records are durable a fifth of a second later.
    Soon,
    /// An answer is given once its record is durable, or not at all.
    BeforeAnswer,
    /// As well as that, a call's beginning is durable before a byte of it leaves for its server, or it does not leave.
    BeforeCall,
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
    duties: Arc<Duties>,
    seen: Cache<(SmolStr, IpAddr), Instant>,
    refused: Cache<IpAddr, Instant>,
}

impl Acts {
    /// Records the acts of this portal.
    ///
    /// # Errors
    /// When the name of a counter is refused, which is a mistake in this file.
    pub fn new(audit: Audit, durability: Durability, portal: SmolStr) -> Result<Self, prometheus::Error> {
        let duties = Duties::new(IntCounter::new("acts_unfinished", "Of a portal that shares no duties.")?);
        Ok(Self { audit, durability, payloads: Payloads::default(), portal, duties, seen: Cache::new(MOST), refused: Cache::new(MOST) })
    }

    /// Lists what is under way among these duties.
    #[must_use]
    pub fn among(mut self, duties: Arc<Duties>) -> Self {
        self.duties = duties;
        self
    }

    pub(crate) fn duties(&self) -> &Arc<Duties> {
        &self.duties
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

    /// Records something that an answer waits for, if it is to.
    async fn keep_before_answer(&self, record: Record) -> Result<(), NotWritten> {
        match self.durability {
            Durability::Soon => {
                self.keep(record);
                Ok(())
            }
            Durability::BeforeAnswer | Durability::BeforeCall => self.audit.record_durably(record).await.map(drop),
        }
    }

    fn record(&self, kind: Kind) -> Record {
        Record { kind, portal: Some(self.portal.clone()), ..Record::at(SystemTime::now()) }
    }

    /// Somebody was let in: recorded when they were not seen for a while.
    ///
    /// # Errors
    /// Where answers wait for the audit and it cannot be written.
    pub(crate) async fn let_in(&self, caller: &Caller) -> Result<(), NotWritten> {
        let key = (caller.subject.clone(), caller.address);
        if self.seen.get(&key).is_some_and(|at| at.elapsed() < LOGGED_IN) {
            return Ok(());
        }
        let mut record = self.record(Kind::Login);
        by(&mut record, caller);
        self.keep_before_answer(record).await?;
        self.seen.insert(key, Instant::now());
        Ok(())
    }

    /// Somebody was not.
    pub(crate) async fn turned_away(&self, peer: &Peer, challenge: &Challenge) {
        let address = peer.address.ip().to_canonical();
        if self.refused.get(&address).is_some_and(|at| at.elapsed() < REFUSED_EVERY) {
            return;
        }
        self.refused.insert(address, Instant::now());
        let record = Record {
            source_address: Some(address.to_smolstr()),
            status: Some(Status::Refused),
            error: Some(challenge.status.as_u16().to_smolstr()),
            message: Some(challenge.text.clone()),
            ..self.record(Kind::LoginRefused)
        };
        // They are refused either way; what is lost the audit counts.
        let _ = self.keep_before_answer(record).await;
    }

    /// A session begins.
    ///
    /// # Errors
    /// Where answers wait for the audit and it cannot be written.
    pub(crate) async fn session_begins(&self, caller: &Caller, session: &Session) -> Result<(), NotWritten> {
        let mut record = self.record(Kind::SessionStart);
        by(&mut record, caller);
        with(&mut record, &session.client);
        record.session = Some(session.digest());
        record.protocol_version = Some(session.client.version.clone());
        self.keep_before_answer(record).await
    }

    /// One ends: its client said so, or it was not used for too long, or there were too many.
    pub(crate) async fn session_ends(&self, session: &Session) {
        // It has ended either way; what is lost the audit counts.
        let _ = self.keep_before_answer(self.end_of(session)).await;
    }

    /// gnomon stops, and all sessions end. Waits for room in the audit's queue, however many they are.
    pub(crate) async fn all_sessions_end(&self, sessions: &[Arc<Session>]) {
        for some in sessions.chunks(AT_A_TIME) {
            if let Some((last, others)) = some.split_last() {
                others.iter().for_each(|session| self.keep(self.end_of(session)));
                let _ = self.audit.record_durably(self.end_of(last)).await;
            }
        }
    }

    fn end_of(&self, session: &Session) -> Record {
        let mut record = self.record(Kind::SessionEnd);
        record.user_id = Some(session.owner().clone());
        with(&mut record, &session.client);
        record.session = Some(session.digest());
        record
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
    open: Option<Undertaken<OpenAct>>,
}

/// What is owed to the audit of a request under way.
struct OpenAct {
    acts: Arc<Acts>,
    begun: Instant,
    /// None once it is recorded.
    record: Mutex<Option<Box<Record>>>,
}

impl OpenAct {
    fn record(&self) -> MutexGuard<'_, Option<Box<Record>>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Duty for OpenAct {
    fn look(&self, _: Instant) {}

    fn settle(&self, left: Left) {
        let Some(mut record) = self.record().take() else { return };
        record.status = Some(Status::Cancelled);
        if left == Left::AtStop {
            record.error = Some(SmolStr::new_static("stopped"));
        }
        record.duration_ms = Some(whole_millis(self.begun.elapsed()));
        self.acts.keep(*record);
    }
}

impl Act {
    /// A caller asks for something.
    pub fn begin(portal: &Portal, kind: Kind, call: &Call, method: &str) -> Self {
        let begun = Instant::now();
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
            acts.duties.take_on(OpenAct { acts: acts.clone(), begun, record: Mutex::new(Some(record)) })
        });
        Self { begun, open }
    }

    /// Writes what is known by now into its record.
    fn note(&self, note: impl FnOnce(&Acts, &mut Record)) {
        if let Some(open) = &self.open
            && let Some(record) = &mut *open.record()
        {
            note(&open.acts, record);
        }
    }

    /// It is about to leave for its server: where that waits for the audit, a record of its beginning is made durable.
    ///
    /// # Errors
    /// When that record cannot be written: the call must not leave.
    pub async fn leaves(&self) -> Result<(), NotWritten> {
        let Some(open) = self.open.as_ref().filter(|open| open.acts.durability == Durability::BeforeCall) else { return Ok(()) };
        let Some(beginning) = open.record().as_deref().cloned() else { return Ok(()) };
        let number = open.acts.audit.record_durably(Record { kind: Kind::Start, ..beginning }).await?;
        self.note(|_, record| record.start = Some(number));
        Ok(())
    }

    /// Its server knows the session no longer, and it leaves once more: with a beginning of its own, and counted.
    ///
    /// # Errors
    /// As [`leaves`](Self::leaves).
    pub async fn leaves_again(&self) -> Result<(), NotWritten> {
        self.note(|_, record| record.attempts = Some(record.attempts.unwrap_or(1) + 1));
        self.leaves().await
    }

    /// What it is about, by the name that the server or else the client gives it.
    pub fn names(&self, name: impl FnOnce() -> SmolStr) {
        self.note(|_, record| {
            let slot = match record.method.as_deref() {
                Some("tools/call") => &mut record.tool,
                Some("prompts/get") => &mut record.prompt,
                Some("resources/read" | "resources/subscribe" | "resources/unsubscribe") => &mut record.resource,
                _ => return,
            };
            *slot = Some(name());
        });
    }

    /// The task that it began, or is about.
    pub fn is_of_task(&self, id: &SmolStr) {
        self.note(|_, record| record.task = Some(id.clone()));
    }

    /// What it is called with, and how long the text of that is.
    pub fn takes(&self, arguments: Option<&Value>, bytes: usize) {
        self.note(|acts, record| match arguments.filter(|_| acts.payloads.arguments) {
            None => {}
            Some(_) if bytes > LARGEST_PAYLOAD => record.arguments = Some(unrecorded(bytes)),
            Some(arguments) => {
                let mut arguments = arguments.clone();
                redact(&mut arguments);
                record.arguments = Some(arguments);
            }
        });
    }

    /// It runs code: its digest is recorded, as code may hold what people typed.
    pub fn executes(&self, execution: &SmolStr, code: &str) {
        self.note(|_, record| {
            record.execution = Some(execution.clone());
            record.code_sha256 = Some(text_digest(code));
            record.request_bytes = Some(code.len() as u64);
        });
    }

    /// The code asked for so many calls.
    pub fn called(&self, calls: u32) {
        self.note(|_, record| record.calls = Some(calls.into()));
    }

    /// It turned out to be a part of one that has its own record.
    pub fn is_another(&mut self) {
        if let Some(open) = self.open.take() {
            open.finish();
        }
    }

    /// The server that it goes to.
    pub fn goes_to(&self, server: &SmolStr, url: Option<SmolStr>, request_bytes: usize) {
        self.note(|_, record| {
            record.server = Some(server.clone());
            record.server_url = url;
            record.request_bytes = Some(request_bytes as u64);
        });
    }

    /// The line of policy that decided.
    pub fn decided_by(&self, line: Option<&LineRef>) {
        if let Some(line) = line {
            self.note(|_, record| {
                record.policy_line = Some(line.to_smolstr());
                record.policy_text = Some(SmolStr::new(&*line.text));
            });
        }
    }

    /// It is over: gives the answer, or where it may not be given what is said instead.
    pub async fn end(mut self, ending: Ending, outcome: Outcome) -> Outcome {
        let Some(open) = self.open.take() else { return outcome };
        let acts = &open.acts;
        let Some(mut record) = open.record().take() else { return outcome };
        record.status = Some(ending.status);
        record.error = ending.error;
        record.rules = ending.rule.into_iter().collect();
        record.upstream_duration_ms = ending.upstream.map(whole_millis);
        record.duration_ms = Some(whole_millis(self.begun.elapsed()));
        let (Outcome::Result(body) | Outcome::Error(body)) = &outcome;
        record.response_bytes = Some(body.len() as u64);
        if acts.payloads.results && record.kind == Kind::Call {
            record.result = Some(result(body));
        }
        let kept = acts.keep_before_answer(*record);
        open.finish();
        match kept.await {
            Ok(()) => outcome,
            Err(error) => {
                RpcError::new(INTERNAL_ERROR, format!("{error}, so the answer is withheld; tell whoever runs this portal")).into()
            }
        }
    }
}

/// A result as it is recorded.
fn result(body: &[u8]) -> Value {
    if body.len() > LARGEST_PAYLOAD {
        return unrecorded(body.len());
    }
    let mut result = serde_json::from_slice(body).unwrap_or_default();
    redact(&mut result);
    result
}

fn unrecorded(bytes: usize) -> Value {
    Value::String(format!("not recorded: {bytes} bytes"))
}
