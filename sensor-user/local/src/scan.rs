//! Reading the configuration files of clients below a home directory.
//!
//! Whoever owns a home may put anything into it: links that lead elsewhere, pipes, devices, files of others, other files between a look and the
//! next. So files are opened beneath the home (`openat2(2)` with `RESOLVE_BENEATH`), without waiting, and only regular ones of the home's
//! owner or of root are read, from what was opened. A process that does this for somebody else should run as them: see [`limit_this_process`].

use crate::listed::{self, ListedServer, MAX_FILE, MAX_SERVERS, Unread};
use gnomon_packs::{ConfigCatalogue, ConfigFile, ConfigScope, Os};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, fstat, openat, openat2, statat},
    io::Errno,
    process::{Resource, Rlimit, setrlimit},
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
const MAX_ENTRIES: usize = 4096;
/// How deep `**` goes.
const MAX_DEPTH: usize = 8;
/// The most files of one home.
pub const MAX_FILES: usize = 256;

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
    /// Why they are not known.
    pub unread: Option<String>,
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
        self.unread = self.unread.as_deref().map(|why| cut(why, MAX_TEXT));
        self.servers.truncate(MAX_SERVERS);
        self.servers.iter_mut().for_each(ListedServer::within_bounds);
    }
}

/// The configuration files of all known clients below this home directory.
///
/// # Errors
/// The home cannot be opened. What is wrong with a file is told in its place.
pub fn scan(home: &Path, catalogue: &ConfigCatalogue) -> io::Result<Vec<FoundFile>> {
    let folder = openat(CWD, home, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let owner = fstat(&folder)?.st_uid;
    let mut found: Vec<FoundFile> = Vec::new();
    for row in catalogue.on(Os::Linux).filter(|row| matches!(row.scope, ConfigScope::User | ConfigScope::PluginCache)) {
        let Some(below) = row.path.strip_prefix("~/") else { continue };
        for path in matching(&folder, below) {
            if found.len() == MAX_FILES {
                return Ok(found);
            }
            if let Some(file) = read(&folder, owner, home, &path, row)
                && !found.iter().any(|known| known.path == file.path)
            {
                found.push(file);
            }
        }
    }
    Ok(found)
}

/// Reads a file; none where there is none.
fn read(home: &OwnedFd, owner: u32, above: &Path, path: &str, row: &ConfigFile) -> Option<FoundFile> {
    let told = |sha256, result: Result<Vec<ListedServer>, String>| {
        let (servers, unread) = result.map_or_else(|error| (Vec::new(), Some(error)), |servers| (servers, None));
        Some(FoundFile { client: row.client.to_string(), path: above.join(path), sha256, servers, unread })
    };
    let file = match open_beneath(home.as_fd(), path, OFlags::RDONLY) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return None,
        Err(Errno::XDEV) => return told(None, Err("it leads out of the home directory".to_owned())),
        Err(error) => return told(None, Err(io::Error::from(error).to_string())),
    };
    let facts = match fstat(&file) {
        Ok(facts) => facts,
        Err(error) => return told(None, Err(io::Error::from(error).to_string())),
    };
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
        return told(None, Err("it is not a regular file".to_owned()));
    }
    if facts.st_uid != owner && facts.st_uid != 0 {
        return told(None, Err("it belongs to somebody else".to_owned()));
    }
    let mut bytes = Vec::new();
    if let Err(error) = File::from(file).take(MAX_FILE as u64 + 1).read_to_end(&mut bytes) {
        return told(None, Err(error.to_string()));
    }
    if bytes.len() > MAX_FILE {
        return told(None, Err(Unread::TooLarge.to_string()));
    }
    let sha256 = hex::encode(Sha256::digest(&bytes));
    told(Some(sha256), listed::listed(row.format, &row.servers_key, &bytes).map_err(|unread| unread.to_string()))
}

fn open_beneath(folder: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat2(folder, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

/// The paths below the home that a template means: itself, or what is there of one with `*` or `**` for names of folders.
fn matching(home: &OwnedFd, template: &str) -> Vec<String> {
    if !template.contains('*') {
        return vec![template.to_owned()];
    }
    let parts: Vec<&str> = template.split('/').collect();
    let (mut found, mut left) = (Vec::new(), MAX_ENTRIES);
    expand(home.as_fd(), String::new(), &parts, MAX_DEPTH, &mut left, &mut found);
    found.sort();
    found
}

fn expand(home: BorrowedFd<'_>, above: String, parts: &[&str], depth: usize, left: &mut usize, found: &mut Vec<String>) {
    let join = |name: &str| if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
    match parts {
        [] => found.push(above),
        [part, rest @ ..] if !part.contains('*') => expand(home, join(part), rest, depth, left, found),
        // `**` stands for no folder as well.
        [part, rest @ ..] => {
            if *part == "**" {
                expand(home, above.clone(), rest, depth, left, found);
            }
            let Some(depth) = depth.checked_sub(1) else { return };
            for name in folders(home, &above, left) {
                expand(home, join(&name), if *part == "**" { parts } else { rest }, depth, left, found);
            }
        }
    }
}

/// The folders in a folder; links are not followed.
fn folders(home: BorrowedFd<'_>, path: &str, left: &mut usize) -> Vec<String> {
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
        let is_folder = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode) == FileType::Directory),
            known => known == FileType::Directory,
        };
        if is_folder {
            names.push(name.to_owned());
        }
    }
    names
}

/// Limits this process to what reading one home takes: no capability, 1 GiB of addresses, 10 s of a processor, 64 descriptors, and no file
/// written. Where memory is short it is the first to go.
///
/// # Errors
/// `capset(2)` or `setrlimit(2)` fails.
pub fn limit_this_process() -> io::Result<()> {
    // Without this it goes when the kernel chooses it.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    for (resource, limit) in
        [(Resource::As, 1 << 30), (Resource::Cpu, 10), (Resource::Nofile, 64), (Resource::Fsize, 0), (Resource::Core, 0)]
    {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink, process::Command, time::Instant};

    const LIST: &str = r#"{"mcpServers":{"a":{"command":"npx","args":["-y","p"]}}}"#;

    fn files(home: &Path) -> Vec<FoundFile> {
        let began = Instant::now();
        let found = scan(home, &ConfigCatalogue::shipped().unwrap()).unwrap();
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
}
