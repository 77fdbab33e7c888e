//! Servers that are HTTP APIs: their document, where requests go, and what is offered of it.

use crate::{
    Check, NamedSecret, SecretRef,
    declare::mapping,
    forms::{NeededPath, OwnText, Texts, Variables},
};
use gnomon_confine::Digest;
use gnomon_openapi::Base;
use serde_json::{Value, json};
use serde_saphyr::{Location, Spanned};
use std::path::PathBuf;

/// Most patterns of a list, and most credentials.
const MOST: usize = 256;
/// Longest pattern, bytes.
const LONGEST: usize = 256;

mapping! {
    struct OpenApiSource at "servers[].openapi." {
        /// An HTTP API in place of an MCP server: its OpenAPI document (3.0 to 3.2, JSON or YAML, at most 40 MiB), relative to
        /// this file. Each operation is a tool for Code Mode. See [openapi.md](../openapi.md).
        file as NeededPath, without "none", needed: true, sample "openapi/shop.json";
        /// The SHA-256 that the document must have, verified when gnomon starts.
        sha256 as OwnText, without "nothing, with a warning", sample "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        /// The base URL of requests; credentials are sent nowhere else. Operations whose own servers do not name it are not offered.
        base as OwnText, without "the document's first https:// server", sample "'https://api.example/v1'";
        /// Operations that are tools on every list as well: patterns of names (`*` is anything), or of `METHOD /path` (`*`
        /// stops at `/`, `**` does not).
        allow as Texts, without "none", sample "[getItem, 'GET /items/**']";
        /// Operations that may be called although they are not GET, HEAD or OPTIONS: patterns as above. Others are on no list,
        /// and refused with the reason.
        writes as Texts, without "none", sample "[createItem, 'POST /items/*/notes']";
        /// Secrets by the document's names for its security schemes: they are sent where the scheme says, with the operations
        /// that ask for it. For Basic it is `user:password`. Secrets are named as in `auth`, which is sent with every
        /// operation.
        credentials as Variables, without "none", sample "{apiKey: 'file:/etc/gnomon/shop-key', login: 'env:SHOP_USER_AND_PASSWORD'}";
    }
}

/// An API.
#[derive(Clone, Debug)]
pub struct OpenApi {
    /// The document.
    pub file: PathBuf,
    /// The digest that it must have.
    pub sha256: Option<Digest>,
    /// The base URL of requests, in place of the document's first server.
    pub base: Option<String>,
    /// Patterns of operations that are tools on lists.
    pub allow: Vec<String>,
    /// Patterns of operations that may be called although they write.
    pub writes: Vec<String>,
    /// Secrets by the document's names for the schemes that they are for.
    pub credentials: Vec<(String, SecretRef)>,
}

impl OpenApi {
    pub(crate) fn to_json(&self, bearer: Option<&SecretRef>, headers: &[NamedSecret]) -> Value {
        let credentials = self.credentials.iter().map(|(name, secret)| (name.clone(), secret.to_string().into()));
        json!({
            "openapi": {
                "file": self.file.display().to_string(),
                "sha256": self.sha256.map(|digest| digest.to_string()),
                "base": self.base,
                "allow": self.allow,
                "writes": self.writes,
                "credentials": credentials.collect::<serde_json::Map<_, _>>(),
            },
            "auth": {
                "bearer": bearer.map(ToString::to_string),
                "headers": headers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            },
        })
    }
}

impl Check<'_> {
    /// The API of a server; `place` is where errors about the whole of it belong.
    pub(crate) fn openapi(&mut self, place: Location, api: OpenApiSource) -> Option<OpenApi> {
        let sha256 = match api.sha256 {
            None => None,
            Some(text) => Some(self.parsed::<Digest>(&text, "a SHA-256 of 64 hexadecimal digits; `sha256sum FILE` says it")?),
        };
        let base = match api.base {
            None => None,
            Some(text) => match Base::parse(&text.value) {
                Ok(_) => Some(text.value),
                // It is not repeated: it may hold a secret.
                Err(error) => return self.refused(text.referenced, format!("`base` cannot be used: {error}")),
            },
        };
        let (allow, writes) = (self.patterns(api.allow)?, self.patterns(api.writes)?);
        if api.credentials.len() > MOST {
            return self.refused(place, format!("there are more than {MOST} credentials; remove some"));
        }
        let mut credentials = Vec::with_capacity(api.credentials.len());
        for (name, text) in api.credentials {
            match self.secret(&text.value) {
                Ok(secret) => credentials.push((name, secret)),
                Err(cause) => return self.refused(text.referenced, cause.to_string()),
            }
        }
        Some(OpenApi { file: self.dir.join(api.file), sha256, base, allow, writes, credentials })
    }

    fn patterns(&mut self, texts: Vec<Spanned<String>>) -> Option<Vec<String>> {
        if let Some(text) = texts.iter().find(|text| text.value.is_empty() || text.value.len() > LONGEST) {
            return self
                .refused(text.referenced, format!("a pattern has 1 to {LONGEST} bytes: a tool's name, or `METHOD /path`, with `*`"));
        }
        if let Some(text) = texts.get(MOST) {
            return self.refused(text.referenced, format!("there are more than {MOST} patterns; put some together with `*`"));
        }
        Some(texts.into_iter().map(|text| text.value).collect())
    }
}
