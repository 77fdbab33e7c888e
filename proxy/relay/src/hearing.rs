//! Hears what a server of the older era says by itself in one session: on the stream that is opened for it, or on the line that
//! everything shares.
//!
//! A stream that is not open yet hears nothing, and questions that a server asks then are lost: so a session in which it may ask waits for
//! it to open. One that breaks off is resumed.

use gnomon_kit::Backoff;
use gnomon_upstream::{LegacySession, Speaks, UpstreamError, rpc::Message};
use std::{ops::ControlFlow, sync::Arc, time::Duration};
use tokio::{sync::oneshot, task::JoinHandle};

/// The most time that a call waits for the stream.
const OPENED_WITHIN: Duration = Duration::from_secs(1);
/// The delay before it is opened again.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// A task that hears a session's messages, and ends when this is dropped.
pub(crate) struct Hearing {
    task: JoinHandle<()>,
    opened: Option<oneshot::Receiver<()>>,
}

impl Hearing {
    /// Begins to hear, until `hear` breaks off or the server has no more to say.
    pub fn begin<F>(session: Arc<LegacySession>, mut hear: impl FnMut(Message) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ControlFlow<()>> + Send,
    {
        let (open, opened) = oneshot::channel();
        // Aborted as this is dropped, which whoever ends the session does: all that it holds is the session's, so nobody waits for it.
        let task = tokio::spawn(async move {
            let (mut open, mut again, mut last) = (Some(open), AGAIN, None);
            loop {
                match session.listen_after(last.clone()).await {
                    Ok(mut listening) => {
                        open.take().map(|open| open.send(()));
                        while let Some(message) = listening.next().await {
                            again.reset();
                            if hear(message).await.is_break() {
                                return;
                            }
                        }
                        last = listening.last();
                    }
                    // The server was not reached, or has not noticed yet that the last stream broke off (409). Anything else is an answer.
                    Err(UpstreamError::Unreachable { .. } | UpstreamError::Dropped { .. } | UpstreamError::Timeout(_)) => {}
                    Err(UpstreamError::Status(409 | 429 | 500..=599)) => {}
                    Err(_) => return,
                }
                if session.speaks() == Speaks::Always {
                    return;
                }
                tokio::time::sleep(again.failed()).await;
            }
        });
        Self { task, opened: Some(opened) }
    }

    /// Waits a little until what is said is heard, or it is known that nothing will be.
    pub fn opened(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let opened = self.opened.take();
        async move {
            if let Some(opened) = opened {
                let _ = tokio::time::timeout(OPENED_WITHIN, opened).await;
            }
        }
    }

    /// True while it goes on.
    pub fn is_on(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.task.abort();
    }
}
