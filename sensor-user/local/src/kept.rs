//! What the configuration files of a host listed when they were last read, and the skills and plugins beside them, and what is another since.
//!
//! Of each entry a hash is kept and where its server comes from, never what stands in it. All of it is the word of the home's owner.

use crate::{
    addons::Addon,
    listed::{ListedServer, Reached},
    scan::FoundFile,
};
use gnomon_packs::AddonKind;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashSet},
    mem,
    path::Path,
};

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
    /// Why it could not be read, or not all of it, when it was last looked at.
    unread: Option<String>,
}

/// An entry as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptEntry {
    /// SHA-256 of what is told of it, hexadecimal.
    sha256: String,
    /// Where the server comes from, if a client starts it.
    place: Option<String>,
    /// What it is; nothing of a server.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "kind")]
    kind: Option<AddonKind>,
}

mod kind {
    use super::{AddonKind, Deserialize as _, Deserializer, Serializer};
    use serde::de::Error as _;

    #[expect(clippy::ref_option, reason = "serde asks for this shape")]
    pub(super) fn serialize<S: Serializer>(kind: &Option<AddonKind>, out: S) -> Result<S::Ok, S::Error> {
        match kind {
            Some(kind) => out.serialize_some(kind.as_str()),
            None => out.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<AddonKind>, D::Error> {
        let Some(word) = Option::<String>::deserialize(from)? else { return Ok(None) };
        AddonKind::named(&word).map(Some).ok_or_else(|| D::Error::custom("not an add-on"))
    }
}

/// An entry of a file, or of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// A server.
    Server(ListedServer),
    /// A hook, skill or plugin.
    Addon(Addon),
}

impl Listed {
    fn name(&self) -> &str {
        match self {
            Self::Server(server) => &server.name,
            Self::Addon(addon) => &addon.name,
        }
    }

    fn kind(&self) -> Option<AddonKind> {
        match self {
            Self::Server(_) => None,
            Self::Addon(addon) => Some(addon.kind),
        }
    }

    fn place(&self) -> Option<String> {
        match self {
            Self::Server(ListedServer { reached: Reached::Stdio(launch), .. }) => Some(launch.place(None)),
            // What a hook runs is no server.
            Self::Server(_) | Self::Addon(_) => None,
        }
    }

