//! Builds and tests must enable the same features of the dependencies, so that nothing is compiled twice.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::Path, process::Command};

/// Every dependency with its features, as the root of the workspace enables them.
fn libraries(edges: &str) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    tree.args(["tree", "--locked", "--workspace", "--prefix", "none", "--format", "{p} [{f}]", "--edges", edges]);
    let output = tree.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

#[test]
fn building_and_testing_turn_on_the_same_features() {
    let (built, tested) = (libraries("normal,build"), libraries("normal,build,dev"));
    let other: Vec<&String> = built.difference(&tested).collect();
    assert!(other.is_empty(), "tests turn on more in these; name the features in xtask/Cargo.toml: {other:#?}");
}
