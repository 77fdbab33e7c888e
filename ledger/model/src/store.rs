//! The interface between the ledger and a database: small, so that databases are interchangeable. Each method has one meaning for all of
//! them, which the tests of `ledger/contract` hold each engine to.
//!
//! An engine sums up and judges nothing: that is done before ([`Group`]) or after ([`crate::Questions`]) by the same code for all.

use crate::{
    EventFilter, FirstSeen, Group, IdPrefix, IncidentRecord, Names, NewName, Order, ReadError, ServerRecord, StoreError, StoredEvent,
    volume::{Pair, Volume},
};
use std::{future::Future, ops::Range, pin::Pin, time::Duration};

/// The future of a store's operation.
pub type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The future of a read.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, ReadError>> + Send + 'a>>;

/// Retention: amount and time. Beyond either the oldest events go first.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Bytes.
    pub max_bytes: u64,
    /// Time, by the moment of each event.
    pub retention: Duration,
}

/// Events that were forgotten, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Removed because older than the retention time.
    pub age: u64,
    /// Removed to make room.
    pub size: u64,
}

/// Writes a ledger: the only one who does. A call that failed has changed nothing that others see, and the next is tried as
/// if it were the first.
pub trait Store: Send {
    /// Adds a group's rows and what it changes, all or nothing, durable on return. Says which servers are new.
    ///
    /// Events get numbers in the group's order, each above all that were ever given. Changes are made as [`crate::ServerDelta`],
    /// [`crate::IncidentDelta`] and [`crate::volume`] say, within the inventory's bounds: beyond [`crate::MAX_PATHS_PER_HOST`] paths a server counts
    /// as that host's of path `""`, beyond [`crate::MAX_SERVERS`] those of least confidence that were longest unseen make room, beyond
    /// [`crate::MAX_VOLUME_PAIRS`] of an hour sums are those of all others.
    fn append<'a>(&'a mut self, group: &'a Group, now_ms: i64) -> Stored<'a, FirstSeen>;
    /// Forgets events that are older than is kept, and incidents that have no events left.
    fn forget(&mut self, now_ms: i64) -> Stored<'_, ()>;
    /// The events that were forgotten since it was opened.
    fn forgotten(&self) -> Forgotten;
    /// The latest moment among the newest events, milliseconds since the Unix epoch.
    fn newest_ms(&mut self) -> Stored<'_, Option<i64>>;
    /// True if readers that open the ledger find the writes: its file and its log were neither moved, removed nor truncated.
    fn is_in_place(&self) -> bool;
    /// Begins anew where it should be, if it is not there, or not whole. Nobody else may write there.
    fn begin_anew(&mut self) -> Stored<'_, ()>;
    /// The earliest hour from this one on of which there are sums.
    fn oldest_hour(&mut self, from: i64) -> Stored<'_, Option<i64>>;
    /// Sums of this hour that are not small ([`Volume::is_small`]), of pairs that were not reported after the hour `told_after`: those with
    /// the most requests first, at most `limit`.
    fn busiest(&mut self, hour: i64, told_after: i64, limit: usize) -> Stored<'_, Vec<(Pair, Volume)>>;
    /// The sums of a pair in these hours, oldest first; with none, of every pair.
    fn hours<'a>(&'a mut self, pair: Option<&'a Pair>, hours: Range<i64>) -> Stored<'a, Vec<(i64, Volume)>>;
    /// Records that a pair's hour was reported.
    fn tell<'a>(&'a mut self, pair: &'a Pair, hour: i64) -> Stored<'a, ()>;
    /// Forgets the sums before this hour.
    fn forget_hours(&mut self, before: i64) -> Stored<'_, ()>;
    /// Closes it; nothing that was added is lost if that fails.
    fn close(self: Box<Self>) -> Stored<'static, ()>;
}

/// Reads a ledger, also while another process writes it. Only durable data is seen.
pub trait LedgerReader: Send {
    /// The number of the newest event, 0 before the first.
    fn last_seq(&mut self) -> Asked<'_, i64>;
    /// A page of events up to the number `last`. Events are in order of their numbers; their moments need not be, as a clock may be
    /// set back: by up to ten minutes none is missed that a span of time asks for.
    fn page<'a>(&'a mut self, filter: &'a EventFilter, order: Order, last: i64) -> Asked<'a, Vec<StoredEvent>>;
    /// The event of that number.
    fn event(&mut self, seq: i64) -> Asked<'_, Option<StoredEvent>>;
    /// Events whose `event.id` begins so, oldest first, at most `limit`.
    fn by_id<'a>(&'a mut self, prefix: &'a IdPrefix, limit: usize) -> Asked<'a, Vec<StoredEvent>>;
    /// Incidents whose id begins so, with the number of the first event, in order of their ids, at most `limit`.
    fn bursts_by_id<'a>(&'a mut self, prefix: &'a IdPrefix, limit: usize) -> Asked<'a, Vec<(String, i64)>>;
    /// Other events that share a call, flow, session or process number with this one: at most [`crate::NEAR_EVENTS`] numbers away, from
    /// [`crate::STORY_BEFORE_MS`] before to [`crate::STORY_AFTER_MS`] after. The nearest `limit`, in order of their numbers.
    fn near<'a>(&'a mut self, event: &'a StoredEvent, names: &'a Names, limit: usize) -> Asked<'a, Vec<StoredEvent>>;
    /// The first event of kind `outcome` of this call after that event, at most [`crate::OUTCOME_EVENTS`] numbers away.
    fn outcome<'a>(&'a mut self, event: &'a StoredEvent, call: &'a str) -> Asked<'a, Option<StoredEvent>>;
    /// All servers, the most recently seen first.
    fn inventory(&mut self) -> Asked<'_, Vec<ServerRecord>>;
    /// Tools first seen in these milliseconds since the Unix epoch, the latest first, at most `limit`.
    fn new_tools(&mut self, seen_ms: Range<i64>, limit: usize) -> Asked<'_, Vec<NewName>>;
    /// The most recent incidents, those with the newest event first, at most `limit`.
    fn incidents(&mut self, limit: usize) -> Asked<'_, Vec<IncidentRecord>>;
}