    fn digest(&self) -> String {
        // What was read from JSON can be written as it.
        let written = match self {
            Self::Server(server) => serde_json::to_vec(server),
            Self::Addon(addon) => serde_json::to_vec(addon),
        };
        hex::encode(Sha256::digest(written.unwrap_or_default()))
    }
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
    /// The file cannot be read, or not all of it.
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
    /// The name that the file gives the server, or the add-on's; empty of a file that cannot be read.
    pub entry: String,
    /// What the entry is; nothing of a server, and of a file that cannot be read.
    pub kind: Option<AddonKind>,
    /// The entry as it is now.
    pub now: Option<Listed>,
    /// Where it came from, of one that is gone.
    pub place: Option<String>,
    /// Why the file cannot be read, or not all of it.
    pub why: Option<String>,
}

impl Kept {
    /// Takes what the files below a home of this owner's list now, and gives what is another. What was known goes only where it is seen to be
    /// gone, so that nothing that comes can push it out.
    pub fn take(&mut self, uid: u32, home: &Path, files: Vec<FoundFile>) -> Vec<Change> {
        let others: usize = self.homes.iter().filter(|(other, _)| **other != uid).map(|(_, files)| entries(files)).sum();
        let (mut before, mut now): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.homes.remove(&uid).unwrap_or_default().into_iter().partition(|(path, _)| Path::new(path).starts_with(home));
        let elsewhere = entries(&now);
        let mut read: BTreeMap<String, Named> = BTreeMap::new();
        for file in files {
            let path = file.path.to_string_lossy().into_owned();
            // A path counts once.
            read.entry(path).or_insert_with(|| Named::from(file));
        }
        let mut removals = Vec::new();
        for (path, file) in &mut before {
            let gone = match read.get(path) {
                Some(named) if named.unread.is_some() => Vec::new(),
                Some(named) => file.entries.extract_if(.., |name, _| !named.entries.contains_key(name)).collect(),
                None if read.iter().any(|(above, named)| named.unread.is_some() && Path::new(path).starts_with(above)) => Vec::new(),
                None => mem::take(&mut file.entries).into_iter().collect::<Vec<_>>(),
            };
            removals.extend(gone.into_iter().map(|(name, entry)| removed(&file.client, path, &name, entry)));
        }
        let mut room = MAX_KEPT.saturating_sub(others).min(MAX_KEPT_OF_ONE).saturating_sub(elsewhere + entries(&before));
        let mut changes = Vec::new();
        for (path, named) in read {
            let known = before.remove(&path).unwrap_or_default();
            let kept = of_file(named, &path, known, &mut room, &mut changes);
            now.insert(path, kept);
        }
        now.extend(before.into_iter().filter(|(_, file)| !file.entries.is_empty()));
        if !now.is_empty() {
            self.homes.insert(uid, now);
        }
        changes.extend(removals);
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

/// A file as it was read.
struct Named {
    client: String,
    entries: BTreeMap<String, Listed>,
    /// Why they may not be all.
    unread: Option<String>,
}

impl From<FoundFile> for Named {
    fn from(file: FoundFile) -> Self {
        let FoundFile { client, servers, addons, unread, partly, .. } = file;
        let mut entries = BTreeMap::new();
        for listed in servers.into_iter().map(Listed::Server).chain(addons.into_iter().map(Listed::Addon)) {
            entries.insert(unused(&keyed(&listed), &entries), listed);
        }
        Self { client, entries, unread: unread.or(partly) }
    }
}

/// Adds what is new of a file to what is known of it; nothing of that is gone.
fn of_file(named: Named, path: &str, known: KeptFile, room: &mut usize, changes: &mut Vec<Change>) -> KeptFile {
    let Named { client, entries, mut unread } = named;
    let change = |what, now: Option<Listed>, why| Change {
        what,
        client: client.clone(),
        path: path.to_owned(),
        entry: now.as_ref().map(Listed::name).unwrap_or_default().to_owned(),
        kind: now.as_ref().and_then(Listed::kind),
        now,
        place: None,
        why,
    };
    let mut kept = known.entries;
    for (name, listed) in entries {
        let entry = KeptEntry { sha256: listed.digest(), place: listed.place(), kind: listed.kind() };
        let what = match kept.get(&name) {
            Some(same) if same.sha256 == entry.sha256 => continue,
            Some(_) => What::Changed,
            None if *room == 0 => {
                unread.get_or_insert_with(|| {
                    format!("there is no room for all that it lists: {MAX_KEPT_OF_ONE} entries are kept of one owner, {MAX_KEPT} of all")
                });
                continue;
            }
            None => {
                *room -= 1;
                What::FirstSeen
            }
        };
        kept.insert(name, entry);
        changes.push(change(what, Some(listed), None));
    }
    if unread.is_some() && unread != known.unread {
        changes.push(change(What::Unread, None, unread.clone()));
    }
    KeptFile { client, entries: kept, unread }
}

/// The name under which an entry is kept: a server and a hook of one file may have the same.
fn keyed(listed: &Listed) -> String {
    match listed {
        Listed::Server(server) => server.name.clone(),
        Listed::Addon(addon) => format!("{}:{}", addon.kind.as_str(), addon.name),
    }
}

fn removed(client: &str, path: &str, name: &str, entry: KeptEntry) -> Change {
    let own = entry.kind.and_then(|kind| name.strip_prefix(kind.as_str())?.strip_prefix(':')).unwrap_or(name);
    Change {
        what: What::Removed,
        client: client.to_owned(),
        path: path.to_owned(),
        entry: own.to_owned(),
        kind: entry.kind,
        now: None,
        place: entry.place,
        why: None,
    }
}

/// The name, with a number where it is taken: projects of one file may each have a server of that name.
fn unused<T>(name: &str, taken: &BTreeMap<String, T>) -> String {
    let numbered = (2..).map(|number| format!("{name} {number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains_key(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AtMost, hooks_in, listed};
    use gnomon_packs::ConfigFormat;

    fn file(path: &str, text: &str) -> FoundFile {
        let listed = listed(ConfigFormat::Json, "mcpServers", text.as_bytes());
        let (servers, unread) = listed.map_or_else(|why| (Vec::new(), Some(why.to_string())), |servers| (servers.into_kept(), None));
        FoundFile { client: "Cursor".into(), path: path.into(), sha256: None, servers, addons: hooks(text), unread, partly: None }
    }

    fn hooks(text: &str) -> Vec<Addon> {
        hooks_in(ConfigFormat::Json, "hooks", text.as_bytes()).map(AtMost::into_kept).unwrap_or_default()
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
        assert_eq!(told(&kept.take(1, Path::new("/h"), vec![file("/h/x", ONE)])), [("first_seen", "a"), ("first_seen", "b")]);
        assert!(kept.take(1, Path::new("/h"), vec![file("/h/x", ONE)]).is_empty());
        assert_eq!(kept.places(), HashSet::from(["pkg:pypi/server-a".to_owned()]));
        let again: Kept = serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap();
        assert_eq!(again, kept);
        let changes = kept.take(1, Path::new("/h"), vec![file("/h/x", OTHER)]);
        assert_eq!(told(&changes), [("changed", "a"), ("removed", "b")]);
        let Some(Listed::Server(server)) = &changes[0].now else { panic!("{changes:?}") };
        assert_eq!(server.secrets.len(), 1);
        assert!(!serde_json::to_string(&kept).unwrap().contains("ghp_"), "what stands in it is not kept");
        assert_eq!(told(&kept.take(2, Path::new("/i"), vec![file("/i/x", ONE)])).len(), 2, "another's");
        let gone = kept.take(1, Path::new("/h"), Vec::new());
        assert_eq!((told(&gone), gone[0].place.as_deref()), (vec![("removed", "a")], Some("pkg:pypi/server-a")));
    }

    #[test]
    fn a_hook_is_told_as_a_server_is_and_is_none() {
        let file = |command: &str| {
            let text = format!(
                r#"{{"mcpServers":{{"Stop":{{"command":"uvx","args":["server-a"]}}}},"hooks":{{"Stop":[{{"command":"{command}"}},{{"command":"b"}}]}}}}"#
            );
            vec![file("/h/x", &text)]
        };
        let mut kept = Kept::default();
        assert_eq!(told(&kept.take(1, Path::new("/h"), file("npx a"))), [("first_seen", "Stop"); 3]);
        assert_eq!(kept.places(), HashSet::from(["pkg:pypi/server-a".to_owned()]), "what a hook runs is no server");
        let kept_again: Kept = serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap();
        assert_eq!(kept_again, kept);
        let changes = kept.take(1, Path::new("/h"), file("npx c"));
        assert_eq!((told(&changes), changes[0].kind), (vec![("changed", "Stop")], Some(AddonKind::Hook)));
        let gone = kept.take(1, Path::new("/h"), Vec::new());
        assert_eq!(gone.iter().filter(|change| change.kind == Some(AddonKind::Hook) && change.entry.starts_with("Stop")).count(), 2);
        // As it was kept before there were add-ons.
        let old = r#"{"homes":{"1":{"/h/x":{"client":"Cursor","entries":{"a":{"sha256":"","place":null}},"unread":null}}}}"#;
        assert!(serde_json::from_str::<Kept>(old).is_ok());
    }

    #[test]
    fn what_a_file_listed_stands_while_it_cannot_be_read_which_is_told_once() {
        let mut kept = Kept::default();
        kept.take(1, Path::new("/h"), vec![file("/h/x", ONE)]);
        assert_eq!(told(&kept.take(1, Path::new("/h"), vec![file("/h/x", "{")])), [("unread", "")]);
        assert!(kept.take(1, Path::new("/h"), vec![file("/h/x", "{")]).is_empty() && kept.places().len() == 1);
        assert!(kept.take(1, Path::new("/h"), vec![file("/h/x", ONE)]).is_empty(), "as it was");
    }

    #[test]
    fn servers_of_one_name_in_several_projects_of_a_file_are_told_apart() {
        let text = r#"{"projects":{"p":{"mcpServers":{"a":{"command":"x"}}},"q":{"mcpServers":{"a":{"command":"y"}}}}}"#;
        let mut kept = Kept::default();
        assert_eq!(told(&kept.take(1, Path::new("/h"), vec![file("/h/x", text)])), [("first_seen", "a"), ("first_seen", "a")]);
        assert!(kept.take(1, Path::new("/h"), vec![file("/h/x", text)]).is_empty());
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
        assert_eq!(kept.take(1, Path::new("/"), files.clone()).len(), 1, "a path counts once");
        assert!(kept.take(1, Path::new("/"), files).is_empty());
    }

    #[test]
    fn what_comes_pushes_nothing_out_that_is_known_and_what_finds_no_room_is_told() {
        let listing = |names: std::ops::Range<usize>, rest: &str| {
            let many: Vec<String> = names.map(|n| format!(r#""s{n:04}":{{"command":"c"}}"#)).collect();
            format!(r#"{{"mcpServers":{{{}{rest}}}}}"#, many.join(","))
        };
        let partly = |mut file: FoundFile| {
            file.partly = Some("more".to_owned());
            file
        };
        let mut kept = Kept::default();
        kept.take(1, Path::new("/h"), vec![file("/h/x", ONE), file("/h/y/z", ONE)]);
        // Junk in front of what was known, and more than is read.
        let junk = listing(0..200, "");
        let changes = kept.take(1, Path::new("/h"), vec![partly(file("/h/x", &junk)), file("/h/y/z", ONE)]);
        assert_eq!((changes.len(), told(&changes)[200]), (201, ("unread", "")), "each and once that there is more, and nothing removed");
        assert!(kept.take(1, Path::new("/h"), vec![partly(file("/h/x", &junk)), file("/h/y/z", ONE)]).is_empty());
        // More files than are read: what is not among them stands, unless it is of another place.
        let home = partly(file("/h", "{}"));
        assert_eq!(
            told(&kept.take(1, Path::new("/h"), vec![home, file("/h/x", ONE)])).iter().filter(|one| one.0 == "removed").count(),
            200
        );
        assert!(kept.take(1, Path::new("/h"), vec![file("/h/x", ONE), file("/h/y/z", ONE)]).is_empty());
        // Another home of the same owner's.
        assert_eq!(kept.take(1, Path::new("/hh"), vec![file("/hh/x", ONE)]).len(), 2);
        assert!(kept.take(1, Path::new("/h"), vec![file("/h/x", ONE), file("/h/y/z", ONE)]).is_empty());
        // No room: what changes of the known is told all the same, and what takes the place of others comes.
        let files = |first: &str| (0..6).map(|n| file(&format!("/h/{n}"), &listing(0..200, first))).chain([file("/h/x", OTHER)]).collect();
        let changes = kept.take(1, Path::new("/h"), files(""));
        assert!(told(&changes).contains(&("unread", "")) && told(&changes).contains(&("changed", "a")), "{:?}", told(&changes));
        assert!(kept.take(1, Path::new("/h"), files("")).is_empty());
        let changes = kept.take(1, Path::new("/h"), vec![file("/h/0", &listing(2000..2200, ""))]);
        assert_eq!(changes.iter().filter(|change| change.what == What::FirstSeen).count(), 200);
    }

    #[test]
    fn one_owner_s_entries_are_bounded() {
        let many: Vec<String> = (0..200).map(|n| format!(r#""s{n}":{{"command":"c{n}"}}"#)).collect();
        let text = format!(r#"{{"mcpServers":{{{}}}}}"#, many.join(","));
        let files = (0..20).map(|n| file(&format!("/h/{n}"), &text)).collect();
        let mut kept = Kept::default();
        let changes = kept.take(1, Path::new("/h"), files);
        assert_eq!(changes.iter().filter(|change| change.what == What::FirstSeen).count(), MAX_KEPT_OF_ONE);
        assert_eq!(changes.iter().filter(|change| change.what == What::Unread).count(), 15, "of each file that found no room");
        assert_eq!(kept.take(2, Path::new("/i"), vec![file("/i/x", ONE)]).len(), 2);
    }
}
