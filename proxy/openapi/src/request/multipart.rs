//! Bodies of several parts (RFC 7578).

use super::style::scalar;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use serde_json::{Map, Value};

/// Most parts.
const MAX_PARTS: usize = 256;

struct Part {
    name: String,
    kind: &'static str,
    is_file: bool,
    content: Vec<u8>,
}

/// The type, with its boundary, and the body. `files` are the members that are files, given in Base64.
pub fn written(members: &Map<String, Value>, files: &[Box<str>]) -> Result<(HeaderValue, Bytes), &'static str> {
    let mut parts = Vec::new();
    for (name, value) in members {
        let is_file = files.iter().any(|file| **file == **name);
        match value {
            Value::Null => {}
            Value::Array(items) if is_file || !items.iter().any(|item| item.is_object() || item.is_array()) => {
                for item in items {
                    parts.push(part(name, item, is_file)?);
                }
            }
            one => parts.push(part(name, one, is_file)?),
        }
        if parts.len() > MAX_PARTS {
            return Err("has more than 256 parts");
        }
    }
    let boundary = boundary(&parts);
    let mut body = BytesMut::new();
    for part in &parts {
        let name = quoted(&part.name);
        let file = if part.is_file { format!("; filename=\"{name}\"") } else { String::new() };
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\nContent-Type: {}\r\n\r\n", part.kind);
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&part.content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let kind = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}")).map_err(|_| "cannot be sent")?;
    Ok((kind, body.freeze()))
}

fn part(name: &str, value: &Value, is_file: bool) -> Result<Part, &'static str> {
    let (kind, content) = match value {
        Value::String(text) if is_file => ("application/octet-stream", decoded(text)?),
        _ if is_file => return Err("holds a file that is not Base64"),
        Value::Object(_) | Value::Array(_) => ("application/json", value.to_string().into_bytes()),
        one => ("text/plain; charset=utf-8", scalar(one).into_bytes()),
    };
    Ok(Part { name: name.to_owned(), kind, is_file, content })
}

/// Bytes that arguments give as text.
pub fn decoded(text: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(text.trim()).map_err(|_| "is not Base64")
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
