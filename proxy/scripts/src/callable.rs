//! The tools of a caller by the names that JavaScript can call them by.

use crate::shelf::{Approved, Shelved};
use bytes::Bytes;
use gnomon_access::{Caller, Policy};
use gnomon_codemode::{Index, Names};
use gnomon_lists::{
    identifiers::Identifier,
    view::{Exposed, View},
};
use gnomon_upstream::{
    catalogue::{Kind, Listed},
    members::Members,
    rpc::quoted,
};
use parking_lot::Mutex;
use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, OnceLock},
};

/// Most bytes of tools that `codemode.tools()` tells in full: as values they take a script many times as much.
const WHOLE: usize = 2 << 20;

/// Most characters of the line that says what a tool is for.
const MOST_OF_A_SUMMARY: usize = 160;

/// The amount of a tool's description that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// The description as its server wrote it.
    Whole,
    /// For an operation of a document: the beginning of its description, names and types of its arguments.
    Brief,
    /// A line that says how to call it and one that says what for, before all else.
    Found,
    /// Two lines only.
    Line,
}

/// A portal's stock for scripts of all callers: its tools, and the saved snippets that were approved.
struct Stock {
    view: Arc<View>,
    approved: Approved,
    /// The index, made on first use; of tools alone it is the view's own.
    index: OnceLock<Index>,
}

impl Stock {
    /// Finds tools and, numbered after them, snippets.
    fn index(&self) -> &Index {
        if self.approved.is_empty() {
            return self.view.index();
        }
        self.index.get_or_init(|| self.view.index_with(self.approved.iter().map(|shelved| (&shelved.callable, &shelved.entry.text))))
    }
}

/// A tool or a snippet, in its description for scripts.
#[derive(Clone, Copy)]
pub(crate) enum Offered<'a> {
    Tool(&'a Exposed),
    Snippet(&'a Shelved),
}

impl Offered<'_> {
    /// Its description, JSON.
    pub fn text(&self) -> &Bytes {
        match self {
            Offered::Tool(exposed) => &exposed.text,
            Offered::Snippet(shelved) => &shelved.entry.text,
        }
    }

    fn brief(&self) -> Option<&Bytes> {
        match self {
            Offered::Tool(exposed) => exposed.brief.as_ref(),
            Offered::Snippet(_) => None,
        }
    }
}

/// The tools and snippets that a caller may call.
pub(crate) struct Callable {
    stock: Arc<Stock>,
    /// The name of each tool of the view; none where the caller may not know of it.
    names: Vec<Option<SmolStr>>,
    places: HashMap<SmolStr, usize>,
    /// The snippets, by their places in the stock.
    snippets: HashMap<SmolStr, usize>,
    known: OnceLock<Names>,
}

/// The number of callers whose tools are remembered.
const CALLERS: usize = 8;

/// The tools of the callers that came last: policy is asked about each tool for each caller, and there may be thousands.
#[derive(Default)]
pub(crate) struct Callables(Mutex<VecDeque<Kept>>);

struct Kept {
    caller: Caller,
    policy: Arc<Policy>,
    callable: Arc<Callable>,
}

