//! Unusual volume: what one user sent one server within an hour, against what is usual on this host.
//!
//! Sums by the hour are all that is kept, so a month of them is small. **Usual** is what 95 of 100 hours
//! stay within, of the hours in which that user used that server at all; a quantile, because a mean would
//! follow the very outliers it is to find. **Unusual** is more than four times that, and more than a floor
//! below which volume is negligible. A user and server younger than a week are held against all of the host; a
//! host younger than a week has nothing to compare with and stays silent.

use crate::HostPort;
use gnomon_observe::{Field, Lookup, Observation, UNUSUAL_VOLUME};
use hashbrown::{Equivalent, HashMap};
use smol_str::{SmolStr, ToSmolStr as _};
use time::{OffsetDateTime, macros::format_description};

/// The length of history that counts as usual, hours.
pub const VOLUME_HISTORY_HOURS: i64 = 28 * 24;
/// The least history there must be, hours.
pub const VOLUME_MIN_HISTORY_HOURS: i64 = 7 * 24;
/// The most pairs of user and server that are counted apart per hour; the others are summed up together.
pub const MAX_VOLUME_PAIRS: i64 = 256;
/// The number of hours in which a user must have used a server for its own history to count.
pub const MIN_ACTIVE_HOURS: usize = 7;
/// Requests per hour that are never unusual.
pub const FLOOR_REQUESTS: i64 = 100;
/// Bytes out per hour that are never unusual.
pub const FLOOR_BYTES: i64 = 1 << 20;
/// Unusual is more than so many times the usual.
const FACTOR: i64 = 4;
/// Milliseconds of an hour.
const HOUR_MS: i64 = 3_600_000;
/// The longest name that is kept, bytes.
const MAX_NAME: usize = 256;

/// The identifier that a user is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KnownBy {
    /// `user.name`.
    Name,
    /// `user.id`.
    Number,
    /// `source.address`.
    Address,
}

impl KnownBy {
    /// All of them; their places here are what engines store.
    pub const ALL: [KnownBy; 3] = [KnownBy::Name, KnownBy::Number, KnownBy::Address];

    const fn field(self) -> Field {
        match self {
            KnownBy::Name => Field::UserName,
            KnownBy::Number => Field::UserId,
            KnownBy::Address => Field::SourceAddress,
        }
    }

    /// The stored number.
    #[must_use]
    pub const fn number(self) -> i64 {
        self as i64
    }

    /// The identifier stored as this number; none for any other number.
    #[must_use]
    pub fn of_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|known_by| known_by.number() == number)
    }
}

/// Sender, receiver and hour of a sum.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VolumeKey {
    /// Hours since the Unix epoch.
    pub hour: i64,
    /// The identifier that the user is known by.
    pub known_by: KnownBy,
    /// The user.
    pub user: SmolStr,
    /// The server, as [`HostPort`] writes it.
    pub server: SmolStr,
}

/// A user and a server whose hours are summed up. With nothing to be known by, and no names: all that are not told apart,
/// as there were more than [`MAX_VOLUME_PAIRS`] in an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The identifier that the user is known by.
    pub known_by: Option<KnownBy>,
    /// The user.
    pub user: String,
    /// The server, as [`HostPort`] writes it.
    pub server: String,
}

/// A [`VolumeKey`] that borrows its texts, for looking up.
#[derive(PartialEq, Eq, Hash)]
struct KeyRef<'a> {
    hour: i64,
    known_by: KnownBy,
    user: &'a str,
    server: &'a str,
}

impl Equivalent<VolumeKey> for KeyRef<'_> {
    fn equivalent(&self, key: &VolumeKey) -> bool {
        (self.hour, self.known_by, self.user, self.server) == (key.hour, key.known_by, key.user.as_str(), key.server.as_str())
    }
}

/// Sums of an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// The number of requests.
    pub requests: i64,
    /// Bytes of request bodies, as sent.
    pub bytes: i64,
}

