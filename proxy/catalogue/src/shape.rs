//! The shapes that MCP gives to entries of lists, as clients hold to them.
//!
//! Client SDKs parse a list as one: a single entry that does not fit takes all others from the model. So each entry is held
//! against the shape before it is offered (schemas of 2025-11-25 and 2026-07-28, as the official TypeScript SDK 1.32 and 2.4 and
//! the Python SDK 2.3 read them). What fits stays as its server wrote it; nothing is repaired.

use crate::{kind::Kind, members::Members};
use serde_json::value::RawValue;
use smol_str::{SmolStr, format_smolstr};

/// How deep an entry may nest. Parsers of clients give up between 128 and 200 levels, the message around it included.
pub(crate) const MAX_DEPTH: usize = 100;

/// The clients that can read an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    /// The shapes of both eras.
    Both,
    /// The shapes of the stateless era only, which lets schemas be more.
    Stateless,
}

impl Fits {
    fn and(self, other: Self) -> Self {
        if self == Self::Both { other } else { self }
    }
}

type Checked = Result<Fits, SmolStr>;

/// Determines the clients that can read this entry; `text` is its JSON, `members` are its members.
///
/// # Errors
/// The fault, in words for an operator.
pub(crate) fn fits(kind: Kind, text: &str, members: &Members<'_>) -> Checked {
    readable(text)?;
    required_text(members, "name")?;
    texts(members, &["title", "description"])?;
    icons(members)?;
    if members.get("_meta").is_some_and(|meta| !meta.starts_with('{')) {
        return Err("`_meta` is not an object".into());
    }
    match kind {
        Kind::Tool => tool(members),
        Kind::Prompt => prompt(members),
        Kind::Resource => {
            let uri = required_text(members, "uri")?;
            if !has_scheme(&uri) {
                return Err("`uri` has no scheme".into());
            }
            texts(members, &["mimeType"])?;
            if members.get("size").is_some_and(|size| size.parse::<u64>().is_err()) {
                return Err("`size` is not a number of bytes".into());
            }
            annotations(members)
        }
        Kind::Template => {
            required_text(members, "uriTemplate")?;
            texts(members, &["mimeType"])?;
            annotations(members)
        }
    }
}

fn tool(members: &Members<'_>) -> Checked {
    let input = members.get("inputSchema").ok_or("`inputSchema` is missing")?;
    let mut fits = schema("inputSchema", input)?;
    if let Some(output) = members.get("outputSchema") {
        fits = fits.and(match Members::read(output.as_bytes()) {
            // The stateless era lets results be anything.
            Ok(own) if own.get("type").is_none_or(|kind| kind != "\"object\"") => {
                texts_of(&own, "outputSchema", &["$schema"])?;
                Fits::Stateless
            }
            Ok(_) => schema("outputSchema", output)?,
            Err(_) => return Err("`outputSchema` is not an object".into()),
        });
    }
    if let Some(said) = object(members, "annotations")? {
        texts_of(&said, "annotations", &["title"])?;
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            if said.get(hint).is_some() && said.flag(hint).is_none() {
                return Err(format_smolstr!("`annotations.{hint}` is neither true nor false"));
            }
        }
    }
    if let Some(execution) = object(members, "execution")?
        && execution.get("taskSupport").is_some()
        && !matches!(execution.text("taskSupport").as_deref(), Some("required" | "optional" | "forbidden"))
    {
        return Err("`execution.taskSupport` is not required, optional or forbidden".into());
    }
    Ok(fits)
}

fn schema(name: &str, text: &str) -> Checked {
    let own = Members::read(text.as_bytes()).map_err(|_| format_smolstr!("`{name}` is not an object"))?;
    match own.text("type").as_deref() {
        Some("object") => {}
        Some(_) => return Err(format_smolstr!("`{name}.type` is not `object`")),
        None => return Err(format_smolstr!("`{name}` has no `type: object`")),
    }
    texts_of(&own, name, &["$schema"])?;
    if let Some(required) = own.get("required")
        && serde_json::from_str::<Vec<String>>(required).is_err()
    {
        return Err(format_smolstr!("`{name}.required` is not a list of texts"));
    }
    let Some(properties) = own.get("properties") else { return Ok(Fits::Both) };
    let properties = Members::read(properties.as_bytes()).map_err(|_| format_smolstr!("`{name}.properties` is not an object"))?;
    let mut fits = Fits::Both;
    for (_, value) in properties.iter() {
        fits = fits.and(match value.as_bytes().first() {
            Some(b'{') => Fits::Both,
            Some(b't' | b'f') => Fits::Stateless,
            _ => return Err(format_smolstr!("`{name}.properties` has a value that is not a schema")),
        });
    }
    Ok(fits)
}

