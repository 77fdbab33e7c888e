//! Which refused log-ins are recorded: anybody can cause them, from as many addresses as they like, and must not fill the audit by that.
//!
//! One of each network at a time, and so many of all; the rest is counted, for one record that sums it up.

use parking_lot::Mutex;
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// The time in which one refusal of a network is recorded, and [`AT_A_TIME`] of all.
pub(crate) const WITHIN: Duration = Duration::from_secs(10);
/// The most that are recorded one by one in that time.
pub(crate) const AT_A_TIME: usize = 64;

/// Whether a refusal is recorded by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Yes,
    No,
}

/// The refusals of a portal, of the last seconds.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    begun: Option<Instant>,
    /// The networks that one is recorded of.
    told: HashSet<IpAddr>,
    /// Those of other networks.
    more: u64,
    /// Those of windows that are over.
    over: u64,
}

impl Window {
    /// Begins anew where its time is over.
    fn at(&mut self, now: Instant) {
        if self.begun.is_some_and(|begun| now.duration_since(begun) < WITHIN) {
            return;
        }
        self.over = self.over.saturating_add(std::mem::take(&mut self.more));
        self.told.clear();
        self.begun = None;
    }
}

impl Refusals {
    pub fn new() -> Self {
        Self(Mutex::default())
    }

    /// Somebody at this address is refused.
    pub fn tells(&self, address: IpAddr, now: Instant) -> Told {
        let mut window = self.0.lock();
        window.at(now);
        window.begun.get_or_insert(now);
        let network = network(address);
        if window.told.contains(&network) {
            return Told::No;
        }
        if window.told.len() >= AT_A_TIME {
            window.more = window.more.saturating_add(1);
            return Told::No;
        }
        window.told.insert(network);
        Told::Yes
    }

    /// How many more there were in the time that is over, once.
    pub fn summed_up(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock();
        window.at(now);
        Some(std::mem::take(&mut window.over)).filter(|more| *more > 0)
    }
}

/// What one host can have all addresses of: of IPv6 a network of 64 bits (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn nobody_can_fill_the_audit_by_log_ins_that_are_refused() {
        let (refusals, begun) = (Refusals::new(), Instant::now());
        let within = |n: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 7, n, n, n, n));
        let told = (0..2000).filter(|n| refusals.tells(within(*n), begun) == Told::Yes).count();
        assert_eq!((told, refusals.summed_up(begun + WITHIN)), (1, None), "addresses of one network are one host's");
        let of_v4 = |n: u32| IpAddr::from(Ipv4Addr::from(n << 8));
        let later = begun + 2 * WITHIN;
        let told = (0..2000).filter(|n| refusals.tells(of_v4(*n), later) == Told::Yes).count();
        assert_eq!((told, refusals.summed_up(later)), (AT_A_TIME, None));
        assert_eq!(refusals.tells(of_v4(0), later + WITHIN), Told::Yes, "after that, one by one again");
        assert_eq!(refusals.summed_up(later + WITHIN), Some(2000 - AT_A_TIME as u64));
        assert_eq!(refusals.summed_up(later + 2 * WITHIN), None, "each is counted once");
    }
}
