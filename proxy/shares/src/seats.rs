//! Seats for connections: so many in all, so many for each address, and none kept from others by saying nothing.
//!
//! A connection keeps its seat to its end. Where all are taken, the oldest connection that is silent gives its seat up, of whoever has
//! most silent ones, a user where it is known and an address else: first one that has said nothing, then one that has begun to ask,
//! then one that rests. Whoever has more than half of all seats makes room before others do. Of each kind a part of all seats is where they make room for each other first: so a flood that says nothing
//! costs none its seat that is about to ask, one that only begins costs none that rests, and neither keeps others out. Who has just
//! come, or taken a step towards a request, is left alone for 20 ms. Where none is silent, or all that are came just now, further ones
//! wait to be accepted. An address that has its share makes room among its own in the same way, at once.

mod order;

use crate::{Bounds, Refused, Share, Shares};
use order::{Among, Order, Silence, Turn};
use parking_lot::{Mutex, MutexGuard};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

/// The time to wait for a seat that was just given up.
const GIVES_UP: Duration = Duration::from_millis(200);
/// The value for a connection that is not silent.
const SPEAKS: u64 = u64::MAX;
/// How many steps towards its first request put a newcomer behind others: its first words, a request for a tunnel, a ClientHello, a
/// handshake. Without a bound a client that drips would never be the oldest.
const STEPS: u8 = 4;

/// All seats of one listener, or of several that share them.
#[derive(Debug)]
pub struct Seats {
    all: Arc<Shares>,
    /// Of source addresses other than the host's own.
    sources: Arc<Shares>,
    order: Mutex<Order>,
    /// The number of times that a seat fell silent. Read with each request, so there is no lock on it.
    silences: AtomicU64,
    fell_silent: Notify,
    /// The number of connections that wait for a seat to fall silent.
    waiting: AtomicUsize,
}

/// A connection that has a seat.
#[derive(Debug)]
struct Sitter {
    source: Arc<str>,
    /// The turn at which it fell silent, in the order of all that did.
    silent_since: AtomicU64,
    steps: AtomicU8,
    has_asked: AtomicBool,
    /// Others find it where silent ones are looked for.
    is_in_line: AtomicBool,
    is_to_go: AtomicBool,
    give_up: Notify,
}

/// The seat of one connection, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    number: u64,
    sitter: Arc<Sitter>,
    of_source: Mutex<Option<Share>>,
    _seat: Share,
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
            order: Mutex::new(Order::new(all)),
            silences: AtomicU64::new(0),
            fell_silent: Notify::new(),
            waiting: AtomicUsize::new(0),
        })
    }

    /// A seat for a connection that was accepted, which is not silent yet. Waits while there is none.
    ///
    /// # Errors
    /// Its source address has its share, and none of those is silent: nothing else is a reason.
    pub async fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Seat, Refused> {
        let ip = client.to_canonical();
        let source: Arc<str> = ip.to_string().into();
        let is_everybody_s = ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
        let of_source = if is_everybody_s { None } else { Some(self.of_source(&source).await?) };
        let seat = loop {
            let (mut freed, mut fell_silent) = (pin!(self.all.freed()), pin!(self.fell_silent.notified()));
            freed.as_mut().enable();
            fell_silent.as_mut().enable();
            let _waits = Waits::on(&self.waiting);
            match self.all.take(&source) {
                Ok(seat) => break seat,
                Err(_) => match self.turn(Among::All, Some(Instant::now())) {
                    Room::Asked => _ = timeout(GIVES_UP, freed).await,
                    Room::NotBefore(when) => tokio::select! {
                        () = freed => {}
                        () = sleep_until(when) => {}
                    },
                    // Those that have the seats are served, or were admitted just now and have not begun to listen for their client.
                    Room::None => tokio::select! {
                        () = freed => {}
                        () = fell_silent => {}
                    },
                },
            }
        };
        let sitter = Arc::new(Sitter::new(source.clone()));
        let number = self.order().sits_down(sitter.clone(), source);
        Ok(Seat { seats: self.clone(), number, sitter, of_source: Mutex::new(of_source), _seat: seat })
    }

    /// A part of what an address may have. Who comes is no worse than who came from there before and says nothing.
    async fn of_source(&self, source: &Arc<str>) -> Result<Share, Refused> {
        let mut freed = pin!(self.sources.freed());
        freed.as_mut().enable();
        let refused = match self.sources.take(source) {
            Ok(share) => return Ok(share),
            Err(refused) => refused,
        };
        // Nobody else is to wait for those of one address, so they are not left alone for a moment either.
        if self.turn(Among::Only(source), None) != Room::Asked {
            return Err(refused);
        }
        let comes = async {
            loop {
                freed.as_mut().await;
                freed.set(self.sources.freed());
                freed.as_mut().enable();
                if let Ok(share) = self.sources.take(source) {
                    return share;
                }
            }
        };
        timeout(GIVES_UP, comes).await.map_err(|_| refused)
    }

    /// Asks the connection whose turn it is to give its seat up, however short a time ago it came. False if there is none.
    pub fn silence_gives_up(&self) -> bool {
        self.turn(Among::All, None) == Room::Asked
    }

    fn turn(&self, among: Among<'_>, now: Option<Instant>) -> Room {
        let mut order = self.order();
        match order.turn(among, now) {
            Turn::Goes(sitter) => {
                sitter.is_to_go.store(true, SeqCst);
                drop(order);
                sitter.give_up.notify_waiters();
                Room::Asked
            }
            Turn::NotBefore(when) => Room::NotBefore(when),
            Turn::Nobodys => Room::None,
        }
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock()
    }
}

