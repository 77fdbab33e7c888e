//! `gnomon local`: MCP servers that the configuration files of clients on this host list, whether they ever ran or not.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use gnomon_cli::{
    Complaint,
    line::clean,
    options::{Format, FormatFlag},
};
use gnomon_local::{Account, Addon, FoundFile, Launch, ListedServer, Person, Reached, Watched, accounts, limit_this_process, person, scan};
use gnomon_packs::{AddonCatalogue, ConfigCatalogue};
use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// The program that runs now, wherever it is and whatever replaced it.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// `gnomon local`.
#[derive(Subcommand)]
pub enum Local {
    /// List the MCP servers in the configuration files of MCP clients: as root of all users of this host, else your own
    List(List),
    /// Reads one home directory, as its owner
    #[command(hide = true)]
    Home {
        /// The directory.
        home: PathBuf,
    },
}

/// `gnomon local list`.
#[derive(Args)]
pub struct List {
    /// Only these users
    #[arg(long, value_name = "NAME")]
    user: Vec<String>,
    /// Only servers in whose entry a secret stands
    #[arg(long)]
    secrets: bool,
    #[command(flatten)]
    format: FormatFlag,
}

impl Local {
    /// Does what was asked, and writes to standard output.
    ///
    /// # Errors
    /// The command's error.
    pub fn run(self) -> Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Home { home } => {
                limit_this_process()?;
                let (servers, addons) = (ConfigCatalogue::shipped()?, AddonCatalogue::shipped()?);
                // Begun before anything is read, so that nothing changes unnoticed. Without it the next look finds what changed.
                let watched = Watched::asked_for(&home, &servers, &addons).ok().flatten();
                serde_json::to_writer(io::stdout().lock(), &scan(&home, &servers, &addons)?)?;
                Ok(watched.map_or(Ok(()), Watched::hand_over)?)
            }
        }
    }
}

impl List {
    fn run(self) -> Result<()> {
        let accounts = self.accounts()?;
        let mut people: Vec<Person> =
            accounts.into_iter().map(|account| person(account, Path::new(THIS_PROGRAM), &["local", "home"])).collect();
        if self.secrets {
            people.iter_mut().flat_map(|person| &mut person.files).for_each(|file| {
                file.servers.retain(|server| !server.secrets.is_empty());
                file.addons.clear();
            });
            people.iter_mut().for_each(|person| person.files.retain(|file| !file.servers.is_empty() || file.partly.is_some()));
        }
        people.retain(|person| !person.files.is_empty() || person.unread.is_some());
        let mut out = BufWriter::new(io::stdout().lock());
        match self.format.format() {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&people)?)?,
            Format::Text => page(&mut out, &people)?,
        }
        Ok(out.flush()?)
    }

    fn accounts(&self) -> Result<Vec<Account>> {
        let mut accounts = accounts().context("/etc/passwd")?;
        if let Some(unknown) = self.user.iter().find(|name| !accounts.iter().any(|account| account.name == **name)) {
            let complaint = Complaint::usage(format!("{} is not a user of this host with a home directory of its own", clean(unknown)));
            return Err(complaint.next("`getent passwd` lists the users").into());
        }
        let own = rustix::process::geteuid();
        accounts.retain(|account| self.user.is_empty() || self.user.contains(&account.name));
        if !own.is_root() {
            accounts.retain(|account| account.uid == own.as_raw() || self.user.contains(&account.name));
        }
        Ok(accounts)
    }
}

