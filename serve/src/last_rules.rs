//! The rules that were last in force, kept in the state folder. A start whose rules are bad goes on with them and says so: a host without
//! its proxy, or with one that judges nothing, is worse than one with yesterday's rules.
//!
//! Whoever may write there is the serving process itself, whose rules they are.

use anyhow::Result;
use gnomon_cli::{Complaint, line::counted, rule_files::RuleText, when};
use gnomon_engine::{Lint, Origin, RuleSet, Source};
use gnomon_kit::unix_millis;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Most bytes of the file: more than the rules of any host.
const LONGEST: u64 = 256 << 20;

#[derive(Deserialize, Serialize)]
struct Kept {
    at_ms: i64,
    sources: Vec<File>,
    overrides: Option<File>,
}

#[derive(Deserialize, Serialize)]
struct File {
    name: String,
    text: String,
    ships: bool,
}

impl From<&Source> for File {
    fn from(source: &Source) -> Self {
        Self { name: source.name.clone(), text: source.text.clone(), ships: source.origin == Origin::Vendor }
    }
}

impl From<File> for Source {
    fn from(file: File) -> Self {
        Self { name: file.name, text: file.text, origin: if file.ships { Origin::Vendor } else { Origin::Admin } }
    }
}

fn file_in(state_dir: &Path) -> PathBuf {
    state_dir.join("rules.last.json")
}

/// Keeps these rules, which are in force from now on. They are in force whether they can be kept or not.
pub fn keep(state_dir: &Path, rules: &RuleText) {
    let (file, draft) = (file_in(state_dir), state_dir.join("rules.last.draft"));
    let attempt = || -> Result<()> {
        let kept = Kept {
            at_ms: unix_millis(SystemTime::now()),
            sources: rules.sources.iter().map(File::from).collect(),
            overrides: rules.overrides.as_ref().map(File::from),
        };
        let _ = fs::remove_file(&draft);
        let mut written = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&draft)?;
        written.write_all(&serde_json::to_vec(&kept)?)?;
        written.sync_all()?;
        Ok(fs::rename(&draft, &file)?)
    };
    if let Err(error) = attempt() {
        tracing::warn!("the rules in force could not be kept for a start with bad ones: {}: {error:#}", file.display());
    }
}

/// Rules that a start goes on with in place of bad ones.
pub struct Fallback {
    /// As they were read.
    pub read: RuleText,
    /// The same, compiled.
    pub rules: RuleSet,
    /// What a person is told.
    pub told: String,
}

/// The rules that were last in force, where those on disk are bad for this reason.
///
/// # Errors
/// There are none, or they do not compile any more: the reason why those on disk are bad.
pub fn instead(state_dir: &Path, bad: Complaint) -> Result<Fallback> {
    let bytes = gnomon_files::read(&file_in(state_dir), LONGEST).ok();
    let Some(kept) = bytes.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok()) else { return Err(bad.into()) };
    let at = when::show(kept.at_ms);
    let sources = kept.sources.into_iter().map(Source::from).collect();
    let read = RuleText { sources, overrides: kept.overrides.map(Source::from), ..RuleText::default() };
    let Ok(rules) = read.compile(Lint::Skip) else { return Err(bad.into()) };
    let told = format!(
        "the rules on disk are bad; those of {at} UTC ({}) stay in force until the files are mended:\n{bad}",
        counted(rules.rules().len() as u64, "rule")
    );
    Ok(Fallback { read, rules, told })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rules(text: &str) -> RuleText {
        let source = |name: &str, origin| Source { name: name.to_owned(), text: text.to_owned(), origin };
        RuleText { sources: vec![source("own/one.yml", Origin::Admin)], ..RuleText::default() }
    }

    const RULE: &str = "title: One\nid: 00000000-0000-4000-8000-000000000001\nlogsource: {product: mcp, category: mcp_traffic}\n\
        detection: {seen: {gen_ai.tool.name: shell}, condition: seen}\nlevel: high\n";

    #[test]
    fn what_was_in_force_comes_back_whole_or_the_first_complaint_stands() {
        let dir = tempfile::tempdir().unwrap();
        let bad = || Complaint::input("own/one.yml:1:1: bad".to_owned());
        assert_eq!(instead(dir.path(), bad()).err().unwrap().to_string(), "own/one.yml:1:1: bad", "nothing was in force yet");
        keep(dir.path(), &rules(RULE));
        let fallback = instead(dir.path(), bad()).unwrap();
        let [only] = fallback.read.sources.as_slice() else { panic!("one file, one source") };
        assert_eq!((only.name.as_str(), only.text.as_str(), only.origin), ("own/one.yml", RULE, Origin::Admin));
        assert!(fallback.told.contains("(1 rule)") && fallback.told.ends_with("own/one.yml:1:1: bad"), "{}", fallback.told);
        // Cut short, or of a version that takes other rules.
        keep(dir.path(), &rules("title: ["));
        assert!(instead(dir.path(), bad()).is_err());
        fs::write(file_in(dir.path()), b"{\"at_ms\": 1, \"sources\": [{\"name\"").unwrap();
        assert!(instead(dir.path(), bad()).is_err());
    }
}
