//! The messages of a request and its answer, apart from how they travel: their calls, verdicts and reports.
//!
//! A [`Dialogue`] knows no heads, codings or windows. Over HTTP an [`Exchange`](crate::Exchange) feeds it what it reads; a channel
//! that has whole messages (the lines of a process, what the portal sends) uses it as it is: [`Dialogue::request_message`],
//! [`Dialogue::answer_message`]. It is the same judge for both, so a rule holds for a message wherever the message is seen.

mod answer;
mod asking;
mod basis;
mod call;
mod listener;
mod outcome;
mod pairing;
mod refusal;
mod report;
mod request;
mod tally;
mod told;
mod verdicts;
mod whole;
mod within;

pub(crate) use answer::bound;
#[cfg(test)]
pub(crate) use call::forget_request;
pub(crate) use call::{describe_malformed, note};
pub(crate) use listener::{Ears, limits as answer_limits};
pub use outcome::ExchangeOutcome;
pub use pairing::LateAnswer;
pub(crate) use refusal::{Form, Wants};
pub use refusal::{Refusal, Target};
pub use request::MAX_MESSAGES;
pub use tally::MAX_TOLD;
pub(crate) use verdicts::{Ahead, Held};
pub(crate) use whole::{asks, tells};

use crate::{Bounds, Connection, Enforcement, Passage, Sighting, in_force::InForce, inspector::Endpoint, sighting::Findings};
use basis::Basis;
use gnomon_engine::{Answer, Progress, RuleSet, Verdict};
use gnomon_observe::{Observation, Phase};
use gnomon_wire::{jsonrpc::Limits, mcp::SignatureSet};
use outcome::Traffic;
use pairing::Pairing;
use report::Reports;
use request::MessageCount;
use std::sync::Arc;
use told::FromServer;
use verdicts::Verdicts;

/// A request, or a batch of them, and its answers. Each part keeps what belongs together true; the methods say how they meet.
pub struct Dialogue {
    /// What every message is judged by.
    basis: Basis,
    /// How many messages of the request were judged.
    count: MessageCount,
    /// What is decided on the request as a whole.
    verdicts: Verdicts,
    /// Which calls are open, and their answers.
    pairing: Pairing,
    /// What the server says beside its answers.
    server: FromServer,
    /// What is told of the calls.
    reports: Reports,
    /// How much was read, and why it broke off.
    traffic: Traffic,
}

/// The holder of a dialogue, which owes its record.
pub trait HoldsDialogue {
    /// The dialogue.
    fn dialogue(&mut self) -> &mut Dialogue;
}

impl HoldsDialogue for Dialogue {
    fn dialogue(&mut self) -> &mut Dialogue {
        self
    }
}

