//! Events and incidents by their names, and by what they have in common.

use crate::{
    Engine,
    stage::{KEEP, START, all, append, call, questions, seqs, text, with, written},
};
use gnomon_ledger_model::{
    EventFilter, Found, IdPrefix, More, NEAR_EVENTS, Names, OUTCOME_EVENTS, Relation, STORY_AFTER_MS, STORY_BEFORE_MS,
};
use gnomon_observe::{Field, Observation};

fn detection(number: i64, flow: &str) -> Observation {
    let name = format!("call {number}");
    with(
        call("mcp.example.com", number),
        &[(Field::EventKind, "alert"), (Field::RuleId, "r1"), (Field::FlowId, flow), (Field::ObservationId, &name)],
    )
}

/// Ids are found by any start of them that is long enough, in whatever way it is written.
pub async fn an_id_or_the_start_of_one_leads_to_its_event(engine: &impl Engine) {
    // Two of the same minute share their first eight digits, but for a turn of the minute.
    let burst = with(detection(4, "g"), &[(Field::IncidentId, "01d1a000-2000-7d10-a2cd-3f4f6f1c0b0f")]);
    let other = with(detection(5, "g"), &[(Field::IncidentId, "01d1a000-3000-7d10-a2cd-3f4f6f1c0b0f")]);
    let events =
        [(detection(1, "f"), 0), (detection(2, "f"), 1), (detection(3, "f"), 10_000_000), (burst, 20_000_000), (other, 20_000_001)];
    let mut questions = written(engine, events).await;
    let events = all(engine).await;
    for event in &events {
        let id = text(event, Field::EventId);
        for written in [id.clone(), id.to_uppercase(), id.replace('-', ""), id[..30].to_owned()] {
            assert!(matches!(questions.find(&written).await.unwrap(), Found::Event(found) if found == *event), "{written}");
        }
        assert_eq!(questions.rows().event(event.seq).await.unwrap().as_ref(), Some(event));
    }
    assert_eq!(questions.rows().event(6).await.unwrap(), None);
    let shared = IdPrefix::parse(&text(&events[0], Field::EventId)[..9]).unwrap();
    assert_eq!(seqs(&questions.rows().by_id(&shared, 10).await.unwrap()), [1, 2]);
    assert_eq!(seqs(&questions.rows().by_id(&shared, 1).await.unwrap()), [1]);
    let bursts = questions.rows().bursts_by_id(&IdPrefix::parse("01d1a000").unwrap(), 10).await.unwrap();
    assert_eq!(bursts.iter().map(|(_, first)| *first).collect::<Vec<_>>(), [4, 5]);
    assert!(matches!(questions.find("01d1a000-2").await.unwrap(), Found::Burst(first) if first.seq == 4));
    assert!(matches!(questions.find("ffffffff").await.unwrap(), Found::Nothing));
}

/// A group adds detections and a later end to a known incident, and does not change what it is about.
pub async fn incidents_are_summed_up_over_groups_the_newest_first(engine: &impl Engine) {
    let of = |number, incident: &str, action: &str| {
        let fields = [
            (Field::IncidentId, incident),
            (Field::RuleName, "Shadow call"),
            (Field::RuleLevel, "high"),
            (Field::Action, action),
            (Field::McpClientName, "codex"),
        ];
        with(detection(number, "f"), &fields)
    };
    let mut store = engine.store(KEEP).await;
    append(&mut *store, [(of(1, "i1", "block"), 2_000), (of(2, "i2", "log"), 0), (of(3, "i1", "log"), 1_000)]).await;
    append(&mut *store, [(of(4, "i1", "log"), 500), (of(5, "i1", "log"), 4_000)]).await;
    store.close().await.unwrap();
    let mut questions = questions(engine).await;
    let found = questions.incidents(10).await.unwrap();
    assert_eq!(found.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["i1", "i2"]);
    let one = &found[0];
    assert_eq!((one.events, one.first_seq, one.last_seq), (4, 1, 5));
    assert_eq!((one.first_seen_ms, one.last_seen_ms), (START + 500, START + 4_000));
    assert_eq!((one.rule.as_str(), one.rule_name.as_deref(), one.level.as_deref()), ("r1", Some("Shadow call"), Some("high")));
    assert_eq!(
        (one.action.as_deref(), one.client.as_deref(), one.server.as_deref()),
        (Some("block"), Some("codex"), Some("mcp.example.com"))
    );
    assert_eq!(questions.incidents(1).await.unwrap(), found[..1]);
}

