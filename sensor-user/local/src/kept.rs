//! What the configuration files of a host listed when they were last read, and what is another since.
//!
//! Of each entry a hash is kept and where its server comes from, never what stands in it. All of it is the word of the home's owner.

use crate::{
    listed::{ListedServer, Reached},
    scan::FoundFile,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The most entries of files that are kept, and the most of one owner.
pub const MAX_KEPT: usize = 16_384;
/// The most entries of one owner.
pub const MAX_KEPT_OF_ONE: usize = 1024;

/// What is known of all homes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// By the number of the owner, then by path.
    homes: BTreeMap<u32, BTreeMap<String, KeptFile>>,
}

/// A file as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct KeptFile {
    client: String,
    /// By name; of several of one name, behind the first, with a number.
    entries: BTreeMap<String, KeptEntry>,
    /// Why it could not be read when it was last looked at.
    unread: Option<String>,
}

/// An entry as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptEntry {
    /// SHA-256 of what is told of it, hexadecimal.
    sha256: String,
    /// Where the server comes from, if a client starts it.
    place: Option<String>,
}

/// What became of an entry, or of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was not there before.
    FirstSeen,
    /// It is another than before.
    Changed,
    /// It is not there any more.
    Removed,
    /// The file cannot be read.
    Unread,
}

impl What {
    /// The word in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstSeen => "first_seen",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Unread => "unread",
        }
    }
}

/// A change of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What became of it.
    pub what: What,
    /// The client whose file it is.
    pub client: String,
    /// The file.
    pub path: String,
    /// The name that the file gives the server; empty of a file that cannot be read.
    pub entry: String,
    /// The server as it is now.
    pub server: Option<ListedServer>,
    /// Where it came from, of one that is gone.
    pub place: Option<String>,
    /// Why the file cannot be read.
    pub why: Option<String>,
}

impl Kept {
    /// Takes what an owner's files list now, and gives what is another.
    pub fn take(&mut self, uid: u32, files: Vec<FoundFile>) -> Vec<Change> {
        let others: usize = self.homes.iter().filter(|(other, _)| **other != uid).map(|(_, home)| entries(home)).sum();
        let mut room = MAX_KEPT.saturating_sub(others).min(MAX_KEPT_OF_ONE);
        let before = self.homes.remove(&uid).unwrap_or_default();
        let (mut now, mut changes) = (BTreeMap::new(), Vec::new());
        for file in files {
            let path = file.path.to_string_lossy().into_owned();
            if now.contains_key(&path) {
                continue;
            }
            let known = before.get(&path).cloned().unwrap_or_default();
            let kept = of_file(file, &path, &known, &mut room, &mut changes);
            now.insert(path, kept);
        }
        let gone = before.iter().filter(|(path, _)| !now.contains_key(*path));
        for (path, file) in gone {
            changes.extend(file.entries.iter().map(|(name, entry)| removed(file, path, name, entry)));
        }
        if !now.is_empty() {
            self.homes.insert(uid, now);
        }
        changes
    }

    /// Where the servers come from that clients start, as [`crate::Launch::place`] has them.
    #[must_use]
    pub fn places(&self) -> HashSet<String> {
        let files = self.homes.values().flat_map(BTreeMap::values);
        files.flat_map(|file| file.entries.values()).filter_map(|entry| entry.place.clone()).collect()
    }
}

fn entries(home: &BTreeMap<String, KeptFile>) -> usize {
    home.values().map(|file| file.entries.len()).sum()
}

fn of_file(file: FoundFile, path: &str, known: &KeptFile, room: &mut usize, changes: &mut Vec<Change>) -> KeptFile {
    let change = |what, entry: &str, server, place, why| Change {
        what,
        client: file.client.clone(),
        path: path.to_owned(),
        entry: entry.to_owned(),
        server,
        place,
        why,
    };
    if let Some(why) = &file.unread {
        if known.unread.as_ref() != Some(why) {
            changes.push(change(What::Unread, "", None, None, Some(why.clone())));
        }
        // What it listed before stands until it can be read again.
        *room = room.saturating_sub(known.entries.len());
        return KeptFile { client: file.client, entries: known.entries.clone(), unread: Some(why.clone()) };
    }
    let mut now = KeptFile { client: file.client.clone(), ..KeptFile::default() };
    let mut names: BTreeSet<String> = BTreeSet::new();
    for server in &file.servers {
        let Some(less) = room.checked_sub(1) else { break };
        *room = less;
        let name = unused(&server.name, &names);
        let entry = KeptEntry { sha256: digest(server), place: place(server) };
        match known.entries.get(&name) {
            Some(same) if same.sha256 == entry.sha256 => {}
            Some(_) => changes.push(change(What::Changed, &server.name, Some(server.clone()), None, None)),
            None => changes.push(change(What::FirstSeen, &server.name, Some(server.clone()), None, None)),
        }
        names.insert(name.clone());
        now.entries.insert(name, entry);
    }
    let gone = known.entries.iter().filter(|(name, _)| !names.contains(*name));
    changes.extend(gone.map(|(name, entry)| change(What::Removed, name, None, entry.place.clone(), None)));
    now
}

fn removed(file: &KeptFile, path: &str, name: &str, entry: &KeptEntry) -> Change {
    Change {
        what: What::Removed,
        client: file.client.clone(),
        path: path.to_owned(),
        entry: name.to_owned(),
        server: None,
        place: entry.place.clone(),
        why: None,
    }
}

