//! Bodies of several parts (RFC 7578).

use super::{media::is_json, style::scalar};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use serde_json::{Map, Value};

/// Most parts.
const MAX_PARTS: usize = 256;

struct Part {
    name: String,
    kind: String,
    /// The file name, of a file.
    file: Option<String>,
    content: Vec<u8>,
}

/// An error of encoding a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The member that it is about.
    pub member: Option<String>,
    pub why: &'static str,
}

/// The error text for a value that is not a file.
const HOW: &str = "is a file: give its bytes in Base64, as btoa(text) or bytes.toBase64() make them, or {content, filename, contentType} with `content` in Base64";

/// The type, with its boundary, and the body. `files` are the members that are files, given in Base64, and `kinds` the types that the
/// document says that members are of.
pub fn written(members: &Map<String, Value>, files: &[Box<str>], kinds: &[(Box<str>, Box<str>)]) -> Result<(HeaderValue, Bytes), Flaw> {
    let of_all = |why| Flaw { member: None, why };
    let mut parts = Vec::new();
    for (name, value) in members {
        let is_file = files.iter().any(|file| **file == **name);
        let kind = kinds.iter().find(|(known, _)| **known == **name).map(|(_, kind)| &**kind);
        match value {
            Value::Null => {}
            Value::Array(items) if is_file || !items.iter().any(|item| item.is_object() || item.is_array()) => {
                for item in items {
                    parts.push(part(name, item, is_file, kind).map_err(|why| Flaw { member: Some(name.clone()), why })?);
                }
            }
            one => parts.push(part(name, one, is_file, kind).map_err(|why| Flaw { member: Some(name.clone()), why })?),
        }
        if parts.len() > MAX_PARTS {
            return Err(of_all("has more than 256 parts"));
        }
    }
    let boundary = boundary(&parts);
    let mut body = BytesMut::new();
    for part in &parts {
        let name = quoted(&part.name);
        let file = part.file.as_ref().map(|file| format!("; filename=\"{}\"", quoted(file))).unwrap_or_default();
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\nContent-Type: {}\r\n\r\n", part.kind);
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&part.content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let kind = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}")).map_err(|_| of_all("cannot be sent"))?;
    Ok((kind, body.freeze()))
}

fn part(name: &str, value: &Value, is_file: bool, kind: Option<&str>) -> Result<Part, &'static str> {
    if is_file {
        return file(name, value, kind);
    }
    let json = kind.filter(|kind| is_json(kind));
    let (kind, content) = match (value, json) {
        // What is not one value is JSON, whatever else the document calls it.
        (Value::Object(_) | Value::Array(_), json) => (json.unwrap_or("application/json"), value.to_string().into_bytes()),
        (one, Some(json)) => (json, one.to_string().into_bytes()),
        (one, None) => (kind.unwrap_or("text/plain; charset=utf-8"), scalar(one).into_bytes()),
    };
    Ok(Part { name: name.to_owned(), kind: kind.to_owned(), file: None, content })
}

/// A file: its bytes, or an object of these, its name and its type. Many services go by the ending of the name. Without a type of its
/// own it is of the one that the document names.
fn file(name: &str, value: &Value, kind: Option<&str>) -> Result<Part, &'static str> {
    let told = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let given = match value {
        Value::String(text) => text.as_str(),
        Value::Object(_) => told("content").ok_or(HOW)?,
        _ => return Err(HOW),
    };
    // `data:image/png;base64,…` (RFC 2397)
    let (said, base64) = match given.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((kind, base64)) => (Some(kind).filter(|kind| !kind.is_empty()), base64),
        None => (None, given),
    };
    let kind = told("contentType").or(said).or(kind).unwrap_or("application/octet-stream");
    if !is_media_type(kind) {
        return Err("has a `contentType` that is not a media type");
    }
    let content = decoded(base64).map_err(|_| HOW)?;
    let called = told("filename").unwrap_or(name).to_owned();
    Ok(Part { name: name.to_owned(), kind: kind.to_owned(), file: Some(called), content })
}

/// Whether a text can stand as a part's type.
pub fn is_media_type(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && text.contains('/')
}

/// Bytes that arguments give as text.
pub fn decoded(text: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(text.trim()).map_err(|_| "is not Base64: btoa(text) and bytes.toBase64() make it")
}

/// A boundary that occurs in no part.
fn boundary(parts: &[Part]) -> String {
    let mut number = 0_u64;
    loop {
        let boundary = format!("gnomon-{number:016x}");
        if parts.iter().all(|part| memchr::memmem::find(&part.content, boundary.as_bytes()).is_none() && !part.name.contains(&boundary)) {
            return boundary;
        }
        number += 1;
    }
}

/// A name between quotes, as browsers write it (HTML, multipart/form-data encoding algorithm).
fn quoted(name: &str) -> String {
    name.chars()
        .flat_map(|c| match c {
            '"' => "%22".chars().collect::<Vec<_>>(),
            c if c.is_control() => format!("%{:02X}", u32::from(c)).chars().collect(),
            c => vec![c],
        })
        .collect()
}
