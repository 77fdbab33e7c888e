//! What calls become on the wire, whatever the arguments are.

use crate::imported;
use gnomon_openapi::{Draft, Imported, Unfit};
use proptest::prelude::*;
use serde_json::{Value, json};

fn api(operation: Value) -> Imported {
    imported(&json!({"openapi": "3.0.3", "servers": [{"url": "https://api.example"}], "paths": {"/a/{x}/b/{y}": {"post": operation}}}))
}

fn everywhere() -> Imported {
    api(json!({
        "parameters": [
            {"name": "x", "in": "path", "required": true, "schema": {}},
            {"name": "y", "in": "path", "required": true, "style": "matrix", "explode": true, "schema": {}},
            {"name": "q", "in": "query", "schema": {}},
            {"name": "deep", "in": "query", "style": "deepObject", "schema": {}},
            {"name": "X-H", "in": "header", "schema": {}},
            {"name": "c", "in": "cookie", "schema": {}},
        ],
        "requestBody": {"content": {"multipart/form-data": {"schema": {"type": "object"}}}},
    }))
}

fn drafted(api: &Imported, arguments: Value) -> Result<Draft, Unfit> {
    api.operations[0].draft(arguments.as_object().unwrap())
}

/// Texts that somebody would try, and any others.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "/", "\\", "..", ".", "%", "%2e", "%2f", "%00", "?", "#", "&", "=", ";", ",", "\r\n", "\0", "@", ":", "//", "a", "\u{ff0e}", "é",
        "\u{2028}", " ", "\"", "[", "]",
    ]);
    prop_oneof![prop::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat()), any::<String>()]
}

/// Values of any shape, of such texts.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![text().prop_map(Value::from), any::<i64>().prop_map(Value::from), Just(Value::Null), Just(json!(true))];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_argument_leaves_its_place(x in value(), y in value(), q in value(), deep in value(), h in value(), c in value(), body in value()) {
        let api = everywhere();
        let Ok(draft) = drafted(&api, json!({"x": x, "y": y, "q": q, "deep": deep, "X-H": h, "c": c, "body": {"member": body}})) else {
            return Ok(());
        };
        let target = draft.target();
        let uri: http::Uri = format!("https://api.example{target}").parse().unwrap();
        prop_assert_eq!(uri.host(), Some("api.example"));
        let segments: Vec<&str> = uri.path().split('/').collect();
        prop_assert_eq!((segments.len(), segments[1], segments[3]), (5, "a", "b"), "{}", target);
        prop_assert!(segments.iter().all(|segment| !matches!(*segment, "." | "..")) && !segments[2].is_empty());
        // Every name in the query is one that was meant, or the member of an exploded object.
        prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
        prop_assert_eq!(target.matches('?').count(), usize::from(!draft.query.is_empty()));
        prop_assert!(draft.headers.iter().all(|(name, value)| matches!(name.as_str(), "accept" | "content-type" | "x-h") && !value.as_bytes().iter().any(|b| matches!(b, b'\r' | b'\n' | 0))));
        prop_assert!(draft.cookies.iter().all(|pair| pair.starts_with("c=") && pair.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')));
    }
}

#[test]
fn what_would_make_another_request_is_refused() {
    let api = everywhere();
    for arguments in [
        json!({"x": "..", "y": 1}),
        json!({"x": "../../admin", "y": 1}),
        json!({"x": "%2e%2e%2fadmin", "y": 1}),
        json!({"x": "", "y": 1}),
        json!({"x": null, "y": 1}),
        json!({"y": 1}),
        json!({"x": [], "y": 1}),
        json!({"x": 1, "y": 1, "X-H": "a\r\nHost: evil.example"}),
        json!({"x": 1, "y": 1, "X-H": "ümlaut"}),
        json!({"x": 1, "y": 1, "q": {"_method": "DELETE"}}),
        json!({"x": 1, "y": 1, "q": "x".repeat(20_000)}),
        json!({"x": 1, "y": 1, "body": [1]}),
    ] {
        assert!(drafted(&api, arguments.clone()).is_err(), "{arguments}");
    }
    let draft = drafted(&api, json!({"x": "a b/c", "y": "1", "q": ["1&2", "3"], "c": "a;b=c"})).unwrap();
    assert_eq!(draft.target(), "/a/a%20b%2Fc/b/;y=1?q=1%262&q=3");
    assert_eq!(draft.cookies, ["c=a%3Bb%3Dc"]);
}

#[test]
fn headers_of_the_connection_and_of_credentials_are_nobodys_argument() {
    let names = [
        "Host",
        "Authorization",
        "Cookie",
        "Content-Length",
        "Transfer-Encoding",
        "X-Forwarded-For",
        "X-HTTP-Method-Override",
        "Proxy-Authorization",
    ];
    for name in names {
        let api = api(json!({"parameters": [{"name": name, "in": "header", "schema": {"type": "string"}}]}));
        let tool: Value = serde_json::from_slice(&api.operations[0].tool).unwrap();
        assert!(tool["inputSchema"]["properties"].get(name).is_none(), "{name}");
        let draft = drafted(&api, json!({"x": 1, "y": 1, name: "evil"})).unwrap();
        assert!(!draft.headers.contains_key(name));
    }
}

