//! What is decided on the request as a whole: whether it may pass, and which of its messages a refusal answers.
//!
//! The first refusal holds. Messages are remembered for it only while one can still come: a batch may be long.

use super::{Form, Target, Wants, call::Waits};
use crate::shadow::interfering;
use gnomon_engine::{Answer, RuleIndex, Verdict};
use gnomon_observe::{Action, Phase};
use gnomon_wire::jsonrpc::Shape;

/// Most refused messages of one body that are answered each by its id, and most calls that are kept while nothing has left.
pub(super) const MAX_TARGETS: usize = 512;

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

/// The verdicts on a request.
pub(super) struct Verdicts {
    ahead: Ahead,
    held: Held,
    refused: Refused,
    /// The strictest action among those under which its messages pass.
    strictest: Action,
    targets: Vec<Target>,
    form: Form,
    wants: Wants,
}

impl Verdicts {
    /// Before the first message, by the rules' answer to what came before it.
    pub fn new(ahead: Answer, wants: Wants) -> Self {
        let (held, refused, strictest) = (Held::Back, Refused::No, Action::Allow);
        Self { ahead: Ahead::of(ahead), held, refused, strictest, targets: Vec::new(), form: Form::Foreign, wants }
    }

    pub fn refused(&self) -> Option<Verdict> {
        match self.refused {
            Refused::No => None,
            Refused::Due(verdict) | Refused::Told(verdict) => Some(verdict),
        }
    }

    pub fn is_refused(&self) -> bool {
        self.refused != Refused::No
    }

    /// Refuses by this verdict, unless one was decided before.
    pub fn refuse_by(&mut self, verdict: Verdict) {
        if self.refused == Refused::No {
            self.refused = Refused::Due(verdict);
        }
    }

    /// The client is told that this verdict refuses it; true the first time.
    pub fn is_first_told(&mut self, verdict: Verdict) -> bool {
        let first = !matches!(self.refused, Refused::Told(_));
        if first {
            self.refused = Refused::Told(verdict);
        }
        first
    }

    pub fn ahead(&self) -> Ahead {
        self.ahead
    }

    pub fn held(&self) -> Held {
        self.held
    }

    pub fn let_go(&mut self) {
        self.held = Held::Gone;
    }

    pub fn form(&self) -> Form {
        self.form
    }

    pub fn wants(&self) -> Wants {
        self.wants
    }

    /// A message of this shape was read.
    pub fn is_shaped(&mut self, shape: Shape) {
        self.form = if shape == Shape::Batch { Form::Batch } else { Form::Single };
    }

    /// What was meant as a message cannot be read.
    pub fn is_unreadable(&mut self) {
        if self.form == Form::Foreign {
            self.form = Form::Unreadable;
        }
    }

    /// What the rules' answer to one message means: for the request as a whole, and for the call.
    pub fn take(&mut self, answer: Answer) -> (Waits, Action, Option<RuleIndex>) {
        match (self.ahead, answer) {
            (Ahead::Decided(verdict), _) | (_, Answer::Undecidable(verdict)) => self.refuse_by(verdict),
            (_, Answer::Decided(verdict)) if verdict.action.interferes() => self.refuse_by(verdict),
            (_, Answer::Decided(Verdict { action, rule })) => return (Waits::No, action, rule),
            (_, Answer::Needs(_)) => return (Waits::ForAnswer, Action::Allow, None),
        }
        (Waits::No, Action::Allow, None)
    }

    /// One of the messages passes under this action, as far as it alone is concerned. It is kept here, as its call may be reported and
    /// forgotten before the rest is judged.
    pub fn lets_pass(&mut self, action: Action) {
        self.strictest = self.strictest.max(action);
    }

    /// The strictest action under which one of the messages so far passes.
    pub fn strictest(&self) -> Action {
        self.strictest
    }

    /// True if a verdict from before the message, or on another one, may apply to the next.
    fn may_be_refused(&self) -> bool {
        self.ahead != Ahead::Open || self.is_refused()
    }

    /// True if a call further on may still have those before it refused, so that none is told of as it is.
    pub fn withholds(&self) -> bool {
        self.held == Held::Back && self.may_be_refused()
    }

    /// Remembers a message for the refusal that may come of it, as far as the window reaches.
    pub fn concerns(&mut self, target: impl FnOnce() -> Target) {
        if self.may_be_refused() && self.targets.len() < MAX_TARGETS {
            self.targets.push(target());
        }
    }

    /// Forgets the messages so far where they have left.
    pub fn forget_those_gone(&mut self) {
        if self.held == Held::Gone && !self.is_refused() {
            self.targets.clear();
        }
    }

    /// The messages that a refusal answers.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }
}
