//! Servers of the stateless era, asked what a client may ask them.

use crate::{act::Leaving, error::CallError, held::Upstream, owed::Cleared};
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

/// Asks a server of this era, where that may leave; of a program that hangs, which was not asked, the one that is started in its place.
/// `mirrored` are the headers that repeat what the request says.
///
/// # Errors
/// The server cannot be asked, or does not answer; [`CallError::Unrecorded`].
pub async fn asked_now(
    _: &Cleared,
    leaving: &Leaving<'_>,
    server: &Upstream,
    (method, params): (&str, Option<&Bytes>),
    mirrored: &HeaderMap,
) -> Result<Answer, CallError> {
    let peer = modern_now(server).await?;
    leaving.leaves().await?;
    match peer.request(&peer.id(), method, params, mirrored.clone()).await {
        Err(UpstreamError::Hangs(_)) => {
            let peer = modern_now(server).await?;
            Ok(peer.request(&peer.id(), method, params, mirrored.clone()).await?)
        }
        asked => Ok(asked?),
    }
}