impl Callables {
    /// The tools and snippets that this caller may call among those shown, as far as `may_know` says that policy lets them know of it.
    pub fn of(
        &self,
        (view, approved, policy): (Arc<View>, Approved, Arc<Policy>),
        caller: &Caller,
        may_know: impl Fn(&Policy, Offered<'_>) -> bool,
    ) -> Arc<Callable> {
        let kept = || self.0.lock();
        let found = {
            let mut kept = kept();
            let is_stock = |stock: &Stock| Arc::ptr_eq(&stock.view, &view) && Arc::ptr_eq(&stock.approved, &approved);
            kept.retain(|kept| Arc::ptr_eq(&kept.policy, &policy) && is_stock(&kept.callable.stock));
            kept.iter().find(|kept| kept.caller == *caller).map(|kept| kept.callable.clone())
        };
        found.unwrap_or_else(|| {
            let shared = kept().front().map(|kept| kept.callable.stock.clone());
            let is_current = |stock: &Arc<Stock>| Arc::ptr_eq(&stock.view, &view) && Arc::ptr_eq(&stock.approved, &approved);
            let stock = shared.filter(is_current);
            let stock = stock.unwrap_or_else(|| Arc::new(Stock { view, approved, index: OnceLock::new() }));
            let callable = Arc::new(Callable::of(stock, |offered| may_know(&policy, offered)));
            let mut kept = kept();
            kept.truncate(CALLERS - 1);
            kept.push_front(Kept { caller: caller.clone(), policy, callable: callable.clone() });
            callable
        })
    }
}

impl Callable {
    fn of(stock: Arc<Stock>, may_know: impl Fn(Offered<'_>) -> bool) -> Self {
        let tools = stock.view.all(Kind::Tool);
        let identifiers = stock.view.identifiers().iter().zip(tools);
        let known: Vec<Option<&Identifier>> =
            identifiers.map(|(identifier, exposed)| may_know(Offered::Tool(exposed)).then_some(identifier)).collect();
        let mut wanted: HashMap<&SmolStr, usize> = HashMap::new();
        for identifier in known.iter().flatten().filter(|identifier| identifier.shared) {
            *wanted.entry(&identifier.plain).or_default() += 1;
        }
        let name = |(exposed, identifier): (&Arc<Exposed>, &Option<&Identifier>)| {
            let Identifier { plain, shared } = identifier.as_ref()?;
            let alone = !shared || wanted.get(plain) == Some(&1) && !gnomon_codemode::RESERVED.contains(&plain.as_str());
            // Neither of two that would be called alike gets the name: which one was meant could not be told.
            Some(if alone { plain.clone() } else { format_smolstr!("{plain}_{:08x}", fnv(exposed.name.as_bytes())) })
        };
        let mut names: Vec<Option<SmolStr>> = tools.iter().zip(&known).map(name).collect();
        let mut snippets = HashMap::new();
        for (place, shelved) in stock.approved.iter().enumerate().filter(|(_, shelved)| may_know(Offered::Snippet(shelved))) {
            // Snippets for a narrower audience come first.
            snippets.entry(shelved.callable.clone()).or_insert(place);
        }
        // A server cannot redefine a name that was approved for a snippet.
        for name in names.iter_mut().filter(|name| name.as_ref().is_some_and(|name| snippets.contains_key(name))) {
            *name = None;
        }
        let places = unambiguous(&mut names);
        Self { names, places, snippets, stock, known: OnceLock::new() }
    }

    /// The snippet of that name.
    pub fn snippet(&self, name: &str) -> Option<&Arc<Shelved>> {
        self.stock.approved.get(*self.snippets.get(name)?)
    }

    /// The tool or snippet of that name.
    pub fn offered(&self, name: &str) -> Option<Offered<'_>> {
        match self.snippet(name) {
            Some(shelved) => Some(Offered::Snippet(shelved)),
            None => self.get(name).map(|exposed| Offered::Tool(exposed)),
        }
    }

    /// The tool of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Exposed>> {
        self.stock.view.all(Kind::Tool).get(*self.places.get(name)?)
    }

    /// The name that a portal's client would use for a name that is unknown here: that of a tool hidden from its caller, if there is one.
    pub fn outside(&self, name: &str) -> SmolStr {
        let plain = name.replace(['-', '.', '/', ' '], "_");
        let view = &self.stock.view;
        let tools = view.identifiers().iter().zip(view.all(Kind::Tool)).zip(&self.names);
        let mut hidden = tools.filter(|(_, known)| known.is_none()).map(|(tool, _)| tool);
        let found = hidden.find(|(identifier, exposed)| identifier.plain == plain || exposed.name == name);
        found.map_or_else(|| SmolStr::new(name), |(_, exposed)| exposed.name.clone())
    }

    /// All names, also of unlisted tools: calling one fails with a reason.
    pub fn names(&self) -> &Names {
        self.known.get_or_init(|| Names::new(self.names.iter().flatten().chain(self.snippets.keys())))
    }

    /// All tools with their names, in the order of the lists, and all snippets.
    pub fn all(&self) -> impl Iterator<Item = (&SmolStr, Offered<'_>)> {
        let tools = self.names.iter().zip(self.stock.view.all(Kind::Tool));
        let tools = tools.filter_map(|(name, exposed)| Some((name.as_ref().filter(|_| is_told(exposed))?, Offered::Tool(exposed))));
        let is_known = |(place, shelved): &(usize, &Arc<Shelved>)| self.snippets.get(&shelved.callable) == Some(place);
        let snippets = self.stock.approved.iter().enumerate().filter(is_known);
        tools.chain(snippets.map(|(_, shelved)| (&shelved.callable, Offered::Snippet(shelved))))
    }

