//! What a script may read: the package that it belongs to and the modules that were installed for it, and never a folder in which
//! somebody keeps other things as well.
//!
//! What a package is, its interpreter says: a `package.json` above a Python script means nothing. A manifest alone is not enough, as
//! `npm install` leaves one in whatever folder it was typed in. Who needs more names it with `--read`.

use nix::unistd::User;
use serde_json::Value;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// How far above a script its package may begin.
const ABOVE: usize = 8;
/// Folders that hold whatever there is (FHS 3.0), besides homes.
const SHARED: [&str; 24] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/lib",
    "/usr/local",
    "/usr/share",
    "/var",
    "/var/lib",
    "/var/tmp",
];
/// What is in somebody's home and in no package.
const OF_HOMES: [&str; 13] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".bashrc",
    ".bash_history",
    ".profile",
    ".zshrc",
    ".netrc",
    ".config",
    ".local",
];

/// What runs a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Node,
    Python,
    Ruby,
    Other,
}

impl Language {
    /// By the program; where that says nothing, by the script's ending.
    fn of(program: &Path, script: &Path) -> Self {
        let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        match (name, script.extension().and_then(|ending| ending.to_str())) {
            ("node" | "nodejs" | "bun" | "deno" | "tsx" | "ts-node", _) => Self::Node,
            ("python" | "pypy" | "uv" | "pythonw", _) => Self::Python,
            ("ruby" | "jruby", _) => Self::Ruby,
            ("sh" | "bash" | "dash" | "php" | "java" | "perl", _) => Self::Other,
            (_, Some("js" | "mjs" | "cjs" | "ts")) => Self::Node,
            (_, Some("py")) => Self::Python,
            (_, Some("rb")) => Self::Ruby,
            _ => Self::Other,
        }
    }

    /// Whether a folder is where a package begins, and says so of itself.
    fn begins_in(self, folder: &Path) -> bool {
        let says = |file: &str, lines: &[&str]| {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            text.lines().any(|line| lines.iter().any(|begins| line.trim_start().starts_with(begins)))
        };
        match self {
            Self::Node => {
                let manifest = fs::read(folder.join("package.json")).ok();
                let manifest: Option<Value> = manifest.and_then(|text| serde_json::from_slice(&text).ok());
                manifest.is_some_and(|manifest| manifest.get("name").is_some_and(Value::is_string))
            }
            Self::Python => says("pyproject.toml", &["[project]", "[tool.poetry]", "[build-system]"]) || folder.join("setup.py").is_file(),
            Self::Ruby => folder.join("Gemfile").is_file(),
            Self::Other => false,
        }
    }
}

/// The folders that a script needs to read, of its package and of what was installed for it.
pub(super) fn folders_of(program: &Path, script: &Path) -> Vec<PathBuf> {
    let language = Language::of(program, script);
    let above = || script.ancestors().skip(1).take(ABOVE);
    if language == Language::Node {
        // Its dependencies lie beside it, and theirs may be further out.
        let is_modules = |folder: &&Path| folder.file_name().is_some_and(|name| name == "node_modules");
        if let Some(modules) = script.ancestors().skip(1).filter(is_modules).last() {
            return vec![modules.to_owned()];
        }
    }
    let package = above().find(|folder| language.begins_in(folder)).filter(|folder| !holds_more(folder, language));
    let mut folders: Vec<PathBuf> = package.into_iter().map(Path::to_owned).collect();
    if language == Language::Node {
        let modules = above().map(|folder| folder.join("node_modules")).find(|modules| modules.is_dir());
        folders.extend(modules.filter(|modules| package.is_none_or(|package| !modules.starts_with(package))));
    }
    folders
}

/// Whether a folder is one in which other things are kept than a package.
fn holds_more(folder: &Path, language: Language) -> bool {
    let is_shared = SHARED.iter().any(|shared| folder == Path::new(shared));
    let homes = [env::var_os("HOME").map(PathBuf::from), owner_home(folder)];
    let is_home = homes.iter().flatten().any(|home| fs::canonicalize(home).is_ok_and(|home| home.starts_with(folder)));
    let below_home = folder.parent() == Some(Path::new("/home"));
    is_shared || is_home || below_home || OF_HOMES.iter().any(|name| folder.join(name).exists()) || has_packages(folder, language)
}

/// The home of whoever owns a folder.
fn owner_home(folder: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = fs::metadata(folder).ok()?.uid();
    Some(User::from_uid(owner.into()).ok()??.dir).filter(|home| home.parent().is_some())
}

