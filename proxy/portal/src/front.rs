//! The portal's endpoint: HTTP in, HTTP out.
//!
//! Both eras share one URL. Which one a request belongs to it says itself: the stateless era names its
//! version in each request, and everything else is of the older one.
//!
//! An attacker controls every byte of a request. Its size is bounded, it is read to its end before
//! anything happens ([`request_body`](crate::request_body)), and web pages of other origins get nowhere (DNS rebinding).

use crate::{
    answering::Accepts,
    cors,
    log_in::Visitor,
    portal::Portal,
    request_body::{Waits, read},
    responses::{challenged, charged, document, plain, refused, unrecorded},
};
use bytes::Bytes;
use gnomon_access::Caller;
use gnomon_relay::{ground::Ground, offer::Offer, outflow::Outflow};
use gnomon_upstream::{
    endpoint::{METHOD, SESSION, VERSION},
    era::{self, meta},
    rpc::{INVALID_REQUEST, Message, RpcError},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, EXPECT, HOST, ORIGIN},
    request::Parts,
};
use http_body::Body;
use std::sync::Arc;

impl Portal {
    /// Answers one request of a connection.
    pub(crate) async fn answer<B>(self: &Arc<Self>, request: Request<B>, visitor: &Arc<Visitor>) -> Response<Outflow>
    where
        B: Body<Data = Bytes>,
    {
        let (parts, body) = request.into_parts();
        if let Err(response) = self.admissible(&parts) {
            self.road.refuses(Ground::Origin);
            return response;
        }
        let page = parts.headers.get(ORIGIN).cloned();
        let mut response = match cors::preflight(&parts) {
            Some(response) => response,
            None => self.admitted(parts, body, visitor).await,
        };
        if let Some(page) = page {
            cors::readable(&mut response, page);
        }
        response
    }

