//! `cargo xtask check`: the checks that a change breaks most often, in a few minutes. Everything else is in `.ci/run`.
//!
//! It formats nothing and builds no end-to-end tests: it asks rustfmt, clippy for the crates that changed and those that are made of them, and
//! runs the tests of the crates that changed, and looks for circles of imports, names and fields in all. What changed is what git says: since the
//! branch left main, and not committed yet. A file counts for the crate in whose folder it is, and for those that embed it or build from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{cargo, root, run};

/// The package at the workspace's root; its tests are the end-to-end tests.
const PRODUCT: &str = "gnomon";

/// What CONTRIBUTING promises of a checkout that is built.
const LIMIT: Duration = Duration::from_secs(180);

/// Files that every crate is built from.
const OF_ALL: [&str; 3] = ["Cargo.lock", "Cargo.toml", "rust-toolchain.toml"];

/// What stands before the path of a file that is compiled in, or run by tests, and whether that path begins at the crate's folder.
const EMBEDS: [(&str, Base); 5] = [
    ("include_str!(\"", Base::Source),
    ("include_bytes!(\"", Base::Source),
    ("include!(\"", Base::Source),
    ("#[path = \"", Base::Source),
    ("env!(\"CARGO_MANIFEST_DIR\"), \"/", Base::Crate),
];

/// The folder that a path is relative to.
#[derive(Clone, Copy)]
enum Base {
    /// That of the source file.
    Source,
    /// That of its crate.
    Crate,
}

/// What is compared with where nothing is said, the first that there is.
const BRANCHES: [&str; 2] = ["origin/main", "main"];

/// Options of the quick check.
#[derive(Args)]
pub struct Check {
    /// The commit or branch to compare with [default: origin/main, else main, else what is not committed]
    #[arg(long)]
    since: Option<String>,
}

impl Check {
    /// Runs the checks, the quickest first.
    ///
    /// # Errors
    /// One of them fails, or git does not know the commit.
    pub fn run(&self) -> Result<ExitCode> {
        let began = Instant::now();
        run(cargo().current_dir(root()?).args(["fmt", "--all", "--check"]))?;
        let crates = Crates::read(root()?)?;
        let since = match &self.since {
            Some(since) => since,
            // A clone without a remote, or with a branch of another name.
            None => BRANCHES.into_iter().find(|branch| git(&["rev-parse", "--verify", "--quiet", branch]).is_ok()).unwrap_or("HEAD"),
        };
        let files = changed_files(since)?;
        let changed = crates.changed(&files);
        if changed.is_empty() {
            println!("no crate changed since {since}, and {} other files", files.len());
            return Ok(ExitCode::SUCCESS);
        }
        let of_all = files.iter().any(|file| OF_ALL.contains(&file.as_str()));
        let concerned = if of_all { crates.all() } else { crates.made_of(&changed) };
        println!("changed: {}; made of them: {}", names(&changed), names(&concerned));
        let packages = |of: &BTreeSet<&str>| of.iter().flat_map(|name| ["-p".to_owned(), (*name).to_owned()]).collect::<Vec<_>>();
        let mut clippy = cargo();
        clippy.current_dir(root()?).args(["clippy", "--release", "--locked", "--all-targets"]).args(packages(&concerned));
        run(clippy.args(["--", "-D", "warnings"]))?;
        let mut own = cargo();
        own.current_dir(root()?).args(["test", "--release", "--locked", "-q", "-p", "xtask"]);
        run(own.args(["--test", "circles", "--test", "fields", "--test", "house", "--test", "names"]))?;
        let tested: BTreeSet<&str> = changed.iter().copied().filter(|name| *name != PRODUCT).collect();
        if !tested.is_empty() {
            run(cargo().current_dir(root()?).args(["test", "--release", "--locked", "-q"]).args(packages(&tested)))?;
        }
        let left = match (of_all, changed.contains(PRODUCT)) {
            (true, _) => "; what every crate is built from changed: cargo test --release --workspace",
            (false, true) => "; end-to-end tests: cargo test --release --workspace --test e2e -- WORD",
            (false, false) => "",
        };
        println!("checked in {}{left}", told(began.elapsed()));
        Ok(ExitCode::SUCCESS)
    }
}

/// The time that it took, and whether that is more than promised. No failure: a cold cache or a busy machine is none of the change's.
fn told(took: Duration) -> String {
    let over = if took > LIMIT { format!(", over the {} minutes promised", LIMIT.as_secs() / 60) } else { String::new() };
    format!("{:.0} s{over}", took.as_secs_f64())
}

