//! The order in which seats are given up, found in logarithmic time: a flood of newcomers asks for it thousands of times a second, and
//! seated connections wait for its lock.
//!
//! Silent connections stand in three lines. The **mute** have sent nothing at all; the **begun** an incomplete request; the **resting**
//! have sent a request before. Each line is sorted by owner, then by the time of falling silent. An owner with more than half of all seats
//! makes room first, whichever line its connections stand in: a busy owner must not displace others that are about to ask. The trade-off: a
//! connection that rests and asks again keeps its old position until it is examined, so that a request costs no lock; the owner with most
//! is counted with those.

use super::Sitter;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, atomic::Ordering::SeqCst};
use std::time::Duration;
use tokio::time::Instant;

/// How long a newcomer is not evicted after each step that it takes, so that it has time for the next one in a flood: what it sent
/// has to be read, by a task that has to have its turn.
pub(super) const UNDISTURBED: Duration = Duration::from_millis(20);

/// All who have a seat, and the lines of those that are silent.
#[derive(Debug)]
pub(super) struct Order {
    next: u64,
    seated: HashMap<u64, Seated>,
    mute: Line,
    begun: Line,
    resting: Line,
    /// With this many newcomers, mute or begun, they make room for each other before resting ones do.
    newcomers: usize,
    /// With this many mute ones, they make room for each other before those that have begun do.
    mutes: usize,
    /// The seats of each owner, silent or not.
    held: HashMap<Arc<str>, usize>,
    /// An owner with more than this makes room before others do.
    half: usize,
    /// The owner above half, if any: at most one.
    greatest: Option<Arc<str>>,
}

#[derive(Debug)]
struct Seated {
    sitter: Arc<Sitter>,
    /// An address, or a user.
    whose: Arc<str>,
    /// Its line and its number there, if it stands in one.
    stands: Option<(Silence, u64)>,
}

/// The three lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    Mute,
    Begun,
    Resting,
}

/// The connection that makes room.
#[derive(Debug)]
pub(super) enum Turn {
    /// This connection, which is in no line any more.
    Goes(Arc<Sitter>),
    /// A connection, but not before this moment.
    NotBefore(Instant),
    /// None: all connections are being served.
    Nobodys,
}

/// The connections that room is asked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among<'a> {
    /// All connections, the owner with most first.
    All,
    Only(&'a str),
}

impl Order {
    pub fn new(all: usize) -> Self {
        let (mute, begun, resting) = Default::default();
        // Newcomers that come without end would have all others go who rest, or have begun; those would leave newcomers no seat for
        // long enough to ask, or to begin. So a part of all is where each make room among themselves.
        let (newcomers, mutes) = ((all / 4).max(1), (all / 8).max(1));
        let held = HashMap::new();
        Self { next: 0, seated: HashMap::new(), mute, begun, resting, newcomers, mutes, held, half: all / 2, greatest: None }
    }

    /// Adds a connection. Returns the number of its seat.
    pub fn sits_down(&mut self, sitter: Arc<Sitter>, whose: Arc<str>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.has_one_more(&whose);
        self.seated.insert(number, Seated { sitter, whose, stands: None });
        number
    }

    pub fn gets_up(&mut self, number: u64) {
        self.leaves_line(number);
        if let Some(seated) = self.seated.remove(&number) {
            self.has_one_less(&seated.whose);
        }
    }

    fn has_one_more(&mut self, whose: &Arc<str>) {
        let held = self.held.entry(whose.clone()).or_default();
        *held += 1;
        if *held > self.half {
            self.greatest = Some(whose.clone());
        }
    }

    fn has_one_less(&mut self, whose: &Arc<str>) {
        let Some(held) = self.held.get_mut(whose) else { return };
        *held -= 1;
        let held = *held;
        if held == 0 {
            self.held.remove(whose);
        }
        if held <= self.half && self.greatest.as_ref() == Some(whose) {
            self.greatest = None;
        }
    }

    /// Assigns a connection to a user that has become known.
    pub fn is_of(&mut self, number: u64, user: Arc<str>) {
        let stood = self.leaves_line(number);
        if let Some(seated) = self.seated.get_mut(&number) {
            let whose = std::mem::replace(&mut seated.whose, user.clone());
            self.has_one_less(&whose);
            self.has_one_more(&user);
        }
        if let Some((silence, since)) = stood {
            self.stands(number, silence, since);
        }
    }

    /// Puts a connection into this line, with a number that only grows.
    pub fn stands(&mut self, number: u64, silence: Silence, since: u64) {
        self.leaves_line(number);
        let Some(seated) = self.seated.get_mut(&number).filter(|seated| !seated.sitter.is_to_go.load(SeqCst)) else { return };
        seated.stands = Some((silence, since));
        seated.sitter.is_in_line.store(true, SeqCst);
        let (whose, since_when) = (seated.whose.clone(), Instant::now());
        self.line(silence).insert(&whose, since, LinePlace { number, since_when });
    }

