//! The entries that servers offer: tools, prompts, resources and templates, each as the server wrote it.

use crate::{
    left_out::{LeftOut, Reason},
    members::Members,
    mirror::{self, Mirrored, Unusable},
    naming,
    rpc::RpcError,
    schema::{Checker, Measure, Verdict},
    shape::{self, Fits},
};
use bytes::Bytes;
use gnomon_access::Hints;
use gnomon_observe::without_secrets;
use serde_json::{Value, value::RawValue};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
};

pub use crate::kind::Kind;

/// Most entries of one kind that are kept of one server.
pub const MAX_ENTRIES: usize = 10_000;
/// Most pages that a list is fetched in.
pub const MAX_PAGES: usize = 200;
/// Most bytes of one entry.
pub const MAX_ENTRY_BYTES: usize = 256 << 10;
/// Longest text of a schema that is not measured, where it has no references: it cannot unfold.
const UNMEASURED: usize = 8 << 10;
/// Most regular expressions of a schema that are logged as left out.
const MOST_TOLD: usize = 5;

/// The author of an entry, and with an operation of a document its listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The server itself, so it is on all lists.
    Server,
    /// A document describes it: what it says of results is no promise.
    Document(Listed),
}

/// The lists that an operation of a document is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Everywhere.
    Everywhere,
    /// Not listed, as there may be thousands: found by search.
    Searchable,
    /// Not listed and not callable, with the reason.
    Nowhere(SmolStr),
}

/// An entry of a list.
pub struct Entry {
    /// The server's own name for it, or its URI.
    pub name: SmolStr,
    /// The entry as the server wrote it, JSON.
    pub text: Bytes,
    /// The hints of a tool.
    pub hints: Hints,
    /// The author.
    pub origin: Origin,
    /// A shorter form where it is one of very many, JSON.
    pub brief: Option<Bytes>,
    /// The clients that can read it.
    pub fits: Fits,
    mirrored: OnceLock<Vec<Mirrored>>,
    input: OnceLock<Check>,
    output: OnceLock<Check>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How values are held against one of a tool's schemas.
enum Check {
    /// Not checked: there is no schema, or it refers to other documents.
    Nothing,
    By(Arc<Checker>),
    /// The schema costs more than its bound, or is none.
    Unusable(SmolStr),
}

impl Entry {
    /// Reads an entry, unless it is one of `known` as it was.
    fn read(kind: Kind, raw: &RawValue, known: &HashMap<SmolStr, Arc<Self>>) -> Result<Arc<Self>, LeftOut> {
        let text = raw.get();
        let out = |name: Option<&str>, reason, why: SmolStr| LeftOut { name: name.map(crate::left_out::named), reason, why };
        if text.len() > MAX_ENTRY_BYTES {
            return Err(out(None, Reason::Size, format_smolstr!("it is larger than {MAX_ENTRY_BYTES} bytes")));
        }
        let members =
            Members::read(text.as_bytes()).map_err(|_| out(None, Reason::Shape, "it is not an object of distinct members".into()))?;
        let name = members.text(kind.named_by());
        if let Some(old) = name.as_deref().and_then(|name| known.get(name)).filter(|old| old.text == text) {
            return Ok(old.clone());
        }
        let fits = shape::fits(kind, text, &members).map_err(|why| out(name.as_deref(), Reason::Shape, why))?;
        naming::fits(kind, &members).map_err(|why| out(name.as_deref(), Reason::Name, why))?;
        for schema in ["inputSchema", "outputSchema"] {
            affordable(members.get(schema).filter(|_| kind == Kind::Tool)).map_err(|why| out(name.as_deref(), Reason::Cost, why))?;
        }
        let name = name.ok_or_else(|| out(None, Reason::Shape, format_smolstr!("`{}` is missing", kind.named_by())))?;
        let annotations = members.object("annotations").unwrap_or_default();
        let hints = Hints::said(annotations.flag("readOnlyHint"), annotations.flag("destructiveHint"));
        Ok(Arc::new(Self { fits, ..Self::new(SmolStr::new(name), Bytes::copy_from_slice(text.as_bytes()), hints, Origin::Server, None) }))
    }

    fn new(name: SmolStr, text: Bytes, hints: Hints, origin: Origin, brief: Option<Bytes>) -> Self {
        let (mirrored, input, output) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { name, text, hints, origin, brief, fits: Fits::Both, mirrored, input, output }
    }

