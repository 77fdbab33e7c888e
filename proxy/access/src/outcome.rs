//! The one policy function: what rules say and what policy says, together.

use crate::{Decision, LineRef};
use gnomon_observe::Action;

/// The party that refuses: policy or rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// By policy: this entry denies it, or none allows it.
    Policy(Option<LineRef>),
    /// By a rule; policy would have allowed it.
    Rules,
}

/// The disposition of a message: passed, redacted, or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Disposition {
    /// It passes.
    Pass {
        /// The entry that allowed it.
        line: LineRef,
    },
    /// It passes with parts replaced.
    Redact {
        /// The entry that allowed it.
        line: LineRef,
    },
    /// It is refused.
    Refuse(RefusedBy),
}

/// Combines the strictest action of the rules with the decision of policy.
///
/// Nothing passes that policy does not allow: a rule's `allow` sets other rules aside, never policy. Whoever may not do a
/// thing is refused by policy even where a rule would refuse it too, so that they learn nothing about rules. `redirect`
/// refuses: this *is* the sanctioned way, and there is no other to point to.
pub fn decide(rules: Action, access: Decision) -> Disposition {
    match (access, rules) {
        (Decision::Deny { line }, _) => Disposition::Refuse(RefusedBy::Policy(line)),
        (Decision::Allow { line }, Action::Allow | Action::Log) => Disposition::Pass { line },
        (Decision::Allow { line }, Action::Redact) => Disposition::Redact { line },
        (Decision::Allow { .. }, Action::Redirect | Action::Block) => Disposition::Refuse(RefusedBy::Rules),
    }
}
