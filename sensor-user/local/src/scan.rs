//! Reading the configuration files of clients below a home directory.
//!
//! Whoever owns a home may put anything into it: links that lead elsewhere, pipes, devices, files of others, other files between a look and the
//! next. So files are opened beneath the home (`openat2(2)` with `RESOLVE_BENEATH`), without waiting, and only regular ones of the home's
//! owner or of root are read, from what was opened. A process that does this for somebody else should run as them: see [`limit_this_process`].

use crate::{
    addons::{Addon, MAX_ADDONS, hooks_in},
    at_most::AtMost,
    folder::{Budget, digest},
    listed::{self, ListedServer, MAX_FILE, MAX_SERVERS, Unread},
};
use gnomon_packs::{AddonCatalogue, AddonKind, AddonPlace, ConfigCatalogue, ConfigFile, ConfigFormat, ConfigScope, Os};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, fstat, openat, openat2, statat},
    io::Errno,
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
    thread::{CapabilitySet, CapabilitySets, set_capabilities},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Read as _},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The most entries of folders that are looked at for a path with wildcards.
const MAX_ENTRIES: usize = 65_536;
/// How deep `**` goes.
const MAX_DEPTH: usize = 8;
/// The most files of one home. Where there are more, the last one stands for the home itself and says so.
pub const MAX_FILES: usize = 256;

const LAST_FILE: usize = MAX_FILES - 1;

/// A configuration file that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundFile {
    /// The client whose file it is.
    pub client: String,
    /// Its path.
    pub path: PathBuf,
    /// SHA-256 of what was read, hexadecimal; absent where it was not read.
    pub sha256: Option<String>,
    /// The servers that it lists.
    pub servers: Vec<ListedServer>,
    /// The hooks that it lists; of a folder of skills or plugins, these.
    #[serde(default)]
    pub addons: Vec<Addon>,
    /// Why they are not known.
    pub unread: Option<String>,
    /// Why there may be more than these; absent where these are all.
    #[serde(default)]
    pub partly: Option<String>,
}

/// The longest path and reason that are kept, in bytes.
const MAX_TEXT: usize = 4096;
/// The longest name of a client.
const MAX_CLIENT: usize = 64;
/// The digits of a SHA-256.
const DIGITS: usize = 64;

impl FoundFile {
    /// The same within the bounds that hold for what was read here: somebody else may have written it.
    pub(crate) fn within_bounds(&mut self) {
        let cut = |text: &str, most: usize| text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned();
        self.client = cut(&self.client, MAX_CLIENT);
        self.path = cut(&self.path.to_string_lossy(), MAX_TEXT).into();
        self.sha256 = self.sha256.as_deref().map(|sha256| cut(sha256, DIGITS));
        for why in [&mut self.unread, &mut self.partly] {
            *why = why.as_deref().map(|why| cut(why, MAX_TEXT));
        }
        self.servers.truncate(MAX_SERVERS);
        self.servers.iter_mut().for_each(ListedServer::within_bounds);
        self.addons.truncate(MAX_ADDONS);
        self.addons.iter_mut().for_each(Addon::within_bounds);
    }
}

/// The configuration files of all known clients below this home directory, and what else their clients load.
///
/// # Errors
/// The home cannot be opened. What is wrong with a file is told in its place.
pub fn scan(home: &Path, servers: &ConfigCatalogue, addons: &AddonCatalogue) -> io::Result<Vec<FoundFile>> {
    let folder = open_home(home)?;
    let owner = fstat(&folder)?.st_uid;
    let mut scanning = Scanning { home: folder, above: home, owner, left: Budget::of_a_home(), found: Vec::new() };
    for row in servers.on(Os::Linux).filter(|row| matches!(row.scope, ConfigScope::User | ConfigScope::PluginCache)) {
        scanning.servers(row);
    }
    for place in addons.on(Os::Linux) {
        match place.format {
            Some(format) => scanning.hooks(place, format),
            None => scanning.folders(place),
        }
    }
    Ok(scanning.found)
}