    /// A tool that stands for an operation of a document; `text` is a tool as MCP lists it.
    pub fn of_document(name: SmolStr, (text, brief): (Bytes, Bytes), hints: Hints, listed: Listed) -> Self {
        // As it is listed, without the document's output schema.
        let shown = Members::read(&text).unwrap_or_default().with(&[("outputSchema", None)]);
        let fits = Members::read(&shown).map_err(|error| error.to_smolstr());
        let fits = fits.and_then(|members| shape::fits(Kind::Tool, std::str::from_utf8(&shown).unwrap_or_default(), &members));
        let (fits, listed) = match fits {
            Ok(fits) => (fits, listed),
            Err(why) => (Fits::Both, Listed::Nowhere(why)),
        };
        Self { fits, ..Self::new(name, text, hints, Origin::Document(listed), Some(brief)) }
    }

    /// The lists that it is on.
    #[must_use]
    pub fn listed(&self) -> &Listed {
        match &self.origin {
            Origin::Server => &Listed::Everywhere,
            Origin::Document(listed) => listed,
        }
    }

    fn schema(&self, name: &str) -> Option<Value> {
        let members = Members::read(&self.text).ok()?;
        members.get(name).and_then(|schema| serde_json::from_str(schema).ok())
    }

    /// Compiled when it is first called: most tools never are. What is not checked of it is logged then.
    fn check<'a>(&self, place: &'a OnceLock<Check>, name: &str, server: &str) -> &'a Check {
        place.get_or_init(|| {
            let Some(schema) = self.schema(name) else { return Check::Nothing };
            let tool = crate::left_out::named(&self.name);
            match Checker::new(&schema) {
                Ok(Some(checker)) => {
                    if !checker.left_out.is_empty() {
                        let expressions =
                            checker.left_out.iter().take(MOST_TOLD).map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ");
                        let more = checker.left_out.len().saturating_sub(MOST_TOLD);
                        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                        tracing::warn!(
                            server,
                            tool = &*tool,
                            "its {name} is checked without regular expressions that cannot be used: {}{more}",
                            without_secrets(&expressions)
                        );
                    }
                    Check::By(Arc::new(checker))
                }
                Ok(None) => {
                    tracing::warn!(server, tool = &*tool, "its {name} refers to another document, so nothing is checked against it");
                    Check::Nothing
                }
                Err(why) => {
                    tracing::warn!(server, tool = &*tool, "it cannot be called, as of its {name}: {}", without_secrets(&why));
                    Check::Unusable(why)
                }
            }
        })
    }

    /// The arguments that headers mirror.
    #[must_use]
    pub fn mirrored(&self) -> &[Mirrored] {
        self.mirrored.get_or_init(|| match memchr::memmem::find(&self.text, b"x-mcp-header") {
            // Most tools have none.
            None => Vec::new(),
            Some(_) => self.schema("inputSchema").and_then(|input| mirror::annotations(&input).ok()).unwrap_or_default(),
        })
    }

    /// The reason that clients of the stateless era may not use the tool, if so: its `x-mcp-header` is invalid.
    #[must_use]
    pub fn unusable(&self) -> Option<Unusable> {
        // Most tools have none.
        memchr::memmem::find(&self.text, b"x-mcp-header")?;
        mirror::annotations(&self.schema("inputSchema")?).err()
    }

    /// Checks a call's arguments against the tool's input schema, and that its result can be checked. `server` is for the log.
    ///
    /// # Errors
    /// [`crate::rpc::INVALID_PARAMS`] that says what does not fit, without repeating values, or that it could not be found out.
    pub async fn check_arguments(&self, server: &str, arguments: &Value) -> Result<(), RpcError> {
        if self.origin == Origin::Server
            && let Check::Unusable(why) = self.check(&self.output, "outputSchema", server)
        {
            let why = format!("the tool cannot be called, as its results could not be checked: {why}");
            return Err(RpcError::new(crate::rpc::INVALID_PARAMS, why));
        }
        let why = match self.check(&self.input, "inputSchema", server) {
            Check::Nothing => return Ok(()),
            Check::By(checker) => match checker.check(arguments).await {
                Verdict::Fits => return Ok(()),
                Verdict::Differs(what) => format!("the arguments do not fit the tool's input schema: {what}"),
                Verdict::Unknown(why) => format!("the arguments cannot be checked against the tool's input schema: {why}; send less"),
            },
            Check::Unusable(why) => format!("the tool cannot be called, as its arguments cannot be checked: {why}"),
        };
        Err(RpcError::new(crate::rpc::INVALID_PARAMS, why))
    }

    /// The error of a result's `structuredContent` by the tool's output schema, if there is one. Its call's arguments were checked before.
    pub async fn wrong_output(&self, structured: &Value) -> Option<String> {
        match self.output.get()? {
            Check::By(checker) => match checker.check(structured).await {
                Verdict::Fits => None,
                Verdict::Differs(what) => Some(format!("the result does not fit the tool's own output schema: {what}")),
                Verdict::Unknown(why) => Some(format!("the result cannot be checked against the tool's own output schema: {why}")),
            },
            Check::Nothing | Check::Unusable(_) => None,
        }
    }

    /// Whether results of a call whose arguments were checked are checked at all. A document's schemas of results are not enforced.
    #[must_use]
    pub fn has_output_schema(&self) -> bool {
        self.origin == Origin::Server && matches!(self.output.get(), Some(Check::By(_)))
    }
}

