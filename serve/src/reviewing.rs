//! Puts people's decisions about servers, and about snippets of Code Mode, in force while gnomon runs: reads the journal when it
//! changes, and lets approvals run out at their time.
//!
//! Looks once a second, which costs three `stat`, or a question to the database that gnomons share. What cannot be read leaves what was
//! decided before in force, and says so once.

use gnomon_cli::{judging, when};
use gnomon_inspect::{Inspector, Reviews, Sighting};
use gnomon_kit::unix_millis;
use gnomon_ledger::{Condition, Decided, Decision, EventFilter, Following, Order, Reader, conditions_on};
use gnomon_observe::{APPROVAL_EXPIRED, Action, Field, Observation, Review};
use gnomon_portal::Shelf;
use gnomon_record::Recorder;
use std::{
    collections::HashSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::oneshot;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// Most expired approvals that are reported at once.
const MAX_TOLD: usize = 256;

/// Keeps reviews in force.
pub struct Reviewing {
    following: Following,
    ledger: PathBuf,
    inspector: Arc<Inspector>,
    shelf: Arc<Shelf>,
    recorder: Arc<Recorder>,
    decisions: Vec<Decision>,
    in_force: Reviews,
    /// Approvals whose end was told.
    told: HashSet<String>,
}

impl Reviewing {
    /// Puts the decisions in force that this host read before; those of the journal are [`Reviewing::run`]'s to read.
    pub fn start(decided: Decided, ledger: PathBuf, (inspector, shelf): (Arc<Inspector>, Arc<Shelf>), recorder: Arc<Recorder>) -> Self {
        let (following, decisions) = Following::begin(decided);
        let mut this =
            Self { following, ledger, inspector, shelf, recorder, decisions, in_force: Reviews::default(), told: HashSet::new() };
        this.put_in_force(unix_millis(SystemTime::now()));
        this
    }

    /// Looks again and again; says so once it has looked for the first time.
    pub async fn run(mut self, looked: oneshot::Sender<()>) {
        self.look(unix_millis(SystemTime::now())).await;
        // Whoever started it may have gone on without.
        let _ = looked.send(());
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let now_ms = unix_millis(SystemTime::now());
            for expired in self.look(now_ms).await {
                self.tell(&expired).await;
            }
        }
    }

    /// Reads the journal if it changed, and puts in force what holds now; gives the approvals that ran out and
    /// were not reported.
    async fn look(&mut self, now_ms: i64) -> Vec<Decision> {
        if let Some(news) = self.following.news().await {
            self.decisions = news;
        }
        self.recorder.metrics().decisions_read(self.following.is_current());
        self.put_in_force(now_ms);
        let expired = |decision: &&Decision| decision.state == Review::Approved && decision.state_at(now_ms) == Review::Expired;
        let told = &self.told;
        self.decisions.iter().filter(expired).filter(|decision| !told.contains(&name(decision))).take(MAX_TOLD).cloned().collect()
    }

    /// Puts in force what holds now of the decisions that were read.
    fn put_in_force(&mut self, now_ms: i64) {
        self.shelf.replace(self.following.approved_snippets(), now_ms);
        let now = judging::reviews(&self.decisions, now_ms);
        if now != self.in_force {
            self.inspector.replace_reviews(Arc::new(now.clone()));
            self.in_force = now;
        }
    }

    /// Writes the event, unless the ledger has it: gnomon may have been started again since.
    async fn tell(&mut self, expired: &Decision) {
        self.told.insert(name(expired));
        let mut conditions = conditions_on(&expired.server);
        conditions.push(Condition::is(Field::RuleId, APPROVAL_EXPIRED.id));
        let filter = EventFilter { since_ms: expired.until_ms, conditions, limit: 1, ..EventFilter::default() };
        let before = match Reader::open(&self.ledger).await {
            Ok(mut reader) => reader.events(&filter, Order::OldestFirst).await,
            Err(error) => Err(error),
        };
        match before {
            Ok(found) if !found.is_empty() => return,
            Ok(_) => {}
            // Told twice is better than never.
            Err(error) => tracing::warn!(%error, "cannot look whether the end of an approval was told"),
        }
        let mut seen = Observation::new();
        seen.set(Field::ServerAddress, expired.server.host.as_str());
        seen.set(Field::ServerPort, expired.server.port);
        seen.set(Field::Sanctioned, self.inspector.is_sanctioned(&expired.server.host, expired.server.port));
        seen.set(Field::ServerReview, Review::Expired.as_str());
        let owner = expired.owner.as_deref().unwrap_or("nobody");
        let until = when::show(expired.until_ms.unwrap_or_default());
        seen.set(Field::Message, format!("the approval of {} ran out on {until} UTC; {owner} answers for it", expired.server));
        APPROVAL_EXPIRED.stamp(&mut seen);
        self.recorder.report(vec![Sighting { seen, rule: None, action: Action::Log, class: APPROVAL_EXPIRED.class, call: 0 }]);
    }
}

fn name(decision: &Decision) -> String {
    format!("{} {:?}", decision.server, decision.until_ms)
}
