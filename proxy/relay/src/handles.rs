//! The ids by which clients know tasks: sealed, so that they reveal nothing, lead to one server, and work for their owner only.
//!
//! A server's own id may be guessed, and two servers may give out the same. What a client is given is the server and that id, encrypted for
//! the caller whose call began the task, with a key that this process alone has and that ends with it: tasks that began before it are not
//! known either. The same task has the same id wherever it is mentioned, so the nonce is made of what is sealed.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use smol_str::SmolStr;
use std::sync::LazyLock;

/// Longest that is opened, bytes.
const LONGEST: usize = 1024;

struct Keys {
    seals: LessSafeKey,
    nonces: hmac::Key,
}

/// None if the system has no random bytes: then no task is known.
static KEYS: LazyLock<Option<Keys>> = LazyLock::new(|| {
    let mut random = [0u8; 64];
    getrandom::fill(&mut random).ok()?;
    let (seals, nonces) = random.split_at(32);
    Some(Keys { seals: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, seals).ok()?), nonces: hmac::Key::new(hmac::HMAC_SHA256, nonces) })
});

/// The associated data of a handle: its portal and owner.
fn bound(portal: &str, owner: &str) -> Vec<u8> {
    [&(portal.len() as u64).to_be_bytes(), portal.as_bytes(), owner.as_bytes()].concat()
}

/// The id by which an owner knows a server's task; none where the system has no random bytes.
#[must_use]
pub fn seal((portal, server): (&str, &str), owner: &str, id: &str) -> Option<SmolStr> {
    let keys = KEYS.as_ref()?;
    let (bound, mut text) = (bound(portal, owner), [server.as_bytes(), id.as_bytes()].join(&0));
    let tag = hmac::sign(&keys.nonces, &[bound.as_slice(), &text].concat());
    let nonce: [u8; NONCE_LEN] = tag.as_ref().get(..NONCE_LEN)?.try_into().ok()?;
    keys.seals.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut text).ok()?;
    Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &text].concat()).into())
}

/// The server of a task, and its own id for it, where this was sealed for this owner.
#[must_use]
pub fn open(portal: &str, owner: &str, handle: &str) -> Option<(SmolStr, SmolStr)> {
    let keys = KEYS.as_ref().filter(|_| handle.len() <= LONGEST)?;
    let mut sealed = URL_SAFE_NO_PAD.decode(handle).ok()?;
    let (nonce, text) = sealed.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let text = keys.seals.open_in_place(nonce, Aad::from(bound(portal, owner)), text).ok()?;
    let (server, id) = std::str::from_utf8(text).ok()?.split_once('\0')?;
    Some((server.into(), id.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_the_same_each_time_and_opens_for_its_owner_in_its_portal_only() {
        let handle = seal(("main", "one"), "anna", "t\u{0}1").unwrap();
        assert_eq!(handle, seal(("main", "one"), "anna", "t\u{0}1").unwrap());
        assert_eq!(open("main", "anna", &handle), Some(("one".into(), "t\u{0}1".into())));
        assert!(open("main", "bert", &handle).is_none() && open("mai", "nanna", &handle).is_none());
        let others = [(("main", "two"), "anna"), (("main", "one"), "bert"), (("other", "one"), "anna")]
            .map(|(at, owner)| seal(at, owner, "t\u{0}1"));
        assert!(others.iter().flatten().all(|other| *other != handle) && others.len() == 3);
    }

    #[test]
    fn what_was_not_sealed_here_opens_for_nobody() {
        let handle = seal(("main", "one"), "anna", "t1").unwrap();
        let last = if handle.ends_with('A') { "B" } else { "A" };
        for forged in ["", "t1", "AAAA", &handle[1..], &format!("{}{last}", &handle[..handle.len() - 1]), &"A".repeat(4000)] {
            assert_eq!(open("main", "anna", forged), None, "{forged}");
        }
    }

    #[test]
    fn the_longest_id_of_a_task_is_opened_again() {
        let id = "x".repeat(crate::tasks::LONGEST_ID);
        let handle = seal(("main", &"s".repeat(64)), "anna", &id).unwrap();
        assert!(open("main", "anna", &handle).is_some_and(|(_, own)| own == id), "{}", handle.len());
    }
}
