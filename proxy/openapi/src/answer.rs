//! An HTTP answer as a tool's result (MCP 2025-11-25, tools: results).

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_TYPE, ETAG, LAST_MODIFIED, LINK, LOCATION, RETRY_AFTER},
};
use serde_json::{Map, Value, json, value::RawValue};

/// Most bytes of an answer that is no text.
const MAX_BINARY: usize = 1 << 20;
/// The most characters of an error message.
const MAX_FAILURE: usize = 4 << 10;
/// The longest header that is passed on, bytes.
const MAX_HEADER: usize = 1024;
/// Headers that tell how to go on.
const TOLD: [HeaderName; 5] = [LINK, ETAG, LAST_MODIFIED, LOCATION, RETRY_AFTER];

/// The result, JSON. Credentials must have been taken out of headers and body before.
///
/// JSON is given as text, and objects as `structuredContent` as well; other texts as text; images and sound as such, and other bytes
/// as a resource, of at most 1 MiB. What is no success is a tool's error, as are redirections, which are not followed.
#[must_use]
pub fn result(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let meta = meta(status, headers);
    if !status.is_success() {
        return failure(status, headers, body, &meta);
    }
    if body.is_empty() {
        return written(&json!([{"type": "text", "text": format!("HTTP {}, without content", status.as_u16())}]), None, false, &meta);
    }
    let is_json = kind.is_empty() || kind.ends_with("json") || kind.ends_with("+json");
    let is_text = is_json || kind.starts_with("text/") || kind.ends_with("+xml") || TEXTS.contains(&&*kind);
    match std::str::from_utf8(body) {
        Ok(text) if is_text || text.len() <= MAX_BINARY && kind.is_empty() => {
            let json = serde_json::from_str::<&RawValue>(text).ok().filter(|json| is_json && json.get().starts_with('{'));
            written(&json!([{"type": "text", "text": text}]), json, false, &meta)
        }
        Err(_) if is_text => written(&json!([{"type": "text", "text": String::from_utf8_lossy(body)}]), None, false, &meta),
        _ if body.len() > MAX_BINARY => {
            let text = format!("The answer has {} bytes of {kind}; at most {MAX_BINARY} are passed on", body.len());
            written(&json!([{"type": "text", "text": text}]), None, true, &meta)
        }
        _ => written(&json!([bytes(&kind, body)]), None, false, &meta),
    }
}

/// Types that are text without being called so.
const TEXTS: [&str; 9] = [
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/javascript",
    "application/x-ndjson",
    "application/x-www-form-urlencoded",
    "application/graphql",
    "application/sql",
    "application/toml",
];

fn bytes(kind: &str, body: &[u8]) -> Value {
    let data = STANDARD.encode(body);
    match kind.split('/').next() {
        Some("image") => json!({"type": "image", "data": data, "mimeType": kind}),
        Some("audio") => json!({"type": "audio", "data": data, "mimeType": kind}),
        _ => json!({"type": "resource", "resource": {"uri": "answer:body", "mimeType": kind, "blob": data}}),
    }
}

fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8], meta: &Value) -> Vec<u8> {
    let mut text = format!("HTTP {}", status.as_u16());
    if let Some(reason) = status.canonical_reason() {
        text.push_str(&format!(" {reason}"));
    }
    if status.is_redirection() {
        let place = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let place: String = place.chars().take(200).collect();
        text.push_str(&format!(": it leads to `{place}`, which is not followed"));
    }
    let said = String::from_utf8_lossy(&body[..body.len().min(4 * MAX_FAILURE)]);
    let said = said.trim();
    if !said.is_empty() {
        text.push_str(": ");
        text.extend(said.chars().take(MAX_FAILURE));
        if said.chars().count() > MAX_FAILURE {
            text.push('…');
        }
    }
    written(&json!([{"type": "text", "text": text}]), None, true, meta)
}

fn meta(status: StatusCode, headers: &HeaderMap) -> Value {
    let told = TOLD.iter().filter_map(|name| {
        let value = headers.get(name)?.to_str().ok().filter(|value| value.len() <= MAX_HEADER)?;
        Some((name.as_str().to_owned(), value.into()))
    });
    json!({"dev.gnomon/http": {"status": status.as_u16(), "headers": told.collect::<Map<_, _>>()}})
}

fn written(content: &Value, structured: Option<&RawValue>, is_error: bool, meta: &Value) -> Vec<u8> {
    let mut text = format!("{{\"content\":{content}");
    if let Some(structured) = structured {
        text.push_str(",\"structuredContent\":");
        text.push_str(structured.get());
    }
    if is_error {
        text.push_str(",\"isError\":true");
    }
    text.push_str(&format!(",\"resultType\":\"complete\",\"_meta\":{meta}}}"));
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(status: u16, kind: &str, body: &[u8]) -> Value {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
        headers.insert(LOCATION, HeaderValue::from_static("https://evil.example/"));
        serde_json::from_slice(&result(StatusCode::from_u16(status).unwrap(), &headers, body)).unwrap()
    }

    #[test]
    fn answers_become_what_they_are() {
        let object = of(200, "application/vnd.x+json; charset=utf-8", b"{\"a\": 1.0}");
        assert_eq!(object["content"][0]["text"], "{\"a\": 1.0}");
        let raw = result(StatusCode::OK, &HeaderMap::new(), b"{\"a\": 1e400}");
        assert!(String::from_utf8(raw).unwrap().contains("\"structuredContent\":{\"a\": 1e400}"));
        let list = of(200, "application/json", b"[1, 2]");
        assert_eq!((list["content"][0]["text"].as_str(), list.get("structuredContent")), (Some("[1, 2]"), None));
        assert_eq!(of(200, "application/json", b"{broken")["content"][0]["text"], "{broken");
        assert_eq!(of(200, "text/csv", b"a,b\xff")["content"][0]["text"], "a,b\u{fffd}");
        assert_eq!(of(200, "image/png", b"\x89PNG")["content"][0]["type"], "image");
        assert_eq!(of(200, "application/zip", b"PK\xff")["content"][0]["resource"]["blob"], "UEv/");
        assert_eq!(of(200, "application/zip", &vec![0xff; MAX_BINARY + 1])["isError"], true);
        assert_eq!(of(204, "", b"")["content"][0]["text"], "HTTP 204, without content");
    }

    #[test]
    fn what_is_no_success_is_an_error_of_bounded_length_and_leads_nowhere() {
        let missing = of(404, "application/json", b"{\"message\": \"Not Found\"}");
        assert_eq!(
            (missing["isError"].as_bool(), &missing["content"][0]["text"]),
            (Some(true), &json!("HTTP 404 Not Found: {\"message\": \"Not Found\"}"))
        );
        assert!(of(500, "text/html", &vec![b'x'; 1 << 20])["content"][0]["text"].as_str().unwrap().len() < 5000);
        let moved = of(302, "text/html", b"");
        assert!(moved["isError"] == true && moved["content"][0]["text"].as_str().unwrap().contains("not followed"), "{moved}");
    }
}
