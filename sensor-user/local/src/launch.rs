//! How a local server is started: from an argument vector to the package, image or program that it names. Nothing is run or looked up, and
//! what is said here is what the arguments claim.

use crate::{
    interpreter::{Runs, interpreter, is_shell, runs},
    secrets::without_secret_segments,
    source::{Reference, Source, is_commit, is_source, source},
};
use gnomon_observe::argument_without_secrets;
use gnomon_packs::Ecosystem;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, path::Path};

/// The longest name of a package (npm allows 214 bytes, images 255 and more).
const MAX_NAME: usize = 256;
/// How much of a path or version is looked at before it is cut, in bytes: a secret is not cut in two.
const LONGEST_LOOKED_AT: usize = 4096;
/// How many programs that only start another (`env`, `sh -c`, `uv run`) are looked through.
const MAX_WRAPPERS: usize = 6;

/// The runner of a module of Python's.
const PYTHON_MODULE: &str = "python -m";
/// Words of names that point to a server, where they stand alone between other characters.
const WORDS: [&str; 3] = ["mcp", "modelcontextprotocol", "fastmcp"];

/// What a command line starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Launch {
    /// A package that a runner fetches, or an image.
    Package(PackageClaim),
    /// A program on this host.
    Program {
        /// Its path, or the name that is searched for.
        path: String,
        /// The script, where the program is an interpreter.
        script: Option<String>,
    },
}

/// A package as an argument names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageClaim {
    /// The registry's kind: `npm`, `pypi` or `docker`.
    #[serde(with = "ecosystem")]
    pub ecosystem: Ecosystem,
    /// Its name, without version, extras and tag. Of a Python module (`python -m`), the module's; of what comes from no registry, where it
    /// comes from (`github:owner/name`, a URL).
    pub name: String,
    /// Version, range, tag or digest, as written.
    pub version: Option<String>,
    /// The runner: `npx`, `uvx`, `docker` …, or the interpreter of a package that lies on this host.
    pub runner: Cow<'static, str>,
    /// The script of a package that lies on this host, in whose folder it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
}

