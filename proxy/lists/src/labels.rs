//! How an administrator has a server's tools and prompts shown: under another name, with another description, or not at all.
//!
//! Labels go by the server's own name for an entry, as policy does, so they change neither what may be called nor what is
//! recorded. A name that an administrator gave belongs to that entry alone: a server that takes it up for another of its
//! tools does not get it.

use bytes::Bytes;
use gnomon_upstream::{
    catalogue::{Entry, Kind},
    members::Members,
    rpc::quoted,
};
use smol_str::SmolStr;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Longest alias, characters.
pub const LONGEST_ALIAS: usize = 40;

/// The presentation of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The name instead of the server's own.
    pub alias: Option<SmolStr>,
    /// The description instead of the server's own.
    pub description: Option<String>,
    /// Whether it is shown at all; by default it is.
    pub enabled: Option<bool>,
}

impl Label {
    /// This label, with the other's values where it has none.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        Self {
            alias: self.alias.clone().or_else(|| other.alias.clone()),
            description: self.description.clone().or_else(|| other.description.clone()),
            enabled: self.enabled.or(other.enabled),
        }
    }
}

/// How the entries of one server are shown, by its own names for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Labels of tools.
    pub tools: HashMap<SmolStr, Label>,
    /// Labels of prompts.
    pub prompts: HashMap<SmolStr, Label>,
}

impl Labels {
    /// These labels laid over others.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        let over = |upper: &HashMap<SmolStr, Label>, lower: &HashMap<SmolStr, Label>| {
            let mut both = lower.clone();
            for (name, label) in upper {
                let label = lower.get(name).map_or_else(|| label.clone(), |lower| label.over(lower));
                both.insert(name.clone(), label);
            }
            both
        };
        Self { tools: over(&self.tools, &other.tools), prompts: over(&self.prompts, &other.prompts) }
    }

    fn of(&self, kind: Kind) -> Option<&HashMap<SmolStr, Label>> {
        let labels = match kind {
            Kind::Tool => &self.tools,
            Kind::Prompt => &self.prompts,
            Kind::Resource | Kind::Template => return None,
        };
        (!labels.is_empty()).then_some(labels)
    }

    /// A server's list as it is shown: each entry with its name, before any prefix, and its label.
    pub fn shown<'a>(&'a self, kind: Kind, id: &str, list: &'a [Arc<Entry>]) -> Vec<(SmolStr, &'a Arc<Entry>, Option<&'a Label>)> {
        let Some(labels) = self.of(kind) else {
            return list.iter().map(|entry| (entry.name.clone(), entry, None)).collect();
        };
        let given: HashSet<&SmolStr> =
            list.iter().filter_map(|entry| labels.get(&entry.name).filter(|label| label.enabled != Some(false))?.alias.as_ref()).collect();
        let mut missing: HashSet<&SmolStr> = labels.keys().collect();
        let mut shown = Vec::with_capacity(list.len());
        for entry in list {
            missing.remove(&entry.name);
            let label = labels.get(&entry.name);
            let alias = label.and_then(|label| label.alias.as_ref());
            if label.is_some_and(|label| label.enabled == Some(false)) {
                continue;
            }
            if alias.is_none() && given.contains(&entry.name) {
                tracing::warn!(server = id, name = %entry.name, "hidden: its name was given to another entry as its alias");
                continue;
            }
            shown.push((alias.unwrap_or(&entry.name).clone(), entry, label));
        }
        if !list.is_empty() && !missing.is_empty() {
            let mut missing: Vec<&str> = missing.into_iter().map(SmolStr::as_str).collect();
            missing.sort_unstable();
            tracing::warn!(server = id, "the server has no {}: {}", kind.key(), missing.join(", "));
        }
        shown
    }
}

/// An entry as lists have it: with the name that it is shown by, and its label's description.
pub fn written(kind: Kind, name: &str, entry: &Entry, label: Option<&Label>) -> Bytes {
    let description = label.and_then(|label| label.description.as_deref());
    if name == entry.name && description.is_none() {
        return entry.text.clone();
    }
    let Ok(members) = Members::read(&entry.text) else { return entry.text.clone() };
    let (name, description) = (quoted(name), description.map(quoted));
    match &description {
        None => members.with(&[(kind.named_by(), Some(&name))]),
        Some(description) => members.with(&[(kind.named_by(), Some(&name)), ("description", Some(description))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_upstream::catalogue::Page;
    use serde_json::json;

    fn list(names: &[&str]) -> Vec<Arc<Entry>> {
        let tools: Vec<_> =
            names.iter().map(|name| json!({"name": name, "description": "theirs", "inputSchema": {"type": "object"}})).collect();
        Page::read(Kind::Tool, json!({"tools": tools}).to_string().as_bytes(), &HashMap::new()).unwrap().entries
    }

    fn labels(tools: &[(&str, Label)]) -> Labels {
        Labels { tools: tools.iter().map(|(name, label)| (SmolStr::new(name), label.clone())).collect(), ..Labels::default() }
    }

    fn alias(name: &str) -> Label {
        Label { alias: Some(name.into()), ..Label::default() }
    }

    fn names(labels: &Labels, list: &[Arc<Entry>]) -> Vec<(String, String)> {
        labels.shown(Kind::Tool, "s", list).iter().map(|(name, entry, _)| (name.to_string(), entry.name.to_string())).collect()
    }

    #[test]
    fn an_alias_is_shown_instead_of_the_name_and_hidden_entries_are_not() {
        let labels =
            labels(&[("create", alias("open-ticket")), ("drop", Label { enabled: Some(false), ..Label::default() }), ("gone", alias("x"))]);
        let list = list(&["create", "drop", "other"]);
        assert_eq!(names(&labels, &list), [("open-ticket".into(), "create".into()), ("other".into(), "other".into())]);
    }

    #[test]
    fn a_server_cannot_take_a_name_that_was_given_to_another_of_its_tools() {
        let labels = labels(&[("create", alias("open"))]);
        assert_eq!(names(&labels, &list(&["open", "create"])), [("open".into(), "create".into())]);
        // Names may be exchanged.
        let crossed = self::labels(&[("a", alias("b")), ("b", alias("a"))]);
        assert_eq!(names(&crossed, &list(&["a", "b"])), [("b".into(), "a".into()), ("a".into(), "b".into())]);
        // An alias of what the server does not have is nobody's.
        assert_eq!(names(&labels, &list(&["open"])), [("open".into(), "open".into())]);
    }

    #[test]
    fn the_portals_label_lies_over_the_servers_part_by_part() {
        let server = labels(&[("a", Label { alias: Some("x".into()), description: Some("server's".into()), enabled: Some(false) })]);
        let portal = labels(&[("a", Label { enabled: Some(true), alias: Some("y".into()), description: None }), ("b", alias("z"))]);
        let both = portal.over(&server);
        assert_eq!(both.tools["a"], Label { alias: Some("y".into()), description: Some("server's".into()), enabled: Some(true) });
        assert_eq!(both.tools["b"], alias("z"));
    }

    #[test]
    fn a_description_is_replaced_and_all_else_stays_as_the_server_wrote_it() {
        let entry = list(&["a"]).remove(0);
        let label = Label { description: Some("ours \"quoted\"".into()), ..Label::default() };
        let text = written(Kind::Tool, "s_a", &entry, Some(&label));
        let tool: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(tool, json!({"name": "s_a", "description": "ours \"quoted\"", "inputSchema": {"type": "object"}}));
        assert_eq!(written(Kind::Tool, "a", &entry, None), entry.text);
    }
}
