//! Resources that subscribers of the stateless era watch: the portal's own subscription on each server.

use crate::{held::Upstream, lists::PortalLists};
use gnomon_access::Caller;
use smol_str::SmolStr;
use std::sync::Arc;

/// Watches resources until it is dropped.
pub(crate) struct Watching(Vec<Watched>);

struct Watched {
    server: Arc<Upstream>,
    /// The server's own URI.
    own: SmolStr,
    /// As the client named it.
    known: SmolStr,
}

impl PortalLists {
    /// Has servers tell of changes of these resources, named as clients know them. What the caller may not read, or is not there,
    /// is left out.
    pub(crate) fn watch(&self, caller: &Caller, resources: &[&str]) -> Watching {
        let mut watched: Vec<Watched> = Vec::new();
        for uri in resources {
            let Ok((index, own, _)) = self.resource(caller, uri) else { continue };
            if watched.iter().any(|other| other.known == *uri) {
                continue;
            }
            let (server, own) = (self.servers()[index].clone(), SmolStr::new(own));
            server.watch(&own);
            watched.push(Watched { server, own, known: SmolStr::new(uri) });
        }
        Watching(watched)
    }
}

impl Watching {
    /// What is watched, as the client named it.
    pub fn granted(&self) -> Vec<&str> {
        self.0.iter().map(|watched| watched.known.as_str()).collect()
    }

    /// The client's names for a resource of this server: the whole URI counts.
    pub fn named(&self, server: &str, own: &str) -> Vec<&str> {
        let is = |watched: &&Watched| watched.server.id == server && watched.own == own;
        self.0.iter().filter(is).map(|watched| watched.known.as_str()).collect()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        for watched in &self.0 {
            watched.server.unwatch(&watched.own);
        }
    }
}
