//! A tool in one line: enough to choose it, and often to call it.

use serde_json::{Map, Value};

use super::types::{key, literal};

/// Bytes after which no more properties are shown; `…` stands for them.
const ENOUGH: usize = 240;

/// Most values of an enumeration that are shown.
const MOST_VALUES: usize = 6;

/// `name({required: type, optional?: type})`, what is required first. What is deeper than a property of a property is `object`.
/// After ` → ` comes what it gives, where a schema says so.
#[must_use]
pub fn signature(name: &str, input: &Value, output: Option<&Value>) -> String {
    let mut text = key(name);
    text.push('(');
    if let Some(properties) = input.get("properties").and_then(Value::as_object).filter(|properties| !properties.is_empty()) {
        object(&mut text, input, properties, 2);
    } else if input.get("anyOf").or_else(|| input.get("oneOf")).or_else(|| input.get("allOf")).or_else(|| input.get("$ref")).is_some() {
        text.push('…');
    }
    text.push(')');
    if let Some(output) = output.filter(|output| output.is_object()) {
        let mut result = String::new();
        value(&mut result, output, 2);
        if result != "unknown" {
            text.push_str(" → ");
            text.push_str(&result);
        }
    }
    text
}

fn object(text: &mut String, schema: &Value, properties: &Map<String, Value>, depth: usize) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let needed = |name: &str| required.contains(&name);
    let (first, then): (Vec<_>, Vec<_>) = properties.iter().partition(|(name, _)| needed(name));
    text.push('{');
    for (at, (name, property)) in first.into_iter().chain(then).enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        if text.len() > ENOUGH && !needed(name) || text.len() > 2 * ENOUGH {
            text.push('…');
            break;
        }
        text.push_str(&key(name));
        text.push_str(if needed(name) { ": " } else { "?: " });
        value(text, property, depth - 1);
    }
    text.push('}');
}

fn value(text: &mut String, schema: &Value, depth: usize) {
    if let Some(values) = schema["enum"].as_array().filter(|values| !values.is_empty()) {
        for (at, value) in values.iter().take(MOST_VALUES).enumerate() {
            text.push_str(if at > 0 { " | " } else { "" });
            literal(text, value);
        }
        if values.len() > MOST_VALUES {
            text.push_str(" | …");
        }
        return;
    }
    match schema["type"].as_str() {
        Some("array") => {
            let start = text.len();
            value(text, &schema["items"], depth);
            if text[start..].contains(" | ") {
                text.insert(start, '(');
                text.push(')');
            }
            text.push_str("[]");
        }
        Some("object") | None if schema["properties"].is_object() && depth > 0 => {
            if let Some(properties) = schema["properties"].as_object() {
                object(text, schema, properties, depth);
            }
        }
        Some("integer") => text.push_str("number"),
        Some(plain @ ("string" | "number" | "boolean" | "null" | "object")) => text.push_str(plain),
        _ => text.push_str("unknown"),
    }
}
