//! The servers that a portal offers at a time.

use gnomon_relay::held::Upstream;
use std::{ops::Deref, sync::Arc, time::Instant};

/// Servers, in the order in which they are shown.
pub struct Offered {
    servers: Vec<Arc<Upstream>>,
    since: Instant,
}

impl Offered {
    /// The time since which these servers are offered.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// The server with this id.
    #[must_use]
    pub fn named(&self, id: &str) -> Option<&Arc<Upstream>> {
        self.servers.iter().find(|server| server.id == id)
    }
}

impl From<Vec<Arc<Upstream>>> for Offered {
    fn from(servers: Vec<Arc<Upstream>>) -> Self {
        Self { servers, since: Instant::now() }
    }
}

impl Deref for Offered {
    type Target = [Arc<Upstream>];

    fn deref(&self) -> &Self::Target {
        &self.servers
    }
}
