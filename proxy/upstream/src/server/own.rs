//! gnomon's own connection to a server.

use crate::{
    era::Era,
    error::UpstreamError,
    legacy::{Client, LegacySession},
    modern::{ModernPeer, with_meta},
    pipe::Pipe,
    server::Presence,
};
use bytes::Bytes;
use gnomon_catalogue::{
    members::Members,
    rpc::{Id, Outcome},
};
use http::HeaderMap;
use std::{sync::Arc, time::Duration};

/// Our own connection to a server.
pub(super) enum Own {
    /// A stateless server, where each request says who asks.
    Modern(Arc<ModernPeer>, Client),
    Legacy(Arc<LegacySession>),
}

impl Own {
    pub fn presence(&self) -> Presence {
        let (era, face) = match self {
            Self::Modern(peer, _) => (Era::Modern, &peer.face),
            Self::Legacy(session) => (Era::Legacy, &session.face),
        };
        Presence::Up { era, face: Arc::new(face.clone()) }
    }

    /// The line that everything shares, if it does.
    pub fn shared_line(&self) -> Option<&Arc<Pipe>> {
        match self {
            Self::Modern(peer, _) => peer.shared_line(),
            Self::Legacy(session) => session.shared_line(),
        }
    }

    /// Waits until the line is down; for ever where there is none.
    pub async fn closed(&self) {
        match self.shared_line() {
            Some(line) => line.closed().await,
            None => std::future::pending().await,
        }
    }

    pub fn capabilities(&self) -> &Bytes {
        match self {
            Self::Modern(peer, _) => &peer.face.capabilities,
            Self::Legacy(session) => &session.face.capabilities,
        }
    }

    pub async fn ask(&self, method: &str, params: Option<Bytes>, patience: Duration) -> Result<Outcome, UpstreamError> {
        let answered = async {
            match self {
                Self::Legacy(session) => session.request(&session.id(), method, params.as_ref()).await?.outcome().await,
                Self::Modern(peer, client) => {
                    let params = described(params.as_ref(), client)?;
                    peer.request(&peer.id(), method, Some(&params), HeaderMap::new()).await?.outcome().await
                }
            }
        };
        tokio::time::timeout(patience, answered).await.map_err(|_| UpstreamError::Timeout(patience))?
    }

    /// Answers the server's request.
    pub async fn respond(&self, id: &Id, outcome: &Outcome) -> Result<(), UpstreamError> {
        match self {
            Self::Legacy(session) => session.respond(id, outcome).await,
            Self::Modern(peer, _) => match peer.shared_line() {
                Some(line) => line.respond(id, outcome).await,
                // The question came on a stream, which cannot carry an answer.
                None => Ok(()),
            },
        }
    }
}

/// Parameters that say that gnomon itself asks.
pub(super) fn described(params: Option<&Bytes>, client: &Client) -> Result<Bytes, UpstreamError> {
    let members = Members::of(params).map_err(|_| UpstreamError::unreadable())?;
    Ok(with_meta(&members, client, &[]))
}
