//! What a server tells without wanting an answer: its notifications.
//!
//! A stream may have thousands, nearly all of them harmless. So what rules say whatever a notification's method is, is judged once,
//! each is then judged by its method alone and without the heap, and it is an event only where a rule means it.

use super::{
    Dialogue, Target,
    answer::Withheld,
    call::{Call, Counted, Subject, Waits, count, note},
};
use crate::{
    shadow::interfering,
    sighting::{Findings, MessageFinding},
};
use gnomon_engine::{Progress, RuleSet};
use gnomon_observe::{Action, Field, Observation, Phase};
use gnomon_wire::jsonrpc::{Kind, Message};

/// A method that no rule means.
const ANY: &str = "gnomon.none";
/// What one notification differs in from another.
const METHOD: [Field; 2] = [Field::McpMethod, Field::RpcMethod];

/// How a dialogue's notifications are judged.
#[derive(Default)]
pub(crate) enum Notifications {
    /// None has come.
    #[default]
    Unheard,
    /// No rule looks at their method.
    Pass,
    Judged(Box<Methods>),
}

/// What holds whatever the method is.
pub(crate) struct Methods {
    seen: Observation,
    /// Decided are the rules that do not look at it.
    progress: Progress,
    /// What a method comes to that no rule means.
    any: Progress,
}

impl Notifications {
    fn of(rules: &RuleSet, base: &Observation, progress: &Progress) -> Self {
        let (mut seen, mut progress) = (base.clone(), progress.clone());
        METHOD.into_iter().for_each(|field| seen.set_unreadable(field));
        rules.settle(&seen, Phase::Response, &mut progress);
        let mut any = progress.clone();
        METHOD.into_iter().for_each(|field| seen.set(field, ANY));
        rules.settle(&seen, Phase::Response, &mut any);
        let all = |(index, rule): (_, &gnomon_engine::Rule)| any.has_matched(index) && !rule.acts().interferes();
        if rules.undecided(&progress).all(all) { Self::Pass } else { Self::Judged(Box::new(Methods { seen, progress, any })) }
    }
}

impl Dialogue {
    /// A notification of the server's, what could be read of it.
    pub(super) fn take_notification(&mut self, message: &Message) -> Option<Withheld> {
        let mut findings = self.base_findings;
        if count(message, &mut findings) == Counted::Other {
            return None;
        }
        let mut notifications = match std::mem::take(&mut self.notifications) {
            Notifications::Unheard => Notifications::of(&self.rules, &self.base, &self.base_progress),
            known => known,
        };
        let withheld = match &mut notifications {
            Notifications::Judged(methods) => self.judge_notification(methods, message, findings),
            Notifications::Unheard | Notifications::Pass => None,
        };
        self.notifications = notifications;
        withheld
    }

    fn judge_notification(&mut self, methods: &mut Methods, message: &Message, mut findings: Findings) -> Option<Withheld> {
        let Methods { seen, progress, any } = methods;
        let mut progress = progress.clone();
        let mut cut = message.truncated.then(|| self.base.clone());
        if let Some(seen) = &mut cut {
            METHOD.into_iter().for_each(|field| seen.set_unreadable(field));
            note(seen, Field::Truncated, "names");
        } else {
            METHOD.into_iter().for_each(|field| seen.set_some(field, message.method.clone()));
        }
        let seen = cut.as_ref().unwrap_or(seen);
        let on_message = self.judge(seen, Phase::Message, &mut progress);
        let on_answer = self.judge(seen, Phase::Response, &mut progress);
        let refused = interfering(on_message).or(interfering(on_answer));
        let means = |index| !any.has_matched(index) && self.rules.rule(index).is_some_and(|rule| rule.acts() != Action::Allow);
        if refused.is_none() && !progress.matched().any(means) {
            return None;
        }
        findings.message = MessageFinding::Mcp;
        let (subject, method) = (Subject::Message(Kind::Notification), message.method.clone());
        let (action, waits) = (Action::Allow, Waits::No);
        let mut call =
            Call { seen: seen.clone(), progress, findings, subject, id: None, method, waits, action, deciding: None, early: None };
        let Some(verdict) = refused else {
            call.settle(on_answer);
            self.report(call, None);
            return None;
        };
        // Nobody waits for an answer.
        let target = Target { id: None, method: call.method.clone(), kind: Kind::Notification };
        Some(Withheld { verdict, target, call })
    }
}
