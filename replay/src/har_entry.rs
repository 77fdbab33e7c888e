//! One entry of a HAR as it is written: members may be missing or null, and unknown ones are skipped.

use serde::Deserialize;

/// One exchange.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    pub started_date_time: Option<String>,
    /// Milliseconds.
    pub time: Option<f64>,
    pub request: Option<Request>,
    pub response: Option<Response>,
    #[serde(rename = "serverIPAddress")]
    pub server_ip_address: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    pub method: Option<String>,
    pub url: Option<String>,
    pub http_version: Option<String>,
    pub headers: Option<Vec<Header>>,
    pub post_data: Option<Body>,
    /// -1 where unknown.
    pub body_size: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Response {
    /// 0 where no answer came.
    pub status: Option<f64>,
    pub headers: Option<Vec<Header>>,
    pub content: Option<Body>,
}

/// `postData` or `content`. The text is decoded of content codings already.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Body {
    pub text: Option<String>,
    /// `base64`, or nothing.
    pub encoding: Option<String>,
    /// Bytes, where known.
    pub size: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Header {
    pub name: Option<String>,
    pub value: Option<String>,
}
