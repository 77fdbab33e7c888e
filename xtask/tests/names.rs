//! No type of ours bears a name that every Rust file has already: whoever reads `From` or `Result` reads the standard library's.

#![allow(clippy::unwrap_used)]

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

#[test]
fn no_type_is_named_as_one_of_the_prelude() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    sources(root, &mut files);
    assert!(files.len() > 700, "the sources of the workspace are found: {}", files.len());
    let mut found = Vec::new();
    for file in files {
        for (line, text) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            if let Some(name) = declared(text).filter(|name| PRELUDE.contains(name)) {
                found.push(format!("{}:{}: {name}", file.strip_prefix(root).unwrap().display(), line + 1));
            }
        }
    }
    assert!(found.is_empty(), "types of ours with names of the prelude:\n{}", found.join("\n"));
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
