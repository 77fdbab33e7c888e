//! Compiles the configured rules: those that ship or of a feed in their place (vendor), then the administrator's own.

use crate::{
    complaint::Complaint,
    feed::{Editions, Feed, Version, current_in},
};
use gnomon_config as config;
use gnomon_engine::{Adjustments, Lint, Origin, RuleSet, Source};
use gnomon_packs::HostCatalogue;
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Longest rule or catalogue file, bytes.
const MAX_FILE: u64 = 4 << 20;
/// The most levels of nested rule folders; a circle of links ends here.
const MAX_DEPTH: usize = 16;
/// Most files of rules.
const MAX_FILES: usize = 20_000;

/// Rules as they were read, so that they can be compiled again when an exception has ended, even without the files.
#[derive(Clone, Debug, Default)]
pub struct RuleText {
    /// The rules that ship, then the administrator's.
    pub sources: Vec<Source>,
    /// The changes of single rules without their text.
    pub overrides: Option<Source>,
    /// The edition of the feed that took the place of packs.
    pub edition: Option<Version>,
}

impl RuleText {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of(rules: &config::Rules) -> Result<Self, Complaint> {
        Self::with_feed(rules, feed(rules)?.as_ref())
    }

    /// The same with this edition of the feed, or none, whatever is installed.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn with_feed(rules: &config::Rules, feed: Option<&Feed>) -> Result<Self, Complaint> {
        Ok(Self { sources: sources(rules, feed)?, overrides: overrides(rules)?, edition: feed.map(|feed| feed.version.clone()) })
    }

    /// The rules with these folders and files in place of files that have a rule of the same id.
    ///
    /// # Errors
    /// When a file cannot be read or a rule of it is bad.
    pub fn with(&self, paths: &[PathBuf]) -> Result<Self, Complaint> {
        let ids = |sources: &[Source]| -> Result<std::collections::HashSet<String>, Complaint> {
            let set = RuleSet::compile(sources).map_err(Complaint::input)?;
            Ok(set.rules().iter().chain(set.disabled()).map(|rule| rule.id.to_string()).collect())
        };
        let named = own(paths)?;
        let new = ids(&named)?;
        let mut sources = Vec::new();
        for source in &self.sources {
            if ids(std::slice::from_ref(source))?.is_disjoint(&new) {
                sources.push(source.clone());
            }
        }
        sources.extend(named);
        Ok(Self { sources, ..self.clone() })
    }

    /// Compiles them as of now; the error lists everything that is wrong.
    ///
    /// # Errors
    /// Every error of every rule, one per line.
    pub fn compile(&self, lint: Lint) -> Result<RuleSet, Complaint> {
        let adjustments = Adjustments { overrides: self.overrides.clone(), now: SystemTime::now(), lint };
        RuleSet::compile_with(&self.sources, &adjustments).map_err(Complaint::input)
    }
}

/// Reads and compiles what the configuration names.
///
/// # Errors
/// When a file cannot be read, or every error of every rule, one per line.
pub fn load(rules: &config::Rules) -> Result<RuleSet, Complaint> {
    RuleText::of(rules)?.compile(Lint::Skip)
}

fn overrides(rules: &config::Rules) -> Result<Option<Source>, Complaint> {
    let Some(path) = &rules.overrides else { return Ok(None) };
    Ok(Some(Source { name: path.display().to_string(), text: read(path)?, origin: Origin::Admin }))
}

/// The edition of the feed that is in force: installed, and signed with the configured key.
///
/// # Errors
/// It cannot be read, or is not signed with that key.
pub fn feed(rules: &config::Rules) -> Result<Option<Feed>, Complaint> {
    match (&rules.feed_key, &rules.state_feed) {
        (Some(key), Some(folder)) => Editions::of(folder)?.current(key),
        _ => Ok(None),
    }
}

/// The sources that the configuration names, packs first, with this edition of the feed.
///
/// # Errors
/// When a file cannot be read.
pub fn sources(rules: &config::Rules, feed: Option<&Feed>) -> Result<Vec<Source>, Complaint> {
    let mut sources: Vec<Source> = Vec::new();
    let vendor = |(name, text): (String, String)| Source { name, text, origin: Origin::Vendor };
    for pack in rules.packs.chosen() {
        match feed.and_then(|feed| feed.files(pack.name)) {
            Some(files) => sources.extend(files.iter().cloned().map(vendor)),
            None => sources.extend(pack.files().map(|(name, text)| vendor((name, text.to_owned())))),
        }
    }
    // Root reads there too, in a folder that the serving process's user may write.
    if let Some(folder) = rules.state_triage.as_ref().filter(|folder| folder.is_symlink()) {
        let wrong = format!("{} is a link, and exceptions in the state folder are not read through one", folder.display());
        return Err(Complaint::input(wrong).next("make it a folder, or name the other one as rules.triage in the configuration"));
    }
    sources.extend(own(&places(rules))?);
    Ok(sources)
}

/// The administrator's rules in these folders and files.
///
/// # Errors
/// When one cannot be read: a rule that is silently missing is a hole.
pub fn own(paths: &[PathBuf]) -> Result<Vec<Source>, Complaint> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(listed(path)?);
        if files.len() > MAX_FILES {
            return Err(too_many());
        }
    }
    // A folder named twice, or a folder within another, is loaded once.
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(fs::canonicalize(file).unwrap_or_else(|_| file.clone())));
    files.iter().map(|file| Ok(Source { name: file.display().to_string(), text: read(file)?, origin: Origin::Admin })).collect()
}

