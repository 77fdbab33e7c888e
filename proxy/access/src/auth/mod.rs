//! Authentication: from headers and connection to a [`Caller`], or to a [`Challenge`].
//!
//! Modes are tried by what was sent: a bearer token is a service token or one of the identity provider's and never falls back
//! to anything weaker; a certificate counts as the log-in only where no token was sent, and as the device always.

mod bearer;
mod certificate;
mod challenge;
mod country;
mod facts;
mod fetch;
mod oidc;
mod source;
mod tokens;

pub use bearer::MAX_TOKEN;
pub use certificate::CertificateClient;
pub use challenge::{Challenge, Rejection};
pub use country::{Countries, CountriesError, MAX_DATABASE};
pub use fetch::{Fetch, FetchError, Fetched, MAX_DOCUMENT};
pub use oidc::{Algorithm, ClaimNames, ClaimPath, FRESH, Introspection, MAX_QUESTIONS, OidcConfig, PAUSE, STALE, UnverifiedEmail};
pub use source::{AuthSource, Secrets};
pub use tokens::{MAX_SERVICE_TOKENS, NewToken, NoRandomness, ServiceToken, TOKEN_PREFIX, generate_token};

use crate::{AuthMethod, Caller, Device, Peer};
use aws_lc_rs::digest::{Context, SHA256};
use bearer::{Token, bearer};
use bytes::Bytes;
use certificate::Certificates;
use challenge::Advice;
use facts::Facts;
use http::{HeaderMap, Uri};
use oidc::Oidc;
use quick_cache::{Weighter, sync::Cache};
use serde_json::json;
use smol_str::SmolStr;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokens::ServiceTokens;

/// The most callers that are remembered, so that their tokens are not verified with each request.
pub const MAX_REMEMBERED: usize = 4096;
/// The time for which a verified token is trusted without looking again: a withdrawn key takes effect this late.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// The same time for introspected tokens: a revocation takes effect this late.
pub const INTROSPECTED_FOR: Duration = Duration::from_secs(30);

/// A way to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    None,
    Oidc(Box<OidcConfig>),
    Tokens(Vec<ServiceToken>),
    Mtls(Certificates),
}

/// The checked `auth` of a portal: from [`AuthSource::build`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    pub(crate) modes: Vec<Mode>,
    pub(crate) resource: String,
}

impl AuthConfig {
    /// Lets every caller in, anonymously.
    #[must_use]
    pub fn open() -> Self {
        Self { modes: vec![Mode::None], resource: String::new() }
    }

    /// True if anonymous callers are let in: to be refused on addresses that others can reach, unless the operator insists.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.modes.iter().any(|mode| matches!(mode, Mode::None))
    }

    /// True if a client certificate is the only way in.
    #[must_use]
    pub fn takes_only_certificates(&self) -> bool {
        self.wants_certificates() && self.modes.iter().all(|mode| matches!(mode, Mode::Mtls(_)))
    }

    /// True if client certificates are a way in, so that TLS must ask for them.
    #[must_use]
    pub fn wants_certificates(&self) -> bool {
        self.modes.iter().any(|mode| matches!(mode, Mode::Mtls(_)))
    }
}

#[derive(Clone)]
struct Remembered {
    caller: Arc<Caller>,
    until: SystemTime,
}

#[derive(Clone)]
struct ByNames;

impl Weighter<[u8; 32], Remembered> for ByNames {
    /// The weight in callers of ordinary size.
    fn weight(&self, _: &[u8; 32], remembered: &Remembered) -> u64 {
        let caller = &remembered.caller;
        1 + (caller.groups.len() + caller.scopes.len() + caller.amr.len()) as u64 / 32
    }
}

/// Open to anonymous callers, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    Guarded,
}

/// Finds out who is asking. Cheap to share; a changed configuration makes a new one.
pub struct Authenticator {
    door: Door,
    tokens: ServiceTokens,
    providers: Vec<Oidc>,
    certificates: Option<Certificates>,
    countries: Option<Arc<Countries>>,
    advice: Advice,
    metadata: Option<Bytes>,
    metadata_path: Option<String>,
    remembered: Cache<[u8; 32], Remembered, ByNames>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<&str> = self.providers.iter().map(Oidc::issuer).collect();
        f.debug_struct("Authenticator")
            .field("door", &self.door)
            .field("tokens", &self.tokens.0.len())
            .field("issuers", &issuers)
            .finish_non_exhaustive()
    }
}