fn prompt(members: &Members<'_>) -> Checked {
    for argument in list(members, "arguments")? {
        let argument = Members::read(argument.get().as_bytes()).map_err(|_| "an argument is not an object")?;
        required_text(&argument, "name")?;
        texts_of(&argument, "arguments", &["title", "description"])?;
        if argument.get("required").is_some() && argument.flag("required").is_none() {
            return Err("`arguments` has a `required` that is neither true nor false".into());
        }
    }
    Ok(Fits::Both)
}

fn annotations(members: &Members<'_>) -> Checked {
    let Some(said) = object(members, "annotations")? else { return Ok(Fits::Both) };
    for audience in list(&said, "audience")? {
        if !matches!(audience.get(), "\"user\"" | "\"assistant\"") {
            return Err("`annotations.audience` is not of user and assistant".into());
        }
    }
    if let Some(priority) = said.get("priority")
        && !priority.parse::<f64>().is_ok_and(|priority| (0.0..=1.0).contains(&priority))
    {
        return Err("`annotations.priority` is not between 0 and 1".into());
    }
    if said.get("lastModified").is_some() && !said.text("lastModified").is_some_and(|time| is_time(&time)) {
        return Err("`annotations.lastModified` is not a time of ISO 8601".into());
    }
    Ok(Fits::Both)
}

fn icons(members: &Members<'_>) -> Result<(), SmolStr> {
    for icon in list(members, "icons")? {
        let icon = Members::read(icon.get().as_bytes()).map_err(|_| "an icon is not an object")?;
        required_text(&icon, "src")?;
        texts_of(&icon, "icons", &["mimeType"])?;
        if let Some(sizes) = icon.get("sizes")
            && serde_json::from_str::<Vec<String>>(sizes).is_err()
        {
            return Err("`icons` has `sizes` that are not a list of texts".into());
        }
        if icon.get("theme").is_some_and(|theme| !matches!(theme, "\"light\"" | "\"dark\"")) {
            return Err("`icons` has a `theme` that is neither light nor dark".into());
        }
    }
    Ok(())
}

fn required_text(members: &Members<'_>, name: &str) -> Result<SmolStr, SmolStr> {
    match members.text(name) {
        Some(text) if !text.is_empty() => Ok(SmolStr::new(text)),
        Some(_) => Err(format_smolstr!("`{name}` is empty")),
        None if members.get(name).is_some() => Err(format_smolstr!("`{name}` is not a text")),
        None => Err(format_smolstr!("`{name}` is missing")),
    }
}

fn texts(members: &Members<'_>, names: &[&str]) -> Result<(), SmolStr> {
    match names.iter().find(|name| is_other(members, name)) {
        Some(name) => Err(format_smolstr!("`{name}` is not a text")),
        None => Ok(()),
    }
}

fn texts_of(members: &Members<'_>, of: &str, names: &[&str]) -> Result<(), SmolStr> {
    match names.iter().find(|name| is_other(members, name)) {
        Some(name) => Err(format_smolstr!("`{of}` has a `{name}` that is not a text")),
        None => Ok(()),
    }
}

fn is_other(members: &Members<'_>, name: &str) -> bool {
    members.get(name).is_some_and(|value| !value.starts_with('"'))
}

fn object<'a>(members: &Members<'a>, name: &str) -> Result<Option<Members<'a>>, SmolStr> {
    match members.get(name) {
        None => Ok(None),
        Some(_) => members.object(name).map(Some).ok_or_else(|| format_smolstr!("`{name}` is not an object")),
    }
}

fn list<'a>(members: &Members<'a>, name: &str) -> Result<Vec<&'a RawValue>, SmolStr> {
    match members.get(name) {
        None => Ok(Vec::new()),
        Some(text) => serde_json::from_str(text).map_err(|_| format_smolstr!("`{name}` is not a list")),
    }
}