mod ecosystem {
    use gnomon_packs::Ecosystem;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(ecosystem: &Ecosystem, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(ecosystem.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Ecosystem, D::Error> {
        let name = String::deserialize(from)?;
        let known = [Ecosystem::Npm, Ecosystem::PyPi, Ecosystem::Docker].into_iter().find(|known| known.as_str() == name);
        known.ok_or_else(|| D::Error::custom("not an ecosystem"))
    }
}

impl PackageClaim {
    /// True if a runner fetches it; false if an interpreter runs what lies on this host.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        self.script.is_none() && self.runner != PYTHON_MODULE
    }

    /// Whether what a start fetches is one content for ever: the claim names a digest, the whole hash of a commit, or an exact version (which
    /// registries do not let anybody replace). None of what lies on this host: a start fetches nothing, and whether what installed it goes by
    /// a lock file, no argument says.
    #[must_use]
    pub fn is_pinned(&self) -> Option<bool> {
        self.is_fetched().then(|| self.names_one_content())
    }

    fn names_one_content(&self) -> bool {
        let is_repository = is_source(&self.name) && !self.name.starts_with("jsr:") && self.ecosystem != Ecosystem::Docker;
        self.version.as_deref().is_some_and(|version| match self.ecosystem {
            _ if is_repository => is_commit(version),
            Ecosystem::Docker => version.starts_with("sha256:"),
            // `1.2` is a range of npm's, and a version of PyPI's.
            Ecosystem::Npm => version.splitn(3, '.').count() == 3 && is_exact(version),
            Ecosystem::PyPi => is_exact(version),
        })
    }
}

fn is_exact(version: &str) -> bool {
    version.split('.').take(3).all(|part| part.starts_with(|c: char| c.is_ascii_digit())) && !version.contains(['*', ' ', ',', '|'])
}

/// What this argument vector starts; none if it is empty. The first argument is the program.
pub fn launch<T: AsRef<str>>(arguments: &[T]) -> Option<Launch> {
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    started(&arguments, MAX_WRAPPERS)
}

/// Programs that only start the one that follows: their options that take a value, and how many words stand before that one.
const PASSING: [(&str, &[&str], usize); 11] = [
    ("env", &["-u", "--unset", "-C", "--chdir"], 0),
    ("nohup", &[], 0),
    ("setsid", &[], 0),
    ("exec", &["-a"], 0),
    ("command", &[], 0),
    ("timeout", &["-k", "--kill-after", "-s", "--signal"], 1),
    ("nice", &["-n", "--adjustment"], 0),
    ("ionice", &["-c", "--class", "-n", "--classdata"], 0),
    ("stdbuf", &["-i", "--input", "-o", "--output", "-e", "--error"], 0),
    ("time", &["-o", "--output", "-f", "--format"], 0),
    ("sudo", &["-u", "--user", "-g", "--group", "-C", "-D", "--chdir", "-h", "--host", "-p", "--prompt", "-R", "-T"], 0),
];

/// True if this program only starts what its arguments name, by calling exec, so that the kernel reports that start by itself: `sh -c`, `env`,
/// `uv run`. `program` is its file, which its first argument need not name.
pub(crate) fn passes_on(program: &str, arguments: &[&str]) -> bool {
    let (stem, rest) = (stem(program), arguments.get(1..).unwrap_or_default());
    let is_code = || matches!(runs(&stem, rest), Runs::Code(_));
    // Of `uv run URL` the program that it starts says nothing.
    let uv_runs =
        || positional(rest, UV_VALUES).and_then(<[_]>::first) == Some(&"run") && !matches!(fetched_by_uv(rest), Some(Launch::Package(_)));
    PASSING.iter().any(|(known, ..)| *known == stem) || is_shell(&stem) && is_code() || stem == "uv" && uv_runs()
}

fn started(arguments: &[&str], wrappers: usize) -> Option<Launch> {
    // `TOKEN=x program`, as a shell has it.
    let arguments = match arguments.iter().position(|word| !is_assignment(word)) {
        Some(at) => arguments.get(at..)?,
        None => arguments,
    };
    let (program, rest) = arguments.split_first()?;
    let within = |rest: &[&str]| wrappers.checked_sub(1).and_then(|left| started(rest, left));
    let stem = stem(program);
    let found = match stem.as_str() {
        name if is_shell(name) => of_shell(program, rest, wrappers),
        "cmd" => rest.iter().position(|word| word.eq_ignore_ascii_case("/c")).and_then(|at| within(rest.get(at + 1..)?)),
        "npx" | "npx-cli" | "pnpx" => npm("npx", rest),
        "npm" | "npm-cli" => subcommand(rest, &["exec", "x"]).and_then(|rest| npm("npx", rest)),
        "pnpm" => subcommand(rest, &["dlx", "exec"]).and_then(|rest| npm("pnpm dlx", rest)),
        "yarn" => subcommand(rest, &["dlx"]).and_then(|rest| npm("yarn dlx", rest)),
        "bunx" => npm("bunx", rest),
        "bun" => subcommand(rest, &["x"]).and_then(|rest| npm("bunx", rest)).or_else(|| bun(rest)),
        "deno" => subcommand(rest, &["run"]).and_then(deno),
        "uvx" => pypi("uvx", rest, &["--from"]),
        "uv" => uv(rest, wrappers),
        "pipx" => subcommand(rest, &["run"]).and_then(|rest| pypi("pipx", rest, &["--spec"])),
        "docker" | "podman" | "nerdctl" => image(rest),
        name if interpreter(name).is_some() => script(rest, program, wrappers),
        name => PASSING.iter().find(|(known, ..)| *known == name).and_then(|(_, with_value, before)| {
            let behind = positional(rest, with_value)?;
            within(behind.get(*before..)?)
        }),
    };
    found.or_else(|| Some(of_program(program)))
}

/// A program's file, or a script and the program that runs it.
pub(crate) fn of_file(program: &str, script: Option<&str>) -> Launch {
    script.map_or_else(|| Launch::Program { path: bounded(program), script: None }, |script| of_script(program, script))
}

/// A program alone. A script of node's that is called by its path is run by node.
fn of_program(path: &str) -> Launch {
    let is_script = [".js", ".cjs", ".mjs"].iter().any(|ending| path.ends_with(ending));
    match npm_package_of(path).filter(|_| is_script) {
        Some(_) => of_script("node", path),
        None => Launch::Program { path: bounded(path), script: None },
    }
}

/// A script and what runs it: the package in whose folder it lies, if that says which it is.
pub(crate) fn of_script(program: &str, file: &str) -> Launch {
    let found = npm_package_of(file).map(|name| (Ecosystem::Npm, name));
    // A folder's name is the module's, and most are called as their package is; where it says `mcp` that is taken for so, as of `python -m`.
    let found = found.or_else(|| python_folder_of(file).filter(|name| says_mcp(name)).map(|name| (Ecosystem::PyPi, name)));
    let claim = found.filter(|(_, name)| is_package_name(name)).map(|(ecosystem, name)| PackageClaim {
        ecosystem,
        name: name.to_owned(),
        version: None,
        runner: bounded(file_of(program)).into(),
        script: Some(bounded(file)),
    });
    claim.map_or_else(|| Launch::Program { path: bounded(program), script: Some(bounded(file)) }, Launch::Package)
}

/// The package in whose folder a file lies (`…/node_modules/NAME/…`), the innermost.
pub(crate) fn npm_package_of(path: &str) -> Option<&str> {
    let below = below(path, "node_modules/")?;
    let parts = if below.starts_with('@') { 2 } else { 1 };
    let end = below.match_indices('/').nth(parts - 1).map_or(below.len(), |(at, _)| at);
    below.get(..end).filter(|name| !name.starts_with('.') && !name.is_empty())
}

/// The folder of Python's packages in which a file lies (`…/site-packages/NAME/…`).
pub(crate) fn python_folder_of(path: &str) -> Option<&str> {
    let below = below(path, "site-packages/").or_else(|| below(path, "dist-packages/"))?;
    below.split_once('/').map(|(name, _)| name).filter(|name| !name.is_empty())
}

/// What stands behind the last folder of this name (which ends in a slash).
fn below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    let at = path.rmatch_indices(folder).map(|(at, _)| at).find(|at| *at == 0 || path.as_bytes().get(at - 1) == Some(&b'/'))?;
    path.get(at + folder.len()..)
}