pub(crate) fn open_home(home: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, home, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The scan of a home.
struct Scanning<'a> {
    home: OwnedFd,
    above: &'a Path,
    owner: u32,
    left: Budget,
    found: Vec<FoundFile>,
}

/// What a file holds, or why that is not known.
type Bytes = Result<Vec<u8>, String>;

/// What a file lists, as in [`FoundFile`].
#[derive(Default)]
struct Lists {
    servers: Vec<ListedServer>,
    addons: Vec<Addon>,
    partly: Option<String>,
}

impl Lists {
    fn of_servers(servers: AtMost<ListedServer, MAX_SERVERS>) -> Self {
        let partly = servers.has_more().then(|| format!("it lists more than {MAX_SERVERS} servers, and these are known"));
        Self { servers: servers.into_kept(), partly, ..Self::default() }
    }

    fn of_addons(addons: AtMost<Addon, MAX_ADDONS>) -> Self {
        let partly = addons.has_more().then(|| format!("it has more than {MAX_ADDONS} hooks, skills or plugins, and these are known"));
        Self { addons: addons.into_kept(), partly, ..Self::default() }
    }
}

impl Scanning<'_> {
    fn servers(&mut self, row: &ConfigFile) {
        let Some(below) = row.path.strip_prefix("~/") else { return };
        for path in self.matching(&row.client, below, Links::Left) {
            let Some(bytes) = self.read(&path) else { continue };
            if self.known(&path).is_some() {
                continue;
            }
            let sha256 = bytes.as_ref().ok().map(|bytes| hex::encode(Sha256::digest(bytes)));
            let servers = bytes.and_then(|bytes| listed::listed(row.format, &row.servers_key, &bytes).map_err(|unread| unread.to_string()));
            self.add(&row.client, &path, sha256, servers.map(Lists::of_servers));
        }
    }

    fn hooks(&mut self, place: &AddonPlace, format: ConfigFormat) {
        let Some(below) = place.path.strip_prefix("~/") else { return };
        for path in self.matching(&place.client, below, Links::Left) {
            let Some(bytes) = self.read(&path) else { continue };
            let sha256 = bytes.as_ref().ok().map(|bytes| hex::encode(Sha256::digest(bytes)));
            let hooks = bytes.and_then(|bytes| hooks_in(format, &place.key, &bytes).map_err(|unread| unread.to_string()));
            match (self.known(&path), hooks) {
                // It lists servers too, or hooks under another key.
                (Some(file), Ok(hooks)) => {
                    let mut all = AtMost::new();
                    file.addons.drain(..).chain(hooks.into_kept()).for_each(|addon| all.push(addon));
                    let Lists { addons, partly, .. } = Lists::of_addons(all);
                    file.addons = addons;
                    file.partly = file.partly.take().or(partly);
                }
                (Some(_), Err(_)) => {}
                // Many settings have none.
                (None, Ok(hooks)) if hooks.is_empty() => {}
                (None, hooks) => self.add(&place.client, &path, sha256, hooks.map(Lists::of_addons)),
            }
        }
    }

    /// Skills and plugins: one entry for the folder that has them, with each of them.
    fn folders(&mut self, place: &AddonPlace) {
        let Some(below) = place.path.strip_prefix("~/") else { return };
        let Some((above, _)) = below.split_once("/*") else { return };
        // Behind the last `*` stands the file that makes a folder one.
        let Some((_, marker)) = below.rsplit_once("*/") else { return };
        let mut addons = AtMost::new();
        for path in self.matching(&place.client, below, Links::Named) {
            let Some(folder) = path.strip_suffix(marker).and_then(|path| path.strip_suffix('/')) else { continue };
            let Some(name) = folder.strip_prefix(above).map(|name| name.trim_start_matches('/')) else { continue };
            if let Some(addon) = self.folder(place.kind, name, folder, &path) {
                addons.push(addon);
            }
            if addons.has_more() {
                break;
            }
        }
        let lists = Lists::of_addons(addons);
        match self.known(above) {
            // What it has is known in part.
            Some(known) => {
                known.addons.extend(lists.addons);
                known.partly = known.partly.take().or(lists.partly);
            }
            None if lists.addons.is_empty() => {}
            None => self.add(&place.client, above, None, Ok(lists)),
        }
    }

    /// A folder; none where its marker is not there.
    fn folder(&mut self, kind: AddonKind, name: &str, folder: &str, marker: &str) -> Option<Addon> {
        let mut addon = Addon::folder(kind, name);
        let opened = open_beneath(self.home.as_fd(), marker, OFlags::RDONLY)
            .and_then(|_| open_beneath(self.home.as_fd(), folder, OFlags::RDONLY | OFlags::DIRECTORY));
        match opened {
            Ok(open) => {
                let (sha256, whole) = digest(&open, &mut self.left);
                (addon.sha256, addon.whole) = (Some(sha256), whole);
            }
            Err(Errno::NOENT | Errno::NOTDIR) => return None,
            Err(error) => addon.unread = Some(why(error)),
        }
        Some(addon)
    }

    fn known(&mut self, path: &str) -> Option<&mut FoundFile> {
        let path = self.above.join(path);
        self.found.iter_mut().find(|file| file.path == path)
    }

    /// What a template of this client's means, and tells where that may not be all of it.
    fn matching(&mut self, client: &str, below: &str, links: Links) -> Vec<String> {
        let (found, whole) = matching(&self.home, below, links);
        if let (Whole::No, Some((above, _))) = (whole, below.split_once("/*")) {
            let why = format!("below it are more than {MAX_ENTRIES} files and folders, and these were looked at");
            match self.known(above) {
                Some(file) => file.partly = file.partly.take().or(Some(why)),
                None => self.add(client, above, None, Ok(Lists { partly: Some(why), ..Lists::default() })),
            }
        }
        found
    }

    fn add(&mut self, client: &str, path: &str, sha256: Option<String>, lists: Result<Lists, String>) {
        let (lists, unread) = lists.map_or_else(|why| (Lists::default(), Some(why)), |lists| (lists, None));
        let Lists { servers, addons, partly } = lists;
        let file = FoundFile { client: client.to_owned(), path: self.above.join(path), sha256, servers, addons, unread, partly };
        match self.found.len() {
            MAX_FILES => {}
            LAST_FILE => self.found.push(FoundFile {
                path: self.above.to_owned(),
                partly: Some(format!("it has more than {LAST_FILE} files of clients, and these are known")),
                sha256: None,
                servers: Vec::new(),
                addons: Vec::new(),
                unread: None,
                ..file
            }),
            _ => self.found.push(file),
        }
    }

    /// Reads a file; none where there is none.
    fn read(&self, path: &str) -> Option<Bytes> {
        match open_beneath(self.home.as_fd(), path, OFlags::RDONLY) {
            Ok(file) => Some(self.bytes(file)),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(error) => Some(Err(why(error))),
        }
    }

    fn bytes(&self, file: OwnedFd) -> Bytes {
        let facts = fstat(&file).map_err(why)?;
        if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
            return Err("it is not a regular file".to_owned());
        }
        if facts.st_uid != self.owner && facts.st_uid != 0 {
            return Err("it belongs to somebody else".to_owned());
        }
        let mut bytes = Vec::new();
        File::from(file).take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() > MAX_FILE {
            return Err(Unread::TooLarge.to_string());
        }
        Ok(bytes)
    }
}

