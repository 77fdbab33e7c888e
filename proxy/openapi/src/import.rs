//! A whole document as tools, and a report of what is none.

use crate::{
    document::{Document, DocumentError},
    naming,
    operation::{self, Found, Operation},
    security::{self, Scheme},
    servers::{self, Base, InvalidBase},
    text::cleaned,
};
use http::{Method, Uri};
use serde_json::Value;
use smol_str::SmolStr;

/// Most operations that become tools.
pub const MAX_OPERATIONS: usize = 10_000;

/// The options of an import.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Longest name of a tool, bytes; at least 16.
    pub longest_name: usize,
    /// The base URL of requests, in place of the document's first server.
    pub base: Option<&'a str>,
    /// The URL that the document came from, which its relative servers are relative to.
    pub here: Option<&'a Uri>,
}

/// A document as tools.
#[derive(Debug)]
pub struct Imported {
    /// The API's title.
    pub title: String,
    /// Its own version.
    pub version: String,
    /// The base URL of requests.
    pub base: Base,
    /// The base URLs that the document offers.
    pub servers: Vec<Base>,
    /// The ways to prove who asks that it names.
    pub schemes: Vec<Scheme>,
    /// The callable operations, in the document's order.
    pub operations: Vec<Operation>,
    /// The operations that were left out, each with a reason.
    pub refused: Vec<Refused>,
}

/// An operation that cannot be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its method and path.
    pub place: String,
    /// The reason.
    pub why: String,
}

/// An error of importing a document as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Not an OpenAPI document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The base that was asked for is none.
    #[error("the base `{0}` cannot be used: {1}")]
    Base(String, InvalidBase),
    /// The document has no absolute server URL.
    #[error("the document names no whole URL of a server; say with `base` where the API is")]
    NoServer,
    /// Its server would get requests, and credentials, in the clear.
    #[error("the document names `{0}` as its server, which is not encrypted; say so with `base` if that is meant")]
    NotEncrypted(Base),
}

/// Imports a document. What is wrong with one operation is reported and costs only that one.
///
/// # Errors
/// [`ImportError`].
pub fn import(bytes: &[u8], options: Options<'_>) -> Result<Imported, ImportError> {
    let document = Document::read(bytes)?;
    let servers = servers::of_document(&document, options.here);
    let base = match options.base {
        Some(text) => Base::parse(text).map_err(|error| ImportError::Base(text.to_owned(), error))?,
        None => {
            let base = servers::first(&servers).cloned().ok_or(ImportError::NoServer)?;
            if base.scheme == servers::Scheme::Http && !base.is_loopback() {
                return Err(ImportError::NotEncrypted(base));
            }
            base
        }
    };
    let (found, mut refused) = found(&document);
    let ids: Vec<(Option<&str>, String)> =
        found.iter().map(|one| (one.value.get("operationId").and_then(Value::as_str), place(one))).collect();
    let names = naming::names(&ids, options.longest_name);
    let usual = usual(&document, &servers, &found, options.here);
    let mut operations = Vec::with_capacity(found.len());
    for (one, name) in found.iter().zip(names) {
        match of(&document, one, name, (&base, usual.as_ref(), options.here)) {
            Ok(operation) if operations.len() < MAX_OPERATIONS => operations.push(operation),
            Ok(_) => refused.push(Refused { place: place(one), why: format!("the document has more than {MAX_OPERATIONS} operations") }),
            Err(why) => refused.push(Refused { place: place(one), why: cleaned(&why, 300) }),
        }
    }
    let info = |key: &str| {
        let text = document.root().pointer("/info").and_then(|info| info.get(key)).and_then(Value::as_str);
        cleaned(text.unwrap_or_default(), 120)
    };
    Ok(Imported {
        title: info("title"),
        version: info("version"),
        base,
        servers,
        schemes: security::schemes(&document),
        operations,
        refused,
    })
}

/// All operations of the document.
fn found(document: &Document) -> (Vec<Found<'_>>, Vec<Refused>) {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for (path, item) in document.object("/paths").into_iter().flatten() {
        if path.starts_with("x-") {
            continue;
        }
        let item = match document.follow(item) {
            Ok(item) => item,
            Err(error) => {
                refused.push(Refused { place: cleaned(path, 200), why: error.to_string() });
                continue;
            }
        };
        for (key, value) in item.as_object().into_iter().flatten() {
            let method = match key.as_str() {
                "get" => Method::GET,
                "head" => Method::HEAD,
                "options" => Method::OPTIONS,
                "put" => Method::PUT,
                "post" => Method::POST,
                "delete" => Method::DELETE,
                "patch" => Method::PATCH,
                "trace" | "query" => {
                    let why = if key == "trace" { "TRACE would send the credentials back" } else { "its method is not known here" };
                    refused.push(Refused { place: cleaned(&format!("{} {path}", key.to_uppercase()), 200), why: why.to_owned() });
                    continue;
                }
                _ => continue,
            };
            found.push(Found { method, path, item, value });
        }
    }
    (found, refused)
}

/// The base, the server that it replaces, and the source of the document.
type Whereto<'a> = (&'a Base, Option<&'a Base>, Option<&'a Uri>);

fn of(document: &Document, found: &Found<'_>, name: Option<SmolStr>, (base, usual, here): Whereto<'_>) -> Result<Operation, String> {
    if !found.value.is_object() {
        return Err("it is not an object".to_owned());
    }
    let name = name.ok_or("another operation's name maps to the same tool name")?;
    let own = [found.value, found.item].into_iter().find_map(|owner| servers::read(owner, here));
    let follows = |own: &[Base]| usual.is_some_and(|usual| own.contains(usual));
    if let Some(own) = own.filter(|own| !own.contains(base) && !follows(own)) {
        let where_ = own.first().map_or_else(|| "an unusable URL".to_owned(), ToString::to_string);
        return Err(format!("it has a server of its own, {where_}; register that one as another server, with `base`"));
    }
    operation::read(document, found, name).map_err(|error| error.to_string())
}

/// The server that a configured base replaces: the document's, or if it names none, that of all its paths and operations, if they name the
/// same.
fn usual(document: &Document, servers: &[Base], found: &[Found<'_>], here: Option<&Uri>) -> Option<Base> {
    if document.root().get("servers").is_some() {
        return servers::first(servers).cloned();
    }
    let mut each = found.iter().filter_map(|one| [one.value, one.item].into_iter().find_map(|owner| servers::read(owner, here)));
    let common = each.next()?;
    if each.all(|own| own == common) { servers::first(&common).cloned() } else { None }
}

fn place(found: &Found<'_>) -> String {
    cleaned(&format!("{} {}", found.method, found.path), 200)
}
