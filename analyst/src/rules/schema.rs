//! `gnomon rules schema`: the JSON Schema of rule files, so that editors complete fields and words.

use anyhow::Result;
use gnomon_observe::{Action, Class, Family, Field, Level, Role};
use serde_json::{Map, Value, json};
use std::io::{self, Write};

pub fn print() -> Result<()> {
    Ok(writeln!(io::stdout().lock(), "{}", serde_json::to_string_pretty(&schema())?)?)
}

/// JSON Schema, draft 2020-12. What the engine refuses besides (conditions, modifiers) `gnomon rules check` says.
fn schema() -> Value {
    let words = |words: Vec<&'static str>| json!({"enum": words});
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let response = json!({
        "type": "object", "additionalProperties": false, "required": ["action"],
        "properties": {
            "action": words(Action::supported().map(Action::as_str).collect()),
            "mode": {"enum": ["explain", "location", "bypass"]},
            "to": text, "message": {"type": "string", "maxLength": 500},
        },
    });
    let tests = json!({
        "type": "array",
        "items": {
            "type": "object", "additionalProperties": false, "required": ["observe", "expect"],
            "properties": {"observe": {"$ref": "#/$defs/fields"}, "expect": {"enum": ["match", "no_match"]}},
        },
    });
    let search = json!({"anyOf": [{"$ref": "#/$defs/fields"}, {"type": "array"}, text]});
    let mut common = Map::new();
    for (key, value) in [
        ("title", json!({"type": "string", "minLength": 1, "maxLength": 256})),
        ("id", json!({"type": "string", "format": "uuid"})),
        ("name", text.clone()),
        ("status", json!({"enum": ["stable", "test", "experimental", "deprecated", "unsupported"]})),
        ("description", text.clone()),
        ("author", text.clone()),
        ("date", text.clone()),
        ("modified", text.clone()),
        ("license", text.clone()),
        ("references", texts.clone()),
        ("tags", texts.clone()),
        (
            "logsource",
            json!({
                "type": "object", "required": ["product", "category"],
                "properties": {"product": {"const": "mcp"}, "category": {"const": "mcp_traffic"}},
            }),
        ),
    ] {
        common.insert(key.to_owned(), value);
    }
    let with = |own: Value| {
        let mut all = common.clone();
        all.extend(own.as_object().cloned().unwrap_or_default());
        Value::Object(all)
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gnomon rule or exception (Sigma)",
        "oneOf": [{"$ref": "#/$defs/rule"}, {"$ref": "#/$defs/filter"}],
        "$defs": {
            "fields": {"type": "object", "properties": fields()},
            "rule": {
                "type": "object", "required": ["title", "id", "logsource", "detection"], "not": {"required": ["filter"]},
                "properties": with(json!({
                    "level": words(Level::ALL.iter().map(|level| level.as_str()).collect()),
                    "falsepositives": texts, "fields": texts, "related": {"type": "array"},
                    "detection": {"type": "object", "required": ["condition"], "additionalProperties": search, "properties": {"condition": {}}},
                    "gnomon": {
                        "type": "object", "additionalProperties": false,
                        "properties": {
                            "class": words(Class::ALL.iter().map(|class| class.as_str()).collect()),
                            "enabled": {"type": "boolean"}, "response": response, "owasp": texts, "atlas": texts, "tests": tests,
                        },
                    },
                })),
            },
            "filter": {
                "type": "object", "required": ["title", "logsource", "filter"],
                "properties": with(json!({
                    "filter": {
                        "type": "object", "required": ["rules", "condition"], "additionalProperties": search,
                        "properties": {"rules": {"anyOf": [{"const": "any"}, text, texts]}, "condition": {"type": "string"}},
                    },
                    "gnomon": {
                        "type": "object", "additionalProperties": false,
                        "properties": {"owner": text, "reason": text, "event": text, "expires": text, "tests": tests},
                    },
                })),
            },
        },
    })
}

/// All fields that a rule may read, with their descriptions.
fn fields() -> Value {
    let table = Field::all().filter(|field| field.info().role == Role::Evidence);
    let mut fields: Map<String, Value> = table.map(|field| (field.name().to_owned(), json!({"description": field.info().doc}))).collect();
    for family in Family::ALL {
        fields.insert(format!("{}NAME", family.prefix()), json!({"description": "NAME is free."}));
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_rules_have_no_key_that_the_schema_does_not_know() {
        let schema = schema();
        let rule = &schema["$defs"]["rule"]["properties"];
        let known = |at: &Value, key: &str| at.get(key).is_some();
        for pack in gnomon_packs::packs() {
            for (name, text) in pack.files() {
                for line in text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())) {
                    let key = line.split(':').next().unwrap_or_default();
                    assert!(known(rule, key), "{name}: {key}");
                }
            }
        }
        assert!(known(&schema["$defs"]["fields"]["properties"], "mcp.method.name"));
        assert!(!known(&schema["$defs"]["fields"]["properties"], "rule.id"));
    }
}