/// Why something was not opened, for people.
fn why(error: Errno) -> String {
    match error {
        Errno::XDEV => "it leads out of the home directory".to_owned(),
        error => io::Error::from(error).to_string(),
    }
}

/// What becomes of links among the folders that a `*` stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// They are left out.
    Left,
    /// They are named, and whoever opens one sees where it leads: people link their skills.
    Named,
}

fn open_beneath(folder: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat2(folder, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

/// Whether all of it was looked at, as deep as it is looked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whole {
    Yes,
    No,
}

/// The paths below the home that a template means: itself, or what is there of one with `*` or `**` for names of folders.
pub(crate) fn matching(home: &OwnedFd, template: &str, links: Links) -> (Vec<String>, Whole) {
    if !template.contains('*') {
        return (vec![template.to_owned()], Whole::Yes);
    }
    let parts: Vec<&str> = template.split('/').collect();
    let mut matches = Matches { home: home.as_fd(), links, left: MAX_ENTRIES, found: Vec::new() };
    matches.expand(String::new(), &parts, MAX_DEPTH);
    let Matches { mut found, left, .. } = matches;
    found.sort();
    (found, if left == 0 { Whole::No } else { Whole::Yes })
}

struct Matches<'a> {
    home: BorrowedFd<'a>,
    links: Links,
    left: usize,
    found: Vec<String>,
}

