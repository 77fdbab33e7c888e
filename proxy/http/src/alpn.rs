//! A bounded memory of which application protocol each upstream chose.
//!
//! A client that offers both h2 and HTTP/1.1 must be answered in the protocol its server would have
//! picked, so the proxy has to ask the server first. It asks once: the answer is remembered here.
//! An answer that has become wrong is found out by [`Pools`](crate::Pools), which forgets it.

use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use smol_str::SmolStr;

use crate::Alpn;

/// How long an upstream's choice is cached. Servers change protocol on deployments, not by the
/// minute, and a stale answer is noticed anyway.
pub const ALPN_TTL: Duration = Duration::from_secs(600);

/// The default capacity of an [`AlpnCache`], upstreams.
pub const ALPN_CAPACITY: usize = 4096;

/// (host, port) → the protocol that the upstream chose when it was offered both.
#[derive(Debug)]
pub struct AlpnCache {
    chosen: Cache<(SmolStr, u16), (Alpn, Instant)>,
    ttl: Duration,
}

impl Default for AlpnCache {
    fn default() -> Self {
        Self::new(ALPN_CAPACITY, ALPN_TTL)
    }
}

impl AlpnCache {
    /// A cache of at most `capacity` upstreams whose entries are believed for `ttl`.
    #[must_use]
    pub fn new(capacity: usize, ttl: Duration) -> Self {
        Self { chosen: Cache::new(capacity), ttl }
    }

    /// The protocol that this upstream chose, if it was asked within the TTL. Host names compare as given:
    /// callers pass lower case.
    #[must_use]
    pub fn get(&self, host: &str, port: u16) -> Option<Alpn> {
        let (alpn, learnt) = self.chosen.get(&(SmolStr::new(host), port))?;
        (learnt.elapsed() < self.ttl).then_some(alpn)
    }

    /// Remembers the upstream's choice, replacing an older one.
    pub fn learn(&self, host: &str, port: u16, alpn: Alpn) {
        self.chosen.insert((SmolStr::new(host), port), (alpn, Instant::now()));
    }

    /// Forgets the upstream's choice, so that the next client has it asked again.
    pub fn forget(&self, host: &str, port: u16) {
        self.chosen.remove(&(SmolStr::new(host), port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_believed_until_its_ttl_has_passed() {
        let fresh = AlpnCache::new(8, Duration::from_secs(60));
        fresh.learn("mcp.example", 443, Alpn::H2);
        assert_eq!(fresh.get("mcp.example", 443), Some(Alpn::H2));
        assert_eq!(fresh.get("mcp.example", 8443), None);
        let stale = AlpnCache::new(8, Duration::ZERO);
        stale.learn("mcp.example", 443, Alpn::H2);
        assert_eq!(stale.get("mcp.example", 443), None);
    }

    #[test]
    fn a_forgotten_answer_is_gone() {
        let cache = AlpnCache::default();
        cache.learn("mcp.example", 443, Alpn::H2);
        cache.forget("mcp.example", 443);
        assert_eq!(cache.get("mcp.example", 443), None);
    }

    #[test]
    fn the_cache_stays_within_its_bound() {
        let cache = AlpnCache::new(64, ALPN_TTL);
        for port in 0..10_000 {
            cache.learn("mcp.example", port, Alpn::H2);
        }
        assert!(cache.chosen.len() <= 64);
    }
}
