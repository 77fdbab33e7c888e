//! Each field of events is filled somewhere: a rule on one that nothing fills would never match, and nobody would be told.

#![allow(clippy::unwrap_used)]

use gnomon_testkit::has;
use std::{fs, path::Path, process::Command};

/// Filled by what stands in a table or comes through a parameter, which this test does not see.
const ELSEWHERE: [&str; 4] = ["ToolName", "PromptName", "ResourceUri", "Mismatch"];

#[test]
fn each_field_is_filled_by_something_that_is_not_a_test() {
    if !has("each_field_is_filled_by_something_that_is_not_a_test", &["git"]) {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let listed = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root).output().unwrap();
    let files = String::from_utf8(listed.stdout).unwrap();
    let is_product = |file: &&str| {
        let aside = ["tests/", "bench/", "fuzz/", "xtask/"].iter().any(|folder| file.starts_with(folder));
        let test = file.contains("/tests/") || file.ends_with("tests.rs") || file.contains("/examples/");
        !aside && !test && *file != "rules/observe/src/field.rs"
    };
    let mut written = String::new();
    for file in files.lines().filter(is_product) {
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        // Tests of a module stand at its end.
        written.extend(text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().split_whitespace());
    }
    assert!(written.len() > 1_000_000, "the sources are where they were");
    let rows: Vec<_> = rows(root)
        .into_iter()
        .filter(|(.., rest)| rest.contains(" Stored ") || rest.contains(" Address "))
        .map(|(name, ..)| name)
        .collect();
    assert!(rows.len() > 80, "{rows:?}");
    let is_filled = |name: &str| {
        ["set(", "set_some("].iter().any(|set| {
            let call = format!("{set}Field::{name}");
            written.match_indices(&call).any(|(at, _)| !written[at + call.len()..].starts_with(|c: char| c.is_ascii_alphanumeric()))
        })
    };
    let unfilled: Vec<_> = rows.iter().filter(|name| !ELSEWHERE.contains(&name.as_str()) && !is_filled(name)).collect();
    assert!(unfilled.is_empty(), "nothing fills {unfilled:?}");
}

/// The rows of the table: variant, name, and the rest.
fn rows(root: &Path) -> Vec<(String, String, String)> {
    let table = fs::read_to_string(root.join("rules/observe/src/field.rs")).unwrap();
    let row = |line: &str| {
        let (variant, rest) = line.trim().split_once(" \"")?;
        let (name, rest) = rest.split_once('"')?;
        let is_row = variant.starts_with(|c: char| c.is_ascii_uppercase()) && !variant.contains(' ');
        is_row.then(|| (variant.to_owned(), name.to_owned(), rest.to_owned()))
    };
    table.lines().filter_map(row).collect()
}

/// Tests with real sockets, processes or files at both ends. The ledger's are not among them: they make up what they write down.
const LIVE: [&str; 4] = ["tests/e2e/", "tests/stage/", "proxy/", "sensor-user/"];

#[test]
fn each_field_stands_in_a_test_that_makes_it_appear_where_something_runs() {
    if !has("each_field_stands_in_a_test_that_makes_it_appear_where_something_runs", &["git"]) {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let listed = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root).output().unwrap();
    // A module's own tests make up what they judge.
    let is_live = |file: &&str| {
        let begins = LIVE.iter().any(|folder| file.starts_with(folder));
        begins && !file.contains("/src/tests/") && (file.contains("/tests/") || file.starts_with("tests/"))
    };
    let files = String::from_utf8(listed.stdout).unwrap();
    let mut written = String::new();
    for file in files.lines().filter(is_live) {
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        // What a test fills in is not what anything saw.
        written.extend(text.lines().filter(|line| !line.contains(".set(Field::")).flat_map(|line| [line, "\n"]));
    }
    assert!(written.len() > 1_000_000, "the tests are where they were");
    let rows = rows(root);
    assert!(rows.len() > 90, "{rows:?}");
    // The name stands whole, as events and rules have it: as a key, or as what a rule asks for.
    let stands = |name: &str| {
        written.match_indices(name).any(|(at, _)| {
            let before = written[..at].chars().next_back();
            let after = written[at + name.len()..].chars().next();
            before.is_some_and(|c| matches!(c, '"' | '{' | ' ' | '(' | '`'))
                && after.is_some_and(|c| matches!(c, '"' | '|' | ':' | '=' | '`'))
        })
    };
    let unproven: Vec<_> = rows.iter().filter(|(_, name, _)| !stands(name)).collect();
    assert!(unproven.is_empty(), "no test makes these appear: {unproven:?}");
}
