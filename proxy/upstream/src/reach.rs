//! How a server is reached: Streamable HTTP, the HTTP+SSE transport of 2024-11-05, a process on this host, or an HTTP API that a
//! document describes.

use crate::{
    api::Api,
    endpoint::Endpoint,
    error::UpstreamError,
    legacy::{Client, LegacySession, Line},
    modern::{ModernLine, ModernPeer},
    owner::Owner,
    program::Program,
};
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// The HTTP transport of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Streamable HTTP, or HTTP+SSE where that is refused with 404, 405 or 406.
    Either,
    /// Streamable HTTP only.
    Streamable,
    /// HTTP+SSE only.
    Sse,
}

/// How a server is reached.
pub enum Reach {
    /// Over HTTP.
    Http {
        /// The endpoint.
        endpoint: Arc<Endpoint>,
        /// The configured transport.
        transport: Transport,
        /// The transport that was found.
        found: AtomicU8,
    },
    /// A program on this host, over standard input and output.
    Program(Arc<Program>),
    /// An API without MCP: calls become its requests.
    Api(Arc<Api>),
}

const STREAMABLE: u8 = 1;
const SSE: u8 = 2;

impl Reach {
    /// A server over HTTP.
    #[must_use]
    pub fn http(endpoint: Endpoint, transport: Transport) -> Self {
        let found = match transport {
            Transport::Either => 0,
            Transport::Streamable => STREAMABLE,
            Transport::Sse => SSE,
        };
        Self::Http { endpoint: Arc::new(endpoint), transport, found: AtomicU8::new(found) }
    }

    /// The endpoint, if it is called over HTTP.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Http { endpoint, .. } => Some(endpoint),
            Self::Api(api) => Some(api.endpoint()),
            Self::Program(_) => None,
        }
    }

    /// The API that it is, if it is one.
    pub(crate) fn api(&self) -> Option<&Arc<Api>> {
        match self {
            Self::Api(api) => Some(api),
            Self::Http { .. } | Self::Program(_) => None,
        }
    }

    /// The server as one of the stateless era.
    pub(crate) async fn modern(&self, client: &Client) -> Result<ModernPeer, UpstreamError> {
        match self {
            Self::Http { endpoint, found, .. } if found.load(Ordering::Acquire) != SSE => {
                ModernPeer::discover(ModernLine::Http(endpoint.clone()), client).await
            }
            Self::Program(program) => program.modern(client).await,
            Self::Api(api) => Ok(ModernPeer::of_api(api.clone())),
            Self::Http { .. } => Err(UpstreamError::Protocol("the HTTP+SSE transport has no stateless era".to_owned())),
        }
    }

    /// A session with it.
    pub(crate) async fn legacy(&self, client: &Client, owner: Owner<'_>) -> Result<Arc<LegacySession>, UpstreamError> {
        match self {
            Self::Program(program) => program.legacy(client, owner).await,
            Self::Api(_) => Err(UpstreamError::Protocol("an API has no sessions".to_owned())),
            Self::Http { endpoint, transport, found } => {
                if found.load(Ordering::Acquire) != SSE {
                    let opened = LegacySession::open(Line::Http(endpoint.clone()), client).await;
                    match &opened {
                        Ok(_) => found.store(STREAMABLE, Ordering::Release),
                        // The answer to a POST by a server without Streamable HTTP (2025-03-26, Backwards Compatibility).
                        Err(UpstreamError::Status(404..=406)) if *transport == Transport::Either => {
                            return match self.sse(endpoint, client, found).await {
                                // It has neither transport there: the answer to the newer one is reported.
                                Err(UpstreamError::Status(_)) => opened,
                                tried => tried,
                            };
                        }
                        Err(_) => {}
                    }
                    return opened;
                }
                self.sse(endpoint, client, found).await
            }
        }
    }

    async fn sse(&self, endpoint: &Endpoint, client: &Client, found: &AtomicU8) -> Result<Arc<LegacySession>, UpstreamError> {
        let pipe = crate::sse::connect(endpoint.clone()).await?;
        let opened = LegacySession::open(Line::Pipe(pipe), client).await?;
        found.store(SSE, Ordering::Release);
        Ok(opened)
    }
}