/// True if one of the name's words points to a server.
pub(crate) fn says_mcp(name: &str) -> bool {
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// The file's name without its folder.
pub(crate) fn file_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The file's name without folder and the endings that Windows and node give it, in lower case.
pub(crate) fn stem(program: &str) -> String {
    let name = program.rsplit(['/', '\\']).next().unwrap_or(program).to_ascii_lowercase();
    [".exe", ".cmd", ".bat", ".js", ".cjs", ".mjs"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name).to_owned()
}

fn uv(rest: &[&str], wrappers: usize) -> Option<Launch> {
    let (subcommand_of_uv, behind) = positional(rest, UV_VALUES)?.split_first()?;
    match *subcommand_of_uv {
        "tool" => pypi("uvx", subcommand(behind, &["run"])?, &["--from"]),
        "run" => fetched_by_uv(rest).or_else(|| match option(behind, &["-m", "--module"], UV_VALUES) {
            Some(name) => module(name),
            None => started(positional(behind, UV_VALUES)?, wrappers.checked_sub(1)?),
        }),
        _ => None,
    }
}

/// `uv run URL`: a script that uv fetches.
fn fetched_by_uv(rest: &[&str]) -> Option<Launch> {
    let script = positional(subcommand_behind(rest, "run")?, UV_VALUES)?.first()?;
    script.contains("://").then(|| source(script, Reference::InPath)).flatten().map(|source| of_source(Ecosystem::PyPi, "uv run", source))
}

fn subcommand_behind<'a, 'b>(rest: &'b [&'a str], name: &str) -> Option<&'b [&'a str]> {
    let (first, behind) = positional(rest, UV_VALUES)?.split_first()?;
    (*first == name).then_some(behind)
}

/// Runners that are scripts themselves, or that version managers put a script in the place of.
pub(crate) const RUNNERS: [&str; 14] =
    ["npx", "npx-cli", "npm", "npm-cli", "pnpm", "pnpx", "yarn", "bun", "bunx", "deno", "uv", "uvx", "pipx", "docker"];

/// What an interpreter runs: a runner's own script, or a server's.
fn script(rest: &[&str], program: &str, wrappers: usize) -> Option<Launch> {
    match runs(&stem(program), rest) {
        Runs::Module(name) => module(name),
        Runs::Script(at) => {
            let file = rest.get(at)?;
            match RUNNERS.contains(&stem(file).as_str()) && wrappers > 0 {
                true => started(rest.get(at..)?, wrappers - 1),
                false => Some(of_script(program, file)),
            }
        }
        Runs::Code(_) | Runs::Nothing => None,
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

/// What a shell runs: `sh FILE`, as the kernel starts a script, or `sh -c 'words'`, where they are one command and nothing that a shell would
/// do more with.
fn of_shell(program: &str, rest: &[&str], wrappers: usize) -> Option<Launch> {
    let Runs::Code(at) = runs(&stem(program), rest) else { return script(rest, program, wrappers) };
    let line = rest.get(at)?;
    if line.contains([';', '|', '&', '<', '>', '`', '(', '\n']) {
        return None;
    }
    let words = shlex::split(line)?;
    started(&words.iter().map(String::as_str).collect::<Vec<_>>(), wrappers.checked_sub(1)?)
}

/// What stands behind a subcommand, if that is the first word that is no option.
fn subcommand<'a, 'b>(rest: &'b [&'a str], names: &[&str]) -> Option<&'b [&'a str]> {
    let at = rest.iter().position(|word| !word.starts_with('-'))?;
    names.contains(rest.get(at)?).then(|| rest.get(at + 1..)).flatten()
}

