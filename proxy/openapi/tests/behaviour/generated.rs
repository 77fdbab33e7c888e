//! A document of any number of operations, as companies have them: references everywhere, schemas that go round in circles, every
//! style of parameter, several kinds of bodies, and names in need of tidying.

use serde_json::{Map, Value, json};

/// Operations of each resource.
pub const EACH: usize = 5;

/// Operations that cannot be called, in every document of [`document`].
#[allow(dead_code, reason = "not every test that includes this file asks")]
pub const BROKEN: usize = 6;

/// A document with `5 × resources` operations that can be called, and [`BROKEN`] that cannot. `version` is 3.0.3 or 3.1.0.
pub fn document(version: &str, resources: usize, server: &str) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for n in 0..resources {
        let noun = format!("{}{n}", ["Invoice", "Customer", "shipment", "price-list", "Réclamation", "audit.log"][n % 6]);
        let name = format!("Schema{n}");
        schemas.insert(name.clone(), schema(version, n, resources));
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        let root = format!("/v{}/{}", n % 3, noun.to_lowercase());
        paths.insert(root.clone(), json!({"get": list(&noun, n, &reference), "post": create(&noun, n, &reference)}));
        paths.insert(format!("{root}/{{id}}"), one(&noun, n, &reference));
    }
    broken(&mut paths);
    json!({
        "openapi": version,
        "info": {"title": "Everything", "version": "7"},
        "servers": [{"url": server}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": {"Page": {"name": "page", "in": "query", "description": "Which page.", "schema": {"type": "integer", "minimum": 1}}},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "token": {"type": "http", "scheme": "bearer"},
                "query": {"type": "apiKey", "in": "query", "name": "api_key"},
                "login": {"type": "http", "scheme": "basic"},
            },
        },
    })
}

fn schema(version: &str, n: usize, resources: usize) -> Value {
    // Circles of five.
    let next = json!({"$ref": format!("#/components/schemas/Schema{}", (n / 5 * 5 + (n + 1) % 5).min(resources - 1))});
    let maybe = match version {
        "3.1.0" => json!({"type": ["string", "null"], "description": "A note, or none."}),
        _ => json!({"type": "string", "nullable": true, "description": "A note, or none."}),
    };
    let count = match version {
        "3.1.0" => json!({"type": "integer", "exclusiveMinimum": 0}),
        _ => json!({"type": "integer", "minimum": 0, "exclusiveMinimum": true}),
    };
    json!({
        "type": "object",
        "required": ["id", "name"],
        "properties": {
            "id": {"type": "string", "readOnly": true},
            "name": {"type": "string", "description": format!("The name of number {n}, as it stands on paper."), "example": "x"},
            "note": maybe,
            "count": count,
            "kind": {"type": "string", "enum": ["small", "large", "odd"]},
            "next": next,
            "children": {"type": "array", "items": {"$ref": format!("#/components/schemas/Schema{n}")}},
            "owner": {"allOf": [{"type": "object", "properties": {"email": {"type": "string", "format": "email"}}}, {"description": "Whose it is."}]},
            "price": {"oneOf": [{"type": "number"}, {"type": "string", "pattern": "^[0-9]+$"}]},
            "extra": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    })
}

fn answer(schema: &Value) -> Value {
    json!({
        "200": {"description": "Well.", "content": {"application/json": {"schema": schema}}},
        "default": {"description": "Not well.", "content": {"application/json": {"schema": {"type": "object"}}}},
    })
}

fn list(noun: &str, n: usize, reference: &Value) -> Value {
    let style = ["form", "spaceDelimited", "pipeDelimited"][n % 3];
    json!({
        "operationId": format!("{noun}/list all"),
        "summary": format!("Lists every {noun}"),
        "description": format!("Gives all of them, a page at a time. Sort by anything that {noun} has."),
        "parameters": [
            {"$ref": "#/components/parameters/Page"},
            {"name": "tags", "in": "query", "style": style, "explode": n.is_multiple_of(2), "schema": {"type": "array", "items": {"type": "string"}}},
            {"name": "filter", "in": "query", "style": "deepObject", "schema": {"type": "object", "properties": {"name": {"type": "string"}}}},
            {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
            {"name": "session", "in": "cookie", "schema": {"type": "string"}},
        ],
        "responses": answer(&json!({"type": "array", "items": reference})),
    })
}

fn create(noun: &str, n: usize, reference: &Value) -> Value {
    let (kind, schema) = match n % 5 {
        1 => (
            "application/x-www-form-urlencoded",
            json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}),
        ),
        2 => (
            "multipart/form-data",
            json!({"type": "object", "properties": {"file": {"type": "string", "format": "binary"}, "name": {"type": "string"}}}),
        ),
        3 => ("text/plain", json!({"type": "string"})),
        4 => ("application/merge-patch+json", reference.clone()),
        _ => ("application/json", reference.clone()),
    };
    json!({
        "operationId": format!("create{noun}"),
        "summary": format!("Makes a new {noun}"),
        "requestBody": {"required": true, "content": {kind: {"schema": schema}}},
        "security": [{"token": []}, {"key": []}],
        "responses": answer(reference),
    })
}

fn one(noun: &str, n: usize, reference: &Value) -> Value {
    let same = json!({"name": "id", "in": "query", "schema": {"type": "boolean"}});
    json!({
        "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}],
        // Without a name of its own, and with a parameter that is called like another.
        "get": {"summary": format!("Reads one {noun}"), "parameters": [same], "responses": answer(reference)},
        "put": {
            "operationId": format!("{noun}.replace"),
            "requestBody": {"content": {"application/json": {"schema": reference}}},
            "responses": answer(reference),
        },
        "delete": {"operationId": format!("delete-{noun}"), "deprecated": n.is_multiple_of(7), "responses": {"204": {"description": "Gone."}}},
    })
}

fn broken(paths: &mut Map<String, Value>) {
    let of = |value: Value| json!({"get": value});
    paths.insert("/broken/far".to_owned(), of(json!({"parameters": [{"$ref": "https://elsewhere.example/p.json#/x"}]})));
    paths.insert("/broken/gone".to_owned(), of(json!({"parameters": [{"$ref": "#/components/parameters/Nothing"}]})));
    paths.insert("/broken/../dots".to_owned(), of(json!({"operationId": "dots"})));
    paths.insert("/broken/host".to_owned(), of(json!({"parameters": [{"name": "Host", "in": "header", "required": true}]})));
    paths.insert("/broken/own".to_owned(), of(json!({"servers": [{"url": "https://evil.example"}]})));
    paths.insert("/broken/mixed".to_owned(), json!({"trace": {"operationId": "trace"}}));
}
