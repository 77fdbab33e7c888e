//! The portal's listener.

use crate::{
    Crew, Portal, attested,
    crew::Load,
    front::{Visitor, plain},
    site,
};
use gnomon_access::Peer;
use http::StatusCode;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// How long a request's head may take, and how long a connection may rest between two requests.
const HEAD_PATIENCE: Duration = Duration::from_secs(120);

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why a portal does not start.
#[derive(Debug, thiserror::Error)]
pub enum PortalError {
    /// Its address cannot be listened on.
    #[error("portal `{portal}` cannot listen on {address}: {cause}")]
    Listen {
        /// The portal.
        portal: String,
        /// The address.
        address: SocketAddr,
        /// Why not.
        cause: io::Error,
    },
}

/// A portal, or several that share an address, that listens but does not serve yet.
pub struct Listening {
    portals: Vec<Arc<Portal>>,
    listener: TcpListener,
    address: SocketAddr,
    room: Arc<Semaphore>,
    tls: Option<TlsAcceptor>,
}

impl Listening {
    /// Opens the listener.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(portal: Arc<Portal>, address: SocketAddr, max_connections: usize) -> Result<Self, PortalError> {
        let failed = |cause| PortalError::Listen { portal: portal.options.id.to_string(), address, cause };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { portals: vec![portal], listener, address, room: Arc::new(Semaphore::new(max_connections)), tls: None })
    }

    /// Serves another portal at the same address: requests are told apart by host name and path.
    #[must_use]
    pub fn and(mut self, portal: Arc<Portal>) -> Self {
        self.portals.push(portal);
        self
    }

    /// Speaks TLS to clients, and nothing else.
    #[must_use]
    pub fn with_tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(TlsAcceptor::from(config));
        self
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves with this crew until `shutdown`, then gives connections `drain` to finish.
    pub async fn run(self, crew: Arc<Crew>, shutdown: impl Future<Output = ()>, drain: Duration) {
        let _tending: Vec<JoinSet<()>> = self.portals.iter().map(Portal::tend).collect();
        let portals: Arc<[Arc<Portal>]> = self.portals.into();
        let (stop, stopping) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = accept(&self.listener, &self.room) => accepted,
            };
            let Some((stream, peer, permit)) = accepted else { continue };
            let (runtime, load) = crew.least_busy();
            let way = (portals.clone(), self.tls.clone(), stopping.clone());
            connections.spawn_on(connection(stream.into_std(), peer, way, (permit, load)), &runtime);
        }
        drop(self.listener);
        let _ = stop.send(true);
        let _ = tokio::time::timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
    }
}

/// Where a connection's requests go.
type Way = (Arc<[Arc<Portal>]>, Option<TlsAcceptor>, watch::Receiver<bool>);

/// One connection. Boxed, so that it is compiled here, and not with whoever calls [`Listening::run`]: this is the path of
/// every request.
fn connection(
    stream: io::Result<std::net::TcpStream>,
    peer: SocketAddr,
    (portals, tls, stopping): Way,
    held: (OwnedSemaphorePermit, Load),
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        // It is heard of where it is served.
        let Ok(stream) = stream.and_then(TcpStream::from_std) else { return };
        let visitor = visitor(&portals, &stream, peer).await;
        match tls {
            None => serve(portals, stream, visitor, stopping).await,
            Some(tls) => secured(portals, &tls, stream, visitor, stopping).await,
        }
        drop(held);
    })
}

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn visitor(portals: &[Arc<Portal>], stream: &TcpStream, address: SocketAddr) -> Visitor {
    let (process, program) = match attested::program(portals.iter().find_map(|portal| portal.options.owners.as_ref()), stream).await {
        Some(program) => (Some(program.process), Some(program.seen)),
        None => (None, None),
    };
    Visitor { peer: Peer { process, ..Peer::at(address) }, program }
}

/// What the client proves of itself on the way in goes with each of its requests.
async fn secured(portals: Arc<[Arc<Portal>]>, tls: &TlsAcceptor, stream: TcpStream, mut visitor: Visitor, stopping: watch::Receiver<bool>) {
    let peer = visitor.peer.address;
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            visitor.peer.certificate =
                stream.get_ref().1.peer_certificates().map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect());
            serve(portals, stream, visitor, stopping).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, "no TLS: {error}"),
        Err(_) => tracing::debug!(%peer, "no TLS within {HANDSHAKE:?}"),
    }
}

async fn serve<S>(portals: Arc<[Arc<Portal>]>, stream: S, visitor: Visitor, mut stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let visitor = Arc::new(visitor);
    let service = service_fn(move |request: Request<Incoming>| {
        let (portal, visitor) = (site::portal(&portals, &request).cloned(), visitor.clone());
        async move {
            Ok::<_, Infallible>(match portal {
                Some(portal) => portal.answer(request, &visitor).await,
                None => plain(StatusCode::NOT_FOUND, "there is no portal here"),
            })
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    builder.http2().timer(TokioTimer::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
