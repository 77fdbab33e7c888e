//! Seats for connections: so many in all, so many for each address, and none kept from others by saying nothing.
//!
//! A connection keeps its seat to its end. Where all are taken, the oldest connection that is silent gives its seat up, of the
//! address that has most silent ones; where none is silent, further ones wait to be accepted.

use crate::{Bounds, Refused, Share, Shares};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::{sync::Notify, time::timeout};

/// How long it is waited for a seat that was just given up.
const GIVES_UP: Duration = Duration::from_millis(200);

/// All seats of one listener, or of several that share them.
#[derive(Debug)]
pub struct Seats {
    all: Arc<Shares>,
    /// Of source addresses other than the host's own.
    sources: Arc<Shares>,
    silent: Mutex<Silent>,
    fell_silent: Notify,
}

/// Connections that say nothing, by when they fell silent.
#[derive(Debug, Default)]
struct Silent {
    next: u64,
    connections: BTreeMap<u64, (Arc<str>, Arc<Notify>)>,
}

/// The seat of one connection, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    source: Arc<str>,
    give_up: Arc<Notify>,
    of_source: Mutex<Option<Share>>,
    _seat: Share,
}

/// While this is there a connection is taken to say nothing, and may be asked to go.
#[derive(Debug)]
pub struct Silence {
    seats: Arc<Seats>,
    number: u64,
}

impl Seats {
    /// So many in all. A source address leaves a quarter of them to others; what the host's own programs have in common says
    /// nothing about whose they are.
    #[must_use]
    pub fn new(all: usize) -> Arc<Self> {
        // How many there are in all is not for sources to say: where none is free, a silent connection gives its seat up first.
        let of_source = Bounds { each: (all - all / 4).max(1), ..Bounds::NONE };
        Arc::new(Self {
            all: Shares::new(Bounds { all, each: all, times_free: 0 }),
            sources: Shares::new(of_source),
            silent: Mutex::default(),
            fell_silent: Notify::new(),
        })
    }

    /// A seat for a connection that was accepted. Waits while there is none.
    ///
    /// # Errors
    /// Its source address has its share: nothing else is a reason.
    pub async fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Seat, Refused> {
        let ip = client.to_canonical();
        let source: Arc<str> = ip.to_string().into();
        let is_everybody_s = ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
        let of_source = if is_everybody_s { None } else { Some(self.sources.take(&source)?) };
        let seat = loop {
            let (mut freed, mut fell_silent) = (pin!(self.all.freed()), pin!(self.fell_silent.notified()));
            freed.as_mut().enable();
            fell_silent.as_mut().enable();
            match self.all.take(&source) {
                Ok(seat) => break seat,
                Err(_) if self.silence_gives_up() => _ = timeout(GIVES_UP, freed).await,
                // Those that have the seats are served, or were admitted just now and have not begun to listen for their client.
                Err(_) => tokio::select! {
                    () = freed => {}
                    () = fell_silent => {}
                },
            }
        };
        Ok(Seat { seats: self.clone(), source, give_up: Arc::default(), of_source: Mutex::new(of_source), _seat: seat })
    }

    /// Has the connection that has been silent longest give its seat up, of the source that has most of them. Whether there is one.
    pub fn silence_gives_up(&self) -> bool {
        let mut silent = self.silent();
        let mut of: HashMap<&str, usize> = HashMap::new();
        silent.connections.values().for_each(|(source, _)| *of.entry(source).or_default() += 1);
        let Some(biggest) = of.into_iter().max_by_key(|(_, count)| *count).map(|(source, _)| source.to_owned()) else { return false };
        let oldest = silent.connections.iter().find(|(_, (source, _))| **source == *biggest).map(|(number, _)| *number);
        let Some((_, give_up)) = oldest.and_then(|number| silent.connections.remove(&number)) else { return false };
        give_up.notify_one();
        true
    }

