//! What servers offer: tools, prompts, resources and templates, each entry as the server wrote it.

use crate::{
    members::Members,
    mirror::{self, Mirrored, Unusable},
    rpc::RpcError,
};
use bytes::Bytes;
use gnomon_access::{Capability, Hints};
use serde_json::{Value, value::RawValue};
use smol_str::SmolStr;
use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
};

/// Most entries of one kind that are kept of one server.
pub const MAX_ENTRIES: usize = 10_000;
/// Most pages that a list is fetched in.
pub const MAX_PAGES: usize = 200;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Can be called.
    Tool,
    /// Can be asked for.
    Prompt,
    /// Can be read.
    Resource,
    /// Makes resources' URIs.
    Template,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tool, Self::Prompt, Self::Resource, Self::Template];

    /// The method that lists them.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self {
            Self::Tool => "tools/list",
            Self::Prompt => "prompts/list",
            Self::Resource => "resources/list",
            Self::Template => "resources/templates/list",
        }
    }

    /// The key of the list in its result.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Resource => "resources",
            Self::Template => "resourceTemplates",
        }
    }

    /// The key that names an entry.
    #[must_use]
    pub fn named_by(self) -> &'static str {
        match self {
            Self::Tool | Self::Prompt => "name",
            Self::Resource => "uri",
            Self::Template => "uriTemplate",
        }
    }

    /// The capability that a server has who has such entries.
    #[must_use]
    pub fn capability(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Resource | Self::Template => "resources",
        }
    }

    /// As policy knows it.
    #[must_use]
    pub fn asked(self) -> Capability {
        match self {
            Self::Tool => Capability::Tool,
            Self::Prompt => Capability::Prompt,
            Self::Resource => Capability::Resource,
            Self::Template => Capability::ResourceTemplate,
        }
    }

    /// The kind that a method lists.
    #[must_use]
    pub fn listed_by(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.method() == method)
    }
}

/// Who wrote an entry, and where it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its server lists it, so everything does.
    Server,
    /// A document describes it: what it says of results is no promise.
    Document(Listed),
}

/// Where an operation of a document is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Everywhere.
    Everywhere,
    /// For scripts of Code Mode: there may be thousands.
    InCodeMode,
    /// Nowhere; whoever calls it is told why.
    Nowhere(SmolStr),
}

/// One entry.
pub struct Entry {
    /// The server's own name for it, or its URI.
    pub name: SmolStr,
    /// As the server wrote it, JSON.
    pub text: Bytes,
    /// Of a tool.
    pub hints: Hints,
    /// Who wrote it.
    pub origin: Origin,
    /// In fewer words, where it is one of very many, JSON.
    pub brief: Option<Bytes>,
    checks: OnceLock<Checks>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Checks {
    input: Option<jsonschema::Validator>,
    output: Option<jsonschema::Validator>,
    mirrored: Vec<Mirrored>,
}

impl Entry {
    fn read(kind: Kind, text: &RawValue) -> Option<Self> {
        let members = Members::read(text.get().as_bytes()).ok()?;
        let name = members.text(kind.named_by()).filter(|name| !name.is_empty())?;
        let annotations = members.object("annotations").unwrap_or_default();
        let hints = Hints { read_only: annotations.flag("readOnlyHint"), destructive: annotations.flag("destructiveHint") };
        let text = Bytes::copy_from_slice(text.get().as_bytes());
        Some(Self { name: SmolStr::new(name), text, hints, origin: Origin::Server, brief: None, checks: OnceLock::new() })
    }

    /// A tool that stands for an operation of a document; `text` is a tool as MCP lists it.
    pub(crate) fn of_document(name: SmolStr, (text, brief): (Bytes, Bytes), hints: Hints, listed: Listed) -> Self {
        Self { name, text, hints, origin: Origin::Document(listed), brief: Some(brief), checks: OnceLock::new() }
    }

    /// Where it is listed.
    #[must_use]
    pub fn listed(&self) -> &Listed {
        match &self.origin {
            Origin::Server => &Listed::Everywhere,
            Origin::Document(listed) => listed,
        }
    }

    /// Compiled when it is first called: most tools never are.
    fn checks(&self) -> &Checks {
        self.checks.get_or_init(|| {
            let tool: Value = serde_json::from_slice(&self.text).unwrap_or_default();
            let input = tool.get("inputSchema");
            Checks {
                input: input.and_then(validator),
                output: tool.get("outputSchema").filter(|_| self.origin == Origin::Server).and_then(validator),
                mirrored: input.and_then(|input| mirror::annotations(input).ok()).unwrap_or_default(),
            }
        })
    }

    /// The arguments that headers mirror.
    #[must_use]
    pub fn mirrored(&self) -> &[Mirrored] {
        &self.checks().mirrored
    }

    /// Why clients of the stateless era may not use the tool, if so: it says wrongly which arguments headers mirror.
    #[must_use]
    pub fn unusable(&self) -> Option<Unusable> {
        // Most tools have none.
        memchr::memmem::find(&self.text, b"x-mcp-header")?;
        let tool: Value = serde_json::from_slice(&self.text).ok()?;
        mirror::annotations(tool.get("inputSchema")?).err()
    }

    /// Whether arguments are checked at all.
    #[must_use]
    pub fn has_schema(&self) -> bool {
        self.checks().input.is_some()
    }

