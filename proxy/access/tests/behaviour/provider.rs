//! An identity provider in memory: keys, documents, and a log of the requests to it.

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use gnomon_access::{AuthConfig, AuthSource, Authenticator, Caller, Challenge, Fetch, FetchError, Fetched, Peer};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

pub const ISSUER: &str = "https://login.example";
pub const RESOURCE: &str = "https://portal.example/mcp";

/// A signing key of any kind.
pub enum Signer {
    Rsa(rsa::KeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hmac(Vec<u8>),
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub fn rsa() -> Self {
        Signer::Rsa(rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap())
    }

    pub fn p256() -> Self {
        Signer::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn ed25519() -> Self {
        Signer::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Signer::Rsa(_) => "RS256",
            Signer::P256(_) => "ES256",
            Signer::Ed25519(_) => "EdDSA",
            Signer::Hmac(_) => "HS256",
        }
    }

    pub fn jwk(&self, id: &str) -> Value {
        match self {
            Signer::Rsa(key) => {
                let public = key.public_key();
                let (n, e) =
                    (b64(public.modulus().big_endian_without_leading_zero()), b64(public.exponent().big_endian_without_leading_zero()));
                json!({"kty": "RSA", "kid": id, "use": "sig", "n": n, "e": e})
            }
            Signer::P256(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "kid": id, "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..])})
            }
            Signer::Ed25519(key) => json!({"kty": "OKP", "kid": id, "crv": "Ed25519", "x": b64(key.public_key().as_ref())}),
            Signer::Hmac(secret) => json!({"kty": "oct", "kid": id, "k": b64(secret)}),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Signer::Rsa(key) => {
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut out).unwrap();
                out
            }
            Signer::P256(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Signer::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Signer::Hmac(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
        }
    }

    /// A token with this head and these claims, given as text so that they can be malformed.
    pub fn token_of(&self, head: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(head), b64(claims));
        let signature = b64(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    pub fn token(&self, id: &str, claims: &Value) -> String {
        let head = json!({"alg": self.algorithm(), "kid": id, "typ": "at+jwt"});
        self.token_of(&head.to_string(), &claims.to_string())
    }
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Valid claims.
pub fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": RESOURCE, "sub": "u-1", "exp": now() + 600, "iat": now(), "client_id": "claude",
        "scope": "mcp profile", "groups": ["finance", "it"], "email": "Anna@Example.org", "email_verified": true,
        "acr": "loa2", "amr": ["pwd", "otp"]
    })
}

/// The claims with these changes; `null` removes one.
pub fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// Documents by URL, which tests change, and the requests for them.
#[derive(Default)]
pub struct Web {
    /// Nothing is answered from now on.
    pub silent: std::sync::atomic::AtomicBool,
    documents: Mutex<HashMap<String, Value>>,
    asked: Mutex<Vec<String>>,
}

impl Web {
    pub fn put(&self, url: &str, document: Value) {
        self.documents.lock().unwrap().insert(url.to_owned(), document);
    }

    pub fn clear(&self) {
        self.documents.lock().unwrap().clear();
    }

    /// The requests since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// Publishes a provider's metadata and keys in the usual places.
    pub fn provider(&self, issuer: &str, keys: &[Value]) {
        let url = format!("{issuer}/.well-known/openid-configuration");
        self.put(&url, json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")}));
        self.put(&format!("{issuer}/keys"), json!({"keys": keys}));
    }

    fn answer(&self, url: &str, line: String) -> Result<Bytes, FetchError> {
        self.asked.lock().unwrap().push(line);
        let documents = self.documents.lock().unwrap();
        documents.get(url).map(|document| Bytes::from(document.to_string())).ok_or_else(|| FetchError("404".to_owned()))
    }
}

impl Fetch for Web {
    fn get<'a>(&'a self, url: &'a str) -> Fetched<'a> {
        Box::pin(async move {
            if self.silent.load(std::sync::atomic::Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            self.answer(url, format!("GET {url}"))
        })
    }

    fn post_form<'a>(&'a self, url: &'a str, form: Bytes, authorization: Option<HeaderValue>) -> Fetched<'a> {
        let form = String::from_utf8(form.to_vec()).unwrap();
        let secret = authorization.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        Box::pin(async move { self.answer(url, format!("POST {url} {form} {secret}")) })
    }
}

pub fn config(yaml: &str) -> AuthConfig {
    let source = AuthSource::parse(yaml, "gnomon.yml").unwrap_or_else(|error| panic!("{yaml}\n{error}"));
    source.build("gnomon.yml", RESOURCE, &|_| Ok("s3cret".to_owned())).unwrap_or_else(|error| panic!("{yaml}\n{error}"))
}

/// An authenticator with this configuration, and the network that it uses.
pub fn door(yaml: &str) -> (Authenticator, Arc<Web>) {
    let web = Arc::new(Web::default());
    (Authenticator::new(config(yaml), web.clone()), web)
}

/// One that trusts [`ISSUER`], with these keys.
pub fn oidc_door(keys: &[Value]) -> (Authenticator, Arc<Web>) {
    let (door, web) = door(&format!("{{ mode: oidc, issuer: '{ISSUER}' }}"));
    web.provider(ISSUER, keys);
    (door, web)
}

pub fn peer() -> Peer {
    Peer::at("10.1.2.3:4444".parse().unwrap())
}

pub fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    headers
}

pub async fn enter(door: &Authenticator, token: &str) -> Result<Arc<Caller>, Challenge> {
    door.authenticate(&bearer(token), &peer()).await
}
