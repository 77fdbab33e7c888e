//! An identity provider as seen from here: where its documents are, and its keys, kept fresh.
//!
//! Keys are had again when they are [`FRESH`] old, or when a token names one that is not known: at most every [`PAUSE`], so
//! that made-up key ids cost the provider nothing. While the provider is down the last keys serve, up to [`STALE`].

use super::keys::KeySet;
use crate::auth::{
    challenge::Rejection,
    fetch::{Fetch, MAX_DOCUMENT},
};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::Uri;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, timeout},
};

/// The age from which keys are fetched anew.
pub const FRESH: Duration = Duration::from_secs(15 * 60);
/// The greatest age of keys while the provider cannot be reached.
pub const STALE: Duration = Duration::from_secs(24 * 3600);
/// The least time between two attempts.
pub const PAUSE: Duration = Duration::from_secs(10);
/// Timeout of a request to the provider.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Timeout while there are keys that still serve, as a request waits for it.
const HASTE: Duration = Duration::from_secs(2);

/// The members of RFC 8414 and OpenID Connect Discovery documents that are read.
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

struct Snapshot {
    keys: KeySet,
    at: Instant,
}

#[derive(Default)]
struct Attempts {
    last: Option<Instant>,
}

/// The keys of one issuer.
pub(crate) struct Provider {
    issuer: String,
    /// The URL of the keys, if configured: then nothing is discovered.
    jwks_url: Option<String>,
    fetch: Arc<dyn Fetch>,
    keys: ArcSwapOption<Snapshot>,
    refreshing: Mutex<Attempts>,
}

/// True if secrets and keys may travel to this address: TLS, or this very machine.
pub(crate) fn is_safe(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => matches!(host, "127.0.0.1" | "[::1]" | "localhost"),
        _ => false,
    }
}

/// The URLs at which an issuer's metadata may be: RFC 8414 3.1, then OpenID Connect Discovery 4 in both readings.
fn discovery_urls(issuer: &str) -> Vec<String> {
    let Ok(uri) = issuer.parse::<Uri>() else { return Vec::new() };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Vec::new() };
    let path = uri.path().trim_end_matches('/');
    let mut urls = vec![
        format!("{scheme}://{authority}/.well-known/oauth-authorization-server{path}"),
        format!("{scheme}://{authority}/.well-known/openid-configuration{path}"),
        format!("{scheme}://{authority}{path}/.well-known/openid-configuration"),
    ];
    urls.dedup();
    urls
}

impl Provider {
    pub(crate) fn new(issuer: String, jwks_url: Option<String>, fetch: Arc<dyn Fetch>) -> Self {
        Self { issuer, jwks_url, fetch, keys: ArcSwapOption::empty(), refreshing: Mutex::default() }
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Calls `with` on keys that are as fresh as can be had; again on newer ones if it finds nothing in these.
    pub(crate) async fn with_keys<T>(&self, mut with: impl FnMut(&KeySet) -> Option<T>) -> Result<T, Rejection> {
        let seen = self.keys.load_full();
        if let Some(snapshot) = seen.as_ref().filter(|snapshot| snapshot.at.elapsed() < STALE) {
            if snapshot.at.elapsed() >= FRESH {
                // One caller fetches them again; others use the known ones meanwhile.
                if let Ok(attempts) = self.refreshing.try_lock() {
                    self.refresh(attempts, Some(snapshot.at), HASTE).await;
                }
            }
            let snapshot = self.keys.load_full().unwrap_or_else(|| snapshot.clone());
            if let Some(found) = with(&snapshot.keys) {
                return Ok(found);
            }
        }
        let attempts = self.refreshing.lock().await;
        self.refresh(attempts, seen.map(|snapshot| snapshot.at), PATIENCE).await;
        match self.keys.load_full().filter(|snapshot| snapshot.at.elapsed() < STALE) {
            Some(snapshot) => with(&snapshot.keys).ok_or(Rejection::Key),
            None => Err(Rejection::Unreachable),
        }
    }

    /// Fetches the keys again, unless that was done since `seen` or an attempt was made just now.
    async fn refresh(&self, mut attempts: MutexGuard<'_, Attempts>, seen: Option<Instant>, patience: Duration) {
        let newer = self.keys.load().as_ref().is_some_and(|snapshot| Some(snapshot.at) != seen);
        if newer || attempts.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        attempts.last = Some(Instant::now());
        let fetched = timeout(patience, self.fetch_keys()).await;
        match fetched.unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs()))) {
            Ok(keys) => self.keys.store(Some(Arc::new(Snapshot { keys, at: Instant::now() }))),
            Err(cause) => tracing::warn!(issuer = %self.issuer, %cause, "the identity provider's keys cannot be fetched"),
        }
    }

    async fn fetch_keys(&self) -> Result<KeySet, String> {
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let keys = KeySet::read(&self.get(&url).await?).ok_or_else(|| format!("{url} is not a JWK set"))?;
        // A set without keys would lock everybody out; the last ones are better.
        if keys.is_empty() { Err(format!("{url} has no key that signs")) } else { Ok(keys) }
    }

    async fn discover(&self) -> Result<String, String> {
        let mut cause = "the issuer is not a URL".to_owned();
        for url in discovery_urls(&self.issuer) {
            match self.get(&url).await {
                Ok(body) => match serde_json::from_slice::<Discovered>(&body) {
                    // RFC 8414 3.3: the document of another issuer must not be used.
                    Ok(found) if found.issuer != self.issuer => cause = format!("{url} is of another issuer: {:.200}", found.issuer),
                    Ok(found) if !is_safe(&found.jwks_uri) => cause = format!("{url} names keys at an address without TLS"),
                    Ok(found) => return Ok(found.jwks_uri),
                    Err(_) => cause = format!("{url} is not provider metadata"),
                },
                Err(error) => cause = error,
            }
        }
        Err(cause)
    }

    async fn get(&self, url: &str) -> Result<Bytes, String> {
        match self.fetch.get(url).await {
            Ok(body) if body.len() <= MAX_DOCUMENT => Ok(body),
            Ok(_) => Err(format!("{url} is larger than {MAX_DOCUMENT} bytes")),
            Err(error) => Err(format!("{url}: {error}")),
        }
    }
}
