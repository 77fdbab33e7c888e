//! Resources that subscribers of the stateless era watch: the portal's own subscription on each server.

use crate::lists::PortalLists;
use gnomon_access::Caller;
use gnomon_relay::held::Upstream;
use gnomon_upstream::Granting;
use smol_str::SmolStr;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long servers may take to agree to tell of changes.
const GRANTED_WITHIN: Duration = Duration::from_secs(1);

/// Watches resources until it is dropped.
pub struct Watching(Vec<Watched>);

struct Watched {
    server: Arc<Upstream>,
    /// The server's own URI.
    own: SmolStr,
    /// The URI as the client named it.
    known: SmolStr,
}

impl PortalLists {
    /// Has servers tell of changes of these resources, named as clients know them. What the caller may not read, or is not there,
    /// is left out, and so is what its server has not agreed to within a second.
    pub async fn watch(&self, caller: &Caller, resources: &[&str]) -> Watching {
        let (mut watched, until): (Vec<(Watched, Granting)>, _) = (Vec::new(), Instant::now() + GRANTED_WITHIN);
        for uri in resources {
            let Ok((index, own, _)) = self.resource(caller, uri) else { continue };
            if watched.iter().any(|(other, _)| other.known == *uri) {
                continue;
            }
            let (server, own) = (self.servers()[index].clone(), SmolStr::new(own));
            let granting = server.watch(&own);
            watched.push((Watched { server, own, known: SmolStr::new(uri) }, granting));
        }
        let mut granted = Vec::with_capacity(watched.len());
        for (one, mut granting) in watched {
            // All at once: what was granted by then is known without waiting.
            if tokio::time::timeout_at(until.into(), granting.is_granted()).await.is_ok_and(|granted| granted) {
                granted.push(one);
            }
        }
        Watching(granted)
    }
}

impl Watching {
    /// The watched resources, as the client named them.
    pub fn granted(&self) -> Vec<&str> {
        self.0.iter().map(|watched| watched.known.as_str()).collect()
    }

    /// The client's names for a resource of this server: the whole URI counts.
    pub fn named(&self, server: &str, own: &str) -> Vec<&str> {
        let is = |watched: &&Watched| watched.server.id == server && watched.own == own;
        self.0.iter().filter(is).map(|watched| watched.known.as_str()).collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.server.unwatch(&self.own);
    }
}
