//! How a local server is started: from an argument vector to the package, image or program that it names. Nothing is run or looked up, and
//! what is said here is what the arguments claim.

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
    /// Its name, without version, extras and tag. Of a Python module (`python -m`), the module's.
    pub name: String,
    /// Version, range, tag or digest, as written.
    pub version: Option<String>,
    /// The runner: `npx`, `uvx`, `docker` …
    pub runner: Cow<'static, str>,
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
    /// True if the claim names one content for ever: a digest, or an exact version (which registries do not let anybody replace).
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.version.as_deref().is_some_and(|version| match self.ecosystem {
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

fn started(arguments: &[&str], wrappers: usize) -> Option<Launch> {
    // `TOKEN=x program`, as a shell has it.
    let arguments = match arguments.iter().position(|word| !is_assignment(word)) {
        Some(at) => arguments.get(at..)?,
        None => arguments,
    };
    let (program, rest) = arguments.split_first()?;
    let within = |rest: &[&str]| wrappers.checked_sub(1).and_then(|left| started(rest, left));
    let found = match stem(program).as_str() {
        "env" => within(after_assignments(rest)),
        "nohup" | "setsid" | "exec" => within(rest),
        // `sh FILE`, as the kernel starts a script.
        _ if is_shell(program) && rest.first().is_some_and(|word| !word.starts_with('-')) => script(rest, program, wrappers),
        _ if is_shell(program) => of_shell(rest).and_then(|words| within(&words.iter().map(String::as_str).collect::<Vec<_>>())),
        "cmd" => rest.iter().position(|word| word.eq_ignore_ascii_case("/c")).and_then(|at| within(rest.get(at + 1..)?)),
        "npx" | "npx-cli" | "pnpx" => npm("npx", rest),
        "npm" | "npm-cli" => subcommand(rest, &["exec", "x"]).and_then(|rest| npm("npx", rest)),
        "pnpm" => subcommand(rest, &["dlx", "exec"]).and_then(|rest| npm("pnpm dlx", rest)),
        "yarn" => subcommand(rest, &["dlx"]).and_then(|rest| npm("yarn dlx", rest)),
        "bunx" => npm("bunx", rest),
        "bun" => subcommand(rest, &["x"]).and_then(|rest| npm("bunx", rest)),
        "deno" => subcommand(rest, &["run"]).and_then(deno),
        "uvx" => pypi("uvx", rest, &["--from"]),
        "uv" => uv(rest, wrappers),
        "pipx" => subcommand(rest, &["run"]).and_then(|rest| pypi("pipx", rest, &["--spec"])),
        "docker" | "podman" | "nerdctl" => image(rest),
        name if is_python(name) || INTERPRETERS.contains(&name) => script(rest, program, wrappers),
        _ => None,
    };
    found.or_else(|| Some(Launch::Program { path: bounded(program), script: None }))
}

/// A program's file, or a script and the program that runs it.
pub(crate) fn of_file(program: &str, script: Option<&str>) -> Launch {
    Launch::Program { path: bounded(program), script: script.map(bounded) }
}

/// The file's name without folder and the endings that Windows and node give it, in lower case.
fn stem(program: &str) -> String {
    let name = program.rsplit(['/', '\\']).next().unwrap_or(program).to_ascii_lowercase();
    [".exe", ".cmd", ".bat", ".js", ".cjs", ".mjs"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name).to_owned()
}

/// True if a program is a shell, which runs what its arguments say.
pub(crate) fn is_shell(program: &str) -> bool {
    ["sh", "bash", "zsh", "dash"].contains(&stem(program).as_str())
}

fn is_python(name: &str) -> bool {
    name.strip_prefix("python").is_some_and(|version| version.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

fn uv(rest: &[&str], wrappers: usize) -> Option<Launch> {
    let (subcommand_of_uv, rest) = positional(rest, UV_VALUES)?.split_first()?;
    match *subcommand_of_uv {
        "tool" => pypi("uvx", subcommand(rest, &["run"])?, &["--from"]),
        "run" => started(positional(rest, UV_VALUES)?, wrappers.checked_sub(1)?),
        _ => None,
    }
}

/// Runners that are scripts themselves, or that version managers put a script in the place of.
const RUNNERS: [&str; 14] =
    ["npx", "npx-cli", "npm", "npm-cli", "pnpm", "pnpx", "yarn", "bun", "bunx", "deno", "uv", "uvx", "pipx", "docker"];

/// Interpreters that are called with a script's path, beside shells and Python.
pub(crate) const INTERPRETERS: [&str; 5] = ["node", "nodejs", "perl", "ruby", "php"];
/// Of an interpreter: options behind which the code itself stands, so that no script follows, and options that take the next word.
struct Options {
    code: &'static [&'static str],
    with_value: &'static [&'static str],
}

/// The options of an interpreter, by its program's stem; of one that is not listed, a shell's.
fn options(stem: &str) -> Options {
    match stem {
        "node" | "nodejs" => Options {
            code: &["-e", "--eval", "-p", "--print", "-pe"],
            with_value: &["-r", "--require", "--import", "--loader", "-C", "--conditions"],
        },
        "perl" => Options { code: &["-e", "-E", "-ne", "-pe"], with_value: &["-I"] },
        "ruby" => Options { code: &["-e", "-ne", "-pe"], with_value: &["-r", "-I", "-E", "-C"] },
        "php" => Options { code: &["-r", "-R", "-B", "-E"], with_value: &["-d", "-c", "-z"] },
        name if is_python(name) => Options { code: &["-c"], with_value: &["-W", "-X"] },
        _ => Options { code: &["-c"], with_value: &["-o", "-O", "--rcfile", "--init-file"] },
    }
}

/// What an interpreter runs: a runner's own script, or a server's.
fn script(rest: &[&str], interpreter: &str, wrappers: usize) -> Option<Launch> {
    let known = options(&stem(interpreter));
    let mut at = 0;
    while let Some(option) = rest.get(at).filter(|word| word.starts_with('-')) {
        if known.code.contains(option) {
            return None;
        }
        if *option == "-m" && is_python(&stem(interpreter)) {
            return module(rest.get(at + 1)?);
        }
        at += if known.with_value.contains(option) { 2 } else { 1 };
    }
    let file = rest.get(at)?;
    let is_runner = RUNNERS.contains(&stem(file).as_str());
    if is_runner && wrappers > 0 {
        return started(rest.get(at..)?, wrappers - 1);
    }
    Some(Launch::Program { path: bounded(interpreter), script: Some(bounded(file)) })
}

fn after_assignments<'a, 'b>(rest: &'b [&'a str]) -> &'b [&'a str] {
    let at = rest.iter().position(|word| !word.starts_with('-') && !is_assignment(word));
    at.and_then(|at| rest.get(at..)).unwrap_or_default()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

/// The words of `sh -c 'words'`, where they are one command and nothing that a shell would do more with.
fn of_shell(rest: &[&str]) -> Option<Vec<String>> {
    let is_command = |word: &&str| word.starts_with('-') && !word.starts_with("--") && word.contains('c');
    let at = rest.iter().position(is_command)?;
    let line = rest.get(at + 1)?;
    if line.contains([';', '|', '&', '<', '>', '`', '(', '\n']) {
        return None;
    }
    let words = shlex::split(line)?;
    let at = words.iter().position(|word| !is_assignment(word) && word != "exec")?;
    words.get(at..).map(<[String]>::to_vec)
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

/// `name`, `name@version`, `@scope/name@version`; what is fetched by URL, from git or from a folder is no package of the registry.
fn npm_package(runner: &'static str, spec: &str) -> Option<Launch> {
    let at = spec.char_indices().skip(1).find(|(_, c)| *c == '@').map(|(at, _)| at);
    let (name, version) = at.map_or((spec, None), |at| (spec.get(..at).unwrap_or(spec), spec.get(at + 1..)));
    let slashes = if name.starts_with('@') { 1 } else { 0 };
    let is_name = name.matches('/').count() == slashes && !name.contains(':') && !name.starts_with('.');
    package(Ecosystem::Npm, runner, is_name.then_some(name)?, version)
}

fn deno(rest: &[&str]) -> Option<Launch> {
    let spec = positional(rest, &["--config", "-c", "--import-map", "--lock", "--cert"])?.first()?;
    npm_package("deno", spec.strip_prefix("npm:")?.trim_start_matches('/'))
}

fn pypi(runner: &'static str, rest: &[&str], names: &[&str]) -> Option<Launch> {
    let spec = option(rest, names, UV_VALUES).or_else(|| positional(rest, UV_VALUES)?.first().copied())?;
    if spec.contains("://") || spec.starts_with(['.', '/']) {
        return None;
    }
    // PEP 508: a name, extras, a version; and uv's `name@version`.
    let end = spec.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(spec.len());
    let (name, tail) = spec.split_at(end);
    let tail = tail.split_once(']').filter(|_| tail.starts_with('[')).map_or(tail, |(_, tail)| tail).trim();
    let version = tail.strip_prefix("==").or_else(|| tail.strip_prefix('@')).unwrap_or(tail).trim();
    package(Ecosystem::PyPi, runner, name, (!version.is_empty()).then_some(version))
}

fn module(name: &str) -> Option<Launch> {
    // `mcp_server_git.server` belongs to `mcp_server_git`.
    let name = name.split('.').next().unwrap_or(name);
    package(Ecosystem::PyPi, "python -m", name, None)
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
    let is_of_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '/' | '.' | '_' | '-' | ':');
    let is_name = !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(is_of_names);
    let version = version.filter(|version| !version.is_empty()).map(bounded);
    is_name.then(|| Launch::Package(PackageClaim { ecosystem, name: name.to_owned(), version, runner: runner.into() }))
}

/// A path or version, as it is kept: bounded, and without what is secret in an address or a variable.
fn bounded(text: &str) -> String {
    let cut = |text: &str, longest| text.get(..text.floor_char_boundary(longest)).unwrap_or_default().to_owned();
    cut(&argument_without_secrets(&cut(text, LONGEST_LOOKED_AT)), MAX_NAME)
}

impl Launch {
    /// The same within the bounds that hold for what was read here: somebody else may have written it.
    pub(crate) fn within_bounds(&mut self) {
        match self {
            Self::Package(PackageClaim { name, version, runner, .. }) => {
                *name = bounded(name);
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(line: &str) -> Option<Launch> {
        launch(&shlex::split(line).unwrap())
    }

    #[test]
    fn runners_name_the_package_that_they_start() {
        for (line, ecosystem, name, version) in [
            ("npx -y @modelcontextprotocol/server-filesystem /srv", "npm", "@modelcontextprotocol/server-filesystem", None),
            ("npx @playwright/mcp@latest", "npm", "@playwright/mcp", Some("latest")),
            ("npx --yes --package=@scope/a@1.2.3 a --flag", "npm", "@scope/a", Some("1.2.3")),
            ("npx -p tool@2.0.0 -c 'tool serve'", "npm", "tool", Some("2.0.0")),
            ("/usr/bin/node /usr/lib/node_modules/npm/bin/npx-cli.js -y mcp-server-time", "npm", "mcp-server-time", None),
            ("node /usr/bin/npm exec --yes -- mcp-remote@0.1.0 https://x", "npm", "mcp-remote", Some("0.1.0")),
            ("npm x mcp-remote", "npm", "mcp-remote", None),
            ("pnpm dlx mcp-remote", "npm", "mcp-remote", None),
            ("yarn dlx -p @a/b c", "npm", "@a/b", None),
            ("bunx --bun mcp-remote", "npm", "mcp-remote", None),
            ("bun x mcp-remote", "npm", "mcp-remote", None),
            ("deno run -A npm:@a/b@1.0.0", "npm", "@a/b", Some("1.0.0")),
            ("cmd /c npx -y mcp-remote", "npm", "mcp-remote", None),
            ("env -i TOKEN=x npx -y mcp-remote", "npm", "mcp-remote", None),
            ("sh -c 'TOKEN=x exec npx -y mcp-remote https://x'", "npm", "mcp-remote", None),
            ("TOKEN=x npx -y mcp-remote", "npm", "mcp-remote", None),
            ("uvx mcp-server-git --repository /srv", "pypi", "mcp-server-git", None),
            ("uvx --python 3.12 --from mcp-server-git==2025.1.1 mcp-server-git", "pypi", "mcp-server-git", Some("2025.1.1")),
            ("uvx mcp-server-fetch@1.0.0", "pypi", "mcp-server-fetch", Some("1.0.0")),
            ("uv tool run 'mcp-server-git[all]>=2'", "pypi", "mcp-server-git", Some(">=2")),
            ("uv --directory /srv run python -m mcp_server_git", "pypi", "mcp_server_git", None),
            ("pipx run --spec mcp-server-git==1.0 serve", "pypi", "mcp-server-git", Some("1.0")),
            ("python3 -W ignore -m mcp_server_git", "pypi", "mcp_server_git", None),
            ("python3.11 -u -m mcp_server_git.server", "pypi", "mcp_server_git", None),
            ("docker run -i --rm -e TOKEN mcp/github", "docker", "mcp/github", None),
            ("docker run -it -eA=b --name x --network=host ghcr.io/a/b:1.2 serve", "docker", "ghcr.io/a/b", Some("1.2")),
            ("podman container run --rm -v /a:/b localhost:5000/a@sha256:00ff", "docker", "localhost:5000/a", Some("sha256:00ff")),
        ] {
            let Some(Launch::Package(package)) = of(line) else { panic!("{line}: {:?}", of(line)) };
            let found = (package.ecosystem.as_str(), package.name.as_str(), package.version.as_deref());
            assert_eq!(found, (ecosystem, name, version), "{line}");
        }
    }

    #[test]
    fn what_is_no_package_is_the_program_or_its_script() {
        for (line, path, script) in [
            ("/opt/server --stdio", "/opt/server", None),
            ("node /srv/server.js npx", "node", Some("/srv/server.js")),
            ("python3 server.py -m x", "python3", Some("server.py")),
            ("python3 -c 'import mcp' x", "python3", None),
            ("python3 -E -X dev server.py", "python3", Some("server.py")),
            ("perl -E 'say 1' x", "perl", None),
            ("ruby -E utf-8 server.rb", "ruby", Some("server.rb")),
            ("php -c /etc/php.ini server.php", "php", Some("server.php")),
            ("/usr/bin/perl /srv/mcp-notes --quietly", "/usr/bin/perl", Some("/srv/mcp-notes")),
            ("env ruby /srv/notes.rb", "ruby", Some("/srv/notes.rb")),
            ("perl -ne 'print' mcp", "perl", None),
            ("node -r dotenv/config --no-warnings /srv/mcp.js", "node", Some("/srv/mcp.js")),
            ("php -r 'echo 1;' mcp", "php", None),
            ("npx ./server", "npx", None),
            ("npx github:owner/repository", "npx", None),
            ("uvx --from git+https://example.com/a a", "uvx", None),
            ("sh -c 'npx a; rm b'", "sh", None),
            ("docker ps", "docker", None),
            ("npm install x", "npm", None),
        ] {
            let expected = Launch::Program { path: path.to_owned(), script: script.map(str::to_owned) };
            assert_eq!(of(line), Some(expected), "{line}");
        }
        assert_eq!(launch::<&str>(&[]), None);
    }

    #[test]
    fn an_exact_version_or_a_digest_pins_and_nothing_else_does() {
        for (line, pinned) in [
            ("npx a@1.2.3", true),
            ("npx a@1.2.3-rc.1", true),
            ("npx a@^1.2.3", false),
            ("npx a@1", false),
            ("npx a@1.2.x", false),
            ("uvx a==1.2", true),
            ("npx a@latest", false),
            ("npx a", false),
            ("uvx a==1.2.3", true),
            ("uvx 'a>=1.2.3'", false),
            ("docker run a:1.2.3", false),
            ("docker run a@sha256:00ff", true),
        ] {
            let Some(Launch::Package(package)) = of(line) else { panic!("{line}") };
            assert_eq!(package.is_pinned(), pinned, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_arguments_are_taken_and_what_is_kept_is_bounded(
            arguments in prop::collection::vec(prop_oneof![
                Just("npx".to_owned()), Just("docker".to_owned()), Just("run".to_owned()), Just("uv".to_owned()), Just("tool".to_owned()),
                Just("sh".to_owned()), Just("-c".to_owned()), Just("env".to_owned()), Just("-".to_owned()), Just("--".to_owned()), ".{0,400}",
            ], 0..12)
        ) {
            if let Some(Launch::Package(package)) = launch(&arguments) {
                prop_assert!(package.name.len() <= MAX_NAME && package.version.is_none_or(|version| version.len() <= MAX_NAME));
            }
        }
    }
}
