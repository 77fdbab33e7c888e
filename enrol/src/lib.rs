//! `gnomon server`: registers MCP servers in the configuration, and shows whether they answer.
//!
//! A server is found in one of four ways, each a file: by its URL (`remote`), as a program (`program`, `package`), as an API that a
//! document describes (`api`), or as one that was seen in use (`from`). It is asked as a portal would ask it (`attempt`), and what to
//! allow of it is proposed (`proposal`). Only then the configuration is changed: as text, so that comments and order stay (`registering`,
//! `yaml_places`), and in no other way than by this one server. What runs is asked by its metrics (`running`), never by a road of its own.
#![deny(missing_docs)]

mod api;
mod attempt;
mod from;
mod package;
mod program;
mod proposal;
mod registering;
mod remote;
mod remove;
mod running;
mod status;
mod test;
mod writable;
mod yaml_places;

use anyhow::Result;
use clap::{ArgGroup, Args, Subcommand};
use from::Used;
use gnomon_access::yaml::quoted;
use gnomon_cli::{
    Complaint,
    line::clean,
    options::{ConfigFlag, Format, FormatFlag, StateFlag},
    runtime,
};
use gnomon_config::{Config as Configuration, SecretRef};
use proposal::Proposal;
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// The next step after a change of the configuration.
const IN_FORCE: &str = "put it in force with `systemctl reload gnomon`, or SIGHUP to the process of gnomon; it needs no restart";

/// `gnomon server`.
#[derive(Subcommand)]
pub enum Server {
    /// Add a server to the configuration: an MCP server by its URL, a program on this host, or an HTTP API
    Add(Box<AddServer>),
    /// Remove a server from the configuration, and from every portal that offers it
    Remove(remove::Remove),
    /// Ask configured servers as a portal would, and show what they offer, or why they do not answer
    Test(test::Test),
    /// The servers of the running gnomon: whether each is there, since when, and why not
    List(status::List),
    /// What the running gnomon knows of its servers: presence, calls, errors, sessions, processes, entries that are not offered
    Status(status::Status),
}

/// `gnomon server add`.
#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true)))]
pub struct AddServer {
    /// An MCP server, by its URL
    #[arg(long, group = "what", value_name = "URL")]
    url: Option<String>,
    /// An MCP server that is a program on this host, with all its arguments; the last flag
    #[arg(long, group = "what", value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true)]
    command: Vec<String>,
    /// An MCP server that was seen in use, as `gnomon inventory` names it: host, with :port and /path where a host has several
    #[arg(long, group = "what", value_name = "SERVER")]
    from: Option<String>,
    /// An HTTP API: the OpenAPI document that describes it, a file or an https:// URL
    #[arg(long, group = "what", value_name = "FILE|URL")]
    openapi: Option<String>,
    /// The server's name [default: made of its host, its program or the API's title]
    #[arg(long)]
    id: Option<String>,
    /// Where requests go [default: the document's first https:// server]
    #[arg(long, value_name = "URL", requires = "openapi")]
    base: Option<String>,
    /// Operations that are tools on every list: a name, or 'METHOD /path', with `*`; repeatable
    #[arg(long, value_name = "GLOB", requires = "openapi")]
    allow: Vec<String>,
    /// Operations that may be called although they write; repeatable
    #[arg(long, value_name = "GLOB", requires = "openapi")]
    writes: Vec<String>,
    /// A reference to the secret for one of the document's security schemes (file:/path, env:NAME, credential:NAME); repeatable
    #[arg(long, value_name = "SCHEME=SECRET", requires = "openapi")]
    credential: Vec<String>,
    /// A reference to the token that is sent with every request, as `Authorization: Bearer`
    #[arg(long, value_name = "SECRET", conflicts_with = "command")]
    bearer: Option<String>,
    /// A variable of the program's environment, the value as text or as a reference to a secret; repeatable
    #[arg(long, value_name = "NAME=VALUE", requires = "command")]
    env: Vec<String>,
    /// A file or folder that the program may read; repeatable
    #[arg(long, value_name = "PATH", requires = "command")]
    read: Vec<PathBuf>,
    /// A file or folder that the program may change; repeatable
    #[arg(long, value_name = "PATH", requires = "command")]
    write: Vec<PathBuf>,
    /// The program's network access
    #[arg(long, value_name = "ACCESS", value_parser = ["none", "internet", "host"], requires = "command")]
    network: Option<String>,
    /// The user that the program runs as [default: a user of its own]
    #[arg(long, value_name = "USER", requires = "command")]
    user: Option<String>,
    /// Do not ask the server whether it answers
    #[arg(long, conflicts_with = "openapi")]
    untested: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    format: FormatFlag,
}

impl Server {
    /// Runs the command.
    ///
    /// # Errors
    /// It was called wrongly, a server does not answer, or the configuration cannot be changed.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Add(add) => runtime()?.block_on(add.run()),
            Self::Remove(remove) => remove.run(),
            Self::Test(test) => runtime()?.block_on(test.run()),
            Self::List(list) => list.run(),
            Self::Status(status) => status.run(),
        }
    }
}

