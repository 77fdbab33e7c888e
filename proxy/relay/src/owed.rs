//! The obligations of policy and rules together, before a message leaves.
//!
//! [`owed`] is the only maker of [`Cleared`], and what gives out a way to send requests to servers asks for it: the sessions that clients
//! have with servers, those that are kept for clients without one, and servers without sessions.

use crate::error::CallError;
use gnomon_access::{Approval, Charge, Obligations, Permit, Redaction};
use gnomon_inspect::Refusal;
use gnomon_observe::Action;

/// Proof that all that policy and rules oblige to before a message leaves has been seen to.
#[derive(Debug)]
pub struct Cleared(());

/// Sees to what policy and rules oblige to before a message leaves.
///
/// # Errors
/// [`CallError::Refused`] by a rule, [`CallError::Unfulfilled`] for an obligation that is not implemented here.
pub fn owed(permit: &Permit, rules: Result<Action, Box<Refusal>>) -> Result<Cleared, CallError> {
    let (action, refusal) = match rules {
        Ok(action) => (action, None),
        Err(refusal) => (refusal.action, Some(refusal)),
    };
    match (permit.beside(action), refusal) {
        (_, Some(refusal)) => Err(CallError::Refused(refusal)),
        (Ok(obligations), None) => cleared(obligations),
        (Err(_), None) => Err(CallError::Unfulfilled("a rule refuses it")),
    }
}

fn cleared(obligations: Obligations) -> Result<Cleared, CallError> {
    match obligations {
        // All members are listed, so that a new obligation does not compile before it is handled.
        Obligations { redact: Redaction::None, approve: Approval::None, charge: Charge::None } => Ok(Cleared(())),
        Obligations { redact: Redaction::Owed, .. } => Err(CallError::Unfulfilled("parts of it had to be replaced")),
        Obligations { approve: Approval::Owed, .. } => Err(CallError::Unfulfilled("it needs an approval")),
        Obligations { charge: Charge::Owed, .. } => Err(CallError::Unfulfilled("a budget has to be charged")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_access::{Asked, Caller, Decision, Policy};

    #[test]
    fn what_nobody_here_can_do_is_a_refusal() {
        let policy = Policy::parse("- allow: { servers: [code] }", "p.yml").unwrap();
        let anna = Caller::anonymous("10.1.2.3".parse().unwrap());
        let gate = crate::gate::Gate::new("main".into(), policy.into());
        let Decision::Allow(permit) = gate.decide(&anna, &Asked::tool("main", "code", "read")) else { panic!("denied") };
        for action in Action::ALL {
            let passes = owed(&permit, Ok(*action));
            assert_eq!(passes.is_ok(), matches!(action, Action::Allow | Action::Log), "{action}");
            assert!(passes.err().is_none_or(|error| matches!(error, CallError::Unfulfilled(_))), "{action}");
        }
    }

    #[test]
    fn each_obligation_alone_keeps_a_message_back_and_without_any_it_is_cleared() {
        let none = Obligations { redact: Redaction::None, approve: Approval::None, charge: Charge::None };
        assert!(cleared(none).is_ok());
        for (obligations, because) in [
            (Obligations { redact: Redaction::Owed, ..none }, "parts of it had to be replaced"),
            (Obligations { approve: Approval::Owed, ..none }, "it needs an approval"),
            (Obligations { charge: Charge::Owed, ..none }, "a budget has to be charged"),
        ] {
            let kept = cleared(obligations);
            assert!(matches!(kept, Err(CallError::Unfulfilled(why)) if why == because), "{kept:?}");
        }
    }
}