/// What came of asking for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Somebody was asked to go.
    Asked,
    /// Nobody may be before this moment.
    NotBefore(Instant),
    None,
}

/// Counts a waiting connection while it exists.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn on(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, SeqCst);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Sitter {
    fn new(source: Arc<str>) -> Self {
        Self {
            source,
            silent_since: AtomicU64::new(SPEAKS),
            steps: AtomicU8::new(0),
            has_asked: AtomicBool::new(false),
            is_in_line: AtomicBool::new(false),
            is_to_go: AtomicBool::new(false),
            give_up: Notify::new(),
        }
    }

    /// Since when it says nothing, if that is so.
    fn silence(&self) -> Option<u64> {
        Some(self.silent_since.load(SeqCst)).filter(|since| *since != SPEAKS)
    }
}

impl Seat {
    /// The address that the connection comes from.
    #[must_use]
    pub fn source(&self) -> &Arc<str> {
        &self.sitter.source
    }

    /// It has become known whose it is: it counts for this user, and for its address no longer.
    pub fn is_of(&self, user: &str) {
        // No address has a space.
        self.seats.order().is_of(self.number, format!("user {user}").into());
        *self.of_source.lock() = None;
    }

    /// Marks the connection as silent: it may be asked to go.
    pub fn falls_silent(&self) {
        let since = self.seats.silences.fetch_add(1, SeqCst);
        self.sitter.silent_since.store(since, SeqCst);
        let silence = match (self.has_asked(), self.sitter.steps.load(SeqCst)) {
            (true, _) => Silence::Resting,
            (false, 0) => Silence::Mute,
            (false, _) => Silence::Begun,
        };
        // Who rests and is found is put where it belongs by whoever finds it.
        if silence != Silence::Resting || !self.sitter.is_in_line.load(SeqCst) {
            self.seats.order().stands(self.number, silence, since);
        }
        if self.seats.waiting.load(SeqCst) > 0 {
            self.seats.fell_silent.notify_waiters();
        }
    }

    /// It has said something on the way to its first request: those that have not give their seats up before it. Counts four times.
    pub fn takes_a_step(&self) {
        if self.has_asked() || self.sitter.silence().is_none() || self.sitter.steps.load(SeqCst) >= STEPS {
            return;
        }
        self.sitter.steps.fetch_add(1, SeqCst);
        self.falls_silent();
    }

    /// It has asked for something, whole: from now on it is not silent.
    pub fn asks(&self) {
        self.sitter.silent_since.store(SPEAKS, SeqCst);
        if !self.sitter.has_asked.swap(true, SeqCst) {
            self.seats.order().leaves_line(self.number);
        }
    }

    /// True if it ever sent a request.
    #[must_use]
    pub fn has_asked(&self) -> bool {
        self.sitter.has_asked.load(SeqCst)
    }

    /// True if it was asked to go.
    #[must_use]
    pub fn is_to_go(&self) -> bool {
        self.sitter.is_to_go.load(SeqCst)
    }

