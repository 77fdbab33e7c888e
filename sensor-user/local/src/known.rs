//! Whether a program that was started is a local MCP server, or an agent that starts such servers: by its arguments and the catalogues.
//!
//! What is said here is what names claim. A process chooses its arguments and can write over them at once; the name of the file that the
//! kernel began to run stays, and is what is left to go by where the arguments name no server. A server by another name is not found by its
//! start, and a program that is none can be called `mcp`; which of the two it is shows in what it says.

use crate::{
    interpreter::{Runs, interpreter, is_shell, runs},
    launch::{
        Launch, PackageClaim, RUNNERS, file_of, launch, npm_package_of, of_file, of_script, passes_on, python_folder_of, says_mcp, stem,
    },
};
use gnomon_packs::{AgentCatalogue, CatalogueError, Ecosystem, PackageCatalogue};
use parking_lot::RwLock;
use std::{borrow::Cow, collections::HashSet};

/// Programs that start others from packages or files, by the name that the kernel shows of them (15 bytes at most).
const STARTERS: [&str; 15] =
    ["npx", "npm", "pnpm", "pnpx", "yarn", "yarnpkg", "bun", "bunx", "deno", "uvx", "uv", "pipx", "docker", "podman", "nerdctl"];
/// Programs that are many by the name that they are called by: it is their first argument that says which.
const MANY_IN_ONE: [&str; 3] = ["busybox", "toybox", "coreutils"];
/// Folders of programs that somebody installed for all: an interpreter there has its own name.
const INSTALLED: [&str; 7] = ["/usr/", "/bin/", "/sbin/", "/lib", "/opt/", "/snap/", "/nix/"];
/// The longest name of a program that the kernel shows, in bytes.
const SHOWN: usize = 15;

/// What is known of servers and agents before any is started.
#[derive(Debug)]
pub struct Known {
    packages: PackageCatalogue,
    agents: AgentCatalogue,
    listed: RwLock<Listed>,
}

/// What configuration files list.
#[derive(Debug, Default)]
struct Listed {
    /// As [`Launch::place`] has them.
    places: HashSet<String>,
    /// The names of programs' files, as the kernel shows them.
    shown: HashSet<String>,
}

/// What was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// A local MCP server, or what starts it.
    Server(LocalServer),
    /// An agent of this name.
    Agent(Box<str>),
    /// Something else.
    Other,
}

/// A local server, as its start names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalServer {
    /// What the arguments start.
    pub launch: Launch,
    /// Why it is taken for a server.
    pub sign: Sign,
    /// Whether the process is the server, or will start it.
    pub part: Part,
}

impl LocalServer {
    /// Its name: that of its package, or of its script or program.
    #[must_use]
    pub fn name(&self) -> String {
        self.launch.place(None)
    }

    /// True if a runner fetches its package.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        matches!(&self.launch, Launch::Package(package) if package.is_fetched())
    }
}

/// Why something is taken for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Its package is in the catalogue.
    Catalogue,
    /// A client's configuration file lists it.
    Config,
    /// Its name says so.
    Name,
}

impl Sign {
    /// The word in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Catalogue => "catalogue",
            Self::Config => "config",
            Self::Name => "name",
        }
    }
}

/// What a process is to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It fetches and starts it: `npx`, a shell's script.
    Runner,
    /// It only starts what its arguments name (`sh -c`, `env`), which is reported as a start of its own if there is such a program.
    Passing,
    /// It is the server.
    Itself,
}

impl Known {
    /// What ships with gnomon.
    ///
    /// # Errors
    /// None in a build whose tests passed.
    pub fn shipped() -> Result<Self, CatalogueError> {
        Ok(Self { packages: PackageCatalogue::shipped()?, agents: AgentCatalogue::shipped()?, listed: RwLock::default() })
    }

    /// Takes what configuration files list, in place of what they listed before: places as [`Launch::place`] has them. Of scripts and
    /// programs only those count that are named with their whole path.
    pub fn list(&self, places: HashSet<String>) {
        let whole = |place: &String| !place.starts_with("file:") || place.starts_with("file:/");
        let places: HashSet<String> = places.into_iter().filter(whole).collect();
        let shown = |place: &String| Some(shown_of(place.strip_prefix("file:")?).to_owned());
        let shown = places.iter().filter_map(shown).collect();
        *self.listed.write() = Listed { places, shown };
    }

