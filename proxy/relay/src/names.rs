//! Names as clients know them, and whose they are.
//!
//! With several servers, names begin with the server's id and `_`, URIs with the id and `+`; an id has
//! neither, so the first of them ends it. URIs whose scheme tells clients what to do with them keep it, and have the id as their first part.

use gnomon_upstream::catalogue::Kind;
use smol_str::{SmolStr, format_smolstr};
use std::borrow::Cow;

/// The schemes of URIs that have a meaning for clients: show a page, use a skill.
const TELLING: [&str; 2] = ["ui://", "skill://"];

/// Whether names carry their server's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// Prefixed with the server's id.
    Always,
    /// The server's own; for portals with a single server.
    Never,
}

fn told(uri: &str) -> Option<(&'static str, &str)> {
    TELLING.into_iter().find_map(|scheme| Some((scheme, uri.strip_prefix(scheme)?)))
}

/// Whether a URI's scheme tells clients what to do with it.
#[must_use]
pub fn is_telling(uri: &str) -> bool {
    told(uri).is_some()
}

/// The name or URI by which clients know a server's entry.
#[must_use]
pub fn exposed_name(kind: Kind, server: &str, name: &str) -> SmolStr {
    match kind {
        Kind::Tool | Kind::Prompt => format_smolstr!("{server}_{name}"),
        Kind::Resource | Kind::Template => match told(name) {
            Some((scheme, rest)) => format_smolstr!("{scheme}{server}/{rest}"),
            None => format_smolstr!("{server}+{name}"),
        },
    }
}

/// The server's id and its own name for what clients know by `name`.
#[must_use]
pub fn split_name(kind: Kind, name: &str) -> Option<(&str, Cow<'_, str>)> {
    let split = |at| name.split_once(at).map(|(server, own)| (server, Cow::Borrowed(own)));
    match kind {
        Kind::Tool | Kind::Prompt => split('_'),
        Kind::Resource | Kind::Template => match told(name) {
            Some((scheme, rest)) => rest.split_once('/').map(|(server, rest)| (server, Cow::Owned(format!("{scheme}{rest}")))),
            None => split('+'),
        },
    }
}

/// Whether a URI could come of a template (RFC 6570): its literal parts stand in it, in order.
#[must_use]
pub fn may_come_of(template: &str, uri: &str) -> bool {
    let mut rest = uri;
    let mut first = true;
    let mut left = template;
    loop {
        let (literal, after) = match left.split_once('{') {
            None => return if first { rest == left } else { rest.ends_with(left) },
            Some((literal, expression)) => (literal, expression.split_once('}').map_or("", |(_, after)| after)),
        };
        let at = if first { rest.starts_with(literal).then_some(0) } else { rest.find(literal) };
        let Some(at) = at else { return false };
        rest = &rest[at + literal.len()..];
        (first, left) = (false, after);
    }
}

/// A client's word in a message of ours.
pub fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_fits_the_uris_that_its_literal_parts_stand_in() {
        for (template, uri, fits) in [
            ("file:///{path}", "file:///etc/hosts", true),
            ("file:///{path}", "http:///etc/hosts", false),
            ("db://{table}/row/{id}", "db://users/row/7", true),
            ("db://{table}/row/{id}", "db://users/7", false),
            ("test://template/{id}/data", "test://template/123/data", true),
            ("test://template/{id}/data", "test://template/123/other", false),
            ("plain://x", "plain://x", true),
            ("plain://x", "plain://xy", false),
            ("broken://{x", "broken://1", true),
        ] {
            assert_eq!(may_come_of(template, uri), fits, "{template} {uri}");
        }
    }

    #[test]
    fn a_name_is_split_where_the_servers_id_ends() {
        for (kind, own, known) in [
            (Kind::Tool, "get_a_b", "git-hub_get_a_b"),
            (Kind::Resource, "a+b://x", "git-hub+a+b://x"),
            (Kind::Resource, "ui://w/a+b", "ui://git-hub/w/a+b"),
            (Kind::Template, "ui://{w}", "ui://git-hub/{w}"),
            (Kind::Resource, "skill://a/b/SKILL.md", "skill://git-hub/a/b/SKILL.md"),
        ] {
            assert_eq!(exposed_name(kind, "git-hub", own), known);
            assert_eq!(split_name(kind, known), Some(("git-hub", own.into())));
        }
        assert_eq!(split_name(Kind::Resource, "ui://w"), None);
        assert_eq!(split_name(Kind::Tool, "nounderscore"), None);
    }
}
