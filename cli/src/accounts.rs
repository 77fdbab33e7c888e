//! Names of this host's users, for lines that have only their numbers.

use nix::unistd::{Uid, User};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Most numbers whose names are remembered; others are looked up each time.
const MOST: usize = 1024;

static NAMES: Mutex<BTreeMap<u32, Option<String>>> = Mutex::new(BTreeMap::new());

/// The name of the user with this number, or `uid N` where the host has none for it. What is no number stays as it is.
pub fn named(id: &str) -> String {
    match id.parse() {
        Ok(uid) => name(uid).unwrap_or_else(|| format!("uid {id}")),
        Err(_) => id.to_owned(),
    }
}

fn name(uid: u32) -> Option<String> {
    let mut names = NAMES.lock();
    if let Some(name) = names.get(&uid) {
        return name.clone();
    }
    let found = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    if names.len() < MOST {
        names.insert(uid, found.clone());
    }
    found
}
