//! UUIDs version 7 (RFC 9562 section 5.7) for a given time. Random bytes are drawn from the
//! system for many at once: a system call per event would cost more than the event's other fields.

use gnomon_kit::unix_millis;
use smol_str::SmolStr;
use std::time::SystemTime;
use uuid::{Builder, Uuid};

/// The shortest prefix of an id that is looked for: a minute's worth of ids.
pub const MIN_ID_PREFIX: usize = 8;

const RANDOM_PER_ID: usize = 10;
const POOL: usize = RANDOM_PER_ID * 128;

/// Makes ids; each maker draws its own random bytes.
pub struct Ids {
    pool: Box<[u8; POOL]>,
    used: usize,
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ids").finish_non_exhaustive()
    }
}

impl Default for Ids {
    fn default() -> Self {
        Self { pool: Box::new([0; POOL]), used: POOL }
    }
}

impl Ids {
    /// The text of a new id that carries this time.
    pub fn text(&mut self, at: SystemTime) -> SmolStr {
        let mut buffer = Uuid::encode_buffer();
        SmolStr::new(self.next(unix_millis(at)).as_hyphenated().encode_lower(&mut buffer))
    }

    /// A new id that carries this time, milliseconds since the Unix epoch.
    pub(crate) fn next(&mut self, at_ms: i64) -> Uuid {
        let at_ms = u64::try_from(at_ms).unwrap_or(0);
        if self.used + RANDOM_PER_ID > POOL {
            self.refill();
        }
        let mut random = [0; RANDOM_PER_ID];
        random.copy_from_slice(&self.pool[self.used..self.used + RANDOM_PER_ID]);
        self.used += RANDOM_PER_ID;
        Builder::from_unix_timestamp_millis(at_ms, &random).into_uuid()
    }

    fn refill(&mut self) {
        self.used = 0;
        if getrandom::fill(&mut *self.pool).is_err() {
            // Ids must be unique, not secret; the standard library's per-map keys are that.
            use std::hash::{BuildHasher, RandomState};
            for (n, chunk) in self.pool.chunks_mut(8).enumerate() {
                let bytes = RandomState::new().hash_one(n).to_le_bytes();
                chunk.copy_from_slice(&bytes[..chunk.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_of_one_millisecond_differ_and_ids_of_later_ones_sort_after() {
        let mut ids = Ids::default();
        let now: HashSet<Uuid> = (0..10_000).map(|_| ids.next(1_800_000_000_000)).collect();
        assert_eq!(now.len(), 10_000);
        let later = ids.next(1_800_000_000_001);
        assert!(now.iter().all(|id| id.get_version_num() == 7 && *id < later));
    }
}
