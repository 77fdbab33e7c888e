//! The end of a server that is registered no longer: nothing new is asked of it, what it is at may end, and then nothing of it is left.
//!
//! It ends in two steps, each started by its registrar. [Leaving](Upstream::leave): its presence is no longer checked, its lists are not
//! fetched, and its failures are not reported. [Over](Upstream::end): calls that are still in progress
//! end with [`UpstreamError::Removed`].

use super::{Upstream, own::Own};
use crate::oversight::Oversight;
use std::{pin::pin, time::Duration};

#[cfg(doc)]
use crate::error::UpstreamError;

/// How far the end of a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stays {
    /// Registered.
    InForce,
    /// Calls in progress may finish.
    Leaving,
    /// Ended.
    Over,
}

impl<H: Oversight> Upstream<H> {
    /// Deregisters it: gnomon's own connection to it ends, and calls in progress may finish.
    pub fn leave(&self) {
        self.stays.send_if_modified(|stays| {
            let news = *stays < Stays::Leaving;
            if news {
                *stays = Stays::Leaving;
            }
            news
        });
    }

    /// Ends it: calls in progress fail now, and new ones do not begin.
    pub fn end(&self) {
        self.stays.send_replace(Stays::Over);
        self.modern.store(None);
    }

    /// True if it is deregistered.
    pub fn is_leaving(&self) -> bool {
        *self.stays.borrow() >= Stays::Leaving
    }

    /// True if it has ended.
    pub fn is_over(&self) -> bool {
        *self.stays.borrow() == Stays::Over
    }

    /// Waits until no call with it is in progress, with a timeout.
    pub async fn at_rest(&self, patience: Duration) {
        let places = self.under_way.places();
        let rest = async {
            loop {
                let mut freed = pin!(places.freed());
                freed.as_mut().enable();
                if places.all_held() == 0 {
                    return;
                }
                freed.await;
            }
        };
        let _ = tokio::time::timeout(patience, rest).await;
    }

    pub(super) async fn leaving(&self) {
        self.reaches(Stays::Leaving).await;
    }

    pub(super) async fn over(&self) {
        self.reaches(Stays::Over).await;
    }

    async fn reaches(&self, stage: Stays) {
        // The sender is this server's own: it outlives this wait.
        let _ = self.stays.subscribe().wait_for(|stays| *stays >= stage).await;
    }

    /// Ends gnomon's own connection. One that calls share goes on until these have ended.
    pub(super) async fn leaves(&self, own: Own) {
        match own {
            Own::Legacy(session) => session.close().await,
            Own::Modern(..) => self.over().await,
        }
    }
}