/// The files of rules in a folder, sorted, or the file itself.
///
/// # Errors
/// When a folder cannot be read, or there are too many.
pub fn listed(path: &Path) -> Result<Vec<PathBuf>, Complaint> {
    let mut files = Vec::new();
    collect(path, 0, &mut files)?;
    files.sort_unstable();
    Ok(files)
}

/// The administrator's folders and files. One for exceptions need not be there: the first makes it. One that may not be looked into is
/// there: what is in it would be missing silently.
pub fn places(rules: &config::Rules) -> Vec<PathBuf> {
    let is_there = |folder: &&PathBuf| !matches!(folder.try_exists(), Ok(false));
    let triage = [&rules.triage, &rules.state_triage].into_iter().flatten().filter(is_there);
    rules.dirs.iter().chain(triage).cloned().collect()
}

/// The paths to look at to learn that rules changed.
pub fn watched(rules: &config::Rules) -> Vec<PathBuf> {
    let feed = rules.feed_key.as_ref().and(rules.state_feed.as_deref()).map(current_in);
    rules.dirs.iter().chain(&rules.overrides).chain(&rules.triage).chain(&rules.state_triage).cloned().chain(feed).collect()
}

/// The shipped catalogue of hosts with the administrator's over it.
///
/// # Errors
/// When a file cannot be read or one of its lines is wrong.
pub fn catalogue(files: &[PathBuf]) -> Result<HostCatalogue, Complaint> {
    let mut catalogue = HostCatalogue::shipped().map_err(Complaint::own)?;
    for file in files {
        let own = HostCatalogue::from_csv(&read(file)?).map_err(|error| Complaint::input(format!("{}: {error}", file.display())))?;
        catalogue = catalogue.merge(own);
    }
    Ok(catalogue)
}

fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Complaint> {
    let kind = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !kind.is_dir() {
        // Opening a pipe or a device may block. One that is named itself is meant (`<(…)` of a shell).
        if depth > 0 && !kind.is_file() {
            return Err(Complaint::input(format!("{}: not a regular file", path.display())).next("take it out of the folder of rules"));
        }
        files.push(path.to_owned());
        if files.len() > MAX_FILES {
            return Err(too_many());
        }
        return Ok(());
    }
    if depth == MAX_DEPTH {
        return Err(
            Complaint::input(format!("{}: folders nest deeper than {MAX_DEPTH}", path.display())).next("is a link pointing upwards?")
        );
    }
    for entry in fs::read_dir(path).map_err(|error| unreadable(path, &error))? {
        let entry = entry.map_err(|error| unreadable(path, &error))?;
        // Editors' leftovers, and the second copies that Kubernetes keeps behind `..data`.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let is_rule = matches!(path.extension().and_then(OsStr::to_str), Some("yml" | "yaml"));
        if is_rule || path.is_dir() {
            collect(&path, depth + 1, files)?;
        }
    }
    Ok(())
}

fn too_many() -> Complaint {
    Complaint::input(format!("more than {MAX_FILES} rule files")).next("name a narrower folder")
}

fn read(path: &Path) -> Result<String, Complaint> {
    let mut text = String::new();
    let length = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    match length {
        Ok(length) if length as u64 > MAX_FILE => Err(Complaint::input(format!("{} is longer than {MAX_FILE} bytes", path.display()))),
        Ok(_) => Ok(text),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Complaint {
    let next = "name existing, readable files with --rules or in the section rules";
    Complaint::unreadable(path.display(), path, error, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_at_any_depth_in_order_and_hidden_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("sub/..data")).unwrap();
        for name in ["b.yml", "a.yaml", "sub/c.yml", "readme.md", ".hidden.yml", "sub/..data/c.yml"] {
            fs::write(at(name), name).unwrap();
        }
        let twice = [dir.path().to_owned(), at("sub")];
        let sources = own(&twice).unwrap();
        let texts: Vec<&str> = sources.iter().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["a.yaml", "b.yml", "sub/c.yml"]);
        assert!(sources.iter().all(|source| source.origin == Origin::Admin));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let error = own(&["/no/such/folder".into()]).unwrap_err();
        assert!(error.cause.starts_with("cannot read /no/such/folder: "), "{error}");
    }

    #[test]
    fn a_pipe_in_a_folder_is_an_error_and_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("a.yml"), rustix::fs::Mode::RWXU).unwrap();
        let error = own(&[dir.path().to_owned()]).unwrap_err();
        assert!(error.cause.ends_with("a.yml: not a regular file"), "{error}");
    }

    #[test]
    fn exceptions_of_the_state_folder_are_not_read_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (elsewhere, folder) = (dir.path().join("elsewhere"), dir.path().join("triage.d"));
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &folder).unwrap();
        let rules = config::Rules { state_triage: Some(folder), ..config::Config::default().rules };
        assert!(sources(&rules, None).unwrap_err().cause.contains("triage.d is a link"));
    }

    #[test]
    fn links_in_a_circle_end() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
        assert!(own(&[dir.path().to_owned()]).unwrap_err().cause.contains("nest deeper"));
    }
}
