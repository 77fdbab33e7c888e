//! The one way past policy: a [`Permit`], which only a [`Policy`](crate::Policy) makes, and what rules say of the same message.
//!
//! Only portals have a policy: the inline proxy obeys rules alone, by [`Effect::consequences`](gnomon_observe::Effect::consequences).
//!
//! What a permit owes is a list that grows ([`Obligations`]): one function (`owed` in `gnomon-relay`) takes it apart member by member, does
//! not compile until each is seen to, and alone makes a `Cleared`. Held by types: a permit comes from a decision to let something through,
//! as a [`Listing`](crate::Listing) is none; the session or peer by which a road of the portal sends a caller's request is given out for a
//! `Cleared`. Held by tests of the sources (`gate` in `gnomon-relay`): which files send at all, as who has such a handle may answer the
//! server's questions with it. What a client says without a call takes one way as well (`saying`), with the permit to reach the server; a
//! call of the portal's own tools, which goes to no server, is cleared before it is carried out. The portal's own requests (cancellations,
//! what becomes of tasks, probes) go without.

use crate::LineRef;
use gnomon_observe::{Action, Consequences};

/// Proof that policy lets a message pass, and the obligations before it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    line: Option<LineRef>,
    obligations: Obligations,
}

/// Obligations of a message's sender. One that cannot be fulfilled is a refusal, never a pass. No word of a policy asks for any of them
/// yet; of rules, an action that changes the message owes a redaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Obligations {
    /// Parts of the message are replaced before it leaves.
    pub redact: Redaction,
    /// A person approves the message before it leaves.
    pub approve: Approval,
    /// A budget is charged for the message before it leaves.
    pub charge: Charge,
}

/// Whether parts of a message are to be replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redaction {
    /// It leaves as it is.
    #[default]
    None,
    /// Not without that.
    Owed,
}

/// Whether a message is to be approved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approval {
    /// Nobody is asked.
    #[default]
    None,
    /// Not without one.
    Owed,
}

/// Whether a budget is to be charged for a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Charge {
    /// It is free.
    #[default]
    None,
    /// Not without that.
    Owed,
}

/// A rule refuses what policy allows: `block`, or `redirect`, since a portal *is* the sanctioned way and there is no other to point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedByRule(pub Action);

impl Permit {
    /// By this entry; none where several together allow the use of a server.
    pub(crate) const fn new(line: Option<LineRef>) -> Self {
        Self { line, obligations: Obligations { redact: Redaction::None, approve: Approval::None, charge: Charge::None } }
    }

    /// The entry that allows it.
    #[must_use]
    pub const fn line(&self) -> Option<&LineRef> {
        self.line.as_ref()
    }

    /// The obligations before the message passes; `rules` is the strictest action of the rules for it. A rule's `allow` sets other rules
    /// aside, never policy: this needs a permit.
    ///
    /// # Errors
    /// [`RefusedByRule`].
    pub const fn beside(&self, rules: Action) -> Result<Obligations, RefusedByRule> {
        // All members are listed, so that a consequence that is new does not compile before it is heeded; what is held is the caller's to hold.
        let Consequences { held: _, changed, refused } = rules.effect().consequences();
        match refused {
            true => Err(RefusedByRule(rules)),
            false => Ok(Obligations { redact: if changed { Redaction::Owed } else { self.obligations.redact }, ..self.obligations }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Asked, Caller, Decision, Policy};

    #[test]
    fn rules_take_from_what_policy_allows_and_never_add_to_it() {
        let policy = Policy::parse("- allow: { servers: [code], tools: [read] }", "p.yml").unwrap();
        let anna = Caller::anonymous("10.1.2.3".parse().unwrap());
        let Decision::Allow(permit) = policy.decide(&anna, &Asked::tool("main", "code", "read")) else { panic!("denied") };
        for action in Action::ALL {
            let owed = permit.beside(*action);
            assert_eq!(owed.is_err(), action.refuses(), "{action}");
            let redact = if action.interferes() { Redaction::Owed } else { Redaction::None };
            assert_eq!(owed.ok(), (!action.refuses()).then_some(Obligations { redact, ..Obligations::default() }), "{action}");
        }
        // For what policy denies there is nothing that a rule's `allow` could be put beside.
        assert!(matches!(policy.decide(&anna, &Asked::tool("main", "code", "write")), Decision::Deny { line: None }));
    }

    #[test]
    fn what_policy_obliges_to_no_rule_takes_away() {
        let obligations = Obligations { redact: Redaction::Owed, approve: Approval::Owed, charge: Charge::Owed };
        let permit = Permit { line: None, obligations };
        for action in Action::ALL.iter().filter(|action| !action.refuses()) {
            assert_eq!(permit.beside(*action), Ok(obligations), "{action}");
        }
    }
}