    /// Checks a call's arguments against the tool's input schema.
    ///
    /// # Errors
    /// [`crate::rpc::INVALID_PARAMS`] that says what does not fit, without repeating values.
    pub fn check_arguments(&self, arguments: &Value) -> Result<(), RpcError> {
        let Some(schema) = &self.checks().input else { return Ok(()) };
        complaint(schema, arguments).map_or(Ok(()), |what| {
            Err(RpcError::new(crate::rpc::INVALID_PARAMS, format!("the arguments do not fit the tool's input schema: {what}")))
        })
    }

    /// What is wrong with a result's `structuredContent` by the tool's output schema, if anything.
    #[must_use]
    pub fn wrong_output(&self, structured: &Value) -> Option<String> {
        self.checks().output.as_ref().and_then(|schema| complaint(schema, structured))
    }

    /// Whether results are checked at all.
    #[must_use]
    pub fn has_output_schema(&self) -> bool {
        self.checks().output.is_some()
    }
}

/// A schema that cannot be compiled (it refers to what is elsewhere, say, which is never fetched) checks nothing.
fn validator(schema: &Value) -> Option<jsonschema::Validator> {
    jsonschema::options().build(schema).ok()
}

/// The first thing that does not fit: where, and which rule it breaks; never the value.
fn complaint(schema: &jsonschema::Validator, value: &Value) -> Option<String> {
    if schema.is_valid(value) {
        return None;
    }
    let error = schema.iter_errors(value).next()?;
    let place = error.instance_path().to_string();
    let place = if place.is_empty() { "the object itself".to_owned() } else { format!("`{place}`") };
    let text: String = error.masked().to_string().chars().filter(|c| !c.is_control()).take(200).collect();
    Some(format!("{place}: {text}"))
}

/// What one server offers.
#[derive(Debug, Default, Clone)]
pub struct Lists {
    entries: [Vec<Arc<Entry>>; 4],
    /// Counts changes.
    pub generation: u64,
}

impl Lists {
    /// The entries of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &[Arc<Entry>] {
        &self.entries[kind as usize]
    }

    /// With another list of one kind.
    #[must_use]
    pub fn with(&self, kind: Kind, entries: Vec<Arc<Entry>>) -> Self {
        let mut lists = self.clone();
        lists.entries[kind as usize] = entries;
        lists.generation += 1;
        lists
    }
}

/// One page of a list.
pub struct Page {
    /// Its entries. Of two with one name the first counts, and what has no name is left out.
    pub entries: Vec<Arc<Entry>>,
    /// Where the next page begins.
    pub next: Option<String>,
}

impl Page {
    /// Reads the result of a list method.
    ///
    /// # Errors
    /// Says in a few words what is wrong with it.
    pub fn read(kind: Kind, result: &[u8]) -> Result<Self, String> {
        let members = Members::read(result).map_err(|error| error.to_string())?;
        let list = members.get(kind.key()).ok_or_else(|| format!("`{}` is missing", kind.key()))?;
        let list: Vec<&RawValue> = serde_json::from_str(list).map_err(|_| format!("`{}` is no list", kind.key()))?;
        let entries = list.into_iter().filter_map(|raw| Entry::read(kind, raw)).map(Arc::new).collect();
        Ok(Self { entries, next: members.text("nextCursor").map(std::borrow::Cow::into_owned) })
    }

    /// Puts pages together.
    #[must_use]
    pub fn joined(pages: Vec<Self>) -> Vec<Arc<Entry>> {
        let mut names = HashSet::new();
        let entries = pages.into_iter().flat_map(|page| page.entries);
        entries.filter(|entry| names.insert(entry.name.clone())).take(MAX_ENTRIES).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tool(schema: &Value) -> Arc<Entry> {
        let page = json!({"tools": [{"name": "t", "inputSchema": schema, "vendor": {"x": 1}}]}).to_string();
        Page::read(Kind::Tool, page.as_bytes()).unwrap().entries.remove(0)
    }

    #[test]
    fn entries_keep_what_their_server_wrote() {
        let page = Page::read(
            Kind::Tool,
            br#"{"tools":[{"name":"a","inputSchema":{},"x-vendor": 1e400},{"noname":1},{"name":"a"}],"nextCursor":"n"}"#,
        )
        .unwrap();
        assert_eq!((page.entries.len(), page.next.as_deref()), (2, Some("n")));
        assert_eq!(page.entries[0].text, r#"{"name":"a","inputSchema":{},"x-vendor": 1e400}"#);
        assert_eq!(Page::joined(vec![page]).len(), 1);
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused_without_being_repeated() {
        let tool =
            tool(&json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false}));
        assert_eq!(tool.check_arguments(&json!({"n": 1})), Ok(()));
        for wrong in [json!({}), json!({"n": "top secret"}), json!({"n": 1, "m": "top secret"}), json!([])] {
            let error = tool.check_arguments(&wrong).unwrap_err();
            assert!(error.code == crate::rpc::INVALID_PARAMS && !error.message.contains("top secret"), "{}", error.message);
        }
    }

    #[test]
    fn a_schema_that_refers_elsewhere_is_not_fetched() {
        let tool = tool(&json!({"$ref": "http://127.0.0.1:9/schema.json"}));
        assert!(!tool.has_schema());
        assert_eq!(tool.check_arguments(&json!({"anything": 1})), Ok(()));
    }
}
