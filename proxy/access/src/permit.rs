//! The one way past policy: a [`Permit`], which only a [`Policy`](crate::Policy) makes, and what rules say of the same message.
//!
//! What a permit owes is a list that grows (redaction, approval, charging of a budget): one function (`owed` in `gnomon-relay`) takes it apart
//! member by member, does not compile until each is seen to, and alone makes a `Cleared`. Held by types: a permit comes from a decision to let
//! something through, as a [`Listing`](crate::Listing) is none; the session or peer by which a road of the portal sends a caller's request is
//! given out for a `Cleared`. Held by a test of the sources (`gate` in `gnomon-relay`): which files send at all, as who has such a handle may
//! answer the server's questions with it. What a client says without a call takes one way as well (`saying`), with the permit to reach
//! the server; a call of the portal's own tools, which goes to no server, is cleared before it is carried out. The portal's own requests
//! (cancellations, what becomes of tasks, probes) go without.

use crate::LineRef;
use gnomon_observe::{Action, Consequences};

/// Proof that policy lets a message pass, and the obligations before it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    line: Option<LineRef>,
    obligations: Obligations,
}

/// Obligations of a message's sender. One that cannot be fulfilled is a refusal, never a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Obligations {
    /// Parts of the message are replaced before it leaves.
    pub redact: bool,
}

/// A rule refuses what policy allows: `block`, or `redirect`, since a portal *is* the sanctioned way and there is no other to point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedByRule(pub Action);

impl Permit {
    /// By this entry; none where several together allow the use of a server.
    pub(crate) const fn new(line: Option<LineRef>) -> Self {
        Self { line, obligations: Obligations { redact: false } }
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
            false => Ok(Obligations { redact: self.obligations.redact || changed }),
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
            assert_eq!(owed.is_ok_and(|owed| owed.redact), action.interferes() && !action.refuses(), "{action}");
        }
        // For what policy denies there is nothing that a rule's `allow` could be put beside.
        assert!(matches!(policy.decide(&anna, &Asked::tool("main", "code", "write")), Decision::Deny { line: None }));
    }
}
