//! The steps that checking one value against a schema takes at most: each subschema that applies to each part of the value,
//! without the short cuts that a validator may take.

use super::keywords::{Applies, Holds, keyword};
use gnomon_kit::percent;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// How deep a check may nest.
pub(super) const MAX_NESTING: usize = 2000;
/// Steps of a regular expression, besides those for the length of its text.
const PATTERN: u64 = 100;
/// How often what applies to the same value is looked at again to know what is left over (`unevaluated…`).
const AGAIN: u64 = 3;

/// The value to which a subschema applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// The same value.
    Same,
    /// A part of it.
    Part,
}

/// A schema with the targets that its references can have.
pub(super) struct Graph<'a> {
    root: &'a Value,
    /// Subschemas that are documents of their own, by their `$id`.
    documents: Vec<(&'a str, &'a Value)>,
    anchors: HashMap<&'a str, Vec<&'a Value>>,
    pub nodes: usize,
    pub patterns: u64,
    pub longest_pattern: usize,
}

impl<'a> Graph<'a> {
    pub fn of(root: &'a Value) -> Self {
        let (documents, anchors) = (Vec::new(), HashMap::new());
        let mut graph = Self { root, documents, anchors, nodes: 0, patterns: 0, longest_pattern: 0 };
        let mut left = vec![root];
        while let Some(value) = left.pop() {
            graph.nodes += 1;
            match value {
                Value::Object(members) => {
                    graph.note(value, members);
                    left.extend(members.values());
                }
                Value::Array(values) => left.extend(values),
                _ => {}
            }
        }
        graph
    }

    fn note(&mut self, value: &'a Value, members: &'a Map<String, Value>) {
        for key in ["$id", "id"] {
            if let Some(id) = members.get(key).and_then(Value::as_str) {
                self.documents.push((id, value));
            }
        }
        for key in ["$anchor", "$dynamicAnchor"] {
            if let Some(anchor) = members.get(key).and_then(Value::as_str) {
                self.anchors.entry(anchor).or_default().push(value);
            }
        }
        let named = members.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str);
        for pattern in members.get("pattern").and_then(Value::as_str).into_iter().chain(named) {
            self.patterns += 1;
            self.longest_pattern = self.longest_pattern.max(pattern.len());
        }
        if members.contains_key("format") {
            self.patterns += 1;
        }
    }

    /// The subschemas that a schema applies, and whether it refers to what is not in the document.
    pub fn edges(&self, schema: &'a Value) -> (Vec<(Edge, &'a Value)>, bool) {
        let Value::Object(members) = schema else { return (Vec::new(), false) };
        let (mut edges, mut elsewhere) = (Vec::new(), false);
        for (key, value) in members {
            let Some((holds, applies)) = keyword(key) else { continue };
            let edge = match applies {
                Applies::Nowhere => continue,
                Applies::ToValue => Edge::Same,
                _ => Edge::Part,
            };
            if holds != Holds::Reference {
                edges.extend(holds.within(value).map(|next| (edge, next)));
                continue;
            }
            match value.as_str().map(|reference| self.targets(reference)) {
                Some(targets) if !targets.is_empty() => edges.extend(targets.into_iter().map(|next| (edge, next))),
                _ => elsewhere = true,
            }
        }
        edges.retain(|(_, next)| next.is_object());
        (edges, elsewhere)
    }

    /// Everything that a reference could mean: several, where a document holds others.
    fn targets(&self, reference: &str) -> Vec<&'a Value> {
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let bases: Vec<&'a Value> = if document.is_empty() {
            let within = self.documents.iter().map(|(_, value)| *value).filter(|value| !std::ptr::eq(*value, self.root));
            [self.root].into_iter().chain(within).collect()
        } else {
            let last = |uri: &str| uri.trim_end_matches('#').rsplit('/').next().map(str::to_owned);
            self.documents.iter().filter(|(id, _)| last(id) == last(document)).map(|(_, value)| *value).collect()
        };
        let fragment = percent::decoded(fragment);
        match &*fragment {
            "" if document.is_empty() => vec![self.root],
            "" => bases,
            pointer if pointer.starts_with('/') => bases.into_iter().filter_map(|base| base.pointer(pointer)).collect(),
            anchor => {
                let given = self.anchors.get(anchor).cloned().unwrap_or_default();
                // Draft 7 and older: `$id: '#name'`.
                let older = self.documents.iter().filter(|(id, _)| id.strip_prefix('#') == Some(anchor)).map(|(_, value)| *value);
                given.into_iter().chain(older).collect()
            }
        }
    }
}

