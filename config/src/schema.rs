//! The JSON Schema of the configuration, so that editors complete and check it.

use crate::{
    keys::{KEYS, Key, Shape},
    scopes::MAX_PORTS,
    servers::programs::UNPINNED,
};
use serde_json::{Value, json};

/// JSON Schema, draft 2020-12.
pub fn json_schema() -> Value {
    let mut root = object();
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("gnomon configuration");
    for key in KEYS.iter() {
        place(&mut root, key);
    }
    root
}

fn object() -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": {}})
}

/// Puts a key where its path says, making the objects and lists on the way.
fn place(root: &mut Value, key: &Key) {
    let mut at = root;
    let mut segments = key.path.split('.').peekable();
    while let Some(segment) = segments.next() {
        let (name, is_list) = match segment.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (segment, false),
        };
        let Some(properties) = at["properties"].as_object_mut() else { return };
        if segments.peek().is_none() {
            properties.insert(name.to_owned(), leaf(key));
            return;
        }
        at = properties.entry(name.to_owned()).or_insert_with(
            || {
                if is_list { json!({"type": "array", "items": object()}) } else { object() }
            },
        );
        if is_list {
            at = &mut at["items"];
            // Whoever lists a user needs both of its keys.
            if key.default.is_empty() {
                require(at, segments.peek().copied());
            }
        }
    }
}

fn require(object: &mut Value, name: Option<&str>) {
    let Some((object, name)) = object.as_object_mut().zip(name) else { return };
    let required = object.entry("required").or_insert_with(|| json!([]));
    if let Some(list) = required.as_array_mut().filter(|list| !list.contains(&json!(name))) {
        list.push(json!(name));
    }
}

fn leaf(key: &Key) -> Value {
    let mut schema = match key.shape {
        Shape::Text => json!({"type": "string"}),
        Shape::Number(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        Shape::Word(words) => json!({"enum": words}),
        Shape::Ports => {
            json!({"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": u16::MAX}, "minItems": 1, "maxItems": MAX_PORTS})
        }
        Shape::Texts => json!({"type": "array", "items": {"type": "string"}}),
        // Its own document says what may stand in it.
        Shape::Policy => json!({"type": "array", "items": {"type": "object"}}),
        Shape::Auth => json!({"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}),
        Shape::Pin => json!({"oneOf": [{"const": UNPINNED}, pin()]}),
        Shape::Variables => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Shape::Tls => tls(),
        Shape::Mapping => object(),
        Shape::Labels => labels(),
        Shape::Overrides => {
            let mut both = object();
            both["properties"] = json!({"tools": labels(), "prompts": labels()});
            json!({"type": "object", "additionalProperties": both})
        }
        Shape::Packs => json!({"oneOf": [{"enum": ["builtin", "none"]}, {"type": "array", "items": {"enum": pack_names()}}]}),
    };
    schema["description"] = key.doc.as_str().into();
    let default = match key.shape {
        Shape::Number(..) => key.default.parse::<u64>().map_or(Value::Null, Value::from),
        // Words for people are no value.
        Shape::Text if key.default == "none" || key.default.contains(' ') => Value::Null,
        Shape::Text | Shape::Word(_) | Shape::Packs if !key.default.is_empty() => key.default.as_str().into(),
        Shape::Texts if !key.default.is_empty() => json!([]),
        Shape::Ports => key.default.split(", ").filter_map(|port| port.parse::<u16>().ok()).collect(),
        Shape::Text
        | Shape::Texts
        | Shape::Policy
        | Shape::Auth
        | Shape::Pin
        | Shape::Variables
        | Shape::Tls
        | Shape::Labels
        | Shape::Overrides
        | Shape::Mapping
        | Shape::Word(_)
        | Shape::Packs => Value::Null,
    };
    if let Some(object) = schema.as_object_mut().filter(|_| !default.is_null()) {
        object.insert("default".to_owned(), default);
    }
    schema
}

fn pin() -> Value {
    let digest = json!({"type": "string", "pattern": "^[0-9a-fA-F]{64}$"});
    let mut pin = object();
    pin["properties"] = json!({
        "sha256": digest.clone(),
        "files": {"type": "object", "additionalProperties": digest},
        "package": {"type": "string"},
        "lockfile": {"type": "string"},
    });
    pin
}

fn labels() -> Value {
    let mut label = object();
    label["properties"] = json!({
        "alias": {"type": "string", "pattern": "^[a-zA-Z0-9]+([_-][a-zA-Z0-9]+)*$", "maxLength": gnomon_portal::LONGEST_ALIAS},
        "description": {"type": "string", "minLength": 1},
        "enabled": {"type": "boolean"},
    });
    json!({"type": "object", "additionalProperties": label})
}

fn tls() -> Value {
    let mut tls = object();
    tls["properties"] = json!({
        "cert": {"type": "string"},
        "key": {"type": "string"},
        "ca": {"enum": ["own"]},
        "client_ca": {"type": "array", "items": {"type": "string"}},
    });
    tls
}

fn pack_names() -> Vec<&'static str> {
    gnomon_packs::packs().iter().map(|pack| pack.name).collect()
}