    /// True if a program that the kernel shows by this name is worth a look at its arguments.
    #[must_use]
    pub fn is_of_interest(&self, shown: &[u8]) -> bool {
        let Ok(name) = std::str::from_utf8(shown) else { return false };
        let is_cut_agent = || self.agents.iter().any(|agent| agent.program.get(..agent.program.len().min(SHOWN)) == Some(name));
        STARTERS.contains(&name)
            || interpreter(name).is_some()
            || says_mcp(name)
            || is_cut_agent()
            || self.listed.read().shown.contains(name)
    }

    /// What was started: by the arguments, else by the file that the kernel shows by this name. `executable` is the program's file, where
    /// it is known.
    #[must_use]
    pub fn began<T: AsRef<str>>(&self, shown: &[u8], executable: Option<&str>, arguments: &[T]) -> Started {
        let words = whole(arguments);
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let shown = std::str::from_utf8(shown).ok();
        let by_interpreter = || executable.map_or(Started::Other, |program| self.by_interpreter(program, &words));
        let by_file = || shown.map_or(Started::Other, |shown| self.by_file(shown, executable, &words));
        let found = self.started(&words).or_else(by_interpreter).or_else(by_file);
        match found {
            Started::Server(server) if passes_on(called(shown, executable, &words), &words) => {
                Started::Server(LocalServer { part: Part::Passing, ..server })
            }
            found => found,
        }
    }

    /// What these arguments start by a program that does not have its interpreter's name in them, or has another name altogether.
    fn by_interpreter(&self, program: &str, words: &[&str]) -> Started {
        let (own, rest) = (stem(program), words.get(1..).unwrap_or_default());
        if interpreter(&own).is_some() || is_shell(&own) {
            let words: Vec<&str> = std::iter::once(program).chain(rest.iter().copied()).collect();
            return self.started(&words);
        }
        if INSTALLED.iter().any(|folder| program.starts_with(folder)) {
            return Started::Other;
        }
        // As Python and node would have them. Only what lies in a package's folder counts, as many programs take files.
        let launch = match (runs("python", rest), runs("node", rest)) {
            (Runs::Module(name), _) => launch(&["python", "-m", name]),
            (_, Runs::Script(at)) => rest.get(at).filter(|file| is_code(file)).map(|file| of_script(program, file)),
            _ => None,
        };
        let Some(launch @ Launch::Package(_)) = launch else { return Started::Other };
        let sign = self.sign(&launch);
        sign.map_or(Started::Other, |sign| Started::Server(LocalServer { launch, sign, part: Part::Itself }))
    }

    fn by_file(&self, shown: &str, executable: Option<&str>, words: &[&str]) -> Started {
        let launch = file_run(shown, executable, words);
        let has_script = match &launch {
            Launch::Program { script, .. } => script.is_some(),
            Launch::Package(package) => package.script.is_some(),
        };
        let is_listed_script = || has_script && self.listed.read().places.contains(&launch.place(None));
        let sign = self.sign(&launch).or_else(|| is_listed_script().then_some(Sign::Config));
        sign.map_or(Started::Other, |sign| Started::Server(LocalServer { launch, sign, part: Part::Itself }))
    }

    /// What these arguments start.
    #[must_use]
    pub fn started<T: AsRef<str>>(&self, arguments: &[T]) -> Started {
        let arguments: Vec<Cow<'_, str>> = whole(arguments);
        let Some(launch) = launch(&arguments) else { return Started::Other };
        if let Some(agent) = self.agent_of(&launch) {
            // Agents serve MCP themselves.
            return match serves(&arguments) {
                true => Started::Server(LocalServer { launch, sign: Sign::Name, part: Part::Itself }),
                false => Started::Agent(agent.into()),
            };
        }
        let is_listed = || self.listed.read().places.contains(&launch.place(None)).then_some(Sign::Config);
        let sign = match self.sign(&launch) {
            Some(Sign::Catalogue) => Some(Sign::Catalogue),
            other => is_listed().or(other),
        };
        let Some(sign) = sign else { return Started::Other };
        let part = if is_run_by_runner(&launch, &arguments) { Part::Runner } else { Part::Itself };
        Started::Server(LocalServer { launch, sign, part })
    }

    /// The agent that a process is, by its program's file and its arguments.
    #[must_use]
    pub fn agent<T: AsRef<str>>(&self, executable: Option<&str>, arguments: &[T]) -> Option<&str> {
        let by_file = executable.and_then(|path| self.agents.program(file_of(path))).map(|agent| &*agent.name);
        by_file.or_else(|| self.agent_of(&launch(&whole(arguments))?))
    }

