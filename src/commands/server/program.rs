//! Adding an MCP server that is a program on this host: what runs is found, hashed and pinned.

use super::{Add, Target, quoted};
use anyhow::Result;
use gnomon_cli::Complaint;
use gnomon_confine::Digest;
use gnomon_serve::programs;
use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
};

impl Add {
    /// Finds and pins the program, asks it, and adds its entry.
    pub(super) async fn program(self) -> Result<()> {
        let target = Target::of(&self.config)?;
        let first = self.command.first().map(String::as_str).unwrap_or_default();
        let found = programs::found(first).ok_or_else(|| {
            Complaint::usage(format!("`{first}` does not exist")).next("name the program by its whole path; it comes first behind --command")
        })?;
        let found = std::path::absolute(&found)?;
        let script = self.command.iter().skip(1).find_map(|word| script(word));
        let name = script.as_deref().unwrap_or(&found);
        let id = self.id_for(&name_of(name), "server", &target.config)?;
        let entry = self.program_entry(&id, &found, script.as_deref())?;
        self.try_and_add(&target, &id, &entry).await
    }

    fn program_entry(&self, id: &str, program: &Path, script: Option<&Path>) -> Result<String> {
        let mut command = vec![in_quotes(program)?];
        for word in self.command.iter().skip(1) {
            // A service starts in another folder than whoever types this.
            command.push(match script.filter(|_| fs::canonicalize(word).is_ok_and(|path| Some(path.as_path()) == script)) {
                Some(script) => in_quotes(script)?,
                None => quoted(word),
            });
        }
        let mut entry = format!("- id: {id}\n  command: [{}]\n", command.join(", "));
        // Writing to a String cannot fail.
        let _ = write!(entry, "  pin:\n    sha256: {}\n", digest(program)?);
        if let Some(script) = script {
            let _ = writeln!(entry, "    files: {{{}: {}}}", in_quotes(script)?, digest(script)?);
        }
        let mut read = self.read.clone();
        read.extend(script.and_then(package_of).map(Path::to_owned));
        for (key, paths) in [("read", &read), ("write", &self.write)] {
            let paths = paths.iter().map(|path| in_quotes(&std::path::absolute(path)?)).collect::<Result<Vec<_>>>()?;
            if !paths.is_empty() {
                let _ = writeln!(entry, "  {key}: [{}]", paths.join(", "));
            }
        }
        if !self.env.is_empty() {
            entry.push_str("  env:\n");
        }
        for variable in &self.env {
            let (name, value) = variable.split_once('=').ok_or_else(|| Complaint::usage("--env is NAME=VALUE, as TOKEN=file:/path"))?;
            let _ = writeln!(entry, "    {}: {}", quoted(name), quoted(value));
        }
        for (key, value) in [("network", &self.network), ("user", &self.user)] {
            if let Some(value) = value {
                let _ = writeln!(entry, "  {key}: {}", quoted(value));
            }
        }
        Ok(entry)
    }
}

/// An argument that names a file which is read as a program: not a folder, and not what a tool works on.
fn script(word: &str) -> Option<PathBuf> {
    const ENDINGS: [&str; 9] = ["js", "mjs", "cjs", "ts", "py", "rb", "jar", "php", "sh"];
    let path = Path::new(word);
    let is_script = path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending));
    fs::canonicalize(path).ok().filter(|path| is_script && path.is_file())
}

/// The folder of the package that a script belongs to, whose other files it imports. A script that stands alone needs no folder: it is
/// readable, as the command names it, and the folder may be somebody's home.
fn package_of(script: &Path) -> Option<&Path> {
    const SIGNS: [&str; 5] = ["package.json", "node_modules", "pyproject.toml", "setup.py", "Gemfile"];
    script.ancestors().skip(1).take(4).find(|folder| SIGNS.iter().any(|sign| folder.join(sign).exists()))
}

/// A name for a program: its file's name, or its folder's where that says nothing.
fn name_of(program: &Path) -> String {
    const COMMON: [&str; 8] = ["index", "main", "server", "dist", "build", "src", "bin", "lib"];
    let stem = program.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let folders = program.ancestors().skip(1).filter_map(|folder| folder.file_name()).map(|name| name.to_string_lossy().into_owned());
    std::iter::once(stem.clone()).chain(folders).find(|name| !COMMON.contains(&name.as_str())).unwrap_or(stem)
}

fn digest(path: &Path) -> Result<Digest, Complaint> {
    let next = "name a program that you may read";
    let mut file = File::open(path).map_err(|error| Complaint::unreadable(path.display(), path, &error, next))?;
    Digest::of(&mut file).map_err(|error| Complaint::own(format!("cannot read {}: {error}", path.display())))
}

fn in_quotes(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| Complaint::usage(format!("{} is not UTF-8", path.display())))?;
    Ok(quoted(text))
}

#[cfg(test)]
mod tests {
    use super::{name_of, package_of};
    use std::{fs, path::Path};

    #[test]
    fn a_script_reads_its_package_and_one_that_stands_alone_reads_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("dist/index.js");
        fs::create_dir(dir.path().join("dist")).unwrap();
        fs::write(&script, "").unwrap();
        assert_eq!(package_of(&script), None);
        fs::write(dir.path().join("package.json"), "{}").unwrap();
        assert_eq!(package_of(&script), Some(dir.path()));
    }

    #[test]
    fn a_program_is_called_by_what_tells_it_from_others() {
        let names = [("/opt/mcp/tickets/dist/index.js", "tickets"), ("/usr/bin/files-server", "files-server"), ("/srv/notes.py", "notes")];
        for (path, name) in names {
            assert_eq!(name_of(Path::new(path)), name);
        }
    }
}
