//! Servers that are programs on this host: what is run, what pins it, and what it may do.

use super::ServerSource;
use crate::{
    Check, SecretRef,
    declare::{Section as _, section},
    forms::{Number, Words as _, words},
    raw,
};
use gnomon_confine::{Demand, Digest, Ecosystem, Network, Package, Pins};
use serde_json::{Value, json};
use serde_saphyr::{Location, Spanned};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

words! { Network: "none" => None, "internet" => Internet, "host" => Host }
words! { Demand: "enforced" => Enforced, "best_effort" => BestEffort }

/// The word in place of a pin for a program that is not to be pinned.
pub const UNPINNED: &str = "unpinned";
/// Most variables of a program.
const MOST_VARIABLES: usize = 64;

section! {
    /// What an instance of a program may take.
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

/// A program on this host.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program, as a name or a path, and its arguments.
    pub command: Vec<String>,
    /// The digests that hold it to a reviewed version.
    pub pin: Pinning,
    /// Variables by name.
    pub env: Vec<(String, Variable)>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// The paths it may read.
    pub read: Vec<PathBuf>,
    /// The paths it may change.
    pub write: Vec<PathBuf>,
    /// The network it may use.
    pub network: Network,
    /// A name or a number.
    pub user: Option<String>,
    /// The confinement without which it is not run.
    pub demand: Demand,
    /// The resource limits of an instance.
    pub limits: Limits,
}

/// The digests that hold a program to a reviewed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// Nothing is said.
    None,
    /// It is said that nothing does.
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

    pub(crate) fn to_json(&self) -> Value {
        let paths = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let variable = |variable: &Variable| match variable {
            Variable::Text(text) => text.clone(),
            Variable::Secret(secret) => secret.to_string(),
        };
        let pin = match &self.pin {
            Pinning::None => Value::Null,
            Pinning::Unpinned => UNPINNED.into(),
            Pinning::To(pins) => {
                let mut pin = serde_json::Map::new();
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
                Value::Object(pin)
            }
        };
        json!({
            "command": self.command,
            "pin": pin,
            "env": self.env.iter().map(|(name, value)| (name.clone(), variable(value).into())).collect::<serde_json::Map<_, _>>(),
            "cwd": self.cwd.as_ref().map(|path| path.display().to_string()),
            "read": paths(&self.read),
            "write": paths(&self.write),
            "network": self.network.word(),
            "user": self.user,
            "confine": self.demand.word(),
            "limits": self.limits.show(),
        })
    }
}

/// The keys of a server that is a program.
#[derive(Debug)]
pub(crate) struct ProgramSource {
    pub command: Vec<Spanned<String>>,
    pub pin: Option<Spanned<raw::Pin>>,
    pub env: BTreeMap<String, Spanned<String>>,
    pub cwd: Option<String>,
    pub read: Vec<String>,
    pub write: Vec<String>,
    pub network: Option<Spanned<String>>,
    pub user: Option<String>,
    pub confine: Option<Spanned<String>>,
    pub limits: LimitsSource,
}

impl ProgramSource {
    /// True if any key besides `command` is set.
    pub fn is_said(&self) -> bool {
        let named = self.pin.is_some() || self.cwd.is_some() || self.network.is_some() || self.user.is_some() || self.confine.is_some();
        named || !self.env.is_empty() || !self.read.is_empty() || !self.write.is_empty() || self.limits.is_said()
    }
}

impl LimitsSource {
    fn is_said(&self) -> bool {
        self.memory_mib.is_some() || self.tasks.is_some() || self.instances.is_some()
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
    pub(crate) fn program(&mut self, place: Location, server: ProgramSource) -> Option<Program> {
        let mut command: Vec<String> = server.command.into_iter().map(|word| word.value).collect();
        let Some(first) = command.first_mut().filter(|first| !first.is_empty()) else {
            return self.refused(place, "`command` is empty; write [program, argument, …]".to_owned());
        };
        // A name is looked for in PATH; a path is relative to the file, as all paths here are.
        if first.contains('/') {
            match self.dir.join(&*first).into_os_string().into_string() {
                Ok(whole) => *first = whole,
                Err(_) => return self.refused(place, "the program's path is not UTF-8".to_owned()),
            }
        }
        if command.iter().any(|word| word.contains('\0')) {
            return self.refused(place, "`command` holds a NUL".to_owned());
        }
        let pin = match server.pin {
            None => Pinning::None,
            Some(pin) => {
                let at = pin.referenced;
                self.pin(at, pin.value)?
            }
        };
        self.pin_fits(place, &command, &pin)?;
        if server.env.len() > MOST_VARIABLES {
            return self.refused(place, format!("there are more than {MOST_VARIABLES} variables; remove some"));
        }
        let mut env = Vec::with_capacity(server.env.len());
        for (name, value) in server.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.value.contains('\0') {
                return self.refused(
                    value.referenced,
                    format!("`{name}` cannot be a variable: names hold no `=`, and no NUL is in them or their values"),
                );
            }
            let value = self.secret(&value.value).map_or_else(|_| Variable::Text(value.value), Variable::Secret);
            env.push((name, value));
        }
        let network = ServerSource::network(server.network, self)?;
        let demand = ServerSource::confine(server.confine, self)?;
        Some(Program {
            command,
            pin,
            env,
            cwd: server.cwd.map(|path| self.dir.join(path)),
            read: self.paths(server.read),
            write: self.paths(server.write),
            network,
            user: server.user.filter(|user| !user.is_empty()),
            demand,
            limits: Limits::read(server.limits, self),
        })
    }

    fn pin(&mut self, place: Location, pin: raw::Pin) -> Option<Pinning> {
        let fields = match pin {
            raw::Pin::Word(word) if word == UNPINNED => return Some(Pinning::Unpinned),
            raw::Pin::Word(word) => {
                return self.refused(
                    place,
                    format!("`{word}` is not a pin: write {{sha256: …}}, {{package: name@version, lockfile: …}} or `{UNPINNED}`"),
                );
            }
            raw::Pin::Fields(fields) => fields,
        };
        let mut pins = Pins::default();
        if let Some(text) = fields.sha256 {
            pins.program = Some(self.parsed::<Digest>(&text, "a SHA-256 of 64 hexadecimal digits; `sha256sum FILE` says it")?);
        }
        for (path, text) in fields.files {
            let digest = self.parsed::<Digest>(&text, "a SHA-256 of 64 hexadecimal digits; `sha256sum FILE` says it")?;
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
