//! Records and checkpoints as text.

use crate::stage::{Stage, record};
use gnomon_audit::AuditOptions;
use gnomon_audit::{
    Checkpoint, Concealed, MAX_NAMES, MAX_RECORD, MAX_TEXT, NotACheckpoint, RECORD_FIELDS, Record, RecordField, RecordKind, Sort, Status,
    session_digest,
};
use proptest::prelude::*;
use serde_json::Value;
use std::time::{Duration, SystemTime};

#[tokio::test]
async fn a_record_has_flat_names_and_leaves_out_what_is_not_known() {
    let stage = Stage::new();
    let (audit, writer) = stage.open(AuditOptions::default()).await;
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let act = Record {
        kind: RecordKind::Call,
        user_name: Some("anna".into()),
        groups: vec!["finance".into()],
        status: Some(Status::Refused),
        duration_ms: Some(7),
        ..Record::at(at)
    };
    audit.record_durably(act.clone()).await.unwrap();
    writer.shutdown().await;
    let entry = stage.entries().await.remove(0);
    assert_eq!(
        entry.body,
        r#"{"@timestamp":"2023-11-14T22:13:20.123Z","gnomon.audit.kind":"call","user.name":"anna","user.group.names":["finance"],"gnomon.status":"refused","gnomon.duration_ms":7}"#
    );
    assert_eq!(serde_json::from_str::<Record>(&entry.body).unwrap(), act);
    assert_eq!((entry.columns.at_ms, entry.columns.user.as_deref()), (1_700_000_000_123, Some("anna")));
}

#[tokio::test]
async fn a_record_is_bounded_and_says_that_it_was_shortened() {
    let stage = Stage::new();
    let (audit, writer) = stage.open(AuditOptions::default()).await;
    let mut act = record(&"ü".repeat(MAX_TEXT), "x");
    act.arguments = Some(Value::from("a".repeat(MAX_RECORD)));
    act.groups = vec!["\u{1}".repeat(1000).into(); 1000];
    audit.record_durably(act).await.unwrap();
    writer.shutdown().await;
    let body = stage.entries().await.remove(0).body;
    assert!(body.len() <= MAX_RECORD, "{}", body.len());
    let read: Record = serde_json::from_str(&body).unwrap();
    assert_eq!((read.shortened, read.arguments), (Some(true), None));
    assert!(read.user_name.unwrap().ends_with('…'));
    assert!(stage.verify().await.is_sound());
}

const NOON: &str = "2026-11-20T12:00:00.000Z";

/// A record in which every field says as much as it can.
fn talkative(text: &str, names: usize) -> Record {
    let value = |name: &str, sort| match (sort, name) {
        (Sort::Text, "@timestamp") => NOON.into(),
        (Sort::Text, _) => text.into(),
        (Sort::Names, _) => vec![text; names].into(),
        (Sort::Number, _) => u32::MAX.into(),
        (Sort::Word, "gnomon.status") => "unavailable".into(),
        (Sort::Word, _) => "login_refused".into(),
        (Sort::Mark, _) => true.into(),
        (Sort::Json, _) => Value::from(text),
    };
    let fields = RECORD_FIELDS.iter().map(|field| (field.name.to_owned(), value(field.name, field.sort)));
    serde_json::from_value(Value::Object(fields.collect())).unwrap()
}

#[tokio::test]
async fn no_field_of_a_record_escapes_its_bounds() {
    let stage = Stage::new();
    let (audit, writer) = stage.open(AuditOptions::default()).await;
    // One character more than a text may have, where all texts at that length fit a record; and each as long as can be, all escaped.
    let long = |times: usize| "a".repeat(times);
    for field in RECORD_FIELDS.iter().filter(|field| matches!(field.sort, Sort::Text | Sort::Names) && field.name != "@timestamp") {
        let said = if field.sort == Sort::Text { Value::from(long(MAX_TEXT + 1)) } else { vec![long(MAX_TEXT); MAX_NAMES + 1].into() };
        audit.record_durably(serde_json::from_value(serde_json::json!({ "@timestamp": NOON, field.name: said })).unwrap()).await.unwrap();
    }
    audit.record_durably(talkative(&"\u{1}".repeat(MAX_RECORD), 1000)).await.unwrap();
    writer.shutdown().await;
    for entry in stage.entries().await {
        assert!(entry.body.len() <= MAX_RECORD, "{} bytes: {:.200}", entry.body.len(), entry.body);
        let body: Value = serde_json::from_str(&entry.body).unwrap();
        assert_eq!(body["gnomon.audit.shortened"], true, "{:.200}", entry.body);
        for text in body.as_object().unwrap().values().filter_map(Value::as_str) {
            assert!(text.len() <= MAX_TEXT, "{text:.100}");
        }
    }
}

