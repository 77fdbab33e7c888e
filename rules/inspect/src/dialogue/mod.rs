//! The messages of a request and its answer, apart from how they travel: their calls, verdicts and reports.
//!
//! A [`Dialogue`] knows no heads, codings or windows. Over HTTP an [`Exchange`](crate::Exchange) feeds it what it reads; a channel
//! that has whole messages (the lines of a process, what the portal sends) uses it as it is: [`Dialogue::request_message`],
//! [`Dialogue::answer_message`]. It is the same judge for both, so a rule holds for a message wherever the message is seen.

mod answer;
mod call;
mod listener;
mod outcome;
mod refusal;
mod report;
mod request;
mod tally;
mod told;
mod whole;

#[cfg(test)]
pub(crate) use call::forget_request;
pub(crate) use call::{describe_malformed, note};
pub(crate) use listener::{Ears, limits as answer_limits};
pub use outcome::{LateAnswer, Outcome};
pub(crate) use refusal::{Form, Wants};
pub use refusal::{Refusal, Target};
pub use request::MAX_MESSAGES;
pub use tally::MAX_TOLD;
pub(crate) use whole::{asks, tells};

use crate::{
    Bounds, Connection, Enforcement, Inspector, Passage, Sighting,
    in_force::InForce,
    inspector::Endpoint,
    shadow::{interfering, tempered},
    sighting::Findings,
};
use call::Call;
use gnomon_engine::{Answer, Arguments, Progress, RuleSet, Verdict};
use gnomon_observe::{Observation, Phase};
use gnomon_wire::{
    jsonrpc::{ArgumentCapture, Id, Limits},
    mcp::SignatureSet,
};
use outcome::Pending;
use request::Overflow;
use smol_str::SmolStr;
use std::sync::Arc;
use tally::Tally;
use told::Methods;

/// Bytes of a request that `http.request.body.text` shows.
const TEXT_BYTES: usize = 1024;

/// A request, or a batch of them, and its answers.
pub struct Dialogue {
    inspector: Arc<Inspector>,
    rules: Arc<InForce>,
    /// The enforcement that its connection was opened under.
    enforcement: Enforcement,
    /// The evidence shared by every message.
    base: Observation,
    base_progress: Progress,
    base_findings: Findings,
    mismatches: Mismatches,
    endpoint: Arc<Endpoint>,
    wants: Wants,
    /// Why its messages are not read, if they are not.
    unread: Option<Passage>,
    /// The text for `http.request.body.text`, if a rule reads it.
    text: Option<Vec<u8>>,
    ahead: Ahead,
    held: Held,
    refused: Refused,
    strays: Strays,
    methods: Methods,
    /// The pages of lists that it asks for: the request's id, and its cursor.
    pages: Vec<(Option<Id>, SmolStr)>,
    /// Methods that the server asked of the client on its own initiative.
    questions: Vec<SmolStr>,
    /// Messages of the request that were judged.
    judged: u32,
    overflow: Overflow,
    targets: Vec<Target>,
    form: Form,
    calls: Vec<Call>,
    /// Calls that were reported before their answers came.
    pending: Vec<Pending>,
    reports: Vec<Sighting>,
    calls_reported: u32,
    /// Calls reported each by itself.
    told: u32,
    tally: Tally,
    /// Why no answer came or none was finished, with the detail.
    failure: Option<(SmolStr, SmolStr)>,
    /// Bytes of the request that were read.
    asked: u64,
    /// Bytes of the answer that were read.
    answered: u64,
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

/// The rules' state before the message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// No interfering rule waits for the message.
    Open,
    /// An interfering rule waits for it.
    Waits,
    /// The request is refused: the message is read only to answer with its id.
    Decided(Verdict),
}

impl Ahead {
    fn of(answer: Answer) -> Self {
        match (interfering(answer), answer) {
            (Some(verdict), _) => Self::Decided(verdict),
            (None, Answer::Needs(Phase::Message | Phase::Hello | Phase::Head)) => Self::Waits,
            (None, _) => Self::Open,
        }
    }
}

/// Bytes of an answer that may still be withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// All are held back.
    Back,
    /// Some may have left.
    Gone,
}

/// The request's refusal, if it must not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    No,
    /// The request must not pass, and the refusal was not sent to its client yet.
    Due(Verdict),
    /// Its client was told, and the calls concerned are reported.
    Told(Verdict),
}

impl Refused {
    const fn verdict(self) -> Option<Verdict> {
        match self {
            Self::No => None,
            Self::Due(verdict) | Self::Told(verdict) => Some(verdict),
        }
    }
}

