//! Delivery of checkpoints: a task and a bounded queue for each sink, so that a receiver that is down delays no other.

use crate::sink::Sink;
use gnomon_kit::Backoff;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// The most checkpoints that wait for a sink. What does not fit is not sent: the next one says more.
pub const MAX_UNSENT: usize = 1024;
/// Timeout of a sink for a line.
const PATIENCE: Duration = Duration::from_secs(10);
/// The waits after a failure, the first and the longest.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// The time within which the last checkpoint must leave at the end.
const FAREWELL: Duration = Duration::from_secs(5);

pub(crate) struct Delivery {
    sender: mpsc::Sender<Arc<str>>,
    task: JoinHandle<()>,
}

impl Delivery {
    pub(crate) fn start(mut sink: Box<dyn Sink>, failures: Arc<AtomicU64>) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Arc<str>>(MAX_UNSENT);
        let task = tokio::spawn(async move {
            while let Some(line) = receiver.recv().await {
                let mut again = AGAIN;
                loop {
                    let cause = match timeout(PATIENCE, sink.send(&line)).await {
                        Ok(Ok(())) => break,
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
                    };
                    failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(sink = sink.name(), cause, "a checkpoint of the audit could not be sent; trying on");
                    sleep(again.failed()).await;
                }
            }
        });
        Self { sender, task }
    }

    pub(crate) fn send(&self, line: &Arc<str>) {
        // A full queue has been full for hours, and its sink's failures are counted.
        let _ = self.sender.try_send(line.clone());
    }

    pub(crate) async fn end(self) {
        drop(self.sender);
        let abort = self.task.abort_handle();
        if timeout(FAREWELL, self.task).await.is_err() {
            abort.abort();
        }
    }
}
