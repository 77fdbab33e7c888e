//! Messages of a server beside its answers, which are judged by their method alone: notifications, and requests within a result. Of requests
//! the words are looked at as well, by rules that name both; for all others they are what the server says within its call.
//!
//! A stream may have thousands of notifications, nearly all of them harmless. So what rules say whatever the method is, is judged
//! once, each is then judged by its method without the heap, and it is an event only where a rule means it.

use super::{
    Dialogue, Refusal, Target,
    answer::Withheld,
    asking::JudgedQuestion,
    call::{Call, Counted, Subject, Waits, count, note, same_id},
    listener::findings,
};
use crate::{
    Enforcement,
    in_force::{ASKED, METHOD, reads_questions},
    shadow::interfering,
    sighting::{Findings, MessageFinding},
};
use gnomon_engine::{Progress, Rule, RuleIndex, RuleSet};
use gnomon_observe::{Action, Field, Observation, Phase};
use gnomon_wire::jsonrpc::{MAX_INPUT_REQUESTS, Message, MessageKind, ResultFacts};
use smol_str::SmolStr;

/// A method that no rule means.
const ANY: &str = "gnomon.none";
/// The revision since which a server may ask of a client within its result.
const INPUT_REQUESTS_SINCE: &str = "2026-07-28";

/// The judging of methods that a dialogue's server sends.
#[derive(Default)]
pub(crate) enum Methods {
    /// No message of the server's has arrived.
    #[default]
    Unheard,
    /// No rule looks at them.
    Pass,
    Judged(Box<Known>),
}

/// The evidence shared by all methods.
pub(crate) struct Known {
    seen: Observation,
    /// Decided are the rules that do not look at it.
    progress: Progress,
    /// The progress of a method that no rule names.
    any: Progress,
}

/// What a server says beside its answers, or to calls that are not known.
#[derive(Default)]
pub(super) struct FromServer {
    methods: Methods,
    /// Methods that it asked of the client on its own initiative, the first of them.
    questions: Vec<SmolStr>,
    strays: Strays,
}

/// The treatment of answers that belong to no known call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Strays {
    /// Forwarded: no rule could refuse one.
    #[default]
    Pass,
    Judged,
}

impl FromServer {
    /// From now on rules judge answers that belong to no known call.
    pub fn judge_strays(&mut self) {
        self.strays = Strays::Judged;
    }

    /// From now on answers that belong to no known call pass.
    pub fn pass_strays(&mut self) {
        self.strays = Strays::Pass;
    }

    /// True if rules judge answers that belong to no known call.
    pub fn judges_strays(&self) -> bool {
        self.strays == Strays::Judged
    }

    /// It asks the client for this.
    pub fn asks(&mut self, method: Option<&SmolStr>) {
        if self.questions.len() < MAX_INPUT_REQUESTS {
            self.questions.extend(method.cloned());
        }
    }
}

/// A method (none where it cannot be read), what says it, and whether it is news.
type Said<'a> = (Option<&'a SmolStr>, MessageKind, News);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Yes,
    No,
}

impl Methods {
    fn of(rules: &RuleSet, base: &Observation, progress: &Progress) -> Self {
        let (mut seen, mut progress) = (base.clone(), progress.clone());
        METHOD.into_iter().for_each(|field| seen.set_unreadable(field));
        rules.settle(&seen, Phase::Response, &mut progress);
        let mut any = progress.clone();
        METHOD.into_iter().for_each(|field| seen.set(field, ANY));
        rules.settle(&seen, Phase::Response, &mut any);
        let all = |(index, rule): (_, &Rule)| any.has_matched(index) && !rule.acts().interferes();
        if rules.undecided(&progress).all(all) { Self::Pass } else { Self::Judged(Box::new(Known { seen, progress, any })) }
    }
}

impl Dialogue {
    /// A notification of the server's, what could be read of it.
    pub(super) fn take_notification(&mut self, message: &Message) -> Option<Withheld> {
        let mut findings = self.basis.findings;
        if count(message, &mut findings) == Counted::Other {
            return None;
        }
        let method = message.method.as_ref().filter(|_| !message.truncated);
        self.judge_method((method, MessageKind::Notification, News::Yes), findings)
    }

    /// Judges each request that a server puts into its answer (2026-07-28) as if the server had sent it by itself. If one must not pass,
    /// the answer must not.
    pub(super) fn take_input_requests(&mut self, message: &Message) -> Option<Box<Refusal>> {
        let ResultFacts { input_requests, input_requests_overflow, .. } = &message.result;
        let unread = input_requests_overflow.is_cut().then_some(None);
        for method in input_requests.iter().map(Some).chain(unread) {
            // On a portal the question may have been judged and reported by itself before.
            let news = if method.is_some_and(|method| self.server.questions.contains(method)) { News::No } else { News::Yes };
            let by_method = self.judge_method((method, MessageKind::Request, news), self.basis.findings);
            let Some(withheld) = by_method.or_else(|| self.judge_words_asked((method, news), message)) else { continue };
            let call = self.pairing.take(|call| same_id(call.id.as_ref(), message.id.as_ref()));
            let method = call.as_ref().and_then(|call| call.method.clone());
            let verdict = withheld.verdict;
            let target = Target { id: message.id.clone(), method, kind: MessageKind::Request };
            let refusal = self.withhold(Withheld { target, ..withheld });
            if let Some(call) = call {
                self.report(Call { action: verdict.action, deciding: verdict.rule, ..call }, Some(&refusal));
            }
            return Some(refusal);
        }
        None
    }

