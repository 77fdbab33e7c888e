//! A request on its way through the portal, for the audit: who, what, by which line of policy, and how it ended.
//!
//! An act is a duty ([`gnomon_record::Duties`]): one that is dropped was cancelled by its client, or gnomon stopped, and the
//! attendant records it as that.

use crate::{
    acts::{Acts, Ending, by, with},
    call::{Call, Origin, SavedSnippet},
    error::CallError,
    ground::{Ground, RefusalCounts},
    shares,
};
use gnomon_access::LineRef;
use gnomon_audit::{NotWritten, Record, RecordKind, Status, redact, text_digest};
use gnomon_kit::whole_millis;
use gnomon_record::{Duty, Left, Undertaken};
use gnomon_upstream::{
    carried::{CARRIED_OUT, CarriedOut, changes},
    era,
    rpc::{INTERNAL_ERROR, Outcome, RpcError},
};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use smol_str::{SmolStr, ToSmolStr};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// Largest arguments, and largest result, that are recorded, bytes: they wait in memory for the end of their call.
const LARGEST_PAYLOAD: usize = 256 << 10;
/// A request in progress. Without an audit nothing of it is recorded.
pub struct Act {
    begun: Instant,
    /// Whether it may have left for its server.
    left: AtomicBool,
    open: Option<Undertaken<OpenAct>>,
    /// Where it counts if the portal refuses it.
    refusals: Option<RefusalCounts>,
}

/// The record that a request in progress owes to the audit.
struct OpenAct {
    acts: Arc<Acts>,
    /// Whose it is.
    owner: SmolStr,
    begun: Instant,
    /// The record; none once it is written.
    record: Mutex<Option<Box<Record>>>,
}

impl OpenAct {
    fn record(&self) -> MutexGuard<'_, Option<Box<Record>>> {
        self.record.lock()
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

    fn is_recorded(&self) -> bool {
        self.record().is_none()
    }
}

impl Act {
    /// A caller asks for something.
    pub fn begin(acts: Option<&Arc<Acts>>, kind: RecordKind, call: &Call, method: &str) -> Self {
        let begun = Instant::now();
        let open = acts.map(|acts| {
            let mut record = Box::new(acts.record(kind));
            by(&mut record, &call.caller);
            record.method = Some(method.into());
            record.execution = call.script.as_ref().map(|script| script.execution.clone());
            if let Some(snippet) = call.script.as_ref().and_then(|script| script.snippet.as_ref()) {
                of_snippet(&mut record, snippet);
            }
            match &call.from {
                Origin::Session(session) => {
                    with(&mut record, &session.client);
                    record.session = Some(session.digest());
                    record.protocol_version = Some(session.client.version.clone());
                }
                Origin::Stateless(client) => {
                    with(&mut record, client);
                    record.protocol_version = Some(SmolStr::new_static(era::MODERN[0]));
                }
            }
            let owner = shares::owner(&call.caller);
            acts.duties().take_on(OpenAct { acts: acts.clone(), owner, begun, record: Mutex::new(Some(record)) })
        });
        Self { begun, left: AtomicBool::new(false), open, refusals: None }
    }

    /// Counts it here if the portal refuses it.
    #[must_use]
    pub fn counted(self, refusals: Option<&RefusalCounts>) -> Self {
        Self { refusals: refusals.cloned(), ..self }
    }

    fn refused(&self, ground: Ground) {
        if let Some(refusals) = &self.refusals {
            refusals.count(ground);
        }
    }

    /// Writes what is known by now into its record.
    fn note(&self, note: impl FnOnce(&Acts, &mut Record)) {
        if let Some(open) = &self.open
            && let Some(record) = &mut *open.record()
        {
            note(&open.acts, record);
        }
    }

