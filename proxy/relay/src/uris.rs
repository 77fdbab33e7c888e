//! URIs that tell clients what to do with them (`ui://`, `skill://`), in what servers list and answer: clients know them with the server's
//! id as their first part, so that two servers' never meet, and what a client reads leads back to its server.
//!
//! Only members that the protocol gives such URIs are looked at. Text that a server writes for people or models stays as it is, and so
//! does everything else of an entry: what a page may load and do (`csp`, `permissions`) is its server's to declare and its host's to allow.

use crate::names::{exposed_name, is_telling};
use bytes::Bytes;
use gnomon_upstream::{as_text, catalogue::Kind, members::Members, rpc::quoted};
use memchr::memmem::find;
use serde_json::value::RawValue;
use smol_str::SmolStr;

/// The key of a tool's page before 2026.
const FLAT: &str = "ui/resourceUri";

/// The audience of a tool, as its server says (`_meta.ui.visibility`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audience {
    /// Models are shown it.
    pub model: bool,
    /// Pages of its server may call it.
    pub pages: bool,
}

/// The page of a tool, by its server's own URI.
#[must_use]
pub fn page(tool: &[u8]) -> Option<SmolStr> {
    // Most tools have none, and are not read for it.
    find(tool, b"esourceUri")?;
    let meta = Members::read(tool).ok()?.object("_meta")?;
    let nested = meta.object("ui").and_then(|ui| ui.text("resourceUri"));
    nested.or_else(|| meta.text(FLAT)).map(SmolStr::new)
}

/// The audience of a tool.
#[must_use]
pub fn audience(tool: &[u8]) -> Audience {
    let said = || -> Option<Vec<String>> {
        find(tool, b"visibility")?;
        let meta = Members::read(tool).ok()?.object("_meta")?;
        serde_json::from_str(meta.object("ui")?.get("visibility")?).ok()
    };
    let may = |said: &[String], who: &str| said.iter().any(|one| one == who);
    said().map_or(Audience { model: true, pages: true }, |said| Audience { model: may(&said, "model"), pages: may(&said, "app") })
}

/// A tool without its page, as for clients that may not read that: its answers are text all the same.
#[must_use]
pub fn without_page(tool: &Bytes) -> Bytes {
    let without = || {
        let members = Members::read(tool).ok()?;
        let meta = members.object("_meta")?;
        let ui = meta.object("ui").map(|ui| ui.with(&[("resourceUri", None)]));
        let ui = ui.as_ref().map(|ui| as_text(ui)).filter(|ui| *ui != "{}");
        let meta = meta.with(&[("ui", ui), (FLAT, None)]);
        Some(members.with(&[("_meta", Some(as_text(&meta)).filter(|meta| *meta != "{}"))]))
    };
    without().unwrap_or_else(|| tool.clone())
}

/// Whether a text may hold such a URI at all, however it is escaped.
fn mentions(text: &[u8]) -> bool {
    find(text, b"ui:").is_some() || find(text, b"skill:").is_some()
}

/// A tool as clients know it: with the URI of its page as they know that; none where there is nothing to change.
#[must_use]
pub fn tool(server: &str, tool: &[u8]) -> Option<Bytes> {
    with_object(&Members::read(tool).ok()?, "_meta", |own| meta(server, own))
}

/// The answer of a server to this method, with such URIs as clients know them; none if there is nothing to change.
#[must_use]
pub fn answered(server: &str, method: &str, result: &[u8]) -> Option<Bytes> {
    if !mentions(result) {
        return None;
    }
    let members = Members::read(result).ok()?;
    match method {
        "tools/call" | "tasks/result" => of_tool(server, &members),
        "tasks/get" => with_object(&members, "result", |result| of_tool(server, result)),
        "prompts/get" => with_each(&members, "messages", |message| with_object(message, "content", |content| block(server, content))),
        "resources/read" => with_each(&members, "contents", |content| with_uri(server, content, "uri")),
        _ => None,
    }
}

/// The answer of a tool.
fn of_tool(server: &str, result: &Members<'_>) -> Option<Bytes> {
    let content = list(result, "content", |content| block(server, content));
    let meta = result.object("_meta").and_then(|own| meta(server, &own));
    let changes = [("content", content.as_deref()), ("_meta", meta.as_ref().map(|meta| as_text(meta)))];
    changed(result, &changes)
}

/// A link to a resource, or one that is embedded.
fn block(server: &str, content: &Members<'_>) -> Option<Bytes> {
    match content.text("type").as_deref() {
        Some("resource_link") => with_uri(server, content, "uri"),
        Some("resource") => with_object(content, "resource", |resource| with_uri(server, resource, "uri")),
        _ => None,
    }
}

fn meta(server: &str, meta: &Members<'_>) -> Option<Bytes> {
    let ui = meta.object("ui").and_then(|ui| with_uri(server, &ui, "resourceUri"));
    let flat = known(server, meta, FLAT);
    changed(meta, &[("ui", ui.as_ref().map(|ui| as_text(ui))), (FLAT, flat.as_deref())])
}

/// The URI of a member as clients know it, JSON.
fn known(server: &str, members: &Members<'_>, key: &str) -> Option<String> {
    let uri = members.text(key).filter(|uri| is_telling(uri))?;
    Some(quoted(&exposed_name(Kind::Resource, server, &uri)))
}

/// With one member's URI as clients know it.
pub fn with_uri(server: &str, members: &Members<'_>, key: &str) -> Option<Bytes> {
    let known = known(server, members, key)?;
    Some(members.with(&[(key, Some(&known))]))
}

