//! The journal of decisions: kept in order, seen in order by all, imported once.

use gnomon_ledger_model::{
    DecidedBy, DecisionEntry, Decisions, ForgottenSnippet, KeptEntry, Snippet, SnippetAudience, SnippetDecision, SnippetEntry, Topic,
    import,
};
use gnomon_observe::Review;
use std::future::Future;

/// A journal in some database, empty at first and no other test's.
pub trait Journal {
    /// Opens it once more; several are open at a time.
    fn decisions(&self) -> impl Future<Output = Box<dyn Decisions>>;
}

fn by(user: &str) -> DecidedBy {
    DecidedBy { user: Some(user.to_owned()), login_uid: Some(1000), uid: 0 }
}

fn entry(topic: Topic, subject: &str, body: Option<&str>) -> DecisionEntry {
    let (subject, body) = (subject.to_owned(), body.map(str::to_owned));
    DecisionEntry { topic, subject, at_ms: 7, by: by("ada"), reason: Some("it's \"quoted\" ünïcode".to_owned()), body, origin: None }
}

fn numbers(kept: &[KeptEntry]) -> Vec<i64> {
    kept.iter().map(|kept| kept.number).collect()
}

fn bodies(kept: &[KeptEntry]) -> Vec<(&str, Option<&str>)> {
    kept.iter().map(|kept| (kept.entry.subject.as_str(), kept.entry.body.as_deref())).collect()
}

/// All that an entry says, and none of it changed by what is put later.
pub async fn entries_are_kept_as_they_were_put(journal: &impl Journal) {
    let mut decisions = journal.decisions().await;
    assert_eq!((decisions.newest().await.unwrap(), decisions.after(0, 10).await.unwrap()), (0, vec![]));
    let nobody =
        DecisionEntry { by: DecidedBy { user: None, login_uid: None, uid: u32::MAX }, reason: None, ..entry(Topic::Verdict, "e", None) };
    let put = [entry(Topic::Review, "a:443", Some("one")), nobody, entry(Topic::Exception, "a:443", Some("three"))];
    assert_eq!(decisions.put(&put).await.unwrap(), 3);
    assert_eq!(decisions.put(&[]).await.unwrap(), 3);
    decisions.close().await.unwrap();
    let mut decisions = journal.decisions().await;
    assert_eq!(decisions.put(&[entry(Topic::Review, "a:443", Some("two"))]).await.unwrap(), 4);
    let found = decisions.after(0, 10).await.unwrap();
    assert_eq!(numbers(&found), [1, 2, 3, 4]);
    assert_eq!(found.into_iter().take(3).map(|kept| kept.entry).collect::<Vec<_>>(), put);
    assert_eq!(numbers(&decisions.after(1, 2).await.unwrap()), [2, 3]);
    assert_eq!(numbers(&decisions.about(Topic::Review, "a:443").await.unwrap()), [1, 4]);
}

/// The newest by number, whatever the clocks say.
pub async fn the_newest_entry_of_a_subject_stands_until_it_is_withdrawn(journal: &impl Journal) {
    let mut decisions = journal.decisions().await;
    let late = DecisionEntry { at_ms: 1_000, ..entry(Topic::Review, "b:443", Some("allow")) };
    decisions.put(&[late, entry(Topic::Review, "a:443", Some("deny")), entry(Topic::Exception, "c", Some("x"))]).await.unwrap();
    decisions.put(&[entry(Topic::Review, "b:443", Some("deny"))]).await.unwrap();
    assert_eq!(bodies(&decisions.standing(Topic::Review).await.unwrap()), [("a:443", Some("deny")), ("b:443", Some("deny"))]);
    decisions.put(&[entry(Topic::Review, "b:443", None)]).await.unwrap();
    assert_eq!(bodies(&decisions.standing(Topic::Review).await.unwrap()), [("a:443", Some("deny"))]);
    assert_eq!(decisions.about(Topic::Review, "b:443").await.unwrap().len(), 3);
    decisions.put(&[entry(Topic::Review, "b:443", Some("allow"))]).await.unwrap();
    assert_eq!(decisions.standing(Topic::Review).await.unwrap().len(), 2);
    assert_eq!(bodies(&decisions.standing(Topic::Exception).await.unwrap()), [("c", Some("x"))]);
}