/// The treatment of answers that belong to no known call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strays {
    /// Forwarded: no rule could refuse one.
    Pass,
    Judged,
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
        let Opened { rules, base, mut progress, findings, endpoint, mismatches, wants, unread } = opened;
        let answer = tempered(rules.judge(&base, Phase::Head, &mut progress), connection.enforcement());
        Self {
            inspector: connection.inspector.clone(),
            enforcement: connection.own_enforcement(),
            text: rules.wanted().body_text.then(Vec::new),
            rules,
            base,
            base_progress: progress,
            base_findings: findings,
            mismatches,
            endpoint,
            wants,
            unread,
            ahead: Ahead::of(answer),
            held: Held::Back,
            refused: Refused::No,
            strays: Strays::Pass,
            methods: Methods::Unheard,
            pages: Vec::new(),
            questions: Vec::new(),
            judged: 0,
            overflow: Overflow::No,
            targets: Vec::new(),
            form: Form::Foreign,
            calls: Vec::new(),
            pending: Vec::new(),
            reports: Vec::new(),
            calls_reported: 0,
            told: 0,
            tally: Tally::default(),
            failure: None,
            asked: 0,
            answered: 0,
        }
    }

    /// Reports that are due, in order.
    pub fn reports(&mut self) -> impl Iterator<Item = Sighting> + '_ {
        self.reports.drain(..)
    }

    /// The rules that it is judged by.
    #[must_use]
    pub fn rules(&self) -> &Arc<RuleSet> {
        self.rules.set()
    }

    /// The evidence shared by all its messages: its connection, and the evidence before the first.
    #[must_use]
    pub fn seen(&self) -> &Observation {
        &self.base
    }

    /// The passage by which its messages pass unread, if they do and nothing refused them.
    #[must_use]
    pub fn passed(&self) -> Option<Passage> {
        self.unread.filter(|_| !self.is_refused())
    }

    /// True if the request must not pass.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused != Refused::No
    }

    /// The verdict that keeps the request from passing, if there is one.
    pub(crate) fn refused(&self) -> Option<Verdict> {
        self.refused.verdict()
    }

    /// Refuses by this verdict, unless one was decided before.
    pub(crate) fn refuse_by(&mut self, verdict: Verdict) {
        if self.refused == Refused::No {
            self.refused = Refused::Due(verdict);
        }
    }

    /// The rules' decision ahead of the message.
    pub(crate) fn ahead(&self) -> Ahead {
        self.ahead
    }

    /// Held or released, for the answer's bytes.
    pub(crate) fn held(&self) -> Held {
        self.held
    }

    /// Marks the answer's bytes as possibly sent.
    pub(crate) fn let_go(&mut self) {
        self.held = Held::Gone;
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    pub(crate) fn unread(&self) -> Option<Passage> {
        self.unread
    }

    /// Marks its messages as unreadable, before it is judged as such.
    pub(crate) fn pass_on(&mut self, passage: Passage) {
        self.unread.get_or_insert(passage);
    }

    /// The MCP signatures in all of its messages.
    pub(crate) fn signatures(&self) -> SignatureSet {
        self.base_findings.signatures
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.inspector.bounds
    }

    /// The capture limits of a request's message.
    pub(crate) fn limits(&self) -> Limits {
        let bounds = self.bounds();
        bounds.scanner(match self.rules.wanted().arguments {
            Arguments::Unwanted => ArgumentCapture::Off,
            _ => ArgumentCapture::On { max_bytes: bounds.max_arguments, max_leaves: 1024 },
        })
    }

    /// What looks at the texts of its answers.
    pub(crate) fn ears(&self) -> Ears {
        Ears::of(&self.rules)
    }

    /// Counts bytes of the request that were read.
    pub(crate) fn asks(&mut self, bytes: usize) {
        self.asked += bytes as u64;
    }

    /// Counts bytes of the answer that were read.
    pub(crate) fn answers(&mut self, bytes: usize) {
        self.answered += bytes as u64;
    }

    /// More of the request's text, for rules that look at its beginning.
    pub(crate) fn show_text(&mut self, plain: &[u8]) {
        if let Some(text) = &mut self.text {
            let room = TEXT_BYTES.saturating_sub(text.len());
            text.extend_from_slice(plain.get(..room).unwrap_or(plain));
        }
    }

    /// Judges by the rules, as far as verdicts are carried out at this moment.
    fn judge(&self, seen: &Observation, phase: Phase, progress: &mut Progress) -> Answer {
        tempered(self.rules.judge(seen, phase, progress), self.enforcement())
    }

    /// The enforcement at this moment.
    fn enforcement(&self) -> Enforcement {
        self.inspector.enforcement(self.enforcement)
    }
}
