//! Turns for decoding what a few bytes make.
//!
//! Each body is read in steps, and its task yields between them. With a hundred such bodies that is a hundred steps before anybody else's
//! turn: so of one principal one step is under way at a time, however many connections it has. Bodies that need one step take no turn.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Principals that are remembered without a look whether they still decode.
const REMEMBERED: usize = 256;

/// The turns of one proxy, by principal.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    principals: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

impl Steps {
    /// The principal's turn, first come first served, until this is dropped. Never none, as nothing closes the semaphores.
    pub async fn turn(&self, principal: &Arc<str>) -> Option<OwnedSemaphorePermit> {
        let turns = self.of(principal);
        turns.acquire_owned().await.ok()
    }

    fn of(&self, principal: &Arc<str>) -> Arc<Semaphore> {
        let mut principals = self.principals.lock();
        if let Some(turns) = principals.get(principal).and_then(Weak::upgrade) {
            return turns;
        }
        if principals.len() >= REMEMBERED {
            principals.retain(|_, turns| turns.strong_count() > 0);
        }
        let turns = Arc::new(Semaphore::new(1));
        principals.insert(principal.clone(), Arc::downgrade(&turns));
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_one_principal_one_step_is_under_way_and_anothers_does_not_wait_for_it() {
        let (steps, one, other): (_, Arc<str>, Arc<str>) = (Steps::default(), "one".into(), "other".into());
        let held = steps.turn(&one).await;
        let mut waiting = Box::pin(steps.turn(&one));
        assert!(polled_once(&mut waiting).await.is_none(), "its other bodies wait");
        assert!(steps.turn(&other).await.is_some());
        drop(held);
        assert!(waiting.await.is_some());
        for name in 0..2 * REMEMBERED {
            let _ = steps.turn(&name.to_string().into()).await;
        }
        assert!(steps.principals.lock().len() <= REMEMBERED);
    }

    async fn polled_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