/// By call, flow, session or process number, within bounds of time and number, and the nearest first where there are many.
pub async fn the_nearest_events_of_a_name_are_near(engine: &impl Engine) {
    let mut process = call("a.example", 4);
    process.set(Field::Pid, 7_i64);
    let mut session = with(call("a.example", 3), &[(Field::McpSessionId, "s")]);
    session.set(Field::Pid, 8_i64);
    let mut middle = with(detection(5, "f"), &[(Field::McpSessionId, "s")]);
    middle.set(Field::Pid, 7_i64);
    let events = [
        (detection(0, "f"), -STORY_BEFORE_MS - 1),
        (detection(1, "f"), -STORY_BEFORE_MS),
        (detection(2, "other"), 0),
        (session, 0),
        (process, 0),
        (middle, 0),
        (with(call("b.example", 6), &[(Field::ObservationId, "call 5")]), 0),
        (detection(7, "f"), STORY_AFTER_MS),
        (detection(8, "f"), STORY_AFTER_MS + 1),
        (call("mcp.example.com", 9), 0),
    ];
    let mut questions = written(engine, events.into_iter().map(|(seen, ms)| (seen, ms + 2 * STORY_BEFORE_MS))).await;
    let event = all(engine).await.swap_remove(5);
    let names = Names::of(&event.json);
    let mut near = async |names: &Names, limit| seqs(&questions.rows().near(&event, names, limit).await.unwrap());
    assert_eq!(near(&names, 100).await, [2, 4, 5, 7, 8]);
    assert_eq!(near(&names, 2).await, [5, 7]);
    assert_eq!(near(&names, 1).await.len(), 1);
    // An absent name correlates nothing.
    assert_eq!(near(&Names::default(), 100).await, Vec::<i64>::new());
}

/// The outcome of a call may be far away, and names the call.
pub async fn an_outcome_is_found_after_its_call_only(engine: &impl Engine) {
    let outcome = |name: &str| {
        let mut seen = Observation::new();
        seen.set(Field::EventKind, "outcome");
        seen.set(Field::ObservationId, name);
        seen
    };
    let far = NEAR_EVENTS / 10;
    let mut store = engine.store(KEEP).await;
    append(&mut *store, [(outcome("call 1"), 0), (detection(1, "f"), 1), (outcome("call 2"), 2)]).await;
    for n in (0..far).step_by(1000) {
        append(&mut *store, (n..n + 1000).map(|n| (detection(10 + n, "g"), 3))).await;
    }
    append(&mut *store, [(outcome("call 1"), 50_000_000), (outcome("call 1"), 50_000_001)]).await;
    store.close().await.unwrap();
    let mut questions = questions(engine).await;
    let mut event = questions.rows().event(2).await.unwrap().unwrap();
    let found = questions.rows().outcome(&event, "call 1").await.unwrap().unwrap();
    assert_eq!(found.seq, far + 4);
    assert_eq!(questions.rows().outcome(&event, "call 3").await.unwrap(), None);
    // As if it stood so far before.
    event.seq = found.seq - OUTCOME_EVENTS;
    assert_eq!(questions.rows().outcome(&event, "call 1").await.unwrap().map(|found| found.seq), Some(1));
    event.seq = 1 - OUTCOME_EVENTS - 1;
    assert_eq!(questions.rows().outcome(&event, "call 1").await.unwrap(), None);
}

/// The model's stories and sums are made of an engine's rows.
pub async fn a_story_and_the_sums_over_events_are_made_of_what_is_found(engine: &impl Engine) {
    let mut outcome = Observation::new();
    outcome.set(Field::EventKind, "outcome");
    outcome.set(Field::ObservationId, "call 2");
    let events = [
        (detection(1, "f"), 1_000),
        (detection(2, "f"), 2_000),
        (with(detection(2, "f"), &[(Field::DetectionClass, "dlp")]), 2_000),
        (detection(3, "g"), 3_000),
        (outcome, 50_000_000),
    ];
    let mut questions = written(engine, events).await;
    let event = all(engine).await.swap_remove(1);
    let story = questions.story(event).await.unwrap();
    assert_eq!((seqs(&story.sightings), story.outcome.map(|event| event.seq)), (vec![3], Some(5)));
    assert_eq!(story.before.iter().map(|r| (r.event.seq, r.relation)).collect::<Vec<_>>(), [(1, Relation::Flow)]);
    assert!(story.after.is_empty() && story.more == More::No);
    assert_eq!(story.server.map(|server| server.calls), Some(3));
    let days = questions.daily_incidents(&EventFilter::default()).await.unwrap();
    assert_eq!(days.incidents.iter().map(|day| day.detections).sum::<u64>(), 4);
    let detections = questions.detections_of(&days.incidents[0], 10).await.unwrap();
    assert_eq!(detections.len() as u64, days.incidents[0].detections);
    assert!(matches!(questions.find(&days.incidents[0].id).await.unwrap(), Found::Daily(found) if *found == days.incidents[0]));
    let usage = questions.usage(START.div_euclid(86_400_000) * 86_400_000, 1).await.unwrap();
    assert_eq!((usage.days[0].shadow, usage.days[0].detections), (3, 4));
}
