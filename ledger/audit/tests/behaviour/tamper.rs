//! Each way to tamper with records, and what verifying says of it.

use crate::stage::Stage;
use gnomon_audit::{Expect, Finding, Head};

#[tokio::test]
async fn an_unchanged_audit_verifies() {
    let stage = Stage::new();
    stage.play(3, 5).await;
    let report = stage.verify().await;
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.records, report.range, report.unconfirmed), (15, Some((1, 15)), 0));
    assert_eq!(report.confirmed.as_ref().unwrap().0, 15);
    assert!(report.to_string().ends_with("sound") && report.to_string().contains("15 records, 1 to 15"), "{report}");
}

#[tokio::test]
async fn a_changed_record_is_found() {
    let stage = Stage::new();
    stage.play(2, 5).await;
    stage.attack("DROP TRIGGER record_stays; UPDATE record SET body = replace(body, 'anna', 'bert'), user = 'bert' WHERE seq = 4").await;
    assert_eq!(stage.verify().await.findings, [Finding::Changed { seq: 4 }]);
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_a_record() {
    let stage = Stage::new();
    stage.play(1, 2).await;
    let refused = sqlx::query("UPDATE record SET user = 'bert'").execute(&mut stage.database().await).await;
    assert!(refused.unwrap_err().to_string().contains("never changed"));
}

#[tokio::test]
async fn a_column_that_says_something_else_is_found() {
    let stage = Stage::new();
    stage.play(1, 5).await;
    stage.attack("DROP TRIGGER record_stays; UPDATE record SET user = 'bert' WHERE seq = 3").await;
    assert_eq!(stage.verify().await.findings, [Finding::Column { seq: 3 }]);
}

#[tokio::test]
async fn removed_records_are_found() {
    let stage = Stage::new();
    stage.play(2, 5).await;
    stage.attack("DELETE FROM record WHERE seq IN (3, 4)").await;
    assert_eq!(stage.verify().await.findings, [Finding::Missing { seqs: 3..=4 }]);
    stage.attack("DELETE FROM record WHERE seq <= 2").await;
    assert_eq!(stage.verify().await.findings, [Finding::Missing { seqs: 1..=4 }]);
}

#[tokio::test]
async fn records_that_changed_places_are_found() {
    let stage = Stage::new();
    stage.play(1, 6).await;
    stage
        .attack("DROP TRIGGER record_stays; UPDATE record SET seq = 100 WHERE seq = 2; UPDATE record SET seq = 2 WHERE seq = 3; UPDATE record SET seq = 3 WHERE seq = 100")
        .await;
    let findings = stage.verify().await.findings;
    assert!(findings.contains(&Finding::Changed { seq: 2 }) && findings.contains(&Finding::Changed { seq: 3 }), "{findings:?}");
}

#[tokio::test]
async fn a_tail_that_was_cut_off_is_found() {
    let stage = Stage::new();
    stage.play(2, 5).await;
    stage.attack("DELETE FROM record WHERE seq > 7").await;
    assert_eq!(stage.verify().await.findings, [Finding::Truncated { last: 7, checkpoint: 10 }]);
    stage.attack("DELETE FROM record").await;
    assert_eq!(stage.verify().await.findings, [Finding::Truncated { last: 0, checkpoint: 10 }]);
}

#[tokio::test]
async fn a_chain_that_was_rewritten_consistently_is_found_by_the_checkpoints_that_left() {
    let stage = Stage::new();
    stage.play(3, 5).await;
    let entries = stage.entries().await;
    let bodies: Vec<String> = entries[6..].iter().map(|entry| entry.body.replace("tool-1", "tool-9")).collect();
    stage.rewrite(entries[5].head, &bodies).await;
    let findings = stage.verify().await.findings;
    assert_eq!(findings, [Finding::Rewritten { seqs: 6..=10 }, Finding::Rewritten { seqs: 6..=15 }]);
    // Whoever has only what stands beside it sees no mistake in the chain, and is told that nobody vouches for it.
    let alone = stage.verify_with(&[], Expect::default()).await;
    assert_eq!(alone.findings, [Finding::NoCheckpoint]);
    let said = alone.to_string();
    assert!(alone.is_unproven() && said.contains("UNPROVEN: no checkpoint") && said.ends_with("chained, and not proven"), "{said}");
}

#[tokio::test]
async fn a_database_that_took_the_place_of_another_is_found() {
    let stage = Stage::new();
    stage.play(1, 5).await;
    let away = stage.checkpoints();
    for name in ["audit.sqlite", "audit.sqlite-wal", "audit.sqlite-shm"] {
        let _ = std::fs::remove_file(stage.path(name));
    }
    // With the very same key.
    stage.play(1, 5).await;
    let report = stage.verify_with(&away, Expect::default()).await;
    assert_eq!(report.findings, [Finding::OtherChain { number: 1 }, Finding::NoCheckpoint]);
    assert!(!report.is_unproven() && report.to_string().ends_with("not sound"), "{report}");
}

#[tokio::test]
async fn checkpoints_that_somebody_else_made_prove_nothing() {
    let (stage, other) = (Stage::new(), Stage::new());
    stage.play(1, 5).await;
    other.play(1, 5).await;
    let report = stage.verify_with(&other.checkpoints(), Expect::default()).await;
    assert_eq!(report.findings, [Finding::Forged { number: 1 }, Finding::NoCheckpoint]);
    let mut moved = stage.checkpoints();
    moved[0].head = Head { seq: 4, ..moved[0].head };
    assert_eq!(stage.verify_with(&moved, Expect::default()).await.findings, [Finding::Forged { number: 1 }, Finding::NoCheckpoint]);
}

#[tokio::test]
async fn a_key_that_is_used_twice_for_one_number_is_found() {
    let stage = Stage::new();
    stage.play(1, 3).await;
    let copy = stage.path("copy.sqlite");
    std::fs::copy(stage.path("audit.sqlite"), &copy).unwrap();
    stage.play(1, 2).await;
    let mut all = stage.checkpoints();
    // The copy goes on, elsewhere, with the same key.
    std::fs::rename(&copy, stage.path("audit.sqlite")).unwrap();
    for name in ["audit.sqlite-wal", "audit.sqlite-shm"] {
        let _ = std::fs::remove_file(stage.path(name));
    }
    stage.play(1, 2).await;
    all = stage.checkpoints().into_iter().chain(all).collect();
    let findings = stage.verify_with(&all, Expect::default()).await.findings;
    assert!(findings.contains(&Finding::Forked { number: 2 }), "{findings:?}");
}

#[tokio::test]
async fn checkpoints_given_twice_or_with_some_missing_are_no_finding() {
    let stage = Stage::new();
    stage.play(4, 2).await;
    let mut checkpoints = stage.checkpoints();
    checkpoints.remove(1);
    checkpoints.extend(stage.checkpoints().pop());
    let report = stage.verify_with(&checkpoints, Expect::default()).await;
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.missing_checkpoints, 1);
}

