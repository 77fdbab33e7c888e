//! Servers of the stateless era, asked what a client may ask them.

use crate::{held::Upstream, owed::Cleared};
use bytes::Bytes;
use gnomon_upstream::{Answer, ModernPeer, Unconnected, UpstreamError};
use http::HeaderMap;
use std::sync::Arc;

/// A server of this era; one that turned out to be that a moment ago is waited for.
async fn modern_now(server: &Upstream) -> Result<Arc<ModernPeer>, UpstreamError> {
    let peer = match server.modern() {
        Some(peer) => Some(peer),
        None => server.turns_modern().await,
    };
    peer.ok_or_else(|| UpstreamError::Unreachable { why: Unconnected::Other, detail: "no connection yet".to_owned() })
}

/// Asks a server of this era; once more where it is a program that hangs and is started again. `mirrored` are the headers that repeat
/// what the request says.
///
/// # Errors
/// The server cannot be asked, or does not answer.
pub async fn asked_now(
    _: &Cleared,
    server: &Upstream,
    (method, params): (&str, Option<&Bytes>),
    mirrored: &HeaderMap,
) -> Result<Answer, UpstreamError> {
    let peer = modern_now(server).await?;
    match peer.request(&peer.id(), method, params, mirrored.clone()).await {
        Err(UpstreamError::Hangs(_)) => {
            let peer = modern_now(server).await?;
            peer.request(&peer.id(), method, params, mirrored.clone()).await
        }
        asked => asked,
    }
}
