use super::*;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::PrivateKeyDer;
use std::{fs, sync::Arc};
use tokio_rustls::TlsAcceptor;

const TOOL: &str = "gen_ai.tool.name";
const DELIVERED: &str = r#"gnomon_export_events_total{outcome="delivered",sink="otlp"}"#;
const REJECTED: &str = r#"gnomon_export_events_total{outcome="rejected",sink="otlp"}"#;
const LOST: &str = r#"gnomon_export_lost_total{sink="otlp"}"#;
const FAILURES: &str = r#"gnomon_export_failures_total{sink="otlp"}"#;
const LAG: &str = r#"gnomon_export_lag_events{sink="otlp"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_in_order_once_and_go_on_where_they_stopped() {
    let host = Host::new().await;
    let collector = Collector::start(|_, _| Answer::Accept).await;
    host.record(numbered(0..300)).await;
    let export = host.export(&collector.url());
    until("300 events", || host.metric(DELIVERED) == 300).await;
    export.stop().await;
    host.record(numbered(300..310)).await;
    let export = host.export(&collector.url());
    until("310 events", || host.metric(DELIVERED) == 310).await;
    export.stop().await;
    assert_eq!(collector.seen.lock().unwrap().texts(TOOL), numbered(0..310).collect::<Vec<_>>());
    assert_eq!((host.metric(LAG), host.metric(LOST), host.metric(REJECTED), host.metric(FAILURES)), (0, 0, 0, 0));
    assert!(host.metric(r#"gnomon_export_last_success_timestamp_seconds{sink="otlp"}"#) > 0);
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_last_is_sent_before_the_end() {
    let host = Host::new().await;
    let collector = Collector::start(|_, _| Answer::Accept).await;
    let export = host.export(&collector.url());
    host.record(numbered(0..5)).await;
    export.stop().await;
    assert_eq!(collector.seen.lock().unwrap().texts(TOOL).len(), 5);
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_makes_duplicates_that_are_known_by_their_event_id() {
    let host = Host::new().await;
    let collector = Collector::start(|number, _| if number == 0 { Answer::Cut } else { Answer::Accept }).await;
    host.record(numbered(0..20)).await;
    let export = host.export(&collector.url());
    until("20 events", || host.metric(DELIVERED) == 20).await;
    export.stop().await;
    let ids = collector.seen.lock().unwrap().texts("event.id");
    assert_eq!((ids.len(), distinct(&ids)), (40, 20));
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_busy_or_something_else_costs_nothing_but_time() {
    let host = Host::new().await;
    let collector = Collector::start(|number, _| match number {
        0 => Answer::Status(503, 1),
        1 => Answer::Status(401, 0),
        2 => Answer::Page,
        _ => Answer::Accept,
    })
    .await;
    host.record(numbered(0..3)).await;
    let away = host.export("http://127.0.0.1:1");
    until("a failure", || host.metric(FAILURES) > 0).await;
    away.stop().await;
    assert_eq!(host.metric(LAG), 3);
    let export = host.export(&collector.url());
    until("3 events", || host.metric(DELIVERED) == 3).await;
    export.stop().await;
    // What came with a page for people was not taken for delivered.
    assert_eq!(collector.seen.lock().unwrap().texts(TOOL), numbered(0..3).collect::<Vec<_>>());
    assert_eq!((host.metric(LOST), host.metric(REJECTED)), (0, 0));
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_event_is_found_counted_and_passed_and_the_others_arrive() {
    let host = Host::new().await;
    let collector = Collector::start(|_, batch| if holds_poison(batch) { Answer::Status(400, 0) } else { Answer::Accept }).await;
    // First of all, in the middle, and two of them together.
    let tools = ["poison-1", "a", "b", "poison-2", "poison-3", "c"].map(str::to_owned);
    host.record(tools).await;
    let export = host.export(&collector.url());
    until("all passed", || host.metric(DELIVERED) + host.metric(REJECTED) == 6).await;
    export.stop().await;
    assert_eq!(collector.seen.lock().unwrap().texts(TOOL), ["a", "b", "c"]);
    assert_eq!(host.metric(REJECTED), 3);
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_refuses_everything_is_at_fault_itself() {
    let host = Host::new().await;
    let collector = Collector::start(|_, _| Answer::Status(400, 0)).await;
    host.record(numbered(0..3)).await;
    let export = host.export(&collector.url());
    until("a failure", || host.metric(FAILURES) > 0).await;
    export.stop().await;
    assert_eq!((host.metric(REJECTED), host.metric(LAG)), (0, 3));
    assert!(!host.dir.path().join("export-otlp.cursor").exists());
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_rejects_of_a_batch_is_counted_and_not_sent_again() {
    let host = Host::new().await;
    let collector = Collector::start(|_, _| Answer::Partly(2)).await;
    host.record(numbered(0..5)).await;
    let export = host.export(&collector.url());
    until("5 events", || host.metric(DELIVERED) == 3 && host.metric(REJECTED) == 2).await;
    export.stop().await;
    assert_eq!(collector.seen.lock().unwrap().requests, 1);
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    let host = Host::new().await;
    let collector = Collector::start(|_, _| Answer::Silence).await;
    host.record(numbered(0..1)).await;
    let export = host.export(&collector.url());
    until("a request", || collector.seen.lock().unwrap().requests > 0).await;
    tokio::time::timeout(Duration::from_secs(30), export.stop()).await.expect("the end");
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_retention_removed_are_counted_as_lost() {
    let host = Host::new().await;
    let collector = Collector::start(|_, _| Answer::Accept).await;
    host.record(numbered(0..10)).await;
    // As after an outage in which events 4 to 9 went.
    let ids = || collector.seen.lock().unwrap().texts("event.id");
    let export = host.export(&collector.url());
    until("10 events", || ids().len() == 10).await;
    export.stop().await;
    fs::write(host.dir.path().join("export-otlp.cursor"), format!("3 {}\n", ids()[2])).unwrap();
    let old = host.dir.path().join("ledger.sqlite");
    remove(&old, "seq BETWEEN 4 AND 9").await;
    let export = host.export(&collector.url());
    until("the last event again", || ids().len() == 11).await;
    export.stop().await;
    assert_eq!(host.metric(LOST), 6);
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_made_anew_is_sent_from_its_beginning() {
    let collector = Collector::start(|_, _| Answer::Accept).await;
    for cursor in ["900 019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b11\n", "2 019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b11\n"] {
        let host = Host::new().await;
        fs::write(host.dir.path().join("export-otlp.cursor"), cursor).unwrap();
        host.record(numbered(0..4)).await;
        let export = host.export(&collector.url());
        until("4 events", || host.metric(DELIVERED) == 4).await;
        export.stop().await;
        assert_eq!(host.metric(LOST), 0, "{cursor}");
        host.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_and_headers_arrive() {
    let (acceptor, root) = tls();
    let collector = Collector::with_tls(acceptor).await;
    let host = Host::new().await;
    host.record(numbered(0..1)).await;
    let url = format!("https://localhost:{}", collector.address.port());
    let stranger = host.export(&url);
    until("a failure", || host.metric(FAILURES) > 0).await;
    stranger.stop().await;
    assert_eq!(collector.seen.lock().unwrap().requests, 0);
    let ca = host.dir.path().join("ca.pem");
    fs::write(&ca, root).unwrap();
    let headers = vec![("Authorization".to_owned(), "Bearer secret".to_owned())];
    let export = host.export_with(&url, headers, vec![ca]);
    until("the event", || host.metric(DELIVERED) == 1).await;
    export.stop().await;
    assert_eq!(collector.seen.lock().unwrap().authorization, [Some("Bearer secret".to_owned())]);
    host.close().await;
}

/// A server's TLS for `localhost`, and the certificate to trust for it, PEM.
pub fn tls() -> (TlsAcceptor, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap())
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert.pem())
}

/// Removes events as retention would, from outside.
async fn remove(ledger: &std::path::Path, which: &str) {
    use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
    let mut database = SqliteConnection::connect(&format!("sqlite://{}", ledger.display())).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("DELETE FROM event WHERE {which}"))).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}
