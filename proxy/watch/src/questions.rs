//! The proxy's questions to the sensor that wait for an answer.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::os::fd::OwnedFd;

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use crate::WatchError;

/// Most questions in progress: each connection from another namespace, or of another user, asks one. Further ones wait for their turn.
const WAITED_FOR: usize = 1024;

/// The descriptors of an answer, or the error.
pub(crate) type Answer = Result<Vec<OwnedFd>, WatchError>;

/// Requests with a waiting caller: those for listeners, sockets and scopes.
#[derive(Debug)]
pub(crate) struct Questions {
    open: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    turns: Semaphore,
}

impl Default for Questions {
    fn default() -> Self {
        Self { open: Mutex::default(), turns: Semaphore::new(WAITED_FOR) }
    }
}

impl Questions {
    /// Waits until one more may be asked. The caller keeps the turn until there is an answer.
    ///
    /// # Errors
    /// The sensor is gone.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, WatchError> {
        self.turns.acquire().await.map_err(|_| WatchError::Gone)
    }

    pub fn wait_for(&self, token: u64) -> oneshot::Receiver<Answer> {
        let (tell, told) = oneshot::channel();
        let mut open = self.open.lock();
        if open.len() >= WAITED_FOR {
            // Questions whose caller gave up are removed.
            open.retain(|_, waiting| !waiting.is_closed());
        }
        open.insert(token, tell);
        told
    }

    pub fn answer(&self, token: u64, answer: Answer) {
        if let Some(tell) = self.open.lock().remove(&token) {
            let _ = tell.send(answer);
        }
    }

    /// Ends all requests: no answer will come.
    pub fn close(&self) {
        self.turns.close();
        self.open.lock().clear();
    }
}
