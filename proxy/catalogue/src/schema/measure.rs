//! How large a schema is, and how far it unfolds: found out in time that is linear in its text.

use super::cost::{self, Edge, Graph, Size};
use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};
use std::collections::{HashMap, HashSet};

/// Most values of a schema's JSON.
pub(super) const MAX_NODES: usize = 20_000;
/// How deep it may nest, references followed.
pub(super) const MAX_DEPTH: usize = 128;
/// Most subschemas and keywords that apply to one value at once, references followed.
pub(super) const MAX_WEIGHT: u64 = 10_000;
/// Longest regular expression, bytes.
pub(super) const MAX_PATTERN: usize = 4096;

/// The cost of a schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// Steps that all of it takes, unfolded; `u64::MAX` where it refers to itself.
    total: u64,
    /// How deep it nests on one value.
    height: usize,
    /// The number of regular expressions.
    patterns: u64,
}

impl Measure {
    /// None if the schema has a reference to another document.
    ///
    /// # Errors
    /// If it costs more than its bound; in words for an operator.
    pub fn of(schema: &Value) -> Result<Option<Self>, SmolStr> {
        let graph = Graph::of(schema);
        if graph.nodes > MAX_NODES {
            return Err(format_smolstr!("its schema has more than {MAX_NODES} values"));
        }
        if graph.longest_pattern > MAX_PATTERN {
            return Err(format_smolstr!("its schema has a regular expression longer than {MAX_PATTERN} bytes"));
        }
        let mut walk = Walk { graph: &graph, open: HashSet::new(), at_one: HashMap::new(), whole: HashMap::new(), elsewhere: false };
        let whole = walk.whole(schema, 0)?;
        if walk.elsewhere {
            return Ok(None);
        }
        Ok(Some(Self { total: whole.total, height: whole.height, patterns: graph.patterns }))
    }

    /// Most steps that checking this value can take; none where only counting tells, or where it may nest deeper than `nesting`.
    pub fn bound(&self, value: &Value, nesting: usize) -> Option<u64> {
        let size = Size::of(value);
        // Each level of the value may go through all levels of the schema.
        if self.height.saturating_mul(size.depth) > nesting {
            return None;
        }
        let each = self.total.checked_mul(size.values)?;
        each.checked_add(self.patterns.checked_mul(size.text / 16)?)
    }
}

/// The unfolding of one subschema.
#[derive(Clone, Copy, Default)]
struct Unfolded {
    total: u64,
    height: usize,
}

struct Walk<'a> {
    graph: &'a Graph<'a>,
    /// The subschemas on the way to the current one.
    open: HashSet<*const Value>,
    /// The subschemas that apply to one value at once: weight and height.
    at_one: HashMap<*const Value, (u64, usize)>,
    whole: HashMap<*const Value, Unfolded>,
    elsewhere: bool,
}

impl<'a> Walk<'a> {
    fn too_deep(depth: usize) -> Result<(), SmolStr> {
        if depth > MAX_DEPTH {
            Err(format_smolstr!("its schema nests deeper than {MAX_DEPTH} levels, references followed"))
        } else {
            Ok(())
        }
    }

    /// All subschemas, for any value.
    fn whole(&mut self, schema: &'a Value, depth: usize) -> Result<Unfolded, SmolStr> {
        Self::too_deep(depth)?;
        let key: *const Value = schema;
        if let Some(known) = self.whole.get(&key) {
            return Ok(*known);
        }
        if self.open.contains(&key) {
            return Ok(Unfolded { total: u64::MAX, height: 0 });
        }
        let within = std::mem::take(&mut self.open);
        let (weight, height) = self.at_one(schema, 0)?;
        self.open = within;
        if weight > MAX_WEIGHT {
            return Err(format_smolstr!("its schema unfolds to more than {MAX_WEIGHT} subschemas for one value"));
        }
        self.open.insert(key);
        let mut unfolded = Unfolded { total: cost::own(schema), height };
        let edges = self.edges(schema);
        for (_, next) in edges {
            let next = self.whole(next, depth + 1)?;
            unfolded.total = unfolded.total.saturating_add(next.total.saturating_mul(cost::factor(schema)));
            unfolded.height = unfolded.height.max(next.height);
        }
        self.open.remove(&key);
        self.whole.insert(key, unfolded);
        Ok(unfolded)
    }

    /// Unfolds the subschemas that apply to one and the same value.
    fn at_one(&mut self, schema: &'a Value, depth: usize) -> Result<(u64, usize), SmolStr> {
        Self::too_deep(depth)?;
        let key: *const Value = schema;
        if let Some(known) = self.at_one.get(&key) {
            return Ok(*known);
        }
        if !self.open.insert(key) {
            return Err("its schema applies itself to the same value again, without end".into());
        }
        let (mut weight, mut height) = (cost::own(schema), 0);
        for (edge, next) in self.edges(schema) {
            if edge == Edge::Same {
                let (its, below) = self.at_one(next, depth + 1)?;
                weight = weight.saturating_add(its.saturating_mul(cost::factor(schema)));
                height = height.max(below);
            }
        }
        self.open.remove(&key);
        self.at_one.insert(key, (weight, height + 1));
        Ok((weight, height + 1))
    }

    fn edges(&mut self, schema: &'a Value) -> Vec<(Edge, &'a Value)> {
        let (edges, elsewhere) = self.graph.edges(schema);
        self.elsewhere |= elsewhere;
        edges
    }
}
