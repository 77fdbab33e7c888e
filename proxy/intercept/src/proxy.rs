//! The listener and what all its connections share.

use crate::{
    Owners, ProxyError, ProxyOptions, Recorder, RedirectedListeners, front, paired::PairedStreams, shares::Shares, upload::Upload,
};
use gnomon_http::{
    AlpnCache, CertificateAuthority, DialOptions, Dialer, ForbiddenAddresses, LEAF_CAPACITY, LeafCache, PoolOptions, Pools, Sockets,
    UpstreamTls,
};
use gnomon_inspect::Inspector;
use smol_str::SmolStr;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

/// A proxy that listens but does not serve yet.
pub struct Proxy {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    redirected: RedirectedListeners,
    stop: watch::Sender<bool>,
}

/// What connections share.
pub(crate) struct Shared {
    pub options: ProxyOptions,
    pub inspector: Arc<Inspector>,
    pub recorder: Arc<Recorder>,
    pub leaves: LeafCache,
    pub pools: Pools<Upload>,
    pub dialer: Dialer,
    pub paired: PairedStreams,
    /// Of redirected connections.
    pub shares: Arc<Shares>,
    /// Names this process in `Via`, to recognise its own requests.
    pub pseudonym: SmolStr,
    /// Where the explicit proxy listens.
    pub address: SocketAddr,
    /// Of the certificate authority.
    pub fingerprint: String,
    owners: OnceLock<Arc<dyn Owners>>,
    stopping: watch::Receiver<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Shared {
    /// Whoever knows whose connections are, if anybody does.
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
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
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
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let mut own_listeners = options.own_listeners.clone();
        own_listeners.push(address);
        let dialer = Dialer::new(DialOptions {
            resolve: options.resolve.clone(),
            forbidden: ForbiddenAddresses { own_listeners },
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
            shares: Shares::new(options.max_connections_per_user),
            pseudonym: SmolStr::new(format!("gnomon-{}", &crate::finish::new_id()[24..])),
            options,
            inspector,
            recorder,
            address,
            fingerprint,
            owners: OnceLock::new(),
            stopping,
            tasks: Mutex::new(JoinSet::new()),
        });
        let room = Arc::new(Semaphore::new(shared.options.max_connections));
        let redirected = RedirectedListeners::new(&shared, room.clone());
        Ok(Self { listener, address, shared, room, redirected, stop })
    }

    /// Asks `owners` whose each connection is. Only the first call counts.
    #[must_use]
    pub fn owners(self, owners: Arc<dyn Owners>) -> Self {
        let _ = self.shared.owners.set(owners);
        self
    }

    /// Has `sockets` open those that connect from other network namespaces. Only the first call counts.
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

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Not part of [`run`](Self::run), which is compiled with whoever calls it: this is the path of every request.
    fn take_on(&self, stream: TcpStream, client: SocketAddr, permit: OwnedSemaphorePermit) {
        let shared = self.shared.clone();
        self.shared.spawn(async move {
            front::serve(shared, stream, client).await;
            drop(permit);
        });
    }

    /// Serves until `shutdown`, then lets connections finish for as long as the options say.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let room = self.room.clone();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = accept(&self.listener, &room) => accepted,
            };
            let Some((stream, client, permit)) = accepted else { continue };
            self.take_on(stream, client, permit);
        }
        drop(self.listener);
        let _ = self.stop.send(true);
        let drained = timeout(self.shared.options.drain, async {
            loop {
                // Tasks may spawn others, so the set is taken anew until it stays empty.
                let mut tasks = std::mem::take(&mut *self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner));
                if tasks.is_empty() {
                    return;
                }
                while tasks.join_next().await.is_some() {}
            }
        });
        // Whatever is not done by now is cut off when its set is dropped.
        let _ = drained.await;
    }
}

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, client)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, client, permit))
        }
        Err(error) => {
            // Out of descriptors, mostly: give running connections time to end.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}