impl Matches<'_> {
    fn expand(&mut self, above: String, parts: &[&str], depth: usize) {
        let join = |name: &str| if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
        match parts {
            [] => self.found.push(above),
            [part, rest @ ..] if !part.contains('*') => self.expand(join(part), rest, depth),
            // `**` stands for no folder as well.
            [part, rest @ ..] => {
                if *part == "**" {
                    self.expand(above.clone(), rest, depth);
                }
                let Some(depth) = depth.checked_sub(1) else { return };
                for name in folders(self.home, &above, self.links, &mut self.left) {
                    self.expand(join(&name), if *part == "**" { parts } else { rest }, depth);
                }
            }
        }
    }
}

/// The folders in a folder, and links as is said; none is followed.
pub(crate) fn folders(home: BorrowedFd<'_>, path: &str, links: Links, left: &mut usize) -> Vec<String> {
    let Ok(folder) = open_beneath(home, if path.is_empty() { "." } else { path }, OFlags::RDONLY | OFlags::DIRECTORY) else {
        return Vec::new();
    };
    let mut buffer = [MaybeUninit::<u8>::uninit(); 8192];
    let mut entries = RawDir::new(&folder, &mut buffer);
    let mut names = Vec::new();
    while let Some(Ok(entry)) = entries.next() {
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        let Some(one_less) = left.checked_sub(1) else { break };
        *left = one_less;
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => match statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(facts) => FileType::from_raw_mode(facts.st_mode),
                Err(_) => continue,
            },
            known => known,
        };
        if kind == FileType::Directory || kind == FileType::Symlink && links == Links::Named {
            names.push(name.to_owned());
        }
    }
    names
}

