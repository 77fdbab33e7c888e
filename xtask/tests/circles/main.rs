//! Files of a crate do not import each other in a circle: whoever reads one of them can finish it before the next. A module and those
//! inside it are one thing told in several files, so what a module takes of its own children is no import between neighbours.
//!
//! A circle is found by names alone: what methods return, and macros make, is not followed.

#![allow(clippy::unwrap_used)]

mod source;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tree::{Crate, Imports};

/// Circles that stay: a session of the relay keeps the questions that servers ask its client, and each question goes back to its session.
const ALLOWED: [&[&str]; 1] = [&["proxy/relay/src/questions.rs", "proxy/relay/src/session.rs"]];

#[test]
fn no_files_of_a_crate_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let roots = crate_roots(root);
    assert!(roots.len() > 40, "the crates of the workspace are found: {}", roots.len());
    let (mut found, mut allowed) = (Vec::new(), 0);
    for file in roots {
        let imports = Crate::read(&file).imports();
        for circle in circles(&imports) {
            let names: Vec<&str> = circle.iter().map(|file| file.strip_prefix(root).unwrap().to_str().unwrap()).collect();
            if ALLOWED.contains(&names.as_slice()) {
                allowed += 1;
            } else {
                found.push(told(root, &imports, &circle));
            }
        }
    }
    assert!(found.is_empty(), "move what both need into a file that imports neither:\n{}", found.join("\n"));
    assert_eq!(allowed, ALLOWED.len(), "a circle that is allowed is no more: take it off the list");
}

#[test]
fn a_circle_is_found_through_names_that_are_exported_again_and_modules_that_are_imported() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod above; mod beside; mod below; mod apart;\npub use above::{Above, deep::Deep};");
    write("above/mod.rs", "pub mod deep;\npub struct Above(deep::Deep);");
    write("above/deep.rs", "use super::Above; // crate::beside::Beside\npub struct Deep(Option<Box<Above>>);");
    write(
        "beside.rs",
        "use crate::{Above, below};\npub struct Beside;\nfn so(of: below::Below) -> &'static str { \"crate::apart::Apart\" }",
    );
    write("below.rs", "pub struct Below(super::beside::Beside);");
    write("apart.rs", "pub struct Apart;\n#[cfg(test)]\nmod tests { use crate::user::User; }\nmod user { use super::super::Deep; }");

    let imports = Crate::read(&dir.path().join("lib.rs")).imports();
    let of = |name: &str| -> Vec<String> {
        let named = |file: &PathBuf| file.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
        imports.get(&dir.path().join(name)).into_iter().flat_map(BTreeMap::keys).map(named).collect()
    };
    assert_eq!(of("beside.rs"), ["above/mod.rs", "below.rs"]);
    assert_eq!(of("below.rs"), ["beside.rs"]);
    assert_eq!(of("above/deep.rs"), ["above/mod.rs"]);
    assert_eq!(of("apart.rs"), ["above/deep.rs"]);
    assert_eq!(circles(&imports), [vec![dir.path().join("below.rs"), dir.path().join("beside.rs")]]);
}

/// The `lib.rs` and `main.rs` below a folder, those of other workspaces included.
fn crate_roots(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if !entry.file_type().unwrap().is_dir() || name.starts_with('.') || name == "target" {
            continue;
        }
        if name == "src" {
            found.extend(["lib.rs", "main.rs"].map(|root| entry.path().join(root)).into_iter().filter(|path| path.exists()));
        } else {
            found.extend(crate_roots(&entry.path()));
        }
    }
    found
}

/// The largest sets of files in which each imports each other, if only through others.
fn circles(imports: &Imports) -> Vec<Vec<PathBuf>> {
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = imports.keys().map(|file| (file, reach(imports, file))).collect();
    let mut left: BTreeSet<&PathBuf> = imports.keys().collect();
    let mut found = Vec::new();
    while let Some(file) = left.pop_first() {
        let back = |other: &&PathBuf| reached.get(*other).is_some_and(|reached| reached.contains(file));
        let circle: BTreeSet<&PathBuf> = reached[file].iter().copied().filter(back).chain([file]).collect();
        left.retain(|other| !circle.contains(other));
        if circle.len() > 1 {
            found.push(circle.into_iter().cloned().collect());
        }
    }
    found
}

/// All files that a file imports, or those that it imports import.
fn reach<'i>(imports: &'i Imports, from: &'i PathBuf) -> BTreeSet<&'i PathBuf> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        next.extend(imports.get(file).into_iter().flat_map(BTreeMap::keys).filter(|other| reached.insert(*other)));
    }
    reached
}

fn told(root: &Path, imports: &Imports, circle: &[PathBuf]) -> String {
    let short = |file: &PathBuf| file.strip_prefix(root).unwrap_or(file).display().to_string();
    let line = |file: &PathBuf| {
        let within = imports[file].iter().filter(|(other, _)| circle.contains(other));
        let of = |(other, names): (&PathBuf, &BTreeSet<String>)| {
            format!("{} ({})", short(other), names.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
        };
        format!("  {} takes of {}", short(file), within.map(of).collect::<Vec<_>>().join(", "))
    };
    format!("a circle of {}:\n{}", circle.len(), circle.iter().map(line).collect::<Vec<_>>().join("\n"))
}