impl AddServer {
    async fn run(self) -> Result<()> {
        let written = self.command.iter().chain(&self.env).chain(&self.url).chain(&self.from);
        if let Some(odd) = written.into_iter().find(|text| text.chars().any(char::is_control)) {
            let cause = format!("{odd:?} has a line break or another control character");
            return Err(Complaint::usage(cause).next("add this entry by hand").into());
        }
        match (self.openapi.clone(), self.url.clone()) {
            (Some(document), _) => self.api(&document).await,
            (None, Some(url)) => self.remote(&url, None).await,
            (None, None) => match self.from.clone() {
                Some(server) => self.seen(&server).await,
                None => self.program().await,
            },
        }
    }

    /// The id asked for, or one that is made of this text; none that another server has.
    fn id_for(&self, text: &str, fallback: &str, config: &Configuration) -> Result<String> {
        let id = self.id.clone().unwrap_or_else(|| id_of(text, fallback, config));
        if config.servers.iter().any(|server| server.id == id) {
            let cause = format!("there is a server `{id}` already");
            return Err(Complaint::usage(cause).next("name this one with --id").into());
        }
        if !is_id(&id) {
            let cause = format!("`{id}` is not a valid id: use lower-case letters, digits and `-` between them, at most 32");
            return Err(Complaint::usage(cause).into());
        }
        Ok(id)
    }

    /// Asks the server of this entry whether it answers, and adds it. One that does not answer is not added. Of one that was seen in use
    /// it is proposed to allow what was called.
    async fn try_and_add(&self, target: &Target, id: &str, entry: &str, used: Option<&Used>) -> Result<()> {
        let found = match self.untested {
            true => None,
            false => {
                let config = target.with(entry)?;
                let mut tried = attempt::attempt(&config, &[id], &self.state.dir()?).await?;
                Some(tried.pop().map_or_else(|| Err("it was not asked".to_owned()), |tried| tried.found))
            }
        };
        let done = match &found {
            Some(Err(_)) => Done::Nothing,
            _ if self.dry_run => Done::Nothing,
            _ => target.add(entry)?,
        };
        let proposal = match (used.map(|used| used.proposal(id)).filter(|used| !used.allow.is_empty()), &found) {
            (Some(used), _) => used,
            (None, Some(Ok(found))) => found.proposal(id),
            (None, _) => Proposal::default(),
        };
        let mut out = io::stdout().lock();
        match self.format.format() {
            Format::Json => {
                let mut json = serde_json::json!({
                    "id": id, "entry": entry, "added_to": done.file(),
                    "found": found.as_ref().and_then(|found| found.as_ref().ok()).map(attempt::Found::json),
                    "error": found.as_ref().and_then(|found| found.as_ref().err()),
                    "allow": proposal.allow,
                    "choices": proposal.choices.iter().map(|choice| &choice.entry).collect::<Vec<_>>(),
                });
                if let (Some(json), Some(used)) = (json.as_object_mut(), used) {
                    json.insert("seen".into(), used.json());
                }
                writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
            }
            Format::Text => {
                if let Some(used) = used {
                    writeln!(out, "{}", used.line())?;
                }
                match &found {
                    Some(Ok(found)) => {
                        write!(out, "{}", found.text())?;
                        let offered = found.tools();
                        for tool in used.into_iter().flat_map(|used| used.gone(&offered)) {
                            writeln!(out, "  {} was called, and is not offered", clean(tool))?;
                        }
                    }
                    Some(Err(_)) => {}
                    None => writeln!(out, "the server was not asked whether it answers")?,
                }
                write!(out, "{}", done.text(entry, ""))?;
                if !matches!(found, Some(Err(_))) {
                    writeln!(out, "next: name `{id}` in `servers` of a portal, and allow in its `policy` what its users need, as\n")?;
                    write!(out, "{}", proposal.text(id))?;
                    writeln!(out, "\nthen {IN_FORCE}")?;
                }
            }
        }
        match found {
            Some(Err(why)) => {
                let next = attempt::next_step(&why).unwrap_or("fix that and repeat the command; --untested adds it anyway");
                Err(Complaint::input(format!("the server was not added, as {why}")).next(next).into())
            }
            _ => done.by_hand(),
        }
    }
}

/// The configuration that a server is added to.
struct Target {
    file: Option<PathBuf>,
    text: String,
    config: Configuration,
}

impl Target {
    /// The one that the flag names. It may name a server of this `id` already, and lack only that.
    fn of(flag: &ConfigFlag, id: Option<&str>) -> Result<Self> {
        let file = flag.of_the_system();
        let (text, config) = match &file {
            Some(path) if path.exists() => {
                let text = fs::read_to_string(path)?;
                let config = Configuration::load(path).or_else(|error| match id.and_then(|id| without(&text, id, path)) {
                    Some(config) => Ok(config),
                    None => Err(error),
                })?;
                (text, config)
            }
            _ => (String::new(), Configuration::default()),
        };
        Ok(Self { file, text, config })
    }