    /// Answers a request by a name of ours, from nowhere that it may not come from.
    async fn admitted<B>(self: &Arc<Self>, parts: Parts, body: B, visitor: &Arc<Visitor>) -> Response<Outflow>
    where
        B: Body<Data = Bytes>,
    {
        let authenticator = self.log_in.authenticator();
        if parts.method == Method::GET
            && authenticator.metadata_path() == Some(parts.uri.path())
            && let Some(metadata) = authenticator.metadata()
        {
            return document(StatusCode::OK, metadata);
        }
        if parts.uri.path() != self.options.path {
            return plain(StatusCode::NOT_FOUND, &format!("not found; the portal is at {}", self.options.path));
        }
        let acts = self.options.acts.as_ref();
        let peer = &visitor.peer;
        let caller = match authenticator.authenticate(&parts.headers, peer).await {
            Ok(caller) => caller,
            Err(challenge) => {
                self.road.refuses(Ground::LogIn);
                if let Some(acts) = acts {
                    acts.turned_away(peer, &challenge).await;
                }
                return challenged(&challenge);
            }
        };
        if let Some(acts) = acts
            && let Err(error) = acts.let_in(&caller).await
        {
            self.road.refuses(Ground::Audit);
            return unrecorded(error);
        }
        let offer = match Offer::asked_for(parts.uri.query(), self.options.code_mode) {
            Ok(offer) => offer,
            Err(why) => return plain(StatusCode::BAD_REQUEST, &why),
        };
        let modern = parts.headers.get(VERSION).and_then(|v| v.to_str().ok()).is_some_and(era::claims_modern);
        match parts.method {
            Method::POST => {
                let waits = if parts.headers.contains_key(EXPECT) { Waits::Yes } else { Waits::No };
                let body = match read(self, body, &caller, waits).await {
                    Ok(body) => body,
                    Err(response) => return response,
                };
                let response = self.post(Asker { caller: caller.clone(), offer, visitor: visitor.clone() }, &parts.headers, body).await;
                charged(&self.recipient(&caller), response).await
            }
            Method::GET if !modern => self.listen(&caller, &parts.headers, visitor).await,
            Method::DELETE if !modern => self.end(&caller, &parts.headers).await,
            _ => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "messages are posted here");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
                response
            }
        }
    }

    /// Refuses what comes by another name or from a foreign web page (DNS rebinding; Streamable HTTP, Security Warning).
    #[allow(clippy::result_large_err, reason = "the error is the answer, and is moved once")]
    fn admissible(&self, parts: &Parts) -> Result<(), Response<Outflow>> {
        // HTTP/2 names the host in `:authority`.
        let header = parts.headers.get(HOST).map(|v| v.to_str().unwrap_or_default());
        let host = parts.uri.authority().map(|authority| authority.as_str()).or(header);
        if let Some(host) = host
            && !self.is_own_host(without_port(host))
        {
            return Err(plain(StatusCode::FORBIDDEN, "this portal does not serve that host name; add it to `hosts`"));
        }
        if let Some(origin) = parts.headers.get(ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let own = origin.split_once("://").is_some_and(|(_, host)| self.is_own_host(without_port(host)));
            if !own && !self.options.origins.iter().any(|allowed| allowed == origin) {
                return Err(plain(StatusCode::FORBIDDEN, "web pages of that origin may not call this portal; add it to `origins`"));
            }
        }
        Ok(())
    }

    pub(crate) fn is_own_host(&self, host: &str) -> bool {
        let is = |own: &str| own.eq_ignore_ascii_case(host);
        ["localhost", "127.0.0.1", "[::1]"].into_iter().any(is) || self.options.hosts.iter().any(|own| is(own))
    }

    async fn post(self: &Arc<Self>, asker: Asker, headers: &HeaderMap, body: Bytes) -> Response<Outflow> {
        let json = headers
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json"));
        if !json {
            return refused(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                None,
                RpcError::new(INVALID_REQUEST, "Content-Type must be application/json"),
            );
        }
        let accepts = Accepts::of(headers);
        if accepts == Accepts::Neither {
            let text = "Accept must allow application/json and text/event-stream";
            return refused(StatusCode::NOT_ACCEPTABLE, None, RpcError::new(INVALID_REQUEST, text));
        }
        if let Some(elements) = Message::batch(&body) {
            return self.batch(asker, headers, elements).await;
        }
        let message = match Message::read(&body) {
            Ok(message) => message,
            Err(error) => return refused(StatusCode::BAD_REQUEST, None, error),
        };
        if is_modern(headers, &message) {
            return self.stateless_post(asker, headers, message, accepts).await;
        }
        self.session_post(asker, headers, message, accepts).await
    }
}

/// A request's caller, and the offer it gets.
pub(crate) struct Asker {
    pub caller: Arc<Caller>,
    pub offer: Offer,
    /// The origin of its connection.
    pub visitor: Arc<Visitor>,
}

/// Whether a message says that it is of the stateless era.
fn is_modern(headers: &HeaderMap, message: &Message) -> bool {
    if headers.contains_key(SESSION) {
        return false;
    }
    let header = headers.get(VERSION).and_then(|v| v.to_str().ok());
    if header.is_some_and(era::claims_modern) {
        return true;
    }
    let Message::Request(request) = message else { return false };
    if matches!(request.method.as_str(), "server/discover" | "subscriptions/listen") {
        return true;
    }
    if request.method == "initialize" {
        return false;
    }
    // Asked last, as it reads the parameters: a request without a session is an error in the older era.
    header.is_none_or(|version| !era::is_legacy(version))
        && request.members().is_ok_and(|p| p.object("_meta").is_some_and(|m| m.get(meta::VERSION).is_some()))
        || header.is_none() && headers.contains_key(METHOD)
}

/// A host without its port.
pub(crate) fn without_port(host: &str) -> &str {
    match (host.rfind(':'), host.rfind(']')) {
        (Some(colon), Some(bracket)) if colon < bracket => host,
        (Some(colon), _) => &host[..colon],
        (None, _) => host,
    }
}
