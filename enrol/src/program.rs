//! Adding an MCP server that is a program on this host: what runs is found, hashed and pinned.

use super::{AddServer, Target, package::folders_of, quoted, writable::may_write};
use anyhow::Result;
use gnomon_cli::Complaint;
use gnomon_config::At;
use gnomon_confine::Digest;
use gnomon_serve::programs;
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

impl AddServer {
    /// Finds and pins the program, asks it, and adds its entry.
    pub(super) async fn program(self) -> Result<()> {
        let target = Target::of(&self.config, self.id.as_deref())?;
        let first = self.command.first().map(String::as_str).unwrap_or_default();
        let found = programs::found(first).ok_or_else(|| {
            Complaint::usage(format!("`{first}` does not exist"))
                .next("name the program by its whole path; it comes first behind --command")
        })?;
        let found = std::path::absolute(&found)?;
        if is_shim(&found) {
            let cause =
                format!("{} is a shim that searches for the program each time it runs, which it cannot do when confined", found.display());
            let name = found.file_name().unwrap_or_default().display();
            let next = format!("name the program itself: `pyenv which {name}`, or the like of whatever made the shim, says which it is");
            return Err(Complaint::usage(cause).next(next).into());
        }
        let script = script_of(&self.command);
        let name = script.as_deref().unwrap_or(&found);
        let id = self.id_for(&name_of(name), "server", &target.config)?;
        let entry = self.program_entry(&id, &found, script.as_deref())?;
        if !self.untested {
            let config = target.with(&entry)?;
            let added = config.servers.iter().find(|server| server.id == id);
            if let Some(At::Program(program)) = added.map(|server| &server.at) {
                may_write(programs::account(&id, program)?, &self.write)?;
            }
        }
        self.try_and_add(&target, &id, &entry, None).await
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
        read.extend(script.into_iter().flat_map(|script| folders_of(program, script)));
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

/// The argument that names a file which is read as a program: by its ending, or as it says itself what runs it. Not a folder, and not
/// what a tool works on.
fn script_of(command: &[String]) -> Option<PathBuf> {
    const ENDINGS: [&str; 9] = ["js", "mjs", "cjs", "ts", "py", "rb", "jar", "php", "sh"];
    let script = |word: &String| {
        let path = fs::canonicalize(word).ok().filter(|path| path.is_file())?;
        let has_ending = |path: &Path| path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending));
        (has_ending(&path) || has_ending(Path::new(word)) || begins_as_script(&path)).then_some(path)
    };
    command.iter().skip(1).find_map(script)
}

/// Whether a file names what runs it (`#!`).
fn begins_as_script(path: &Path) -> bool {
    let mut begin = [0; 2];
    File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok_and(|()| &begin == b"#!")
}

/// Whether a program is a script of a version manager that finds the program by where and by whom it is called.
fn is_shim(program: &Path) -> bool {
    program.parent().and_then(Path::file_name).is_some_and(|folder| folder == "shims") && begins_as_script(program)
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
    use super::*;

    #[test]
    fn a_script_is_found_by_its_ending_or_by_what_it_says_of_itself() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name).to_str().unwrap().to_owned()
        };
        let (python, data) = (file("mcp-server-git", "#!/srv/v/bin/python\n"), file("data", "x"));
        let found = |word: &String| script_of(&["python3".into(), "-u".into(), word.clone()]);
        assert_eq!(found(&python), Some(fs::canonicalize(&python).unwrap()));
        assert_eq!((found(&data), found(&"none".into())), (None, None));
        let js = file("index.js", "");
        assert_eq!(found(&js), Some(fs::canonicalize(&js).unwrap()));
    }

    #[test]
    fn a_shim_is_told_from_the_program_that_it_looks_for() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("shims")).unwrap();
        for (name, text, is) in
            [("shims/python3", "#!/usr/bin/env bash\n", true), ("shims/node", "\u{7f}ELF", false), ("python3", "#!/bin/sh\n", false)]
        {
            fs::write(dir.path().join(name), text).unwrap();
            assert_eq!(is_shim(&dir.path().join(name)), is, "{name}");
        }
    }

    #[test]
    fn a_program_is_called_by_what_tells_it_from_others() {
        let names = [("/opt/mcp/tickets/dist/index.js", "tickets"), ("/usr/bin/files-server", "files-server"), ("/srv/notes.py", "notes")];
        for (path, name) in names {
            assert_eq!(name_of(Path::new(path)), name);
        }
    }
}
