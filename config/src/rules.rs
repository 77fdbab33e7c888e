//! The `rules` section: the rules that are loaded, and their enforcement.

use crate::{
    Check,
    declare::{Form, Show, section},
    feed::{FeedKey, FeedPlace, feed_in},
    forms::{FilePath, FilePaths, OwnText, PackNames, Word, words},
};
use gnomon_access::yaml::hint;
use gnomon_inspect::Enforcement;
use gnomon_packs::{Enablement, Pack, packs};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

words! { Enforcement: "enforce" => Enforce, "shadow" => Shadow }

section! {
    /// The rules.
    pub struct Rules, written RulesSource at "rules." {
        /// Rules refuse (`enforce`), or everything passes and events say in `gnomon.would` what would have happened (`shadow`).
        mode: Enforcement as Word<Enforcement> = Enforcement::Enforce, sample "shadow";
        /// Rules that ship: `builtin` (those that are on by default), `none`, or a list of pack names.
        packs: Packs as PackNames = Packs::Builtin;
        /// Folders with rules of your own: all `*.yml` and `*.yaml` below them. Relative to this file.
        dirs: Vec<PathBuf> as FilePaths, without "none", sample "[rules.d]";
        /// CSV files (`host,kind`) that override the shipped catalogue of hosts. Relative to this file.
        hosts: Vec<PathBuf> as FilePaths, without "none", sample "[hosts.csv]";
        /// A file that changes level, response, activity or mode of rules: a list of `rule` or `pack`, `level`, `response`,
        /// `enabled`, `mode`, `reason`. Relative to this file.
        overrides: Option<PathBuf> as FilePath, without "none", sample "overrides.yml";
        /// The folder that `gnomon triage` writes exceptions into. What is in it is loaded. Relative to this file.
        triage: Option<PathBuf> as FilePath, without "first of rules.dirs, else triage.d in the state folder", sample "rules.d/triage";
        /// Newer editions of the packs that ship, which `gnomon rules update` installs: an `https://` URL or a file, with its signature beside
        /// it (`.minisig`). Relative to this file.
        feed: Option<FeedPlace> as OwnText, without "none", sample "https://rules.corp.example/gnomon-rules.tar.gz";
        /// The public key of minisign that the feed is signed with. An installed edition is in force while this key signs it.
        feed_key: Option<FeedKey> as OwnText, without "none, and no feed is in force",
            sample "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    }
    beside {
        /// The state folder's own exceptions, loaded where there are any. No key: the state folder is not configured here.
        pub state_triage: Option<PathBuf>,
        /// The state folder's editions of a feed, likewise.
        pub state_feed: Option<PathBuf>,
    }
}

impl Rules {
    /// Adds what a state folder has: exceptions, and editions of a feed.
    pub fn settle(&mut self, state_dir: &Path) {
        self.state_triage = Some(triage_in(state_dir));
        self.state_feed = Some(feed_in(state_dir));
    }

    /// The folder that exceptions are written into; none without a state folder.
    pub fn triage_dir(&self) -> Option<&Path> {
        let first = || self.dirs.iter().find(|path| path.is_dir());
        self.triage.as_ref().or_else(first).or(self.state_triage.as_ref()).map(PathBuf::as_path)
    }
}

/// The folder of exceptions in a state folder, where the serving process may write as well.
pub fn triage_in(state_dir: &Path) -> PathBuf {
    state_dir.join("triage.d")
}

/// The shipped packs that are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packs {
    /// The packs that are on by default.
    Builtin,
    /// None of them.
    None,
    /// Only these.
    Named(Vec<&'static str>),
}

impl Packs {
    /// The packs meant, in the order they ship in.
    pub fn chosen(&self) -> Vec<&'static Pack> {
        let wanted = |pack: &&Pack| match self {
            Packs::Builtin => pack.enabled_by_default == Enablement::Enabled,
            Packs::None => false,
            Packs::Named(names) => names.contains(&pack.name),
        };
        packs().iter().filter(wanted).collect()
    }

    /// The packs that are worth turning on and are off because nobody chose any.
    pub fn worth_turning_on(&self) -> Vec<&'static Pack> {
        match self {
            Packs::Builtin => {
                packs().iter().filter(|pack| pack.enabled_by_default == Enablement::Disabled && pack.finds.is_some()).collect()
            }
            Packs::None | Packs::Named(_) => Vec::new(),
        }
    }
}

impl FromStr for Packs {
    type Err = String;
    /// Parses `builtin`, `none`, or pack names separated by commas, of which `builtin` may be one.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "builtin" => return Ok(Packs::Builtin),
            "none" => return Ok(Packs::None),
            _ => {}
        }
        let mut names = Vec::new();
        for name in text.split(',').map(str::trim) {
            match packs().iter().find(|pack| pack.name == name) {
                Some(pack) => names.push(pack.name),
                None if name == "builtin" => names.extend(Packs::Builtin.chosen().iter().map(|pack| pack.name)),
                None => {
                    let mut known: Vec<&str> = packs().iter().map(|pack| pack.name).collect();
                    known.extend(["builtin", "none"]);
                    return Err(format!("no rule pack is called `{name}`{}", hint(name, &known)));
                }
            }
        }
        Ok(Packs::Named(names))
    }
}

impl Form<Packs> for PackNames {
    fn read(source: Self::Source, default: Packs, check: &mut Check<'_>) -> Option<Packs> {
        let Some(names) = source else { return Some(default) };
        match names.value.0.join(",").parse() {
            Ok(packs) => Some(packs),
            Err(_) if names.value.0.is_empty() => Some(Packs::None),
            Err(cause) => check.refused(names.referenced, cause),
        }
    }
}

impl Show<Packs> for PackNames {
    fn show(value: &Packs) -> Value {
        match value {
            Packs::Builtin => "builtin".into(),
            Packs::None => "none".into(),
            Packs::Named(names) => json!(names),
        }
    }
}
