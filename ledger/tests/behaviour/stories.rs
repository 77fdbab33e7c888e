//! An id leads to its event, and an event to its story.

use super::*;
use gnomon_ledger::{Found, More, ReadError, Relation, STORY_EVENTS};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(2_000_000_000_000 + ms)
}

fn detection(number: i64, flow: &str) -> Observation {
    let mut seen = call("mcp.example.com", number);
    seen.set(Field::EventKind, "alert");
    seen.set(Field::RuleId, "r1");
    seen.set(Field::UserName, "ada");
    seen.set(Field::FlowId, flow.to_owned());
    seen.set(Field::ObservationId, format!("call {number}"));
    seen
}

fn text(event: &StoredEvent, name: &str) -> String {
    parse(event)[name].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_id_or_the_start_of_one_leads_to_its_event() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    // Two of the same minute share their first eight digits, but for a turn of the minute.
    for (number, ms) in [(1, 0), (2, 1), (3, 10_000_000)] {
        let _ = ledger.record(Event::at(detection(number, "f"), at(ms)));
    }
    let mut burst = detection(4, "g");
    burst.set(Field::IncidentId, "01d1a000-2000-7d10-a2cd-3f4f6f1c0b0f");
    let _ = ledger.record(Event::at(burst, at(20_000_000)));
    writer.shutdown().await;
    let mut reader = state.reader().await;
    for event in state.all().await {
        let id = text(&event, "event.id");
        for written in [id.clone(), id.to_uppercase(), id.replace('-', ""), id[..30].to_owned()] {
            assert!(matches!(reader.find(&written).await.unwrap(), Found::Event(found) if found == event), "{written}");
        }
    }
    let ids: Vec<String> = state.all().await.iter().map(|event| text(event, "event.id")).collect();
    let shared = &ids[0][..13];
    match reader.find(shared).await.unwrap() {
        Found::Several(found) => assert!(found.len() >= 2 || !ids[1].starts_with(shared), "{found:?}"),
        Found::Event(_) => assert!(!ids[1].starts_with(shared)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(reader.find(&ids[0][..9]).await.unwrap(), Found::Several(found) if found.len() == 2));
    assert!(matches!(reader.find("01d1a000-2").await.unwrap(), Found::Burst(first) if first.seq == 4));
    assert!(matches!(reader.find("ffffffff").await.unwrap(), Found::Nothing));
    assert!(matches!(reader.find("%").await.unwrap_err(), ReadError::NotAnId { .. }));
    let days = reader.daily_incidents(&EventFilter::default()).await.unwrap();
    assert_eq!(days.incidents.iter().map(|day| day.detections).sum::<u64>(), 4);
    for day in days.incidents {
        assert!(matches!(reader.find(&day.id).await.unwrap(), Found::Daily(found) if *found == day));
    }
    assert!(matches!(reader.find("i20330518-000000000000").await.unwrap(), Found::Nothing));
}

#[tokio::test]
async fn a_story_holds_the_call_its_outcome_and_what_the_client_did_around_it() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    let write = |seen: Observation, ms: u64| {
        let _ = ledger.record(Event::at(seen, at(ms)));
    };
    write(detection(0, "other flow"), 0);
    write(detection(1, "f"), 1_000);
    write(detection(2, "f"), 2_000);
    let mut second = detection(2, "f");
    second.set(Field::DetectionClass, "dlp");
    write(second, 2_000);
    let mut session = detection(3, "g");
    session.set(Field::McpSessionId, "s");
    write(session, 3_000);
    let mut process = detection(4, "h");
    process.set(Field::Pid, 7_i64);
    process.set(Field::Executable, "/usr/bin/node");
    write(process, 4_000);
    write(detection(5, "f"), 2_000 + 600_001);
    let mut outcome = Observation::new();
    outcome.set(Field::EventKind, "outcome");
    outcome.set(Field::ObservationId, "call 2");
    outcome.set(Field::ResponseSize, 4711_i64);
    outcome.set(Field::FlowId, "f");
    write(outcome, 50_000_000);
    writer.shutdown().await;

    let mut reader = state.reader().await;
    let all = state.all().await;
    let story = reader.story(all[2].clone()).await.unwrap();
    assert_eq!(story.sightings.iter().map(|event| event.seq).collect::<Vec<_>>(), [4]);
    assert_eq!(story.outcome.map(|event| event.seq), Some(8));
    assert_eq!(story.before.iter().map(|r| (r.event.seq, r.relation)).collect::<Vec<_>>(), [(2, Relation::Flow)]);
    assert!(story.after.is_empty() && story.more == More::No, "{:?}", story.after);
    assert_eq!(story.server.map(|server| server.calls), Some(6));
}

#[tokio::test]
async fn a_long_story_is_cut_and_says_so() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    for number in 0..400 {
        let _ = ledger.record(Event::at(detection(number, "f"), at(number as u64)));
    }
    writer.shutdown().await;
    let middle = state.all().await[200].clone();
    let story = state.reader().await.story(middle).await.unwrap();
    assert_eq!((story.before.len(), story.after.len(), story.more), (STORY_EVENTS, STORY_EVENTS, More::Yes));
    assert_eq!(story.before.last().map(|r| r.event.seq), Some(200));
    assert_eq!(story.after.first().map(|r| r.event.seq), Some(202));
}

#[tokio::test]
async fn spans_of_time_are_found_where_the_clock_was_set_back_a_little() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    for (number, ms) in [0_u64, 900_000, 400_000, 1_000_000, 9_000_000].into_iter().enumerate() {
        let _ = ledger.record(Event::at(detection(number as i64, "f"), at(ms)));
    }
    writer.shutdown().await;
    let mut reader = state.reader().await;
    let ms = |ms: i64| Some(2_000_000_000_000 + ms);
    for (since, until, expected) in [
        (ms(0), None, vec![1, 2, 3, 4, 5]),
        (ms(400_000), ms(1_000_000), vec![2, 3]),
        (ms(900_000), None, vec![2, 4, 5]),
        (None, ms(500_000), vec![1, 3]),
        (ms(9_000_001), None, vec![]),
        (None, ms(0), vec![]),
    ] {
        let filter = EventFilter { since_ms: since, until_ms: until, ..Default::default() };
        let found: Vec<i64> = reader.events(&filter, Order::OldestFirst).await.unwrap().iter().map(|event| event.seq).collect();
        assert_eq!(found, expected, "{since:?} {until:?}");
    }
}
