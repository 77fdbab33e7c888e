//! The sensor itself: its ring, its heartbeat, its counters, its end.

use parking_lot::Mutex;
use std::net::TcpListener as Listener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gnomon_intercept::{Proxy, ProxyOptions};
use gnomon_link::{
    Count, Families, Feature, FeatureState, Label, List, Name, Program, RefusalReason, ScopeChange, ToProxy, ToSensor, UNASKED,
};
use gnomon_record::Owners;
use gnomon_tls::CertificateAuthority;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::raw::{Call, hello};
use super::stage::{SOON, Sensor, Stage, known, silent};
use crate::{Watch, WatchError};

#[tokio::test(flavor = "multi_thread")]
async fn records_come_out_of_the_ring_and_malformed_ones_are_counted() {
    let stage = Stage::new(&[], known()).await;
    stage.sensor.write(&[Call::new(1).bytes(), vec![9, 0, 8, 0, 0, 0, 0, 0], hello(1, "mcp.vendor.example")]);
    stage.metric_becomes(r#"gnomon_flows_seen_total{tls="yes"}"#, 1).await;
    assert_eq!(stage.metric(r#"gnomon_watch_shed_total{what="record"}"#), Some(1));
    let start = Instant::now();
    while stage.events().await.is_empty() {
        assert!(start.elapsed() < SOON);
    }
    assert_eq!(stage.events().await[0]["user.name"], "ada");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_beats_while_it_lives_and_stops_at_once_when_it_is_to_let_go() {
    let stage = Stage::new(&[], silent).await;
    let start = Instant::now();
    while stage.sensor.beat() == 0 {
        assert!(start.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stage.watch.let_go();
    let start = Instant::now();
    while stage.sensor.beat() != 0 {
        assert!(start.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!stage.session().has_ended(), "it goes on watching");
    stage.end().await;
}

fn program(name: &str, counts: &[(&str, u64)]) -> Program {
    let counts = counts.iter().map(|(outcome, count)| Count { outcome: Label::cut(outcome), count: *count });
    Program { name: Label::cut(name), counts: List::cut(counts) }
}

#[tokio::test]
async fn counters_become_series_and_names_that_nobody_knows_do_not() {
    let stage = Stage::new(&[], silent).await;
    assert_eq!(stage.metric(r#"gnomon_fail_open_total{reason="no_listener"}"#), Some(0), "there before the first");
    let say = |programs: Vec<Program>| {
        let message = ToProxy::Counters { token: 1, programs: List::cut(programs) };
        stage.sensor.end.send(&message, &[], SOON).unwrap();
    };
    say(vec![
        program("gn_connect4", &[("attempted", 5), ("missed", 1), ("fail_open:no_listener", 2), ("a\"b", 9)]),
        program("gn_other", &[("attempted", 5)]),
    ]);
    stage.metric_becomes(r#"gnomon_fail_open_total{reason="no_listener"}"#, 2).await;
    say(vec![program("gn_connect4", &[("attempted", 8), ("fail_open:no_listener", 3)])]);
    stage.metric_becomes(r#"gnomon_fail_open_total{reason="no_listener"}"#, 3).await;
    assert_eq!(stage.metric(r#"gnomon_sensor_events_total{outcome="attempted",program="gn_connect4"}"#), Some(8));
    assert_eq!(stage.metric(r#"gnomon_sensor_events_total{outcome="missed",program="gn_connect4"}"#), Some(1));
    let text = stage.recorder.metrics().render(&gnomon_ledger::LedgerCounts::default());
    assert!(!text.contains("gn_other") && !text.contains("a\\\"b"));
    let features = ["maps", "cap_sys_ptrace", "nonsense"].map(|name| Feature {
        name: Label::cut(name),
        state: FeatureState::Broken,
        reason: Name::default(),
    });
    stage.sensor.end.send(&ToProxy::Features { token: 2, features: List::cut(features) }, &[], SOON).unwrap();
    stage.metric_becomes(r#"gnomon_sensor_feature{feature="maps",state="broken"}"#, 1).await;
    assert_eq!(stage.metric(r#"gnomon_sensor_feature{feature="maps",state="ok"}"#), Some(0));
    assert_eq!(stage.metric(r#"gnomon_sensor_feature{feature="cap_sys_ptrace",state="broken"}"#), Some(1));
    assert_eq!(stage.metric(r#"gnomon_sensor_feature{feature="nonsense",state="broken"}"#), None);
    stage.end().await;
}

#[tokio::test]
async fn what_the_sensor_gives_up_and_has_again_is_an_event_each() {
    let stage = Stage::new(&[], silent).await;
    assert_eq!(stage.metric("gnomon_sensor_reduced_total"), Some(0), "there before the first");
    let say = |state, reason| {
        let feature = Feature { name: Label::cut("gn_hello"), state, reason: Name::cut(reason) };
        stage.sensor.end.send(&ToProxy::Features { token: UNASKED, features: List::cut([feature]) }, &[], SOON).unwrap();
    };
    for (state, reason) in
        [(FeatureState::Ok, ""), (FeatureState::Broken, "too dear"), (FeatureState::Broken, "too dear"), (FeatureState::Ok, "")]
    {
        say(state, reason);
    }
    let start = Instant::now();
    while stage.events().await.len() < 2 {
        assert!(start.elapsed() < SOON);
    }
    let told: Vec<_> = stage.events().await.iter().map(|event| (event["gnomon.health"].clone(), event["message"].clone())).collect();
    let wanted = [("sensor_reduced", "gn_hello: too dear"), ("sensor_whole", "gn_hello: attached again")];
    assert_eq!(told, wanted.map(|(health, message)| (health.into(), message.into())));
    assert_eq!(stage.metric("gnomon_sensor_reduced_total"), Some(1));
    let cost = program(gnomon_link::COST, &[(gnomon_link::COST_KERNEL, 250_000), (gnomon_link::COST_PROCESS, 0)]);
    stage.sensor.end.send(&ToProxy::Counters { token: 1, programs: List::cut([cost]) }, &[], SOON).unwrap();
    let start = Instant::now();
    let page = || stage.recorder.metrics().render(&gnomon_ledger::LedgerCounts::default());
    while !page().lines().any(|line| line == r#"gnomon_sensor_cpu_ratio{part="kernel"} 0.25"#) {
        assert!(start.elapsed() < SOON, "{}", page());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stage.end().await;
}

#[tokio::test]
async fn the_end_of_the_sensor_is_reported_and_another_one_can_be_joined() {
    let mut stage = Stage::new(&[], known()).await;
    assert_eq!(stage.metric("gnomon_sensor_up"), Some(1));
    *stage.owner.lock() = Some(Call::redirected(5).owner());
    stage.sensor.hang_up();
    tokio::time::timeout(SOON, stage.watch.ended()).await.unwrap();
    assert_eq!(stage.metric("gnomon_sensor_up"), Some(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    assert!(stage.watch.owner(&stream).await.is_none());
    stage.sensor = Sensor::join(&stage.watch, known()).await;
    assert_eq!(stage.metric("gnomon_sensor_up"), Some(1));
    assert!(stage.watch.owner(&stream).await.is_some());
    stage.end().await;
}

#[tokio::test]
async fn a_time_without_a_sensor_is_counted_and_told_when_it_begins_and_when_it_is_over() {
    let mut stage = Stage::new(&[], silent).await;
    assert_eq!(stage.metric("gnomon_sensor_absences_total"), Some(0), "the first was not missed");
    stage.sensor.hang_up();
    tokio::time::timeout(SOON, stage.watch.ended()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(stage.metric("gnomon_sensor_absences_total"), Some(1));
    let seconds = || stage.metric_as::<f64>("gnomon_sensor_absent_seconds_total").unwrap();
    let so_far = seconds();
    assert!(so_far >= 0.02 && seconds() > so_far, "counted while it lasts");
    stage.sensor = Sensor::join(&stage.watch, silent).await;
    let seconds = || stage.metric_as::<f64>("gnomon_sensor_absent_seconds_total").unwrap();
    let over = seconds();
    assert!(over > so_far && seconds() <= over, "and no longer than that");
    // On its way out it misses no sensor.
    stage.watch.let_go();
    stage.sensor.hang_up();
    tokio::time::timeout(SOON, stage.watch.ended()).await.unwrap();
    assert_eq!(stage.metric("gnomon_sensor_absences_total"), Some(1));
    let told: Vec<_> = stage.events().await.iter().map(|event| event["gnomon.health"].clone()).collect();
    assert_eq!(told, ["sensor_gone", "sensor_back"]);
    let back = stage.events().await[1]["message"].clone();
    let ms: u128 = back.as_str().and_then(|said| said.split_once("for ")?.1.split_once(" ms")?.0.parse().ok()).unwrap();
    assert!(ms >= 20, "{back}");
    stage.end().await;
}

async fn proxy(stage: &Stage, folder: &std::path::Path) -> Proxy {
    let options = ProxyOptions { listen: "127.0.0.1:0".parse().unwrap(), ..ProxyOptions::default() };
    let (ca, _) = CertificateAuthority::load_or_create(folder).unwrap();
    Proxy::bind(options, stage.watch.inspector(), stage.recorder.clone(), Arc::new(ca)).await.unwrap()
}

#[tokio::test]
async fn listeners_that_the_sensor_opens_are_the_proxys_and_those_that_come_unasked_are_confirmed() {
    let ours = Listener::bind("127.0.0.1:0").unwrap();
    let address = ours.local_addr().unwrap();
    let ours = Mutex::new(Some(ours));
    let script = move |message| match message {
        ToSensor::ListenIn { token, netns_cookie: 0, pid } if pid == std::process::id() => {
            let message = ToProxy::Listeners { token, netns_cookie: 1, port: address.port(), families: Families::V4 };
            vec![(message, vec![ours.lock().take().unwrap().into()])]
        }
        _ => Vec::new(),
    };
    let stage = Stage::new(&[], script).await;
    let folder = tempfile::tempdir().unwrap();
    let proxy = proxy(&stage, folder.path()).await;
    let redirected = proxy.redirected();
    stage.watch.listen_here(&redirected).await.unwrap();
    let proxy = proxy.owners(stage.watch.clone());
    // An owner that is not known on such a listener is turned away: somebody accepted.
    let mut byte = [0; 1];
    let read = async { TcpStream::connect(address).await?.read(&mut byte).await };
    assert!(!matches!(tokio::time::timeout(SOON, read).await.unwrap(), Ok(1)));
    let theirs = Listener::bind("127.0.0.1:0").unwrap();
    let unasked = ToProxy::Listeners { token: UNASKED, netns_cookie: 2, port: 1, families: Families::V4 };
    stage.sensor.end.send(&unasked, &[std::os::fd::AsFd::as_fd(&theirs)], SOON).unwrap();
    let asked = |asked: &ToSensor| *asked == ToSensor::Accepting { netns_cookie: 2 };
    let start = Instant::now();
    while !stage.sensor.asked.try_iter().any(|message| asked(&message)) {
        assert!(start.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(proxy);
    stage.end().await;
}

#[tokio::test]
async fn a_sensor_that_refuses_to_listen_says_why_to_whoever_asked() {
    let script = |message| match message {
        ToSensor::ListenIn { token, .. } => {
            vec![(ToProxy::Refused { token, why: RefusalReason::NotAllowed, detail: Name::cut("not configured") }, Vec::new())]
        }
        _ => Vec::new(),
    };
    let mut stage = Stage::new(&[], script).await;
    let folder = tempfile::tempdir().unwrap();
    let proxy = proxy(&stage, folder.path()).await;
    let answer = stage.watch.listen_here(&proxy.redirected()).await;
    assert!(matches!(answer, Err(WatchError::Refused(why)) if why == "not configured"));
    stage.sensor.hang_up();
    tokio::time::timeout(SOON, stage.watch.ended()).await.unwrap();
    assert!(matches!(stage.watch.listen_here(&proxy.redirected()).await, Err(WatchError::Gone)));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_questions_at_a_time_than_may_be_open_wait_for_their_turn_and_are_all_answered() {
    const AT_ONCE: usize = 1024;
    let (mut held, mut asked) = (Vec::new(), 0);
    let script = move |message| {
        let ToSensor::Scope { token, .. } = message else { return Vec::new() };
        held.push((ToProxy::Done { token }, Vec::new()));
        asked += 1;
        // The first ones are answered once as many are open as may be.
        if asked < AT_ONCE { Vec::new() } else { std::mem::take(&mut held) }
    };
    let stage = Stage::new(&[], script).await;
    let mut asking = tokio::task::JoinSet::new();
    for cgroup in 0..3 * AT_ONCE as u64 {
        let watch = stage.watch.clone();
        asking.spawn(async move { watch.scope(ScopeChange::Remove { cgroup }).await });
    }
    while let Some(answer) = asking.join_next().await {
        answer.unwrap().unwrap();
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_is_told_where_programs_ask_the_proxy_themselves() {
    let options = crate::WatchOptions { explicit_port: 8080, ..crate::WatchOptions::default() };
    let stage = Stage::with(&[], options, silent).await;
    let said = stage.sensor.asked.recv_timeout(SOON);
    assert_eq!(said, Ok(ToSensor::ExplicitPort { port: 8080 }), "before anything else");
    stage.end().await;
}

#[tokio::test]
async fn a_registry_takes_one_watch() {
    let stage = Stage::new(&[], silent).await;
    let (inspector, recorder) = (stage.watch.inspector(), stage.recorder.clone());
    let again = Watch::new(crate::WatchOptions::default(), inspector, recorder.clone(), recorder.metrics().registry());
    assert!(matches!(again, Err(WatchError::Metrics(_))));
    stage.end().await;
}
