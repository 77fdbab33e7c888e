//! Adding groups: all of one or nothing, in order, durable.

use crate::{
    Engine,
    stage::{KEEP, START, all, append, call, group, numbers, questions, seqs, with},
};
use gnomon_ledger_model::{EventFilter, FirstSeen, Group, MAX_GROUP_EVENTS, Order};
use gnomon_observe::Field;
use std::time::Duration;

/// Lines come back byte by byte, with the moment that their event had.
pub async fn events_are_read_as_they_were_written_in_the_order_of_their_group(engine: &impl Engine) {
    let events = (0..100).map(|n| (with(call("mcp.example.com", n), &[(Field::ToolName, "it's \"quoted\" ünïcode \u{2028} 👩‍💻 \\")]), -n));
    let group = group(events);
    let mut store = engine.store(KEEP).await;
    assert_eq!(store.append(&group, START).await.unwrap(), FirstSeen { sanctioned: 0, shadow: 1 });
    store.close().await.unwrap();
    let found = all(engine).await;
    assert_eq!(seqs(&found), (1..=100).collect::<Vec<_>>());
    for (n, event) in found.iter().enumerate() {
        assert_eq!((event.json.as_str(), event.at_ms), (group.line(n), START - n as i64));
    }
}

/// An engine adds many rows at a time; none is lost between such times.
pub async fn groups_of_any_size_are_added_whole(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    let mut next = 0;
    for size in [1, 2, 3, 5, 17, 63, 64, 65, 257, 1365, MAX_GROUP_EVENTS as i64] {
        let events = (next..next + size).map(|n| (with(call("a.example", n), &[(Field::IncidentId, if n == next { "" } else { "i" })]), n));
        append(&mut *store, events).await;
        next += size;
    }
    store.close().await.unwrap();
    let found = all(engine).await;
    assert_eq!(numbers(&found), (0..next).collect::<Vec<_>>());
    assert_eq!(seqs(&found), (1..=next).collect::<Vec<_>>());
    let incidents = questions(engine).await.incidents(10).await.unwrap();
    // The first event of each group is of none.
    assert_eq!(incidents.iter().map(|i| (i.first_seq, i.last_seq, i.events)).collect::<Vec<_>>(), [(3, next, next as u64 - 11)]);
}

/// Neither opening the ledger again nor forgetting gives a number twice.
pub async fn numbers_rise_and_are_never_used_twice(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    append(&mut *store, (0..10).map(|n| (call("a.example", n), n))).await;
    store.close().await.unwrap();
    assert_eq!(engine.reader().await.last_seq().await.unwrap(), 10);
    let later = START + i64::try_from(KEEP.retention.as_millis()).unwrap() + 1_000;
    let mut store = engine.store(KEEP).await;
    store.forget(later).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(all(engine).await, []);
    let mut store = engine.store(KEEP).await;
    append(&mut *store, [(call("a.example", 10), later - START)]).await;
    store.close().await.unwrap();
    assert_eq!(seqs(&all(engine).await), [11]);
}

/// A follower of events keeps its reader open.
pub async fn a_reader_sees_what_is_added_after_it_was_opened(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    let mut questions = questions(engine).await;
    let filter = EventFilter::default();
    assert_eq!(questions.rows().last_seq().await.unwrap(), 0);
    for n in 0..3 {
        append(&mut *store, [(call("a.example", n), n)]).await;
        assert_eq!(questions.rows().last_seq().await.unwrap(), n + 1);
        assert_eq!(numbers(&questions.events(&filter, Order::OldestFirst).await.unwrap()), (0..=n).collect::<Vec<_>>());
    }
    store.close().await.unwrap();
}

/// No row, no number, no change.
pub async fn an_empty_group_changes_nothing(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    assert_eq!(store.append(&Group::default(), START).await.unwrap(), FirstSeen::default());
    append(&mut *store, [(call("a.example", 0), 0)]).await;
    store.forget(START + Duration::from_secs(60).as_millis() as i64).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(seqs(&all(engine).await), [1]);
}

/// Strangers choose names, and some databases take no text with a zero byte.
pub async fn a_zero_byte_in_a_text_costs_no_event(engine: &impl Engine) {
    let zero = "a\u{0}b";
    let fields = [Field::UserName, Field::RuleId, Field::ToolName, Field::McpClientName, Field::McpServerName, Field::IncidentId];
    let events = [call("a.example", 0), with(call(zero, 1), &fields.map(|field| (field, zero))), call("b.example", 2)];
    let group = group(events.into_iter().zip(0..));
    let mut store = engine.store(KEEP).await;
    store.append(&group, START).await.unwrap();
    store.close().await.unwrap();
    let found = all(engine).await;
    assert_eq!(found.iter().map(|event| event.json.as_str()).collect::<Vec<_>>(), [group.line(0), group.line(1), group.line(2)]);
    let mut questions = questions(engine).await;
    for (condition, expected) in [("jsonrpc.request.id=1", vec![1]), ("gen_ai.tool.name!=x", vec![0, 1, 2]), ("server.address=b*", vec![2])]
    {
        let filter = EventFilter { conditions: vec![condition.parse().unwrap()], ..EventFilter::default() };
        assert_eq!(numbers(&questions.events(&filter, Order::OldestFirst).await.unwrap()), expected, "{condition}");
    }
    assert_eq!(questions.inventory().await.unwrap().len(), 3);
    assert_eq!(questions.incidents(10).await.unwrap().len(), 1);
}
