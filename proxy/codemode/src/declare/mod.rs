//! TypeScript for a tool, from its JSON Schema.
//!
//! Names, descriptions and schemas are a server's words and land in front of a model, so they are hostile text: whatever they are,
//! what comes out is one declaration that parses, of bounded length, in which they are comments, types and quoted keys. What the
//! types do not say (patterns, ranges, conditions) the server still checks. A schema that is too deep, too long or refers to itself
//! becomes `unknown` where it does, never an error: a tool must not vanish for its schema's sake.

mod comment;
mod signature;
mod types;

use serde_json::Value;

pub use signature::signature;
use types::{Schema, key};

/// Bytes that the types of one schema take at most; what follows is `unknown`. The whole declaration stays below twice that and
/// its comments.
pub const MAX_TYPES: usize = 32 << 10;

/// A tool as TypeScript: `declare const codemode: { … }` with the one method.
///
/// `name` is the name on `codemode`; any text is a key, quoted if it has to be. Without an output schema the tool returns
/// `Promise<unknown>`.
///
/// ```
/// let schema = serde_json::json!({ "type": "object", "properties": { "jql": { "type": "string" } }, "required": ["jql"] });
/// let text = gnomon_codemode::declare("jira_search", "Finds issues.", &schema, None);
/// assert_eq!(text, "\
/// declare const codemode: {
///   /** Finds issues. */
///   jira_search: (input: {
///     jql: string;
///   }) => Promise<unknown>;
/// };
/// ");
/// ```
#[must_use]
pub fn declare(name: &str, description: &str, input: &Value, output: Option<&Value>) -> String {
    let mut text = BEGIN.to_owned();
    comment::write(&mut text, 1, description, &[], comment::MAX_DESCRIPTION);
    text.push_str("  ");
    text.push_str(&key(name));
    // The argument is optional if no property is required.
    let optional = if input["required"].as_array().is_some_and(|required| !required.is_empty()) { "" } else { "?" };
    text.push_str(": (input");
    text.push_str(optional);
    text.push_str(": ");
    Schema::new(input).write(&mut text, 1);
    text.push_str(") => Promise<");
    match output {
        Some(output) => Schema::new(output).write(&mut text, 1),
        None => text.push_str("unknown"),
    }
    text.push_str(">;\n");
    text.push_str(END);
    text
}

const BEGIN: &str = "declare const codemode: {\n";
const END: &str = "};\n";

/// Several declarations as one: a constant is declared once.
#[must_use]
pub fn together<'a>(declared: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = BEGIN.to_owned();
    for one in declared {
        text.push_str(one.strip_prefix(BEGIN).and_then(|one| one.strip_suffix(END)).unwrap_or_default());
    }
    text.push_str(END);
    text
}
