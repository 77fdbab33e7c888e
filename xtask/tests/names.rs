//! No type of ours bears a name that every Rust file has already, or that of a type of the standard library that everybody knows: whoever
//! reads `From` or `Path` reads that. And words that could mean anything mean one thing.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Types, traits and variants of the prelude of the 2024 edition.
const PRELUDE: [&str; 35] = [
    "AsMut",
    "AsRef",
    "AsyncFn",
    "AsyncFnMut",
    "AsyncFnOnce",
    "Box",
    "Clone",
    "Copy",
    "Default",
    "DoubleEndedIterator",
    "Drop",
    "Eq",
    "Err",
    "ExactSizeIterator",
    "Extend",
    "Fn",
    "FnMut",
    "FnOnce",
    "From",
    "FromIterator",
    "Future",
    "Into",
    "IntoFuture",
    "IntoIterator",
    "Iterator",
    "Ok",
    "Option",
    "Ord",
    "PartialEq",
    "PartialOrd",
    "Result",
    "String",
    "ToOwned",
    "ToString",
    "Vec",
];

/// Types and traits of the standard library that are read without looking which one is meant.
const KNOWN: [&str; 51] = [
    "Any",
    "Arc",
    "BTreeMap",
    "BTreeSet",
    "Bytes",
    "CStr",
    "CString",
    "Cell",
    "Child",
    "Command",
    "Condvar",
    "Context",
    "Cow",
    "Debug",
    "Deref",
    "Display",
    "Duration",
    "Error",
    "ErrorKind",
    "ExitCode",
    "ExitStatus",
    "File",
    "Formatter",
    "Hash",
    "HashMap",
    "HashSet",
    "Hasher",
    "Instant",
    "IpAddr",
    "Layout",
    "Mutex",
    "OnceLock",
    "Ordering",
    "OsStr",
    "OsString",
    "Path",
    "PathBuf",
    "PhantomData",
    "Poll",
    "Range",
    "Rc",
    "Read",
    "RefCell",
    "RwLock",
    "SocketAddr",
    "Stdio",
    "SystemTime",
    "TcpStream",
    "VecDeque",
    "Waker",
    "Write",
];

/// Words that could mean anything.
const WORDS: [&str; 8] = ["Kind", "Outcome", "Place", "Refusal", "Standing", "State", "Wanted", "Watch"];

#[test]
fn no_type_is_named_as_one_of_the_prelude() {
    let found: Vec<_> = all().into_iter().filter(|found| PRELUDE.contains(&found.name.as_str())).collect();
    assert!(found.is_empty(), "types of ours with names of the prelude:\n{}", told(&found));
}

#[test]
fn no_type_that_others_see_is_named_as_one_of_the_standard_library_that_everybody_knows() {
    let of_the_product = |found: &Found| !aside(&found.file) && found.is_public && KNOWN.contains(&found.name.as_str());
    let found: Vec<_> = all().into_iter().filter(of_the_product).collect();
    assert!(found.is_empty(), "types of ours with names of the standard library:\n{}", told(&found));
}

#[test]
fn a_word_that_could_mean_anything_names_one_type() {
    let mut named: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    // What the programs of the kernel half count has a workspace of its own.
    let is_meant = |found: &Found| !aside(&found.file) && !found.file.starts_with("sensor-ebpf/") && WORDS.contains(&found.name.as_str());
    for found in all().into_iter().filter(is_meant) {
        named.entry(found.name.clone()).or_default().push(found);
    }
    assert!(named.contains_key("Kind"), "the search finds too little: {named:?}");
    let several: Vec<_> = named.into_values().filter(|found| found.len() > 1).flatten().collect();
    assert!(several.is_empty(), "say what it is of:\n{}", told(&several));
}

/// A declaration of a type or trait.
#[derive(Debug)]
struct Found {
    file: String,
    line: usize,
    name: String,
    is_public: bool,
}

/// Those of the whole repository.
fn all() -> Vec<Found> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    sources(root, &mut files);
    assert!(files.len() > 700, "the sources of the workspace are found: {}", files.len());
    let mut found = Vec::new();
    for path in files {
        let file = path.strip_prefix(root).unwrap().display().to_string();
        for (line, text) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if let Some(name) = declared(text) {
                let is_public = text.trim_start().starts_with("pub ");
                found.push(Found { file: file.clone(), line: line + 1, name: name.to_owned(), is_public });
            }
        }
    }
    found
}

/// Tests, and what is no part of the product.
fn aside(file: &str) -> bool {
    let folder = ["bench/", "fuzz/", "xtask/", "tests/"].iter().any(|folder| file.starts_with(folder));
    folder || file.contains("/tests/") || file.contains("/examples/") || file.ends_with("tests.rs")
}

fn told(found: &[Found]) -> String {
    found.iter().map(|found| format!("{}:{}: {}", found.file, found.line, found.name)).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_declaration_is_found_whoever_may_see_it() {
    assert_eq!(declared("pub enum From {"), Some("From"));
    assert_eq!(declared("    pub(crate) struct Result<T>(T);"), Some("Result"));
    assert_eq!(declared("type Option = u8;"), Some("Option"));
    assert_eq!(declared("    type Err = BadPattern;"), None);
    assert_eq!(declared("    /// pub enum From"), None);
    assert_eq!(declared("impl From<u8> for Byte {}"), None);
}

/// The name of the type or trait that a line declares; types of traits, which stand within them, are named by whoever made the trait.
fn declared(line: &str) -> Option<&str> {
    let within = line.starts_with(' ');
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1,
        Some(rest) => rest,
        None => line,
    };
    let (word, rest) = line.trim_start().split_once(' ')?;
    let declares = ["struct", "enum", "trait", "union"].contains(&word) || (word == "type" && !within);
    declares.then(|| rest.split(|sign: char| !sign.is_alphanumeric() && sign != '_').next()).flatten()
}

/// All Rust files below a folder, those of other workspaces included.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}
