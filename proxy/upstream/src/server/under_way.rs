//! The bound on calls in progress with a server, shared by its callers.
//!
//! Each takes what all callers of the server share: a connection, a place on the line to a program, or a part of what an API is asked
//! at a time. A slow call cannot be taken back, so no caller has more than three quarters, and one that finds no place has the next one
//! before a caller with an eighth has another.

use super::Upstream;
use crate::{api::IN_FLIGHT, carried::Sent, error::UpstreamError, heard, oversight::Oversight, pipe::MOST_WAITING, reach::Reach};
use gnomon_shares::{Bounds, Turns};
use std::time::Duration;

/// Most calls in progress with a server over HTTP, where there are connections for as many.
const MOST: usize = 4096;
/// A caller's bound, as a multiple of the places that are left.
const TIMES_FREE: usize = 3;
/// The timeout of waiting for a place. An API gets few requests at a time, and each takes a moment.
const WAITS: Duration = Duration::from_secs(1);
const WAITS_FOR_API: Duration = Duration::from_secs(120);

/// The places with a server that is reached like this.
pub(super) fn at(reach: &Reach) -> Turns {
    let of = |all, patience| Turns::of(Bounds { all, each: all, times_free: TIMES_FREE }, MOST, patience);
    match reach {
        // The rest of a line is for answers to questions, and for health checks.
        Reach::Program(_) => of(MOST_WAITING - MOST_WAITING / 8, WAITS),
        Reach::Api(_) => of(IN_FLIGHT, WAITS_FOR_API),
        // Connections are shared by all servers: half of them at most is one's.
        Reach::Http { endpoint, .. } => of((endpoint.connections() / 2).clamp(1, MOST), WAITS),
    }
}

impl<H: Oversight> Upstream<H> {
    /// What comes of a call of this caller, within its share of those that may be under way, and whether it left for the server.
    ///
    /// # Errors
    /// Those of the call, [`UpstreamError::Busy`], [`UpstreamError::Frozen`] where the server turns out to be that meanwhile, and
    /// [`UpstreamError::Removed`] once it is over with the server.
    pub async fn serve<T, E: From<UpstreamError>>(&self, owner: &str, call: impl Future<Output = Result<T, E>>) -> (Result<T, E>, Sent) {
        if self.is_over() {
            return (Err(UpstreamError::Removed.into()), Sent::No);
        }
        match self.under_way.take(&owner.into()).await {
            Ok(place) => {
                let _at_work = self.work.begin();
                heard::within(place, self.work.clone(), self.while_there(call)).await
            }
            Err(refused) => (Err(UpstreamError::Busy(refused).into()), Sent::No),
        }
    }
}
