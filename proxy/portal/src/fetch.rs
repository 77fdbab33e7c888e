//! Documents of identity providers and of APIs, by gnomon's own HTTP client.

use bytes::Bytes;
use gnomon_access::{Fetch, FetchError, Fetched, MAX_DOCUMENT};
use gnomon_http::client::{Bounds, Client, ClientError};
use gnomon_upstream::endpoint::ServerPools;
use http::{
    HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::Full;
use std::{sync::Arc, time::Duration};

/// Bounds of requests to a provider.
const PROVIDERS: Bounds = Bounds { answer: MAX_DOCUMENT, patience: Duration::from_secs(10) };

/// The timeout of any other document: some have tens of megabytes.
const DOCUMENT_PATIENCE: Duration = Duration::from_secs(60);

/// Fetches with the portal's own connections.
pub struct Fetcher(Client);

impl Fetcher {
    /// A fetcher that connects and verifies as these pools do.
    #[must_use]
    pub fn new(pools: Arc<ServerPools>) -> Self {
        Self(Client::new(pools, "identity provider"))
    }

    /// Fetches any document of at most so many bytes, within a minute.
    ///
    /// # Errors
    /// A text for the person who configured the URL. A redirection is an error: its target is reported, and not followed.
    pub async fn document(&self, url: &str, most: usize) -> Result<Bytes, FetchError> {
        let mut request: Request<Full<Bytes>> = Request::default();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json, application/yaml, */*;q=0.5"));
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(concat!("gnomon/", env!("CARGO_PKG_VERSION"))));
        self.fetch(url, request, Bounds { answer: most, patience: DOCUMENT_PATIENCE }).await
    }

    async fn fetch(&self, url: &str, mut request: Request<Full<Bytes>>, bounds: Bounds) -> Result<Bytes, FetchError> {
        let failed = |error: ClientError| FetchError(error.to_string());
        *request.uri_mut() = url.parse::<Uri>().map_err(|_| FetchError("not a URL".to_owned()))?;
        request.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let answer = self.0.send(request, bounds).await.map_err(failed)?;
        if answer.status().is_success() {
            return answer.whole().await.map_err(failed);
        }
        let status = answer.status().as_u16();
        Err(FetchError(match answer.leads_to() {
            Some(place) => format!("HTTP {status}: it leads to {place}"),
            None => format!("HTTP {status}"),
        }))
    }
}

impl Fetch for Fetcher {
    fn get<'a>(&'a self, url: &'a str) -> Fetched<'a> {
        Box::pin(self.fetch(url, Request::default(), PROVIDERS))
    }

    fn post_form<'a>(&'a self, url: &'a str, form: Bytes, authorization: Option<HeaderValue>) -> Fetched<'a> {
        let mut request = Request::new(Full::new(form));
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        Box::pin(self.fetch(url, request, PROVIDERS))
    }
}