    /// True if rules could refuse requests within the answer, which must be withheld whole then.
    pub(crate) fn may_refuse_input_requests(&self) -> bool {
        let modern = |seen: &Observation| seen.text(Field::McpProtocolVersion).is_some_and(|version| version >= INPUT_REQUESTS_SINCE);
        let reads = |index: &RuleIndex| self.basis.rules.rule(*index).is_some_and(reads_questions);
        let candidate = |index: &RuleIndex| !self.basis.progress.is_ruled_out(*index);
        if !self.basis.rules.on_asked().iter().any(candidate)
            || self.enforcement() != Enforcement::Enforce
            || !(modern(&self.basis.seen) || self.pairing.calls.iter().any(|call| modern(&call.seen)))
        {
            return false;
        }
        let mut seen = self.basis.seen.clone();
        ASKED.into_iter().any(|method| {
            METHOD.into_iter().for_each(|field| seen.set(field, method));
            let mut progress = self.basis.progress.clone();
            let refuses = interfering(self.judge(&seen, Phase::Message, &mut progress)).is_some();
            refuses || self.basis.rules.on_asked().iter().any(|index| reads(index) && !progress.is_ruled_out(*index))
        })
    }

    /// Judges a request within a result by the words of all of them, as their method alone refused none.
    fn judge_words_asked(&mut self, (method, news): (Option<&SmolStr>, News), message: &Message) -> Option<Withheld> {
        let found = findings(message, None).filter(|_| self.basis.rules.reads_questions)?;
        let mut seen = self.basis.seen.clone();
        METHOD.into_iter().for_each(|field| match method {
            Some(method) => seen.set(field, method.clone()),
            None => seen.set_unreadable(field),
        });
        let JudgedQuestion { seen, progress, refused, answer } = self.judge_by_words(&seen, found)?;
        let mut findings = self.basis.findings;
        findings.message = MessageFinding::Mcp;
        let (subject, method) = (Subject::Message(MessageKind::Request), method.cloned());
        let (action, waits) = (Action::Allow, Waits::No);
        let mut call = Call { seen, progress, findings, subject, id: None, method, waits, action, deciding: None, early: None, kept: 0 };
        let Some(verdict) = refused else {
            if news == News::Yes {
                call.settle(answer);
                self.report(call, None);
            }
            return None;
        };
        let target = Target { id: None, method: call.method.clone(), kind: MessageKind::Notification };
        Some(Withheld { verdict, target, call })
    }

    fn judge_method(&mut self, said: Said<'_>, findings: Findings) -> Option<Withheld> {
        let mut methods = match std::mem::take(&mut self.server.methods) {
            Methods::Unheard => Methods::of(&self.basis.rules, &self.basis.seen, &self.basis.progress),
            known => known,
        };
        let withheld = match &mut methods {
            Methods::Judged(known) => self.judge_known(known, said, findings),
            Methods::Unheard | Methods::Pass => None,
        };
        self.server.methods = methods;
        withheld
    }

    fn judge_known(&mut self, known: &mut Known, (method, kind, news): Said<'_>, mut findings: Findings) -> Option<Withheld> {
        let Known { seen, progress, any } = known;
        let mut progress = progress.clone();
        let mut cut = method.is_none().then(|| self.basis.seen.clone());
        if let Some(seen) = &mut cut {
            METHOD.into_iter().for_each(|field| seen.set_unreadable(field));
            note(seen, Field::Truncated, "names");
        } else {
            METHOD.into_iter().for_each(|field| seen.set_some(field, method.cloned()));
        }
        let seen = cut.as_ref().unwrap_or(seen);
        let on_message = self.judge(seen, Phase::Message, &mut progress);
        let on_answer = self.judge(seen, Phase::Response, &mut progress);
        let refused = interfering(on_message).or(interfering(on_answer));
        let means = |index| !any.has_matched(index) && self.basis.rules.rule(index).is_some_and(|rule| rule.acts() != Action::Allow);
        if refused.is_none() && (news == News::No || !progress.matched().any(means)) {
            return None;
        }
        findings.message = MessageFinding::Mcp;
        let (subject, method, seen) = (Subject::Message(kind), method.cloned(), seen.clone());
        let (action, waits) = (Action::Allow, Waits::No);
        let mut call = Call { seen, progress, findings, subject, id: None, method, waits, action, deciding: None, early: None, kept: 0 };
        let Some(verdict) = refused else {
            call.settle(on_answer);
            self.report(call, None);
            return None;
        };
        // A notification has no answer to wait for.
        let target = Target { id: None, method: call.method.clone(), kind: MessageKind::Notification };
        Some(Withheld { verdict, target, call })
    }
}