    /// Completes when others need the seat of this connection, as it was silent; at once if that was so before the call.
    pub async fn is_needed(&self) {
        let mut asked = pin!(self.sitter.give_up.notified());
        asked.as_mut().enable();
        if !self.sitter.is_to_go.load(SeqCst) {
            asked.await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.order().gets_up(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const SOON: Duration = Duration::from_secs(5);
    const MOMENT: Duration = Duration::from_millis(20);

    fn far(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    async fn is_asked_to_go(seat: &Seat) -> bool {
        timeout(MOMENT, seat.is_needed()).await.is_ok()
    }

    /// A connection that stays silent, and goes when it is asked to.
    fn mute(seat: Seat, number: usize) -> impl Future<Output = usize> {
        seat.falls_silent();
        async move {
            seat.is_needed().await;
            number
        }
    }

    #[tokio::test]
    async fn an_address_leaves_a_quarter_of_the_seats_to_others_until_it_is_known_whose_they_are() {
        let seats = Seats::new(8);
        let mut held = Vec::new();
        while let Ok(seat) = seats.admit(far(1)).await {
            held.push(seat);
        }
        assert_eq!(held.len(), 6);
        assert!(seats.admit(far(2)).await.is_ok());
        held[0].is_of("1");
        assert!(seats.admit(far(1)).await.is_ok());
    }

    #[tokio::test]
    async fn an_address_that_has_its_share_makes_room_among_its_own_that_are_silent() {
        let seats = Seats::new(8);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..6 {
            tasks.spawn(mute(seats.admit(far(1)).await.unwrap(), number));
        }
        let other = seats.admit(far(2)).await.unwrap();
        other.falls_silent();
        let _next = timeout(SOON, seats.admit(far(1))).await.unwrap().unwrap();
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), 0, "its oldest");
        assert!(!is_asked_to_go(&other).await);
    }

    #[tokio::test]
    async fn who_says_nothing_makes_room_for_who_comes_and_the_oldest_does_so_first() {
        let seats = Seats::new(2);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..2 {
            tasks.spawn(mute(seats.admit(LOCAL).await.unwrap(), number));
        }
        let seat = seats.admit(LOCAL).await.unwrap();
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), 0);
        seat.falls_silent();
        seat.asks();
        assert!(seats.silence_gives_up());
        assert!(!seats.silence_gives_up(), "who has asked for something is not among them");
    }