/// The name, with a number where it is taken: projects of one file may each have a server of that name.
fn unused(name: &str, taken: &BTreeSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name} {number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

fn digest(server: &ListedServer) -> String {
    // What was read from JSON can be written as it.
    hex::encode(Sha256::digest(serde_json::to_vec(server).unwrap_or_default()))
}

fn place(server: &ListedServer) -> Option<String> {
    match &server.reached {
        Reached::Stdio(launch) => Some(launch.place(None)),
        Reached::Url(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listed;
    use gnomon_packs::ConfigFormat;

    fn file(path: &str, text: &str) -> FoundFile {
        let listed = listed(ConfigFormat::Json, "mcpServers", text.as_bytes());
        let (servers, unread) = listed.map_or_else(|why| (Vec::new(), Some(why.to_string())), |servers| (servers, None));
        FoundFile { client: "Cursor".into(), path: path.into(), sha256: None, servers, unread }
    }

    fn told(changes: &[Change]) -> Vec<(&str, &str)> {
        changes.iter().map(|change| (change.what.as_str(), change.entry.as_str())).collect()
    }

    const ONE: &str = r#"{"mcpServers":{"a":{"command":"uvx","args":["server-a"]},"b":{"url":"https://b.example/mcp"}}}"#;
    const OTHER: &str =
        r#"{"mcpServers":{"a":{"command":"uvx","args":["server-a"],"env":{"TOKEN":"ghp_0123456789abcdefghijABCDEFGHIJ012345"}}}}"#;

    #[test]
    fn entries_are_told_when_they_come_change_and_go_and_not_otherwise() {
        let mut kept = Kept::default();
        assert_eq!(told(&kept.take(1, vec![file("/h/x", ONE)])), [("first_seen", "a"), ("first_seen", "b")]);
        assert!(kept.take(1, vec![file("/h/x", ONE)]).is_empty());
        assert_eq!(kept.places(), HashSet::from(["pkg:pypi/server-a".to_owned()]));
        let again: Kept = serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap();
        assert_eq!(again, kept);
        let changes = kept.take(1, vec![file("/h/x", OTHER)]);
        assert_eq!(told(&changes), [("changed", "a"), ("removed", "b")]);
        assert_eq!(changes[0].server.as_ref().unwrap().secrets.len(), 1);
        assert!(!serde_json::to_string(&kept).unwrap().contains("ghp_"), "what stands in it is not kept");
        assert_eq!(told(&kept.take(2, vec![file("/i/x", ONE)])).len(), 2, "another's");
        let gone = kept.take(1, Vec::new());
        assert_eq!((told(&gone), gone[0].place.as_deref()), (vec![("removed", "a")], Some("pkg:pypi/server-a")));
    }

    #[test]
    fn what_a_file_listed_stands_while_it_cannot_be_read_which_is_told_once() {
        let mut kept = Kept::default();
        kept.take(1, vec![file("/h/x", ONE)]);
        assert_eq!(told(&kept.take(1, vec![file("/h/x", "{")])), [("unread", "")]);
        assert!(kept.take(1, vec![file("/h/x", "{")]).is_empty() && kept.places().len() == 1);
        assert!(kept.take(1, vec![file("/h/x", ONE)]).is_empty(), "as it was");
    }

    #[test]
    fn servers_of_one_name_in_several_projects_of_a_file_are_told_apart() {
        let text = r#"{"projects":{"p":{"mcpServers":{"a":{"command":"x"}}},"q":{"mcpServers":{"a":{"command":"y"}}}}}"#;
        let mut kept = Kept::default();
        assert_eq!(told(&kept.take(1, vec![file("/h/x", text)])), [("first_seen", "a"), ("first_seen", "a")]);
        assert!(kept.take(1, vec![file("/h/x", text)]).is_empty());
    }

    #[test]
    fn what_a_reader_says_beyond_its_bounds_is_cut() {
        let long = "x".repeat(100_000);
        let server = format!(
            r#"{{"name":"{long}","reached":{{"url":"https://a:b@h/{long}?k={long}"}},"enabled":true,"environment":["{long}"],"headers":[],"secrets":[{{"place":"{long}","kind":"{long}"}}]}}"#
        );
        let file = format!(r#"{{"client":"{long}","path":"/{long}","sha256":"{long}","servers":[{server}],"unread":null}}"#);
        let mut files = crate::said(format!("[{}]", vec![file; 3].join(",")).as_bytes()).unwrap();
        assert!(serde_json::to_string(&files).unwrap().len() < 3 * 8_000 && !serde_json::to_string(&files).unwrap().contains("b@"));
        files.truncate(2);
        let mut kept = Kept::default();
        assert_eq!(kept.take(1, files.clone()).len(), 1, "a path counts once");
        assert!(kept.take(1, files).is_empty());
    }

    #[test]
    fn one_owner_s_entries_are_bounded() {
        let many: Vec<String> = (0..200).map(|n| format!(r#""s{n}":{{"command":"c{n}"}}"#)).collect();
        let text = format!(r#"{{"mcpServers":{{{}}}}}"#, many.join(","));
        let files = (0..20).map(|n| file(&format!("/h/{n}"), &text)).collect();
        let mut kept = Kept::default();
        assert_eq!(kept.take(1, files).len(), MAX_KEPT_OF_ONE);
        assert_eq!(kept.take(2, vec![file("/i/x", ONE)]).len(), 2);
    }
}
