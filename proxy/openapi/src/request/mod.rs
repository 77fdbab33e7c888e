//! A call's arguments as an HTTP request.
//!
//! An attacker controls every argument. Each is encoded for the place where it stands, so that it stays there: no argument
//! can end its path segment, begin another query parameter or header, or name another host. Where servers are known to undo the
//! encoding before they look (`..%2f`), the argument is refused.

pub(crate) mod body;
mod media;
mod multipart;
pub(crate) mod parameter;
mod segment;
mod style;
pub(crate) mod template;
mod unfit;

pub use unfit::Unfit;

use body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header::ACCEPT, header::CONTENT_TYPE};
use parameter::{Parameter, ParameterLocation};
use serde_json::{Map, Value};
use template::Template;
use unfit::MAX_TARGET;

/// A request without its server and credentials.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its method.
    pub method: Method,
    /// The path, encoded, to be put behind the server's own. Begins with `/`.
    pub path: String,
    /// Names and values of the query, encoded.
    pub query: Vec<(String, String)>,
    /// Headers that the arguments make, `Accept` and `Content-Type`; none of those that belong to the connection or the credentials.
    pub headers: HeaderMap,
    /// Pairs for `Cookie`, encoded.
    pub cookies: Vec<String>,
    /// The body.
    pub body: Bytes,
}

impl Draft {
    /// Path and query.
    #[must_use]
    pub fn target(&self) -> String {
        let mut target = self.path.clone();
        for (at, (name, value)) in self.query.iter().enumerate() {
            target.push(if at == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            target.push_str(value);
        }
        target
    }
}

/// The template of an operation's requests, which arguments fill in.
#[derive(Clone, Debug)]
pub(crate) struct RequestForm {
    pub(crate) template: Template,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<Body>,
    pub(crate) accept: HeaderValue,
}

impl RequestForm {
    /// The request that a call with these arguments becomes.
    pub(crate) fn filled(&self, method: Method, arguments: &Map<String, Value>) -> Result<Draft, Unfit> {
        let path = self.template.filled(&self.parameters, arguments)?;
        let mut headers = HeaderMap::new();
        let mut cookies = Vec::new();
        let mut query = Vec::new();
        headers.insert(ACCEPT, self.accept.clone());
        for parameter in &self.parameters {
            let Some(value) = arguments.get(&*parameter.key).filter(|value| !value.is_null()) else {
                if parameter.required && parameter.place != ParameterLocation::Path {
                    return Err(Unfit::Missing(parameter.key.to_string()));
                }
                continue;
            };
            match parameter.place {
                ParameterLocation::Path => {}
                ParameterLocation::Query => style::query(&mut query, parameter, value)?,
                ParameterLocation::Header => {
                    let text = style::plain(parameter, value);
                    if text.bytes().any(|byte| !(byte == b'\t' || (b' '..=b'~').contains(&byte))) {
                        return Err(Unfit::wrong(&parameter.key, "can only hold printable ASCII, as it is sent as a header"));
                    }
                    let header = HeaderValue::from_str(&text).ok().zip(parameter.header.clone());
                    let (value, name) = header.ok_or_else(|| Unfit::wrong(&parameter.key, "cannot be sent as a header"))?;
                    headers.insert(name, value);
                }
                ParameterLocation::Cookie => cookies.push(style::cookie(parameter, value)?),
            }
        }
        if path.len() + query.iter().map(|(name, value): &(String, String)| name.len() + value.len() + 2).sum::<usize>() > MAX_TARGET {
            return Err(Unfit::TooLong);
        }
        let body = match &self.body {
            None => Bytes::new(),
            Some(body) => match arguments.get(&*body.key) {
                Some(value) => {
                    let (kind, bytes) = body.written(value)?;
                    headers.insert(CONTENT_TYPE, kind);
                    bytes
                }
                None if body.required => return Err(Unfit::Missing(body.key.to_string())),
                None => Bytes::new(),
            },
        };
        Ok(Draft { method, path, query, headers, cookies, body })
    }
}
