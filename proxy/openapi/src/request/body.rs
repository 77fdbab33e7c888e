//! Bodies: which of the types that an operation takes is sent, and how an argument becomes one.

use super::{
    Unfit,
    media::{Rank, rank},
    multipart,
    parameter::Style,
    style,
};
use crate::document::{Document, Unresolved};
use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value};

/// Largest body, bytes.
const MAX_BODY: usize = 8 << 20;
/// Longest type of a part that a document names, bytes.
const MAX_KIND: usize = 255;

/// A body.
#[derive(Clone, Debug)]
pub struct Body {
    /// The argument that it is made of.
    pub key: Box<str>,
    pub required: bool,
    pub kind: HeaderValue,
    pub form: Form,
}

/// The encoding of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    /// Pairs; how those members are written that the document says something of.
    Pairs(Vec<(Box<str>, Style, bool)>),
    /// Parts: which members are files, and of which type members are that the document names one for.
    Parts {
        files: Vec<Box<str>>,
        kinds: Vec<(Box<str>, Box<str>)>,
    },
    Text,
    /// Base64.
    Bytes,
}

/// A body with its schema and description in the document.
pub struct Described<'d> {
    pub body: Body,
    /// The schema; none for any text or bytes.
    pub schema: Option<&'d Value>,
    pub description: Option<&'d str>,
}

/// An error in the description of a body.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBody {
    #[error("{0}")]
    Unresolved(#[from] Unresolved),
    #[error("its body is one of {0}, which cannot be made of arguments")]
    Unknown(String),
}

/// The body of an operation, if it has one.
pub fn read<'d>(document: &'d Document, value: &'d Value) -> Result<Option<Described<'d>>, InvalidBody> {
    let value = document.follow(value)?;
    let Some(content) = value.get("content").and_then(Value::as_object).filter(|content| !content.is_empty()) else { return Ok(None) };
    // The one that says most of what is wanted.
    let best = content.iter().filter_map(|(kind, media)| Some((rank(kind)?, kind, media))).min_by_key(|(rank, ..)| *rank);
    let Some((rank, kind, media)) = best else {
        let kinds: Vec<String> = content.keys().take(4).map(|kind| kind.chars().filter(|c| !c.is_control()).take(60).collect()).collect();
        return Err(InvalidBody::Unknown(kinds.join(", ")));
    };
    let schema = media.get("schema");
    let form = match rank {
        Rank::Json | Rank::JsonLike => Form::Json,
        Rank::Pairs => Form::Pairs(styles(media)),
        Rank::Parts => Form::Parts { files: files(document, schema)?, kinds: kinds(media) },
        Rank::Text => Form::Text,
        Rank::Bytes => Form::Bytes,
    };
    let named = match rank {
        // A wildcard type: any text, any bytes.
        Rank::Text if kind.contains('*') => "text/plain",
        Rank::Json if kind.contains('*') => "application/json",
        Rank::Bytes if kind.contains('*') => "application/octet-stream",
        _ => kind,
    };
    let Ok(header) = HeaderValue::from_str(named) else { return Err(InvalidBody::Unknown("an invalid media type".to_owned())) };
    let required = value.get("required") == Some(&Value::Bool(true));
    Ok(Some(Described {
        body: Body { key: "body".into(), required, kind: header, form },
        schema: schema.filter(|_| !matches!(rank, Rank::Text | Rank::Bytes)),
        description: value.get("description").and_then(Value::as_str),
    }))
}

/// The styles of form members that are lists or objects.
fn styles(media: &Value) -> Vec<(Box<str>, Style, bool)> {
    let mut styles = Vec::new();
    for (name, encoding) in media.get("encoding").and_then(Value::as_object).into_iter().flatten().take(1024) {
        let style = match encoding.get("style").and_then(Value::as_str) {
            Some("deepObject") => Style::Deep,
            Some("spaceDelimited") => Style::Space,
            Some("pipeDelimited") => Style::Pipe,
            Some(_) => Style::Form,
            None => continue,
        };
        let explode = encoding.get("explode").and_then(Value::as_bool).unwrap_or(style == Style::Form);
        styles.push((name.as_str().into(), style, explode));
    }
    styles
}

/// The types of parts: of those members for which the document names one. A wildcard or a list leaves the choice to the argument.
fn kinds(media: &Value) -> Vec<(Box<str>, Box<str>)> {
    let encodings = media.get("encoding").and_then(Value::as_object).into_iter().flatten().take(1024);
    encodings
        .filter_map(|(name, encoding)| {
            let kind = encoding.get("contentType")?.as_str()?.trim();
            let is_one = kind.len() <= MAX_KIND && multipart::is_media_type(kind) && !kind.contains(['*', ',']);
            is_one.then(|| (name.as_str().into(), kind.into()))
        })
        .collect()
}

/// The members that are files: texts of bytes (3.0), or of no type but a media type (3.1).
fn files(document: &Document, schema: Option<&Value>) -> Result<Vec<Box<str>>, Unresolved> {
    let Some(schema) = schema else { return Ok(Vec::new()) };
    let properties = document.follow(schema)?.get("properties").and_then(Value::as_object);
    let mut files = Vec::new();
    for (name, property) in properties.into_iter().flatten().take(1024) {
        let mut property = document.follow(property)?;
        if let Some(items) = property.get("items") {
            property = document.follow(items)?;
        }
        let is_binary = property.get("format").is_some_and(|format| format == "binary");
        if is_binary || property.get("contentMediaType").is_some() {
            files.push(name.as_str().into());
        }
    }
    Ok(files)
}

impl Body {
    /// The argument as a body, with its type.
    pub fn written(&self, value: &Value) -> Result<(HeaderValue, Bytes), Unfit> {
        let wrong = |why| Unfit::wrong(&self.key, why);
        let (kind, bytes) = match &self.form {
            Form::Json => (self.kind.clone(), Bytes::from(value.to_string())),
            Form::Pairs(styles) => (self.kind.clone(), pairs(members(value).map_err(wrong)?, styles).map_err(wrong)?),
            Form::Parts { files, kinds } => {
                multipart::written(members(value).map_err(wrong)?, files, kinds).map_err(|flaw| match &flaw.member {
                    Some(member) => Unfit::wrong(&format!("{}/{member}", self.key), flaw.why),
                    None => wrong(flaw.why),
                })?
            }
            Form::Text => (self.kind.clone(), Bytes::from(style::scalar(value))),
            Form::Bytes => (self.kind.clone(), Bytes::from(multipart::decoded(value.as_str().unwrap_or_default()).map_err(wrong)?)),
        };
        if bytes.len() > MAX_BODY { Err(wrong("makes a body of more than 8 MiB")) } else { Ok((kind, bytes)) }
    }
}

fn members(value: &Value) -> Result<&Map<String, Value>, &'static str> {
    value.as_object().ok_or("is not an object")
}

fn pairs(members: &Map<String, Value>, styles: &[(Box<str>, Style, bool)]) -> Result<Bytes, &'static str> {
    let mut pairs = Vec::new();
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let said = styles.iter().find(|(known, ..)| **known == **name).map(|(_, style, explode)| (*style, *explode));
        // The default: lists are repeated, objects are JSON (3.1.1, 4.8.15).
        let (style, explode) = said.unwrap_or((if value.is_object() { Style::Json } else { Style::Form }, true));
        if crate::forbidden::query(name) {
            return Err("has a member that would change what the request does");
        }
        style::written(&mut pairs, (name, style, explode), value)?;
    }
    Ok(pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&").into())
}
