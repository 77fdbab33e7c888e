//! The provider's public keys (RFC 7517): read tolerantly, chosen strictly. A key is used only for the algorithms that its
//! kind has, so a public key can never be taken for a shared secret.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use smol_str::SmolStr;

/// The most keys of a set; more are not looked at.
pub(crate) const MAX_KEYS: usize = 64;
/// The most keys that are tried for one token.
const MAX_TRIES: usize = 4;

/// Algorithms that can be accepted: asymmetric ones only.
pub(crate) const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// The type of a key, and with it its algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyType {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl KeyType {
    const fn can(self, algorithm: Algorithm) -> bool {
        match self {
            KeyType::Rsa => matches!(
                algorithm,
                Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 | Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512
            ),
            KeyType::P256 => matches!(algorithm, Algorithm::ES256),
            KeyType::P384 => matches!(algorithm, Algorithm::ES384),
            KeyType::Ed25519 => matches!(algorithm, Algorithm::EdDSA),
        }
    }
}

/// A public key.
#[derive(Debug)]
pub(crate) struct Key {
    id: Option<SmolStr>,
    kind: KeyType,
    /// The one algorithm that it is meant for, if the set says so.
    only: Option<SmolStr>,
    pub(crate) key: DecodingKey,
}

/// Keys of one provider.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Vec<Key>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys of kinds that are not known, for encryption, or broken are left out: providers publish such.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        let document: Document = serde_json::from_slice(json).ok()?;
        Some(Self(document.keys.into_iter().take(MAX_KEYS).filter_map(|key| key_of(serde_json::from_value(key).ok()?)).collect()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that a token of this head may be signed with. A token without a key id is checked only where there is no
    /// choice.
    pub(crate) fn candidates(&self, id: Option<&str>, name: &str, algorithm: Algorithm) -> Vec<&Key> {
        let fits = |key: &&Key| key.kind.can(algorithm) && key.only.as_ref().is_none_or(|only| only == name);
        match id {
            Some(id) => self.0.iter().filter(|key| key.id.as_deref() == Some(id)).filter(fits).take(MAX_TRIES).collect(),
            None => {
                let all: Vec<_> = self.0.iter().filter(fits).collect();
                if all.len() == 1 { all } else { Vec::new() }
            }
        }
    }
}

fn key_of(jwk: Jwk) -> Option<Key> {
    let signs = jwk.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
    let verifies = jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !signs || !verifies {
        return None;
    }
    let (kind, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => (KeyType::Rsa, DecodingKey::from_rsa_components(&jwk.n?, &jwk.e?)),
        ("EC", Some("P-256")) => (KeyType::P256, DecodingKey::from_ec_components(&jwk.x?, &jwk.y?)),
        ("EC", Some("P-384")) => (KeyType::P384, DecodingKey::from_ec_components(&jwk.x?, &jwk.y?)),
        ("OKP", Some("Ed25519")) => (KeyType::Ed25519, DecodingKey::from_ed_components(&jwk.x?)),
        // Symmetric keys (`oct`) above all.
        _ => return None,
    };
    Some(Key { id: jwk.kid.map(SmolStr::new), kind, only: jwk.alg.map(SmolStr::new), key: key.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_asymmetric_signing_keys_are_kept_and_only_for_their_algorithms() {
        let set = KeySet::read(
            br#"{"keys":[
                {"kty":"oct","kid":"a","k":"c2VjcmV0"},
                {"kty":"RSA","kid":"a","use":"enc","n":"AQAB","e":"AQAB"},
                {"kty":"RSA","kid":"a","key_ops":["sign"],"n":"AQAB","e":"AQAB"},
                {"kty":"RSA","kid":"a","use":"sig","n":"AQAB","e":"AQAB"},
                {"kty":"EC","kid":"b","crv":"secp256k1","x":"AQAB","y":"AQAB"},
                {"kty":"RSA","kid":"c","alg":"RS512","n":"AQAB","e":"AQAB"},
                {"nonsense":1}, 7
            ]}"#,
        )
        .unwrap();
        assert_eq!(set.0.len(), 2);
        assert_eq!(set.candidates(Some("a"), "RS256", Algorithm::RS256).len(), 1);
        assert!(set.candidates(Some("a"), "ES256", Algorithm::ES256).is_empty());
        assert!(set.candidates(Some("a"), "HS256", Algorithm::HS256).is_empty());
        assert!(set.candidates(Some("c"), "RS256", Algorithm::RS256).is_empty(), "it is meant for another");
        assert!(set.candidates(None, "RS256", Algorithm::RS256).len() == 1 && set.candidates(None, "RS512", Algorithm::RS512).is_empty());
        assert!(KeySet::read(b"[]").is_none() && KeySet::read(b"{\"keys\":[]}").unwrap().is_empty());
    }
}
