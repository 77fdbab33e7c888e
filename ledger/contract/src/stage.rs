//! Helpers of the contract's tests: distinguishable events, and short ways to write and read them.

use crate::Engine;
use gnomon_ledger_model::{Event, EventFilter, FirstSeen, Group, Keep, MAX_PAGE, Once, Order, Questions, Store, StoredEvent};
use gnomon_observe::{Field, Observation};
use std::time::{Duration, UNIX_EPOCH};

/// The time of a test's first event, milliseconds since the Unix epoch.
pub(crate) const START: i64 = 2_000_000_000_000;
/// Milliseconds of an hour.
pub(crate) const HOUR: i64 = 3_600_000;
/// Retention that keeps all events of a test.
pub(crate) const KEEP: Keep = Keep { max_bytes: 1 << 30, retention: Duration::from_secs(30 * 24 * 60 * 60) };

/// A tools/call to `server`, told apart by its number.
pub(crate) fn call(server: &str, number: i64) -> Observation {
    let mut seen = Observation::new();
    seen.set(Field::ServerAddress, server);
    seen.set(Field::ServerPort, 443_i64);
    seen.set(Field::UrlPath, "/mcp");
    seen.set(Field::McpMethod, "tools/call");
    seen.set(Field::Confidence, "confirmed");
    seen.set(Field::Channel, "https");
    seen.set(Field::RpcId, number.to_string());
    seen
}

/// A call with one more field.
pub(crate) fn with(mut seen: Observation, fields: &[(Field, &str)]) -> Observation {
    for (field, value) in fields {
        seen.set(*field, *value);
    }
    seen
}

/// A group of these events, each so many milliseconds after [`START`].
pub(crate) fn group(events: impl IntoIterator<Item = (Observation, i64)>) -> Group {
    let (mut group, mut calls) = (Group::default(), Once::default());
    for (seen, after_ms) in events {
        let when = UNIX_EPOCH + Duration::from_millis(u64::try_from(START + after_ms).unwrap());
        let event = Event::at(seen, when);
        let at_ms = event.at_ms();
        event.with_line(|seen, line| group.push(&mut calls, seen, at_ms, line)).unwrap();
    }
    group
}

/// Adds these events, each so many milliseconds after [`START`].
pub(crate) async fn append(store: &mut dyn Store, events: impl IntoIterator<Item = (Observation, i64)>) -> FirstSeen {
    store.append(&group(events), START).await.unwrap()
}

/// A ledger with these events in it.
pub(crate) async fn written(engine: &impl Engine, events: impl IntoIterator<Item = (Observation, i64)>) -> Questions {
    let mut store = engine.store(KEEP).await;
    append(&mut *store, events).await;
    store.close().await.unwrap();
    questions(engine).await
}

pub(crate) async fn questions(engine: &impl Engine) -> Questions {
    Questions::to(engine.reader().await)
}

/// All events, oldest first.
pub(crate) async fn all(engine: &impl Engine) -> Vec<StoredEvent> {
    let filter = EventFilter { limit: MAX_PAGE, ..EventFilter::default() };
    questions(engine).await.events(&filter, Order::OldestFirst).await.unwrap()
}

/// The numbers that events of [`call`] were told apart by.
pub(crate) fn numbers(events: &[StoredEvent]) -> Vec<i64> {
    events.iter().map(|event| text(event, Field::RpcId).parse().unwrap()).collect()
}

pub(crate) fn seqs(events: &[StoredEvent]) -> Vec<i64> {
    events.iter().map(|event| event.seq).collect()
}

/// A text of an event.
pub(crate) fn text(event: &StoredEvent, field: Field) -> String {
    let json: serde_json::Value = serde_json::from_str(&event.json).unwrap();
    json[field.name()].as_str().unwrap_or_default().to_owned()
}
