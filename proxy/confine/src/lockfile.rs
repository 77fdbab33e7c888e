//! Packages that a launcher runs: held against a lock file, and against what is installed beside it.
//!
//! A launcher (`npx`, `uv run`) is pinned by nothing that is known of the launcher itself. So it is run offline, in the
//! lock file's folder, and only while what is installed there is what the lock file says. Whether the files of a package
//! are those that its integrity hash was made of is checked at installation (`npm ci`, `uv sync --frozen`), not
//! here: keep the folder out of other users' reach.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Longest lock file, bytes.
const LONGEST: u64 = 64 << 20;

/// A package of a registry, as a lock file names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// With its scope, if it has one.
    pub name: String,
    /// Exactly.
    pub version: String,
    /// The lock file.
    pub lockfile: PathBuf,
}

/// The package manager of a lock file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecosystem {
    /// `package-lock.json`, `npm-shrinkwrap.json`; installed in `node_modules`.
    Npm,
    /// `uv.lock`; installed in `.venv`.
    Uv,
}

impl Ecosystem {
    /// The package manager by the lock file's name.
    #[must_use]
    pub fn of(lockfile: &Path) -> Option<Self> {
        match lockfile.file_name()?.to_str()? {
            "package-lock.json" | "npm-shrinkwrap.json" => Some(Self::Npm),
            "uv.lock" => Some(Self::Uv),
            _ => None,
        }
    }

    /// The environment that keeps its launcher from fetching anything.
    #[must_use]
    pub fn offline(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Npm => &[("npm_config_offline", "true"), ("npm_config_update_notifier", "false"), ("npm_config_audit", "false")],
            Self::Uv => &[("UV_OFFLINE", "1"), ("UV_FROZEN", "1"), ("UV_NO_SYNC", "1")],
        }
    }
}

/// An error of holding a package to its lock file.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A lock file of a kind that is not known here.
    #[error("{path} is not a supported lock file: package-lock.json, npm-shrinkwrap.json or uv.lock", path = path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read: {cause}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The lock file does not have it.
    #[error("{path} does not lock {name} {version} with an integrity hash; found {found}", path = path.display())]
    NotLocked {
        /// The lock file.
        path: PathBuf,
        /// The package.
        name: String,
        /// The version that is pinned.
        version: String,
        /// The version found.
        found: String,
    },
    /// The installed package differs.
    #[error("the package installed beside {path} is not {name} {version}: {found}", path = path.display())]
    NotInstalled {
        /// The lock file.
        path: PathBuf,
        /// The package.
        name: String,
        /// The version that is pinned.
        version: String,
        /// The version found.
        found: String,
    },
}

fn read(path: &Path) -> Result<String, LockError> {
    let unreadable = |cause| LockError::Unreadable { path: path.to_owned(), cause };
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text)).map_err(unreadable)?;
    Ok(text)
}

/// Holds a package against its lock file, and against what is installed beside that.
///
/// # Errors
/// If it is not locked, or another version is installed.
pub fn locked(package: &Package) -> Result<(), LockError> {
    let path = &package.lockfile;
    let (name, version) = (package.name.as_str(), package.version.as_str());
    let not_locked = |found: &str| LockError::NotLocked {
        path: path.clone(),
        name: name.to_owned(),
        version: version.to_owned(),
        found: found.to_owned(),
    };
    let not_installed =
        |found: String| LockError::NotInstalled { path: path.clone(), name: name.to_owned(), version: version.to_owned(), found };
    let folder = path.parent().unwrap_or(Path::new(""));
    match Ecosystem::of(path) {
        None => Err(LockError::Unknown { path: path.clone() }),
        Some(Ecosystem::Npm) => {
            let wanted = npm(&read(path)?, name).ok_or_else(|| not_locked("no entry with version and integrity"))?;
            if wanted.0 != version {
                return Err(not_locked(&wanted.0));
            }
            // npm writes it with what it has put there.
            let installed = folder.join("node_modules/.package-lock.json");
            match npm(&read(&installed)?, name) {
                Some(found) if found == wanted => Ok(()),
                Some(found) => Err(not_installed(format!("{} ({})", found.0, found.1))),
                None => Err(not_installed("nothing; run `npm ci` there".to_owned())),
            }
        }
        Some(Ecosystem::Uv) => {
            let found = uv(&read(path)?, name);
            if !found.iter().any(|found| found == version) {
                return Err(not_locked(&if found.is_empty() { "no entry with a hash".to_owned() } else { found.join(", ") }));
            }
            let environment = folder.join(".venv/lib");
            let installed = fs::read_dir(&environment).map_err(|cause| LockError::Unreadable { path: environment, cause })?;
            let wanted = format!("{}-{version}.dist-info", name.replace(['-', '.'], "_"));
            let there = installed.flatten().any(|python| python.path().join("site-packages").join(&wanted).is_dir());
            if there { Ok(()) } else { Err(not_installed(format!("no {wanted}; run `uv sync --frozen` there"))) }
        }
    }
}

