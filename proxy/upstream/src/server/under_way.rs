//! How many calls may be under way with a server, and whose they are.
//!
//! Each takes what all callers of the server share: a connection, a place on the line to a program, or a part of what an API is asked
//! at a time. A call that its server takes its time over cannot be taken back, so nobody has more than three quarters, and whoever
//! finds no place has the next one before anybody with an eighth has another.

use super::Upstream;
use crate::{api::IN_FLIGHT, carried::Sent, error::UpstreamError, heard, oversight::Oversight, pipe::MOST_WAITING, reach::Reach};
use gnomon_shares::{Bounds, Turns};
use std::time::Duration;

/// Most calls that are under way with a server over HTTP, where there are connections for as many.
const MOST: usize = 4096;
/// How many times the places that are left one caller may have.
const TIMES_FREE: usize = 3;
/// How long a call waits for a place. An API is asked little at a time, and each takes a moment.
const WAITS: Duration = Duration::from_secs(1);
const WAITS_FOR_API: Duration = Duration::from_secs(120);

/// The places with a server that is reached like this.
pub(super) fn at(reach: &Reach) -> Turns {
    let of = |all, patience| Turns::of(Bounds { all, each: all, times_free: TIMES_FREE }, MOST, patience);
    match reach {
        // What is left of a line is for questions' answers, and for whether it is there.
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