/// Steps of a schema's own keywords.
pub(super) fn own(schema: &Value) -> u64 {
    let Value::Object(members) = schema else { return 1 };
    let each = members.iter().map(|(key, value)| match (key.as_str(), value) {
        ("pattern" | "format", _) => PATTERN,
        ("patternProperties", Value::Object(patterns)) => PATTERN.saturating_mul(patterns.len() as u64),
        ("enum" | "required", Value::Array(values)) => 1 + values.len() as u64 / 8,
        _ => 1,
    });
    each.fold(1, u64::saturating_add)
}

/// The number of times that a schema's subschemas are evaluated.
pub(super) fn factor(schema: &Value) -> u64 {
    if ["unevaluatedProperties", "unevaluatedItems"].iter().any(|key| schema.get(key).is_some()) { AGAIN } else { 1 }
}

/// How large a value is.
pub(super) struct Size {
    pub values: u64,
    pub depth: usize,
    /// Bytes of its texts.
    pub text: u64,
}

impl Size {
    pub fn of(value: &Value) -> Self {
        let mut size = Self { values: 0, depth: 0, text: 0 };
        size.add(value, 1);
        size
    }

    /// Recursive, as what is read nests at most 128 levels.
    fn add(&mut self, value: &Value, depth: usize) {
        self.values += 1;
        self.depth = self.depth.max(depth);
        match value {
            Value::String(text) => self.text += text.len() as u64,
            Value::Array(values) => values.iter().for_each(|value| self.add(value, depth + 1)),
            Value::Object(members) => {
                for (name, value) in members {
                    self.text += name.len() as u64;
                    self.add(value, depth + 1);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// The steps of checking this value; none where there are more than `most`, or it nests deeper than `deepest`.
pub(super) fn steps(schema: &Value, value: &Value, most: u64, deepest: usize) -> Option<u64> {
    let mut count = Count { graph: Graph::of(schema), edges: HashMap::new(), left: most, deepest };
    count.visit(schema, value, 1, 0)?;
    Some(most - count.left)
}

struct Count<'a> {
    graph: Graph<'a>,
    edges: HashMap<*const Value, std::rc::Rc<[(Edge, &'a Value)]>>,
    left: u64,
    deepest: usize,
}

impl<'a> Count<'a> {
    fn take(&mut self, steps: u64) -> Option<()> {
        self.left = self.left.checked_sub(steps)?;
        Some(())
    }

    fn visit(&mut self, schema: &'a Value, value: &Value, times: u64, nesting: usize) -> Option<()> {
        let parts = match value {
            Value::Array(values) => values.len(),
            Value::Object(members) => members.len(),
            _ => 0,
        };
        let text = value.as_str().map_or(0, |text| text.len() as u64 / 16);
        self.take(times.checked_mul(own(schema).checked_add(text)?.checked_add(parts as u64)?)?)?;
        if nesting > self.deepest {
            return None;
        }
        let key: *const Value = schema;
        let edges = match self.edges.get(&key) {
            Some(known) => known.clone(),
            None => {
                let edges: std::rc::Rc<[_]> = self.graph.edges(schema).0.into();
                self.edges.insert(key, edges.clone());
                edges
            }
        };
        let times = times.checked_mul(factor(schema))?;
        for (edge, next) in edges.iter() {
            if *edge == Edge::Same {
                self.visit(next, value, times, nesting + 1)?;
            }
        }
        self.parts(schema, value, times, nesting + 1)
    }

    /// Adds the subschemas that apply to parts: by name where it says so, else to all of them.
    fn parts(&mut self, schema: &'a Value, value: &Value, times: u64, nesting: usize) -> Option<()> {
        let Value::Object(keywords) = schema else { return Some(()) };
        for (key, of) in keywords {
            let Some((holds, applies)) = keyword(key) else { continue };
            match (applies, value) {
                (Applies::ToMember, Value::Object(members)) => {
                    for (name, next) in of.as_object().into_iter().flatten() {
                        if let Some(part) = members.get(name) {
                            self.visit(next, part, times, nesting)?;
                        }
                    }
                }
                (Applies::ToMatching, Value::Object(members)) => {
                    for next in holds.within(of) {
                        for (name, part) in members {
                            self.take(times.checked_mul(PATTERN.checked_add(name.len() as u64)?)?)?;
                            self.visit(next, part, times, nesting)?;
                        }
                    }
                }
                (Applies::ToNames, Value::Object(members)) => {
                    for name in members.keys() {
                        self.visit(of, &Value::String(name.clone()), times, nesting)?;
                    }
                }
                (Applies::ToMembers, Value::Object(members)) => {
                    for part in members.values() {
                        self.visit(of, part, times, nesting)?;
                    }
                }
                (Applies::ToElements, Value::Array(values)) if holds.is_one(of) => {
                    for part in values {
                        self.visit(of, part, times, nesting)?;
                    }
                }
                (Applies::ToElements, Value::Array(values)) => {
                    for (next, part) in holds.within(of).zip(values) {
                        self.visit(next, part, times, nesting)?;
                    }
                }
                _ => {}
            }
        }
        Some(())
    }
}
