//! Access tokens of an OpenID Connect or OAuth 2.1 provider.
//!
//! A JWT is checked in this order, and nothing of it is believed before: algorithm, key, signature, issuer, audience, time,
//! binding. Which provider's keys are taken is decided by the issuer that the token claims, and that claim is then checked.

mod claims;
mod introspect;
mod jwt;
mod keys;
mod provider;

pub use claims::{ClaimNames, ClaimPath, UnverifiedEmail};
pub use introspect::{Introspection, MAX_QUESTIONS};
pub use jsonwebtoken::Algorithm;
pub(crate) use keys::ALGORITHMS;
pub(crate) use provider::is_safe;
pub use provider::{FRESH, PAUSE, STALE};

use super::{bearer::Token, challenge::Rejection, facts::Facts, fetch::Fetch};
use claims::{Expected, Source};
use introspect::Introspector;
use jwt::Jwt;
use provider::Provider;
use smol_str::SmolStr;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// An identity provider as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcConfig {
    /// Its issuer identifier, exactly as its tokens have it.
    pub issuer: String,
    /// The audiences that are ours. The portal's URL, unless configured.
    pub audiences: Vec<String>,
    /// The URL of its keys, if they are not to be discovered.
    pub jwks_url: Option<String>,
    /// Accepted algorithms.
    pub algorithms: Vec<Algorithm>,
    /// Scopes that each token must have, all of them.
    pub scopes: Vec<SmolStr>,
    /// The names of the claims that hold each fact.
    pub claims: ClaimNames,
    /// The tolerated clock difference.
    pub leeway: Duration,
    /// Introspection of opaque tokens; without it they are refused.
    pub introspection: Option<Introspection>,
}

pub(crate) struct Oidc {
    config: OidcConfig,
    provider: Provider,
    introspector: Option<Introspector>,
}

impl Oidc {
    pub(crate) fn new(config: OidcConfig, fetch: &Arc<dyn Fetch>) -> Self {
        let provider = Provider::new(config.issuer.clone(), config.jwks_url.clone(), fetch.clone());
        let introspector = config.introspection.as_ref().map(|one| Introspector::new(one, fetch.clone()));
        Self { config, provider, introspector }
    }

    pub(crate) fn issuer(&self) -> &str {
        self.provider.issuer()
    }

    pub(crate) fn scopes(&self) -> &[SmolStr] {
        &self.config.scopes
    }

    pub(crate) fn takes_opaque(&self) -> bool {
        self.introspector.is_some()
    }

    fn expected(&self, now: SystemTime) -> Expected<'_> {
        let OidcConfig { audiences, leeway, claims, .. } = &self.config;
        Expected { issuer: self.provider.issuer(), audiences, leeway: *leeway, now, names: claims }
    }

    async fn verify(&self, jwt: Jwt<'_>, now: SystemTime) -> Result<Facts, Rejection> {
        let head = &jwt.head;
        if !self.config.algorithms.contains(&head.algorithm) {
            return Err(Rejection::Algorithm);
        }
        let signed = |keys: &keys::KeySet| {
            let candidates = keys.candidates(head.key.as_deref(), head.name, head.algorithm);
            // No candidate: the keys may have changed. A candidate that did not sign it: they need not be asked for again.
            (!candidates.is_empty()).then(|| candidates.iter().any(|key| jwt.is_signed_by(key)))
        };
        if !self.provider.with_keys(signed).await? {
            return Err(Rejection::Signature);
        }
        self.expected(now).facts(&jwt.claims, Source::Jwt)
    }

    pub(crate) async fn introspect(&self, token: Token<'_>, now: SystemTime) -> Result<Facts, Rejection> {
        match &self.introspector {
            Some(introspector) => introspector.ask(token, &self.expected(now)).await,
            None => Err(Rejection::Unknown),
        }
    }

    /// Fetches the keys, so that the first caller does not wait and a mistake in the configuration shows at the start.
    pub(crate) async fn warm(&self) -> Result<(), Rejection> {
        self.provider.with_keys(|_| Some(())).await
    }
}

/// True for a JWT, which [`verify`] takes; other tokens need introspection.
pub(crate) fn is_jwt(token: Token<'_>) -> bool {
    jwt::looks_like(token.as_str())
}

/// Verifies a JWT with the provider that it claims to be of. Tells which that was.
pub(crate) async fn verify<'p>(token: Token<'_>, providers: &'p [Oidc], now: SystemTime) -> Result<(&'p Oidc, Facts), Rejection> {
    let accepted: Vec<Algorithm> = ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect();
    let jwt = Jwt::read(token.as_str(), &accepted)?;
    let issuer = jwt.claims.get("iss").and_then(serde_json::Value::as_str).ok_or(Rejection::Issuer)?;
    let provider = providers.iter().find(|one| one.issuer() == issuer).ok_or(Rejection::Issuer)?;
    let facts = provider.verify(jwt, now).await?;
    Ok((provider, facts))
}