/// True if a URI has a scheme: some clients hold URIs to RFC 3986, and without a scheme they read none of the list.
fn has_scheme(uri: &str) -> bool {
    let Some((scheme, _)) = uri.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// A date with a time and an offset, as `2025-11-25T14:30:00Z`.
fn is_time(text: &str) -> bool {
    let Some((date, time)) = text.split_once('T') else { return false };
    let zone = time.strip_suffix('Z').or_else(|| {
        let (time, offset) = time.split_at_checked(time.len().checked_sub(6)?)?;
        (like(offset.get(1..)?, "##:##") && offset.starts_with(['+', '-'])).then_some(time)
    });
    let Some(time) = zone else { return false };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    like(date, "####-##-##")
        && (like(clock, "##:##:##") || like(time, "##:##"))
        && !fraction.is_empty()
        && fraction.bytes().all(|b| b.is_ascii_digit())
        && date.get(5..7).is_some_and(|month| ("01"..="12").contains(&month))
        && date.get(8..10).is_some_and(|day| ("01"..="31").contains(&day))
        && time.get(..2).is_some_and(|hour| ("00"..="23").contains(&hour))
}

fn like(text: &str, pattern: &str) -> bool {
    let fits = |(byte, like): (u8, u8)| if like == b'#' { byte.is_ascii_digit() } else { byte == like };
    text.len() == pattern.len() && text.bytes().zip(pattern.bytes()).all(fits)
}

/// Checks for what no parser of a client takes: deep nesting, and halves of surrogate pairs.
fn readable(text: &str) -> Result<(), SmolStr> {
    let bytes = text.as_bytes();
    let (mut depth, mut in_text, mut at) = (0usize, false, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match (in_text, byte) {
            (true, b'\\') => {
                if bytes.get(at) == Some(&b'u') {
                    match unit(bytes, at + 1) {
                        Some(0xd800..=0xdbff) if bytes.get(at + 5..at + 7) == Some(b"\\u") => {
                            if !matches!(unit(bytes, at + 7), Some(0xdc00..=0xdfff)) {
                                return Err("a text has half a surrogate pair".into());
                            }
                            at += 6;
                        }
                        Some(0xd800..=0xdfff) => return Err("a text has half a surrogate pair".into()),
                        _ => {}
                    }
                }
                at += 1;
            }
            (_, b'"') => in_text = !in_text,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format_smolstr!("it nests deeper than {MAX_DEPTH} levels"));
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    u16::from_str_radix(std::str::from_utf8(bytes.get(at..at + 4)?).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn checked(kind: Kind, text: &str) -> Checked {
        fits(kind, text, &Members::read(text.as_bytes()).unwrap())
    }

    fn with(base: &Value, name: &str, value: Value) -> String {
        let mut entry = base.clone();
        entry[name] = value;
        entry.to_string()
    }

    #[test]
    fn what_the_protocol_shapes_fits_with_everything_that_it_lets_an_entry_have() {
        let tool = json!({
            "name": "t", "title": "T", "description": "d", "inputSchema": {"$schema": "x", "type": "object", "properties": {"a": {}}, "required": ["a"]},
            "outputSchema": {"type": "object"}, "annotations": {"title": "T", "readOnlyHint": true, "idempotentHint": false, "vendor": 1},
            "icons": [{"src": "data:,", "mimeType": "image/png", "sizes": ["48x48"], "theme": "dark"}], "execution": {"taskSupport": "optional"},
            "_meta": {"x": 1}, "vendor": null,
        });
        assert_eq!(checked(Kind::Tool, &tool.to_string()), Ok(Fits::Both));
        let resource = json!({
            "uri": "note://1", "name": "n", "title": "t", "mimeType": "text/plain", "size": 7,
            "annotations": {"audience": ["user", "assistant"], "priority": 0.5, "lastModified": "2025-11-25T14:30:00.5+02:00"},
        });
        assert_eq!(checked(Kind::Resource, &resource.to_string()), Ok(Fits::Both));
        let prompt = json!({"name": "p", "arguments": [{"name": "a", "title": "A", "required": true}]});
        assert_eq!(checked(Kind::Prompt, &prompt.to_string()), Ok(Fits::Both));
        let template = json!({"uriTemplate": "{+anything}", "name": "t"});
        assert_eq!(checked(Kind::Template, &template.to_string()), Ok(Fits::Both));
        assert_eq!(checked(Kind::Tool, r#"{"name":"\ud83d\ude00 \\ud83d","inputSchema":{"type":"object"}}"#), Ok(Fits::Both));
    }

    #[test]
    fn each_oddity_that_a_client_chokes_on_is_found() {
        let tool = json!({"name": "t", "inputSchema": {"type": "object"}});
        for (name, value) in [
            ("name", json!(7)),
            ("name", json!("")),
            ("title", json!({})),
            ("title", json!(null)),
            ("description", json!(7)),
            ("inputSchema", json!(null)),
            ("inputSchema", json!({})),
            ("inputSchema", json!([])),
            ("inputSchema", json!({"type": "string"})),
            ("inputSchema", json!({"type": ["object"]})),
            ("inputSchema", json!({"type": "object", "properties": []})),
            ("inputSchema", json!({"type": "object", "properties": {"a": 7}})),
            ("inputSchema", json!({"type": "object", "required": "a"})),
            ("inputSchema", json!({"type": "object", "$schema": 7})),
            ("outputSchema", json!("text")),
            ("outputSchema", json!(null)),
            ("outputSchema", json!({"type": "object", "required": [1]})),
            ("annotations", json!("text")),
            ("annotations", json!({"readOnlyHint": "yes"})),
            ("annotations", json!({"title": 1})),
            ("icons", json!({})),
            ("icons", json!([{"mimeType": "image/png"}])),
            ("icons", json!([{"src": "x", "sizes": "48x48"}])),
            ("icons", json!([{"src": "x", "theme": "blue"}])),
            ("execution", json!({"taskSupport": "maybe"})),
            ("_meta", json!([])),
        ] {
            let entry = with(&tool, name, value);
            assert!(checked(Kind::Tool, &entry).is_err(), "{entry}");
        }
        assert!(checked(Kind::Tool, r#"{"name":"t"}"#).is_err());
        let resource = json!({"uri": "note://1", "name": "n"});
        for (name, value) in [
            ("name", json!(null)),
            ("uri", json!("relative/path")),
            ("size", json!("big")),
            ("size", json!(-1)),
            ("mimeType", json!(1)),
            ("annotations", json!({"audience": "user"})),
            ("annotations", json!({"audience": ["everybody"]})),
            ("annotations", json!({"priority": 2})),
            ("annotations", json!({"lastModified": "yesterday"})),
        ] {
            let entry = with(&resource, name, value);
            assert!(checked(Kind::Resource, &entry).is_err(), "{entry}");
        }
        assert!(checked(Kind::Resource, r#"{"uri":"note://1"}"#).is_err());
        assert!(checked(Kind::Template, r#"{"uriTemplate":"x"}"#).is_err());
        for arguments in [json!({}), json!([{}]), json!([{"name": "a", "required": "yes"}]), json!([{"name": "a", "description": 1}])] {
            assert!(checked(Kind::Prompt, &json!({"name": "p", "arguments": arguments}).to_string()).is_err());
        }
        let deep = format!(r#"{{"name":"t","inputSchema":{{"type":"object"}},"x":{}{}}}"#, "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert!(checked(Kind::Tool, &deep).is_err());
        for half in [r"\ud800", r"\udc00 x", r"\ud800\u0041"] {
            let entry = format!(r#"{{"name":"t","description":"{half}","inputSchema":{{"type":"object"}}}}"#);
            assert!(checked(Kind::Tool, &entry).is_err(), "{entry}");
        }
    }

    #[test]
    fn what_only_the_stateless_era_lets_schemas_be_is_told_apart() {
        let tool = json!({"name": "t", "inputSchema": {"type": "object"}});
        for (name, value) in [
            ("outputSchema", json!({"type": "array"})),
            ("outputSchema", json!({})),
            ("inputSchema", json!({"type": "object", "properties": {"a": true}})),
        ] {
            assert_eq!(checked(Kind::Tool, &with(&tool, name, value)), Ok(Fits::Stateless));
        }
    }

    #[test]
    fn times_are_those_of_iso_8601() {
        for (text, is) in [
            ("2025-11-25T14:30:00Z", true),
            ("2025-11-25T14:30Z", true),
            ("2025-11-25T14:30:00.123-05:00", true),
            ("2025-11-25T14:30:00", false),
            ("2025-13-25T14:30:00Z", false),
            ("2025-11-25", false),
            ("2025-11-25T14:30:00.Z", false),
            ("2025-11-25Tté+00:00", false),
        ] {
            assert_eq!(is_time(text), is, "{text}");
        }
    }
}
