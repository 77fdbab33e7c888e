//! Who takes how much of a pool that has a bound.
//!
//! Nobody is held to a share while there is room. When there is none, whoever has the largest share gives way, even to somebody
//! who has nothing yet: so one caller can fill a pool, and cannot keep others out of it.

use gnomon_access::{AuthMethod, Caller};
use smol_str::{SmolStr, format_smolstr};
use std::collections::HashMap;

/// How many things there may be, and how many bytes they may take together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Things.
    pub count: usize,
    /// The bytes they take together.
    pub bytes: usize,
}

/// The shares of a pool.
#[derive(Debug)]
pub struct Shares {
    most: Amount,
    all: Amount,
    owners: HashMap<SmolStr, Amount>,
}

impl Shares {
    /// Shares of so much.
    pub fn of(most: Amount) -> Self {
        Self { most, all: Amount::default(), owners: HashMap::new() }
    }

    /// The amount taken.
    pub fn all(&self) -> Amount {
        self.all
    }

    /// Adds one for this owner.
    pub fn add(&mut self, owner: &SmolStr, bytes: usize) {
        for amount in [&mut self.all, self.owners.entry(owner.clone()).or_default()] {
            amount.count += 1;
            amount.bytes += bytes;
        }
    }

    /// Removes one of this owner.
    pub fn remove(&mut self, owner: &SmolStr, bytes: usize) {
        let Some(own) = self.owners.get_mut(owner) else { return };
        for amount in [&mut self.all, own] {
            amount.count = amount.count.saturating_sub(1);
            amount.bytes = amount.bytes.saturating_sub(bytes);
        }
        if self.owners.get(owner).is_some_and(|own| own.count == 0) {
            self.owners.remove(owner);
        }
    }

    /// The owner who must give way, if there is too much: the one with most of what there is too much of.
    pub fn too_much(&self) -> Option<SmolStr> {
        let measure: fn(&Amount) -> usize = if self.all.count > self.most.count {
            |amount| amount.count
        } else if self.all.bytes > self.most.bytes {
            |amount| amount.bytes
        } else {
            return None;
        };
        self.owners.iter().max_by_key(|(_, amount)| measure(amount)).map(|(owner, _)| owner.clone())
    }
}

/// The owner of the share that something counts against: who it is as far as it is proven; without any log-in the user that the program runs as,
/// as the kernel attests it, else where the connection comes from.
pub fn owner(caller: &Caller) -> SmolStr {
    if caller.method != AuthMethod::None {
        return caller.subject.clone();
    }
    match caller.process.as_ref().and_then(|process| process.user.as_ref()) {
        Some(user) => format_smolstr!("user {user}"),
        None => format_smolstr!("address {}", caller.address),
    }
}

/// The owner of a task that is begun or asked for within a session: who is proven to ask, else the kernel's user, else the session.
pub fn task_owner(caller: &Caller, session: &str) -> SmolStr {
    let nobody = caller.method == AuthMethod::None && caller.process.as_ref().is_none_or(|process| process.user.is_none());
    if nobody { format_smolstr!("session {session}") } else { owner(caller) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_access::Process;

    #[test]
    fn whoever_has_most_gives_way_and_whoever_comes_late_has_room() {
        let mut shares = Shares::of(Amount { count: 10, bytes: 1000 });
        let (hog, other): (SmolStr, SmolStr) = ("hog".into(), "other".into());
        for _ in 0..10 {
            shares.add(&hog, 1);
        }
        assert_eq!(shares.too_much(), None);
        shares.add(&other, 1);
        assert_eq!(shares.too_much(), Some(hog.clone()));
        shares.remove(&hog, 1);
        assert_eq!(shares.too_much(), None);
        shares.add(&other, 0);
        shares.remove(&other, 0);
        // By bytes it may be another.
        shares.remove(&hog, 1);
        shares.add(&other, 5000);
        assert_eq!(shares.too_much(), Some(other.clone()));
        shares.remove(&other, 5000);
        shares.remove(&other, 1);
        assert!(!shares.owners.contains_key(&other));
    }

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
