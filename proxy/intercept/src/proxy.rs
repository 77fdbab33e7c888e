//! The listener: bound, served, stopped.

use crate::{
    ProxyError, ProxyOptions, RedirectedListeners,
    client_seats::{self, ClientSeat, ClientSeats},
    elsewhere::Reached,
    front,
    paired::PairedStreams,
    refused,
    room::Room,
    rule_addresses::RuleAddresses,
    shared::Shared,
    turns::Turns,
};
use gnomon_http::{
    AlpnCache, DialOptions, Dialer, ForbiddenAddresses, PoolOptions, Pools, Sockets, UpstreamTls,
    server::{Admission, ClientWindows, Tasks, accept_until, drain, listen},
};
use gnomon_inspect::Inspector;
use gnomon_record::{FlowOutcome, Owners, Recorder};
use gnomon_shares::{Lately, Refused};
use gnomon_tls::{CertificateAuthority, LEAF_CAPACITY, LeafCache};
use smol_str::SmolStr;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::watch,
    task::JoinSet,
};

/// A proxy that listens but does not serve yet.
pub struct Proxy {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    redirected: RedirectedListeners,
    stop: watch::Sender<bool>,
}

impl Proxy {
    /// Opens the listener.
    ///
    /// # Errors
    /// When others could use it as an open proxy, the address is taken, or the upstream roots cannot
    /// be read.
    pub async fn bind(
        options: ProxyOptions,
        inspector: Arc<Inspector>,
        recorder: Arc<Recorder>,
        ca: Arc<CertificateAuthority>,
    ) -> Result<Self, ProxyError> {
        if !options.listen.ip().is_loopback() && options.users.is_empty() {
            return Err(ProxyError::OpenProxy(options.listen));
        }
        let failed = |cause| ProxyError::Listen { address: options.listen, cause };
        let listener = listen(options.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let mut own_listeners = options.own_listeners.clone();
        own_listeners.push(address);
        let dialer = Dialer::new(DialOptions {
            resolve: options.resolve.clone(),
            forbidden: Some(ForbiddenAddresses { own_listeners }),
            budget: options.upstreams.clone(),
            lookups: options.lookups,
            ..DialOptions::default()
        });
        let fingerprint = ca.fingerprint_sha256();
        let tls = UpstreamTls::new(&options.upstream_ca)?;
        let early = tls.clone();
        // Ready before the first connection, which waits for it otherwise.
        drop(tokio::task::spawn_blocking(move || early.prepare()));
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared {
            pools: Pools::new(dialer.clone(), tls, Arc::new(AlpnCache::default()), PoolOptions::default()),
            leaves: LeafCache::new(ca, LEAF_CAPACITY),
            dialer,
            paired: PairedStreams::new(),
            rule_addresses: RuleAddresses::default(),
            seats: ClientSeats::new(options.max_connections, options.max_connections_per_user),
            lately: Lately::default(),
            short: Lately::default(),
            room: Room::new(options.held_bytes, recorder.clone()),
            windows: ClientWindows::default(),
            turns: Turns::new(options.max_connections, options.max_connections_per_user),
            reached: Reached::new(),
            pseudonym: SmolStr::new(format!("gnomon-{}", &uuid::Uuid::now_v7().as_hyphenated().to_string()[24..])),
            options,
            inspector,
            recorder,
            address,
            fingerprint,
            owners: OnceLock::new(),
            stopping,
            runtime: Handle::current(),
            tasks: Tasks::default(),
        });
        let redirected = RedirectedListeners::new(&shared);
        Ok(Self { listener, address, shared, redirected, stop })
    }

    /// Asks `owners` whose each connection is. Only the first call counts.
    #[must_use]
    pub fn owners(self, owners: Arc<dyn Owners>) -> Self {
        let _ = self.shared.owners.set(owners);
        self
    }

    /// Sets what opens the sockets of connections from other network namespaces. Only the first call counts.
    #[must_use]
    pub fn sockets(self, sockets: Arc<dyn Sockets>) -> Self {
        self.shared.dialer.open_with(sockets);
        self
    }

    /// Takes listeners that the kernel redirects connections to, now and while the proxy runs.
    #[must_use]
    pub fn redirected(&self) -> RedirectedListeners {
        self.redirected.clone()
    }

    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets connections finish for as long as the options say.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        self.run_until(shutdown, std::future::pending()).await;
    }

    /// As [`run`](Self::run), but once stopping `hurry` ends the wait for connections. Those still in progress are cut off then, and
    /// joined: when this returns, no task of the proxy runs any more, and all its duties are recorded.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>, hurry: impl Future<Output = ()>) {
        let shared = self.shared;
        let duties = shared.recorder.duties().clone();
        let mut attending = JoinSet::new();
        attending.spawn({
            let duties = duties.clone();
            async move { duties.attend().await }
        });
        accept_until(self.listener, &*shared, shutdown, |stream, client, seat| shared.take_on(stream, client, seat)).await;
        let _ = self.stop.send(true);
        drain(shared.options.drain, shared.tasks.rest(), hurry).await;
        duties.stopping();
        shared.tasks.cut_off().await;
        attending.shutdown().await;
        duties.settle_left();
    }
}

impl Shared {
    /// Serves an accepted connection. Not part of [`Proxy::run`], which is compiled with its caller: this is the path of every request.
    fn take_on(self: &Arc<Self>, stream: TcpStream, client: SocketAddr, seat: Arc<ClientSeat>) {
        self.spawn(front::serve(self.clone(), stream, client, seat));
    }
}

impl Admission for Shared {
    type Seat = Arc<ClientSeat>;

    async fn admit(&self, _: &TcpStream, client: SocketAddr) -> Result<Arc<ClientSeat>, Refused> {
        self.seats.admit(client).await
    }

    fn turn_away(&self, stream: TcpStream, _: SocketAddr, _: Refused) {
        self.recorder.flow(FlowOutcome::OverShare, Vec::new());
        refused::reset(stream);
    }

    fn make_room(&self, error: &io::Error) {
        client_seats::make_room(&self.seats, &self.options.upstreams, error);
    }
}
