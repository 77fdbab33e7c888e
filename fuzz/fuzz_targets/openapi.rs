#![no_main]

use gnomon_openapi::{Options, import};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use std::collections::HashSet;

// An input is arguments, an object in one line, and a document after it.
fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (arguments, document) = bytes.split_at(end);
    let arguments: Map<String, Value> = serde_json::from_slice(arguments).unwrap_or_default();
    let Ok(api) = import(document, Options { longest_name: 60, base: Some("https://api.example/base"), here: None }) else {
        return;
    };
    let mut names = HashSet::new();
    for operation in &api.operations {
        assert!(operation.name.len() <= 60 && names.insert(operation.name.clone()), "{}", operation.name);
        assert!(operation.tool.len() < 256 << 10, "{}", operation.tool.len());
        let tool: Value = serde_json::from_slice(&operation.tool).expect("a tool is JSON");
        assert!(tool["inputSchema"]["type"] == "object");
        // Under every name that it takes, each argument is tried.
        let properties = tool["inputSchema"]["properties"].as_object().expect("arguments have names");
        let values: Vec<&Value> = arguments.values().collect();
        let given: Map<String, Value> = properties
            .keys()
            .enumerate()
            .filter_map(|(at, name)| Some((name.clone(), (*values.get(at % values.len().max(1))?).clone())))
            .collect();
        let Ok(draft) = operation.draft(&given) else { continue };
        let uri: http::Uri = format!("{}{}", api.base, draft.target()).parse().expect("a URL");
        assert_eq!(uri.host(), Some("api.example"));
        assert!(uri.path().starts_with("/base/") && !uri.path().split('/').any(|segment| segment == "." || segment == ".."), "{uri}");
        for name in ["host", "authorization", "cookie", "content-length", "transfer-encoding", "x-http-method-override"] {
            assert!(!draft.headers.contains_key(name));
        }
    }
});