/// Addresses with the secret at every place that is one.
fn addresses(secret: &str) -> [String; 9] {
    [
        format!("sec+https://usr:{secret}@h/x"),
        format!("https://{secret}@h"),
        format!("//usr:{secret}@h/x?id=1"),
        format!("https://h/x?token={secret}"),
        format!("https://h/x?id=1&%61pi_key={secret}#top"),
        format!("https://h/x#access_token={secret}"),
        format!("https://h/x;password={secret}?id=1"),
        format!("nosuch+https://usr:{secret}@h/?api_key={secret};secret={secret}"),
        format!("x://h?a=1;token={secret}"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_text_of_a_request_brings_the_secrets_of_an_address_into_a_record(secret in "[A-Za-z0-9]{12,24}") {
        let bodies = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let stage = Stage::new();
            let (audit, writer) = stage.open(AuditOptions::default()).await;
            for address in addresses(&secret) {
                let said = |field: &RecordField| match field.sort {
                    Sort::Names => serde_json::json!([address]),
                    _ => serde_json::json!(address),
                };
                let mut record = serde_json::json!({ "@timestamp": NOON });
                for field in RECORD_FIELDS.iter().filter(|field| field.concealed == Concealed::Address) {
                    record[field.name] = said(field);
                }
                let _ = audit.record(serde_json::from_value(record).unwrap());
            }
            writer.shutdown().await;
            stage.entries().await.into_iter().map(|entry| entry.body).collect::<Vec<_>>()
        });
        prop_assert_eq!(bodies.len(), 9);
        for body in bodies {
            prop_assert!(!body.contains(&secret) && body.contains("***"), "{}", body);
        }
    }
}

#[test]
fn what_clients_and_servers_say_is_marked_as_what_may_be_an_address() {
    let marked = |name: &str| RECORD_FIELDS.iter().find(|field| field.name == name).map(|field| field.concealed);
    for name in ["mcp.client.name", "url.full", "gen_ai.tool.name", "mcp.resource.uri", "mcp.task.id", "error.type", "message"] {
        assert_eq!(marked(name), Some(Concealed::Address), "{name}");
    }
    let json = RECORD_FIELDS.iter().filter(|field| field.sort == Sort::Json);
    assert!(json.clone().count() == 2 && json.into_iter().all(|field| field.concealed == Concealed::Redacted));
}

#[test]
fn a_session_is_named_by_a_value_that_cannot_be_used_as_its_id() {
    let digest = session_digest("secret-session");
    assert_eq!(digest.len(), 24);
    assert!(!digest.contains("secret") && digest != session_digest("other"));
}

#[tokio::test]
async fn a_checkpoint_is_read_as_it_was_written_also_behind_a_syslog_header() {
    let stage = Stage::new();
    stage.play(1, 1).await;
    let checkpoint = stage.checkpoints().remove(0);
    let line = checkpoint.line();
    assert_eq!(Checkpoint::parse(&line), Ok(checkpoint.clone()));
    assert_eq!(Checkpoint::parse(&format!("<134>1 2026-01-01T00:00:00Z host gnomon - - - {line}\n")), Ok(checkpoint));
    for bad in ["", "{}", "{\"gnomon.audit.chain\":1}", "nothing", &line[..line.len() - 3]] {
        assert_eq!(Checkpoint::parse(bad), Err(NotACheckpoint), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_line_is_read_or_refused(line in "\\PC{0,200}") {
        let _ = Checkpoint::parse(&line);
        let _ = Checkpoint::parse(&format!("{{\"gnomon.audit.chain\":\"{line}\",\"gnomon.audit.head\":\"ü\"}}"));
    }
}
