//! Modules of a crate do not import each other in a circle, so that each can be understood before those that use it. A module and its
//! child modules count as one here: they may import from each other, and an import in one of them counts as the parent's.
//!
//! Circles are found by names alone: types returned by methods and code made by macros are not followed.

#![allow(clippy::unwrap_used)]

mod source;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tree::{Crate, Imports, Taken};

#[test]
fn no_modules_of_a_crate_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let roots = crate_roots(root);
    assert!(roots.len() > 40, "the crates of the workspace are found: {}", roots.len());
    let mut found = Vec::new();
    for file in roots {
        for imports in Crate::read(&file).imports() {
            found.extend(circles(&imports).iter().map(|circle| told(root, &imports, circle)));
        }
    }
    assert!(found.is_empty(), "move what both need into a file that imports neither:\n{}", found.join("\n"));
}

#[test]
fn a_circle_is_found_through_names_that_are_exported_again_and_modules_that_are_imported() {
    let tree = Tree::new(&[
        ("lib.rs", "mod above; mod beside; mod below; mod apart;\npub use above::{Above, deep::Deep};"),
        ("above/mod.rs", "pub mod deep;\npub struct Above(deep::Deep);"),
        ("above/deep.rs", "use super::Above; // crate::beside::Beside\npub struct Deep(Option<Box<Above>>);"),
        (
            "beside.rs",
            "use crate::{Above, below};\npub struct Beside;\nfn so(of: below::Below) -> &'static str { \"crate::apart::Apart\" }",
        ),
        ("below.rs", "pub struct Below(super::beside::Beside);"),
        ("apart.rs", "pub struct Apart;\n#[cfg(test)]\nmod tests { use crate::user::User; }\nmod user { use super::super::Deep; }"),
    ]);
    assert_eq!(tree.taken_by("beside.rs"), ["above/mod.rs", "below.rs"]);
    assert_eq!(tree.taken_by("below.rs"), ["beside.rs"]);
    assert!(tree.taken_by("above/deep.rs").is_empty(), "a module and its parent are one");
    assert_eq!(tree.taken_by("apart.rs"), ["above/deep.rs"]);
    assert_eq!(tree.circles(), [["below.rs", "beside.rs"]]);
}

#[test]
fn a_circle_is_found_through_what_is_inside_a_module_and_at_every_level() {
    let tree = Tree::new(&[
        ("lib.rs", "mod outer; mod road; mod desk;"),
        ("outer/mod.rs", "mod inner;"),
        ("outer/inner.rs", "mod left; mod right;"),
        ("outer/inner/left.rs", "pub struct Left(super::right::Right);"),
        ("outer/inner/right.rs", "pub struct Right(Option<Box<crate::outer::inner::left::Left>>);"),
        ("road/mod.rs", "mod tasks;\npub struct Road;"),
        ("road/tasks.rs", "use crate::desk::Desk;"),
        ("desk.rs", "pub struct Desk(crate::road::Road);"),
    ]);
    assert_eq!(tree.taken_by("road/tasks.rs"), ["desk.rs"]);
    assert_eq!(tree.circles(), [["desk.rs", "road/mod.rs"], ["outer/inner/left.rs", "outer/inner/right.rs"]]);
}

/// A crate made for a test.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    fn imports(&self) -> Vec<Imports> {
        Crate::read(&self.0.path().join("lib.rs")).imports()
    }

    fn short(&self, file: &Path) -> String {
        file.strip_prefix(self.0.path()).unwrap().to_str().unwrap().to_owned()
    }

    /// The files of whose names one file takes some.
    fn taken_by(&self, name: &str) -> Vec<String> {
        let levels = self.imports();
        let all = levels.iter().flat_map(BTreeMap::values).flat_map(BTreeMap::values).flatten();
        let files: BTreeSet<String> = all.filter(|taken| self.short(&taken.by) == name).map(|taken| self.short(&taken.of)).collect();
        files.into_iter().collect()
    }

    fn circles(&self) -> Vec<Vec<String>> {
        let short = |circle: Vec<PathBuf>| circle.iter().map(|file| self.short(file)).collect();
        self.imports().iter().flat_map(circles).map(short).collect()
    }
}

/// Every `lib.rs` and `main.rs` below a folder, those of other workspaces included.
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

/// The largest sets of neighbours in which each imports each other, if only through others.
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

/// All that a module imports, or those that it imports import.
fn reach<'i>(imports: &'i Imports, from: &'i PathBuf) -> BTreeSet<&'i PathBuf> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        next.extend(imports.get(file).into_iter().flat_map(BTreeMap::keys).filter(|other| reached.insert(*other)));
    }
    reached
}

fn told(root: &Path, imports: &Imports, circle: &[PathBuf]) -> String {
    let short = |file: &Path| file.strip_prefix(root).unwrap_or(file).display().to_string();
    let within = |file: &PathBuf| imports[file].iter().filter(|(other, _)| circle.contains(other)).flat_map(|(_, names)| names);
    let line = |taken: &Taken| format!("  {} takes {} of {}", short(&taken.by), taken.name, short(&taken.of));
    format!("a circle of {}:\n{}", circle.len(), circle.iter().flat_map(within).map(line).collect::<Vec<_>>().join("\n"))
}
