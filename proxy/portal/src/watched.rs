//! Resources that subscribers of the stateless era watch: the portal's own subscription on each server.

use crate::{call::Call, portal::Portal, upstream::Upstream};
use smol_str::SmolStr;
use std::sync::Arc;

/// Watches resources until it is dropped.
pub(crate) struct Watching {
    watched: Vec<(Arc<Upstream>, SmolStr)>,
}

impl Portal {
    /// Has servers tell of changes of these resources, named as clients know them. What cannot be watched is left out.
    pub(crate) async fn watch(self: &Arc<Self>, call: &Call, resources: &[SmolStr]) -> Watching {
        let mut watched = Vec::new();
        for uri in resources {
            let Ok((index, own, _)) = self.resource(&call.caller, uri) else { continue };
            let server = &self.servers[index];
            let own = SmolStr::new(own);
            server.watch(&own);
            watched.push((server.clone(), own));
        }
        Watching { watched }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        for (server, uri) in &self.watched {
            server.unwatch(uri);
        }
    }
}
