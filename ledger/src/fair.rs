//! Fairness between principals whose events wait for the writer: one client's flood must not push out the single event of another.
//!
//! An event is its user's, else its source address's, and within these its connection's. Neither may have more than a
//! multiple of what is free ([`Bounds::times_free`]), so there is room left for principals with nothing waiting, whoever floods.

use gnomon_observe::{Field, Lookup, Observation, Value};
use gnomon_shares::{Bounds, Refused};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

/// The multiple of the free room that one user or address may take: alone, three quarters of all.
const OF_PRINCIPAL: usize = 3;
/// The same multiple for one connection: alone, a half.
const OF_CONNECTION: usize = 1;

/// The origin of an event. Hashes with a secret key, as names are chosen by strangers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose {
    principal: u64,
    connection: u64,
}

/// The waiting events, by origin.
#[derive(Default)]
pub(crate) struct Waiting {
    by: HashMap<u64, Amount>,
}

/// Events, and the bytes of their lines.
#[derive(Clone, Copy, Default)]
pub(crate) struct Amount {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

impl Whose {
    pub(crate) fn of(seen: &Observation, keys: &RandomState) -> Option<Self> {
        let mut hasher = keys.build_hasher();
        // Events about gnomon itself have no principal.
        let user = [Field::UserId, Field::UserName, Field::SourceAddress].into_iter().find_map(|field| seen.text(field))?;
        user.hash(&mut hasher);
        let principal = hasher.finish();
        if let Lookup::Value(Value::Int(port)) = seen.get(Field::SourcePort) {
            port.hash(&mut hasher);
        }
        "connection".hash(&mut hasher);
        Some(Self { principal, connection: hasher.finish() })
    }
}

impl Waiting {
    /// Admits an event of so many bytes, where `all` of `most` waits already.
    pub(crate) fn admit(&mut self, whose: Whose, bytes: usize, all: Amount, most: Amount) -> Result<(), Refused> {
        for (key, times_free) in [(whose.principal, OF_PRINCIPAL), (whose.connection, OF_CONNECTION)] {
            let own = self.by.get(&key).copied().unwrap_or_default();
            let bounds = |all| Bounds { all, each: usize::MAX, times_free };
            bounds(most.events).admit(own.events, all.events)?;
            bounds(most.bytes).admit(own.bytes, all.bytes)?;
        }
        for key in [whose.principal, whose.connection] {
            let own = self.by.entry(key).or_default();
            own.events += 1;
            own.bytes += bytes;
        }
        Ok(())
    }

    /// The writer took all.
    pub(crate) fn clear(&mut self) {
        self.by.clear();
    }
}