fn is_subcommand(rest: &[&str], name: &str) -> bool {
    rest.iter().find(|word| !word.starts_with('-')) == Some(&name)
}

/// What stands from the first word on that is neither an option nor the value of one of these.
fn positional<'a, 'b>(rest: &'b [&'a str], with_value: &[&str]) -> Option<&'b [&'a str]> {
    let mut at = 0;
    while let Some(word) = rest.get(at) {
        match *word {
            "--" => return rest.get(at + 1..),
            word if !word.starts_with('-') => return rest.get(at..),
            word if with_value.contains(&word) => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// The value of an option, as the next word or behind `=`, where it stands before the first word that is no option.
fn option<'a>(rest: &[&'a str], names: &[&str], with_value: &[&str]) -> Option<&'a str> {
    let mut at = 0;
    while let Some(word) = rest.get(at).filter(|word| word.starts_with('-') && **word != "--") {
        let (name, value) = word.split_once('=').map_or((*word, None), |(name, value)| (name, Some(value)));
        if names.contains(&name) {
            return value.or_else(|| rest.get(at + 1).copied());
        }
        at += if value.is_none() && with_value.contains(word) { 2 } else { 1 };
    }
    None
}

const NPM_VALUES: &[&str] =
    &["-p", "--package", "-c", "--call", "--registry", "--cache", "--prefix", "-w", "--workspace", "--userconfig", "--node-options"];
const UV_VALUES: &[&str] = &[
    "--from",
    "--with",
    "--with-requirements",
    "--with-editable",
    "-p",
    "--python",
    "--index",
    "--default-index",
    "--index-url",
    "-i",
    "--extra-index-url",
    "-f",
    "--find-links",
    "--directory",
    "--project",
    "--cache-dir",
    "--config-file",
    "--env-file",
    "--spec",
    "--pip-args",
    "--extra",
    "--group",
    "--refresh-package",
    "--prerelease",
    "--resolution",
    "-w",
];

fn npm(runner: &'static str, rest: &[&str]) -> Option<Launch> {
    let spec = option(rest, &["-p", "--package"], NPM_VALUES).or_else(|| positional(rest, NPM_VALUES)?.first().copied())?;
    npm_package(runner, spec)
}

/// `name`, `name@version`, `@scope/name@version`, or in its place a repository, a URL or a folder, also behind `name@`
/// (npm-package-arg: https://docs.npmjs.com/cli/v11/using-npm/package-spec).
fn npm_package(runner: &'static str, spec: &str) -> Option<Launch> {
    let (name, version) = npm_parts(spec);
    let Some(other) = version.filter(|other| is_npm_name(name) && other.contains([':', '/'])) else { return npm_spec(runner, spec) };
    // `git@host:owner/name`; but `name@npm:other@1.0.0` installs the other.
    let is_login = !other.contains("://") && other.split([':', '/']).next().is_some_and(|host| host.len() > 1 && host.contains('.'));
    let is_file = local(other).is_some();
    npm_spec(runner, if is_login && !is_file { spec } else { other.strip_prefix("npm:").unwrap_or(other) })
}

/// The same without anything before it.
fn npm_spec(runner: &'static str, spec: &str) -> Option<Launch> {
    if let Some(file) = local(spec) {
        return Some(of_script(runner, file));
    }
    let (name, version) = npm_parts(spec);
    if !is_npm_name(name) || version.is_some_and(|version| version.contains(':')) {
        return source(spec, Reference::InFragment).map(|source| of_source(Ecosystem::Npm, runner, source));
    }
    package(Ecosystem::Npm, runner, name, version)
}

fn npm_parts(spec: &str) -> (&str, Option<&str>) {
    let at = spec.char_indices().skip(1).find(|(_, c)| *c == '@').map(|(at, _)| at);
    at.map_or((spec, None), |at| (spec.get(..at).unwrap_or(spec), spec.get(at + 1..)))
}