impl Volume {
    /// True if it is too small to be worth a look.
    #[must_use]
    pub const fn is_small(self) -> bool {
        self.requests <= FLOOR_REQUESTS && self.bytes <= FLOOR_BYTES
    }

    /// True if it is unusual compared with `usual`.
    #[must_use]
    pub const fn is_unusual(self, usual: Volume) -> bool {
        (self.requests > FLOOR_REQUESTS && self.requests > FACTOR.saturating_mul(usual.requests))
            || (self.bytes > FLOOR_BYTES && self.bytes > FACTOR.saturating_mul(usual.bytes))
    }
}

/// The 95th percentile of the hours (nearest rank); nothing where there are none.
#[must_use]
pub fn usual(hours: &[Volume]) -> Volume {
    let rank = |mut values: Vec<i64>| {
        values.sort_unstable();
        values.get((values.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    };
    Volume { requests: rank(hours.iter().map(|hour| hour.requests).collect()), bytes: rank(hours.iter().map(|hour| hour.bytes).collect()) }
}

/// The sums that a group of events adds.
#[derive(Debug, Default)]
pub struct Volumes {
    /// The sums, to be added to those that are stored.
    pub sums: HashMap<VolumeKey, Volume>,
    /// Moment and size of the batch that was counted last: each of its calls has the size of the whole body.
    last_batch: Option<(i64, i64)>,
}

impl Volumes {
    /// Counts the first event of a call, if it is of a request. What is known already costs look-ups and no allocation.
    pub(crate) fn add(&mut self, seen: &Observation, at_ms: i64) {
        if seen.text(Field::McpMethod).is_none() {
            return;
        }
        let Some(host) = seen.text(Field::ServerAddress) else { return };
        let server = HostPort::of(seen);
        // Only where the port is to be said does a name have to be made.
        let named = server.port().map(|_| server.to_smolstr());
        let server = named.as_deref().unwrap_or(host);
        let user = KnownBy::ALL.iter().find_map(|known_by| Some((*known_by, seen.text(known_by.field())?)));
        let Some((known_by, user)) = user else { return };
        let bytes = match seen.get(Field::RequestSize) {
            Lookup::Value(value) => value.as_int().unwrap_or_default().max(0),
            Lookup::Absent | Lookup::Unreadable => 0,
        };
        let batch = matches!(seen.get(Field::BatchIndex), Lookup::Value(_)).then_some((at_ms, bytes));
        let again = batch.is_some() && batch == self.last_batch;
        self.last_batch = batch;
        let bytes = if again { 0 } else { bytes };
        let key = KeyRef { hour: hour_of(at_ms), known_by, user: cut(user), server: cut(server) };
        let sum = match self.sums.get_mut(&key) {
            Some(sum) => sum,
            None => {
                let key = VolumeKey { hour: key.hour, known_by, user: key.user.into(), server: key.server.into() };
                self.sums.entry(key).or_default()
            }
        };
        sum.requests = sum.requests.saturating_add(calls_of(seen));
        sum.bytes = sum.bytes.saturating_add(bytes);
    }

    /// The latest hour in it.
    #[must_use]
    pub fn latest_hour(&self) -> Option<i64> {
        self.sums.keys().map(|key| key.hour).max()
    }
}

/// Hours since the Unix epoch.
#[must_use]
pub const fn hour_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(HOUR_MS)
}

/// An hour in which a user sent a server unusually much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusual {
    /// The hour, since the Unix epoch.
    pub hour: i64,
    /// Sender and receiver.
    pub pair: Pair,
    /// The sums found.
    pub found: Volume,
    /// The 95th percentile of the hours before.
    pub usual: Volume,
}