#[test]
fn bodies_are_written_as_their_types_say() {
    let with = |kind: &str, schema: Value, more: Value| {
        let mut media = json!({"schema": schema});
        media.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        api(json!({"requestBody": {"content": {kind: media}}}))
    };
    let body = |api: &Imported, body: Value| {
        let draft = drafted(api, json!({"x": 1, "y": 1, "body": body})).unwrap();
        (draft.headers["content-type"].to_str().unwrap().to_owned(), String::from_utf8(draft.body.to_vec()).unwrap())
    };
    let any = json!({"type": "object"});
    let json_ = body(&with("application/merge-patch+json", any.clone(), json!({})), json!({"a": null}));
    assert_eq!(json_, ("application/merge-patch+json".to_owned(), "{\"a\":null}".to_owned()));
    let form =
        with("application/x-www-form-urlencoded", any.clone(), json!({"encoding": {"deep": {"style": "deepObject", "explode": true}}}));
    let value = json!({"a": "1&b=2", "list": ["x", "y"], "object": {"k": 1}, "deep": {"k": [1, 2]}, "none": null});
    assert_eq!(body(&form, value).1, "a=1%26b%3D2&list=x&list=y&object=%7B%22k%22%3A1%7D&deep%5Bk%5D%5B%5D=1&deep%5Bk%5D%5B%5D=2");
    let parts =
        with("multipart/form-data", json!({"type": "object", "properties": {"f": {"type": "string", "format": "binary"}}}), json!({}));
    let (kind, text) = body(&parts, json!({"f": "aGk=", "n\"\r\n": "gnomon-0000000000000000", "o": {"k": 1}}));
    assert_eq!(kind, "multipart/form-data; boundary=gnomon-0000000000000001");
    assert!(text.contains("name=\"f\"; filename=\"f\"\r\nContent-Type: application/octet-stream\r\n\r\nhi\r\n"), "{text}");
    assert!(text.contains("name=\"n%22%0D%0A\"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\ngnomon-0"), "{text}");
    assert!(text.contains("Content-Type: application/json\r\n\r\n{\"k\":1}"), "{text}");
    let (_, text) = body(&parts, json!({"f": {"content": "aGk=", "filename": "a\"b.jsonl", "contentType": "application/jsonl"}}));
    assert!(text.contains("name=\"f\"; filename=\"a%22b.jsonl\"\r\nContent-Type: application/jsonl\r\n\r\nhi\r\n"), "{text}");
    let (_, text) = body(&parts, json!({"f": "data:text/plain;base64,aGk="}));
    assert!(text.contains("filename=\"f\"\r\nContent-Type: text/plain\r\n\r\nhi\r\n"), "{text}");
    for wrong in [json!("hello there"), json!({"filename": "x"}), json!(7), json!({"content": "aGk=", "contentType": "a\r\nX: y"})] {
        let unfit = drafted(&parts, json!({"x": 1, "y": 1, "body": {"f": wrong}})).unwrap_err().to_string();
        assert!(unfit.contains("body/f"), "{unfit}");
    }
    // Of the type that the document names for a part, where that is one.
    let named =
        json!({"f": "image/png", "o": "application/ld+json", "s": "application/json", "t": "text/csv", "any": "image/png, image/*"});
    let encoding: Value = named.as_object().unwrap().iter().map(|(name, kind)| (name.clone(), json!({"contentType": kind}))).collect();
    let files = json!({"type": "object", "properties": {"f": {"type": "string", "format": "binary"}}});
    let typed = with("multipart/form-data", files, json!({"encoding": encoding}));
    let (_, text) = body(&typed, json!({"f": "aGk=", "o": {"k": 1}, "s": "a", "t": "1,2", "any": "x"}));
    for part in [
        "name=\"f\"; filename=\"f\"\r\nContent-Type: image/png\r\n\r\nhi\r\n",
        "name=\"o\"\r\nContent-Type: application/ld+json\r\n\r\n{\"k\":1}\r\n",
        "name=\"s\"\r\nContent-Type: application/json\r\n\r\n\"a\"\r\n",
        "name=\"t\"\r\nContent-Type: text/csv\r\n\r\n1,2\r\n",
        "name=\"any\"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nx\r\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, text) = body(&typed, json!({"f": {"content": "aGk=", "contentType": "image/gif"}}));
    assert!(text.contains("Content-Type: image/gif\r\n\r\nhi\r\n"), "{text}");
    assert_eq!(body(&with("text/plain", json!({"type": "string"}), json!({})), json!("hi")).1, "hi");
    assert_eq!(body(&with("application/octet-stream", json!({"type": "string", "format": "binary"}), json!({})), json!("aGk=")).1, "hi");
}
