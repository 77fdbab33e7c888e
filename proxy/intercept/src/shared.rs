//! The state that all connections of a proxy share.

use crate::{
    ProxyOptions, client_seats::ClientSeats, elsewhere::Reached, paired::PairedStreams, room::Room, rule_addresses::RuleAddresses,
    turns::Turns, upload::Upload,
};
use gnomon_http::{
    Dialer, Pools,
    server::{ClientWindows, Tasks},
};
use gnomon_inspect::Inspector;
use gnomon_record::{Owners, Recorder};
use gnomon_shares::Lately;
use gnomon_tls::LeafCache;
use smol_str::SmolStr;
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};
use tokio::{runtime::Handle, sync::watch};

/// The parts that connections share.
pub(crate) struct Shared {
    pub options: ProxyOptions,
    pub inspector: Arc<Inspector>,
    pub recorder: Arc<Recorder>,
    pub leaves: LeafCache,
    pub pools: Pools<Upload>,
    pub dialer: Dialer,
    pub paired: PairedStreams,
    pub rule_addresses: RuleAddresses,
    /// The seats of client connections.
    pub seats: Arc<ClientSeats>,
    /// The odd requests that were reported lately.
    pub lately: Lately,
    /// The calls that were reported lately as there was no connection for them.
    pub short: Lately,
    /// The room of bodies that are not whole.
    pub room: Arc<Room>,
    /// The windows of clients' HTTP/2 connections.
    pub windows: ClientWindows,
    /// The turns of redirected connections that are set up.
    pub turns: Turns,
    /// The addresses at which redirected connections found a server.
    pub reached: Reached,
    /// Names this process in `Via`, to recognise its own requests.
    pub pseudonym: SmolStr,
    /// The address of the explicit proxy's listener.
    pub address: SocketAddr,
    /// The fingerprint of the certificate authority.
    pub fingerprint: String,
    /// Set once the kernel half is there.
    pub owners: OnceLock<Arc<dyn Owners>>,
    /// Turns true when the proxy is to stop.
    pub stopping: watch::Receiver<bool>,
    /// The runtime of the proxy's tasks, whichever thread accepted their connection.
    pub runtime: Handle,
    /// The tasks of connections.
    pub tasks: Tasks,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Shared {
    /// The lookup of connections' owners, if there is one.
    pub fn owners(&self) -> Option<&Arc<dyn Owners>> {
        self.owners.get()
    }

    /// Whether an address is the explicit proxy's, seen from its own network namespace.
    pub fn is_own_proxy(&self, address: SocketAddr) -> bool {
        let (own, asked) = (self.address.ip().to_canonical(), address.ip().to_canonical());
        self.address.port() == address.port() && (own == asked || own.is_unspecified() && asked.is_loopback())
    }

    /// Becomes true when the proxy is to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.clone()
    }

    /// Runs a task that ends with the proxy.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }
}