impl Authenticator {
    /// An authenticator for these modes. Nothing is fetched yet; see [`Authenticator::warm`].
    #[must_use]
    pub fn new(config: AuthConfig, fetch: Arc<dyn Fetch>) -> Self {
        let door = if config.is_open() { Door::Open } else { Door::Guarded };
        let (mut tokens, mut providers, mut certificates) = (Vec::new(), Vec::new(), None);
        for mode in config.modes {
            match mode {
                Mode::None => {}
                Mode::Oidc(one) => providers.push(Oidc::new(*one, &fetch)),
                Mode::Tokens(more) => tokens.extend(more),
                Mode::Mtls(one) => certificates = Some(one),
            }
        }
        let mut scopes: Vec<SmolStr> = providers.iter().flat_map(|one| one.scopes()).cloned().collect();
        scopes.dedup();
        let place = (!providers.is_empty()).then(|| metadata_place(&config.resource)).flatten();
        let metadata = place.is_some().then(|| metadata(&config.resource, &providers, &scopes));
        let (resource_metadata, metadata_path) = place.unzip();
        Self {
            door,
            tokens: ServiceTokens(tokens),
            providers,
            certificates,
            countries: None,
            advice: Advice { resource_metadata, scopes },
            metadata,
            metadata_path,
            remembered: Cache::with_weighter(MAX_REMEMBERED, MAX_REMEMBERED as u64, ByNames),
        }
    }

    /// Adds countries of addresses.
    #[must_use]
    pub fn with_countries(mut self, countries: Arc<Countries>) -> Self {
        self.countries = Some(countries);
        self
    }

    /// The RFC 9728 document, if there is a provider to point to.
    #[must_use]
    pub fn metadata(&self) -> Option<Bytes> {
        self.metadata.clone()
    }

    /// The path of that document: `/.well-known/oauth-protected-resource` and the portal's own path.
    #[must_use]
    pub fn metadata_path(&self) -> Option<&str> {
        self.metadata_path.as_deref()
    }

