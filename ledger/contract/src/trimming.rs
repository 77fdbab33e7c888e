//! Trimming: the oldest goes first. What is known of it, and of a ledger that is gone as a whole.

use crate::{
    Engine,
    stage::{KEEP, START, all, append, call, group, numbers, questions, seqs, with},
};
use gnomon_ledger_model::{Forgotten, Keep, Store};
use gnomon_observe::Field;
use std::time::Duration;

/// Events by their moment, incidents with their last event. Servers and their names stay.
pub async fn events_are_forgotten_when_their_time_is_over_and_incidents_with_them(engine: &impl Engine) {
    let keep = Keep { retention: Duration::from_secs(60), ..KEEP };
    let of = |n: i64, incident| with(call("a.example", n), &[(Field::IncidentId, incident), (Field::RuleId, "r")]);
    let mut store = engine.store(keep).await;
    let forget = async |store: &mut dyn Store, after_ms: i64| store.forget(START + after_ms).await.unwrap();
    append(&mut *store, (0..10_000).map(|n| (of(n, if n < 5_000 { "i1" } else { "i2" }), n))).await;
    forget(&mut *store, 60_000).await;
    assert_eq!(all(engine).await.len(), 10_000, "none is older than a minute");
    forget(&mut *store, 66_000).await;
    let kept = seqs(&all(engine).await);
    assert_eq!((kept.first(), kept.last(), kept.len()), (Some(&6_001), Some(&10_000), 4_000));
    let incidents = questions(engine).await.incidents(10).await.unwrap();
    assert_eq!(incidents.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["i2"]);
    forget(&mut *store, 1_000_000).await;
    assert_eq!(all(engine).await, []);
    let mut questions = questions(engine).await;
    assert_eq!(questions.incidents(10).await.unwrap(), []);
    assert_eq!(questions.inventory().await.unwrap()[0].calls, 10_000);
    store.close().await.unwrap();
}

/// An event whose clock was ahead stays its time, and keeps no other beyond theirs.
pub async fn a_clock_that_was_ahead_keeps_no_other_event_from_being_forgotten(engine: &impl Engine) {
    let keep = Keep { retention: Duration::from_secs(60), ..KEEP };
    let mut store = engine.store(keep).await;
    append(&mut *store, (0..1_000).map(|n| (call("a.example", n), if n == 0 { 90_000_000 } else { n }))).await;
    store.forget(START + 1_000_000).await.unwrap();
    assert_eq!(seqs(&all(engine).await), [1]);
    store.close().await.unwrap();
}

/// An event that was written while the clock was behind goes no earlier than those before it.
pub async fn a_clock_that_was_behind_takes_no_event_away_before_those_that_came_earlier(engine: &impl Engine) {
    let keep = Keep { retention: Duration::from_secs(60), ..KEEP };
    let mut store = engine.store(keep).await;
    let moment = |n: i64| if (400..500).contains(&n) { n - 1_000_000 } else { n };
    append(&mut *store, (0..1_000).map(|n| (call("a.example", n), moment(n)))).await;
    store.forget(START + 2_000).await.unwrap();
    assert_eq!(all(engine).await.len(), 1_000);
    store.forget(START + 60_300).await.unwrap();
    assert_eq!(seqs(&all(engine).await), (301..=1_000).collect::<Vec<_>>());
    store.forget(START + 60_450).await.unwrap();
    assert_eq!(seqs(&all(engine).await), (501..=1_000).collect::<Vec<_>>());
    store.close().await.unwrap();
}

/// The newest are kept without a gap.
pub async fn the_oldest_events_make_room_within_the_size_bound(engine: &impl Engine) {
    let keep = Keep { max_bytes: 8 << 20, ..KEEP };
    let mut store = engine.store(keep).await;
    let long = "x".repeat(1_000);
    let mut number = 0;
    for _ in 0..24 {
        let events = (number..number + 1_000).map(|n| {
            let incident = format!("incident {}", n / 10);
            (with(call("a.example", n), &[(Field::CommandLine, &long), (Field::IncidentId, &incident), (Field::RuleId, "r")]), n)
        });
        store.append(&group(events), START).await.unwrap();
        number += 1_000;
    }
    let forgotten = store.forgotten();
    store.close().await.unwrap();
    let mut questions = questions(engine).await;
    let kept = seqs(&all(engine).await);
    assert!(kept.len() > 1_000 && kept.len() < 20_000, "{} are left", kept.len());
    assert_eq!(kept, (number - kept.len() as i64 + 1..=number).collect::<Vec<_>>());
    assert_eq!(forgotten, Forgotten { age: 0, size: number as u64 - kept.len() as u64 });
    let incidents = questions.incidents(10_000).await.unwrap();
    assert!(!incidents.is_empty() && incidents.iter().all(|incident| incident.last_seq >= kept[0]));
}

