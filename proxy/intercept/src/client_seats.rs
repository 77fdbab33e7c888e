//! Seats for client connections: so many in all, so many for each user, and none kept from others by saying nothing.
//!
//! A connection keeps its seat to its end, whatever becomes of it: a tunnel, a WebSocket. A user is the one that the kernel
//! half names, else the name that the client authenticates with; without either it is the source address, and 127.0.0.1
//! is everybody's. What the seats of all are, and who gives one up, is [`gnomon_shares::Seats`]': who has said nothing, then whose first
//! request is not whole, then who rests between two.
//!
//! A connection above its user's share waits for a seat of the user's, and not for long, as it holds one of all meanwhile. Those
//! that nothing is enforced for need none: so many more are only passed on.

use gnomon_http::{
    UpstreamBudget,
    server::{Seated, UnderWay},
};
use gnomon_record::FlowOutcome;
use gnomon_shares::{Bounds, Refused, Seats, Share, Shares};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, hash_map::Entry};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The timeout of a connection's wait for a seat above its user's share.
const PATIENCE: Duration = Duration::from_secs(2);
/// The time that an idle connection gets to end once others need its seat.
const GOES: Duration = Duration::from_millis(100);
/// The interval at which a user's connections above the share are reported. Each is counted.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

/// All seats of one proxy.
#[derive(Debug)]
pub(crate) struct ClientSeats {
    seats: Arc<Seats>,
    /// Shares of users that are known.
    users: Arc<Shares>,
    /// Shares of connections that wait for a seat of their user's.
    waiting: Arc<Shares>,
    /// Shares of connections above their user's share that are passed on.
    beyond: Arc<Shares>,
    /// The time of the last report on a user above the share.
    told: Mutex<HashMap<(Arc<str>, FlowOutcome), Instant>>,
}

/// The seat of one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct ClientSeat {
    all: Arc<ClientSeats>,
    seated: Arc<Seated>,
    /// True once its tunnel is served as HTTP, by which the seat may be given up.
    is_served: AtomicBool,
    whose: Mutex<Option<Share>>,
    /// The user whose share was asked for last.
    user: Mutex<Arc<str>>,
}

impl ClientSeats {
    /// The seats: `all` in total, `each` for each user.
    pub fn new(all: usize, each: usize) -> Arc<Self> {
        let bounds = |each| Bounds { all, each, times_free: 0 };
        Arc::new(Self {
            seats: Seats::new(all),
            users: Shares::new(bounds(each)),
            waiting: Shares::new(Bounds { all: all / 2, each, times_free: 0 }),
            beyond: Shares::new(bounds(all / 2)),
            told: Mutex::default(),
        })
    }

    /// A seat for a connection that was accepted. Waits while there is none.
    ///
    /// # Errors
    /// Its source address has its share, and none of those is silent.
    pub async fn admit(self: &Arc<Self>, client: SocketAddr) -> Result<Arc<ClientSeat>, Refused> {
        let seat = self.seats.admit(client.ip()).await?;
        let user = Mutex::new(seat.source().clone());
        let seated = Seated::on(seat, GOES);
        Ok(Arc::new(ClientSeat { all: self.clone(), seated, is_served: AtomicBool::new(false), whose: Mutex::default(), user }))
    }

    /// Takes the seat of the oldest connection that has said nothing, of the source that has most of them.
    pub fn silence_gives_up(&self) -> bool {
        self.seats.silence_gives_up()
    }

    /// True if this outcome of a connection above a user's share is to be reported: not if one was a moment ago.
    pub fn is_to_be_told(&self, user: Arc<str>, outcome: FlowOutcome) -> bool {
        let mut told = self.told.lock();
        told.retain(|_, when| when.elapsed() < TOLD_AGAIN);
        match told.entry((user, outcome)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(new) => {
                new.insert(Instant::now());
                true
            }
        }
    }
}

impl ClientSeat {
    /// Charges the connection to this user: a uid, or a name.
    ///
    /// # Errors
    /// The user has as many as one may.
    pub fn is_of(&self, user: &str) -> Result<(), Refused> {
        let user: Arc<str> = user.into();
        *self.user() = user.clone();
        let mut whose = self.whose.lock();
        if whose.as_ref().is_none_or(|share| *share.principal() != user) {
            *whose = Some(self.all.users.take(&user)?);
            self.seated.seat().is_of(&user);
        }
        Ok(())
    }

    /// Charges the connection to this user, as soon as the user has a seat to spare.
    ///
    /// # Errors
    /// The user has none to spare within two seconds, or as many connections wait for one as the user may have.
    pub async fn is_of_in_time(&self, user: &str) -> Result<(), Refused> {
        let Err(refused) = self.is_of(user) else { return Ok(()) };
        let _waits = self.all.waiting.take(&user.into())?;
        let comes = async {
            loop {
                let mut freed = std::pin::pin!(self.all.users.freed());
                freed.as_mut().enable();
                if self.is_of(user).is_ok() {
                    return;
                }
                freed.await;
            }
        };
        timeout(PATIENCE, comes).await.map_err(|_| refused)
    }

