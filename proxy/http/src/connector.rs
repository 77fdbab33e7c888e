//! How a pool's new connections come to be: one that was handed over, or dial and shake hands.

use parking_lot::Mutex;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::uri::Authority;
use tokio::io::Interest;
use tokio::runtime::Handle;

use crate::destination::{LaneKey, PoolKey};
use crate::upstream::UpstreamTlsError;
use crate::{Alpn, Destination, DialError, Dialer, Scheme, SendError, UpstreamStream, UpstreamTcp, UpstreamTls};

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
    pub(crate) async fn dial(&self, dest: &Destination) -> Result<UpstreamTcp, DialError> {
        self.dial_to(dest.key(), dest.host(), dest.port()).await
    }

    async fn dial_to(&self, key: &PoolKey, host: &str, port: u16) -> Result<UpstreamTcp, DialError> {
        let dialer = self.dialer.from(key.near).on_behalf_of(key.principal.clone());
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
    /// Offers a connection. Within a tokio runtime a timer closes it if it is not taken; outside, the next offer does.
    pub(crate) fn put(&self, dest: &Destination, stream: UpstreamStream) {
        let offer = Offer {
            key: dest.key().clone(),
            scheme: dest.scheme(),
            authority: dest.uri_authority().clone(),
            stream,
            since: Instant::now(),
        };
        {
            let mut offers = self.offers.lock();
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
                offers.lock().retain(|o| o.since.elapsed() < OFFER_TTL);
            }
        });
    }

    fn take(&self, key: &PoolKey, scheme: Scheme, authority: &Authority) -> Option<UpstreamStream> {
        // Nothing was asked over an offered one yet, so it may as well become one that is bound.
        let key = &PoolKey { bound: None, ..key.clone() };
        let mut offers = self.offers.lock();
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
        // A connection that no name was asked over yet, to the wanted address, fits each name.
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

/// A connection for this lane: one that was handed over, or a new one.
pub(crate) async fn connect(reach: &Reach, hand_over: &HandOver, to: &LaneKey) -> Result<UpstreamStream, SendError> {
    let LaneKey { key, scheme, authority } = to;
    let host = authority.host();
    let port = |default| authority.port_u16().unwrap_or(default);
    let tcp = match (hand_over.take(key, *scheme, authority), scheme) {
        (Some(UpstreamStream::Plain(tcp)), Scheme::Https) => tcp,
        (Some(stream), _) => return Ok(stream),
        (None, Scheme::Https) => reach.dial_to(key, host, port(443)).await?,
        (None, Scheme::Http) => return Ok(UpstreamStream::Plain(reach.dial_to(key, host, port(80)).await?)),
    };
    let stream = match reach.tls.connect(tcp, host, &[key.alpn]).await {
        Err(UpstreamTlsError::Protocol) => return Err(SendError::ProtocolChanged),
        other => other?,
    };
    if key.alpn == Alpn::H2 && stream.alpn() != Alpn::H2 {
        return Err(SendError::ProtocolChanged);
    }
    Ok(stream)
}
