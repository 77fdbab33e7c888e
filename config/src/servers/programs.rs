//! Servers that are programs on this host: what is run, what pins it, and what it may do.

pub use super::Program;

use super::{Command, Pinned, ProgramSource};
use crate::{
    Check, SecretRef,
    declare::{Form, Show, section},
    forms::{Number, Variables, words},
    raw,
};
use gnomon_confine::{Demand, Ecosystem, Network, Package, Pins};
use serde_json::{Map, Value, json};
use serde_saphyr::{Location, Spanned};
use std::path::Path;

words! { Network: "none" => None, "internet" => Internet, "host" => Host }
words! { Demand: "enforced" => Enforced, "best_effort" => BestEffort }

/// The word in place of a pin for a program that is not to be pinned.
pub const UNPINNED: &str = "unpinned";
/// Most variables of a program.
const MOST_VARIABLES: usize = 64;

section! {
    /// Resource limits of an instance of a program.
    pub struct Limits, written LimitsSource at "servers[].limits." {
        /// Memory that each process of the program may write to, MiB; and that all of an instance use together, where gnomon's
        /// cgroup is delegated to it.
        memory_mib: u64 as Number<16, { 1 << 20 }> = 1024;
        /// Processes and threads of one instance; on top of those that its user has when it starts, where gnomon's cgroup is
        /// not delegated to it.
        tasks: u64 as Number<1, { 1 << 16 }> = 128;
        /// Most instances at a time. A server with sessions has one for each session and one for the portal itself; a stateless
        /// one has one.
        instances: usize as Number<1, 1024> = 16;
    }
}

/// The digests that hold a program to a reviewed version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pinning {
    /// No `pin`.
    #[default]
    None,
    /// `pin: unpinned`.
    Unpinned,
    /// By these digests.
    To(Pins),
}

/// The value of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// A plain text.
    Text(String),
    /// A secret, by its reference.
    Secret(SecretRef),
}

impl Program {
    /// The launcher that the command begins with, if it is one: a program that fetches others and runs them.
    pub fn launcher(&self) -> Option<&'static str> {
        launcher(&self.command)
    }
}

impl Form<Vec<String>> for Command {
    fn read(source: Self::Source, _: Vec<String>, check: &mut Check<'_>) -> Option<Vec<String>> {
        let Some(Spanned { value: words, referenced: place, .. }) = source else { return Some(Vec::new()) };
        let mut command: Vec<String> = words.into_iter().map(|word| word.value).collect();
        let Some(first) = command.first_mut().filter(|first| !first.is_empty()) else {
            return check.refused(place, "`command` is empty; write [program, argument, …]".to_owned());
        };
        // A name is looked for in PATH; a path is relative to the file, as all paths here are.
        if first.contains('/') {
            match check.dir.join(&*first).into_os_string().into_string() {
                Ok(whole) => *first = whole,
                Err(_) => return check.refused(place, "the program's path is not UTF-8".to_owned()),
            }
        }
        if command.iter().any(|word| word.contains('\0')) {
            return check.refused(place, "`command` holds a NUL".to_owned());
        }
        Some(command)
    }
}

impl Show<Vec<String>> for Command {
    fn show(value: &Vec<String>) -> Value {
        json!(value)
    }
}

impl Form<Pinning> for Pinned {
    fn read(source: Self::Source, default: Pinning, check: &mut Check<'_>) -> Option<Pinning> {
        source.map_or(Some(default), |pin| check.pin(pin.referenced, pin.value))
    }
}

impl Show<Pinning> for Pinned {
    fn show(value: &Pinning) -> Value {
        let pins = match value {
            Pinning::None => return Value::Null,
            Pinning::Unpinned => return UNPINNED.into(),
            Pinning::To(pins) => pins,
        };
        let mut pin = Map::new();
        if let Some(digest) = pins.program {
            pin.insert("sha256".to_owned(), digest.to_string().into());
        }
        if !pins.files.is_empty() {
            let files = pins.files.iter().map(|(path, digest)| (path.display().to_string(), digest.to_string().into()));
            pin.insert("files".to_owned(), Value::Object(files.collect()));
        }
        if let Some(package) = &pins.package {
            pin.insert("package".to_owned(), format!("{}@{}", package.name, package.version).into());
            pin.insert("lockfile".to_owned(), package.lockfile.display().to_string().into());
        }
        pin.into()
    }
}

