//! The portal's listener.

use crate::{Crew, Portal, attested, crew::Load, log_in::Visitor, responses::plain, site};
use gnomon_access::Peer;
use gnomon_http::{
    Alpn,
    server::{self, Admission, Answered, ClientWindows, Heard, Seated, Stalled, Tasks, Windows, accept_until},
};
use gnomon_relay::metrics::Lacking;
use gnomon_shares::{Refused, Seat, Seats};
use http::StatusCode;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// The timeout of a request's head, and of a connection idle between two requests.
const HEAD_PATIENCE: Duration = Duration::from_secs(120);

/// The timeout of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Most requests of an HTTP/2 connection at a time: many may wait for the answers to questions, which come as further ones.
const STREAMS: u32 = 200;

/// The time that an idle connection gets to end once others need its seat.
const GOES: Duration = Duration::from_millis(100);

/// An error of starting a portal.
#[derive(Debug, thiserror::Error)]
pub enum PortalError {
    /// Its address cannot be listened on.
    #[error("portal `{portal}` cannot listen on {address}: {cause}")]
    Listen {
        /// The portal.
        portal: String,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        cause: io::Error,
    },
}

/// A portal, or several that share an address, that listens but does not serve yet.
pub struct Listening {
    portals: Vec<Arc<Portal>>,
    listener: TcpListener,
    address: SocketAddr,
    seats: Arc<Seats>,
    tls: Option<TlsAcceptor>,
    unread: Duration,
}

impl Listening {
    /// Opens the listener.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(portal: Arc<Portal>, address: SocketAddr, max_connections: usize) -> Result<Self, PortalError> {
        let failed = |cause| PortalError::Listen { portal: portal.options.id.to_string(), address, cause };
        let listener = server::listen(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { portals: vec![portal], listener, address, seats: Seats::new(max_connections), tls: None, unread: server::UNREAD })
    }

    /// Serves another portal at the same address: requests are routed by host name and path.
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

    /// Closes connections whose clients take nothing of an answer for so long; 300 s unless set.
    #[must_use]
    pub fn unread_for(mut self, patience: Duration) -> Self {
        self.unread = patience;
        self
    }

    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves with this crew until `shutdown`, then gives connections `drain` to finish.
    pub async fn run(self, crew: Arc<Crew>, shutdown: impl Future<Output = ()>, drain: Duration) {
        self.run_until(crew, shutdown, (drain, std::future::pending())).await;
    }

    /// As [`run`](Self::run), but once stopping `hurry` ends the wait. Requests still in progress are cut off then, and joined: when this
    /// returns, no request is in progress, sessions have ended, and all duties are recorded.
    pub async fn run_until(
        self,
        crew: Arc<Crew>,
        shutdown: impl Future<Output = ()>,
        (drain, hurry): (Duration, impl Future<Output = ()>),
    ) {
        let mut tending: Vec<JoinSet<()>> = self.portals.iter().map(Portal::tend).collect();
        let portals: Arc<[Arc<Portal>]> = self.portals.into();
        let duties: Vec<_> = portals.iter().flat_map(|portal| portal.duties()).collect();
        let mut attending = JoinSet::new();
        for one in &duties {
            let one = one.clone();
            attending.spawn(async move { one.attend().await });
        }
        let (stop, stopping) = watch::channel(false);
        let connections = Tasks::default();
        let door = Door { seats: self.seats, portals: portals.clone() };
        let way = Way { portals: portals.clone(), tls: self.tls, unread: self.unread, windows: Arc::default(), stopping };
        accept_until(self.listener, &door, shutdown, |stream, peer, seat| {
            let (runtime, load) = crew.least_busy();
            connections.spawn_on(connection(stream.into_std(), peer, way.clone(), (seat, load)), &runtime);
        })
        .await;
        let _ = stop.send(true);
        let finished = async {
            connections.rest().await;
            for portal in &*portals {
                portal.at_rest().await;
            }
        };
        server::drain(drain, finished, hurry).await;
        duties.iter().for_each(|one| one.stopping());
        connections.cut_off().await;
        for portal in &*portals {
            portal.end_work().await;
        }
        for tasks in &mut tending {
            tasks.shutdown().await;
        }
        attending.shutdown().await;
        duties.iter().for_each(|one| one.settle_left());
    }
}

