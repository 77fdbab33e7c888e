//! The rules that ship load, and their own examples hold.
#![allow(clippy::unwrap_used)]

use gnomon_engine::{Origin, RuleSet, Source};
use std::{fs, path::Path};

fn sources(folder: &Path, found: &mut Vec<Source>) {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "yml") {
            let text = fs::read_to_string(&path).unwrap();
            found.push(Source { name: path.display().to_string(), text, origin: Origin::Vendor });
        }
    }
}

#[test]
fn every_shipped_rule_loads_and_its_examples_hold() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../packs"), &mut found);
    assert!(!found.is_empty());
    let set = RuleSet::compile(&found).unwrap_or_else(|errors| panic!("{errors}"));
    let failed: Vec<_> =
        set.run_tests().into_iter().filter(|test| !test.passed).map(|test| format!("{}:{}", test.file, test.line)).collect();
    assert!(failed.is_empty(), "examples that do not hold:\n{}", failed.join("\n"));
    assert!(set.rules().iter().all(|rule| rule.line >= 1));
}
