//! Documents of identity providers: over verified TLS, within a bound and a time limit, never redirected.

use bytes::Bytes;
use gnomon_access::{Fetch, FetchError, Fetched, MAX_DOCUMENT};
use gnomon_http::{Alpn, Destination, Scheme};
use gnomon_upstream::{endpoint::ServerPools, whole::Whole};
use http::{
    HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, USER_AGENT},
};
use http_body::Body;
use http_body_util::Full;
use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

/// How long a provider may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long any other document may take: some have tens of megabytes.
const DOCUMENT_PATIENCE: Duration = Duration::from_secs(60);

/// Fetches with the portal's own connections.
pub struct Fetcher(Arc<ServerPools>);

impl Fetcher {
    /// One that connects and verifies as these pools do.
    #[must_use]
    pub fn new(pools: Arc<ServerPools>) -> Self {
        Self(pools)
    }

    /// Fetches any document of at most so many bytes, within a minute.
    ///
    /// # Errors
    /// A text for whoever named the URL. A redirection is one: where it leads is said, and not gone to.
    pub async fn document(&self, url: &str, most: usize) -> Result<Bytes, FetchError> {
        let mut request: Request<Full<Bytes>> = Request::default();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json, application/yaml, */*;q=0.5"));
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(concat!("gnomon/", env!("CARGO_PKG_VERSION"))));
        self.fetch(url, request, (most, DOCUMENT_PATIENCE)).await
    }

    async fn fetch(&self, url: &str, mut request: Request<Full<Bytes>>, (most, patience): (usize, Duration)) -> Result<Bytes, FetchError> {
        let failed = |why: String| FetchError(why);
        let uri: Uri = url.parse().map_err(|_| failed("not a URL".to_owned()))?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => return Err(failed("neither http:// nor https://".to_owned())),
        };
        let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(if scheme == Scheme::Https { 443 } else { 80 }));
        let destination =
            Destination::new(scheme, host, port, Alpn::Http11, "identity provider".into()).map_err(|e| failed(e.to_string()))?;
        *request.uri_mut() = uri;
        request.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let answered = async {
            let destination = match scheme {
                Scheme::Http => destination,
                Scheme::Https => self.0.negotiate(destination, &[Alpn::H2, Alpn::Http11]).await.map_err(|e| failed(e.to_string()))?,
            };
            let response = self.0.send(&destination, request).await.map_err(|e| failed(e.to_string()))?;
            if let Some(place) = response.headers().get(LOCATION).filter(|_| response.status().is_redirection()) {
                let place: String = String::from_utf8_lossy(place.as_bytes()).chars().filter(|c| !c.is_control()).take(300).collect();
                return Err(failed(format!("HTTP {}: it leads to {place}", response.status().as_u16())));
            }
            if !response.status().is_success() {
                return Err(failed(format!("HTTP {}", response.status().as_u16())));
            }
            let mut body = pin!(response.into_body());
            let mut read = Whole::new(&body.size_hint(), most);
            while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                let Ok(data) = frame.map_err(|e| failed(e.to_string()))?.into_data() else { continue };
                read.push(data).map_err(|_| failed(format!("larger than {most} bytes")))?;
            }
            Ok(read.into_bytes())
        };
        tokio::time::timeout(patience, answered).await.unwrap_or_else(|_| Err(failed(format!("no answer within {patience:?}"))))
    }
}

impl Fetch for Fetcher {
    fn get<'a>(&'a self, url: &'a str) -> Fetched<'a> {
        Box::pin(self.fetch(url, Request::default(), (MAX_DOCUMENT, PATIENCE)))
    }

    fn post_form<'a>(&'a self, url: &'a str, form: Bytes, authorization: Option<HeaderValue>) -> Fetched<'a> {
        let mut request = Request::new(Full::new(form));
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        Box::pin(self.fetch(url, request, (MAX_DOCUMENT, PATIENCE)))
    }
}