    fn agent_of(&self, launch: &Launch) -> Option<&str> {
        let found = match launch {
            Launch::Package(PackageClaim { ecosystem, name, script, .. }) => {
                let by_script = || script.as_deref().and_then(|script| self.agents.program(file_of(script)));
                self.agents.package(*ecosystem, name).or_else(by_script)
            }
            Launch::Program { path, script } => {
                let file = script.as_deref().unwrap_or(path);
                let package = npm_package_of(file).and_then(|name| self.agents.package(Ecosystem::Npm, name));
                package.or_else(|| self.agents.program(file_of(file)))
            }
        };
        found.map(|agent| &*agent.name)
    }

    /// Why a server is started by this, if it is one.
    #[must_use]
    pub fn sign(&self, launch: &Launch) -> Option<Sign> {
        match launch {
            Launch::Package(PackageClaim { ecosystem, name, script, .. }) => match self.packages.lookup(*ecosystem, name) {
                Some(_) => Some(Sign::Catalogue),
                None => (says_mcp(name) || script.as_deref().is_some_and(|script| says_mcp(file_of(script)))).then_some(Sign::Name),
            },
            Launch::Program { path, script } => {
                let file = script.as_deref().unwrap_or(path);
                let (npm, python) = (npm_package_of(file), python_folder_of(file));
                let is_known = |ecosystem, name: Option<&str>| name.is_some_and(|name| self.packages.lookup(ecosystem, name).is_some());
                match is_known(Ecosystem::Npm, npm) || is_known(Ecosystem::PyPi, python) {
                    true => Some(Sign::Catalogue),
                    false => (says_mcp(file_of(file)) || npm.is_some_and(says_mcp)).then_some(Sign::Name),
                }
            }
        }
    }
}

impl Started {
    /// Itself, or what else it may be where it is nothing known.
    fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        if self == Self::Other { other() } else { self }
    }
}

/// True if a process fetches a package, or runs a shell's script that starts what it names.
fn is_run_by_runner(launch: &Launch, arguments: &[Cow<'_, str>]) -> bool {
    let is_runner = |program: &str| RUNNERS.contains(&stem(program).as_str());
    match launch {
        Launch::Package(package) if package.is_fetched() || is_runner(&package.runner) => true,
        Launch::Program { path, script: Some(_) } if is_runner(path) => true,
        _ => arguments.first().is_some_and(|program| is_shell(&stem(program))),
    }
}

/// The program that was called, by its file. Where that is many in one, or not known, its first argument tells, which is the process's own
/// word: if the file is not known, no more than the kernel says as well.
fn called<'p>(shown: Option<&'p str>, executable: Option<&'p str>, words: &[&'p str]) -> &'p str {
    let first = words.first().copied().unwrap_or_default();
    match executable {
        Some(file) if MANY_IN_ONE.contains(&stem(file).as_str()) => first,
        Some(file) => file,
        None if shown == Some(shown_of(first)) => first,
        None => shown.unwrap_or_default(),
    }
}

/// True if this is a script by its name.
fn is_code(file: &str) -> bool {
    [".js", ".cjs", ".mjs", ".py"].iter().any(|ending| file.ends_with(ending))
}

/// The arguments, or what a program wrote over them that names itself anew (`npm exec NAME`, as npm does): one text.
fn whole<T: AsRef<str>>(arguments: &[T]) -> Vec<Cow<'_, str>> {
    let mut given = arguments.iter().map(|argument| -> &str { argument.as_ref() });
    let first = given.next().unwrap_or_default();
    if first.contains(' ') && !first.starts_with('/') && given.all(str::is_empty) {
        return first.split_whitespace().map(Cow::Borrowed).collect();
    }
    arguments.iter().map(|argument| Cow::Borrowed(argument.as_ref())).collect()
}

