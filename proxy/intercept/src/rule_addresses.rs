//! The addresses of names that rules ask for: a rule that names a host counts for a connection by address as well.
//!
//! Only what those names resolve to now counts; nothing is remembered of other connections, as a verdict must not depend on them, but for
//! some seconds that a name was not found.

use gnomon_engine::NamedServers;
use gnomon_http::Dialer;
use gnomon_inspect::Connection;
use quick_cache::sync::Cache;
use smol_str::SmolStr;
use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

/// The timeout of checking whether a name is one of an address. Names that are not found are not looked up again at once.
pub(crate) const RESOLVE: Duration = Duration::from_secs(2);
/// Most names of rules and denials that are looked up, in order of the alphabet those of rules and then those of denials; and how long
/// the answers are believed.
const RULE_NAMES: usize = 64;
const BELIEVED: Duration = Duration::from_secs(60);

/// Addresses of names that rules ask for; an entry per name and port.
#[derive(Debug)]
pub(crate) struct RuleAddresses {
    known: Cache<(SmolStr, u16), Addresses>,
    /// True once it was logged that some names are not looked up.
    told: AtomicBool,
}

/// The addresses of one name, and since when they are known.
type Addresses = (Arc<[IpAddr]>, Instant);

impl Default for RuleAddresses {
    fn default() -> Self {
        Self { known: Cache::new(4 * RULE_NAMES), told: AtomicBool::new(false) }
    }
}

impl RuleAddresses {
    /// The connection to this address as the strictest of those names has it that rules ask for and that lead there.
    pub(crate) async fn also_led_to(&self, dialer: &Dialer, mut connection: Connection, address: SocketAddr) -> Connection {
        let asked = Asked::of(connection.rules().named_servers(), connection.denied_servers());
        self.tell(&asked);
        if asked.names().is_empty() {
            return connection;
        }
        for (name, port) in self.leading_to(dialer, asked.names(), address).await {
            connection = connection.also_at(&name, port);
        }
        connection
    }

    /// The connection to this host, a name or an address, as the strictest of those names has it that rules ask for and that lead to an
    /// address of its.
    pub(crate) async fn also_of(&self, dialer: &Dialer, mut connection: Connection, host: &str, port: u16) -> Connection {
        if connection.rules().named_servers().is_empty() && connection.denied_servers().is_empty() {
            return connection;
        }
        for address in addresses(dialer, host, port).await {
            connection = self.also_led_to(dialer, connection, address).await;
        }
        connection
    }

    /// The names that lead to this address, each with the port that it is asked for with there.
    async fn leading_to(&self, dialer: &Dialer, names: &[SmolStr], address: SocketAddr) -> Vec<(SmolStr, u16)> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        // Names that are looked up keep their port; those that are written down may have another.
        let named = |name: &SmolStr| names.iter().any(|named| named.eq_ignore_ascii_case(name));
        let written_down = dialer.written_down_to(address).filter(|(name, _)| named(name));
        let mut leading: Vec<_> = written_down.map(|(name, port)| (name.clone(), port)).collect();
        let mut asked = JoinSet::new();
        for name in names {
            match self.known.get(&(name.clone(), port)) {
                Some((known, since)) if since.elapsed() < BELIEVED => {
                    if known.contains(&ip) {
                        leading.push((name.clone(), port));
                    }
                }
                _ => {
                    let (dialer, name) = (dialer.clone(), name.clone());
                    asked.spawn(async move {
                        let found = timeout(RESOLVE, dialer.addresses(&name, port)).await;
                        (name, found.map(Result::unwrap_or_default).unwrap_or_default())
                    });
                }
            }
        }
        while let Some(answer) = asked.join_next().await {
            let Ok((name, found)) = answer else { continue };
            let found: Arc<[IpAddr]> = found.iter().map(|address| address.ip().to_canonical()).collect();
            if found.contains(&ip) {
                leading.push((name.clone(), port));
            }
            self.known.insert((name, port), (found, Instant::now()));
        }
        leading.sort_unstable();
        leading.dedup();
        leading
    }

    /// Logs once, where names are too many, which of them count.
    fn tell(&self, asked: &Asked) {
        match asked.last() {
            None => self.told.store(false, Ordering::Relaxed),
            Some(last) if !self.told.swap(true, Ordering::Relaxed) => tracing::warn!(
                %last,
                "rules and reviews name more than {RULE_NAMES} servers: for a connection by address the names of rules are looked up and then \
                 the denied ones, each in order of the alphabet, to the last one here; the servers of others can be had by their address"
            ),
            Some(_) => {}
        }
    }
}

/// Whether a name, as this dialer resolves it, is one of this address.
pub(crate) async fn leads_to(dialer: &Dialer, name: &str, port: u16, ip: IpAddr) -> bool {
    let found = dialer.addresses_within(RESOLVE, name, port).await;
    found.is_ok_and(|addresses| addresses.iter().any(|address| address.ip().to_canonical() == ip.to_canonical()))
}

/// The addresses of a host, as whoever dials it finds them now.
async fn addresses(dialer: &Dialer, host: &str, port: u16) -> Vec<SocketAddr> {
    match gnomon_kit::address(host) {
        Some(ip) => vec![SocketAddr::new(ip, port)],
        None => dialer.addresses_within(RESOLVE, host, port).await.unwrap_or_default(),
    }
}

/// Names that are looked up, or the first of them.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    All(Vec<SmolStr>),
    First(Vec<SmolStr>),
}

impl Asked {
    /// The names of rules first, as their authors name few. Both are in order of the alphabet, so that it is known which count.
    fn of(rules: &NamedServers, denied: &[SmolStr]) -> Self {
        let mut all = rules.iter().chain(denied.iter().filter(|name| !rules.contains(*name))).cloned();
        let names = all.by_ref().take(RULE_NAMES).collect();
        if all.next().is_none() { Self::All(names) } else { Self::First(names) }
    }

    fn names(&self) -> &[SmolStr] {
        match self {
            Self::All(names) | Self::First(names) => names,
        }
    }

    /// The last one that counts, where others do not.
    fn last(&self) -> Option<&SmolStr> {
        match self {
            Self::All(_) => None,
            Self::First(names) => names.last(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_names_those_of_rules_count_first_and_each_in_order_of_the_alphabet() {
        let numbered = |of: &str| (0..40).map(|n| SmolStr::new(format!("{of}{n:02}.example"))).collect::<Vec<_>>();
        let rules: NamedServers = numbered("rule").into_iter().rev().collect();
        let denied = [numbered("denied"), vec!["rule07.example".into()]].concat();
        let asked = Asked::of(&rules, &denied);
        let names = asked.names();
        assert_eq!((names.len(), names[0].as_str(), names[39].as_str()), (RULE_NAMES, "rule00.example", "rule39.example"));
        assert_eq!((names[40].as_str(), names[63].as_str()), ("denied00.example", "denied23.example"));
        assert_eq!(asked.last().map(SmolStr::as_str), Some("denied23.example"));
        assert_eq!(Asked::of(&rules, &denied[..24]).last(), None);
        assert_eq!(Asked::of(&rules, &[denied[..24].to_vec(), vec!["rule07.example".into()]].concat()).last(), None);
    }
}
