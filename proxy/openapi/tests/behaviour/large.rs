//! Every operation of a large document can be called, or is named with a reason.

use crate::{
    generated::{BROKEN, EACH, document},
    imported,
};
use gnomon_openapi::{Effect, Imported};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// A value that fits a schema, as far as the generated ones go.
fn example(schema: &Value, root: &Value, depth: usize) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return example(root.pointer(reference.trim_start_matches('#')).unwrap(), root, depth);
    }
    if let Some(values) = schema["enum"].as_array() {
        return values[0].clone();
    }
    if let Some(alternatives) = schema["anyOf"].as_array() {
        return example(&alternatives[0], root, depth);
    }
    let kind = schema["type"].as_array().map_or(&schema["type"], |kinds| &kinds[0]);
    match kind.as_str() {
        Some("string") if schema["contentEncoding"] == "base64" => json!("aGk="),
        Some("string") => json!("a@b.example/x?y#z"),
        Some("integer" | "number") => json!(7),
        Some("boolean") => json!(true),
        Some("array") => json!([example(&schema["items"], root, depth)]),
        Some("object") if depth == 0 => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            Value::Object(required.map(|name| (name.to_owned(), example(&schema["properties"][name], root, 0))).collect())
        }
        Some("object") => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            Value::Object(properties.map(|(name, inner)| (name.clone(), example(inner, root, depth - 1))).collect())
        }
        _ => json!({}),
    }
}

fn tool(api: &Imported, at: usize) -> Value {
    serde_json::from_slice(&api.operations[at].tool).unwrap()
}

#[test]
fn each_of_2500_operations_can_be_called_or_is_named_with_a_reason() {
    for version in ["3.0.3", "3.1.0"] {
        let api = imported(&document(version, 500, "https://api.example/base"));
        assert_eq!((api.operations.len(), api.refused.len()), (500 * EACH, BROKEN), "{:?}", api.refused);
        let mut names = HashSet::new();
        for (at, operation) in api.operations.iter().enumerate() {
            let tool = tool(&api, at);
            let legal = operation.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            assert!(legal && operation.name.len() <= 60 && names.insert(&operation.name), "{}", operation.name);
            let schema = &tool["inputSchema"];
            let validator = jsonschema::validator_for(schema).unwrap_or_else(|error| panic!("{}: {error}", operation.name));
            jsonschema::validator_for(tool.get("outputSchema").unwrap_or(&json!({}))).unwrap();
            let arguments = example(schema, schema, 3);
            assert!(validator.is_valid(&arguments), "{}: {arguments} {:?}", operation.name, validator.iter_errors(&arguments).next());
            let draft = operation.draft(arguments.as_object().unwrap()).unwrap_or_else(|error| panic!("{}: {error}", operation.name));
            let segments = operation.path.matches('/').count();
            assert!(draft.target().is_ascii() && draft.path.matches('/').count() == segments, "{}", draft.target());
            assert_eq!(tool["annotations"]["readOnlyHint"] == true, operation.effect == Effect::Read);
        }
        let refused: Vec<&str> = api.refused.iter().map(|refused| &*refused.place).collect();
        for place in ["/broken/far", "/broken/gone", "/broken/../dots", "/broken/host", "/broken/own", "/broken/mixed"] {
            assert!(refused.iter().any(|refused| refused.ends_with(place)), "{place}: {refused:?}");
        }
    }
}

#[test]
fn operations_keep_their_names_when_others_come_and_go() {
    let all = imported(&document("3.1.0", 60, "https://api.example"));
    let mut fewer = document("3.1.0", 60, "https://api.example");
    fewer["paths"].as_object_mut().unwrap().retain(|path, _| !path.contains("invoice"));
    for operation in imported(&fewer).operations {
        let same = all.operations.iter().find(|other| (&other.method, &other.path) == (&operation.method, &operation.path)).unwrap();
        assert_eq!(same.name, operation.name);
    }
}

#[test]
fn one_operation_that_is_nonsense_costs_no_other() {
    let good = document("3.0.3", 5, "https://api.example");
    let nonsense = [
        json!(null),
        json!([]),
        json!("text"),
        json!({"parameters": "x"}),
        json!({"parameters": [7]}),
        json!({"parameters": [{"in": "body", "name": "x"}]}),
        json!({"requestBody": {"$ref": "#/nowhere"}}),
        json!({"requestBody": {"content": {"multipart/mixed": {}}}}),
        json!({"requestBody": {"content": {"application/json": {"schema": {"$ref": "far.yml"}}}}}),
        json!({"operationId": 7, "summary": [], "responses": 7, "security": 7, "servers": 7}),
        json!({"parameters": (0..1000).map(|n| json!({"name": format!("p{n}"), "in": "query"})).collect::<Vec<_>>()}),
    ];
    for value in nonsense {
        let mut document = good.clone();
        document["paths"]["/nonsense"] = json!({"get": value});
        let api = imported(&document);
        assert!(api.operations.len() >= 25, "{value}");
        assert_eq!(api.operations.len() + api.refused.len(), 25 + BROKEN + 1, "{value}: {:?}", api.refused);
    }
}

#[test]
fn arguments_of_one_name_are_told_apart_by_their_places() {
    let document = json!({"openapi": "3.1.0", "servers": [{"url": "https://api.example"}], "paths": {"/{id}": {"post": {
        "parameters": [
            {"name": "id", "in": "header", "schema": {}}, {"name": "id", "in": "path", "schema": {}},
            {"name": "id", "in": "query", "schema": {}}, {"name": "query_id", "in": "query", "schema": {}},
            {"name": "body", "in": "query", "schema": {}}],
        "requestBody": {"content": {"application/json": {}}}}}}});
    let api = imported(&document);
    let tool = tool(&api, 0);
    let keys: Vec<&String> = tool["inputSchema"]["properties"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "query_id", "query_query_id", "body", "header_id", "body_2"]);
    let arguments: Map<String, Value> = keys.iter().enumerate().map(|(n, key)| ((*key).clone(), json!(n))).collect();
    let draft = api.operations[0].draft(&arguments).unwrap();
    assert_eq!(draft.target(), "/0?id=1&query_id=2&body=3");
    assert_eq!((&draft.headers["id"], &*draft.body), (&"4".parse().unwrap(), &b"5"[..]));
}