/// Whether a schema may be used.
fn affordable(schema: Option<&str>) -> Result<(), SmolStr> {
    let Some(text) = schema else { return Ok(()) };
    let unfolds = |word: &str| memchr::memmem::find(text.as_bytes(), word.as_bytes()).is_some();
    if text.len() <= UNMEASURED && !["Ref\"", "$ref", "\\u", "unevaluated", "attern"].iter().any(|word| unfolds(word)) {
        return Ok(());
    }
    let schema: Value = serde_json::from_str(text).map_err(|error| format_smolstr!("its schema cannot be read: {error}"))?;
    Measure::of(&schema).map(drop)
}

/// The lists of one server.
#[derive(Debug, Default, Clone)]
pub struct Lists {
    entries: [Vec<Arc<Entry>>; 4],
    left_out: [Arc<[LeftOut]>; 4],
    /// Counts changes.
    pub generation: u64,
}

impl Lists {
    /// The entries of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &[Arc<Entry>] {
        &self.entries[kind as usize]
    }

    /// The entries of a kind that its server lists and that are not offered.
    #[must_use]
    pub fn left_out(&self, kind: Kind) -> &[LeftOut] {
        &self.left_out[kind as usize]
    }

    /// The lists with another list of one kind.
    #[must_use]
    pub fn with(&self, kind: Kind, Listing { entries, left_out }: Listing) -> Self {
        let mut lists = self.clone();
        lists.entries[kind as usize] = entries;
        lists.left_out[kind as usize] = left_out.into();
        lists.generation += 1;
        lists
    }

    /// The entries of a kind by their names.
    #[must_use]
    pub fn by_name(&self, kind: Kind) -> HashMap<SmolStr, Arc<Entry>> {
        self.of(kind).iter().map(|entry| (entry.name.clone(), entry.clone())).collect()
    }
}

/// A server's list of one kind.
#[derive(Debug, Default)]
pub struct Listing {
    /// The entries that are offered.
    pub entries: Vec<Arc<Entry>>,
    /// The entries that are not.
    pub left_out: Vec<LeftOut>,
}

impl From<Vec<Arc<Entry>>> for Listing {
    fn from(entries: Vec<Arc<Entry>>) -> Self {
        Self { entries, left_out: Vec::new() }
    }
}

/// A page of a list.
pub struct Page {
    /// The page's entries, as far as clients can read them.
    pub entries: Vec<Arc<Entry>>,
    /// The entries that were left out.
    pub left_out: Vec<LeftOut>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

impl Page {
    /// Reads the result of a list method. Entries that are among `known` are taken from there.
    ///
    /// # Errors
    /// Says in a few words what is wrong with it.
    pub fn read(kind: Kind, result: &[u8], known: &HashMap<SmolStr, Arc<Entry>>) -> Result<Self, String> {
        let members = Members::read(result).map_err(|error| error.to_string())?;
        let list = members.get(kind.key()).ok_or_else(|| format!("`{}` is missing", kind.key()))?;
        let list: Vec<&RawValue> = serde_json::from_str(list).map_err(|_| format!("`{}` is not a list", kind.key()))?;
        let mut page = Self { entries: Vec::new(), left_out: Vec::new(), next: None };
        for raw in list {
            match Entry::read(kind, raw, known) {
                Ok(entry) => page.entries.push(entry),
                Err(left_out) if page.left_out.len() < MAX_ENTRIES => page.left_out.push(left_out),
                Err(_) => {}
            }
        }
        page.next = members.text("nextCursor").map(std::borrow::Cow::into_owned);
        Ok(page)
    }