    /// Room to pass a connection on above its user's share, while this is held.
    pub fn beyond(&self) -> Option<Share> {
        let user = self.user().clone();
        self.all.beyond.take(&user).ok()
    }

    /// True if this outcome of a connection above the user's share is to be reported: not if one was a moment ago.
    pub fn is_to_be_told(&self, outcome: FlowOutcome) -> bool {
        let user = self.user().clone();
        self.all.is_to_be_told(user, outcome)
    }

    /// The owner of the connection, as far as it is known: a user, else a source address.
    pub fn client(&self) -> Arc<str> {
        self.user().clone()
    }

    fn user(&self) -> MutexGuard<'_, Arc<str>> {
        self.user.lock()
    }

    /// Begins a request, or other work that keeps the seat: the connection is not evicted while this is held.
    pub fn begin(&self) -> UnderWay {
        self.seated.begin()
    }

    /// The connection has taken a step towards its first request.
    pub fn takes_a_step(&self) {
        self.seated.takes_a_step();
    }

    /// Completes when others need the seat, as the connection was silent.
    pub async fn is_needed(&self) {
        self.seated.is_needed().await;
    }

    /// True, once, if the connection was asked to give its seat up: for its caller's counters.
    pub fn gave_up(&self) -> bool {
        self.seated.gave_up()
    }

    /// How HTTP is served on it.
    pub fn seated(&self) -> &Seated {
        &self.seated
    }

    /// Notes that the connection's tunnel is served as HTTP from now on: [`seated`](Self::seated) gives its seat up.
    pub fn is_served(&self) {
        self.is_served.store(true, Ordering::Relaxed);
    }

    /// Runs `work` that leads to requests, until others need the seat and no request is in progress. None: that was so.
    pub async fn until_needed<T>(&self, leads: impl Future<Output = T>) -> Option<T> {
        let mut leads: Pin<&mut _> = pin!(leads);
        tokio::select! {
            biased;
            led = leads.as_mut() => return Some(led),
            () = self.is_needed() => {}
        }
        if self.seated.is_silent() && !self.is_served.load(Ordering::Relaxed) { None } else { Some(leads.await) }
    }
}

/// Makes room for the connections that wait to be accepted, when descriptors ran out in spite of all bounds.
pub(crate) fn make_room(seats: &ClientSeats, upstreams: &UpstreamBudget, error: &std::io::Error) {
    let closed = upstreams.shed();
    let silent = seats.silence_gives_up();
    tracing::warn!(%error, closed, silent, "cannot accept a connection; closing idle ones");
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4000);

    #[tokio::test]
    async fn one_user_s_seats_are_no_other_s_and_come_back() {
        let seats = ClientSeats::new(8, 2);
        let (first, second, third) = tokio::join!(seats.admit(LOCAL), seats.admit(LOCAL), seats.admit(LOCAL));
        let (first, second, third) = (first.unwrap(), second.unwrap(), third.unwrap());
        assert!(first.is_of("1").is_ok() && second.is_of("1").is_ok());
        assert_eq!(third.is_of("1"), Err(Refused::OverShare));
        assert!(third.is_of("2").is_ok(), "another user");
        drop(first);
        assert!(third.is_of("1").is_ok());
    }

    #[tokio::test]
    async fn who_is_above_the_share_gets_the_next_seat_and_no_more_wait_than_there_are() {
        let seats = ClientSeats::new(8, 1);
        let (held, next, third) = tokio::join!(seats.admit(LOCAL), seats.admit(LOCAL), seats.admit(LOCAL));
        let (held, next, third) = (held.unwrap(), next.unwrap(), third.unwrap());
        held.is_of("1").unwrap();
        let mut waits = std::pin::pin!(next.is_of_in_time("1"));
        assert!(timeout(Duration::from_millis(20), waits.as_mut()).await.is_err());
        assert_eq!(timeout(Duration::from_millis(20), third.is_of_in_time("1")).await, Ok(Err(Refused::OverShare)));
        drop(held);
        assert_eq!(waits.await, Ok(()));
    }

    #[tokio::test]
    async fn a_flood_of_one_user_is_told_of_once_in_a_while() {
        let seats = ClientSeats::new(8, 1);
        let (one, same, other) = tokio::join!(seats.admit(LOCAL), seats.admit(LOCAL), seats.admit(LOCAL));
        let (one, same, other) = (one.unwrap(), same.unwrap(), other.unwrap());
        assert!(one.is_of("1").is_ok() && same.is_of("1").is_err() && other.is_of("2").is_ok());
        let refused = FlowOutcome::OverShare;
        assert_eq!([same.is_to_be_told(refused), same.is_to_be_told(refused), other.is_to_be_told(refused)], [true, false, true]);
        assert!(same.is_to_be_told(FlowOutcome::BeyondShare), "what passes hides nothing that is refused");
    }
}