/// Files that differ from the commit at which this branch left `since`, and files that git does not track yet.
fn changed_files(since: &str) -> Result<Vec<String>> {
    let base = git(&["merge-base", since, "HEAD"])?;
    let mut files = git(&["diff", "--name-only", base.trim()])?;
    files.push_str(&git(&["ls-files", "--others", "--exclude-standard"])?);
    Ok(files.lines().map(str::to_owned).collect())
}

fn git(args: &[&str]) -> Result<String> {
    let output = Command::new("git").current_dir(root()?).args(args).output().context("starting git")?;
    ensure!(output.status.success(), "git {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8(output.stdout).context("git answers with bytes that are not text")
}

fn names(of: &BTreeSet<&str>) -> String {
    of.iter().copied().collect::<Vec<_>>().join(" ")
}

/// The workspace's crates: name, folder, what each is made of, and which files it takes from elsewhere.
struct Crates {
    known: BTreeMap<String, Known>,
    /// Crates that embed a file, by its path.
    embedded: BTreeMap<String, BTreeSet<String>>,
}

struct Known {
    folder: String,
    made_of: BTreeSet<String>,
    membership: Membership,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Membership {
    /// Its own tests run.
    Member,
    /// It is built with those that are made of it, and its tests are theirs.
    Outside,
}

impl Crates {
    /// Reads the manifests of the workspace's members and of what they take by a path, and the sources for what they embed.
    fn read(root: &Path) -> Result<Self> {
        let manifest = |folder: &str| {
            let path = root.join(folder).join("Cargo.toml");
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let workspace = manifest("")?;
        let members = between(&workspace, "members = [", "]").context("Cargo.toml names no members")?;
        let members: Vec<_> = members.split(',').filter_map(|member| between(member, "\"", "\"")).filter(|member| *member != ".").collect();
        let by_path = workspace.lines().filter_map(|line| between(line, "path = \"", "\"").filter(|_| line.starts_with(PRODUCT)));
        let outside = by_path.filter(|folder| !members.contains(folder)).map(|folder| (folder, Membership::Outside));
        let all = std::iter::once("").chain(members.iter().copied()).map(|folder| (folder, Membership::Member)).chain(outside);
        let mut known = BTreeMap::new();
        for (folder, membership) in all {
            let text = manifest(folder)?;
            let package = text.split("\n[package]").nth(1).or_else(|| text.strip_prefix("[package]")).unwrap_or_default();
            let Some(name) = package.lines().find_map(|line| between(line, "name = \"", "\"")) else { continue };
            let ours = |line: &str| line.split(['.', ' ', '=']).next().filter(|name| name.starts_with(PRODUCT)).map(str::to_owned);
            let made_of = package.lines().filter_map(ours).collect();
            known.insert(name.to_owned(), Known { folder: folder.to_owned(), made_of, membership });
        }
        let mut crates = Self { known, embedded: BTreeMap::new() };
        for source in git(&["ls-files", "*.rs"])?.lines() {
            // One that was removed and not committed yet embeds nothing.
            let Ok(text) = fs::read_to_string(root.join(source)) else { continue };
            crates.embeds(source, &text);
        }
        Ok(crates)
    }

    /// Notes the files that a source embeds.
    fn embeds(&mut self, source: &str, text: &str) {
        let Some((name, folder)) = self.of(source).map(|(name, known)| (name.to_owned(), known.folder.clone())) else { return };
        let beside = source.rsplit_once('/').map_or("", |(beside, _)| beside);
        for (before, base) in EMBEDS {
            for after in text.split(before).skip(1) {
                let Some((path, _)) = after.split_once('"') else { continue };
                let from = match base {
                    Base::Source => beside,
                    Base::Crate => &folder,
                };
                self.embedded.entry(joined(from, path)).or_default().insert(name.clone());
            }
        }
    }

    /// The innermost crate in whose folder a file is.
    fn of(&self, file: &str) -> Option<(&str, &Known)> {
        let within = |folder: &str| file.strip_prefix(folder).is_some_and(|rest| folder.is_empty() || rest.starts_with('/'));
        let all = self.known.iter().filter(|(_, known)| within(&known.folder));
        all.max_by_key(|(_, known)| known.folder.len()).map(|(name, known)| (name.as_str(), known))
    }

    /// Those that a change of these files is a change of. Documents count only where they are embedded.
    fn changed(&self, files: &[String]) -> BTreeSet<&str> {
        let mut changed = BTreeSet::new();
        for file in files {
            // A module of another crate's tests is a source of both.
            changed.extend(self.embedded.get(file).into_iter().flatten().map(String::as_str));
            let Some((name, known)) = self.of(file).filter(|_| !file.ends_with(".md")) else { continue };
            match known.membership {
                Membership::Member => _ = changed.insert(name),
                Membership::Outside => {
                    changed.extend(self.known.iter().filter(|(_, user)| user.made_of.contains(name)).map(|(user, _)| user.as_str()));
                }
            }
        }
        changed.retain(|name| self.is_member(name));
        changed
    }

    /// These crates, and those that depend on them, directly or not.
    fn made_of<'a>(&'a self, changed: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
        let mut concerned = changed.clone();
        loop {
            let next = self.known.iter().filter(|(_, known)| known.made_of.iter().any(|part| concerned.contains(part.as_str())));
            let before = concerned.len();
            concerned.extend(next.map(|(name, _)| name.as_str()).filter(|name| self.is_member(name)).collect::<Vec<_>>());
            if concerned.len() == before {
                return concerned;
            }
        }
    }

    /// All members.
    fn all(&self) -> BTreeSet<&str> {
        self.known.keys().map(String::as_str).filter(|name| self.is_member(name)).collect()
    }

    fn is_member(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|known| known.membership == Membership::Member)
    }
}

/// A path below a folder, without `..`.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_testkit::has;

    #[test]
    fn a_check_that_takes_longer_than_promised_says_so() {
        assert_eq!(told(Duration::from_millis(41_400)), "41 s");
        assert_eq!(told(LIMIT), "180 s");
        assert_eq!(told(Duration::from_secs(181)), "181 s, over the 3 minutes promised");
        let promise = fs::read_to_string(root().unwrap().join("CONTRIBUTING.md")).unwrap();
        assert!(promise.contains("`cargo xtask check` promises three minutes"), "CONTRIBUTING promises what is measured here");
    }

    #[test]
    fn a_change_concerns_its_crate_and_those_that_are_made_of_it() {
        if !has("a_change_concerns_its_crate_and_those_that_are_made_of_it", &["git"]) {
            return;
        }
        let crates = Crates::read(root().unwrap()).unwrap();
        let files = ["ledger/model/src/event.rs".to_owned(), "docs/rules.md".to_owned()];
        let changed = crates.changed(&files);
        assert_eq!(changed, BTreeSet::from(["gnomon-ledger-model"]));
        let concerned = crates.made_of(&changed);
        for name in ["gnomon-ledger", "gnomon-ledger-sqlite", "gnomon-record", PRODUCT] {
            assert!(concerned.contains(name), "{concerned:?} lacks {name}");
        }
        assert!(!concerned.contains("gnomon-wire"));
        assert_eq!(crates.changed(&["src/main.rs".to_owned(), "tests/e2e/main.rs".to_owned()]), BTreeSet::from([PRODUCT]));
    }

    #[test]
    fn every_file_that_a_crate_embeds_or_builds_from_counts_for_it() {
        if !has("every_file_that_a_crate_embeds_or_builds_from_counts_for_it", &["git"]) {
            return;
        }
        let crates = Crates::read(root().unwrap()).unwrap();
        for (file, expected) in [
            ("proxy/codemode/src/worker/prelude.js", ["gnomon-codemode"].as_slice()),
            ("rules/packs/catalogue/mcp_hosts.csv", &["gnomon-packs"]),
            ("sensor-ebpf/object/gnomon.bpf.o", &["gnomon", "gnomon-sensor"]),
            ("sensor-ebpf/abi/src/lib.rs", &["gnomon-sensor", "gnomon-watch"]),
            ("deploy/prometheus/gnomon.rules.yml", &["gnomon", "gnomon-demo"]),
            ("serve/src/posting.rs", &["gnomon-export", "gnomon-serve"]),
            ("proxy/portal/tests/behaviour/program.py", &["gnomon", "gnomon-portal"]),
            ("xtask/src/package/server.sh", &["xtask"]),
            ("rules/wire/src/coding/fixtures/brotli.txt", &["gnomon-wire"]),
            ("proxy/relay/README.md", &[]),
        ] {
            let changed = crates.changed(&[file.to_owned()]);
            let missing: Vec<_> = expected.iter().filter(|name| !changed.contains(*name)).collect();
            assert!(missing.is_empty() && changed.is_empty() == expected.is_empty(), "{file}: {changed:?} lacks {missing:?}");
        }
        // None is taken for another's, whatever its kind.
        let tracked = git(&["ls-files"]).unwrap();
        let forgotten: Vec<_> =
            tracked.lines().filter(|file| !file.ends_with(".md") && crates.changed(&[(*file).to_owned()]).is_empty()).collect();
        assert!(forgotten.is_empty(), "{forgotten:?}");
        for file in crates.embedded.keys() {
            assert!(root().unwrap().join(file).exists(), "{file} is embedded and not there");
        }
    }
}
