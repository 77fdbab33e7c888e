//! `gnomon server remove`: takes a server out of the configuration, where it is registered and wherever a portal offers it. What else
//! names it is told, and left to people: whoever may do what is theirs to say.

use super::{
    IN_FORCE, registering,
    yaml_places::{Edit, Node, YamlLines, changed, document, without},
};
use anyhow::Result;
use clap::Args;
use gnomon_access::yaml::hint;
use gnomon_cli::{
    Complaint,
    line::clean,
    options::{ConfigFlag, Format, FormatFlag},
    rule_files::RuleText,
};
use gnomon_config::Config;
use gnomon_observe::Field;
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

#[derive(Args)]
pub struct Remove {
    /// The server, by its id
    #[arg(value_name = "NAME")]
    name: String,
    /// Change the file; without it, only show what would change
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    format: FormatFlag,
}

/// The change to the configuration.
struct Removal {
    new: String,
    /// The lines that change, as they are and as they would be, by their numbers.
    lines: Vec<(usize, String, Option<String>)>,
    /// The portals that offer it.
    portals: Vec<String>,
    /// Other references to it, without which the file would be refused: one error a line, with its place.
    refused: Option<String>,
    /// The files and lines of rules that name it.
    rules: Vec<String>,
}

impl Remove {
    pub(super) fn run(self) -> Result<()> {
        let next = "name it with --config";
        let path = self.config.of_the_system().filter(|path| path.exists());
        let path = path.ok_or_else(|| Complaint::usage("there is no configuration to remove the server from").next(next))?;
        let text = fs::read_to_string(&path).map_err(|error| Complaint::unreadable(path.display(), &path, &error, next))?;
        let config = Config::load(&path)?;
        if !config.servers.iter().any(|server| server.id == self.name) {
            let ids: Vec<&str> = config.servers.iter().map(|server| server.id.as_str()).collect();
            let cause = format!("{} has no server `{}`{}", path.display(), clean(&self.name), hint(&self.name, &ids));
            return Err(Complaint::usage(cause).next(format!("it has: {}", ids.join(", "))).into());
        }
        let removal = Removal::of(&self.name, (&path, &text), &config)?;
        let writes = self.write && removal.refused.is_none();
        if writes {
            let written = registering::replace(&path, removal.new.as_bytes(), Some(text.as_bytes()), 0o640);
            written.map_err(|error| Complaint::own(format!("cannot write {}: {error}", path.display())))?;
        }
        let mut out = io::stdout().lock();
        match self.format.format() {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&removal.json(&self.name, writes.then_some(&path)))?)?,
            Format::Text => write!(out, "{}", removal.text(&self.name, (&path, writes)))?,
        }
        match removal.refused {
            Some(refused) if self.write => {
                let cause = format!("nothing was written, as `{}` is still named where only people can decide:\n{refused}", self.name);
                Err(Complaint::input(cause).next("remove it there, then repeat the command").into())
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Removal {
    /// Removes the server of this id from the text of this configuration.
    fn of(id: &str, (path, text): (&Path, &str), config: &Config) -> Result<Self, Complaint> {
        let by_hand = |why: &str| Complaint::input(format!("{}: {why}", path.display())).next(format!("take `{id}` out by hand"));
        let edits = edits(text, id).ok_or_else(|| by_hand("it is written in a form from which a single server cannot be removed"))?;
        let text_of = |lines| changed(text, &edits, lines).ok_or_else(|| by_hand("its entries cannot be located"));
        let (new, numbered) = (text_of(YamlLines::Go)?, text_of(YamlLines::Stay)?);
        let refused = match Config::parse(&numbered, path) {
            Err(error) => Some(error.cause),
            Ok(_) => {
                let now = Config::parse(&new, path).map_err(|error| by_hand(&error.cause))?;
                if !removes_one_server(config, &now, id) {
                    return Err(by_hand("the edit would change more than this server"));
                }
                None
            }
        };
        let (old, would) = (text.lines(), numbered.lines());
        let lines = old.zip(would).enumerate().filter(|(_, (old, new))| old != new);
        let lines = lines.map(|(at, (old, new))| (at + 1, old.to_owned(), (!new.trim().is_empty()).then(|| new.to_owned()))).collect();
        let portals = config.portals.iter().filter(|portal| portal.servers.iter().any(|one| one == id));
        let portals = portals.map(|portal| portal.id.clone()).collect();
        Ok(Self { new, lines, portals, refused, rules: rules(config, id) })
    }

    fn text(&self, id: &str, (path, written): (&Path, bool)) -> String {
        // Writing to a String cannot fail.
        let mut text = String::new();
        let _ = match written {
            true => writeln!(text, "`{id}` is no longer in {}:\n", path.display()),
            false => writeln!(text, "nothing was written; {} would change in these lines:\n", path.display()),
        };
        for (number, old, new) in &self.lines {
            let _ = writeln!(text, "{number:>5} - {}", clean(old));
            if let Some(new) = new {
                let _ = writeln!(text, "{number:>5} + {}", clean(new));
            }
        }
        text.push('\n');
        if !self.portals.is_empty() {
            let _ = writeln!(text, "offered until then by: {}", self.portals.join(", "));
        }
        if let Some(refused) = &self.refused {
            let _ = writeln!(text, "the file would not be valid then, as `{id}` is still named:");
            refused.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
        if !self.rules.is_empty() {
            let _ = writeln!(text, "rules that name it, and stay as they are:");
            self.rules.iter().for_each(|rule| text.push_str(&format!("  {rule}\n")));
        }
        let _ = match (written, &self.refused) {
            (true, _) => writeln!(text, "next: {IN_FORCE}"),
            (false, None) => writeln!(text, "next: repeat the command with --write"),
            (false, Some(_)) => writeln!(text, "next: remove it there, then repeat the command with --write"),
        };
        text
    }

    fn json(&self, id: &str, written: Option<&PathBuf>) -> Value {
        let lines = self.lines.iter().map(|(number, old, new)| json!({"line": number, "old": old, "new": new}));
        json!({
            "id": id,
            "removed_from": written,
            "lines": lines.collect::<Vec<_>>(),
            "portals": self.portals,
            "refused": self.refused.iter().flat_map(|refused| refused.lines()).collect::<Vec<_>>(),
            "rules": self.rules,
        })
    }
}

/// Takes the server out of `servers`, and out of each portal's list; none where only people can.
fn edits(text: &str, id: &str) -> Option<Vec<Edit>> {
    let document = document(text)?;
    let servers = document.entry("servers")?;
    let is_it = |server: &Node| server.entry("id").is_some_and(|(_, value)| value.text() == Some(id));
    let mut edits = without(text, servers, servers.1.items().iter().position(is_it)?)?;
    for portal in document.entry("portals").map(|(_, portals)| portals.items()).unwrap_or_default() {
        let Some(offered) = portal.entry("servers") else { continue };
        if let Some(at) = offered.1.items().iter().position(|one| one.text() == Some(id)) {
            edits.extend(without(text, offered, at)?);
        }
    }
    Some(edits)
}

/// True if a configuration equals another without this server.
fn removes_one_server(old: &Config, new: &Config, id: &str) -> bool {
    let mut old = old.to_json();
    if let Some(servers) = old["servers"].as_array_mut() {
        servers.retain(|server| server["id"] != id);
    }
    for portal in old["portals"].as_array_mut().into_iter().flatten() {
        if let Some(servers) = portal["servers"].as_array_mut() {
            servers.retain(|server| server != id);
        }
    }
    old == new.to_json()
}

/// The lines of the administrator's rules that name a server, as `FILE:LINE`.
fn rules(config: &Config, id: &str) -> Vec<String> {
    let Ok(read) = RuleText::of(&config.rules) else { return Vec::new() };
    let field = Field::ServerId.name();
    let names = |line: &str| line.split_once(field).is_some_and(|(_, rest)| rest.split(|c: char| !is_of_an_id(c)).any(|word| word == id));
    let mut found = Vec::new();
    for source in read.sources.iter().chain(&read.overrides) {
        // Several values stand on the lines below.
        let mut below = false;
        for (at, line) in source.text.lines().enumerate() {
            let item = line.trim_start().strip_prefix('-').map(|item| item.trim().trim_matches(['\'', '"']));
            if names(line) || below && item == Some(id) {
                found.push(format!("{}:{}", source.name, at + 1));
            }
            below = line.contains(field) || below && item.is_some();
        }
    }
    found
}

fn is_of_an_id(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removal(text: &str, id: &str) -> Result<Removal, Complaint> {
        let path = Path::new("/etc/gnomon/gnomon.yml");
        Removal::of(id, (path, text), &Config::parse(text, path).unwrap())
    }

    const BEFORE: &str = "# mine\nservers:\n  # the first\n  - id: docs\n    url: 'https://docs.example/mcp'   # a\n  # the second\n  \
        - {id: wiki, url: 'https://wiki.example/mcp'}\ncontact: me # as ever\nportals:\n  - id: main\n    listen: '127.0.0.1:8080'\n    \
        servers: [docs,  wiki]  # both\n    policy: [{allow: {servers: [docs]}}]\n  - {id: two, listen: '127.0.0.1:8081', servers: [wiki]}\n";

    #[test]
    fn a_server_goes_from_where_it_is_registered_and_offered_and_all_else_stays_byte_for_byte() {
        let after = BEFORE
            .replace("  - {id: wiki, url: 'https://wiki.example/mcp'}\n", "")
            .replace("[docs,  wiki]", "[docs]")
            .replace("servers: [wiki]", "servers: []");
        let removed = removal(BEFORE, "wiki").unwrap();
        assert_eq!((removed.new.as_str(), removed.refused.as_deref()), (after.as_str(), None));
        assert_eq!(removed.portals, ["main", "two"]);
        let lines: Vec<usize> = removed.lines.iter().map(|(number, ..)| *number).collect();
        assert_eq!(lines, [7, 12, 14]);
        let windows = removal(&BEFORE.replace('\n', "\r\n"), "wiki").unwrap();
        assert_eq!(windows.new, after.replace('\n', "\r\n"));
    }

    #[test]
    fn what_still_names_it_is_told_with_its_line_in_the_file_as_it_is() {
        let refused = removal(BEFORE, "docs").unwrap().refused.unwrap();
        assert!(refused.starts_with("/etc/gnomon/gnomon.yml:13:") && refused.contains("docs"), "{refused}");
        let labelled = BEFORE.replace("policy:", "overrides: {docs: {tools: {a: {enabled: false}}}}\n    policy:");
        let refused = removal(&labelled, "docs").unwrap().refused.unwrap();
        assert!(refused.contains("gnomon.yml:13:") && refused.contains("gnomon.yml:14:"), "{refused}");
    }

    #[test]
    fn what_only_people_can_change_is_left_to_them() {
        let text = "servers: [&docs {id: docs, url: 'https://docs.example/mcp'}, {id: wiki, url: 'https://wiki.example/mcp'}]\n\
                    portals: [{id: main, listen: '127.0.0.1:8080', servers: [docs]}]\n";
        let removed = removal(text, "wiki").map(|removed| removed.new);
        assert!(removed.is_ok_and(|new| new.contains("&docs {id: docs") && !new.contains("wiki")));
    }
}
