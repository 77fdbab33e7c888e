//! gnomon's own requests: for the documents of identity providers and of APIs, to collectors of events, and of commands to the gnomon that
//! runs.
//!
//! The rules common to them are decided here: the roots of TLS and the addresses never dialled (by the pools), the bytes read of an answer,
//! the timeout of the whole, and redirections: they are reported, or for a client that says so ([`Client::following`]) followed to
//! `https://` and without credentials for others. What a status means is up to the caller.
//!
//! Two things are left out on purpose. **Retries** are the caller's: whether a request may arrive twice, and how long what it is for can
//! wait, it alone knows (an export goes on for hours, keys stay those that were known, a command tells its user); only what had not begun
//! on a kept connection is sent again, by the pools. **Proxies**: servers are asked directly. `HTTPS_PROXY` is not read, as on gnomon's
//! hosts it names gnomon itself, for agents; its own requests must not go through the proxy that records those of others.

mod redirects;

pub use redirects::Redirects;

use crate::{
    Alpn, AlpnCache, Destination, DialOptions, Dialer, InvalidDestination, PoolOptions, Pools, Scheme, SendError, UpstreamBody,
    UpstreamTls, Whole,
};
use bytes::Bytes;
use http::{
    HeaderMap, Request, Response, StatusCode, Uri,
    header::{LOCATION, RETRY_AFTER},
};
use http_body::Body;
use http_body_util::Full;
use rustls::RootCertStore;
use std::{fmt::Display, future::poll_fn, pin::pin, sync::Arc, time::Duration};
use tokio::{
    runtime::Builder,
    time::{Instant, timeout_at},
};

/// How long a connection of a client with pools of its own is kept idle.
const IDLE: Duration = Duration::from_secs(90);

/// Sends gnomon's own requests. Clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    pools: Arc<Pools<Full<Bytes>>>,
    principal: Arc<str>,
    offered: &'static [Alpn],
    redirects: Redirects,
}

/// Bounds of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most bytes of the answer's body.
    pub answer: usize,
    /// The timeout of the whole request, from resolving the name to the answer's last byte.
    pub patience: Duration,
}

/// An error of a request. The texts name neither the request nor its secrets.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The request's URI names no scheme that can be asked.
    #[error("neither http:// nor https://")]
    Scheme,
    /// The URL's host is not a valid one.
    #[error(transparent)]
    Destination(#[from] InvalidDestination),
    /// No answer came.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The answer broke off.
    #[error("{0}")]
    BrokeOff(String),
    /// The answer is larger than is read.
    #[error("larger than {0} bytes")]
    TooLarge(usize),
    /// The request took too long.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// The request cannot be made: the system does not let it be, the URL is not one, or where it is led must not be followed.
    #[error("{0}")]
    Setup(String),
}

impl Client {
    /// A client with these connections. It uses the one of HTTP/2 and HTTP/1.1 that servers prefer.
    #[must_use]
    pub fn new(pools: Arc<Pools<Full<Bytes>>>, principal: &str) -> Self {
        Self { pools, principal: principal.into(), offered: &[Alpn::H2, Alpn::Http11], redirects: Redirects::Reported }
    }

    /// A client for a server that gets one request after the other, over HTTP/1.1 and a connection of its own that is kept.
    #[must_use]
    pub fn alone(dialer: Dialer, tls: UpstreamTls, principal: &str) -> Self {
        let options = PoolOptions { idle_timeout: IDLE, idle_per_destination: 1 };
        let pools = Arc::new(Pools::new(dialer, tls, Arc::new(AlpnCache::default()), options));
        Self { offered: &[Alpn::Http11], ..Self::new(pools, principal) }
    }

    /// The same client, but it follows redirections so.
    #[must_use]
    pub fn following(self, redirects: Redirects) -> Self {
        Self { redirects, ..self }
    }

