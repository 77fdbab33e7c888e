//! Opaque tokens: the provider is asked what they are worth (RFC 7662). Its answer is held against the same checks as a JWT.

use super::{
    claims::{Expected, Source},
    provider::PATIENCE,
};
use crate::{
    arguments::arguments,
    auth::{
        bearer::Token,
        challenge::Rejection,
        facts::Facts,
        fetch::{Fetch, MAX_DOCUMENT},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use gnomon_kit::percent;
use http::HeaderValue;
use serde_json::Value;
use std::{fmt, sync::Arc};
use tokio::{sync::Semaphore, time::timeout};

/// The most concurrent requests to the provider; further callers are asked to retry.
pub const MAX_QUESTIONS: usize = 16;

/// The introspection endpoint, and the credentials for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Introspection {
    /// The introspection endpoint.
    pub url: String,
    /// The id that this server has with the provider.
    pub client_id: String,
    /// The secret that belongs to it.
    pub client_secret: String,
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection").field("url", &self.url).field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

pub(crate) struct Introspector {
    url: String,
    authorization: Option<HeaderValue>,
    fetch: Arc<dyn Fetch>,
    questions: Semaphore,
}

impl Introspector {
    pub(crate) fn new(config: &Introspection, fetch: Arc<dyn Fetch>) -> Self {
        let pair = format!("{}:{}", percent::encoded(&config.client_id), percent::encoded(&config.client_secret));
        // RFC 6749 2.3.1. Base64 is always a header value.
        let authorization = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).ok().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Self { url: config.url.clone(), authorization, fetch, questions: Semaphore::new(MAX_QUESTIONS) }
    }

    pub(crate) async fn ask(&self, token: Token<'_>, expected: &Expected<'_>) -> Result<Facts, Rejection> {
        let Ok(_permit) = self.questions.try_acquire() else { return Err(Rejection::Unreachable) };
        // `application/x-www-form-urlencoded`, everything but unreserved characters encoded.
        let body = format!("token={}&token_type_hint=access_token", percent::encoded(token.as_str()));
        let asked = self.fetch.post_form(&self.url, Bytes::from(body), self.authorization.clone());
        let answer = match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) if answer.len() <= MAX_DOCUMENT => answer,
            Ok(Ok(_)) => return Err(Rejection::Unreachable),
            Ok(Err(error)) => {
                tracing::warn!(url = %self.url, cause = %error, "the identity provider's introspection failed");
                return Err(Rejection::Unreachable);
            }
            Err(_) => return Err(Rejection::Unreachable),
        };
        let Ok(Value::Object(claims)) = arguments(&answer) else { return Err(Rejection::Unreachable) };
        if claims.get("active") != Some(&Value::Bool(true)) {
            return Err(Rejection::Unknown);
        }
        expected.facts(&claims, Source::Introspection)
    }
}
