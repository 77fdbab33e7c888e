//! Types of bodies and of their parts, as far as they differ in how they are written.

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Json,
    JsonLike,
    Pairs,
    Parts,
    Text,
    Bytes,
}

pub fn rank(kind: &str) -> Option<Rank> {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Some(match &*kind {
        "application/json" | "*/*" | "application/*" => Rank::Json,
        "application/x-www-form-urlencoded" => Rank::Pairs,
        "multipart/form-data" => Rank::Parts,
        "application/xml"
        | "application/yaml"
        | "application/x-yaml"
        | "application/x-ndjson"
        | "application/graphql"
        | "application/javascript"
        | "application/sql"
        | "application/toml" => Rank::Text,
        json if json.ends_with("+json") || json == "text/json" => Rank::JsonLike,
        text if text.starts_with("text/") || text.ends_with("+xml") || text.ends_with("+yaml") => Rank::Text,
        // Other kinds of parts need more than arguments say.
        parts if parts.starts_with("multipart/") => return None,
        bytes if ["application/", "image/", "audio/", "video/", "font/"].iter().any(|start| bytes.starts_with(start)) => Rank::Bytes,
        _ => return None,
    })
}

/// Whether a body or part of this type is JSON.
pub fn is_json(kind: &str) -> bool {
    matches!(rank(kind), Some(Rank::Json | Rank::JsonLike))
}
