//! The principal whose share of a pool something takes. What shares are for is `gnomon-shares`' affair.

use gnomon_access::{AuthMethod, Caller};
use gnomon_upstream::Listener;
use smol_str::{SmolStr, format_smolstr};

/// The owner of the share that something counts against: who it is as far as it is proven; without any log-in the user that the program runs as,
/// as the kernel attests it, else where the connection comes from.
pub fn owner(caller: &Caller) -> SmolStr {
    proven(caller).unwrap_or_else(|| format_smolstr!("address {}", caller.address))
}

/// The same, where a log-in or the kernel proves it.
pub fn proven(caller: &Caller) -> Option<SmolStr> {
    if caller.method != AuthMethod::None {
        return Some(caller.subject.clone());
    }
    let user = caller.process.as_ref().and_then(|process| process.user.as_ref())?;
    Some(format_smolstr!("user {user}"))
}

/// Whoever listens to what a server logs within one of their calls.
pub fn listener(caller: &Caller) -> Listener {
    proven(caller).map_or(Listener::Somebody, Listener::Proven)
}

/// The owner of a task that is begun or asked for within a session: who is proven to ask, else the kernel's user, else the session.
pub fn task_owner(caller: &Caller, session: &str) -> SmolStr {
    let nobody = caller.method == AuthMethod::None && caller.process.as_ref().is_none_or(|process| process.user.is_none());
    if nobody { format_smolstr!("session {session}") } else { owner(caller) }
}

/// The owner of a task that is begun or asked for outside of sessions: tasks of the two eras are of two kinds, and neither is told as the
/// other's, whoever asks.
pub fn stateless_task_owner(caller: &Caller) -> SmolStr {
    format_smolstr!("stateless {}", owner(caller))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_access::Process;

    #[test]
    fn an_owner_is_who_is_proven_to_ask() {
        let mut caller = Caller::anonymous("10.0.0.7".parse().unwrap());
        assert_eq!(owner(&caller), "address 10.0.0.7");
        caller.process = Some(Process { user: Some("anna".into()), ..Process::default() });
        assert_eq!(owner(&caller), "user anna");
        caller.method = AuthMethod::Token;
        caller.subject = "token ci".into();
        assert_eq!(owner(&caller), "token ci");
    }
}
