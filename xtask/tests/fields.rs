//! Each field of events is filled somewhere: a rule on one that nothing fills would never match, and nobody would be told.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, process::Command};

/// Filled by what stands in a table or comes through a parameter, which this test does not see.
const ELSEWHERE: [&str; 4] = ["ToolName", "PromptName", "ResourceUri", "Mismatch"];

#[test]
fn each_field_is_filled_by_something_that_is_not_a_test() {
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
    let table = fs::read_to_string(root.join("rules/observe/src/field.rs")).unwrap();
    let rows = table.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(" \"")?;
        (name.starts_with(|c: char| c.is_ascii_uppercase()) && rest.contains(" Stored ")).then(|| name.to_owned())
    });
    let rows: Vec<_> = rows.collect();
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
