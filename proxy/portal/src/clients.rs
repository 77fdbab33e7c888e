//! Clients of the stateless era, who say in each request what they are: read once as long as they say the same.

use crate::{era, upstream::Client};
use bytes::Bytes;
use quick_cache::{Equivalent, sync::Cache};
use std::sync::Arc;

/// Most clients that are remembered.
const MOST: usize = 256;
/// Longest that one may say of itself to be remembered, bytes.
const LONGEST: usize = 2048;

/// Clients that were heard of lately.
pub(crate) struct Clients(Cache<Said, Arc<Client>>);

/// `clientInfo` and `capabilities`, JSON.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Said(Bytes, Bytes);

#[derive(Hash)]
struct Saying<'a>(&'a [u8], &'a [u8]);

impl Equivalent<Said> for Saying<'_> {
    fn equivalent(&self, said: &Said) -> bool {
        self.0 == said.0 && self.1 == said.1
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl Clients {
    /// The client that says this of itself.
    pub fn of(&self, info: &str, capabilities: &str) -> Arc<Client> {
        if let Some(known) = self.0.get(&Saying(info.as_bytes(), capabilities.as_bytes())) {
            return known;
        }
        let [info, capabilities] = [info, capabilities].map(|text| Bytes::copy_from_slice(text.as_bytes()));
        let client = Arc::new(Client::new(info.clone(), capabilities.clone(), era::negotiated(None)));
        if info.len() + capabilities.len() <= LONGEST {
            self.0.insert(Said(info, capabilities), client.clone());
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_the_same_is_read_once() {
        let clients = Clients::default();
        let first = clients.of(r#"{"name":"a","version":"1"}"#, "{}");
        assert!(Arc::ptr_eq(&first, &clients.of(r#"{"name":"a","version":"1"}"#, "{}")));
        assert_eq!(first.named(), (Some("a".into()), Some("1".into())));
        let other = clients.of(r#"{"name":"a","version":"1"}"#, r#"{"sampling":{}}"#);
        assert_eq!(other.capabilities, r#"{"sampling":{}}"#);
    }

    #[test]
    fn whoever_says_much_is_not_remembered() {
        let clients = Clients::default();
        let long = format!(r#"{{"name":"{}"}}"#, "a".repeat(LONGEST));
        assert!(!Arc::ptr_eq(&clients.of(&long, "{}"), &clients.of(&long, "{}")));
    }
}