    /// Sends a request to where its URI, an absolute one, says, and waits for the head of the answer: the last one, if it was redirected.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(&self, request: Request<Full<Bytes>>, bounds: Bounds) -> Result<Answer, ClientError> {
        let deadline = Instant::now() + bounds.patience;
        let response = timeout_at(deadline, self.led(request)).await.unwrap_or(Err(ClientError::Late(bounds.patience)))?;
        Ok(Answer { response, bounds, deadline })
    }

    /// Sends a request, and on to where it is led as far as this client follows.
    async fn led(&self, mut request: Request<Full<Bytes>>) -> Result<Response<UpstreamBody>, ClientError> {
        let Some(most) = self.redirects.most(request.method()) else { return self.once(request).await };
        for _ in 0..=most {
            let response = self.once(request.clone()).await?;
            match redirects::target(request.uri(), &response)? {
                Some(to) => request = redirects::led_to(request, to),
                None => return Ok(response),
            }
        }
        Err(ClientError::Setup(format!("it redirects more than {most} times")))
    }

    async fn once(&self, request: Request<Full<Bytes>>) -> Result<Response<UpstreamBody>, ClientError> {
        let destination = self.pools.negotiate(self.destination(request.uri())?, self.offered).await?;
        Ok(self.pools.send(&destination, request).await?)
    }

    fn destination(&self, uri: &Uri) -> Result<Destination, ClientError> {
        let (scheme, port) = match uri.scheme_str() {
            Some("https") => (Scheme::Https, 443),
            Some("http") => (Scheme::Http, 80),
            _ => return Err(ClientError::Scheme),
        };
        let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(port));
        Ok(Destination::new(scheme, host, port, Alpn::Http11, self.principal.clone())?)
    }
}

/// Gets what is at a URL without TLS, and reads the answer with `read`. For commands, which have no runtime: it blocks, and starts no
/// other thread where the URL's host is an address.
///
/// # Errors
/// [`ClientError`].
pub fn get_blocking<T>(url: &str, bounds: Bounds, read: impl AsyncFnOnce(Answer) -> Result<T, ClientError>) -> Result<T, ClientError> {
    let setup = |error: &dyn Display| ClientError::Setup(error.to_string());
    let request = Request::get(url).body(Full::default()).map_err(|error| setup(&error))?;
    let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(|error| setup(&error))?;
    let tls = UpstreamTls::with_roots(RootCertStore::empty()).map_err(|error| setup(&error))?;
    // Whoever gives the command names the address.
    let dialer = Dialer::new(DialOptions { forbidden: None, ..DialOptions::default() });
    let client = Client::alone(dialer, tls, "command");
    runtime.block_on(async { read(client.send(request, bounds).await?).await })
}

/// An answer whose body was not read yet.
#[derive(Debug)]
pub struct Answer {
    response: Response<UpstreamBody>,
    bounds: Bounds,
    deadline: Instant,
}

impl Answer {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers of the answer.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The target of a redirection, printable and not too long.
    #[must_use]
    pub fn leads_to(&self) -> Option<String> {
        self.headers().get(LOCATION).filter(|_| self.status().is_redirection()).map(redirects::shown)
    }

    /// The delay that `Retry-After` asks for, if given in seconds (RFC 9110 section 10.2.3).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// [`ClientError::BrokeOff`], [`ClientError::TooLarge`], [`ClientError::Late`].
    pub async fn whole(self) -> Result<Bytes, ClientError> {
        let Bounds { answer: most, patience } = self.bounds;
        let read = async {
            let mut body = pin!(self.response.into_body());
            let mut read = Whole::new(&body.size_hint(), most);
            while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                let Ok(data) = frame.map_err(|error| ClientError::BrokeOff(error.to_string()))?.into_data() else { continue };
                read.push(data).map_err(|_| ClientError::TooLarge(most))?;
            }
            Ok(read.into_bytes())
        };
        timeout_at(self.deadline, read).await.unwrap_or(Err(ClientError::Late(patience)))
    }
}