fn is_npm_name(name: &str) -> bool {
    let slashes = if name.starts_with('@') { 1 } else { 0 };
    is_package_name(name) && name.matches('/').count() == slashes && !name.contains(':') && !name.starts_with('.')
}

/// A file or folder on this host, in the place of a package.
fn local(spec: &str) -> Option<&str> {
    let file = spec.strip_prefix("file:").or_else(|| spec.strip_prefix("link:"));
    let ends = [".tgz", ".tar.gz", ".whl", ".zip", ".py"];
    let is_file = spec.starts_with(['.', '/', '~']) || !spec.contains(':') && ends.iter().any(|ending| spec.ends_with(ending));
    file.or(is_file.then_some(spec)).filter(|file| !file.is_empty())
}

/// A script that deno runs: of a package of npm's or JSR's, at a URL, or on this host.
fn deno(rest: &[&str]) -> Option<Launch> {
    let spec = positional(rest, &["--config", "-c", "--import-map", "--lock", "--cert"])?.first()?;
    if let Some(package) = spec.strip_prefix("npm:") {
        return npm_package("deno", package.trim_start_matches('/'));
    }
    if let Some(package_of_jsr) = spec.strip_prefix("jsr:") {
        let (name, version) = match package_of_jsr.get(1..).and_then(|rest| rest.find('@')) {
            Some(at) => (package_of_jsr.get(..=at)?, package_of_jsr.get(at + 2..)),
            None => (package_of_jsr, None),
        };
        return package(Ecosystem::Npm, "deno", &format!("jsr:{}", name.trim_start_matches('/')), version);
    }
    match spec.contains("://") {
        true => source(spec, Reference::InFragment).map(|source| of_source(Ecosystem::Npm, "deno", source)),
        false => Some(of_script("deno", spec)),
    }
}

/// `bun FILE` and `bun run FILE`; what is no file is a script of a project's.
fn bun(rest: &[&str]) -> Option<Launch> {
    let words = positional(rest, &["--cwd", "-r", "--preload", "--env-file", "-c", "--config"])?;
    let file = if words.first() == Some(&"run") { positional(words.get(1..)?, &[])?.first()? } else { words.first()? };
    let is_file = file.contains('/') || [".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".tsx"].iter().any(|ending| file.ends_with(ending));
    is_file.then(|| of_script("bun", file))
}

fn pypi(runner: &'static str, rest: &[&str], names: &[&str]) -> Option<Launch> {
    let spec = option(rest, names, UV_VALUES).or_else(|| positional(rest, UV_VALUES)?.first().copied())?.trim();
    // PEP 508: `name @ URL`.
    let direct = spec.split_once('@').map(|(name, at)| (name.trim(), at.trim())).filter(|(name, at)| {
        let is_name = is_package_name(name.split('[').next().unwrap_or(name)) && !name.contains([':', '/']);
        is_name && (at.contains("://") || local(at).is_some())
    });
    let place = direct.map_or(spec, |(_, at)| at);
    if place.contains("://") && !place.starts_with("file:") {
        return source(place, Reference::InPath).map(|source| of_source(Ecosystem::PyPi, runner, source));
    }
    if let Some(file) = local(place) {
        return Some(of_script(runner, file));
    }
    // A name, extras, a version; and uv's `name@version`.
    let end = spec.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(spec.len());
    let (name, tail) = spec.split_at(end);
    let tail = tail.split_once(']').filter(|_| tail.starts_with('[')).map_or(tail, |(_, tail)| tail).trim();
    let version = tail.strip_prefix("==").or_else(|| tail.strip_prefix('@')).unwrap_or(tail).trim();
    package(Ecosystem::PyPi, runner, name, (!version.is_empty()).then_some(version))
}

fn module(name: &str) -> Option<Launch> {
    // `mcp_server_git.server` belongs to `mcp_server_git`.
    let name = name.split('.').next().unwrap_or(name);
    package(Ecosystem::PyPi, PYTHON_MODULE, name, None)
}

/// Letters of `docker run` that take no value.
const IMAGE_FLAGS: &str = "ditqP";
/// Long options of `docker run` and `podman run` that take no value; all others take one.
const IMAGE_SWITCHES: [&str; 20] = [
    "--rm",
    "--init",
    "--interactive",
    "--tty",
    "--detach",
    "--privileged",
    "--read-only",
    "--no-healthcheck",
    "--publish-all",
    "--quiet",
    "--oom-kill-disable",
    "--disable-content-trust",
    "--no-hosts",
    "--no-hostname",
    "--replace",
    "--env-host",
    "--rmi",
    "--sig-proxy",
    "--tls-verify",
    "--passwd",
];

fn image(rest: &[&str]) -> Option<Launch> {
    let after = match subcommand(rest, &["run", "container"])? {
        after if is_subcommand(rest, "container") => subcommand(after, &["run"])?,
        after => after,
    };
    let mut at = 0;
    while let Some(word) = after.get(at).filter(|word| word.starts_with('-')) {
        let is_alone = match word.strip_prefix("--") {
            Some("") => {
                at += 1;
                break;
            }
            Some(_) => word.contains('=') || IMAGE_SWITCHES.contains(word),
            // `-it`, `-i`; `-eNAME=value`, `-p80:80`.
            None => {
                let letters = word.get(1..).unwrap_or_default();
                letters.chars().all(|letter| IMAGE_FLAGS.contains(letter)) || letters.len() > 1
            }
        };
        at += if is_alone { 1 } else { 2 };
    }
    let reference = after.get(at)?;
    let (name, digest) = reference.split_once('@').map_or((*reference, None), |(name, digest)| (name, Some(digest)));
    // A colon before the last slash is a port's.
    let tag = name.rfind(':').filter(|colon| name.rfind('/').is_none_or(|slash| slash < *colon));
    let (name, tag) = tag.map_or((name, None), |at| (name.get(..at).unwrap_or(name), name.get(at + 1..)));
    package(Ecosystem::Docker, "docker", name, digest.or(tag))
}

fn package(ecosystem: Ecosystem, runner: &'static str, name: &str, version: Option<&str>) -> Option<Launch> {
    let version = version.filter(|version| !version.is_empty()).map(bounded);
    let claim = || PackageClaim { ecosystem, name: name.to_owned(), version, runner: runner.into(), script: None };
    is_package_name(name).then(|| Launch::Package(claim()))
}

fn of_source(ecosystem: Ecosystem, runner: &'static str, source: Source) -> Launch {
    let version = source.version.as_deref().map(bounded);
    Launch::Package(PackageClaim { ecosystem, name: bounded(&source.name), version, runner: runner.into(), script: None })
}

fn is_package_name(name: &str) -> bool {
    let is_of_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '/' | '.' | '_' | '-' | ':');
    !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(is_of_names)
}

