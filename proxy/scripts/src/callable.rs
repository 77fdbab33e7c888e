//! The tools of a caller by the names that JavaScript can call them by.

use gnomon_access::{Caller, Policy};
use gnomon_codemode::Names;
use gnomon_lists::{
    identifiers::Identifier,
    view::{Exposed, View},
};
use gnomon_upstream::{
    catalogue::{Kind, Listed},
    members::Members,
    rpc::quoted,
};
use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Most bytes of tools that `codemode.tools()` tells in full: as values they take a script many times as much.
const WHOLE: usize = 2 << 20;

/// Most characters of the line that says what a tool is for.
const MOST_OF_A_SUMMARY: usize = 160;

/// How much is told of a tool.
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

/// The tools that a caller may call.
pub(crate) struct Callable {
    view: Arc<View>,
    /// The name of each tool of the view; none where the caller may not know of it.
    names: Vec<Option<SmolStr>>,
    places: HashMap<SmolStr, usize>,
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
    /// The tools that this caller may call among those shown, as far as `may_know` says that policy lets them know of it.
    pub fn of(
        &self,
        (view, policy): (Arc<View>, Arc<Policy>),
        caller: &Caller,
        may_know: impl Fn(&Policy, &Exposed) -> bool,
    ) -> Arc<Callable> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = {
            let mut kept = kept();
            kept.retain(|kept| Arc::ptr_eq(&kept.policy, &policy) && Arc::ptr_eq(&kept.callable.view, &view));
            kept.iter().find(|kept| kept.caller == *caller).map(|kept| kept.callable.clone())
        };
        found.unwrap_or_else(|| {
            let callable = Arc::new(Callable::of(view, |exposed| may_know(&policy, exposed)));
            let mut kept = kept();
            kept.truncate(CALLERS - 1);
            kept.push_front(Kept { caller: caller.clone(), policy, callable: callable.clone() });
            callable
        })
    }
}

impl Callable {
    fn of(view: Arc<View>, may_know: impl Fn(&Exposed) -> bool) -> Self {
        let tools = view.all(Kind::Tool);
        let known: Vec<Option<&Identifier>> =
            view.identifiers().iter().zip(tools).map(|(identifier, exposed)| may_know(exposed).then_some(identifier)).collect();
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
        let places = unambiguous(&mut names);
        Self { names, places, view, known: OnceLock::new() }
    }

    /// The tool of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Exposed>> {
        self.view.all(Kind::Tool).get(*self.places.get(name)?)
    }

    /// What a portal's client would write for a name that is none here: what its caller may not know of, where there is such a tool.
    pub fn outside(&self, name: &str) -> SmolStr {
        let plain = name.replace(['-', '.', '/', ' '], "_");
        let tools = self.view.identifiers().iter().zip(self.view.all(Kind::Tool)).zip(&self.names);
        let mut hidden = tools.filter(|(_, known)| known.is_none()).map(|(tool, _)| tool);
        let found = hidden.find(|(identifier, exposed)| identifier.plain == plain || exposed.name == name);
        found.map_or_else(|| SmolStr::new(name), |(_, exposed)| exposed.name.clone())
    }

    /// All names, also of what is on no list: whoever calls that is told why.
    pub fn names(&self) -> &Names {
        self.known.get_or_init(|| Names::new(self.names.iter().flatten()))
    }

    /// All tools with their names, in the order of the lists.
    pub fn tools(&self) -> impl Iterator<Item = (&SmolStr, &Arc<Exposed>)> {
        self.names
            .iter()
            .zip(self.view.all(Kind::Tool))
            .filter_map(|(name, exposed)| Some((name.as_ref().filter(|_| is_told(exposed))?, exposed)))
    }

    /// The tools that fit these words best, the best first.
    pub fn ranked(
        &self,
        query: &str,
        limit: usize,
        is_meant: impl Fn(&Exposed) -> bool,
    ) -> impl Iterator<Item = (&SmolStr, &Arc<Exposed>)> {
        let tools = self.view.all(Kind::Tool);
        let known = |place: usize| {
            self.names.get(place).is_some_and(Option::is_some) && tools.get(place).is_some_and(|tool| is_told(tool) && is_meant(tool))
        };
        let hits = self.view.index().search(query, limit, known);
        hits.into_iter().filter_map(|hit| Some((self.names.get(hit.entry)?.as_ref()?, self.view.all(Kind::Tool).get(hit.entry)?)))
    }

    /// How much `codemode.tools()` tells of each: all, or where that is more than [`WHOLE`] bytes, less of what comes in thousands.
    pub fn detail(&self) -> Detail {
        let bytes: usize = self.tools().map(|(name, exposed)| name.len() + exposed.entry.text.len() + 64).sum();
        if bytes > WHOLE { Detail::Brief } else { Detail::Whole }
    }

    /// The description of a tool of this server, JSON.
    pub fn told(server: &str, name: &str, exposed: &Exposed, detail: Detail) -> Vec<u8> {
        let mut text = format!("{{\"name\":{}", quoted(name)).into_bytes();
        let said = exposed.brief.as_ref().filter(|_| detail == Detail::Brief).unwrap_or(&exposed.text);
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

/// Whether scripts are told of it.
fn is_told(exposed: &Exposed) -> bool {
    !matches!(exposed.entry.listed(), Listed::Nowhere(_))
}

/// Takes away names that stand twice, and gives the places of the others. Whoever knows how endings are made could give a tool the
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