    /// Removes a connection from its line, and returns which it was in.
    pub fn leaves_line(&mut self, number: u64) -> Option<(Silence, u64)> {
        let seated = self.seated.get_mut(&number)?;
        seated.sitter.is_in_line.store(false, SeqCst);
        let (silence, since) = seated.stands.take()?;
        let whose = seated.whose.clone();
        self.line(silence).remove(&whose, since);
        Some((silence, since))
    }

    /// The connection that leaves next. `now`: the time at which newcomers that just took a step are spared, if at all.
    pub fn turn(&mut self, among: Among<'_>, now: Option<Instant>) -> Turn {
        if let (Among::All, Some(greatest)) = (among, self.greatest.clone()) {
            match self.turn_among(Among::Only(&greatest), now) {
                Turn::Nobodys => {}
                turn => return turn,
            }
        }
        self.turn_among(among, now)
    }

    fn turn_among(&mut self, among: Among<'_>, now: Option<Instant>) -> Turn {
        let (mute, begun) = (self.mute.len(among), self.begun.len(among));
        if mute + begun < self.newcomers
            && let Some(number) = self.rests_longest(among)
        {
            return self.goes(number);
        }
        let line = if mute >= self.mutes || begun == 0 { &self.mute } else { &self.begun };
        match line.first(among) {
            None => Turn::Nobodys,
            Some((_, first)) => match first.since_when + UNDISTURBED {
                free if now.is_some_and(|now| now < free) => Turn::NotBefore(free),
                _ => self.goes(first.number),
            },
        }
    }

    fn goes(&mut self, number: u64) -> Turn {
        self.leaves_line(number);
        self.seated.get(&number).map_or(Turn::Nobodys, |seated| Turn::Goes(seated.sitter.clone()))
    }

    /// The connection that rests longest. One found at an outdated position is moved to its place, which its last request pays for.
    fn rests_longest(&mut self, among: Among<'_>) -> Option<u64> {
        loop {
            let (since, first) = self.resting.first(among)?;
            let sitter = self.seated.get(&first.number)?.sitter.clone();
            match sitter.silence() {
                Some(silent) if silent == since => return Some(first.number),
                Some(silent) => self.stands(first.number, Silence::Resting, silent),
                None => {
                    self.leaves_line(first.number);
                    // It may have fallen silent before it could know that it is out of line.
                    if let Some(silent) = sitter.silence() {
                        self.stands(first.number, Silence::Resting, silent);
                    }
                }
            }
        }
    }

    fn line(&mut self, silence: Silence) -> &mut Line {
        match silence {
            Silence::Mute => &mut self.mute,
            Silence::Begun => &mut self.begun,
            Silence::Resting => &mut self.resting,
        }
    }
}

/// One line, by whose connections stand in it.
#[derive(Debug, Default)]
struct Line {
    by: HashMap<Arc<str>, BTreeMap<u64, LinePlace>>,
    /// Owners by their number of connections, and the number of the first of them. Numbers are unique.
    ranks: BTreeMap<(usize, Reverse<u64>), Arc<str>>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct LinePlace {
    number: u64,
    since_when: Instant,
}

impl Line {
    fn len(&self, among: Among<'_>) -> usize {
        match among {
            Among::All => self.len,
            Among::Only(whose) => self.by.get(whose).map_or(0, BTreeMap::len),
        }
    }

    /// The connection longest in line, of the owner with most.
    fn first(&self, among: Among<'_>) -> Option<(u64, LinePlace)> {
        let whose = match among {
            Among::All => self.ranks.last_key_value()?.1,
            Among::Only(whose) => whose,
        };
        let (since, standing) = self.by.get(whose)?.first_key_value()?;
        Some((*since, *standing))
    }

    fn insert(&mut self, whose: &Arc<str>, since: u64, standing: LinePlace) {
        let of = self.by.entry(whose.clone()).or_default();
        let before = rank(of);
        if of.insert(since, standing).is_none() {
            self.len += 1;
        }
        let after = rank(of);
        self.ranked(whose, before, after);
    }

    fn remove(&mut self, whose: &Arc<str>, since: u64) {
        let Some(of) = self.by.get_mut(whose) else { return };
        let before = rank(of);
        if of.remove(&since).is_some() {
            self.len -= 1;
        }
        let after = rank(of);
        if after.is_none() {
            self.by.remove(whose);
        }
        self.ranked(whose, before, after);
    }