    /// Puts pages together. Of two entries with one name the first counts; of more than fit, those that come first.
    #[must_use]
    pub fn joined(kind: Kind, pages: Vec<Self>) -> Listing {
        let (mut names, mut listing, mut bytes) = (HashSet::new(), Listing::default(), 0);
        for page in pages {
            listing.left_out.extend(page.left_out);
            for entry in page.entries {
                let mut leave = |reason, why: &str| {
                    listing.left_out.push(LeftOut { name: Some(crate::left_out::named(&entry.name)), reason, why: why.into() });
                };
                if !names.insert(entry.name.clone()) {
                    leave(Reason::Duplicate, "another one before it has its name");
                } else if listing.entries.len() >= MAX_ENTRIES || bytes + entry.text.len() > kind.most_bytes() {
                    leave(Reason::Size, "its server's list is longer than what is kept");
                } else {
                    bytes += entry.text.len();
                    listing.entries.push(entry);
                }
            }
        }
        listing.left_out.truncate(MAX_ENTRIES);
        listing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tool(schema: &Value) -> Arc<Entry> {
        let page = json!({"tools": [{"name": "t", "inputSchema": schema, "vendor": {"x": 1}}]}).to_string();
        Page::read(Kind::Tool, page.as_bytes(), &HashMap::new()).unwrap().entries.remove(0)
    }

    #[test]
    fn entries_keep_what_their_server_wrote() {
        let text = br#"{"tools":[{"name":"a","inputSchema":{"type" :"object"},"x-vendor": 1e400},{"noname":1},{"name":"a","inputSchema":{"type":"object"}}],"nextCursor":"n"}"#;
        let page = Page::read(Kind::Tool, text, &HashMap::new()).unwrap();
        assert_eq!((page.entries.len(), page.left_out.len(), page.next.as_deref()), (2, 1, Some("n")));
        assert_eq!(page.entries[0].text, r#"{"name":"a","inputSchema":{"type" :"object"},"x-vendor": 1e400}"#);
        let listing = Page::joined(Kind::Tool, vec![page]);
        assert_eq!((listing.entries.len(), listing.left_out.len()), (1, 2));
        // What is as it was is the same entry, with what is known of it.
        let known = Lists::default().with(Kind::Tool, listing).by_name(Kind::Tool);
        let again = Page::read(Kind::Tool, text, &known).unwrap();
        assert!(Arc::ptr_eq(&again.entries[0], &known["a"]) && !Arc::ptr_eq(&again.entries[1], &known["a"]));
    }

    #[test]
    fn a_tool_that_is_said_to_be_read_only_and_destructive_is_destructive() {
        for (said, read_only, destructive) in [
            (json!({"readOnlyHint": true, "destructiveHint": true}), Some(false), Some(true)),
            (json!({"readOnlyHint": true, "destructiveHint": false}), Some(true), Some(false)),
            (json!({"readOnlyHint": true}), Some(true), None),
            (json!({"destructiveHint": true}), None, Some(true)),
            (json!({"readOnlyHint": false}), Some(false), None),
        ] {
            let page = json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}, "annotations": said}]}).to_string();
            let entry = Page::read(Kind::Tool, page.as_bytes(), &HashMap::new()).unwrap().entries.remove(0);
            assert_eq!(entry.hints, Hints { read_only, destructive }, "{said}");
            assert!(std::str::from_utf8(&entry.text).unwrap().contains(&said.to_string()), "clients are shown what their server wrote");
        }
    }

    #[test]
    fn a_list_is_kept_up_to_its_bounds_and_the_rest_is_told() {
        let entry =
            |n: usize, size: usize| json!({"name": format!("t{n}"), "description": "d".repeat(size), "inputSchema": {"type": "object"}});
        let tools: Vec<_> = (0..50).map(|n| entry(n, 200 << 10)).chain([entry(50, MAX_ENTRY_BYTES)]).collect();
        let page = Page::read(Kind::Tool, json!({"tools": tools}).to_string().as_bytes(), &HashMap::new()).unwrap();
        let listing = Page::joined(Kind::Tool, vec![page]);
        let kept: usize = listing.entries.iter().map(|entry| entry.text.len()).sum();
        assert!(kept <= Kind::Tool.most_bytes() && kept + (200 << 10) + 200 > Kind::Tool.most_bytes(), "{kept}");
        assert_eq!(listing.entries.len() + listing.left_out.len(), 51);
        assert!(listing.left_out.iter().all(|left| left.reason == Reason::Size));
    }

    #[tokio::test]
    async fn arguments_that_do_not_fit_are_refused_without_being_repeated() {
        let tool =
            tool(&json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false}));
        assert_eq!(tool.check_arguments("one", &json!({"n": 1})).await, Ok(()));
        for wrong in [json!({}), json!({"n": "top secret"}), json!({"n": 1, "m": "top secret"}), json!([])] {
            let error = tool.check_arguments("one", &wrong).await.unwrap_err();
            assert!(error.code == crate::rpc::INVALID_PARAMS && !error.message.contains("top secret"), "{}", error.message);
        }
    }

    #[tokio::test]
    async fn a_schema_that_refers_elsewhere_is_not_fetched() {
        let tool = tool(&json!({"type": "object", "$ref": "http://127.0.0.1:9/schema.json"}));
        assert_eq!(tool.check_arguments("one", &json!({"anything": 1})).await, Ok(()));
    }
}