/// Contradictions within a request, independent of its messages: words of `gnomon.mismatch`.
pub(crate) type Mismatches = [Option<&'static str>; 2];

/// The evidence before the first message, and the rules in force.
pub(crate) struct Opened {
    pub rules: Arc<InForce>,
    /// The evidence shared by every message.
    pub base: Observation,
    /// The rules as decided by the connection.
    pub progress: Progress,
    pub findings: Findings,
    pub endpoint: Arc<Endpoint>,
    pub mismatches: Mismatches,
    pub wants: Wants,
    pub unread: Option<Passage>,
}

impl Dialogue {
    /// Begins a request on a channel that has no heads. `describe` writes down what is known of it beside its connection, as far as
    /// its [`Phase`] is [`Phase::Head`].
    #[must_use]
    pub fn begin(connection: &Connection, describe: impl FnOnce(&mut Observation)) -> Self {
        let (rules, mut base, progress) = connection.standing();
        describe(&mut base);
        let endpoint = connection.place("").endpoint;
        let findings = connection.findings(&endpoint);
        let (mismatches, wants, unread) = (Mismatches::default(), Wants::Json, None);
        Self::open(connection, Opened { rules, base, progress, findings, endpoint, mismatches, wants, unread })
    }

    /// Judges the evidence before the first message.
    pub(crate) fn open(connection: &Connection, opened: Opened) -> Self {
        let wants = opened.wants;
        let (basis, answer) = Basis::open(connection, opened);
        Self {
            basis,
            count: MessageCount::default(),
            verdicts: Verdicts::new(answer, wants),
            pairing: Pairing::default(),
            server: FromServer::default(),
            reports: Reports::default(),
            traffic: Traffic::default(),
        }
    }

    /// Reports that are due, in order.
    pub fn reports(&mut self) -> impl Iterator<Item = Sighting> + '_ {
        self.reports.take()
    }

    /// The rules that it is judged by.
    #[must_use]
    pub fn rules(&self) -> &Arc<RuleSet> {
        self.basis.rules.set()
    }

    /// The evidence shared by all its messages: its connection, and the evidence before the first.
    #[must_use]
    pub fn seen(&self) -> &Observation {
        &self.basis.seen
    }

    /// The passage by which its messages pass unread, if they do and nothing refused them.
    #[must_use]
    pub fn passed(&self) -> Option<Passage> {
        self.unread().filter(|_| !self.is_refused())
    }

    /// True if the request must not pass.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.verdicts.is_refused()
    }

    /// The verdict that keeps the request from passing, if there is one.
    pub(crate) fn refused(&self) -> Option<Verdict> {
        self.verdicts.refused()
    }

    /// Refuses by this verdict, unless one was decided before.
    pub(crate) fn refuse_by(&mut self, verdict: Verdict) {
        self.verdicts.refuse_by(verdict);
    }

    /// The rules' decision ahead of the message.
    pub(crate) fn ahead(&self) -> Ahead {
        self.verdicts.ahead()
    }

    /// Held or released, for the answer's bytes.
    pub(crate) fn held(&self) -> Held {
        self.verdicts.held()
    }

    /// Marks the answer's bytes as possibly sent.
    pub(crate) fn let_go(&mut self) {
        self.verdicts.let_go();
    }

    /// True if a call further on may still have those before it refused, so that none is told of as it is.
    pub(crate) fn withholds(&self) -> bool {
        self.verdicts.withholds()
    }

    pub(crate) fn form(&self) -> Form {
        self.verdicts.form()
    }

    pub(crate) fn unread(&self) -> Option<Passage> {
        self.basis.unread()
    }

    /// Marks its messages as unreadable, before it is judged as such.
    pub(crate) fn pass_on(&mut self, passage: Passage) {
        self.basis.pass_on(passage);
    }

    /// The MCP signatures in all of its messages.
    pub(crate) fn signatures(&self) -> SignatureSet {
        self.basis.findings.signatures
    }

    /// True if a rule asks what arguments mean.
    pub(crate) fn asks_for_meaning(&self) -> bool {
        self.basis.rules.wanted().meaning
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        self.basis.bounds()
    }

    /// The capture limits of a request's message.
    pub(crate) fn limits(&self) -> Limits {
        self.basis.limits()
    }

    /// What looks at the texts of its answers.
    pub(crate) fn ears(&self) -> Ears {
        Ears::of(&self.basis.rules, self.pairing.calls.iter().map(|call| call.method.as_deref()))
    }

    /// Counts bytes of the request that were read.
    pub(crate) fn asks(&mut self, bytes: usize) {
        self.traffic.asked += bytes as u64;
    }

    /// Counts bytes of the answer that were read.
    pub(crate) fn answers(&mut self, bytes: usize) {
        self.traffic.answered += bytes as u64;
    }

    /// More of the request's text, for rules that look at its beginning.
    pub(crate) fn show_text(&mut self, plain: &[u8]) {
        self.basis.show_text(plain);
    }

    /// Bytes of memory that the calls take whose answers are awaited, about.
    pub(crate) fn calls_keep(&self) -> usize {
        self.pairing.bytes()
    }

    /// Judges by the rules, as far as verdicts are carried out at this moment.
    fn judge(&self, seen: &Observation, phase: Phase, progress: &mut Progress) -> Answer {
        self.basis.judge(seen, phase, progress)
    }

    /// The enforcement at this moment.
    fn enforcement(&self) -> Enforcement {
        self.basis.enforcement()
    }
}
