//! The server that a connection leads to, by all its known names.
//!
//! A rule that names a host counts for that host however it is asked for: by its address, by another name of it, or by the `Host` of a
//! request without TLS. What is known is what the client says and what names that rules ask for resolve to, now; nothing is
//! remembered of other connections, as a verdict must not depend on them, but for some seconds that a name of this user's was not found.

use super::Tunnel;
use crate::rule_addresses::leads_to;
use gnomon_inspect::Connection;
use std::net::SocketAddr;

impl Tunnel {
    /// The connection as the strictest of its names has it: of those that the client says (`said`), and where it asked for an
    /// address, of those that rules ask for and that lead there.
    pub(super) async fn under_all_names(&self, mut connection: Connection, said: &[&str]) -> Connection {
        for name in said {
            connection = connection.also_at(name, self.port);
        }
        let asked = self.original.filter(|_| self.through.is_none()).map(|original| original.ip()).or_else(|| self.host.parse().ok());
        match asked {
            Some(ip) => {
                let shared = &self.shared;
                shared.rule_addresses.also_led_to(&shared.dialer, connection, SocketAddr::new(ip, self.port)).await
            }
            None => connection,
        }
    }

    /// Whether a name, as we resolve it, is one of the address that the program asked for.
    pub(super) async fn leads_to_original(&self, name: &str) -> bool {
        let Some(ip) = self.original.map(|original| original.ip()).or_else(|| self.host.parse().ok()) else { return false };
        leads_to(&self.dialer(), name, self.port, ip).await
    }
}
