//! The house stays one that can be walked through: each crate says what it is for, has its row in ARCHITECTURE, and is small enough to know.

#![allow(clippy::unwrap_used)]

use gnomon_testkit::has;
use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// Most lines of code of a crate, without its tests.
const MOST: usize = 6_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The folders of the workspace's crates but that of its root, and of those with a workspace of their own.
fn crates() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "*/Cargo.toml"]).current_dir(root()).output().unwrap();
    let manifests = String::from_utf8(listed.stdout).unwrap();
    let folders: Vec<_> = manifests.lines().filter_map(|manifest| manifest.strip_suffix("/Cargo.toml")).map(str::to_owned).collect();
    assert!(folders.len() > 50, "the crates are found: {folders:?}");
    folders
}

#[test]
fn each_crate_says_in_a_readme_what_it_is_for() {
    if !has("each_crate_says_in_a_readme_what_it_is_for", &["git"]) {
        return;
    }
    let lacks = |folder: &String| {
        let readme = fs::read_to_string(root().join(folder).join("README.md")).unwrap_or_default();
        // A heading, and at least a paragraph.
        !readme.starts_with("# ") || readme.lines().filter(|line| !line.trim().is_empty()).count() < 3
    };
    let lacking: Vec<_> = crates().into_iter().filter(lacks).collect();
    assert!(lacking.is_empty(), "without a README that says what it is for: {lacking:?}");
}

#[test]
fn each_crate_has_its_row_in_the_architecture() {
    if !has("each_crate_has_its_row_in_the_architecture", &["git"]) {
        return;
    }
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    // Both are named together, below the table.
    let beside = ["bench", "fuzz", "sensor-ebpf/abi"];
    let lacking: Vec<_> = crates()
        .into_iter()
        .filter(|folder| !beside.contains(&folder.as_str()) && !architecture.contains(&format!("\n| `{folder}` |")))
        .collect();
    assert!(lacking.is_empty(), "no row of ARCHITECTURE says what these are for, and what they leave to others: {lacking:?}");
}

#[test]
fn no_crate_is_larger_than_can_be_known() {
    if !has("no_crate_is_larger_than_can_be_known", &["git"]) {
        return;
    }
    let crates = crates();
    let listed = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output().unwrap();
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    for file in String::from_utf8(listed.stdout).unwrap().lines() {
        let is_test = file.starts_with("tests/") || ["/tests/", "/benches/", "/examples/"].iter().any(|folder| file.contains(folder));
        if is_test || file.ends_with("tests.rs") {
            continue;
        }
        let home = crates.iter().filter(|folder| file.starts_with(&format!("{folder}/"))).max_by_key(|folder| folder.len());
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        // Tests of a module stand at its end.
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let count = code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count();
        *lines.entry(home.map_or("src", String::as_str)).or_default() += count;
    }
    assert!(lines.values().sum::<usize>() > 80_000, "the sources are where they were: {lines:?}");
    let large: Vec<_> = lines.into_iter().filter(|(_, count)| *count > MOST).collect();
    assert!(large.is_empty(), "of more than {MOST} lines without tests; part them: {large:?}");
}

#[test]
fn what_a_readme_names_is_there() {
    if !has("what_a_readme_names_is_there", &["git"]) {
        return;
    }
    let listed = Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    let files = String::from_utf8(listed.stdout).unwrap();
    let is_path = |text: &str| {
        let ends = [".rs", ".md", ".toml", ".yml", ".py", ".csv"].iter().any(|end| text.len() > end.len() && text.ends_with(end));
        ends && text.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c))
    };
    let mut lacking = Vec::new();
    for folder in crates() {
        let readme = fs::read_to_string(root().join(&folder).join("README.md")).unwrap_or_default();
        for named in readme.split('`').skip(1).step_by(2).filter(|text| is_path(text)) {
            let is_there = root().join(&folder).join(named).exists()
                || files.lines().any(|file| file == named || file.ends_with(&format!("/{named}")));
            if !is_there {
                lacking.push(format!("{folder}/README.md: {named}"));
            }
        }
    }
    assert!(lacking.is_empty(), "READMEs name files that are not there: {lacking:#?}");
}