/// Runs the requests of an HTTP/2 connection as tasks that end with the portal.
#[derive(Clone)]
struct Streams(Arc<Portal>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

/// What the connections of a listener have in common.
#[derive(Clone)]
struct Way {
    /// The portals that requests go to.
    portals: Arc<[Arc<Portal>]>,
    tls: Option<TlsAcceptor>,
    /// The time in which a client must take something of an answer.
    unread: Duration,
    windows: Arc<ClientWindows>,
    stopping: watch::Receiver<bool>,
}

/// One connection. Boxed, so that it is compiled here, and not with callers of [`Listening::run`]: this is the path of
/// every request.
fn connection(
    stream: io::Result<std::net::TcpStream>,
    peer: SocketAddr,
    way: Way,
    (seat, load): (Seat, Load),
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        // Registered with the runtime of the thread that serves it.
        let Ok(stream) = stream.and_then(TcpStream::from_std) else { return };
        let seated = Seated::on(seat, GOES);
        let visitor = visitor(&way.portals, &stream, peer).await;
        let stream = Heard::on(seated.clone(), Stalled::after(way.unread, stream));
        match way.tls.clone() {
            None => serve(way, stream, Windows::small(), visitor, seated).await,
            Some(tls) => secured(way, &tls, stream, visitor, seated).await,
        }
        drop(load);
    })
}

/// The admission of connections.
struct Door {
    seats: Arc<Seats>,
    portals: Arc<[Arc<Portal>]>,
}

impl Admission for Door {
    type Seat = Seat;

    async fn admit(&self, _: &TcpStream, peer: SocketAddr) -> Result<Seat, Refused> {
        self.seats.admit(peer.ip()).await
    }

    fn turn_away(&self, _: TcpStream, peer: SocketAddr, why: Refused) {
        tracing::debug!(%peer, "a connection is closed: {why}");
        gave_up(&self.portals);
    }

    fn make_room(&self, error: &io::Error) {
        let silent = self.seats.silence_gives_up();
        tracing::warn!(%error, silent, "cannot accept a connection");
    }
}

/// Counts a connection that is closed as others need its seat, or as there is none for it.
fn gave_up(portals: &[Arc<Portal>]) {
    // It has not said which of the portals at this address it is for.
    portals.iter().take(1).for_each(|portal| portal.refused(Lacking::Connections));
}

async fn visitor(portals: &[Arc<Portal>], stream: &TcpStream, address: SocketAddr) -> Visitor {
    let (process, program) = match attested::program(portals.iter().find_map(|portal| portal.options.owners.as_ref()), stream).await {
        Some(program) => (Some(program.process), Some(program.seen)),
        None => (None, None),
    };
    Visitor { peer: Peer { process, ..Peer::at(address) }, program }
}

/// Serves a connection with TLS; the client's certificate goes with each of its requests.
async fn secured(way: Way, tls: &TlsAcceptor, stream: Heard<Stalled<TcpStream>>, mut visitor: Visitor, seated: Arc<Seated>) {
    let peer = visitor.peer.address;
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE, tls.accept(stream)) => shaken,
        () = seated.is_needed() => return gave_up(&way.portals),
    };
    match shaken {
        Ok(Ok(stream)) => {
            seated.takes_a_step();
            let (_, shaken) = stream.get_ref();
            visitor.peer.certificate = shaken.peer_certificates().map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect());
            let windows = match Alpn::from_wire(shaken.alpn_protocol()) {
                Alpn::H2 => way.windows.grant(&peer.ip().to_canonical().to_string().into()),
                Alpn::Http11 | Alpn::None => Windows::small(),
            };
            serve(way, stream, windows, visitor, seated).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, "no TLS: {error}"),
        Err(_) => tracing::debug!(%peer, "no TLS within {HANDSHAKE:?}"),
    }
}

async fn serve<S>(way: Way, stream: S, windows: Windows, visitor: Visitor, seated: Arc<Seated>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Way { portals, mut stopping, unread, .. } = way;
    let visitor = Arc::new(visitor);
    let Some(first) = portals.first().cloned() else { return };
    let counted = portals.clone();
    let of_requests = seated.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (portal, visitor, under_way) = (site::portal(&portals, &request).cloned(), visitor.clone(), of_requests.begin());
        async move {
            let response = match portal {
                Some(portal) => portal.answer(request, &visitor).await,
                None => plain(StatusCode::NOT_FOUND, "there is no portal here"),
            };
            Ok::<_, Infallible>(response.map(|body| Answered::new(body, Some(under_way))))
        }
    });
    let windows = windows.with_streams(STREAMS);
    let builder = server::either(Streams(first), HEAD_PATIENCE, &windows);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    seated.driven(connection, unread, &mut stopping, |connection| connection.graceful_shutdown()).await;
    if seated.gave_up() {
        gave_up(&counted);
    }
}
