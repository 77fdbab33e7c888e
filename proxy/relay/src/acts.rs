//! The audit of a portal: each request with its caller, its subject, the line of policy that decided, and its outcome.
//!
//! Each request is an [`Act`](crate::act::Act); log-ins and sessions are recorded here.

use crate::{
    ground::Ground,
    refusals::{Refusals, Told, WITHIN},
};
use gnomon_access::{Caller, Challenge, Peer};
use gnomon_audit::{Audit, NotWritten, Record, RecordKind, Status};
use gnomon_record::Duties;
use gnomon_shares::Lately;
use gnomon_upstream::Client;
use quick_cache::sync::Cache;
use smol_str::{SmolStr, ToSmolStr};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// The time for which one log-in record covers a caller: each request carries its own proof.
const LOGGED_IN: Duration = Duration::from_secs(60 * 60);
/// Most ends of sessions that are recorded together: far fewer than may wait in the audit's queue.
pub(crate) const ENDS_AT_A_TIME: usize = 1024;
/// Most callers that are remembered.
const MOST: usize = 10_000;

/// Whether answers wait for the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Answers do not wait: records are durable a fifth of a second later.
    Soon,
    /// An answer is given once its record is durable, or not at all.
    BeforeAnswer,
    /// Also, a call's beginning is durable before a byte of it leaves for its server, or it does not leave.
    BeforeCall,
}

/// The parts of a call's payload that are recorded, redacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payloads {
    /// The arguments of tools and prompts.
    pub arguments: bool,
    /// The results.
    pub results: bool,
}

/// A session, as the audit has it.
pub struct AuditedSession {
    /// The caller who began it.
    pub owner: SmolStr,
    /// A digest that names it: its id is a secret.
    pub digest: SmolStr,
    /// The program that they use.
    pub client: Arc<Client>,
}

/// The recorder of acts in the audit.
pub struct Acts {
    audit: Audit,
    durability: Durability,
    payloads: Payloads,
    portal: SmolStr,
    duties: Arc<Duties>,
    seen: Cache<(SmolStr, IpAddr), Instant>,
    refusals: Refusals,
    /// What callers were refused, of the last seconds.
    refused: Lately,
}

impl Acts {
    /// Records the acts of this portal; requests in progress are listed among these duties.
    #[must_use]
    pub fn new(audit: Audit, durability: Durability, portal: SmolStr, duties: Arc<Duties>) -> Self {
        let (payloads, seen, refusals, refused) = (Payloads::default(), Cache::new(MOST), Refusals::new(), Lately::default());
        Self { audit, durability, payloads, portal, duties, seen, refusals, refused }
    }

    /// How many of this caller's requests that reached no server a record stands for: of each caller so many are recorded one by one, as
    /// nobody is to fill the audit with them. None: it is summed up with the next.
    pub(crate) fn unserved(&self, owner: &SmolStr) -> Option<u64> {
        self.refused.counts(&owner.as_str().into())
    }

    /// Acts in progress that owe a record.
    pub fn duties(&self) -> &Arc<Duties> {
        &self.duties
    }

    /// Records these parts of payloads.
    #[must_use]
    pub fn with(mut self, payloads: Payloads) -> Self {
        self.payloads = payloads;
        self
    }

    /// The parts of payloads that are recorded.
    pub fn payloads(&self) -> Payloads {
        self.payloads
    }

    /// How durable a record must be before what it is about goes on. While the audit is not open nothing may: each asks whether it can be opened now.
    fn durability(&self) -> Durability {
        if self.audit.is_open() { self.durability } else { Durability::BeforeCall }
    }

