//! Calls that a server owes an answer when it is found to be frozen: they end with that, rather than with their own patience.
//!
//! A server with no call under way that does not answer whether it is there is frozen. One with calls under way may be at work on one of
//! them ([`crate::work`]): it is frozen once it has said nothing to anybody for half of their patience. Who calls until then waits in line.
//!
//! Nothing tells them by itself: connections to a process that is stopped, or to a host that is cut off, stay open. Where a server
//! refuses connections, or closes them, calls are left alone: it may be about to end, and finish what it has begun.
//!
//! A server that does one thing at a time says nothing while it is at a call, either, and that is not seen from here. So a call has half of
//! its patience whatever is known of its server; and where one was ended and the server is back soon, it is known as one of those, and
//! calls have all of their patience from then on.

use super::{Presence, Upstream};
use crate::{error::UpstreamError, heard, oversight::Oversight, reach::Reach};
use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// So long after it was made, and after the last that came of it, a call of a program is believed to go on, whatever is known of its
/// server. Over HTTP it is half of the patience that is configured.
const GOES_ON: Duration = Duration::from_secs(60);

/// A server that comes back after a longer silence was away, and not at work.
const LONGEST_WORK: Duration = Duration::from_secs(300);

/// Whether calls of a silent server are ended.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Some were, since it was there last.
    gave_up: AtomicBool,
    /// True if it was silent only because it was at work.
    at_work: AtomicBool,
}

impl<H: Oversight> Upstream<H> {
    /// Awaits a call's answer from this server. Once the server is known to be silent, fails, unless the call itself has shown a sign of
    /// life lately.
    ///
    /// # Errors
    /// The call's errors, [`UpstreamError::Frozen`] and [`UpstreamError::Removed`].
    pub(super) async fn while_there<T, E: From<UpstreamError>>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut call = pin!(call);
        tokio::select! {
            biased;
            done = &mut call => done,
            why = self.found_silent() => Err(why.into()),
            () = self.over() => Err(UpstreamError::Removed.into()),
        }
    }

    /// Whether each caller has a process of their own: what becomes of gnomon's own one says nothing of calls.
    fn has_calls_elsewhere(&self) -> bool {
        matches!(&self.reach, Reach::Program(program) if program.has_sessions())
    }

    /// How long a call is believed to go on of which nothing is heard.
    fn goes_on(&self) -> Duration {
        match &self.reach {
            Reach::Http { endpoint, .. } => endpoint.patience() / 2,
            _ => GOES_ON,
        }
    }

    /// How much longer a server that did not answer when it was `asked` whether it is there may be at work, and for how long it was
    /// silent; where it is not at work, only that.
    pub(super) fn at_work(&self, asked: Instant) -> Result<Duration, Duration> {
        let silence = self.work.silence(asked).filter(|_| !self.has_calls_elsewhere());
        let Some(silence) = silence else { return Err(asked.elapsed()) };
        let bound = match (&self.reach, self.patience.at_work.load(Ordering::Relaxed)) {
            (Reach::Http { endpoint, .. }, true) => endpoint.patience(),
            (Reach::Program(program), true) => program.patience(),
            (_, true) | (_, false) => self.goes_on(),
        };
        if silence < bound { Ok(bound - silence) } else { Err(silence) }
    }

    /// Waits until the server is known to be silent, and so is the call that this is part of.
    async fn found_silent(&self) -> UpstreamError {
        let began = Instant::now();
        let goes_on = self.goes_on();
        let silence = |presence: &Presence| match presence {
            Presence::Down { why, .. } if why.is_silence() => Some(why.clone()),
            _ => None,
        };
        let mut presence = self.presence.subscribe();
        loop {
            let known = presence.wait_for(|presence| silence(presence).is_some()).await.is_ok();
            if !known || self.patience.at_work.load(Ordering::Relaxed) || self.has_calls_elsewhere() {
                std::future::pending::<()>().await;
            }
            let left = goes_on.saturating_sub(heard::last().unwrap_or(began).elapsed());
            if left.is_zero() {
                let why = silence(&presence.borrow());
                if let Some(why) = why {
                    self.patience.gave_up.store(true, Ordering::Relaxed);
                    return why;
                }
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Notes that the server answers again.
    pub(super) fn comes_back(&self) {
        let gave_up = self.patience.gave_up.swap(false, Ordering::Relaxed);
        let was_short = matches!(&*self.presence.borrow(), Presence::Down { since, .. } if since.elapsed() < LONGEST_WORK);
        if gave_up && was_short && !self.patience.at_work.swap(true, Ordering::Relaxed) {
            tracing::info!(server = %self.id, "is back after a silence: it may do one thing at a time, so its calls have all of their time from now on");
        }
    }
}
