//! Labels of tools and prompts: other names, other descriptions, or hidden.

use crate::{Check, raw};
use gnomon_access::yaml::hint;
use gnomon_portal::{LONGEST_ALIAS, Label, Labels};
use serde_json::{Map, Value, json};
use serde_saphyr::Spanned;
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Longest description, bytes.
const LONGEST_DESCRIPTION: usize = 8192;

impl Check<'_> {
    /// Labels of a server's tools and prompts.
    fn labels(&mut self, labels: raw::Labels) -> Labels {
        Labels { tools: self.labels_of(labels.tools), prompts: self.labels_of(labels.prompts) }
    }

    pub(crate) fn labels_of(&mut self, labels: BTreeMap<String, Spanned<raw::Label>>) -> HashMap<SmolStr, Label> {
        let mut aliases = HashSet::new();
        let mut known = HashMap::with_capacity(labels.len());
        for (name, Spanned { referenced: place, value: label, .. }) in labels {
            let alias = label.alias.and_then(|alias| {
                if !is_alias(&alias.value) {
                    let cause = format!(
                        "`{}` is not a valid alias: use letters and digits with single `_` or `-` between them, at most {LONGEST_ALIAS}",
                        alias.value
                    );
                    return self.refused(alias.referenced, cause);
                }
                if !aliases.insert(alias.value.clone()) {
                    return self.refused(alias.referenced, format!("the alias `{}` is listed twice; change one", alias.value));
                }
                Some(SmolStr::new(alias.value))
            });
            let description = label.description.and_then(|description| {
                if description.value.is_empty() || description.value.len() > LONGEST_DESCRIPTION {
                    let cause = format!("a description has 1 to {LONGEST_DESCRIPTION} bytes, this one {}", description.value.len());
                    return self.refused(description.referenced, cause);
                }
                Some(description.value)
            });
            let label = Label { alias, description, enabled: label.enabled };
            if label == Label::default() {
                self.refuse(place, format!("`{name}` has no settings: name an `alias`, a `description`, or `enabled: false`"));
            }
            known.insert(SmolStr::new(name), label);
        }
        known
    }

    /// The labels of a portal, laid over those of the servers' own entries, which come by id.
    pub(crate) fn overrides<'s>(
        &mut self,
        overrides: BTreeMap<String, Spanned<raw::Labels>>,
        offered: &[String],
        servers: impl Iterator<Item = (&'s str, &'s Labels)>,
    ) -> HashMap<SmolStr, Labels> {
        let mut all: HashMap<SmolStr, Labels> = servers
            .filter(|(id, labels)| offered.iter().any(|offered| offered == id) && **labels != Labels::default())
            .map(|(id, labels)| (SmolStr::new(id), labels.clone()))
            .collect();
        for (id, Spanned { referenced: place, value: labels, .. }) in overrides {
            if !offered.contains(&id) {
                let ids: Vec<&str> = offered.iter().map(String::as_str).collect();
                self.refuse(place, format!("this portal offers no server `{id}`{}", hint(&id, &ids)));
            }
            let labels = self.labels(labels);
            let both = all.get(id.as_str()).map_or_else(|| labels.clone(), |server| labels.over(server));
            for kind in [&both.tools, &both.prompts] {
                let mut aliases = HashSet::new();
                let mut given: Vec<&SmolStr> = kind.values().filter_map(|label| label.alias.as_ref()).collect();
                given.sort_unstable();
                for alias in given.into_iter().filter(|alias| !aliases.insert(*alias)) {
                    self.refuse(
                        place,
                        format!("together with what `servers` says of `{id}`, the alias `{alias}` is used twice; change one"),
                    );
                }
            }
            all.insert(id.into(), both);
        }
        all
    }
}

/// `^[a-zA-Z0-9]+([_-][a-zA-Z0-9]+)*$`, at most 40 characters.
fn is_alias(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
    text.len() <= LONGEST_ALIAS && text.split(['_', '-']).all(is_part)
}

/// The labels of tools and of prompts as `gnomon config show` prints them; a key without any is left out.
pub(crate) fn show(labels: &Labels) -> Map<String, Value> {
    let kinds = [("tools", &labels.tools), ("prompts", &labels.prompts)];
    kinds.into_iter().filter_map(|(key, labels)| Some((key.to_owned(), of_kind(labels)?))).collect()
}

fn of_kind(labels: &HashMap<SmolStr, Label>) -> Option<Value> {
    let label = |label: &Label| json!({"alias": label.alias, "description": label.description, "enabled": label.enabled});
    let said = |mut value: Value| {
        if let Some(members) = value.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
        value
    };
    let mut names: Vec<&SmolStr> = labels.keys().collect();
    names.sort_unstable();
    let all: Map<String, Value> = names.into_iter().map(|name| (name.to_string(), said(label(&labels[name])))).collect();
    (!all.is_empty()).then_some(Value::Object(all))
}