/// Version and integrity in a `package-lock.json` of version 2 or 3.
fn npm(text: &str, name: &str) -> Option<(String, String)> {
    let lock: Value = serde_json::from_str(text).ok()?;
    let entry = lock.get("packages")?.get(format!("node_modules/{name}"))?;
    let text = |key: &str| entry.get(key)?.as_str().map(str::to_owned);
    Some((text("version")?, text("integrity")?))
}

/// The versions of a package in a `uv.lock` that come with hashes. uv writes one key a line.
fn uv(text: &str, name: &str) -> Vec<String> {
    let value = |block: &str, key: &str| -> Option<String> {
        block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"').map(str::to_owned))
    };
    let blocks = text.split("[[package]]\n").skip(1);
    let ours = blocks.filter(|block| value(block, "name").as_deref() == Some(name) && block.contains("hash = \"sha256:"));
    ours.filter_map(|block| value(block, "version")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(lockfile: PathBuf, name: &str, version: &str) -> Package {
        Package { name: name.to_owned(), version: version.to_owned(), lockfile }
    }

    #[test]
    fn an_npm_package_is_what_the_lock_file_says_and_what_is_installed() {
        let folder = tempfile::tempdir().unwrap();
        let lockfile = folder.path().join("package-lock.json");
        let entry = |version: &str, integrity: &str| {
            format!(r#"{{"packages":{{"node_modules/@a/files":{{"version":"{version}","integrity":"{integrity}"}}}}}}"#)
        };
        fs::write(&lockfile, entry("1.2.3", "sha512-x")).unwrap();
        fs::create_dir(folder.path().join("node_modules")).unwrap();
        let hidden = folder.path().join("node_modules/.package-lock.json");
        let check = |version: &str| locked(&package(lockfile.clone(), "@a/files", version)).map_err(|error| error.to_string());
        assert!(check("1.2.3").unwrap_err().contains("cannot be read"));
        fs::write(&hidden, entry("1.2.3", "sha512-x")).unwrap();
        assert_eq!(check("1.2.3"), Ok(()));
        assert!(check("1.2.4").unwrap_err().ends_with("found 1.2.3"));
        fs::write(&hidden, entry("1.2.3", "sha512-y")).unwrap();
        assert!(check("1.2.3").unwrap_err().ends_with("1.2.3 (sha512-y)"));
        fs::write(&lockfile, r#"{"packages":{"node_modules/@a/files":{"version":"1.2.3"}}}"#).unwrap();
        assert!(check("1.2.3").unwrap_err().contains("does not lock"), "without integrity");
    }

    #[test]
    fn a_python_package_is_what_the_lock_file_says_and_what_is_installed() {
        let folder = tempfile::tempdir().unwrap();
        let lockfile = folder.path().join("uv.lock");
        let text = "version = 1\n\n[[package]]\nname = \"mcp-files\"\nversion = \"1.2.3\"\nwheels = [\n    { hash = \"sha256:ab\" },\n]\n\n\
                    [[package]]\nname = \"other\"\nversion = \"2\"\n";
        fs::write(&lockfile, text).unwrap();
        let installed = folder.path().join(".venv/lib/python3.12/site-packages");
        fs::create_dir_all(&installed).unwrap();
        let check = |name: &str, version: &str| locked(&package(lockfile.clone(), name, version)).map_err(|error| error.to_string());
        assert!(check("mcp-files", "1.2.3").unwrap_err().contains("the package installed beside"));
        fs::create_dir(installed.join("mcp_files-1.2.3.dist-info")).unwrap();
        assert_eq!(check("mcp-files", "1.2.3"), Ok(()));
        assert!(check("mcp-files", "1.2.4").unwrap_err().ends_with("found 1.2.3"));
        assert!(check("other", "2").unwrap_err().ends_with("found no entry with a hash"));
        let unknown = locked(&package(folder.path().join("poetry.lock"), "x", "1"));
        assert!(matches!(unknown, Err(LockError::Unknown { .. })));
    }
}
