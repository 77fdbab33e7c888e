//! Which server a connection leads to, by all the names that are known of it.
//!
//! A rule that names a host counts for that host however it is asked for: by its address, by another name of it, or by the `Host` of a
//! request without TLS. What is known is what the client says and what names that rules ask for resolve to, now; nothing is
//! remembered of other connections, as a verdict must not depend on them, but for some seconds that a name of this user's was not found.

use super::Tunnel;
use crate::proxy::Shared;
use gnomon_inspect::Connection;
use quick_cache::sync::Cache;
use smol_str::SmolStr;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

/// How long it may take to find out whether a name is one of an address. Names that are not found are not asked for again at once.
const RESOLVE: Duration = Duration::from_secs(2);
/// Most names of rules and denials that are looked up, and how long the answers are believed.
const RULE_NAMES: usize = 64;
const BELIEVED: Duration = Duration::from_secs(60);

/// Addresses of names that rules ask for; an entry per name and port.
#[derive(Debug)]
pub(crate) struct RuleAddresses(Cache<(SmolStr, u16), Addresses>);

/// Of one name, and since when they are known.
type Addresses = (Arc<[IpAddr]>, Instant);

impl Default for RuleAddresses {
    fn default() -> Self {
        Self(Cache::new(4 * RULE_NAMES))
    }
}

impl RuleAddresses {
    /// Those of the names that lead to this address, each with the port that it is asked for with there.
    async fn leading_to(&self, shared: &Arc<Shared>, names: &[SmolStr], address: SocketAddr) -> Vec<(SmolStr, u16)> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        // Names that are looked up keep their port; those that are written down may have another.
        let named = |name: &SmolStr| names.iter().any(|named| named.eq_ignore_ascii_case(name));
        let written_down = shared.dialer.written_down_to(address).filter(|(name, _)| named(name));
        let mut leading: Vec<_> = written_down.map(|(name, port)| (name.clone(), port)).collect();
        let mut asked = JoinSet::new();
        for name in names {
            match self.0.get(&(name.clone(), port)) {
                Some((known, since)) if since.elapsed() < BELIEVED => {
                    if known.contains(&ip) {
                        leading.push((name.clone(), port));
                    }
                }
                _ => {
                    let (shared, name) = (shared.clone(), name.clone());
                    asked.spawn(async move {
                        let found = timeout(RESOLVE, shared.dialer.addresses(&name, port)).await;
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
            self.0.insert((name, port), (found, Instant::now()));
        }
        leading.sort_unstable();
        leading.dedup();
        leading
    }
}

/// The connection to this address as the strictest of those names has it that rules ask for and that lead there.
pub(crate) async fn also_led_to(shared: &Arc<Shared>, mut connection: Connection, address: SocketAddr) -> Connection {
    let of_rules = connection.rules().named_servers();
    let names: Vec<SmolStr> = of_rules.iter().chain(connection.denied_servers()).take(RULE_NAMES).cloned().collect();
    if names.is_empty() {
        return connection;
    }
    for (name, port) in shared.rule_addresses.leading_to(shared, &names, address).await {
        connection = connection.also_at(&name, port);
    }
    connection
}

impl Tunnel {
    /// The connection as the strictest of its names has it: of those that the client says (`said`), and where it asked for an
    /// address, of those that rules ask for and that lead there.
    pub(super) async fn under_all_names(&self, mut connection: Connection, said: &[&str]) -> Connection {
        for name in said {
            connection = connection.also_at(name, self.port);
        }
        let asked = self.original.filter(|_| self.through.is_none()).map(|original| original.ip()).or_else(|| self.host.parse().ok());
        match asked {
            Some(ip) => also_led_to(&self.shared, connection, SocketAddr::new(ip, self.port)).await,
            None => connection,
        }
    }

    /// Whether a name, as we resolve it, is one of the address that the program asked for.
    pub(super) async fn leads_to_original(&self, name: &str) -> bool {
        let Some(ip) = self.original.map(|original| original.ip()).or_else(|| self.host.parse().ok()) else { return false };
        let found = self.dialer().addresses_within(RESOLVE, name, self.port).await;
        found.is_ok_and(|addresses| addresses.iter().any(|address| address.ip().to_canonical() == ip.to_canonical()))
    }
}