impl Form<Vec<(String, Variable)>> for Variables {
    fn read(source: Self::Source, _: Vec<(String, Variable)>, check: &mut Check<'_>) -> Option<Vec<(String, Variable)>> {
        if let Some(one_more) = source.values().nth(MOST_VARIABLES) {
            return check.refused(one_more.referenced, format!("there are more than {MOST_VARIABLES} variables; remove some"));
        }
        let mut variables = Vec::with_capacity(source.len());
        for (name, value) in source {
            if name.is_empty() || name.contains(['=', '\0']) || value.value.contains('\0') {
                let cause = format!("`{name}` cannot be a variable: names hold no `=`, and no NUL is in them or their values");
                return check.refused(value.referenced, cause);
            }
            let value = check.secret(&value.value).map_or_else(|_| Variable::Text(value.value), Variable::Secret);
            variables.push((name, value));
        }
        Some(variables)
    }
}

impl Show<Vec<(String, Variable)>> for Variables {
    fn show(value: &Vec<(String, Variable)>) -> Value {
        let text = |variable: &Variable| match variable {
            Variable::Text(text) => text.clone(),
            Variable::Secret(secret) => secret.to_string(),
        };
        value.iter().map(|(name, value)| (name.clone(), text(value).into())).collect::<Map<_, _>>().into()
    }
}

/// Programs that fetch what they run, whatever their arguments are.
const ALWAYS: [&str; 4] = ["npx", "uvx", "bunx", "pnpx"];
/// Launchers if given one of these arguments.
const WITH: [(&str, &[&str]); 8] = [
    ("npm", &["exec", "x"]),
    ("pnpm", &["dlx", "exec"]),
    ("yarn", &["dlx"]),
    ("bun", &["x"]),
    ("pipx", &["run"]),
    ("uv", &["run", "tool", "x"]),
    ("deno", &["run", "x"]),
    ("go", &["run"]),
];
/// Programs whose arguments are programs.
const AROUND: [&str; 10] = ["sh", "bash", "dash", "zsh", "ash", "busybox", "env", "nice", "timeout", "xargs"];

fn launcher(command: &[String]) -> Option<&'static str> {
    fn base(word: &str) -> &str {
        let name = word.rsplit('/').next().unwrap_or(word);
        [".cmd", ".exe", ".js"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
    }
    let (program, arguments) = command.split_first()?;
    let program = base(program);
    if AROUND.contains(&program) {
        let words: Vec<String> =
            arguments.iter().flat_map(|argument| argument.split([' ', '\t', ';', '&', '|', '\'', '"'])).map(str::to_owned).collect();
        return (0..words.len()).find_map(|at| launcher(&words[at..]));
    }
    if let Some(always) = ALWAYS.iter().find(|known| **known == program) {
        return Some(always);
    }
    let (name, words) = WITH.iter().find(|(name, _)| *name == program)?;
    arguments.iter().any(|argument| words.contains(&argument.as_str())).then_some(*name)
}

