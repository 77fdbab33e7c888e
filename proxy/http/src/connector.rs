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
use tokio::runtime::Handle;
use tower_service::Service;

use crate::pool::PoolKey;
use crate::upstream::UpstreamTlsError;
use crate::{Alpn, Destination, Dialer, Scheme, SendError, UpstreamStream, UpstreamTls};

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
            offers.retain(|o| o.since.elapsed() < OFFER_TTL && !o.fits(dest.key(), dest.scheme(), dest.uri_authority()));
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
    fn fits(&self, key: &PoolKey, scheme: Scheme, authority: &Authority) -> bool {
        self.scheme == scheme && self.authority == *authority && self.key == *key
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

/// Makes the connections of one (protocol, principal) pool.
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
        if let Some(stream) = self.hand_over.take(&self.key, scheme, authority) {
            return Ok(PooledStream::new(stream));
        }
        let host = authority.host();
        let stream = match scheme {
            Scheme::Http => UpstreamStream::Plain(self.reach.dialer.tcp(host, authority.port_u16().unwrap_or(80)).await?),
            Scheme::Https => {
                let tcp = self.reach.dialer.tcp(host, authority.port_u16().unwrap_or(443)).await?;
                let stream = match self.reach.tls.connect(tcp, host, &[self.key.alpn]).await {
                    Err(UpstreamTlsError::Protocol) => return Err(SendError::ProtocolChanged),
                    other => other?,
                };
                if self.key.alpn == Alpn::H2 && stream.alpn() != Alpn::H2 {
                    return Err(SendError::ProtocolChanged);
                }
                stream
            }
        };
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
