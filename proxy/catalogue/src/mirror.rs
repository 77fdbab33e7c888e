//! Headers that mirror the body (MCP 2026-07-28, Streamable HTTP; SEP-2243): checked against the body where
//! a client sends them, made from the body where we do.

use base64::{Engine, engine::general_purpose::STANDARD};
use gnomon_wire::mcp::decode_header_value;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use smol_str::SmolStr;

/// Most annotated properties of one tool.
const MOST: usize = 64;
/// Deepest annotated property.
const DEEPEST: usize = 8;
/// The prefix of `Mcp-Param-*` headers.
pub const PARAM_PREFIX: &str = "mcp-param-";

/// A tool's argument that is mirrored in a header (`x-mcp-header`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    header: HeaderName,
    path: Vec<SmolStr>,
}

/// A header and an argument that disagree. The text is fit for the client's eyes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch(pub String);

/// The key of a method's parameters that `Mcp-Name` mirrors.
#[must_use]
pub fn named_by(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// The only value of a header.
///
/// # Errors
/// When it is sent twice or is no text.
pub fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Mismatch> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Mismatch(format!("the header {name} is not plain text"))),
        },
        (Some(_), Some(_)) => Err(Mismatch(format!("the header {name} is sent twice"))),
    }
}

/// A header that must be there and say the same as the body.
///
/// # Errors
/// When it is missing, unreadable, or says something else.
pub fn agrees(headers: &HeaderMap, name: &HeaderName, body: &str) -> Result<(), Mismatch> {
    match only(headers, name)? {
        None => Err(Mismatch(format!("the header {name} is missing"))),
        Some(raw) if decode_header_value(raw).is_ok_and(|value| value == body) => Ok(()),
        Some(_) => Err(Mismatch(format!("the header {name} contradicts the body"))),
    }
}

/// The mirrored arguments of a tool, by its input schema.
///
/// # Errors
/// If an annotation violates the specification: clients must not use such a tool.
pub fn annotations(schema: &Value) -> Result<Vec<Mirrored>, Unusable> {
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), &mut found)?;
    Ok(found)
}

/// An error of a tool's `x-mcp-header`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`x-mcp-header` of `{property}` {why}")]
pub struct Unusable {
    property: SmolStr,
    why: &'static str,
}

fn collect(schema: &Value, path: &mut Vec<SmolStr>, found: &mut Vec<Mirrored>) -> Result<(), Unusable> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
    for (name, property) in properties {
        let refused = |why| Unusable { property: name.chars().take(64).collect(), why };
        if path.len() == DEEPEST {
            return Ok(());
        }
        path.push(SmolStr::new(name));
        if let Some(header) = property.get("x-mcp-header") {
            let header = header.as_str().filter(|header| !header.is_empty()).ok_or_else(|| refused("is not a name"))?;
            let header = HeaderName::from_bytes(format!("{PARAM_PREFIX}{header}").as_bytes());
            let header = header.map_err(|_| refused("has characters that no header's name may have"))?;
            if !matches!(property.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean")) {
                return Err(refused("is at a parameter that is not a string, integer or boolean"));
            }
            if found.iter().any(|other| other.header == header) {
                return Err(refused("is at another property as well"));
            }
            if found.len() == MOST {
                return Err(refused("is one too many"));
            }
            found.push(Mirrored { header, path: path.clone() });
        }
        collect(property, path, found)?;
        path.pop();
    }
    Ok(())
}

impl Mirrored {
    fn value(&self, arguments: &Value) -> Option<String> {
        let value = self.path.iter().try_fold(arguments, |value, key| value.get(key.as_str()))?;
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// True if the header agrees with the argument, and is missing if that is.
    ///
    /// # Errors
    /// When they disagree.
    pub fn check(&self, headers: &HeaderMap, arguments: &Value) -> Result<(), Mismatch> {
        match (only(headers, &self.header)?, self.value(arguments)) {
            (None, None) => Ok(()),
            (Some(_), None) => Err(Mismatch(format!("the header {} mirrors an argument that is missing", self.header))),
            (_, Some(value)) => agrees(headers, &self.header, &value),
        }
    }

    /// Puts the header for these arguments.
    pub fn put(&self, headers: &mut HeaderMap, arguments: &Value) {
        if let Some(value) = self.value(arguments).as_deref().and_then(encoded) {
            headers.insert(self.header.clone(), value);
        }
    }
}

/// Whether a text looks like an encoded one.
fn is_encoded(text: &str) -> bool {
    text.starts_with("=?base64?") && text.ends_with("?=")
}

/// A text as a mirrored header's value: as it is where that survives the journey, else in Base64.
#[must_use]
pub fn encoded(text: &str) -> Option<HeaderValue> {
    let outer = |c: Option<char>| matches!(c, Some(' ' | '\t'));
    let plain = text.chars().all(|c| (' '..='~').contains(&c))
        && ![text.chars().next(), text.chars().next_back()].into_iter().any(outer)
        && !is_encoded(text);
    if plain { HeaderValue::from_str(text).ok() } else { HeaderValue::from_str(&format!("=?base64?{}?=", STANDARD.encode(text))).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_we_write_reads_as_what_it_was() {
        for text in ["plain", "", " padded ", "grüße", "=?base64?eA==?=", "a\nb"] {
            let value = encoded(text).unwrap();
            assert_eq!(decode_header_value(value.to_str().unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn annotations_that_the_specification_does_not_allow_are_refused() {
        let one = |kind: &str, header: Value| json!({"properties": {"p": {"type": kind, "x-mcp-header": header}}});
        assert!(annotations(&one("string", json!("Region"))).is_ok());
        for schema in [
            one("string", json!("")),
            one("string", json!(7)),
            one("string", json!("a b")),
            one("string", json!("a:b")),
            one("string", json!("größe")),
            one("string", json!("a\u{1}")),
            one("object", json!("A")),
            one("array", json!("A")),
            one("null", json!("A")),
            one("number", json!("A")),
            json!({"properties": {"p": {"type": "string", "x-mcp-header": "A"}, "q": {"type": "string", "x-mcp-header": "a"}}}),
        ] {
            assert!(annotations(&schema).is_err(), "{schema}");
        }
    }

    #[test]
    fn a_mirrored_argument_must_be_said_alike_and_only_where_it_is_there() {
        let schema = json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "inner": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
        }});
        let mirrored = annotations(&schema).unwrap();
        assert_eq!(mirrored.len(), 2);
        let arguments = json!({"region": "eu", "inner": {"n": 5}});
        let mut headers = HeaderMap::new();
        assert!(mirrored[0].check(&headers, &arguments).is_err());
        mirrored.iter().for_each(|m| m.put(&mut headers, &arguments));
        assert!(mirrored.iter().all(|m| m.check(&headers, &arguments).is_ok()));
        assert!(mirrored[0].check(&headers, &json!({"region": "us"})).is_err());
        assert!(mirrored[0].check(&headers, &json!({})).is_err());
        headers.append("mcp-param-region", HeaderValue::from_static("eu"));
        assert!(mirrored[0].check(&headers, &arguments).is_err());
    }
}
