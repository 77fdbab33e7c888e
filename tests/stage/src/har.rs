//! A client's recording of its traffic, in the format of browsers (HAR 1.2).

use super::{HOST, client::Answer};
use http::HeaderMap;
use serde_json::{Value, json};
use std::path::Path;

/// A recording.
#[derive(Default)]
pub struct Har(Vec<Value>);

impl Har {
    /// Adds an exchange with [`HOST`] over HTTP/1.1.
    pub fn add(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>, answer: &Answer) {
        let seconds = self.0.len();
        let sent: Vec<Value> = [("host", HOST)].iter().chain(headers).map(|(name, value)| json!({"name": name, "value": value})).collect();
        let mut request = json!({"method": method, "url": format!("https://{HOST}{path}"), "httpVersion": "HTTP/1.1", "headers": sent,
            "cookies": [], "queryString": [], "headersSize": -1, "bodySize": body.map_or(0, str::len)});
        if let Some(text) = body {
            request["postData"] = json!({"mimeType": "application/json", "text": text});
        }
        let kind = answer.header("content-type").unwrap_or_default();
        self.0.push(json!({
            "startedDateTime": format!("2026-11-20T09:00:{:02}.000Z", seconds % 60), "time": 3, "cache": {},
            "timings": {"send": 1, "wait": 1, "receive": 1}, "request": request,
            "response": {"status": answer.status, "statusText": "", "httpVersion": "HTTP/1.1", "headers": named(&answer.headers),
                "cookies": [], "redirectURL": "", "headersSize": -1, "bodySize": answer.body.len(),
                "content": {"size": answer.body.len(), "mimeType": kind, "text": answer.text()}},
        }));
    }

    pub fn write(&self, path: &Path) {
        let har = json!({"log": {"version": "1.2", "creator": {"name": "e2e", "version": "1"}, "entries": self.0}});
        std::fs::write(path, har.to_string()).unwrap();
    }
}

fn named(headers: &HeaderMap) -> Vec<Value> {
    headers.iter().map(|(name, value)| json!({"name": name.as_str(), "value": value.to_str().unwrap()})).collect()
}
