//! Any text is kept as it is, in the order that other engines have, or refused as a whole.

use crate::stage::{Database, entry};
use gnomon_ledger_model::{DecisionEntry, Decisions as _, Origin, Topic};
use gnomon_ledger_postgres::PostgresDecisions;

#[tokio::test]
async fn a_nul_is_refused_wherever_it_is_and_nothing_is_kept() {
    let Some(database) = Database::new().await else { return };
    let mut decisions = PostgresDecisions::open(database.url()).await.unwrap();
    let nul = || Some("a\0b".to_owned());
    let of = |source: &str, digest: &str| Some(Origin { source: source.to_owned(), digest: digest.to_owned() });
    let sound = || entry("a", "1");
    for (column, bad) in [
        ("subject", entry("a\0", "1")),
        ("body", entry("a", "\0")),
        ("reason", DecisionEntry { reason: nul(), ..sound() }),
        ("user", DecisionEntry { by: gnomon_ledger_model::DecidedBy { user: nul(), ..sound().by }, ..sound() }),
        ("source", DecisionEntry { origin: of("\0", "1"), ..sound() }),
        ("digest", DecisionEntry { origin: of("1", "\0"), ..sound() }),
    ] {
        let error = decisions.put(&[sound(), bad]).await.unwrap_err().to_string();
        assert!(error.contains("NUL") && error.contains(&format!("the {column} of a decision")), "{error}");
    }
    assert_eq!(decisions.newest().await.unwrap(), 0);
    assert_eq!(decisions.about(Topic::Review, "a\0").await.unwrap(), []);
    assert_eq!(decisions.imported("\0").await.unwrap(), []);
    assert_eq!(decisions.put(&[sound()]).await.unwrap(), 1);
}

#[tokio::test]
async fn subjects_are_in_the_order_of_their_bytes_whatever_the_language_of_the_database() {
    let Some(mut database) = Database::new().await else { return };
    // Servers before PostgreSQL 15 have one language for all, here none.
    if let Ok(name) = database.server.database("LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0").await {
        database.name = name;
    }
    let mut decisions = PostgresDecisions::open(database.url()).await.unwrap();
    let subjects = ["ä:1", "a:1", "Z:1", "a-b:1", "ab:1", "", "a\u{301}:1", "\u{e1}:1"];
    decisions.put(&subjects.map(|subject| entry(subject, "1"))).await.unwrap();
    let mut sorted = subjects;
    sorted.sort_unstable();
    let found = decisions.standing(Topic::Review).await.unwrap();
    assert_eq!(found.iter().map(|kept| kept.entry.subject.as_str()).collect::<Vec<_>>(), sorted);
}

#[tokio::test]
async fn long_texts_and_many_entries_are_kept() {
    let Some(database) = Database::new().await else { return };
    let mut decisions = PostgresDecisions::open(database.url()).await.unwrap();
    // No index takes so much, and it does not get smaller by compression.
    let mut number = 1u32;
    let noise: String = std::iter::repeat_with(|| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from_u32(0x4e00 + (number >> 19)).unwrap()
    })
    .take(20_000)
    .collect();
    let long = DecisionEntry { origin: Some(Origin { source: noise.clone(), digest: "1".to_owned() }), ..entry(&noise, &noise) };
    let other = entry(&format!("{noise}x"), "1");
    decisions.put(&[long.clone(), other]).await.unwrap();
    let about = decisions.about(Topic::Review, &noise).await.unwrap();
    assert_eq!(about.into_iter().map(|kept| kept.entry).collect::<Vec<_>>(), [long]);
    assert_eq!(decisions.imported(&noise).await.unwrap().len(), 1);
    // More than a statement has parameters.
    let many: Vec<_> = (0..20_000).map(|n| entry(&n.to_string(), "1")).collect();
    assert_eq!(decisions.put(&many).await.unwrap(), 20_002);
    assert_eq!(decisions.after(20_000, 10).await.unwrap().len(), 2);
    assert_eq!(decisions.standing(Topic::Review).await.unwrap().len(), 20_002);
}

#[tokio::test]
async fn sql_in_a_text_is_a_text() {
    let Some(database) = Database::new().await else { return };
    let mut decisions = PostgresDecisions::open(database.url()).await.unwrap();
    let hostile = ["'; DROP SCHEMA gnomon CASCADE; --", "$1", "\\", "{\"a\",NULL}", "NULL", "%", "\u{202e}\u{feff}\n\r\t"];
    decisions.put(&hostile.map(|text| entry(text, text))).await.unwrap();
    for text in hostile {
        let found = decisions.about(Topic::Review, text).await.unwrap();
        assert_eq!(found.into_iter().map(|kept| kept.entry).collect::<Vec<_>>(), [entry(text, text)]);
    }
}

#[tokio::test]
async fn a_number_is_not_used_again_after_entries_were_removed_by_hand() {
    let Some(database) = Database::new().await else { return };
    let mut decisions = PostgresDecisions::open(database.url()).await.unwrap();
    decisions.put(&[entry("a", "1"), entry("a", "2")]).await.unwrap();
    database.run("DELETE FROM gnomon.decision WHERE number = 2").await;
    assert_eq!(decisions.put(&[entry("a", "3")]).await.unwrap(), 3);
    // Nor taken by one that was put by hand.
    database.run("INSERT INTO gnomon.decision SELECT 7, topic, subject, at_ms FROM gnomon.decision WHERE false").await;
    database.run("INSERT INTO gnomon.decision (number, topic, subject, at_ms, uid) VALUES (7, 'review', 'a', 1, 0)").await;
    assert_eq!(decisions.put(&[entry("a", "4")]).await.unwrap(), 8);
}
