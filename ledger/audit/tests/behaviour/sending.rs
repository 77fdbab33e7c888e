//! Checkpoints on their way out.

use crate::stage::{Stage, record, until};
use gnomon_audit::{Audit, AuditOptions, Checkpoint, Sending, Sink, SinkError, SqliteStore};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A receiver that is down for so many attempts.
struct Receiver {
    down: usize,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Sink for Receiver {
    fn name(&self) -> &str {
        "receiver"
    }
    fn send<'a>(&'a mut self, line: &'a str) -> Sending<'a> {
        Box::pin(async move {
            if self.down > 0 {
                self.down -= 1;
                return Err(SinkError("down".to_owned()));
            }
            self.lines.lock().unwrap().push(line.to_owned());
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_receiver_that_is_down_gets_the_checkpoints_later_and_delays_no_record() {
    let stage = Stage::new();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let store = SqliteStore::open(&stage.path("audit.sqlite"), 1 << 30).await.unwrap();
    let receiver = Receiver { down: 1, lines: lines.clone() };
    let options = AuditOptions { checkpoint_every: Duration::from_millis(10), ..AuditOptions::default() };
    let (audit, writer) = Audit::start(Box::new(store), stage.key(), vec![Box::new(receiver)], options).await.unwrap();
    audit.record_durably(record("anna", "x")).await.unwrap();
    until(|| !lines.lock().unwrap().is_empty()).await;
    assert_eq!(audit.counts().send_failures, 1);
    writer.shutdown().await;
    let first = Checkpoint::parse(&lines.lock().unwrap()[0]).unwrap();
    assert_eq!((first.number, first.head.seq), (1, 1));
    assert!(first.is_signed_by(&stage.public()));
}

#[tokio::test]
async fn checkpoints_are_made_while_there_are_records_and_when_it_is_silent() {
    let stage = Stage::new();
    let options =
        AuditOptions { checkpoint_every: Duration::from_millis(10), heartbeat: Duration::from_millis(50), ..AuditOptions::default() };
    let (audit, writer) = stage.open(options).await;
    audit.record_durably(record("anna", "x")).await.unwrap();
    // The record's own, and at least one that says that nothing more happened.
    until(|| audit.counts().checkpoints >= 3).await;
    writer.shutdown().await;
    let checkpoints = stage.checkpoints();
    assert!(checkpoints.len() >= 3 && checkpoints.iter().any(|one| one.head.seq == 1), "{checkpoints:?}");
    let numbers: Vec<u64> = checkpoints.iter().map(|one| one.number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert!(stage.verify().await.is_sound());
}