/// Whether further packages lie directly in a folder.
fn has_packages(folder: &Path, language: Language) -> bool {
    let Ok(within) = fs::read_dir(folder) else { return true };
    within.flatten().any(|entry| entry.file_name() != "node_modules" && language.begins_in(&entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "/usr/bin/node";
    const PYTHON: &str = "/opt/py/bin/python3.12";

    /// Files and what they say; those that end in `/` are folders.
    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap().join("x");
        for (name, text) in files {
            let path = root.join(name);
            if name.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
        }
        (dir, root)
    }

    fn read(program: &str, root: &Path, script: &str) -> Vec<String> {
        let folders = folders_of(Path::new(program), &root.join(script));
        // Whatever lies about above it is the machine's.
        folders.iter().filter_map(|folder| Some(folder.strip_prefix(root).ok()?.display().to_string())).collect()
    }

    #[test]
    fn a_script_reads_its_package_and_one_that_stands_alone_reads_no_folder() {
        let (_dir, root) = folder(&[("dist/index.js", ""), ("dist/package.json", r#"{"type": "module"}"#), ("alone.js", "")]);
        assert_eq!(read(NODE, &root, "dist/index.js"), Vec::<String>::new());
        fs::write(root.join("package.json"), r#"{"name": "tickets"}"#).unwrap();
        assert_eq!(read(NODE, &root, "dist/index.js"), [""]);
        let (_dir, root) = folder(&[("p/pyproject.toml", "# x\n[project]\nname = 'notes'\n"), ("p/src/notes/server.py", "")]);
        assert_eq!(read(PYTHON, &root, "p/src/notes/server.py"), ["p"]);
    }

    #[test]
    fn what_lies_above_a_script_is_its_package_only_to_its_interpreter() {
        let node =
            [("package.json", r#"{"name": "x"}"#), ("node_modules/a/index.js", ""), ("package-lock.json", "{}"), (".env", "TOPSECRET")];
        let (_dir, root) = folder(&[&node[..], &[("scripts/st.py", ""), ("scripts/st.sh", "")]].concat());
        assert_eq!(read(PYTHON, &root, "scripts/st.py"), Vec::<String>::new());
        assert_eq!(read("/bin/sh", &root, "scripts/st.sh"), Vec::<String>::new());
        let (_dir, root) = folder(&[("pyproject.toml", "[project]"), ("scripts/st.js", "")]);
        assert_eq!(read(NODE, &root, "scripts/st.js"), Vec::<String>::new());
    }

    #[test]
    fn a_folder_in_which_somebody_keeps_other_things_is_no_package_whatever_manifest_lies_there() {
        // Where `npm install` or a linter left a manifest.
        let (_dir, root) = folder(&[("package.json", r#"{"dependencies": {}}"#), (".env", "TOPSECRET"), ("scripts/st.js", "")]);
        assert_eq!(read(NODE, &root, "scripts/st.js"), Vec::<String>::new());
        let (_dir, root) = folder(&[("pyproject.toml", "[tool.ruff]"), ("scripts/st.py", "")]);
        assert_eq!(read(PYTHON, &root, "scripts/st.py"), Vec::<String>::new());
        // A home, and a folder of several packages.
        let named = ("package.json", r#"{"name": "me"}"#);
        let (_dir, root) = folder(&[named, (".ssh/id_ed25519", "TOPSECRET"), ("scripts/st.js", "")]);
        assert_eq!(read(NODE, &root, "scripts/st.js"), Vec::<String>::new());
        let (_dir, root) = folder(&[named, ("other/package.json", r#"{"name": "other"}"#), ("mine/st.js", "")]);
        assert_eq!(read(NODE, &root, "mine/st.js"), Vec::<String>::new());
        for shared in ["/", "/tmp", "/opt", "/srv", "/home/ada", "/usr/local", "/root"] {
            assert!(holds_more(Path::new(shared), Language::Node), "{shared}");
        }
    }

    #[test]
    fn modules_are_found_where_npm_put_them_and_the_folder_around_them_is_not_opened() {
        let (_dir, root) = folder(&[
            ("package.json", r#"{"name": "x"}"#),
            (".env", "TOPSECRET"),
            ("node_modules/@mcp/server/package.json", r#"{"name": "@mcp/server"}"#),
            ("node_modules/@mcp/server/dist/index.js", ""),
            ("node_modules/@mcp/server/node_modules/dep/cli.js", ""),
            ("node_modules/sdk/package.json", "{}"),
        ]);
        assert_eq!(read(NODE, &root, "node_modules/@mcp/server/dist/index.js"), ["node_modules"]);
        assert_eq!(read(NODE, &root, "node_modules/@mcp/server/node_modules/dep/cli.js"), ["node_modules"]);
        // Hoisted to where a workspace begins.
        let (_dir, root) =
            folder(&[("packages/a/package.json", r#"{"name": "a"}"#), ("packages/a/index.js", ""), ("node_modules/sdk/x.js", "")]);
        assert_eq!(read(NODE, &root, "packages/a/index.js"), ["packages/a", "node_modules"]);
        // A script with no package of its own.
        let (_dir, root) = folder(&[("scripts/st.js", ""), ("node_modules/sdk/x.js", "")]);
        assert_eq!(read(NODE, &root, "scripts/st.js"), ["node_modules"]);
    }
}
