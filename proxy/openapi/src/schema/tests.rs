use super::*;

fn document(version: &str, schemas: &Value) -> Document {
    Document::read(json!({"openapi": version, "components": {"schemas": schemas}}).to_string().as_bytes()).unwrap()
}

fn written(version: &str, schema: &Value, room: usize) -> Value {
    let document = document(version, &json!({"S": schema}));
    let mut writer = Writer::new(&document, Direction::Request, room);
    let mut written = writer.write(document.root().pointer("/components/schemas/S").unwrap());
    if let (Some(defs), Some(object)) = (writer.defs().unwrap(), written.as_object_mut()) {
        object.insert("$defs".to_owned(), defs);
    }
    written
}

#[test]
fn what_3_0_says_in_its_own_words_is_said_in_those_of_2020_12() {
    for (old, new) in [
        (json!({"type": "string", "nullable": true}), json!({"type": ["string", "null"]})),
        (json!({"enum": ["a"], "type": "string", "nullable": true}), json!({"type": ["string", "null"], "enum": ["a", null]})),
        (json!({"allOf": [{"type": "string"}], "nullable": true}), json!({"anyOf": [{"allOf": [{"type": "string"}]}, {"type": "null"}]})),
        (json!({"type": "integer", "minimum": 3, "exclusiveMinimum": true}), json!({"type": "integer", "exclusiveMinimum": 3})),
        (json!({"type": "integer", "maximum": 3, "exclusiveMaximum": false}), json!({"type": "integer", "maximum": 3})),
        (json!({"type": "number", "exclusiveMaximum": 7}), json!({"type": "number", "exclusiveMaximum": 7})),
        (json!({"type": "file"}), json!({})),
        (json!({"type": "string", "example": "x", "xml": {}, "x-foo": 1, "$id": "http://evil"}), json!({"type": "string"})),
        (json!({"type": "object", "required": true}), json!({"type": "object"})),
    ] {
        assert_eq!(written("3.0.3", &old, 10_000), new, "{old}");
    }
}

#[test]
fn what_the_server_alone_sets_is_not_asked_for() {
    let schema =
        json!({"type": "object", "required": ["id", "name"], "properties": {"id": {"type": "string", "readOnly": true}, "name": {}}});
    let expected = json!({"type": "object", "required": ["name"], "properties": {"name": {}}});
    assert_eq!(written("3.1.0", &schema, 10_000), expected);
}

#[test]
fn circles_become_references_that_a_validator_follows() {
    let schemas = json!({
        "Node": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}, "n": {"type": "integer"}}},
    });
    let document = document("3.1.0", &schemas);
    let reference = json!({"$ref": "#/components/schemas/Node"});
    let mut writer = Writer::new(&document, Direction::Request, 10_000);
    let mut schema = writer.write(&reference);
    schema["$defs"] = writer.defs().unwrap().unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&json!({"next": {"next": {"n": 1}}})));
    assert!(!validator.is_valid(&json!({"next": {"next": {"n": "x"}}})));
}

#[test]
fn what_has_no_room_takes_anything_and_refuses_nothing() {
    let fan: Map<String, Value> =
        (0..2000).map(|n| (format!("property_{n}"), json!({"type": "string", "description": "long ".repeat(100)}))).collect();
    let schema = json!({"additionalProperties": false, "required": ["property_1999"], "type": "object", "properties": fan});
    let small = written("3.1.0", &schema, 4_000);
    assert!(small.to_string().len() < 8_000, "{}", small.to_string().len());
    let validator = jsonschema::validator_for(&small).unwrap();
    assert!(validator.is_valid(&json!({"property_1999": "x", "property_1": "y"})));
}

#[test]
fn references_that_double_at_every_step_stay_within_the_room() {
    let mut schemas = Map::new();
    for n in 0..64 {
        let next = json!({"$ref": format!("#/components/schemas/L{}", n + 1)});
        schemas.insert(format!("L{n}"), json!({"type": "object", "properties": {"a": next, "b": next}}));
    }
    schemas.insert("L64".to_owned(), json!({"type": "string"}));
    let document = document("3.0.0", &Value::Object(schemas));
    let reference = json!({"$ref": "#/components/schemas/L0"});
    let mut writer = Writer::new(&document, Direction::Request, 2_000);
    let mut schema = writer.write(&reference);
    schema["$defs"] = writer.defs().unwrap().unwrap();
    assert!(schema.to_string().len() < 8_000);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let deep = (0..40).fold(json!(7), |inner, _| json!({"a": inner}));
    assert!(validator.is_valid(&deep) && !validator.is_valid(&json!({"a": {"b": 7}})));
}

#[test]
fn huge_enumerations_are_described_and_repeated_values_said_once() {
    let many: Vec<String> = (0..5000).map(|n| format!("value-{n}")).collect();
    let written_ = written("3.1.0", &json!({"type": "string", "description": "Which.", "enum": many}), 100_000);
    assert!(written_.get("enum").is_none() && written_["description"].as_str().unwrap().starts_with("Which. (one of many values: value-0"));
    assert_eq!(written("3.1.0", &json!({"enum": ["a", "a", 1]}), 1000), json!({"enum": ["a", 1]}));
}

#[test]
fn references_to_other_documents_and_to_nothing_are_errors_with_a_reason() {
    for reference in ["other.yml#/X", "http://127.0.0.1:9/x", "#/components/schemas/None"] {
        let document = document("3.1.0", &json!({}));
        let schema = json!({"type": "array", "items": {"$ref": reference}});
        let mut writer = Writer::new(&document, Direction::Request, 1000);
        writer.write(&schema);
        assert!(writer.defs().is_err(), "{reference}");
    }
}