/// A path or version, as it is kept: bounded, and without what is secret in an address or a variable.
fn bounded(text: &str) -> String {
    let cut = |text: &str, longest| text.get(..text.floor_char_boundary(longest)).unwrap_or_default().to_owned();
    let looked_at = cut(text, LONGEST_LOOKED_AT);
    cut(&without_secret_segments(&argument_without_secrets(&looked_at)), MAX_NAME)
}

impl Launch {
    /// The same within the bounds that hold for what was read here: somebody else may have written it.
    pub(crate) fn within_bounds(&mut self) {
        match self {
            Self::Package(PackageClaim { name, version, runner, script, .. }) => {
                *name = bounded(name);
                *script = script.as_deref().map(bounded);
                *version = version.as_deref().map(bounded);
                *runner = bounded(runner).into();
            }
            Self::Program { path, script } => {
                *path = bounded(path);
                *script = script.as_deref().map(bounded);
            }
        }
    }

    /// Where it comes from, as inventories name it: `pkg:npm/NAME`, spelt as its registry compares names and without version, else `file:`
    /// and the script or program. `executable` is the program's file, where it is known, for a program that is only named.
    #[must_use]
    pub fn place(&self, executable: Option<&str>) -> String {
        match self {
            // Letters of a URL are not compared as those of a name are.
            Self::Package(package) if is_source(&package.name) && package.ecosystem != Ecosystem::Docker => {
                format!("pkg:{}/{}", package.ecosystem.as_str(), package.name)
            }
            Self::Package(package) => format!("pkg:{}/{}", package.ecosystem.as_str(), package.ecosystem.normal(&package.name)),
            Self::Program { script: Some(script), .. } => format!("file:{script}"),
            Self::Program { path, script: None } if path.starts_with('/') => format!("file:{path}"),
            Self::Program { path, script: None } => format!("file:{}", bounded(executable.unwrap_or(path))),
        }
    }

    /// The file's name of the program, or the package's name: what people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Package(package) => &package.name,
            Self::Program { path, script } => {
                let path = script.as_deref().unwrap_or(path);
                Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
            }
        }
    }
}

#[cfg(test)]
mod tests;