impl Unusual {
    /// The detection of unusual volume, as an observation.
    #[must_use]
    pub fn describe(&self) -> Observation {
        let mut seen = Observation::new();
        if let Some(known_by) = self.pair.known_by {
            seen.set(known_by.field(), self.pair.user.as_str());
        }
        if !self.pair.server.is_empty() {
            let server = HostPort::parse(&self.pair.server);
            seen.set(Field::ServerAddress, server.host());
            seen.set_some(Field::ServerPort, server.port());
        }
        let (found, usual) = (self.found, self.usual);
        seen.set(Field::RequestSize, found.bytes);
        seen.set(
            Field::Message,
            format!(
                "{} requests with {} bytes out in the hour from {} UTC; in 95 of 100 hours they are at most {} with {} bytes",
                found.requests,
                found.bytes,
                clock(self.hour),
                usual.requests,
                usual.bytes
            ),
        );
        UNUSUAL_VOLUME.stamp(&mut seen);
        seen
    }
}

fn clock(hour: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(hour.saturating_mul(HOUR_MS / 1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(format_description!("[year]-[month]-[day] [hour]:[minute]")).unwrap_or_default()
}

/// The number of calls an event counts for.
pub(crate) fn calls_of(seen: &Observation) -> i64 {
    i64::try_from(seen.calls()).unwrap_or(i64::MAX)
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_is_what_most_hours_stay_within_whatever_the_rest_does() {
        let mut hours = vec![Volume { requests: 10, bytes: 1000 }; 96];
        hours.extend([Volume { requests: 1_000_000, bytes: 1 << 40 }; 4]);
        assert_eq!(usual(&hours), Volume { requests: 10, bytes: 1000 });
        assert_eq!(usual(&[]), Volume::default());
        assert_eq!(usual(&hours[..1]), hours[0]);
    }

    #[test]
    fn little_is_never_unusual_and_much_is_where_little_was_usual() {
        let usual = Volume { requests: 10, bytes: 1000 };
        let much = |requests, bytes| Volume { requests, bytes }.is_unusual(usual);
        assert!(!much(FLOOR_REQUESTS, FLOOR_BYTES) && Volume { requests: FLOOR_REQUESTS, bytes: FLOOR_BYTES }.is_small());
        assert!(much(FLOOR_REQUESTS + 1, 0) && much(0, FLOOR_BYTES + 1));
        assert!(!Volume { requests: 1000, bytes: 0 }.is_unusual(Volume { requests: 250, bytes: 0 }));
    }

    #[test]
    fn requests_are_summed_up_by_server_and_a_batch_is_one_body() {
        let mut volumes = Volumes::default();
        let mut seen = Observation::new();
        seen.set(Field::McpMethod, "tools/call");
        seen.set(Field::ServerAddress, "a.example");
        seen.set(Field::UserName, "ada");
        seen.set(Field::RequestSize, 7_i64);
        for _ in 0..2 {
            volumes.add(&seen, HOUR_MS);
        }
        seen.clear(Field::McpMethod);
        volumes.add(&seen, HOUR_MS);
        assert_eq!(volumes.sums.values().collect::<Vec<_>>(), [&Volume { requests: 2, bytes: 14 }]);
        assert_eq!(volumes.latest_hour(), Some(1));
        // A batch is one body, and another port another server.
        seen.set(Field::McpMethod, "tools/call");
        seen.set(Field::ServerPort, 8443_i64);
        for _ in 0..2 {
            seen.set(Field::BatchIndex, 0_i64);
            volumes.add(&seen, HOUR_MS);
        }
        let (key, sum) = volumes.sums.iter().find(|(key, _)| key.server != "a.example").unwrap();
        assert_eq!((key.server.as_str(), *sum), ("a.example:8443", Volume { requests: 2, bytes: 7 }));
        let (found, usual) = (Volume::default(), Volume::default());
        let pair = Pair { known_by: Some(KnownBy::Name), user: "ada".to_owned(), server: key.server.to_string() };
        assert_eq!(HostPort::of(&Unusual { hour: 1, pair, found, usual }.describe()), HostPort::new("a.example", Some(8443)));
    }
}