fn page(out: &mut impl Write, people: &[Person]) -> io::Result<()> {
    let (mut servers, mut addons, mut secrets, mut unread) = (0, 0, 0, 0);
    for person in people {
        if let Some(why) = &person.unread {
            unread += 1;
            writeln!(out, "{}  {}: {}", clean(&person.account.name), clean(&person.account.home.display().to_string()), clean(why))?;
        }
        for file in &person.files {
            servers += file.servers.len();
            addons += file.addons.len();
            secrets += file.servers.iter().map(|server| server.secrets.len()).sum::<usize>();
            unread += usize::from(file.unread.is_some() || file.partly.is_some());
            of_file(out, person, file)?;
        }
    }
    if people.is_empty() {
        return writeln!(out, "no configuration file of a known MCP client was found");
    }
    let counted = |count: usize, one: &str, several: &str| format!("{count} {}", if count == 1 { one } else { several });
    writeln!(
        out,
        "{}{} in {} of {}; {} in them{}",
        counted(servers, "server", "servers"),
        if addons > 0 { format!(", {}", counted(addons, "hook, skill or plugin", "hooks, skills and plugins")) } else { String::new() },
        counted(people.iter().map(|person| person.files.len()).sum(), "file", "files"),
        counted(people.len(), "user", "users"),
        counted(secrets, "secret stands", "secrets stand"),
        if unread > 0 { format!("; {unread} could not be read, or not all of it") } else { String::new() }
    )
}

fn of_file(out: &mut impl Write, person: &Person, file: &FoundFile) -> io::Result<()> {
    let path = clean(&file.path.display().to_string());
    writeln!(out, "{}  {}  {path}", clean(&person.account.name), clean(&file.client))?;
    if let Some(why) = &file.unread {
        writeln!(out, "    could not be read: {}", clean(why))?;
    }
    if let Some(why) = &file.partly {
        writeln!(out, "    not all of it: {}", clean(why))?;
    }
    let width = file.servers.iter().map(|server| clean(&server.name).chars().count()).max().unwrap_or_default();
    for server in &file.servers {
        let notes: String = notes(server).iter().map(|note| format!("; {note}")).collect();
        writeln!(out, "    {:<width$}  {}{notes}", clean(&server.name), clean(&reached(server)))?;
    }
    for addon in &file.addons {
        writeln!(out, "    {} {}{}", addon.kind.as_str(), clean(&addon.name), clean(&about(addon)))?;
    }
    Ok(())
}

/// What a hook runs, and what a skill's or plugin's folder is worth.
fn about(addon: &Addon) -> String {
    let runs = addon.runs.as_ref().map(|runs| format!("  {}", started(runs))).unwrap_or_default();
    let folder = match (&addon.unread, &addon.sha256) {
        (Some(why), _) => format!("; could not be read: {why}"),
        (None, Some(sha256)) if addon.runs.is_none() => format!("  sha256:{}", sha256.get(..16).unwrap_or(sha256)),
        (None, _) => String::new(),
    };
    let partly = if addon.whole { "" } else { "; larger than what is read" };
    format!("{runs}{folder}{partly}")
}

/// How a client reaches it.
fn reached(server: &ListedServer) -> String {
    match &server.reached {
        Reached::Url(url) => url.clone(),
        Reached::Stdio(launch) => started(launch),
    }
}

fn started(launch: &Launch) -> String {
    match launch {
        Launch::Package(package) => {
            let separator = if package.version.as_deref().is_some_and(|version| version.starts_with("sha256:")) { "@" } else { " " };
            let version = package.version.as_deref().map(|version| format!("{separator}{version}")).unwrap_or_default();
            format!("{} {}{version}", package.runner, package.name)
        }
        Launch::Program { path, script } => {
            let script = script.as_deref().map(|script| format!(" {script}")).unwrap_or_default();
            format!("{path}{script}")
        }
    }
}

fn notes(server: &ListedServer) -> Vec<String> {
    let mut notes = Vec::new();
    if let Reached::Stdio(Launch::Package(package)) = &server.reached
        && package.is_pinned() == Some(false)
    {
        notes.push("not pinned".to_owned());
    }
    if let Reached::Url(url) = &server.reached
        && url.starts_with("http://")
    {
        notes.push("without encryption".to_owned());
    }
    if !server.enabled {
        notes.push("disabled".to_owned());
    }
    notes.extend(server.secrets.iter().map(|secret| format!("secret in {} ({})", clean(&secret.place), clean(&secret.kind))));
    notes
}