/// Each by its reason, not again where nothing is left to forget, and from zero for whoever opens the ledger next.
pub async fn events_that_were_forgotten_are_counted_since_the_ledger_was_opened(engine: &impl Engine) {
    let keep = Keep { retention: Duration::from_secs(60), ..KEEP };
    let mut store = engine.store(keep).await;
    append(&mut *store, (0..100).map(|n| (call("a.example", n), n))).await;
    assert_eq!(store.forgotten(), Forgotten::default());
    for (after_ms, age) in [(60_000, 0), (60_030, 30), (60_030, 30), (60_050, 50)] {
        store.forget(START + after_ms).await.unwrap();
        assert_eq!(store.forgotten(), Forgotten { age, size: 0 }, "{after_ms}");
    }
    store.close().await.unwrap();
    assert_eq!(numbers(&all(engine).await), (50..100).collect::<Vec<_>>());
    let store = engine.store(keep).await;
    assert_eq!(store.forgotten(), Forgotten::default());
    store.close().await.unwrap();
}

/// The clock by which events are forgotten starts from it: a row that was written while the clock was behind must not set it back.
pub async fn the_newest_moment_is_the_latest_one_and_not_that_of_the_last_row(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    assert_eq!(store.newest_ms().await.unwrap(), None);
    append(&mut *store, [(call("a.example", 0), 5), (call("a.example", 1), 9), (call("a.example", 2), 2)]).await;
    assert_eq!(store.newest_ms().await.unwrap(), Some(START + 9));
    append(&mut *store, [(call("a.example", 3), 1)]).await;
    assert_eq!(store.newest_ms().await.unwrap(), Some(START + 9));
    store.close().await.unwrap();
    let mut store = engine.store(KEEP).await;
    assert_eq!(store.newest_ms().await.unwrap(), Some(START + 9));
    append(&mut *store, [(call("a.example", 4), 10)]).await;
    assert_eq!(store.newest_ms().await.unwrap(), Some(START + 10));
    store.close().await.unwrap();
}

/// What was lost stays lost; what comes next is found where readers look for it, and what was counted stays counted.
pub async fn a_ledger_that_was_lost_begins_anew_where_it_was(engine: &impl Engine) {
    let keep = Keep { retention: Duration::from_secs(60), ..KEEP };
    let mut store = engine.store(keep).await;
    append(&mut *store, (0..3).map(|n| (call("a.example", n), n))).await;
    store.forget(START + 60_001).await.unwrap();
    let forgotten = Forgotten { age: 1, size: 0 };
    assert!(store.is_in_place() && store.forgotten() == forgotten, "{:?}", store.forgotten());
    engine.lose();
    assert!(!store.is_in_place());
    store.begin_anew().await.unwrap();
    assert!(store.is_in_place());
    assert_eq!((store.newest_ms().await.unwrap(), store.forgotten()), (None, forgotten));
    append(&mut *store, [(call("b.example", 3), 3)]).await;
    // Also while it is written.
    assert_eq!(numbers(&all(engine).await), [3]);
    store.close().await.unwrap();
    assert_eq!(numbers(&all(engine).await), [3]);
    let servers = questions(engine).await.inventory().await.unwrap();
    assert_eq!(servers.iter().map(|server| server.address.as_str()).collect::<Vec<_>>(), ["b.example"]);
}

/// Whoever takes it for lost when it is not costs nobody an event.
pub async fn a_ledger_that_is_in_its_place_and_whole_loses_nothing_by_beginning_anew(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    append(&mut *store, (0..2).map(|n| (call("a.example", n), n))).await;
    store.begin_anew().await.unwrap();
    assert!(store.is_in_place());
    append(&mut *store, [(call("a.example", 2), 2)]).await;
    store.close().await.unwrap();
    let found = all(engine).await;
    assert_eq!((numbers(&found), seqs(&found)), (vec![0, 1, 2], vec![1, 2, 3]));
}