/// Two put at once, a third follows by numbers: it sees all, each once, in order.
pub async fn whoever_follows_misses_nothing_of_many_writers(journal: &impl Journal) {
    let (mut one, mut two, mut follower) = (journal.decisions().await, journal.decisions().await, journal.decisions().await);
    let mut seen = Vec::new();
    let follow = async |follower: &mut Box<dyn Decisions>, seen: &mut Vec<i64>| {
        let found = follower.after(seen.last().copied().unwrap_or(0), 1_000).await.unwrap();
        let newest = follower.newest().await.unwrap();
        seen.extend(numbers(&found));
        assert!(newest >= seen.last().copied().unwrap_or(0));
    };
    for n in 0..50 {
        let subject = n.to_string();
        let (first, second) = ([entry(Topic::Verdict, &subject, Some("1"))], vec![entry(Topic::Verdict, &subject, Some("2")); 3]);
        let (first, second, ()) = join(one.put(&first), two.put(&second), follow(&mut follower, &mut seen)).await;
        assert_ne!(first.unwrap(), second.unwrap());
        follow(&mut follower, &mut seen).await;
    }
    assert_eq!(seen, (1..=200).collect::<Vec<_>>());
}

/// All three, by turns, without a runtime of their own.
async fn join<A, B, C>(a: impl Future<Output = A>, b: impl Future<Output = B>, c: impl Future<Output = C>) -> (A, B, C) {
    use std::{pin::pin, task::Poll};
    let (mut a, mut b, mut c) = (pin!(a), pin!(b), pin!(c));
    let (mut of_a, mut of_b, mut of_c) = (None, None, None);
    std::future::poll_fn(move |context| {
        if of_a.is_none()
            && let Poll::Ready(done) = a.as_mut().poll(context)
        {
            of_a = Some(done);
        }
        if of_b.is_none()
            && let Poll::Ready(done) = b.as_mut().poll(context)
        {
            of_b = Some(done);
        }
        if of_c.is_none()
            && let Poll::Ready(done) = c.as_mut().poll(context)
        {
            of_c = Some(done);
        }
        if of_a.is_none() || of_b.is_none() || of_c.is_none() {
            return Poll::Pending;
        }
        of_a.take().zip(of_b.take()).zip(of_c.take()).map_or(Poll::Pending, |((a, b), c)| Poll::Ready((a, b, c)))
    })
    .await
}

/// A file that did not change says nothing new; one that did says what changed.
pub async fn a_file_is_imported_once_and_again_where_it_changed(journal: &impl Journal) {
    let mut decisions = journal.decisions().await;
    let line = |digest: &str, subject: &str, body: &str| (digest.to_owned(), entry(Topic::Review, subject, Some(body)));
    let first = [line("1", "a:443", "deny"), line("2", "a:443", "allow"), line("3", "b:443", "deny")];
    let mut read =
        async |lines: &[(String, DecisionEntry)]| import(&mut *decisions, "reviews", lines.to_vec(), &by("gnomon"), 9).await.unwrap();
    assert_eq!(read(&first).await, 3);
    assert_eq!(read(&first).await, 0, "nothing changed");
    // An older line that was mended changes nothing that stands; the last one does, and so does one that is gone.
    assert_eq!(read(&[line("4", "a:443", "deny"), line("2", "a:443", "allow"), line("3", "b:443", "deny")]).await, 0);
    assert_eq!(read(&[line("2", "a:443", "allow"), line("5", "a:443", "review")]).await, 2);
    assert_eq!(read(&[line("2", "a:443", "allow"), line("5", "a:443", "review")]).await, 0);
    assert_eq!(bodies(&decisions.standing(Topic::Review).await.unwrap()), [("a:443", Some("review"))]);
    // It comes back as it was.
    let mut read =
        async |lines: &[(String, DecisionEntry)]| import(&mut *decisions, "reviews", lines.to_vec(), &by("gnomon"), 9).await.unwrap();
    assert_eq!(read(&[line("3", "b:443", "deny"), line("5", "a:443", "review")]).await, 1);
    // Decided elsewhere since: the file, unchanged, does not overrule that.
    decisions.put(&[entry(Topic::Review, "a:443", Some("deny"))]).await.unwrap();
    let again = vec![line("3", "b:443", "deny"), line("5", "a:443", "review")];
    assert_eq!(import(&mut *decisions, "reviews", again.clone(), &by("gnomon"), 9).await.unwrap(), 0);
    assert_eq!(bodies(&decisions.standing(Topic::Review).await.unwrap()), [("a:443", Some("deny")), ("b:443", Some("deny"))]);
    // The same of another host's file is another source.
    assert_eq!(import(&mut *decisions, "reviews of another", again, &by("gnomon"), 9).await.unwrap(), 2);
    let withdrawn = decisions.imported("reviews").await.unwrap();
    assert_eq!(bodies(&withdrawn), [("a:443", Some("review")), ("b:443", Some("deny"))]);
}