/// Limits this process to what reading one home takes: no capability, 1 GiB of addresses beyond those that it has (an allocator reserves as
/// many at its start, and a stack that cannot grow ends the process), 10 s of a processor, 64 descriptors, and no file written; nobody but root traces it. Where memory is
/// short it is the first to go.
///
/// # Errors
/// `capset(2)`, `setrlimit(2)` or `prctl(2)` fails.
pub fn limit_this_process() -> io::Result<()> {
    // Without this it goes when the kernel chooses it.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    let addresses = addresses_in_use()? + (1 << 30);
    for (resource, limit) in
        [(Resource::As, addresses), (Resource::Cpu, 10), (Resource::Nofile, 64), (Resource::Fsize, 0), (Resource::Core, 0)]
    {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    // The owner's other processes do not look into it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// In bytes (proc_pid_statm(5)).
fn addresses_in_use() -> io::Result<u64> {
    let said = std::fs::read_to_string("/proc/self/statm")?;
    let pages = said.split(' ').next().and_then(|pages| pages.parse::<u64>().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink, process::Command, time::Instant};

    const LIST: &str = r#"{"mcpServers":{"a":{"command":"npx","args":["-y","p"]}}}"#;

    fn files(home: &Path) -> Vec<FoundFile> {
        let began = Instant::now();
        let found = scan(home, &ConfigCatalogue::shipped().unwrap(), &AddonCatalogue::shipped().unwrap()).unwrap();
        assert!(began.elapsed().as_secs() < 5, "nothing in a home makes it wait");
        found
    }

    #[test]
    fn files_of_clients_are_found_where_their_clients_keep_them() {
        let home = tempfile::tempdir().unwrap();
        for path in
            [".cursor/mcp.json", ".claude.json", ".claude/plugins/cache/a/b/1.0/.mcp.json", ".config/Code/User/globalStorage/x/y.json"]
        {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, LIST).unwrap();
        }
        let found = files(home.path());
        let mut paths: Vec<_> = found.iter().map(|file| file.path.strip_prefix(home.path()).unwrap().to_str().unwrap()).collect();
        paths.sort_unstable();
        assert_eq!(paths, [".claude.json", ".claude/plugins/cache/a/b/1.0/.mcp.json", ".cursor/mcp.json"]);
        assert!(found.iter().all(|file| file.servers.len() == 1 && file.unread.is_none() && file.sha256.is_some()), "{found:?}");
    }

    #[test]
    fn traps_in_a_home_are_told_and_cost_nothing() {
        let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret.json"), LIST).unwrap();
        let place = |path: &str| {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        symlink(outside.path().join("secret.json"), place(".cursor/mcp.json")).unwrap();
        symlink("/proc/self/environ", place(".factory/mcp.json")).unwrap();
        symlink("/dev/zero", place(".kimi/mcp.json")).unwrap();
        assert!(Command::new("mkfifo").arg(place(".qoder/mcp.json")).status().unwrap().success());
        File::create(place(".claude.json")).unwrap().set_len(100 << 20).unwrap();
        fs::create_dir_all(place(".gemini/settings.json")).unwrap();
        fs::write(place(".copilot/mcp-config.json"), "{\"mcpServers\": hunter2").unwrap();
        fs::write(place("real.json"), LIST).unwrap();
        symlink("../real.json", place(".lmstudio/mcp.json")).unwrap();
        symlink("..", place(".claude/plugins/cache/loop")).unwrap();
        let found = files(home.path());
        let unread = |path: &str| {
            let file = found.iter().find(|file| file.path == home.path().join(path)).unwrap_or_else(|| panic!("{path}: {found:?}"));
            assert!(file.servers.is_empty() || file.unread.is_none(), "{file:?}");
            file.unread.clone().unwrap_or_default()
        };
        for (path, why) in [
            (".cursor/mcp.json", "out of the home"),
            (".factory/mcp.json", "out of the home"),
            (".kimi/mcp.json", "out of the home"),
            (".qoder/mcp.json", "not a regular file"),
            (".claude.json", "larger than"),
            (".gemini/settings.json", "not a regular file"),
            (".copilot/mcp-config.json", "not valid JSON"),
            // A link within the home is how many people keep their files.
            (".lmstudio/mcp.json", ""),
        ] {
            assert!(unread(path).contains(why) && unread(path).is_empty() == why.is_empty(), "{path}: {}", unread(path));
        }
    }

    #[test]
    fn what_is_beyond_a_bound_is_told_and_files_of_other_kinds_take_no_place() {
        let home = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(".claude/skills/pdf/SKILL.md", "read");
        for junk in 0..5000 {
            write(&format!(".claude/skills/{junk}.txt"), "");
        }
        let found = files(home.path());
        let [skills] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((skills.addons.len(), &skills.partly), (1, &None));
        for more in 0..MAX_ADDONS {
            write(&format!(".codex/skills/{more:03}/SKILL.md"), "read");
        }
        write(".codex/skills/more/SKILL.md", "read");
        let servers: Vec<String> = (0..=MAX_SERVERS).map(|n| format!(r#""s{n}":{{"command":"x"}}"#)).collect();
        write(".cursor/mcp.json", &format!(r#"{{"mcpServers":{{{}}}}}"#, servers.join(",")));
        let found = files(home.path());
        let of = |found: &[FoundFile], path: &str| found.iter().find(|file| file.path == home.path().join(path)).cloned().unwrap();
        let (skills, listed) = (of(&found, ".codex/skills"), of(&found, ".cursor/mcp.json"));
        assert_eq!((skills.addons.len(), listed.servers.len()), (MAX_ADDONS, MAX_SERVERS));
        assert!(skills.partly.unwrap().contains("more than 256") && listed.partly.unwrap().contains("more than 256"));
        assert_eq!(of(&found, ".claude/skills").partly, None);
        for plugin in 0..MAX_FILES {
            write(&format!(".claude/plugins/cache/a/{plugin}/1/.mcp.json"), LIST);
        }
        let found = files(home.path());
        assert_eq!(found.len(), MAX_FILES);
        assert!(of(&found, "").partly.unwrap().contains("more than 255 files"));
    }

    #[test]
    fn hooks_skills_and_plugins_are_found_with_a_digest_of_what_they_hold() {
        let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |path: &str, text: &str| {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(".claude/settings.json", r#"{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"/srv/done.sh"}]}]}}"#);
        write(".cursor/hooks.json", r#"{"version":1,"hooks":{}}"#);
        write(".gemini/settings.json", r#"{"mcpServers":{"a":{"command":"x"}},"hooks":{"BeforeTool":[{"hooks":[{"command":"y"}]}]}}"#);
        write(".codex/config.toml", "notify = ['z']\n");
        write(".claude/skills/pdf/SKILL.md", "read");
        write(".claude/skills/pdf/run.py", "1");
        write(".claude/skills/no-skill/README.md", "");
        write("own/SKILL.md", "own");
        symlink("../../own", home.path().join(".claude/skills/own")).unwrap();
        symlink(outside.path(), home.path().join(".claude/skills/far")).unwrap();
        write(".claude/plugins/cache/shop/tool/1.2/.claude-plugin/plugin.json", "{}");
        write(".claude/plugins/cache/shop/tool/1.2/hooks/hooks.json", r#"{"hooks":{"Stop":[{"hooks":[{"command":"w"}]}]}}"#);
        let shown = |found: &[FoundFile]| -> Vec<(String, String, bool)> {
            let all = found.iter().flat_map(|file| file.addons.iter().map(move |addon| (file, addon)));
            let of = |(file, addon): (&FoundFile, &Addon)| {
                let path = file.path.strip_prefix(home.path()).unwrap().display().to_string();
                (path, format!("{} {}", addon.kind.as_str(), addon.name), addon.unread.is_none() && addon.whole)
            };
            let mut all: Vec<_> = all.map(of).collect();
            all.sort();
            all
        };
        let found = files(home.path());
        let expected = [
            (".claude/plugins/cache", "plugin shop/tool/1.2", true),
            (".claude/plugins/cache/shop/tool/1.2/hooks/hooks.json", "hook Stop", true),
            (".claude/settings.json", "hook Stop", true),
            (".claude/skills", "skill far", false),
            (".claude/skills", "skill own", true),
            (".claude/skills", "skill pdf", true),
            (".codex/config.toml", "hook notify", true),
            (".gemini/settings.json", "hook BeforeTool", true),
        ];
        assert_eq!(shown(&found), expected.map(|(path, what, whole)| (path.to_owned(), what.to_owned(), whole)));
        let of = |found: &[FoundFile], name: &str| {
            let mut all = found.iter().flat_map(|file| &file.addons);
            all.find(|addon| addon.name == name).unwrap().sha256.clone()
        };
        assert_eq!(of(&found, "far"), None);
        write(".claude/skills/pdf/run.py", "2");
        let after = files(home.path());
        assert_ne!(of(&after, "pdf"), of(&found, "pdf"));
        assert_eq!(of(&after, "own"), of(&found, "own"));
    }
}
