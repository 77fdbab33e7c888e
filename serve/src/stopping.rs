//! How a running gnomon stops: its parts in a declared order, each waited for before the next, so that nothing is recorded into
//! what is closed already.

use gnomon_record::Duties;
use std::{pin::Pin, time::Duration};
use tokio::{sync::watch, task::JoinHandle};

/// How long a part may take to end once it was cut off. Longer than any of them needs: beyond it something hangs, and what is
/// recorded by then is flushed all the same.
const JOIN: Duration = Duration::from_secs(10);

/// How far a stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No stop was requested.
    Serving,
    /// Nothing new is accepted; work in progress may finish, for as long as each part allows.
    Draining,
    /// Work in progress is cut off.
    CutOff,
}

/// Completes when a stop is this far. A sender that is gone counts as one.
pub async fn reaches(mut stop: watch::Receiver<Phase>, phase: Phase) {
    let _ = stop.wait_for(|now| *now >= phase).await;
}

/// A stage of a stop, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The parts that accept work and do it: proxy and portals.
    Roads,
    /// The tasks beside the work: metrics, reviews, reloads.
    Helpers,
    /// The outstanding duties are recorded.
    Duties,
    /// The audit's last records and checkpoint.
    Audit,
    /// The ledger; the audit's checkpoint is an event, too.
    Ledger,
    /// The readers of the ledger: collectors, the terminal.
    Readers,
}

type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The parts of a running gnomon.
#[derive(Default)]
pub struct Service {
    parts: Vec<(Stage, &'static str, Stop)>,
}

impl Service {
    /// A part, and what ends it; that must not complete before the part has ended.
    pub fn add(&mut self, stage: Stage, name: &'static str, stop: impl Future<Output = ()> + Send + 'static) {
        self.parts.push((stage, name, Box::pin(stop)));
    }

    /// A task that is aborted and waited for.
    pub fn add_task<T: Send + 'static>(&mut self, stage: Stage, name: &'static str, task: JoinHandle<T>) {
        self.add(stage, name, async move {
            if !task.is_finished() {
                task.abort();
                let _ = task.await;
            }
        });
    }

    /// Adds the duties: those not finished are recorded.
    pub fn add_duties(&mut self, duties: std::sync::Arc<Duties>) {
        self.add(Stage::Duties, "duties", async move { duties.settle_all() });
    }

    /// Stops everything.
    pub async fn stop(mut self) {
        self.parts.sort_by_key(|(stage, ..)| *stage);
        for (stage, name, stop) in self.parts {
            match stage {
                // However slow the disk is, what is acknowledged must be on it.
                Stage::Duties | Stage::Audit | Stage::Ledger => stop.await,
                Stage::Roads | Stage::Helpers | Stage::Readers => {
                    if tokio::time::timeout(JOIN, stop).await.is_err() {
                        tracing::error!(part = name, "did not end within {JOIN:?} after it was cut off; going on without it");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn parts_stop_in_the_order_of_their_stages_and_each_is_waited_for() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut service = Service::default();
        for stage in [Stage::Ledger, Stage::Readers, Stage::Roads, Stage::Audit, Stage::Duties, Stage::Helpers] {
            let order = order.clone();
            service.add(stage, "part", async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                order.lock().unwrap().push(stage);
            });
        }
        service.stop().await;
        let stages = [Stage::Roads, Stage::Helpers, Stage::Duties, Stage::Audit, Stage::Ledger, Stage::Readers];
        assert_eq!(*order.lock().unwrap(), stages);
    }
}