/// True if arguments have a program serve MCP: `codex mcp-server`, `claude mcp serve`.
fn serves(arguments: &[Cow<'_, str>]) -> bool {
    let is = |word: Option<&Cow<'_, str>>, name: &str| word.is_some_and(|word| word == name);
    let mut places = 0..arguments.len();
    places.any(|at| is(arguments.get(at), "mcp-server") || is(arguments.get(at), "mcp") && is(arguments.get(at + 1), "serve"))
}

/// The file that the kernel shows by this name, as far as its path is still to be found.
fn file_run(name: &str, executable: Option<&str>, words: &[&str]) -> Launch {
    // The kernel puts a script's path behind its interpreter and at most one option.
    let mut behind = words.iter().copied().skip(1).take(2);
    match (behind.find(|word| shown_of(word) == name), executable) {
        (Some(script), _) => of_file(executable.unwrap_or_default(), Some(script)),
        (None, Some(executable)) if shown_of(executable) == name => of_file(executable, None),
        // A script whose path was written over, or a link.
        (None, _) => of_file(executable.unwrap_or_default(), Some(name)),
    }
}

/// A file's name as the kernel shows it.
fn shown_of(path: &str) -> &str {
    let name = file_of(path);
    name.get(..name.floor_char_boundary(SHOWN)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(line: &str) -> Started {
        Known::shipped().unwrap().started(&shlex::split(line).unwrap())
    }

    fn sign(line: &str) -> Option<(Sign, Part)> {
        match started(line) {
            Started::Server(server) => Some((server.sign, server.part)),
            _ => None,
        }
    }

    #[test]
    fn servers_are_told_by_the_catalogue_and_by_their_names() {
        for (line, expected) in [
            ("npx -y @modelcontextprotocol/server-filesystem /srv", (Sign::Catalogue, Part::Runner)),
            ("node /usr/bin/npx -y @modelcontextprotocol/server-filesystem@2025.8.21", (Sign::Catalogue, Part::Runner)),
            ("bash /home/ada/.asdf/shims/npx -y @modelcontextprotocol/server-filesystem", (Sign::Catalogue, Part::Runner)),
            ("uvx mcp-server-git", (Sign::Catalogue, Part::Runner)),
            ("uvx --from git-mcp-of-mine tool", (Sign::Name, Part::Runner)),
            ("npx -y github:evil/mcp-x", (Sign::Name, Part::Runner)),
            ("uvx --from git+https://h/mcp-x.git x", (Sign::Name, Part::Runner)),
            ("npx -y ./mcp-server", (Sign::Name, Part::Runner)),
            ("python3 -m mcp_server_git", (Sign::Catalogue, Part::Itself)),
            ("python -um mcp_server_git", (Sign::Catalogue, Part::Itself)),
            ("docker run -i --rm mcp/unheard-of", (Sign::Name, Part::Runner)),
            ("sh -c 'mcp-server-unheard-of /tmp'", (Sign::Name, Part::Runner)),
            ("node /home/ada/.npm/_npx/1f/node_modules/.bin/mcp-server-filesystem", (Sign::Name, Part::Itself)),
            ("node /x/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js", (Sign::Catalogue, Part::Itself)),
            ("node node_modules/@modelcontextprotocol/server-filesystem/dist/index.js", (Sign::Catalogue, Part::Itself)),
            ("node node_modules/tools/mcp-server.js", (Sign::Name, Part::Itself)),
            ("python /v/site-packages/mcp_server_git/server.py", (Sign::Catalogue, Part::Itself)),
            ("sh /srv/mcp-server.sh", (Sign::Name, Part::Runner)),
            ("/opt/bin/github-mcp-server stdio", (Sign::Name, Part::Itself)),
            ("python /home/ada/weather_mcp.py", (Sign::Name, Part::Itself)),
            ("codex mcp-server", (Sign::Name, Part::Itself)),
            ("/home/ada/.local/bin/claude mcp serve", (Sign::Name, Part::Itself)),
        ] {
            assert_eq!(sign(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_only_starts_another_is_no_server_and_what_it_starts_is() {
        let known = Known::shipped().unwrap();
        let part = |shown: &str, executable: &str, line: &str| match known.began(
            shown.as_bytes(),
            Some(executable).filter(|file| !file.is_empty()),
            &shlex::split(line).unwrap(),
        ) {
            Started::Server(server) => Some(server.part),
            _ => None,
        };
        for (shown, executable, line) in [
            ("sh", "/usr/bin/dash", "sh -c mcp-nothere"),
            ("bash", "/usr/bin/bash", "bash -lc 'npx -y mcp-server-x'"),
            ("env", "/usr/bin/env", "env X=1 node my-mcp-server.js"),
            ("env", "/usr/bin/coreutils", "env X=1 node my-mcp-server.js"),
            ("env", "", "env X=1 node my-mcp-server.js"),
            // As the kernel starts `#!/usr/bin/env node`.
            ("npx", "/usr/bin/env", "/usr/bin/env node /usr/bin/npx -y mcp-server-x"),
            ("mcp-server-x", "/usr/bin/env", "/usr/bin/env node /srv/mcp-server-x"),
            ("mcp-server-x", "/bin/busybox", "/usr/bin/env node /srv/mcp-server-x"),
            ("timeout", "/usr/bin/timeout", "timeout 5 node my-mcp-server.js"),
            ("uv", "/home/ada/.local/bin/uv", "uv run mcp-server-x"),
        ] {
            assert_eq!(part(shown, executable, line), Some(Part::Passing), "{line}");
        }
        for (shown, executable, line, expected) in [
            ("node", "/usr/bin/node", "node my-mcp-server.js", Part::Itself),
            ("npx", "/usr/bin/node", "node /usr/bin/npx -y mcp-server-x", Part::Runner),
            ("mcp.sh", "/usr/bin/dash", "/bin/sh /srv/mcp.sh", Part::Runner),
            ("uv", "/usr/bin/uv", "uv run https://h/mcp.py", Part::Runner),
            // A program by whatever first argument is what its file says.
            ("mcp-evil", "/tmp/mcp-evil", "sh -c mcp-nothere", Part::Runner),
            ("mcp-evil", "", "sh -c mcp-nothere", Part::Runner),
        ] {
            assert_eq!(part(shown, executable, line), Some(expected), "{line}");
        }
    }

    #[test]
    fn an_interpreter_by_another_name_is_known_by_its_file_or_by_the_package_that_it_runs() {
        let known = Known::shipped().unwrap();
        let name =
            |shown: &str, executable: &str, line: &str| match known.began(shown.as_bytes(), Some(executable), &shlex::split(line).unwrap())
            {
                Started::Server(server) => Some(server.name()),
                _ => None,
            };
        let files = "pkg:npm/@modelcontextprotocol/server-filesystem";
        let script = "/a/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js";
        for (executable, line, expected) in [
            ("/home/ada/mynode", format!("./mynode {script} /srv"), Some(files)),
            ("/home/ada/mynode", format!("./mynode -r ./a.js {}", script.trim_start_matches("/a/")), Some(files)),
            ("/home/ada/notes", "./notes -m mcp_server_git".to_owned(), Some("pkg:pypi/mcp-server-git")),
            ("/home/ada/notes", "./notes -um mcp_server_git".to_owned(), Some("pkg:pypi/mcp-server-git")),
            // A link, or another first argument.
            ("/usr/bin/node", format!("./mynode {script}"), Some(files)),
            ("/usr/bin/python3.11", "kworker/0:1 srv_mcp.py".to_owned(), Some("file:srv_mcp.py")),
            // Programs that take files.
            ("/usr/bin/vim", format!("vim {script}"), None),
            ("/home/ada/bin/rm", "rm node_modules/mcp-x/package.json".to_owned(), None),
            ("/home/ada/notes", "./notes srv_mcp.py".to_owned(), None),
            ("/home/ada/bin/commit", "commit -m 'mcp is new'".to_owned(), None),
        ] {
            assert_eq!(name("x", executable, &line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn other_programs_are_none() {
        for line in [
            "npx -y eslint .",
            "claude mcp list",
            "codex",
            "node server.js",
            "python3 -m http.server",
            "docker run -i alpine",
            "cat mcp.json",
            "vim mcp_server.py",
            "sh -c 'make test'",
            "/usr/bin/mcphail",
            "python3 -m pytest test_mcp.py",
        ] {
            assert_eq!(sign(line), None, "{line}");
        }
    }

    #[test]
    fn where_arguments_name_no_server_the_file_that_the_kernel_began_to_run_does() {
        let known = Known::shipped().unwrap();
        let place = |shown: &str, executable: Option<&str>, words: &[&str]| match known.began(shown.as_bytes(), executable, words) {
            Started::Server(server) => Some((server.name(), server.sign)),
            _ => None,
        };
        let by_name = |place: &str| Some((place.to_owned(), Sign::Name));
        let perl = Some("/usr/bin/perl");
        // Written over at once; the same of a binary; other words in place of the arguments; an interpreter that is not known.
        assert_eq!(place("mcp-liar", perl, &["innocent", "", ""]), by_name("file:mcp-liar"));
        assert_eq!(place("mcp-liar", None, &[]), by_name("file:mcp-liar"));
        assert_eq!(place("mcp-liar", Some("/opt/mcp-liar"), &["innocent"]), by_name("file:/opt/mcp-liar"));
        assert_eq!(place("mcp-server-of-o", Some("/opt/mcp-server-of-ours"), &["x"]), by_name("file:/opt/mcp-server-of-ours"));
        assert_eq!(place("mcp-liar", Some("/usr/bin/tclsh"), &["tclsh", "-x", "/srv/mcp-liar", "a"]), by_name("file:/srv/mcp-liar"));
        // A name that says nothing where arguments do, and one that says nothing either.
        let claimed = place("sh", Some("/usr/bin/dash"), &["npx", "-s", "--", "@modelcontextprotocol/server-filesystem@2025.8.21"]);
        assert_eq!(claimed, Some(("pkg:npm/@modelcontextprotocol/server-filesystem".to_owned(), Sign::Catalogue)));
        assert_eq!(place("vim", Some("/usr/bin/vim"), &["vim", "mcp_server.py"]), None);
        assert_eq!(place("claude", Some("/usr/bin/claude"), &["claude"]), None);
        assert_eq!(known.began(b"\xff", None, &["innocent"]), Started::Other);
        // A listed script is told whatever runs it, and not all that its interpreter runs.
        known.list(["file:/srv/notes", "file:/usr/bin/tclsh"].map(str::to_owned).into());
        let tclsh = |shown, script| match known.began(shown, Some("/usr/bin/tclsh"), &["tclsh", script]) {
            Started::Server(server) => Some(server.sign),
            _ => None,
        };
        assert_eq!(tclsh(b"notes", "/srv/notes"), Some(Sign::Config));
        assert_eq!(tclsh(b"tclsh", "/srv/other"), None);
    }

    #[test]
    fn what_a_configuration_file_lists_is_a_server_whatever_it_is_called() {
        let known = Known::shipped().unwrap();
        let places = ["file:/opt/tools/notes", "pkg:npm/notes", "file:server.js", "file:/srv/tools.py"];
        known.list(places.iter().map(ToString::to_string).collect());
        let sign = |words: &[&str]| match known.started(words) {
            Started::Server(server) => Some(server.sign),
            _ => None,
        };
        assert_eq!(sign(&["/opt/tools/notes", "--stdio"]), Some(Sign::Config));
        assert_eq!(sign(&["npx", "-y", "Notes"]), Some(Sign::Config));
        assert_eq!(sign(&["python3", "/srv/tools.py"]), Some(Sign::Config));
        assert_eq!(sign(&["node", "server.js"]), None, "any folder may have one");
        assert!(known.is_of_interest(b"notes") && !known.is_of_interest(b"server.js"));
        known.list(HashSet::new());
        assert!(sign(&["/opt/tools/notes"]).is_none() && !known.is_of_interest(b"notes"));
    }

    #[test]
    fn arguments_that_a_program_wrote_anew_as_one_text_are_read() {
        let known = Known::shipped().unwrap();
        let title = ["npm exec @modelcontextprotocol/server-filesystem /srv", "", ""];
        assert!(matches!(known.started(&title), Started::Server(LocalServer { sign: Sign::Catalogue, .. })));
        assert_eq!(known.started(&["/opt/with a space/mcp tool"]), known.started(&["/opt/with a space/mcp tool"]));
        assert_eq!(known.started::<&str>(&[]), Started::Other);
    }

    #[test]
    fn agents_are_told_by_their_file_their_script_and_their_package() {
        let known = Known::shipped().unwrap();
        for (executable, arguments, expected) in [
            (Some("/home/ada/.local/bin/codex"), &["whatever"][..], Some("Codex")),
            (Some("/usr/bin/node"), &["node", "--no-warnings", "/usr/bin/gemini"], Some("Gemini CLI")),
            (Some("/usr/bin/node"), &["node", "/x/node_modules/@google/gemini-cli/dist/index.js"], Some("Gemini CLI")),
            (Some("/usr/bin/node"), &["npx", "-y", "@anthropic-ai/claude-code"], Some("Claude Code")),
            (Some("/usr/bin/node"), &["node", "server.js"], None),
            (None, &["claude"], Some("Claude Code")),
            (None, &[], None),
        ] {
            assert_eq!(known.agent(executable, arguments), expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_look_is_worth_what_starts_packages_what_runs_scripts_and_what_says_mcp() {
        let known = Known::shipped().unwrap();
        for name in ["npx", "node", "perl", "python3.12", "php8.2", "nodejs20", "docker", "mcp-server-git", "claude", "zed-editor"] {
            assert!(known.is_of_interest(name.as_bytes()), "{name}");
        }
        for name in [&b"ls"[..], b"cc1", b"make", b"", b"\xff\xfe"] {
            assert!(!known.is_of_interest(name), "{name:?}");
        }
    }
}
