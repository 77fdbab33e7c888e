//! A JWT (RFC 7519, RFC 9068) as three parts, its head read strictly. What the head says about keys beyond their id (`jku`,
//! `jwk`, `x5u`, `x5c`) is ignored: it comes from the token's maker.

use super::keys::{ALGORITHMS, Key};
use crate::{arguments::arguments, auth::challenge::Rejection};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, crypto::aws_lc};
use serde_json::{Map, Value};
use smol_str::SmolStr;

/// A token that was taken apart. Nothing in it is proven before [`Jwt::is_signed_by`].
pub(crate) struct Jwt<'t> {
    message: &'t [u8],
    signature: Vec<u8>,
    pub(crate) head: Head,
    pub(crate) claims: Map<String, Value>,
}

/// The header of a JWT.
pub(crate) struct Head {
    pub(crate) algorithm: Algorithm,
    pub(crate) name: &'static str,
    pub(crate) key: Option<SmolStr>,
}

/// True if this could be a JWT: three parts, the first of which begins like a JSON object.
pub(crate) fn looks_like(token: &str) -> bool {
    token.starts_with("eyJ") && token.bytes().filter(|b| *b == b'.').count() == 2
}

impl<'t> Jwt<'t> {
    /// Parses a token, accepting only these algorithms.
    pub(crate) fn read(token: &'t str, accepted: &[Algorithm]) -> Result<Self, Rejection> {
        let (message, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
        let (head, claims) = message.split_once('.').ok_or(Rejection::Malformed)?;
        let head = Head::read(&object(head)?, accepted)?;
        let claims = object(claims)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Rejection::Malformed)?;
        Ok(Self { message: message.as_bytes(), signature, head, claims })
    }

    /// True if this key made the signature.
    pub(crate) fn is_signed_by(&self, key: &Key) -> bool {
        // Named, so that no other crate's choice of provider can change it.
        let verifier = (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&self.head.algorithm, &key.key);
        verifier.is_ok_and(|verifier| verifier.verify(self.message, &self.signature).is_ok())
    }
}

impl Head {
    fn read(head: &Map<String, Value>, accepted: &[Algorithm]) -> Result<Self, Rejection> {
        let name = head.get("alg").and_then(Value::as_str).ok_or(Rejection::Malformed)?;
        let (name, algorithm) = ALGORITHMS.iter().find(|(known, _)| *known == name).ok_or(Rejection::Algorithm)?;
        if !accepted.contains(algorithm) {
            return Err(Rejection::Algorithm);
        }
        // RFC 7515 4.1.11: extensions that must be understood are not.
        if head.contains_key("crit") {
            return Err(Rejection::Malformed);
        }
        // RFC 9068 2.1; older providers say JWT or nothing.
        match head.get("typ") {
            None => {}
            Some(Value::String(kind)) => {
                let kind = kind.to_ascii_lowercase();
                if !matches!(kind.strip_prefix("application/").unwrap_or(&kind), "at+jwt" | "jwt") {
                    return Err(Rejection::Kind);
                }
            }
            Some(_) => return Err(Rejection::Malformed),
        }
        let key = match head.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(SmolStr::new(id)),
            Some(_) => return Err(Rejection::Malformed),
        };
        Ok(Self { algorithm: *algorithm, name, key })
    }
}

/// A part of a token: a JSON object without repeated names.
fn object(part: &str) -> Result<Map<String, Value>, Rejection> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejection::Malformed)?;
    match arguments(&json) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Rejection::Malformed),
    }
}
