use super::*;
use crate::VerdictKind;
use gnomon_observe::Review;
use std::{fs, os::unix::fs::MetadataExt as _};

fn decision(host: &str, state: Review) -> Decision {
    Decision {
        at_ms: 1,
        by: by("ada"),
        server: server(host),
        state,
        owner: Some("team".to_owned()),
        reason: Some("needed".to_owned()),
        until_ms: (state == Review::Approved).then_some(100),
    }
}

fn by(user: &str) -> DecidedBy {
    DecidedBy { user: Some(user.to_owned()), login_uid: Some(1000), uid: 0 }
}

fn server(host: &str) -> ReviewedServer {
    ReviewedServer { host: host.to_owned(), port: 443 }
}

fn write(path: &Path, decisions: &[&Decision]) {
    let lines: Vec<String> = decisions.iter().map(|decision| serde_json::to_string(decision).unwrap() + "\n").collect();
    fs::write(path, lines.concat()).unwrap();
}

async fn states(decided: &Decided) -> Vec<(String, Review)> {
    decided.reviews().await.unwrap().into_iter().map(|decision| (decision.server.host, decision.state)).collect()
}

#[tokio::test]
async fn the_last_decision_stands_and_all_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let decided = Decided::of(dir.path());
    assert!(decided.reviews().await.unwrap().is_empty());
    assert!(!journal_in(dir.path()).exists(), "whoever only reads makes nothing");
    let before = decided.look();
    let (first, second) = (decision("a.example", Review::InReview), decision("a.example", Review::Approved));
    for decision in [&first, &decision("b.example", Review::Denied), &second] {
        decided.review(decision).await.unwrap();
    }
    assert_eq!(states(&decided).await, [("a.example".to_owned(), Review::Approved), ("b.example".to_owned(), Review::Denied)]);
    assert_eq!(decided.reviews_of(&server("a.example")).await.unwrap(), [ReviewEntry::Decided(first), ReviewEntry::Decided(second)]);
    assert!(decided.reviews_of(&server("c.example")).await.unwrap().is_empty());
    assert_eq!(fs::metadata(journal_in(dir.path())).unwrap().mode() & 0o137, 0);
    let after = decided.look();
    assert_ne!(before, after);
    assert_eq!(after, decided.look());
}

