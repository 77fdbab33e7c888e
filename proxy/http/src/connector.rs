//! How a pool's new connections come to be: one that was handed over, or dial and shake hands.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::Uri;
use http::uri::Authority;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tower_service::Service;

use crate::pool::PoolKey;
use crate::upstream::UpstreamTlsError;
use crate::{Alpn, Destination, DialError, Dialer, Scheme, SendError, UpstreamStream, UpstreamTls};

/// How long a connection waits to be taken. The first request follows the client's handshake.
const OFFER_TTL: Duration = Duration::from_secs(5);
/// How many connections wait at most; the oldest goes first.
const OFFERS: usize = 256;

/// The means to reach an upstream.
#[derive(Debug)]
pub(crate) struct Reach {
    pub(crate) dialer: Dialer,
    pub(crate) tls: UpstreamTls,
}

impl Reach {
    /// A connection to the destination's fixed address, else to its host.
    pub(crate) async fn dial(&self, dest: &Destination) -> Result<TcpStream, DialError> {
        self.dial_to(dest.key(), dest.host(), dest.port()).await
    }

    async fn dial_to(&self, key: &PoolKey, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let dialer = self.dialer.within(key.netns);
        let Some(address) = key.address else { return dialer.tcp(host, port).await };
        let tcp = dialer.address(address).await?;
        match &key.through {
            Some(head) => dialer.through(tcp, address, head).await,
            None => Ok(tcp),
        }
    }
}

struct Offer {
    key: PoolKey,
    scheme: Scheme,
    authority: Authority,
    stream: UpstreamStream,
    since: Instant,
}

/// Connections that wait for their pool to want one. Searched linearly: it is short, and looked at
/// only when a connection is about to be made.
#[derive(Clone, Default)]
pub(crate) struct HandOver {
    offers: Arc<Mutex<Vec<Offer>>>,
}

impl HandOver {
    /// Within a tokio runtime a timer closes what nobody takes; outside, the next offer does.
    pub(crate) fn put(&self, dest: &Destination, stream: UpstreamStream) {
        let offer = Offer {
            key: dest.key().clone(),
            scheme: dest.scheme(),
            authority: dest.uri_authority().clone(),
            stream,
            since: Instant::now(),
        };
        {
            let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
            offers.retain(|o| {
                o.since.elapsed() < OFFER_TTL && !(o.shaken() && offer.shaken() && o.fits(&offer.key, offer.scheme, &offer.authority))
            });
            if offers.len() >= OFFERS {
                offers.remove(0);
            }
            offers.push(offer);
        }
        let Ok(runtime) = Handle::try_current() else { return };
        // Ends by itself; a weak reference, so that it keeps nothing alive.
        let offers = Arc::downgrade(&self.offers);
        runtime.spawn(async move {
            tokio::time::sleep(OFFER_TTL).await;
            if let Some(offers) = offers.upgrade() {
                offers.lock().unwrap_or_else(PoisonError::into_inner).retain(|o| o.since.elapsed() < OFFER_TTL);
            }
        });
    }

    fn take(&self, key: &PoolKey, scheme: Scheme, authority: &Authority) -> Option<UpstreamStream> {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        let place = offers.iter().position(|o| o.fits(key, scheme, authority))?;
        let offer = offers.swap_remove(place);
        (offer.since.elapsed() < OFFER_TTL && is_open(&offer.stream)).then_some(offer.stream)
    }
}

impl Offer {
    /// Whether the TLS handshake is done: it was made to ask the server, who need be asked only once.
    /// A plain connection was opened because a client opened one, and each has its own.
    fn shaken(&self) -> bool {
        matches!(self.stream, UpstreamStream::Tls(_))
    }

    fn fits(&self, key: &PoolKey, scheme: Scheme, authority: &Authority) -> bool {
        // What was not asked for a name yet, and is at the address that is wanted, fits each name.
        let any_name = !self.shaken() && key.address.is_some();
        self.scheme == scheme && self.key == *key && (any_name || self.authority == *authority)
    }
}

/// Whether the peer has not closed while the connection waited. Unread bytes are fine: session
/// tickets and HTTP/2 settings come unasked.
fn is_open(stream: &UpstreamStream) -> bool {
    let ready = pin!(stream.tcp().ready(Interest::READABLE));
    match ready.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(ready)) => !ready.is_read_closed(),
        Poll::Ready(Err(_)) => false,
        Poll::Pending => true,
    }
}

/// Makes the connections of one pool.
#[derive(Clone)]
pub(crate) struct Connector {
    reach: Arc<Reach>,
    hand_over: HandOver,
    key: PoolKey,
}

impl Connector {
    pub(crate) fn new(reach: Arc<Reach>, hand_over: HandOver, key: PoolKey) -> Self {
        Self { reach, hand_over, key }
    }

    async fn connect(self, uri: Uri) -> Result<PooledStream, SendError> {
        let scheme = if uri.scheme() == Some(&http::uri::Scheme::HTTPS) { Scheme::Https } else { Scheme::Http };
        let authority = uri.authority().ok_or_else(|| SendError::Other("request without authority".to_owned()))?;
        let host = authority.host();
        let port = |default| authority.port_u16().unwrap_or(default);
        let tcp = match (self.hand_over.take(&self.key, scheme, authority), scheme) {
            (Some(UpstreamStream::Plain(tcp)), Scheme::Https) => tcp,
            (Some(stream), _) => return Ok(PooledStream::new(stream)),
            (None, Scheme::Https) => self.reach.dial_to(&self.key, host, port(443)).await?,
            (None, Scheme::Http) => {
                let tcp = self.reach.dial_to(&self.key, host, port(80)).await?;
                return Ok(PooledStream::new(UpstreamStream::Plain(tcp)));
            }
        };
        let stream = match self.reach.tls.connect(tcp, host, &[self.key.alpn]).await {
            Err(UpstreamTlsError::Protocol) => return Err(SendError::ProtocolChanged),
            other => other?,
        };
        if self.key.alpn == Alpn::H2 && stream.alpn() != Alpn::H2 {
            return Err(SendError::ProtocolChanged);
        }
        Ok(PooledStream::new(stream))
    }
}

impl Service<Uri> for Connector {
    type Response = PooledStream;
    type Error = SendError;
    // Boxed once per connection, not per request.
    type Future = Pin<Box<dyn Future<Output = Result<PooledStream, SendError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// An upstream connection as hyper wants it.
pub(crate) struct PooledStream {
    io: TokioIo<UpstreamStream>,
}

impl PooledStream {
    fn new(stream: UpstreamStream) -> Self {
        Self { io: TokioIo::new(stream) }
    }
}

impl Connection for PooledStream {
    fn connected(&self) -> Connected {
        match self.io.inner().alpn() {
            Alpn::H2 => Connected::new().negotiated_h2(),
            Alpn::Http11 | Alpn::None => Connected::new(),
        }
    }
}

impl Read for PooledStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for PooledStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