    /// Fetches the keys of all providers. The errors are for people: authentication works as soon as the provider does.
    ///
    /// # Errors
    /// The issuers that cannot be reached, or whose documents make no sense; the log says why.
    pub async fn warm(&self) -> Result<(), Vec<String>> {
        let mut failed = Vec::new();
        for provider in &self.providers {
            if provider.warm().await.is_err() {
                failed.push(provider.issuer().to_owned());
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    /// Authenticates the caller of a request.
    ///
    /// # Errors
    /// The challenge to answer with.
    pub async fn authenticate(&self, headers: &HeaderMap, peer: &Peer) -> Result<Arc<Caller>, Challenge> {
        self.authenticate_at(headers, peer, SystemTime::now()).await
    }

    /// [`Authenticator::authenticate`] at the given time.
    ///
    /// # Errors
    /// The challenge to answer with.
    pub async fn authenticate_at(&self, headers: &HeaderMap, peer: &Peer, now: SystemTime) -> Result<Arc<Caller>, Challenge> {
        self.identify(headers, peer, now).await.map_err(|rejection| {
            tracing::debug!(reason = rejection.label(), address = %peer.address, "not let in");
            self.advice.challenge(rejection)
        })
    }

    async fn identify(&self, headers: &HeaderMap, peer: &Peer, now: SystemTime) -> Result<Arc<Caller>, Rejection> {
        if self.door == Door::Open {
            return Ok(Arc::new(self.caller(Facts::new(AuthMethod::None), peer)?));
        }
        match bearer(headers)? {
            Some(token) => self.by_token(token, peer, now).await,
            None => self.by_certificate(peer).map(Arc::new),
        }
    }

    fn by_certificate(&self, peer: &Peer) -> Result<Caller, Rejection> {
        let missing = if self.tokens.0.is_empty() && self.providers.is_empty() { Rejection::NoCertificate } else { Rejection::Missing };
        let certificates = self.certificates.as_ref().ok_or(missing)?;
        let device = device_of(peer)?.ok_or(missing)?;
        let facts = certificates.find(&device).ok_or(Rejection::UnknownCertificate)?;
        Ok(facts.caller(peer, Some(device), self.country(peer)))
    }

    async fn by_token(&self, token: Token<'_>, peer: &Peer, now: SystemTime) -> Result<Arc<Caller>, Rejection> {
        let key = memory_key(token, peer);
        if let Some(known) = self.remembered.get(&key).filter(|known| now < known.until && !known.caller.has_expired(now)) {
            return Ok(known.caller);
        }
        let (facts, trusted_for) = self.facts(token, now).await?;
        let bound_to = facts.bound_to.clone();
        let caller = Arc::new(self.caller(facts, peer)?);
        // RFC 8705 3: a thief of the token does not have the certificate.
        if bound_to.is_some() && bound_to.as_ref() != caller.device.as_ref().map(|device| &device.sha256) {
            return Err(Rejection::Binding);
        }
        self.remembered.insert(key, Remembered { caller: caller.clone(), until: now + trusted_for });
        Ok(caller)
    }

    /// Verifies a token: its facts, and the time for which they may be remembered.
    async fn facts(&self, token: Token<'_>, now: SystemTime) -> Result<(Facts, Duration), Rejection> {
        if let Some(known) = self.tokens.find(token) {
            let expired = known.expires.is_some_and(|at| at <= now);
            return if expired { Err(Rejection::Expired) } else { Ok((known.facts(), REMEMBERED_FOR)) };
        }
        if oidc::is_jwt(token) && !self.providers.is_empty() {
            let (provider, facts) = oidc::verify(token, &self.providers, now).await?;
            granted(provider, &facts)?;
            return Ok((facts, REMEMBERED_FOR));
        }
        let mut last = Rejection::Unknown;
        for provider in self.providers.iter().filter(|provider| provider.takes_opaque()) {
            match provider.introspect(token, now).await {
                Ok(facts) => {
                    granted(provider, &facts)?;
                    return Ok((facts, INTROSPECTED_FOR));
                }
                Err(rejection) => last = rejection,
            }
        }
        Err(last)
    }

    fn caller(&self, facts: Facts, peer: &Peer) -> Result<Caller, Rejection> {
        let device = device_of(peer)?;
        Ok(facts.caller(peer, device, self.country(peer)))
    }

    fn country(&self, peer: &Peer) -> Option<SmolStr> {
        self.countries.as_ref().and_then(|countries| countries.of(peer.address.ip()))
    }
}

/// Scopes that the provider's tokens must have.
fn granted(provider: &Oidc, facts: &Facts) -> Result<(), Rejection> {
    let all = provider.scopes().iter().all(|scope| facts.scopes.contains(scope));
    if all { Ok(()) } else { Err(Rejection::Scope) }
}

fn device_of(peer: &Peer) -> Result<Option<Device>, Rejection> {
    let Some(leaf) = peer.certificate.as_ref().and_then(|chain| chain.first()) else { return Ok(None) };
    certificate::device(leaf).map(Some).ok_or(Rejection::UnknownCertificate)
}

/// The key under which a caller is remembered: a digest of the token, and of everything of the connection that goes into the facts. The
/// token itself is not kept.
fn memory_key(token: Token<'_>, peer: &Peer) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(token.as_str().as_bytes());
    part(peer.address.ip().to_string().as_bytes());
    part(peer.certificate.as_ref().and_then(|chain| chain.first()).map_or(&[], |leaf| leaf.as_ref()));
    if let Some(process) = &peer.process {
        for fact in [&process.executable, &process.sha256, &process.user, &process.cgroup, &process.unit] {
            part(&[u8::from(fact.is_some())]);
            part(fact.as_ref().map_or(&[], |fact| fact.as_bytes()));
        }
    }
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    out
}

/// RFC 9728 3.1: the well-known path goes between host and path. The URL and the path.
fn metadata_place(resource: &str) -> Option<(String, String)> {
    let uri: Uri = resource.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let path = format!("/.well-known/oauth-protected-resource{}", uri.path().trim_end_matches('/'));
    Some((format!("{scheme}://{authority}{path}"), path))
}

fn metadata(resource: &str, providers: &[Oidc], scopes: &[SmolStr]) -> Bytes {
    let issuers: Vec<&str> = providers.iter().map(Oidc::issuer).collect();
    let mut document = json!({
        "resource": resource,
        "authorization_servers": issuers,
        "bearer_methods_supported": ["header"],
    });
    if !scopes.is_empty() {
        document["scopes_supported"] = json!(scopes);
    }
    Bytes::from(document.to_string())
}
