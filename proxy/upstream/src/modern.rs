//! A server of the stateless era (2026-07-28).

use crate::{
    api::Api,
    as_text::as_text as text,
    conversation::Answer,
    endpoint::{Endpoint, METHOD, NAME, VERSION},
    era::{self, meta},
    error::UpstreamError,
    heard,
    legacy::{Client, ServerFace},
    pipe::Pipe,
};
use bytes::Bytes;
use gnomon_catalogue::{
    members::Members,
    mirror,
    rpc::{self, Id, Outcome},
};
use http::{HeaderMap, HeaderValue};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How requests travel.
pub enum ModernLine {
    /// HTTP, with each request by itself.
    Http(Arc<Endpoint>),
    /// A shared line.
    Pipe(Arc<Pipe>),
    /// No connection: each message becomes a request of an API.
    Api(Arc<Api>),
}

/// A server that answers each request by itself.
pub struct ModernPeer {
    line: ModernLine,
    next: AtomicU64,
    /// The server's description of itself.
    pub face: ServerFace,
}

impl ModernPeer {
    /// Asks a server what it is (`server/discover`).
    ///
    /// # Errors
    /// When it does not answer, or not as the stateless era does.
    pub async fn discover(line: ModernLine, client: &Client) -> Result<Self, UpstreamError> {
        let mut peer = Self { line, next: AtomicU64::new(1), face: ServerFace::default() };
        let id = peer.id();
        let params = with_meta(&Members::default(), client, &[]);
        let outcome = peer.request(&id, "server/discover", Some(&params), HeaderMap::new()).await?.outcome().await?;
        let Outcome::Result(result) = outcome else { return Err(UpstreamError::Rpc(outcome)) };
        let members = Members::read(&result).map_err(|_| UpstreamError::unreadable())?;
        let versions: Vec<String> = members.get("supportedVersions").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        if !versions.iter().any(|version| era::MODERN.contains(&version.as_str())) {
            return Err(UpstreamError::Protocol("it speaks no stateless protocol version that is known here".to_owned()));
        }
        let meta = members.object("_meta");
        let info = meta.as_ref().and_then(|meta| meta.get(meta::SERVER));
        peer.face = ServerFace::of(members.get("capabilities"), info, members.text("instructions"));
        Ok(peer)
    }

    /// A peer for an API, which needs no discovery.
    pub(crate) fn of_api(api: Arc<Api>) -> Self {
        let face = api.face();
        Self { line: ModernLine::Api(api), next: AtomicU64::new(1), face }
    }

    /// An id that no other request to this server has.
    #[must_use]
    pub fn id(&self) -> Id {
        match &self.line {
            ModernLine::Http(_) | ModernLine::Api(_) => Id::number(self.next.fetch_add(1, Ordering::Relaxed)),
            ModernLine::Pipe(pipe) => pipe.id(),
        }
    }

    /// Sends a request whose parameters have their `_meta` already. `mirrored` are `Mcp-Param-*` headers.
    ///
    /// # Errors
    /// When it could not be sent or was not answered.
    pub async fn request(&self, id: &Id, method: &str, params: Option<&Bytes>, mirrored: HeaderMap) -> Result<Answer, UpstreamError> {
        match &self.line {
            ModernLine::Pipe(pipe) => {
                if heard::is_call() {
                    pipe.awake().await?;
                }
                let conversation = pipe.request(id, method, params).await?.taken_back();
                heard::leaves(method);
                Ok(Answer::Going(conversation))
            }
            ModernLine::Api(api) => heard::sending(method, api.answer(method, params)).await.map(Answer::Done),
            ModernLine::Http(endpoint) => {
                let mut headers = mirrored;
                headers.insert(VERSION, HeaderValue::from_static(era::MODERN[0]));
                if let Ok(value) = HeaderValue::from_str(method) {
                    headers.insert(METHOD, value);
                }
                // A caller that knows the name has set the header already.
                if let Some(key) = mirror::named_by(method).filter(|_| !headers.contains_key(&NAME))
                    && let Ok(members) = Members::of(params)
                    && let Some(value) = members.text(key).as_deref().and_then(mirror::encoded)
                {
                    headers.insert(NAME, value);
                }
                let posted = heard::sending(method, endpoint.post(headers, rpc::request(id, method, params.map(|p| &**p)))).await?;
                Answer::read(posted.reply, id, None)
            }
        }
    }

    /// The line that all requests to it share, if they do.
    pub(crate) fn shared_line(&self) -> Option<&Arc<Pipe>> {
        match &self.line {
            ModernLine::Pipe(pipe) => Some(pipe),
            ModernLine::Http(_) | ModernLine::Api(_) => None,
        }
    }

    /// True if the peer is known to be unusable.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(&self.line, ModernLine::Pipe(pipe) if pipe.is_closed())
    }
}

/// The parameters with what each request of the stateless era says of its client; further keys of
/// `_meta` are put in as they are.
#[must_use]
pub fn with_meta(params: &Members<'_>, client: &Client, further: &[(&str, Option<&str>)]) -> Bytes {
    let old = params.object("_meta").unwrap_or_default();
    let version = rpc::quoted(era::MODERN[0]);
    let mut changes = vec![
        (meta::VERSION, Some(version.as_str())),
        (meta::CLIENT, Some(text(&client.info))),
        (meta::CAPABILITIES, Some(text(&client.capabilities))),
    ];
    changes.extend_from_slice(further);
    let new = old.with(&changes);
    params.with(&[("_meta", Some(text(&new)))])
}
