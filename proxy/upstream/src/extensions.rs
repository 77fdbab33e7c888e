//! Extensions of the protocol (SEP-2133): which of them can be kept between a client and a server that do not speak to each other
//! directly.
//!
//! An extension may put names into messages that lead to one server alone, or give answers a shape of its own. What is not known here
//! can be neither translated nor held to policy, so it is announced to neither side: both do without it, as with a peer that does not know
//! it.

use crate::{as_text::as_text, era::Era};
use bytes::Bytes;
use gnomon_catalogue::members::Members;

/// Calls that go on after their answer (SEP-2663).
pub const TASKS: &str = "io.modelcontextprotocol/tasks";
/// Pages that belong to tools.
pub const APPS: &str = "io.modelcontextprotocol/ui";
/// Instructions with their files (SEP-2640).
pub const SKILLS: &str = "io.modelcontextprotocol/skills";

/// The extensions that can be kept with a peer of an era. Tasks of the older one are another protocol, which has a capability of its own.
#[must_use]
pub fn kept(era: Era) -> &'static [&'static str] {
    match era {
        Era::Modern => &[TASKS, APPS, SKILLS],
        Era::Legacy => &[APPS, SKILLS],
    }
}

/// The settings of an extension in capabilities that declare it, JSON.
#[must_use]
pub fn declared<'a>(capabilities: &'a [u8], extension: &str) -> Option<&'a str> {
    let all = Members::read(capabilities).ok()?.object("extensions")?;
    all.get(extension).filter(|settings| settings.starts_with('{'))
}

/// Capabilities with those of their extensions alone that can be kept with a peer of this era; none where these are all.
#[must_use]
pub fn carried(capabilities: &[u8], era: Era) -> Option<Bytes> {
    let members = Members::read(capabilities).ok()?;
    members.get("extensions")?;
    let Some(all) = members.object("extensions") else { return Some(members.with(&[("extensions", None)])) };
    let gone: Vec<(&str, Option<&str>)> = all.iter().filter(|(name, _)| !kept(era).contains(name)).map(|(name, _)| (name, None)).collect();
    if gone.is_empty() {
        return None;
    }
    let rest = all.with(&gone);
    let rest = Some(as_text(&rest)).filter(|rest| *rest != "{}");
    Some(members.with(&[("extensions", rest)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_taken_out_and_all_else_stays_as_it_was() {
        let said =
            format!(r#"{{"roots":{{}},"extensions":{{"{TASKS}":{{}},"x.example/y":{{"a":1}},"{APPS}":{{"mimeTypes":["a"]}}}},"v":1.0}}"#);
        let modern = carried(said.as_bytes(), Era::Modern).unwrap();
        assert_eq!(modern, format!(r#"{{"roots":{{}},"extensions":{{"{TASKS}":{{}},"{APPS}":{{"mimeTypes":["a"]}}}},"v":1.0}}"#));
        assert!(carried(&modern, Era::Modern).is_none(), "nothing is left to take out");
        let legacy = carried(said.as_bytes(), Era::Legacy).unwrap();
        assert_eq!(legacy, format!(r#"{{"roots":{{}},"extensions":{{"{APPS}":{{"mimeTypes":["a"]}}}},"v":1.0}}"#));
        assert_eq!(carried(br#"{"extensions":{"x.example/y":{}}}"#, Era::Modern).unwrap(), "{}");
        assert_eq!(carried(br#"{"extensions":7}"#, Era::Modern).unwrap(), "{}");
        assert!(carried(br#"{"roots":{}}"#, Era::Modern).is_none());
    }

    #[test]
    fn an_extension_is_declared_by_an_object_of_settings() {
        let said = format!(r#"{{"extensions":{{"{SKILLS}":{{"directoryRead":true}},"{TASKS}":true}}}}"#);
        assert_eq!(declared(said.as_bytes(), SKILLS), Some(r#"{"directoryRead":true}"#));
        assert_eq!((declared(said.as_bytes(), TASKS), declared(b"{}", SKILLS)), (None, None));
    }
}