    fn silent(&self) -> MutexGuard<'_, Silent> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The address that the connection comes from.
    #[must_use]
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// Whose it is has become known: it counts for its address no longer.
    pub fn is_known(&self) {
        *self.of_source.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// From now on the connection says nothing, until what is returned is dropped.
    #[must_use]
    pub fn falls_silent(&self) -> Silence {
        let mut silent = self.seats.silent();
        let number = silent.next;
        silent.next += 1;
        silent.connections.insert(number, (self.source.clone(), self.give_up.clone()));
        drop(silent);
        self.seats.fell_silent.notify_waiters();
        Silence { seats: self.seats.clone(), number }
    }

    /// Completes when others need the seat of this connection, as it was silent.
    pub async fn is_needed(&self) {
        self.give_up.notified().await;
    }

    /// Runs this, which ends once the client says something. None: others needed the seat.
    pub async fn while_silent<T>(&self, speaks: impl Future<Output = T>) -> Option<T> {
        let _silence = self.falls_silent();
        tokio::select! {
            biased;
            spoke = speaks => Some(spoke),
            () = self.is_needed() => None,
        }
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.seats.silent().connections.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn an_address_leaves_a_quarter_of_the_seats_to_others_until_it_is_known_whose_they_are() {
        let seats = Seats::new(8);
        let far = IpAddr::from([192, 0, 2, 1]);
        let mut held = Vec::new();
        while let Ok(seat) = seats.admit(far).await {
            held.push(seat);
        }
        assert_eq!(held.len(), 6);
        assert!(seats.admit(IpAddr::from([192, 0, 2, 2])).await.is_ok());
        held[0].is_known();
        assert!(seats.admit(far).await.is_ok());
    }

    #[tokio::test]
    async fn who_says_nothing_makes_room_for_who_comes_and_the_oldest_does_so_first() {
        let seats = Seats::new(2);
        let mute =
            |number: u32, seat: Seat| async move { seat.while_silent(std::future::pending::<()>()).await.is_none().then_some(number) };
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..2 {
            tasks.spawn(mute(number, seats.admit(LOCAL).await.unwrap()));
            tokio::task::yield_now().await;
        }
        let seat = seats.admit(LOCAL).await.unwrap();
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), Some(0));
        assert_eq!(seat.while_silent(async { 7 }).await, Some(7));
        assert_eq!(seats.silent().connections.len(), 1, "who has spoken is not among them");
    }

    #[tokio::test]
    async fn silent_connections_of_two_addresses_leave_a_seat_to_a_third_and_the_oldest_of_the_biggest_goes() {
        let seats = Seats::new(8);
        let address = |number| IpAddr::from([192, 0, 2, number]);
        let mut tasks = tokio::task::JoinSet::new();
        for (number, source) in [2, 1, 1, 1, 1, 1, 1, 2].into_iter().enumerate() {
            let seat = seats.admit(address(source)).await.unwrap();
            tasks.spawn(async move { seat.while_silent(std::future::pending::<()>()).await.is_none().then_some(number) });
            tokio::task::yield_now().await;
        }
        let _third = seats.admit(address(3)).await.unwrap();
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), Some(1));
        let _fourth = seats.admit(address(4)).await.unwrap();
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), Some(2));
        let mut held = Vec::new();
        while let Ok(seat) = seats.admit(address(3)).await {
            held.push(seat);
        }
        assert_eq!(held.len(), 5, "its share is the only bound on an address, while others are silent");
    }

    #[tokio::test]
    async fn who_falls_silent_again_is_the_youngest_of_them() {
        let seats = Seats::new(2);
        let (one, two) = (seats.admit(LOCAL).await.unwrap(), seats.admit(LOCAL).await.unwrap());
        let (first, second) = (one.falls_silent(), two.falls_silent());
        drop(first);
        let _again = one.falls_silent();
        assert!(seats.silence_gives_up());
        timeout(Duration::from_millis(20), two.is_needed()).await.unwrap();
        drop(second);
    }

    #[tokio::test]
    async fn who_falls_silent_when_another_waits_already_makes_room_as_well() {
        let seats = Seats::new(1);
        let held = seats.admit(LOCAL).await.unwrap();
        let mut next = pin!(seats.admit(LOCAL));
        assert!(timeout(Duration::from_millis(20), next.as_mut()).await.is_err());
        let asked = async {
            assert!(held.while_silent(std::future::pending::<()>()).await.is_none());
            drop(held);
        };
        let both = async { tokio::join!(asked, next) };
        assert!(timeout(Duration::from_secs(5), both).await.unwrap().1.is_ok());
    }

    #[tokio::test]
    async fn where_all_have_spoken_the_next_one_waits_for_an_end() {
        let seats = Seats::new(1);
        let held = seats.admit(LOCAL).await.unwrap();
        let mut next = pin!(seats.admit(LOCAL));
        assert!(timeout(Duration::from_millis(20), next.as_mut()).await.is_err());
        drop(held);
        assert!(next.await.is_ok());
    }
}