    /// Makes a call's beginning durable, where it must be before it leaves; its number in the audit.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep_beginning(&self, beginning: impl FnOnce() -> Option<Record>) -> Result<Option<u64>, NotWritten> {
        if self.durability() != Durability::BeforeCall {
            return Ok(None);
        }
        match beginning() {
            Some(beginning) => self.audit.record_durably(Record { kind: RecordKind::Start, ..beginning }).await.map(Some),
            None => Ok(None),
        }
    }

    /// Records a record. The audit itself counts and reports what is lost.
    pub fn keep(&self, record: Record) {
        let _ = self.audit.record(record);
    }

    /// Records something that an answer waits for, if it is to.
    pub async fn keep_before_answer(&self, record: Record) -> Result<(), NotWritten> {
        match self.durability() {
            Durability::Soon => {
                self.keep(record);
                Ok(())
            }
            Durability::BeforeAnswer | Durability::BeforeCall => self.audit.record_durably(record).await.map(drop),
        }
    }

    /// A record of this kind, at this moment.
    pub fn record(&self, kind: RecordKind) -> Record {
        Record { kind, portal: Some(self.portal.clone()), ..Record::at(SystemTime::now()) }
    }

    /// Records a log-in, unless the caller was seen a short while ago.
    ///
    /// # Errors
    /// If answers wait for the audit and it cannot be written.
    pub async fn let_in(&self, caller: &Caller) -> Result<(), NotWritten> {
        let key = (caller.subject.clone(), caller.address);
        if self.seen.get(&key).is_some_and(|at| at.elapsed() < LOGGED_IN) {
            return Ok(());
        }
        let mut record = self.record(RecordKind::Login);
        by(&mut record, caller);
        self.keep_before_answer(record).await?;
        self.seen.insert(key, Instant::now());
        Ok(())
    }

    /// Records a refused log-in, within bounds, as any host can cause them.
    pub async fn turned_away(&self, peer: &Peer, challenge: &Challenge) {
        let address = peer.address.ip().to_canonical();
        let told = self.refusals.tells(address, Instant::now());
        self.sum_up_refusals();
        if told == Told::No {
            return;
        }
        let record = Record {
            source_address: Some(address.to_smolstr()),
            status: Some(Status::Refused),
            error: Some(challenge.status.as_u16().to_smolstr()),
            message: Some(challenge.text.clone()),
            ..self.record(RecordKind::LoginRefused)
        };
        // The caller is refused either way; the audit counts its losses.
        let _ = self.keep_before_answer(record).await;
    }

    /// Records how many were refused beyond those that are recorded one by one, where their time is over.
    fn sum_up_refusals(&self) {
        if let Some(more) = self.refusals.summed_up(Instant::now()) {
            let message = "so many more were refused, from more addresses than are recorded one by one";
            self.keep(Record {
                status: Some(Status::Refused),
                refused: Some(more),
                message: Some(SmolStr::new_static(message)),
                ..self.record(RecordKind::LoginRefused)
            });
        }
    }

    /// Sums up refusals for ever, as those who caused them may not come again.
    pub async fn sums_up_refusals(&self) {
        loop {
            tokio::time::sleep(WITHIN).await;
            self.sum_up_refusals();
        }
    }

    /// A session begins.
    ///
    /// # Errors
    /// If answers wait for the audit and it cannot be written.
    pub async fn session_begins(&self, caller: &Caller, session: &AuditedSession) -> Result<(), NotWritten> {
        let mut record = self.record(RecordKind::SessionStart);
        by(&mut record, caller);
        with(&mut record, &session.client);
        record.session = Some(session.digest.clone());
        record.protocol_version = Some(session.client.version.clone());
        self.keep_before_answer(record).await
    }

    /// Records the end of a session that its client asked for. In the audit's queue with the first poll.
    pub(crate) async fn session_ends(&self, session: &AuditedSession) {
        // The session has ended either way; the audit counts its losses.
        let _ = self.keep_before_answer(self.end_of(session)).await;
    }

    /// Records the end of a session at once, whether there is room in the audit's queue or not.
    pub(crate) fn session_ended(&self, session: &AuditedSession) {
        self.keep(self.end_of(session));
    }

    /// Records the ends of so many sessions as go together: after too long a pause, for others, or as gnomon stops. In the audit's queue with
    /// the first poll; where they are [`ENDS_AT_A_TIME`], waits until there is room for as many.
    pub(crate) async fn sessions_end(&self, sessions: &[AuditedSession]) {
        let Some((last, others)) = sessions.split_last() else { return };
        others.iter().for_each(|session| self.session_ended(session));
        if sessions.len() < ENDS_AT_A_TIME {
            return self.session_ended(last);
        }
        let _ = self.audit.record_durably(self.end_of(last)).await;
    }

    fn end_of(&self, session: &AuditedSession) -> Record {
        let mut record = self.record(RecordKind::SessionEnd);
        record.user_id = Some(session.owner.clone());
        with(&mut record, &session.client);
        record.session = Some(session.digest.clone());
        record
    }
}

/// Sets the caller, as far as it is proven.
pub fn by(record: &mut Record, caller: &Caller) {
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

/// Adds the client's description of itself to a record.
pub fn with(record: &mut Record, client: &Client) {
    let (name, version) = client.named();
    record.client_name = name;
    record.client_version = version;
}

/// How a request ended.
#[derive(Debug)]
pub struct Ending {
    /// Whether the request succeeded.
    pub status: Status,
    /// A word for it, where something went wrong.
    pub error: Option<SmolStr>,
    /// The rule that refused it.
    pub rule: Option<SmolStr>,
    /// The time that its server took.
    pub upstream: Option<Duration>,
    /// Why the portal refused it, if it did.
    pub ground: Option<Ground>,
}

impl Ending {
    /// An ending with this status alone.
    pub fn of(status: Status) -> Self {
        Self { status, error: None, rule: None, upstream: None, ground: None }
    }

    /// So, for a reason.
    pub fn because(status: Status, error: impl Into<SmolStr>) -> Self {
        let error = error.into();
        let ground = (status == Status::Refused).then(|| Ground::of(&error));
        Self { error: Some(error), ground, ..Self::of(status) }
    }

    /// The same, refused for what its word does not tell.
    #[must_use]
    pub fn on(self, ground: Ground) -> Self {
        Self { ground: Some(ground), ..self }
    }
}