impl Check<'_> {
    /// The program of a server; `place` is where errors about the whole of it belong.
    pub(crate) fn program(&mut self, place: Location, source: ProgramSource) -> Option<Program> {
        let program = Program::read(source, self)?;
        self.pin_fits(place, &program.command, &program.pin)?;
        Some(program)
    }

    fn pin(&mut self, place: Location, pin: raw::PinSource) -> Option<Pinning> {
        let fields = match pin {
            raw::PinSource::Word(word) if word == UNPINNED => return Some(Pinning::Unpinned),
            raw::PinSource::Word(word) => {
                return self.refused(
                    place,
                    format!("`{word}` is not a pin: write {{sha256: …}}, {{package: name@version, lockfile: …}} or `{UNPINNED}`"),
                );
            }
            raw::PinSource::Fields(fields) => fields,
        };
        let mut pins = Pins::default();
        if let Some(text) = fields.sha256 {
            pins.program = Some(self.digest(&text)?);
        }
        for (path, text) in fields.files {
            let digest = self.digest(&text)?;
            pins.files.insert(self.dir.join(path), digest);
        }
        match (fields.package, fields.lockfile) {
            (None, None) => {}
            (Some(package), Some(lockfile)) => {
                let named = package
                    .value
                    .rsplit_once('@')
                    .filter(|(name, version)| !name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit()));
                let Some((name, version)) = named else {
                    return self.refused(
                        package.referenced,
                        format!("`{}` is not a package with an exact version, as @scope/name@1.2.3", package.value),
                    );
                };
                let lockfile = self.dir.join(lockfile);
                if Ecosystem::of(&lockfile).is_none() {
                    let cause =
                        format!("`{}` is not a supported lock file: package-lock.json, npm-shrinkwrap.json or uv.lock", lockfile.display());
                    return self.refused(package.referenced, cause);
                }
                pins.package = Some(Package { name: name.to_owned(), version: version.to_owned(), lockfile });
            }
            _ => return self.refused(place, "`package` and `lockfile` belong together".to_owned()),
        }
        if pins.is_empty() {
            return self.refused(place, format!("`pin` is empty; write `pin: {UNPINNED}` if that is meant"));
        }
        Some(Pinning::To(pins))
    }

    /// Checks that a launcher, which runs what others publish, is pinned by a lock file or marked as unpinned.
    fn pin_fits(&mut self, place: Location, command: &[String], pin: &Pinning) -> Option<()> {
        let package = match pin {
            Pinning::To(pins) => pins.package.as_ref(),
            Pinning::None | Pinning::Unpinned => None,
        };
        let Some(launcher) = launcher(command) else {
            return match package {
                None => Some(()),
                Some(_) => {
                    self.refused(place, "`pin.package` is for launchers, as `npx` and `uv run`; pin this program with `sha256`".to_owned())
                }
            };
        };
        let Some(package) = package else {
            let why = match pin {
                Pinning::Unpinned => return Some(()),
                Pinning::None => "its publisher decides what runs here",
                Pinning::To(_) => "a digest of the launcher says nothing of that",
            };
            return self.refused(
                place,
                format!(
                    "`{launcher}` fetches the program that it runs, and {why}; install it and name the program itself, pin it (`pin: {{package: name@version, lockfile: …}}`), or write `pin: {UNPINNED}`"
                ),
            );
        };
        let fits = match Ecosystem::of(&package.lockfile) {
            Some(Ecosystem::Npm) => matches!(launcher, "npx" | "npm"),
            Some(Ecosystem::Uv) => launcher == "uv",
            None => false,
        };
        if !fits {
            let cause = format!(
                "`{launcher}` does not run what {} locks; use `npx` with package-lock.json, or `uv run` with uv.lock",
                file_name(&package.lockfile)
            );
            return self.refused(place, cause);
        }
        let named = format!("{}@{}", package.name, package.version);
        if launcher != "uv" && !command.contains(&named) {
            return self.refused(place, format!("`command` does not name `{named}`, which is what is pinned"));
        }
        Some(())
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::launcher;

    fn of(command: &str) -> Option<&'static str> {
        launcher(&command.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_fetches_the_program_that_it_runs_is_known_as_such() {
        for (command, name) in [
            ("npx -y @a/files", "npx"),
            ("/usr/local/bin/npx @a/files@1.2.3", "npx"),
            ("npm exec -- @a/files", "npm"),
            ("uvx mcp-server", "uvx"),
            ("uv tool run mcp-server", "uv"),
            ("pipx run x", "pipx"),
            ("env A=b npx x", "npx"),
            ("sh -c exec npx x", "npx"),
            ("/bin/bash -c true;uvx x", "uvx"),
            ("bun x y", "bun"),
        ] {
            assert_eq!(of(command), Some(name), "{command}");
        }
        for command in ["python3 server.py", "/opt/npx-like/server npx", "npm start", "pipx list", "sh server.sh", "uv pip list"] {
            assert_eq!(of(command), None, "{command}");
        }
    }
}
