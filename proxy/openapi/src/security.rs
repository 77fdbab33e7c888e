//! Credentials, as the document says where they stand.

use crate::{document::Document, encode::encoded, forbidden};
use http::HeaderName;
use serde_json::Value;
use smol_str::SmolStr;

/// Most schemes of a document, alternatives of an operation, and schemes of an alternative.
const MAX: usize = 32;

/// The placement of a credential in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In this header, unencoded.
    Header(HeaderName),
    /// In the query under this name, which is encoded.
    Query(String),
    /// In a cookie of this name, which is encoded.
    Cookie(String),
    /// In `Authorization: Bearer`: tokens of OAuth 2 and OpenID Connect too, which are fetched elsewhere.
    Bearer,
    /// In `Authorization: Basic`, from `user:password`.
    Basic,
    /// Not a secret that can be put into a request (client certificates, digests).
    Unsupported(SmolStr),
}

/// A way to prove who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// The document's name for it.
    pub name: SmolStr,
    /// The placement of its credential.
    pub placement: Placement,
}

/// The schemes of a document.
pub fn schemes(document: &Document) -> Vec<Scheme> {
    let known = document.object("/components/securitySchemes").into_iter().flatten().take(MAX);
    known
        .map(|(name, scheme)| {
            let placement = document.follow(scheme).map_or_else(|error| Placement::Unsupported(error.to_string().into()), placement);
            Scheme { name: SmolStr::new(name), placement }
        })
        .collect()
}

fn placement(scheme: &Value) -> Placement {
    let text = |key: &str| scheme.get(key).and_then(Value::as_str).unwrap_or_default();
    let unsupported = |why: &str| Placement::Unsupported(why.into());
    match (text("type"), text("in"), text("name")) {
        ("apiKey", "header", name) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(header) if !forbidden::credential_header(name) => Placement::Header(header),
            _ => unsupported("a header that cannot carry a credential"),
        },
        ("apiKey", "query", name) if !name.is_empty() => Placement::Query(encoded(name)),
        ("apiKey", "cookie", name) if !name.is_empty() => Placement::Cookie(encoded(name)),
        ("http", ..) => match &*text("scheme").to_ascii_lowercase() {
            "bearer" => Placement::Bearer,
            "basic" => Placement::Basic,
            _ => unsupported("an HTTP scheme other than Bearer and Basic"),
        },
        ("oauth2" | "openIdConnect", ..) => Placement::Bearer,
        ("mutualTLS", ..) => unsupported("a client certificate"),
        _ => unsupported("a kind of scheme that is not known here"),
    }
}

/// The security requirements of an operation: alternatives, each the names of schemes that are needed together. Empty where it needs
/// none.
pub fn needs(document: &Document, operation: &Value) -> Vec<Vec<SmolStr>> {
    let list = operation.get("security").or_else(|| document.root().get("security")).and_then(Value::as_array);
    let names = |alternative: &Value| alternative.as_object().map(|one| one.keys().take(MAX).map(SmolStr::new).collect::<Vec<_>>());
    let alternatives: Vec<Vec<SmolStr>> = list.into_iter().flatten().take(MAX).filter_map(names).collect();
    // An empty one says that none is needed, which does not keep the others from being used.
    alternatives.into_iter().filter(|names| !names.is_empty()).collect()
}
