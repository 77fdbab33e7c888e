//! Whether a client has cancelled its request.

use std::sync::OnceLock;
use tokio::sync::Notify;

/// Most characters of a client's reason that are passed to a server.
const LONGEST_REASON: usize = 200;

/// Whether, and why, a client cancelled a request.
#[derive(Debug, Default)]
pub struct TakenBack {
    notice: Notify,
    why: OnceLock<Option<String>>,
}

impl TakenBack {
    /// Cancels it, with the client's reason.
    pub fn because(&self, reason: Option<&str>) {
        let _ = self.why.set(reason.map(|reason| reason.chars().take(LONGEST_REASON).collect()));
        self.notice.notify_one();
    }

    /// Waits until the client cancels it.
    pub async fn noticed(&self) {
        self.notice.notified().await;
    }

    /// The client's reason, once it cancelled.
    pub fn why(&self) -> Option<&Option<String>> {
        self.why.get()
    }
}