#[tokio::test]
async fn a_verdict_stands_beside_its_event() {
    let dir = tempfile::tempdir().unwrap();
    let decided = Decided::of(dir.path());
    let verdict = |event: &str, reason: &str| Verdict {
        event: event.to_owned(),
        kind: VerdictKind::Confirmed,
        owner: "ada".to_owned(),
        reason: reason.to_owned(),
        until: None,
        file: None,
    };
    decided.judge(&verdict("one", "a\nb"), by("ada"), 5).await.unwrap();
    decided.judge(&verdict("two", "other"), by("ada"), 6).await.unwrap();
    assert_eq!(decided.verdicts_on("one").await.unwrap(), [(5, verdict("one", "a\nb"))]);
    // As a gnomon from before the journal wrote them; half a line spoils none.
    let old = br#"{"v":1,"at_ms":7,"event":"one","kind":"benign","owner":"eve","reason":"r","until":null,"file":null}
{"v":1,
"#;
    fs::write(verdicts_in(dir.path()), old).unwrap();
    decided.import().await.unwrap();
    decided.import().await.unwrap();
    let found: Vec<_> = decided.verdicts_on("one").await.unwrap().into_iter().map(|(at_ms, verdict)| (at_ms, verdict.owner)).collect();
    assert_eq!(found, [(5, "ada".to_owned()), (7, "eve".to_owned())]);
    // A file that was begun anew takes back nothing.
    fs::write(verdicts_in(dir.path()), "").unwrap();
    decided.import().await.unwrap();
    assert_eq!(decided.verdicts_on("one").await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_written_by_hand_counts_and_does_not_overrule_who_decides_later() {
    let dir = tempfile::tempdir().unwrap();
    let (decided, file) = (Decided::of(dir.path()), reviews_in(dir.path()));
    let (denied, other) = (decision("a.example", Review::Denied), decision("b.example", Review::Approved));
    write(&file, &[&decision("a.example", Review::InReview), &denied, &other]);
    // By who may not write, or before anybody did.
    assert_eq!(states(&decided).await, [("a.example".to_owned(), Review::Denied), ("b.example".to_owned(), Review::Approved)]);
    assert!(!journal_in(dir.path()).exists());
    decided.import().await.unwrap();
    assert_eq!(decided.reviews_of(&server("a.example")).await.unwrap().len(), 2);
    decided.review(&decision("a.example", Review::Approved)).await.unwrap();
    decided.import().await.unwrap();
    assert_eq!(states(&decided).await[0].1, Review::Approved);
    // Nor by taking its line out.
    write(&file, &[&other]);
    decided.import().await.unwrap();
    assert_eq!(states(&decided).await[0], ("a.example".to_owned(), Review::Approved));
    // What is taken out of the file is withdrawn; a file that is gone withdraws nothing.
    write(&file, &[&denied]);
    decided.import().await.unwrap();
    assert_eq!(states(&decided).await, [("a.example".to_owned(), Review::Approved)]);
    let history = decided.reviews_of(&other.server).await.unwrap();
    assert!(matches!(&history[..], [ReviewEntry::Decided(_), ReviewEntry::Withdrawn(_)]), "{history:?}");
    write(&file, &[&denied, &other]);
    decided.import().await.unwrap();
    fs::remove_file(&file).unwrap();
    decided.import().await.unwrap();
    assert_eq!(states(&decided).await.len(), 2);
}

#[tokio::test]
async fn two_that_import_at_once_take_in_each_line_once() {
    let dir = tempfile::tempdir().unwrap();
    let decided = Decided::of(dir.path());
    write(&reviews_in(dir.path()), &[&decision("a.example", Review::Denied)]);
    let all = (0..8).map(|_| {
        let decided = Decided::of(dir.path());
        tokio::spawn(async move { decided.import().await.unwrap() })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    assert_eq!(decided.reviews_of(&server("a.example")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_line_that_makes_no_sense_is_named_and_not_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (decided, file) = (Decided::of(dir.path()), reviews_in(dir.path()));
    let denied = decision("a.example", Review::Denied);
    decided.review(&denied).await.unwrap();
    write(&file, &[&denied]);
    fs::write(&file, [fs::read(&file).unwrap(), b"{\"at_ms\":1".to_vec()].concat()).unwrap();
    for error in [decided.import().await.unwrap_err(), decided.review(&denied).await.unwrap_err()] {
        assert!(error.to_string().contains("reviews.jsonl:2: not a decision: "), "{error}");
    }
    assert_eq!(states(&decided).await.len(), 1, "what was decided before stays");
}

#[tokio::test]
async fn texts_that_would_write_to_a_terminal_or_fill_the_journal_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for reason in ["a\u{1b}[2J".to_owned(), "x".repeat(MAX_REVIEW_TEXT + 1)] {
        let bad = Decision { reason: Some(reason), ..decision("a.example", Review::Denied) };
        assert!(matches!(Decided::of(dir.path()).review(&bad).await, Err(DecidedError::Text("reason"))));
    }
    assert!(!journal_in(dir.path()).exists());
}

#[tokio::test]
async fn a_link_is_not_followed() {
    for link in [journal_in, reviews_in] {
        let dir = tempfile::tempdir().unwrap();
        let decided = Decided::of(dir.path());
        let target = dir.path().join("elsewhere");
        fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, link(dir.path())).unwrap();
        assert!(decided.review(&decision("a.example", Review::Denied)).await.is_err());
        assert!(decided.reviews().await.is_err() || link(dir.path()) == reviews_in(dir.path()));
        assert_eq!(fs::read_to_string(&target).unwrap(), "");
    }
}

#[tokio::test]
async fn a_line_of_the_cache_that_cannot_be_read_spoils_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let decided = || Decided::shared(dir.path(), Some("postgres://gnomon@/gnomon?host=/nowhere".parse().unwrap()));
    assert!(decided().recalled().unwrap().is_none());
    let line = |host| serde_json::to_vec(&decision(host, Review::Denied)).unwrap();
    fs::write(dir.path().join("decisions.cache"), [line("a.example"), b"{\xff".to_vec(), line("b.example"), b"{".to_vec()].join(&b'\n'))
        .unwrap();
    let recalled = decided().recalled().unwrap().unwrap();
    let hosts: Vec<String> = recalled.reviews.into_iter().map(|decision| decision.server.host).collect();
    assert_eq!((hosts, recalled.unreadable), (vec!["a.example".to_owned(), "b.example".to_owned()], vec![2, 4]));
    assert_eq!(Following::begin(decided()).1.len(), 2);
    assert!(Decided::of(dir.path()).recalled().unwrap().is_none());
}