/// Taking a line out of a file takes back what it decided, and nothing that a person or another source did.
pub async fn what_was_decided_before_a_line_came_stands_again_when_it_is_gone(journal: &impl Journal) {
    let mut decisions = journal.decisions().await;
    let line = |digest: &str, subject: &str, body: &str| (digest.to_owned(), entry(Topic::Review, subject, Some(body)));
    let read = async |source: &str, lines: &[(String, DecisionEntry)]| {
        let mut decisions = journal.decisions().await;
        import(&mut *decisions, source, lines.to_vec(), &by("gnomon"), 9).await.unwrap()
    };
    let person = DecisionEntry { by: by("eve"), at_ms: 3, ..entry(Topic::Review, "a:443", Some("allow")) };
    decisions.put(std::slice::from_ref(&person)).await.unwrap();
    assert_eq!(read("reviews", &[line("1", "a:443", "review"), line("2", "b:443", "deny")]).await, 2);
    assert_eq!(read("reviews", &[line("3", "a:443", "deny"), line("2", "b:443", "deny")]).await, 1);
    assert_eq!(read("reviews", &[line("2", "b:443", "deny")]).await, 2);
    let about = decisions.about(Topic::Review, "a:443").await.unwrap();
    let said: Vec<Option<&str>> = about.iter().map(|kept| kept.entry.body.as_deref()).collect();
    assert_eq!(said, [Some("allow"), Some("review"), Some("deny"), None, Some("allow")]);
    assert_eq!(about.last().unwrap().entry, person);
    assert_eq!(read("reviews", &[line("2", "b:443", "deny")]).await, 0);
    // What another source decided stands again too, and is that source's to withdraw.
    assert_eq!(read("others", &[line("4", "c:443", "deny")]).await, 1);
    assert_eq!(read("reviews", &[line("2", "b:443", "deny"), line("5", "c:443", "allow")]).await, 1);
    assert_eq!(read("reviews", &[line("2", "b:443", "deny")]).await, 2);
    assert_eq!(read("others", &[line("4", "c:443", "deny")]).await, 0);
    let standing = decisions.standing(Topic::Review).await.unwrap();
    assert_eq!(bodies(&standing), [("a:443", Some("allow")), ("b:443", Some("deny")), ("c:443", Some("deny"))]);
    assert_eq!(read("others", &[]).await, 1);
    assert_eq!(decisions.standing(Topic::Review).await.unwrap().len(), 2);
}

/// A proposal, what was decided about it and that it was forgotten: each stands by its own, under the digest of the code.
pub async fn a_snippet_and_the_decision_about_it_stand_under_its_digest(journal: &impl Journal) {
    let mut decisions = journal.decisions().await;
    let snippet = Snippet {
        portal: "main".to_owned(),
        audience: SnippetAudience::Group("adas".to_owned()),
        name: "weekly-report".to_owned(),
        version: 1,
        owner: "ada".to_owned(),
        description: "The week".to_owned(),
        parameters: serde_json::json!({"type": "object"}),
        code: format!("async () => '\u{0}{}'", "ü".repeat(30 << 10)),
    };
    let (entry, digest) = snippet.to_entry(by("ada"), 5);
    decisions.put(std::slice::from_ref(&entry)).await.unwrap();
    let decision = |state| SnippetDecision {
        at_ms: 6,
        by: by("eve"),
        digest: digest.clone(),
        state,
        owner: Some("team".to_owned()),
        reason: None,
        until_ms: None,
    };
    decisions.put(&[decision(Review::Denied).to_entry()]).await.unwrap();
    decisions.put(&[decision(Review::Approved).to_entry()]).await.unwrap();
    let standing = decisions.standing(Topic::Snippet).await.unwrap();
    assert_eq!(standing.len(), 1, "a decision leaves the proposal where it is");
    assert_eq!(standing[0].snippet().unwrap(), Some(SnippetEntry::Proposed(snippet.clone())));
    let about = decisions.standing(Topic::SnippetReview).await.unwrap();
    assert_eq!(about.len(), 1);
    assert_eq!(about[0].of_snippet().unwrap(), Some(decision(Review::Approved)));
    assert_eq!(decisions.about(Topic::SnippetReview, &digest).await.unwrap().len(), 2);
    let forgotten = ForgottenSnippet::of(&snippet);
    decisions.put(&[forgotten.to_entry(&digest, by("ada"), 7)]).await.unwrap();
    let standing = decisions.standing(Topic::Snippet).await.unwrap();
    assert_eq!(standing[0].snippet().unwrap(), Some(SnippetEntry::Forgotten(forgotten)));
    assert!(decisions.standing(Topic::Review).await.unwrap().is_empty(), "servers are another topic");
}
