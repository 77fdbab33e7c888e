//! The rules that ship load, and their own examples hold.

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

/// The lines of a search id in a shipped rule: four blanks before its name, eight before what it holds.
fn without(text: &str, id: &str, always: bool) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line == format!("    {id}:") {
            // Nothing that a test names: absent from every example.
            out.push_str(&format!("    {id}:\n        http.request.header.x-never-sent|exists: {}\n", !always));
            inside = true;
        } else if !(inside && line.starts_with("        ")) {
            inside = false;
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[test]
fn each_part_of_each_shipped_detection_is_needed_by_one_of_its_tests() {
    for pack in ["detections", "user-agents", "llm-direct"] {
        let mut found = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../packs").join(pack), &mut found);
        assert!(found.len() >= 4, "{pack}");
        for source in found {
            let detection = source.text.split("\ndetection:\n").nth(1).unwrap().split("\n    condition:").next().unwrap();
            let ids: Vec<_> = detection.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     ")).collect();
            assert!(!ids.is_empty(), "{}", source.name);
            for id in ids.iter().map(|line| line.trim().trim_end_matches(':')) {
                for always in [true, false] {
                    let text = without(&source.text, id, always);
                    assert_ne!(text, source.text);
                    let mutant = Source { text, ..source.clone() };
                    let set = RuleSet::compile(&[mutant]).unwrap_or_else(|errors| panic!("{errors}"));
                    assert!(set.run_tests().iter().any(|test| !test.passed), "{}: nothing fails without `{id}` ({always})", source.name);
                }
            }
        }
    }
}

#[test]
fn no_shipped_rule_is_warned_of() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../packs"), &mut found);
    let linted = gnomon_engine::Adjustments { lint: gnomon_engine::Lint::Run, ..Default::default() };
    let set = RuleSet::compile_with(&found, &linted).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(set.warnings().is_empty(), "{:?}", set.warnings().iter().map(ToString::to_string).collect::<Vec<_>>());
}

#[test]
fn the_rule_that_readme_shows_loads_and_its_examples_hold() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    let text = readme.split_once("```yaml\n").unwrap().1.split_once("```").unwrap().0.to_owned();
    let set =
        RuleSet::compile(&[Source { name: "README.md".into(), text, origin: Origin::Admin }]).unwrap_or_else(|errors| panic!("{errors}"));
    let tests = set.run_tests();
    assert!(!tests.is_empty() && tests.iter().all(|test| test.passed));
}
