//! What rules were loaded from, for a check of a configuration by somebody who need not be the user that gnomon serves as: the edition and
//! the files of what a start would load, and what of the state folder this process may not look at.

use crate::{
    line::counted,
    rule_files::{self, RuleText},
};
use gnomon_config::{Rules, remedy};
use gnomon_engine::Origin;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A part of the state folder that this process may not read.
#[derive(Debug)]
pub struct Unread {
    path: PathBuf,
    error: io::Error,
}

impl Unread {
    /// A line for a person: what was not checked, and how it would be.
    pub fn told(&self) -> String {
        let next = remedy(&self.path, &self.error).unwrap_or_else(|| "check as the user that gnomon runs as, or as root".to_owned());
        format!("not checked: {}, which this user may not read ({}); next: {next}", self.path.display(), self.error)
    }
}

/// Adds what a state folder has, as a start does; parts that this process may not read are left out and returned.
pub fn settle(rules: &mut Rules, state_dir: &Path) -> Vec<Unread> {
    rules.settle(state_dir);
    if rules.feed_key.is_none() {
        rules.state_feed = None;
    }
    let mut unread: Vec<Unread> = Vec::new();
    for part in [&mut rules.state_feed, &mut rules.state_triage] {
        let Some(folder) = part.clone() else { continue };
        if let Err((path, error)) = may_read(&folder) {
            // The whole folder, where it is the whole.
            let path = if fs::symlink_metadata(&folder).is_err() { state_dir.to_owned() } else { path };
            if !unread.iter().any(|unread| unread.path == path) {
                unread.push(Unread { path, error });
            }
            *part = None;
        }
    }
    unread
}

/// Errors of permission alone: whatever else is wrong there is for the loading to say.
fn may_read(folder: &Path) -> Result<(), (PathBuf, io::Error)> {
    let denied = |path: &Path, error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => Err((path.to_owned(), error)),
        _ => Ok(()),
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return denied(folder, error),
    };
    entries.flatten().try_for_each(|entry| {
        let path = entry.path();
        let opened = if path.is_dir() { fs::read_dir(&path).map(drop) } else { gnomon_files::open(&path).map(drop) };
        opened.or_else(|error| denied(&path, error))
    })
}

/// Lines for a person: what these rules were loaded from.
pub fn told(rules: &Rules, read: &RuleText) -> Vec<String> {
    let shipped = match (&read.edition, &rules.feed_key) {
        (Some(edition), _) => format!("rules that ship: edition {edition} of the feed"),
        (None, Some(_)) => format!("rules that ship: those of gnomon {}; no edition of the feed is installed", env!("CARGO_PKG_VERSION")),
        (None, None) => format!("rules that ship: those of gnomon {}", env!("CARGO_PKG_VERSION")),
    };
    let own: Vec<&Path> =
        read.sources.iter().filter(|source| source.origin == Origin::Admin).map(|source| Path::new(&source.name)).collect();
    let places = rule_files::places(rules).into_iter().map(|place| {
        let files = own.iter().filter(|file| file.starts_with(&place)).count() as u64;
        if place.is_dir() { format!("{} in {}", counted(files, "file"), place.display()) } else { place.display().to_string() }
    });
    let overrides = read.overrides.iter().map(|file| format!("overrides: {}", file.name));
    std::iter::once(shipped).chain(places).chain(overrides).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_wrong_in_a_state_folder_is_left_to_the_loading_and_what_is_not_there_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut rules = gnomon_config::Config::default().rules;
        assert!(settle(&mut rules, &dir.path().join("none")).is_empty());
        fs::create_dir(dir.path().join("triage.d")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("triage.d/a.yml"), rustix::fs::Mode::RWXU).unwrap();
        assert!(settle(&mut rules, dir.path()).is_empty());
        assert_eq!(rules.state_triage, Some(dir.path().join("triage.d")));
        assert!(rule_files::load(&rules).is_err());
    }
}
