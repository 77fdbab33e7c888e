//! The clients of the stateless era, as each request's `_meta` describes them: parsed once as long as it is the same.

use bytes::Bytes;
use gnomon_upstream::{
    Client,
    era::{self, Era, meta},
    extensions,
    members::Members,
};
use quick_cache::{Equivalent, sync::Cache};
use smol_str::SmolStr;
use std::sync::Arc;

/// The most descriptions that are remembered.
const MOST: usize = 256;
/// Longest that is remembered, bytes.
const LONGEST: usize = 2048;

/// Descriptions of clients that came lately.
pub(crate) struct Clients(Cache<Said, Arc<Stated>>);

/// The content of a `_meta`.
#[derive(Clone, Debug)]
pub(crate) struct Stated {
    /// The protocol version, where it is a text.
    pub version: Option<SmolStr>,
    /// The keys that had to be there, and are not.
    pub missing: Vec<&'static str>,
    pub client: Arc<Client>,
    /// Its capabilities as servers get them, JSON, if they differ from its own.
    pub carried: Option<Bytes>,
}

/// A `_meta` as it came.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Said(Bytes);

#[derive(Hash)]
struct Saying<'a>(&'a [u8]);

impl Equivalent<Said> for Saying<'_> {
    fn equivalent(&self, said: &Said) -> bool {
        self.0 == said.0
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl Clients {
    /// The content of this `_meta`.
    pub fn stated(&self, meta: &str) -> Arc<Stated> {
        if let Some(known) = self.0.get(&Saying(meta.as_bytes())) {
            return known;
        }
        let members = Members::read(meta.as_bytes()).unwrap_or_default();
        let stated = Arc::new(Stated::of(&members));
        // Other members may differ in each request.
        let again = members.iter().all(|(key, _)| [meta::VERSION, meta::CLIENT, meta::CAPABILITIES].contains(&key));
        if again && meta.len() <= LONGEST {
            self.0.insert(Said(Bytes::copy_from_slice(meta.as_bytes())), stated.clone());
        }
        stated
    }
}

impl Stated {
    fn of(meta: &Members<'_>) -> Self {
        let lacks = |key: &&'static str| {
            let opens = if *key == meta::VERSION { '"' } else { '{' };
            !meta.get(key).is_some_and(|json| json.starts_with(opens))
        };
        // The name is optional, but servers of the older era need one.
        let info = meta.get(meta::CLIENT).unwrap_or(r#"{"name":"unnamed","version":"0"}"#);
        let capabilities = meta.get(meta::CAPABILITIES).unwrap_or("{}");
        let [info, capabilities] = [info, capabilities].map(|text| Bytes::copy_from_slice(text.as_bytes()));
        let carried = extensions::carried(&capabilities, Era::Modern);
        let capabilities = carried.clone().unwrap_or(capabilities);
        Self {
            carried,
            version: meta.text(meta::VERSION).map(SmolStr::new),
            missing: [meta::VERSION, meta::CAPABILITIES].into_iter().filter(lacks).collect(),
            client: Arc::new(Client::new(info, capabilities, era::negotiated(None))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(name: &str, further: &str) -> String {
        let (version, client, capabilities) = (meta::VERSION, meta::CLIENT, meta::CAPABILITIES);
        format!(
            r#"{{"{version}":"2026-07-28","{client}":{{"name":"{name}","version":"1"}},"{capabilities}":{{"sampling":{{}}}}{further}}}"#
        )
    }

    #[test]
    fn who_says_the_same_is_read_once() {
        let clients = Clients::default();
        let first = clients.stated(&meta("a", ""));
        assert!(Arc::ptr_eq(&first, &clients.stated(&meta("a", ""))));
        assert_eq!((first.version.as_deref(), first.missing.len()), (Some("2026-07-28"), 0));
        assert_eq!(first.client.named(), (Some("a".into()), Some("1".into())));
        assert_eq!(first.client.capabilities, r#"{"sampling":{}}"#);
        assert_eq!(clients.stated(&meta("b", "")).client.named(), (Some("b".into()), Some("1".into())));
    }

    #[test]
    fn whoever_says_much_or_something_else_each_time_is_not_remembered() {
        let clients = Clients::default();
        for meta in [meta(&"a".repeat(LONGEST), ""), meta("a", r#","progressToken":1"#)] {
            assert!(!Arc::ptr_eq(&clients.stated(&meta), &clients.stated(&meta)));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let clients = Clients::default();
        let missing = |text: &str| clients.stated(text).missing.clone();
        assert_eq!(missing("{}"), [meta::VERSION, meta::CAPABILITIES]);
        assert_eq!(missing("no object"), [meta::VERSION, meta::CAPABILITIES]);
        assert_eq!(missing(&format!(r#"{{"{}":1,"{}":[]}}"#, meta::VERSION, meta::CAPABILITIES)), [meta::VERSION, meta::CAPABILITIES]);
        assert_eq!(missing(&format!(r#"{{"{}":"x"}}"#, meta::VERSION)), [meta::CAPABILITIES]);
    }
}