#[tokio::test]
async fn records_after_the_last_checkpoint_are_called_unconfirmed() {
    let stage = Stage::new();
    stage.play(1, 3).await;
    let away = stage.checkpoints();
    stage.play(1, 4).await;
    let report = stage.verify_with(&away, Expect::default()).await;
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.confirmed.unwrap().0, report.unconfirmed), (3, 4));
}

#[tokio::test]
async fn records_that_the_chain_does_not_cover_are_unsound() {
    let stage = Stage::new();
    stage.play(2, 5).await;
    stage
        .attack(
            "INSERT INTO record SELECT 0, hash, at_ms, kind, 'eve', server, body FROM record WHERE seq = 4;
             INSERT INTO record SELECT -5, hash, at_ms, kind, 'eve', server, body FROM record WHERE seq = 4",
        )
        .await;
    let report = stage.verify().await;
    assert_eq!(report.findings, [Finding::Uncovered { records: 2, upto: 0 }]);
    assert!(!report.is_sound(), "{report}");
    stage.attack("DELETE FROM record WHERE seq < 1").await;
    // Altered ones, behind an anchor that a checkpoint knows.
    stage
        .attack(
            "DROP TRIGGER record_stays; UPDATE record SET body = replace(body, 'anna', 'bert'), user = 'bert' WHERE seq <= 5;
             UPDATE chain SET anchor_seq = 5, anchor_hash = (SELECT hash FROM record WHERE seq = 5)",
        )
        .await;
    assert_eq!(stage.verify().await.findings, [Finding::Uncovered { records: 5, upto: 5 }]);
}