    fn ranked(&mut self, whose: &Arc<str>, before: Option<Rank>, after: Option<Rank>) {
        if let Some(before) = before {
            self.ranks.remove(&before);
        }
        if let Some(after) = after {
            self.ranks.insert(after, whose.clone());
        }
    }
}

type Rank = (usize, Reverse<u64>);

fn rank(of: &BTreeMap<u64, LinePlace>) -> Option<Rank> {
    of.first_key_value().map(|(first, _)| (of.len(), Reverse(*first)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant as Clock;

    /// A generator of numbers that is the same each time (Knuth's MMIX).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    /// The expected answer, by a linear search.
    fn slow(all: &BTreeMap<u64, (Silence, u64, usize)>, seated: &HashMap<u64, usize>, order: &Order) -> Option<u64> {
        let held = |whose: usize| seated.values().filter(|of| **of == whose).count();
        let greatest = (0..4).find(|whose| held(*whose) > order.half).filter(|whose| all.values().any(|one| one.2 == *whose));
        let of = |silence: Silence| all.iter().filter(move |(_, one)| one.0 == silence && greatest.is_none_or(|whose| one.2 == whose));
        let (mute, begun) = (of(Silence::Mute).count(), of(Silence::Begun).count());
        let line = match () {
            () if mute + begun < order.newcomers && of(Silence::Resting).count() > 0 => Silence::Resting,
            () if mute >= order.mutes || begun == 0 => Silence::Mute,
            () => Silence::Begun,
        };
        let mut counts: HashMap<usize, (usize, Reverse<u64>)> = HashMap::new();
        for (_, (_, since, whose)) in of(line) {
            let count = counts.entry(*whose).or_insert((0, Reverse(u64::MAX)));
            *count = (count.0 + 1, count.1.max(Reverse(*since)));
        }
        let (whose, _) = counts.into_iter().max_by_key(|(_, rank)| *rank)?;
        of(line).filter(|(_, one)| one.2 == whose).min_by_key(|(_, one)| one.1).map(|(number, _)| *number)
    }

    #[test]
    fn whoever_is_found_is_the_one_that_looking_through_all_of_them_finds() {
        let mut numbers = Numbers(7);
        let whose: Vec<Arc<str>> = ["a", "b", "c", "d"].map(Arc::from).to_vec();
        let (mut order, mut all, mut sitters, mut since) = (Order::new(64), BTreeMap::new(), HashMap::new(), 0);
        let mut owners = HashMap::new();
        for _ in 0..20_000 {
            since += 1;
            let some = sitters.keys().copied().nth(numbers.below(64) as usize);
            match (numbers.below(6), some) {
                (0..2, _) | (_, None) if sitters.len() < 64 => {
                    let (sitter, of) = (Arc::new(Sitter::new("x".into())), numbers.below(numbers.0 % 4 + 1) as usize);
                    let number = order.sits_down(sitter.clone(), whose[of].clone());
                    sitter.silent_since.store(since, SeqCst);
                    order.stands(number, Silence::Mute, since);
                    sitters.insert(number, sitter);
                    owners.insert(number, of);
                    all.insert(number, (Silence::Mute, since, of));
                }
                (1 | 2, Some(number)) => {
                    let Some(entry) = all.get_mut(&number) else { continue };
                    let silence = [Silence::Begun, Silence::Resting][numbers.below(2) as usize];
                    sitters[&number].silent_since.store(since, SeqCst);
                    // A resting connection that asked meanwhile is not moved at once.
                    if entry.0 != Silence::Resting {
                        order.stands(number, silence, since);
                        entry.0 = silence;
                    }
                    entry.1 = since;
                }
                (3, Some(number)) => {
                    order.gets_up(number);
                    sitters.remove(&number);
                    owners.remove(&number);
                    all.remove(&number);
                }
                _ => {
                    let expected = slow(&all, &owners, &order);
                    match order.turn(Among::All, None) {
                        Turn::Goes(sitter) => {
                            let (number, _) = sitters.iter().find(|(_, one)| Arc::ptr_eq(one, &sitter)).unwrap();
                            assert_eq!(expected, Some(*number));
                            all.remove(number);
                        }
                        turn => assert!(expected.is_none() && matches!(turn, Turn::Nobodys), "{expected:?} {turn:?}"),
                    }
                }
            }
        }
    }

    /// Looking through all of them takes more than a hundred times as long.
    #[test]
    fn a_hundred_thousand_evictions_among_sixty_thousand_take_less_than_a_few_seconds() {
        let (mut order, mut since) = (Order::new(65_536), 0);
        let mut comes = |order: &mut Order| {
            since += 1;
            let sitter = Arc::new(Sitter::new("x".into()));
            sitter.silent_since.store(since, SeqCst);
            let number = order.sits_down(sitter, ["a", "b", "c"][since as usize % 3].into());
            order.stands(number, Silence::Mute, since);
        };
        (0..65_536).for_each(|_| comes(&mut order));
        let began = Clock::now();
        for _ in 0..100_000 {
            assert!(matches!(order.turn(Among::All, None), Turn::Goes(_)));
            comes(&mut order);
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