    /// The tool or snippet at this place of the index, if its caller may know of it and it is listed.
    fn at(&self, place: usize) -> Option<(&SmolStr, Offered<'_>)> {
        let tools = self.stock.view.all(Kind::Tool);
        if let Some(tool) = tools.get(place) {
            return Some((self.names.get(place)?.as_ref().filter(|_| is_told(tool))?, Offered::Tool(tool)));
        }
        let place = place - tools.len();
        let shelved = self.stock.approved.get(place)?;
        (self.snippets.get(&shelved.callable) == Some(&place)).then_some((&shelved.callable, Offered::Snippet(shelved)))
    }

    /// The tools and snippets that fit these words best, the best first.
    pub fn ranked(
        &self,
        query: &str,
        limit: usize,
        is_meant: impl Fn(Offered<'_>) -> bool,
    ) -> impl Iterator<Item = (&SmolStr, Offered<'_>)> {
        let hits = self.stock.index().search(query, limit, |place| self.at(place).is_some_and(|(_, offered)| is_meant(offered)));
        hits.into_iter().filter_map(|hit| self.at(hit.entry))
    }

    /// How much `codemode.tools()` shows of each tool: all, or if that is more than [`WHOLE`] bytes, less of those that come in thousands.
    pub fn detail(&self) -> Detail {
        let bytes = |(name, offered): (&SmolStr, Offered<'_>)| match offered {
            Offered::Tool(exposed) => name.len() + exposed.entry.text.len() + 64,
            Offered::Snippet(shelved) => name.len() + shelved.entry.text.len() + 64,
        };
        let bytes: usize = self.all().map(bytes).sum();
        if bytes > WHOLE { Detail::Brief } else { Detail::Whole }
    }

    /// The description of a tool of this server, JSON.
    pub fn told(server: &str, name: &str, offered: Offered<'_>, detail: Detail) -> Vec<u8> {
        let mut text = format!("{{\"name\":{}", quoted(name)).into_bytes();
        let said = offered.brief().filter(|_| detail == Detail::Brief).unwrap_or(offered.text());
        let members = Members::read(said).ok();
        if let (Detail::Found | Detail::Line, Some(members)) = (detail, &members) {
            let described = members.text("description").unwrap_or_default();
            let summary: String = gnomon_codemode::summary(&described).trim().chars().take(MOST_OF_A_SUMMARY).collect();
            let input: Value = members.get("inputSchema").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
            let output: Option<Value> = members.get("outputSchema").and_then(|json| serde_json::from_str(json).ok());
            let signature = gnomon_codemode::signature(name, &input, output.as_ref());
            text.extend_from_slice(format!(",\"signature\":{},\"summary\":{}", quoted(&signature), quoted(&summary)).as_bytes());
        }
        text.extend_from_slice(format!(",\"server\":{}", quoted(server)).as_bytes());
        for key in ["description", "inputSchema", "outputSchema", "annotations"].iter().filter(|_| detail != Detail::Line) {
            if let Some(json) = members.as_ref().and_then(|members| members.get(key)) {
                text.extend_from_slice(format!(",\"{key}\":{json}").as_bytes());
            }
        }
        text.push(b'}');
        text
    }
}

/// True if it is listed for scripts.
fn is_told(exposed: &Exposed) -> bool {
    !matches!(exposed.entry.listed(), Listed::Nowhere(_))
}

/// Removes duplicate names, and returns the places of the others. A server that knows how endings are made could give a tool the
/// name that another's ending makes; then neither can be called, rather than the wrong one.
fn unambiguous(names: &mut [Option<SmolStr>]) -> HashMap<SmolStr, usize> {
    let mut places = HashMap::with_capacity(names.len());
    let mut twice = Vec::new();
    for (place, name) in names.iter().enumerate() {
        if let Some(name) = name
            && places.insert(name.clone(), place).is_some()
        {
            twice.push(name.clone());
        }
    }
    for gone in twice {
        places.remove(&gone);
        names.iter_mut().for_each(|name| drop(name.take_if(|name| *name == gone)));
    }
    places
}

/// FNV-1a, 32 bits: tells names apart that look alike as identifiers.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_another_tool_forged_is_nobodys() {
        let mut names = ["a_b_1", "c", "a_b_1"].map(|name| Some(SmolStr::new(name)));
        let places = unambiguous(&mut names);
        assert_eq!(names, [None, Some("c".into()), None]);
        assert_eq!(places, HashMap::from([("c".into(), 1)]));
    }
}