    #[tokio::test]
    async fn silent_connections_of_two_addresses_leave_a_seat_to_a_third_and_the_oldest_of_the_biggest_goes() {
        let seats = Seats::new(8);
        let mut tasks = tokio::task::JoinSet::new();
        for (number, source) in [2, 1, 1, 1, 1, 1, 1, 2].into_iter().enumerate() {
            tasks.spawn(mute(seats.admit(far(source)).await.unwrap(), number));
        }
        let _third = seats.admit(far(3)).await.unwrap();
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), 1);
        let _fourth = seats.admit(far(4)).await.unwrap();
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), 2);
        let mut held = Vec::new();
        while let Ok(seat) = seats.admit(far(3)).await {
            held.push(seat);
        }
        assert_eq!(held.len(), 5, "its share is the only bound on an address, while others are silent");
    }

    #[tokio::test]
    async fn who_falls_silent_again_is_the_youngest_of_them() {
        let seats = Seats::new(2);
        let (one, two) = (seats.admit(LOCAL).await.unwrap(), seats.admit(LOCAL).await.unwrap());
        for seat in [&one, &two, &one] {
            seat.asks();
            seat.falls_silent();
        }
        assert!(seats.silence_gives_up());
        assert!(is_asked_to_go(&two).await && !is_asked_to_go(&one).await);
    }

    #[tokio::test]
    async fn who_never_asked_goes_before_who_rests_unless_these_have_nearly_all_seats() {
        let seats = Seats::new(8);
        let mut all = Vec::new();
        for number in 0..8 {
            let seat = seats.admit(LOCAL).await.unwrap();
            if number < 6 {
                seat.asks();
            }
            seat.falls_silent();
            all.push(seat);
        }
        assert!(seats.silence_gives_up() && is_asked_to_go(&all[6]).await);
        assert!(seats.silence_gives_up() && is_asked_to_go(&all[0]).await, "one newcomer may have the time to ask");
        assert!(!is_asked_to_go(&all[7]).await);
    }

    #[tokio::test]
    async fn who_falls_silent_when_another_waits_already_makes_room_as_well() {
        let seats = Seats::new(1);
        let held = seats.admit(LOCAL).await.unwrap();
        let mut next = pin!(seats.admit(LOCAL));
        assert!(timeout(MOMENT, next.as_mut()).await.is_err());
        let both = async { tokio::join!(mute(held, 0), next) };
        assert!(timeout(SOON, both).await.unwrap().1.is_ok());
    }

    #[tokio::test]
    async fn where_all_have_asked_the_next_one_waits_for_an_end() {
        let seats = Seats::new(1);
        let held = seats.admit(LOCAL).await.unwrap();
        held.falls_silent();
        held.asks();
        let mut next = pin!(seats.admit(LOCAL));
        assert!(timeout(MOMENT, next.as_mut()).await.is_err());
        drop(held);
        assert!(next.await.is_ok());
    }

    #[tokio::test]
    async fn a_flood_that_says_nothing_costs_none_its_seat_that_has_begun() {
        let seats = Seats::new(16);
        let begun = seats.admit(LOCAL).await.unwrap();
        begun.falls_silent();
        begun.takes_a_step();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..200 {
            let seat = timeout(SOON, seats.admit(LOCAL)).await.unwrap().unwrap();
            tasks.spawn(mute(seat, number));
        }
        assert!(!begun.is_to_go());
    }

    #[tokio::test]
    async fn those_that_only_begin_make_room_for_each_other_and_the_oldest_does_so_first_however_it_drips() {
        let seats = Seats::new(16);
        let mut all = Vec::new();
        for _ in 0..16 {
            let seat = seats.admit(LOCAL).await.unwrap();
            seat.falls_silent();
            all.push(seat);
        }
        for step in 0..100 {
            all[0].takes_a_step();
            if step < 10 {
                all.iter().for_each(Seat::takes_a_step);
            }
        }
        let mut next = pin!(seats.admit(LOCAL));
        assert!(timeout(MOMENT * 3, next.as_mut()).await.is_err());
        assert!(is_asked_to_go(&all[0]).await);
        drop(all.remove(0));
        let next = timeout(SOON, next).await.unwrap().unwrap();
        next.falls_silent();
        assert!(seats.silence_gives_up() && is_asked_to_go(&all[0]).await, "one that has said nothing has the time to begin");
        assert!(!is_asked_to_go(&next).await);
    }

    #[tokio::test]
    async fn who_came_just_now_is_left_alone_for_a_moment_and_the_next_one_waits_for_that() {
        let seats = Seats::new(4);
        let mut tasks = tokio::task::JoinSet::new();
        let began = Instant::now();
        for number in 0..4 {
            tasks.spawn(mute(seats.admit(LOCAL).await.unwrap(), number));
        }
        let _next = timeout(SOON, seats.admit(LOCAL)).await.unwrap().unwrap();
        assert!(began.elapsed() >= order::UNDISTURBED);
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn who_has_more_than_half_of_the_seats_makes_room_before_one_who_is_about_to_ask() {
        let seats = Seats::new(16);
        let mut resting = Vec::new();
        for _ in 0..13 {
            let seat = seats.admit(LOCAL).await.unwrap();
            seat.asks();
            seat.falls_silent();
            resting.push(seat);
        }
        // Three of another address, each at another step towards its first request, slower than those that come and come.
        let mut slow = Vec::new();
        for _ in 0..3 {
            let seat = seats.admit(far(9)).await.unwrap();
            seat.falls_silent();
            slow.push(seat);
        }
        slow[2].takes_a_step();
        tokio::time::sleep(2 * order::UNDISTURBED).await;
        for _ in 0..13 {
            assert!(seats.silence_gives_up());
        }
        assert!(resting.iter().all(Seat::is_to_go) && !slow.iter().any(Seat::is_to_go));
    }

    #[tokio::test]
    async fn a_user_s_newcomers_cost_no_other_user_of_the_host_its_seat() {
        let seats = Seats::new(8);
        let mut tasks = tokio::task::JoinSet::new();
        let other = seats.admit(LOCAL).await.unwrap();
        other.is_of("2");
        other.falls_silent();
        for number in 0..50 {
            let seat = timeout(SOON, seats.admit(LOCAL)).await.unwrap().unwrap();
            seat.is_of("1");
            tasks.spawn(mute(seat, number));
        }
        assert!(!other.is_to_go());
    }

    #[tokio::test]
    async fn who_asks_again_and_again_keeps_its_seat_while_others_rest() {
        let seats = Seats::new(4);
        let mut all = Vec::new();
        for _ in 0..4 {
            let seat = seats.admit(LOCAL).await.unwrap();
            seat.asks();
            seat.falls_silent();
            all.push(seat);
        }
        for _ in 0..3 {
            all[0].asks();
            all[0].falls_silent();
        }
        all[1].asks();
        for number in [2, 3, 0] {
            assert!(seats.silence_gives_up() && all[number].is_to_go(), "{number}");
        }
        assert!(!seats.silence_gives_up(), "the last one is served");
        all[1].falls_silent();
        assert!(seats.silence_gives_up() && all[1].is_to_go());
    }
}
