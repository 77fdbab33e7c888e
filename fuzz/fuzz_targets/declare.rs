#![no_main]

use gnomon_codemode::{MAX_TYPES, declare};
use libfuzzer_sys::fuzz_target;
use oxc_allocator::Allocator;
use oxc_parser::Parser;
use oxc_span::SourceType;
use serde_json::Value;

// An input is a name, a description and a schema, a line each.
fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut parts = text.splitn(3, '\n');
    let (name, description) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let schema = parts.next().and_then(|schema| serde_json::from_str(schema).ok()).unwrap_or(Value::Null);
    let declaration = declare(name, description, &schema, Some(&schema));
    assert!(declaration.len() < 4 * MAX_TYPES);
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, &declaration, SourceType::ts()).parse();
    assert!(parsed.diagnostics.is_empty() && parsed.program.body.len() == 1, "{declaration}");
});