fn changed(members: &Members<'_>, changes: &[(&str, Option<&str>)]) -> Option<Bytes> {
    let changes: Vec<_> = changes.iter().filter(|(_, new)| new.is_some()).copied().collect();
    (!changes.is_empty()).then(|| members.with(&changes))
}

fn with_object(members: &Members<'_>, key: &str, change: impl FnOnce(&Members<'_>) -> Option<Bytes>) -> Option<Bytes> {
    let new = change(&members.object(key)?)?;
    Some(members.with(&[(key, Some(as_text(&new)))]))
}

fn with_each(members: &Members<'_>, key: &str, change: impl Fn(&Members<'_>) -> Option<Bytes>) -> Option<Bytes> {
    let new = list(members, key, change)?;
    Some(members.with(&[(key, Some(&new))]))
}

/// A list of objects, each of which may change; none where none does.
pub fn list(members: &Members<'_>, key: &str, change: impl Fn(&Members<'_>) -> Option<Bytes>) -> Option<String> {
    let all: Vec<&RawValue> = serde_json::from_str(members.get(key)?).ok()?;
    let new: Vec<Option<Bytes>> =
        all.iter().map(|one| Members::read(one.get().as_bytes()).ok().and_then(|members| change(&members))).collect();
    if new.iter().all(Option::is_none) {
        return None;
    }
    let texts = all.iter().zip(&new).map(|(old, new)| new.as_ref().map_or(old.get(), |new| as_text(new)));
    Some(format!("[{}]", texts.collect::<Vec<_>>().join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(method: &str, result: &str) -> Option<String> {
        answered("one", method, result.as_bytes()).map(|new| as_text(&new).to_owned())
    }

    #[test]
    fn a_tool_s_page_is_found_renamed_and_taken_out_by_either_key() {
        let tool = |meta: &str| format!(r#"{{"name":"t","_meta":{meta},"v":1.0}}"#);
        for (own, known, without) in [
            (r#"{"ui":{"resourceUri":"ui://w/d"}}"#, r#"{"ui":{"resourceUri":"ui://one/w/d"}}"#, r#"{"name":"t","v":1.0}"#),
            (
                r#"{"ui/resourceUri":"ui://w/d","k":1}"#,
                r#"{"ui/resourceUri":"ui://one/w/d","k":1}"#,
                r#"{"name":"t","_meta":{"k":1},"v":1.0}"#,
            ),
            (
                r#"{"ui":{"resourceUri":"ui:\/\/w\/d","visibility":["app"]},"ui/resourceUri":"ui://w/d"}"#,
                r#"{"ui":{"resourceUri":"ui://one/w/d","visibility":["app"]},"ui/resourceUri":"ui://one/w/d"}"#,
                r#"{"name":"t","_meta":{"ui":{"visibility":["app"]}},"v":1.0}"#,
            ),
        ] {
            let text = Bytes::from(tool(own));
            assert_eq!(page(&text).as_deref(), Some("ui://w/d"));
            assert_eq!(super::tool("one", &text).unwrap(), tool(known));
            assert_eq!(without_page(&text), without);
        }
        assert_eq!(page(tool("{}").as_bytes()), None);
        assert_eq!(audience(tool(r#"{"ui":{"visibility":["app"]}}"#).as_bytes()), Audience { model: false, pages: true });
        assert_eq!(audience(tool("{}").as_bytes()), Audience { model: true, pages: true });
    }

    #[test]
    fn uris_are_renamed_where_the_protocol_has_them_and_nowhere_else() {
        let link = r#"{"type":"resource_link","uri":"ui://w/d","name":"ui://w/d"}"#;
        let embedded = r#"{"type":"resource","resource":{"uri":"skill://a/SKILL.md","text":"skill://a/b"}}"#;
        let text = r#"{"type":"text","text":"see ui://w/d"}"#;
        let known = [
            r#"{"type":"resource_link","uri":"ui://one/w/d","name":"ui://w/d"}"#,
            r#"{"type":"resource","resource":{"uri":"skill://one/a/SKILL.md","text":"skill://a/b"}}"#,
        ];
        let result = format!(r#"{{"content":[{text},{link},{embedded}],"structuredContent":{{"uri":"ui://w/d"}}}}"#);
        let new = format!(r#"{{"content":[{text},{},{}],"structuredContent":{{"uri":"ui://w/d"}}}}"#, known[0], known[1]);
        assert_eq!(answer("tools/call", &result).unwrap(), new);
        assert_eq!(answer("tasks/get", &format!(r#"{{"result":{result}}}"#)).unwrap(), format!(r#"{{"result":{new}}}"#));
        assert_eq!(
            answer("prompts/get", &format!(r#"{{"messages":[{{"role":"user","content":{link}}}]}}"#)).unwrap(),
            format!(r#"{{"messages":[{{"role":"user","content":{}}}]}}"#, known[0])
        );
        assert_eq!(
            answer("resources/read", r#"{"contents":[{"uri":"ui://w/d","_meta":{"ui":{"csp":{"connectDomains":["a"]}}}}]}"#).unwrap(),
            r#"{"contents":[{"uri":"ui://one/w/d","_meta":{"ui":{"csp":{"connectDomains":["a"]}}}}]}"#
        );
        assert_eq!(answer("tools/call", &format!(r#"{{"content":[{text}]}}"#)), None);
        assert_eq!(answer("resources/read", r#"{"contents":[{"uri":"note://w/ui:"}]}"#), None);
    }
}
