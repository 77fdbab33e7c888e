//! Servers that are HTTP APIs: their document, where requests go, and what is offered of it.

use crate::{
    Check, SecretRef,
    declare::{Form, Show, mapping},
    forms::{NeededPath, Sha256, written},
    key::Shape,
};
use gnomon_confine::Digest;
use gnomon_openapi::Base;
use serde_json::{Map, Value, json};
use serde_saphyr::Spanned;
use std::{collections::BTreeMap, path::PathBuf};

/// Most patterns of a list, and most credentials.
const MOST: usize = 256;
/// Longest pattern, bytes.
const LONGEST: usize = 256;

mapping! {
    /// An HTTP API.
    pub struct OpenApi, written OpenApiSource at "servers[].openapi.", with (check) {
        /// An HTTP API in place of an MCP server: its OpenAPI document (3.0 to 3.2, JSON or YAML, at most 40 MiB), relative to
        /// this file. Each operation is a tool for Code Mode. See [openapi.md](../openapi.md).
        file: PathBuf as NeededPath, without "none", needed: true, sample "openapi/shop.json";
        /// The SHA-256 that the document must have, verified when gnomon starts.
        sha256: Option<Digest> as Sha256, without "nothing, with a warning", sample "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        /// The base URL of requests; credentials are sent nowhere else. Operations whose own servers do not name it are not offered.
        base: Option<String> as BaseUrl, without "the document's first https:// server", sample "'https://api.example/v1'";
        /// Operations that are tools on every list as well: patterns of names (`*` is anything), or of `METHOD /path` (`*`
        /// stops at `/`, `**` does not).
        allow: Vec<String> as Patterns, without "none", sample "[getItem, 'GET /items/**']";
        /// Operations that may be called although they are not GET, HEAD or OPTIONS: patterns as above. Others are on no list,
        /// and refused with the reason.
        writes: Vec<String> as Patterns, without "none", sample "[createItem, 'POST /items/*/notes']";
        /// Secrets by the document's names for its security schemes: they are sent where the scheme says, with the operations
        /// that ask for it. For Basic it is `user:password`. Secrets are named as in `auth`, which is sent with every
        /// operation.
        credentials: Vec<(String, SecretRef)> as Secrets, without "none", sample "{apiKey: 'file:/etc/gnomon/shop-key', login: 'env:SHOP_USER_AND_PASSWORD'}";
    }
}

written! {
    /// The base URL of an API.
    BaseUrl: Option<Spanned<String>>, Shape::Text;
    /// Patterns of operations.
    Patterns: Vec<Spanned<String>>, Shape::Texts;
    /// References to secrets, by name.
    Secrets: BTreeMap<String, Spanned<String>>, Shape::Variables;
}

impl Form<Option<String>> for BaseUrl {
    fn read(source: Self::Source, default: Option<String>, check: &mut Check<'_>) -> Option<Option<String>> {
        let Some(text) = source else { return Some(default) };
        match Base::parse(&text.value) {
            Ok(_) => Some(Some(text.value)),
            // It is not repeated: it may hold a secret.
            Err(error) => check.refused(text.referenced, format!("`base` cannot be used: {error}")),
        }
    }
}

impl Show<Option<String>> for BaseUrl {
    fn show(value: &Option<String>) -> Value {
        value.as_deref().into()
    }
}

impl Form<Vec<String>> for Patterns {
    fn read(source: Self::Source, _: Vec<String>, check: &mut Check<'_>) -> Option<Vec<String>> {
        if let Some(text) = source.iter().find(|text| text.value.is_empty() || text.value.len() > LONGEST) {
            return check
                .refused(text.referenced, format!("a pattern has 1 to {LONGEST} bytes: a tool's name, or `METHOD /path`, with `*`"));
        }
        if let Some(text) = source.get(MOST) {
            return check.refused(text.referenced, format!("there are more than {MOST} patterns; put some together with `*`"));
        }
        Some(source.into_iter().map(|text| text.value).collect())
    }
}

impl Show<Vec<String>> for Patterns {
    fn show(value: &Vec<String>) -> Value {
        json!(value)
    }
}

impl Form<Vec<(String, SecretRef)>> for Secrets {
    fn read(source: Self::Source, _: Vec<(String, SecretRef)>, check: &mut Check<'_>) -> Option<Vec<(String, SecretRef)>> {
        if let Some(text) = source.values().nth(MOST) {
            return check.refused(text.referenced, format!("there are more than {MOST} credentials; remove some"));
        }
        let mut secrets = Vec::with_capacity(source.len());
        for (name, text) in source {
            match check.secret(&text.value) {
                Ok(secret) => secrets.push((name, secret)),
                Err(cause) => return check.refused(text.referenced, cause.to_string()),
            }
        }
        Some(secrets)
    }
}

impl Show<Vec<(String, SecretRef)>> for Secrets {
    fn show(value: &Vec<(String, SecretRef)>) -> Value {
        value.iter().map(|(name, secret)| (name.clone(), secret.to_string().into())).collect::<Map<_, _>>().into()
    }
}
