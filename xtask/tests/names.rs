//! No type of ours bears a name that every Rust file has already, or that of a type of the standard library that everybody knows: whoever
//! reads `From` or `Path` reads that. Words that could mean anything mean one thing. And what people are told says "is not a", as they do.

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
const KNOWN: [&str; 56] = [
    "Add",
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
    "Cursor",
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
    "Lines",
    "Mutex",
    "OnceLock",
    "Ordering",
    "OsStr",
    "OsString",
    "Path",
    "PathBuf",
    "PhantomData",
    "Pin",
    "Poll",
    "Range",
    "Rc",
    "Read",
    "RefCell",
    "RwLock",
    "SocketAddr",
    "Stderr",
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

/// The sources of the whole repository, by their paths in it.
fn read() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    sources(root, &mut files);
    assert!(files.len() > 700, "the sources of the workspace are found: {}", files.len());
    files.iter().map(|path| (path.strip_prefix(root).unwrap().display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

/// The declarations of the whole repository.
fn all() -> Vec<Found> {
    let mut found = Vec::new();
    for (file, text) in read() {
        for (line, text) in text.lines().enumerate() {
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
    file.starts_with("xtask/") || is_test(file)
}

/// Tests, examples and measurements.
fn is_test(file: &str) -> bool {
    let folder = ["bench/", "fuzz/", "tests/"].iter().any(|folder| file.starts_with(folder));
    folder || file.contains("/tests/") || file.contains("/examples/") || file.ends_with("tests.rs")
}

fn told(found: &[Found]) -> String {
    found.iter().map(|found| format!("{}:{}: {}", found.file, found.line, found.name)).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_text_says_of_a_thing_that_it_is_no_other() {
    let mut texts = 0;
    let mut found = Vec::new();
    for (file, text) in read().into_iter().filter(|(file, _)| !is_test(file)) {
        // Tests of a module stand at its end.
        for (line, literal) in literals(text.split("#[cfg(test)]\nmod ").next().unwrap_or_default()) {
            texts += 1;
            found.extend(riddle(&literal).map(|riddle| format!("{file}:{line}: … {riddle}")));
        }
    }
    assert!(texts > 10_000, "the texts are found: {texts}");
    assert!(found.is_empty(), "write `is not a …`, or what it lacks:\n{}", found.join("\n"));
}

/// What follows "is no", where that says of a thing that it is not another one. "There is no …" says that something is missing, and a few
/// words cannot do without.
fn riddle(text: &str) -> Option<&str> {
    const ORDINARY: [&str; 3] = ["longer", "such", "valid"];
    text.match_indices(" is no ").find_map(|(at, sign)| {
        let (before, after) = (&text[..at], &text[at + sign.len()..]);
        let word = after.split(|sign: char| !sign.is_ascii_lowercase()).next().unwrap_or_default();
        let is_missing = before.ends_with("there") || before.ends_with("There");
        (!is_missing && !word.is_empty() && !ORDINARY.contains(&word)).then_some(&text[at + 1..])
    })
}

#[test]
fn a_riddle_is_told_from_what_is_missing_or_over() {
    assert_eq!(riddle("--sensor /x: that is no cgroup"), Some("is no cgroup"));
    assert_eq!(riddle("there is no room, and `{said}` is no number"), Some("is no number"));
    for text in [
        "there is no sensor",
        "There is no file",
        "it is no longer offered",
        "`x` is no valid id",
        "is no",
        "this is no 1",
        "is not a number",
    ] {
        assert_eq!(riddle(text), None, "{text}");
    }
}

/// The texts in a source, each with the number of the line on which it begins.
fn literals(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(sign) = rest.chars().next() {
        let (text, length) = if rest.starts_with("//") {
            (None, rest.find('\n').unwrap_or(rest.len()))
        } else if let Some((opening, closing)) = raw_end(rest) {
            let inner = &rest[opening..];
            let length = inner.find(&closing).unwrap_or(inner.len());
            (Some(inner[..length].to_owned()), (opening + length + closing.len()).min(rest.len()))
        } else if sign == '"' {
            let (text, length) = quoted(rest);
            (Some(text), length)
        } else {
            (None, character(rest).unwrap_or(sign.len_utf8()))
        };
        found.extend(text.map(|text| (line, text)));
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// Of a raw text that begins here: where its content begins, and what ends it.
fn raw_end(rest: &str) -> Option<(usize, String)> {
    let marks = rest.strip_prefix('r')?;
    let count = marks.len() - marks.trim_start_matches('#').len();
    marks[count..].starts_with('"').then(|| (count + 2, format!("\"{}", "#".repeat(count))))
}

/// The content of a text that begins here with its quotation mark, without escapes, and its length with both marks.
fn quoted(rest: &str) -> (String, usize) {
    let mut text = String::new();
    let mut signs = rest.char_indices().skip(1).peekable();
    while let Some((at, sign)) = signs.next() {
        match sign {
            '"' => return (text, at + 1),
            '\\' => match signs.next() {
                // The text goes on where the next line does.
                Some((_, '\n')) => while signs.next_if(|(_, sign)| sign.is_whitespace()).is_some() {},
                escaped => text.extend(escaped.map(|(_, sign)| sign)),
            },
            _ => text.push(sign),
        }
    }
    (text, rest.len())
}

/// The length of a character in its marks that begins here: its content may be a quotation mark. A lifetime has one mark.
fn character(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    let content = match first {
        // What is escaped may be a mark itself.
        '\\' => 2 + inner.get(2..)?.find('\'')?,
        _ => first.len_utf8(),
    };
    inner[content..].starts_with('\'').then_some(content + 2)
}

#[test]
fn texts_are_found_whatever_is_around_them() {
    let source =
        "let a = (\"b \\\"c\\\"\", '\"', '\\'', b\"d\"); // \"no\"\nfn e<'f>(g: &'f str) { h(r#\"i \"j\" k\"#, \"l \\\n    m\"); }\n\"n\"";
    let expected = [(1, "b \"c\""), (1, "d"), (2, "i \"j\" k"), (2, "l m"), (4, "n")];
    assert_eq!(literals(source), expected.map(|(line, text)| (line, text.to_owned())));
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