    /// The path.
    fn file(&self) -> Result<&Path, Complaint> {
        let next = "name it with --config";
        self.file.as_deref().ok_or_else(|| Complaint::usage("there is no configuration to add the server to").next(next))
    }

    /// The configuration with this entry. Where the entry can only be added by hand it is alone, beside what is global.
    fn with(&self, entry: &str) -> Result<Configuration> {
        let file = self.file.clone().unwrap_or_else(|| PathBuf::from("gnomon.yml"));
        let text = registering::with_entry(&self.text, entry).unwrap_or_else(|| format!("servers:\n{entry}"));
        let mut config = Configuration::parse(&text, &file)?;
        config.file.clone_from(&self.file);
        Ok(config)
    }

    /// Puts the entry into the file where that can be done without people.
    fn add(&self, entry: &str) -> Result<Done> {
        let path = self.file()?;
        let Some(new) = registering::with_entry(&self.text, entry) else {
            return Ok(Done::ByHand("`servers` is not written as a list of lines"));
        };
        if !registering::adds_one_server(&self.config, &new, path).unwrap_or(false) {
            return Ok(Done::ByHand("the edit would change more than this server"));
        }
        let expected = path.exists().then_some(self.text.as_bytes());
        let written = registering::replace(path, new.as_bytes(), expected, 0o640);
        written.map_err(|error| Complaint::own(format!("cannot write {}: {error}", path.display())))?;
        Ok(Done::Added(path.to_owned()))
    }
}

/// What a configuration says that is complete but for a server of this id.
fn without(text: &str, id: &str, path: &Path) -> Option<Configuration> {
    let complete = registering::with_entry(text, &format!("- id: {}\n  url: 'https://server.invalid/mcp'\n", quoted(id)))?;
    let mut config = Configuration::parse(&complete, path).ok()?;
    config.file = Some(path.to_owned());
    let at = config.servers.iter().position(|server| server.id == id)?;
    config.servers.remove(at);
    Some(config)
}

/// What was done.
enum Done {
    /// Nothing was changed, as was asked.
    Nothing,
    /// The entry is in the file.
    Added(PathBuf),
    /// The entry is to be added by hand, and why.
    ByHand(&'static str),
}

impl Done {
    /// The file that the entry is in now.
    fn file(&self) -> Option<&Path> {
        match self {
            Self::Added(path) => Some(path),
            Self::Nothing | Self::ByHand(_) => None,
        }
    }

    /// Whoever called the command takes its end for the entry being there: it is not, where people are to add it.
    fn by_hand(&self) -> Result<()> {
        match self {
            Self::Added(_) | Self::Nothing => Ok(()),
            Self::ByHand(why) => {
                Err(Complaint::input(format!("the configuration was not changed, as {why}")).next("add the entry above by hand").into())
            }
        }
    }

    /// In words; `before` is what was done even where the entry is to be added by hand.
    fn text(&self, entry: &str, before: &str) -> String {
        match self {
            Self::Added(path) => format!("\nadded to {}:\n\n{entry}", path.display()),
            Self::Nothing => format!("\nnothing was written; the entry would be:\n\n{entry}"),
            Self::ByHand(why) => format!("\n{before}Add this entry by hand, as {why}:\n\n{entry}"),
        }
    }
}

/// A reference to a secret, as YAML has it.
fn secret(text: &str) -> Result<String, Complaint> {
    SecretRef::parse(text, Path::new("")).map(|_| quoted(text)).map_err(Complaint::usage)
}

/// An id out of a text, which no other server has.
fn id_of(text: &str, fallback: &str, config: &Configuration) -> String {
    let mut id = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            id.push(c.to_ascii_lowercase());
        } else if !id.is_empty() && !id.ends_with('-') {
            id.push('-');
        }
    }
    id.truncate(20);
    let id = id.trim_matches('-');
    let id = if id.is_empty() { fallback } else { id };
    let taken = |id: &str| config.servers.iter().any(|server| server.id == id);
    let numbered = (2..).map(|number| format!("{id}-{number}"));
    std::iter::once(id.to_owned()).chain(numbered).find(|id| !taken(id)).unwrap_or_default()
}

fn is_id(id: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !id.is_empty() && id.len() <= 32 && id.chars().all(fits) && !id.starts_with('-') && !id.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_can_be_added_that_a_portal_names_already_and_a_file_with_other_faults_is_not_read() {
        let path = Path::new("/etc/gnomon/gnomon.yml");
        let portal = "portals:\n  - { id: main, listen: '127.0.0.1:8080', servers: [hm] }\n";
        for text in [portal.to_owned(), format!("servers:\n  - {{ id: docs, url: 'https://docs.example/mcp' }}\n{portal}")] {
            assert!(Configuration::parse(&text, path).is_err());
            let config = without(&text, "hm", path).unwrap();
            let entry = "- id: hm\n  url: 'https://hm.example/mcp'\n";
            let new = registering::with_entry(&text, entry).unwrap();
            assert!(registering::adds_one_server(&config, &new, path).unwrap(), "{new}");
            assert!(config.servers.iter().all(|server| server.id != "hm"));
        }
        assert!(without(portal, "other", path).is_none());
    }
}