    /// Notes that it is about to leave for its server: where that waits for the audit, a record of its beginning is made durable.
    ///
    /// # Errors
    /// When that record cannot be written: the call must not leave.
    pub async fn leaves(&self) -> Result<(), NotWritten> {
        let Some(open) = &self.open else { return Ok(()) };
        if let Some(number) = open.acts.keep_beginning(|| open.record().as_deref().cloned()).await? {
            self.note(|_, record| record.start = Some(number));
        }
        self.left.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Notes that it goes on with a request that left as part of another act, which waited for its client's input.
    pub fn takes_up(&self, waiting: &Self) {
        self.left.store(true, Ordering::Relaxed);
        let (start, attempts) = waiting.noted(|record| (record.start, record.attempts)).unwrap_or_default();
        self.note(|_, record| (record.start, record.attempts) = (start, attempts));
    }

    /// What stands for its request while that waits for its client's input, after this act has ended with the question: unless it
    /// [is taken up](Self::takes_up), it is recorded as cancelled.
    #[must_use]
    pub fn waiting(&self) -> Self {
        let open = self.open.as_ref().and_then(|open| {
            let record = open.record().clone()?;
            let (acts, owner) = (open.acts.clone(), open.owner.clone());
            Some(open.acts.duties().take_on(OpenAct { acts, owner, begun: open.begun, record: Mutex::new(Some(record)) }))
        });
        Self { begun: self.begun, left: AtomicBool::new(true), open, refusals: self.refusals.clone() }
    }

    /// What its record says by now.
    fn noted<T>(&self, read: impl FnOnce(&Record) -> T) -> Option<T> {
        self.open.as_ref().and_then(|open| open.record().as_deref().map(read))
    }

    /// Sets the name of its object, by the server's or else the client's name.
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

    /// Sets its arguments, and the length of their text.
    pub fn takes(&self, arguments: Option<&Value>, bytes: usize) {
        self.note(|acts, record| match arguments.filter(|_| acts.payloads().arguments) {
            None => {}
            Some(_) if bytes > LARGEST_PAYLOAD => record.arguments = Some(unrecorded(bytes)),
            Some(arguments) => {
                let mut arguments = arguments.clone();
                redact(&mut arguments);
                record.arguments = Some(arguments);
            }
        });
    }

    /// Records the digest of code that it runs, as code may hold what people typed.
    pub fn executes(&self, execution: &SmolStr, code: &str) {
        self.note(|_, record| {
            record.execution = Some(execution.clone());
            record.code_sha256 = Some(text_digest(code));
            record.request_bytes = Some(code.len() as u64);
        });
    }

    /// Sets the saved snippet that it is about.
    pub fn is_of_snippet(&self, snippet: &SavedSnippet) {
        self.note(|_, record| of_snippet(record, snippet));
    }

    /// The code asked for so many calls.
    pub fn called(&self, calls: u32) {
        self.note(|_, record| record.calls = Some(calls.into()));
    }

    /// Drops the act, as it is a part of one that has its own record.
    pub fn is_another(&mut self) {
        if let Some(open) = self.open.take() {
            open.finish();
            // It owes none.
            open.record().take();
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

    /// Ends it: gives the answer, or what is said in its place where it may not be given.
    pub async fn end(mut self, ending: Ending, outcome: Outcome) -> Outcome {
        let ground = ending.ground;
        if let Some(ground) = ground {
            self.refused(ground);
        }
        let Some(open) = self.open.take() else { return outcome };
        let acts = &open.acts;
        let Some(mut record) = open.record().take() else { return outcome };
        if matches!(ending.status, Status::Refused | Status::Unavailable) && !self.left.load(Ordering::Relaxed) {
            match acts.unserved(&open.owner) {
                None => {
                    open.finish();
                    return outcome;
                }
                Some(requests) => record.refused = Some(requests - 1).filter(|more| *more > 0),
            }
        }
        record.status = Some(ending.status);
        record.error = ending.error;
        record.rules = ending.rule.into_iter().collect();
        record.upstream_duration_ms = ending.upstream.map(whole_millis);
        record.duration_ms = Some(whole_millis(self.begun.elapsed()));
        let (Outcome::Result(body) | Outcome::Error(body)) = &outcome;
        record.response_bytes = Some(body.len() as u64);
        if acts.payloads().results && record.kind == RecordKind::Call {
            record.result = Some(result(body));
        }
        let instead = Withheld::of(&record, self.left.load(Ordering::Relaxed));
        let kept = acts.keep_before_answer(*record);
        open.finish();
        match kept.await {
            Ok(()) => outcome,
            Err(error) => {
                if ground.is_none() {
                    self.refused(Ground::Audit);
                }
                instead.outcome(error)
            }
        }
    }
}

/// One request of an act on its way to its server, however often it leaves: the one way to send it tells here first.
pub struct Leaving<'a> {
    act: &'a Act,
    left: AtomicBool,
}

impl<'a> Leaving<'a> {
    /// A request that has not left.
    #[must_use]
    pub fn of(act: &'a Act) -> Self {
        Self { act, left: AtomicBool::new(false) }
    }

    /// The act that it is part of.
    #[must_use]
    pub fn act(&self) -> &'a Act {
        self.act
    }

    /// Whether it left before.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Notes that it is about to leave, or to leave once more, which is counted: see [`Act::leaves`].
    ///
    /// # Errors
    /// [`CallError::Unrecorded`]: it must not leave.
    pub async fn leaves(&self) -> Result<(), CallError> {
        let before = self.act.noted(|record| record.attempts).flatten();
        if self.has_left() {
            self.act.note(|_, record| record.attempts = Some(before.unwrap_or(1) + 1));
        }
        if self.act.leaves().await.is_err() {
            self.act.note(|_, record| record.attempts = before);
            return Err(CallError::Unrecorded);
        }
        self.left.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// What is said in place of an answer that cannot be recorded.
enum Withheld {
    /// A list: nothing comes of asking again.
    List,
    /// An answer to what changes nothing.
    Answer,
    /// A call's, with its server.
    Call(CarriedOut, Option<SmolStr>),
}

impl Withheld {
    fn of(record: &Record, left: bool) -> Self {
        if record.kind == RecordKind::List {
            return Self::List;
        }
        if !record.method.as_deref().is_some_and(changes) {
            return Self::Answer;
        }
        let carried = match record.status {
            _ if !left => CarriedOut::No,
            Some(Status::Unavailable) => CarriedOut::No,
            // A task that has begun has not come to its end, nor has a call that waits for input.
            Some(Status::Ok) if record.task.is_none() => CarriedOut::Yes,
            _ => CarriedOut::Perhaps,
        };
        Self::Call(carried, record.server.clone())
    }

    fn outcome(self, error: NotWritten) -> Outcome {
        let told = |what: &str| RpcError::new(INTERNAL_ERROR, format!("{error}{what}; contact the operator of this portal"));
        match self {
            Self::List => told(", so the list cannot be given").into(),
            Self::Answer => told(", so the answer is withheld").into(),
            Self::Call(carried, server) => {
                let withheld = if carried == CarriedOut::No { "" } else { ", so the answer is withheld" };
                let mut data = json!({CARRIED_OUT: carried.word()});
                if let Some(server) = server {
                    data["server"] = server.as_str().into();
                }
                told(&format!("{withheld}; {}", carried.words())).with(data).into()
            }
        }
    }
}

fn of_snippet(record: &mut Record, SavedSnippet { name, version, sha256 }: &SavedSnippet) {
    record.snippet = Some(name.clone());
    record.snippet_version = Some(*version);
    record.snippet_sha256 = Some(sha256.clone());
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
