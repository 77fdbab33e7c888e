//! Saved snippets of Code Mode in the journal of decisions: bounded, versioned, in force by their digests.

use gnomon_ledger::{Decided, DecidedBy, Following, Snippet, SnippetAudience, SnippetDecision, journal_in};
use gnomon_observe::Review;
use serde_json::json;

fn snippet(owner: &str, name: &str, code: &str) -> Snippet {
    Snippet {
        portal: "main".to_owned(),
        audience: SnippetAudience::Portal,
        name: name.to_owned(),
        version: 0,
        owner: owner.to_owned(),
        description: "d".to_owned(),
        parameters: json!({"type": "object"}),
        code: code.to_owned(),
    }
}

fn decision(digest: &str, state: Review) -> SnippetDecision {
    let by = DecidedBy { user: Some("rita".to_owned()), login_uid: None, uid: 0 };
    SnippetDecision { at_ms: 1, by, digest: digest.to_owned(), state, owner: None, reason: Some("read".to_owned()), until_ms: None }
}

fn names(following: &Following) -> Vec<(String, u32)> {
    following.approved_snippets().iter().map(|kept| (kept.snippet.name.clone(), kept.snippet.version)).collect()
}

#[tokio::test]
async fn versions_are_counted_what_is_said_twice_is_kept_once_and_a_decision_is_about_one() {
    let dir = tempfile::tempdir().unwrap();
    let decided = Decided::of(dir.path());
    let (mut following, _) = Following::begin(Decided::of(dir.path()));
    let first = decided.propose(&snippet("ada", "report", "1")).await.unwrap();
    assert_eq!((first.kept.snippet.version, first.is_known, first.kept.digest.len()), (1, false, 64));
    let again = decided.propose(&snippet("ada", "report", "1")).await.unwrap();
    assert_eq!((again.kept.clone(), again.is_known), (first.kept.clone(), true));
    following.news().await;
    assert!(names(&following).is_empty(), "it waits");
    decided.review_snippet(&decision(&first.kept.digest, Review::Approved)).await.unwrap();
    following.news().await;
    assert_eq!(names(&following), [("report".to_owned(), 1)]);
    // Another version waits, and the one before stays in force.
    let second = decided.propose(&snippet("ada", "report", "2")).await.unwrap();
    following.news().await;
    assert_eq!((second.kept.snippet.version, names(&following)), (2, vec![("report".to_owned(), 1)]));
    decided.review_snippet(&decision(&first.kept.digest, Review::Denied)).await.unwrap();
    following.news().await;
    assert!(names(&following).is_empty());
    assert_eq!(decided.decisions_on_snippet(&first.kept.digest).await.unwrap().len(), 2);
    // What was forgotten is gone, and its numbers are not given again.
    decided.review_snippet(&decision(&second.kept.digest, Review::Approved)).await.unwrap();
    assert_eq!(decided.forget_snippet(("main", "eve"), &SnippetAudience::Portal, "report").await.unwrap(), 0, "it is not hers");
    assert_eq!(decided.forget_snippet(("main", "ada"), &SnippetAudience::Portal, "report").await.unwrap(), 2);
    following.news().await;
    assert!(names(&following).is_empty() && decided.snippets().await.unwrap().0.is_empty());
    assert_eq!(decided.propose(&snippet("ada", "report", "2")).await.unwrap().kept.snippet.version, 3);
}

#[tokio::test]
async fn a_name_is_its_owners_until_a_reviewer_denies_it() {
    let dir = tempfile::tempdir().unwrap();
    let decided = Decided::of(dir.path());
    let first = decided.propose(&snippet("eve", "week-report", "1")).await.unwrap();
    let taken = decided.propose(&snippet("ada", "week.report", "2")).await.unwrap_err().to_string();
    assert_eq!(taken, "`week-report` is taken by a snippet of somebody else: choose another name");
    let own = Snippet { audience: SnippetAudience::Owner, ..snippet("ada", "week-report", "2") };
    assert_eq!(decided.propose(&own).await.unwrap().kept.snippet.version, 1);
    decided.review_snippet(&decision(&first.kept.digest, Review::Denied)).await.unwrap();
    assert_eq!(decided.propose(&snippet("ada", "week.report", "2")).await.unwrap().kept.snippet.version, 2);
}

#[tokio::test]
async fn what_one_owner_keeps_and_saves_in_a_day_is_bounded_and_leaves_room_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let decided = Decided::of(dir.path());
    let mut kept = 0;
    let why = loop {
        match decided.propose(&snippet("eve", &format!("s{kept}"), "1")).await {
            Ok(_) => kept += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(kept == 32 && why.contains("codemode.forget"), "{kept}: {why}");
    decided.propose(&snippet("ada", "mine", "1")).await.unwrap();
    for n in 0..32 {
        decided.forget_snippet(("main", "eve"), &SnippetAudience::Portal, &format!("s{n}")).await.unwrap();
    }
    let mut more = 0;
    let why = loop {
        match decided.propose(&snippet("eve", &format!("t{more}"), "1")).await {
            Ok(_) => more += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(more == 18 && why.contains("today"), "{more}: {why}");
    let long = snippet("ada", "long", &"x".repeat(65 << 10));
    assert!(decided.propose(&long).await.unwrap_err().to_string().starts_with("the code may have at most 65536 bytes: "));
}

#[tokio::test]
async fn code_that_was_changed_in_the_database_runs_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let decided = Decided::of(dir.path());
    let kept = decided.propose(&snippet("ada", "report", "harmless")).await.unwrap().kept;
    decided.review_snippet(&decision(&kept.digest, Review::Approved)).await.unwrap();
    let url = format!("sqlite://{}", journal_in(dir.path()).display());
    let mut conn = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::query("UPDATE decision SET body = replace(body, 'harmless', 'harmful')").execute(&mut conn).await.unwrap();
    let (kept, unreadable) = decided.snippets().await.unwrap();
    assert!(kept.is_empty() && unreadable[0].to_string().contains("SHA-256"), "{unreadable:?}");
    let (mut following, _) = Following::begin(Decided::of(dir.path()));
    following.news().await;
    assert!(names(&following).is_empty());
}

#[tokio::test]
async fn approved_snippets_are_there_after_a_restart_while_the_shared_journal_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let decided = Decided::of(dir.path());
    let kept = decided.propose(&snippet("ada", "report", "1")).await.unwrap().kept;
    decided.review_snippet(&decision(&kept.digest, Review::Approved)).await.unwrap();
    let kept = decided.snippets().await.unwrap().0.remove(0);
    let line = json!({"at_ms": 1, "body": kept.snippet.sealed().0, "decision": kept.decision});
    std::fs::write(dir.path().join("snippets.cache"), format!("{line}\n")).unwrap();
    let away = || Decided::shared(dir.path(), Some("postgres://gnomon@/gnomon?host=/nowhere".parse().unwrap()));
    let (mut following, _) = Following::begin(away());
    following.news().await;
    assert_eq!(names(&following), [("report".to_owned(), 1)]);
    // What somebody changed there is not believed.
    let path = dir.path().join("snippets.cache");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace("report", "repost")).unwrap();
    assert!(names(&Following::begin(away()).0).is_empty());
}
