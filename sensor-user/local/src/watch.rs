//! Watching what clients load below a home directory (inotify(7)), so that a change is read within seconds and not at the next look.
//!
//! The owner's process makes the watch, with the owner's rights and at the expense of the owner's limits, and hands it to whoever started
//! it, who learns from it that something changed and nothing else.

use crate::scan::{Links, Whole, folders, matching, open_home};
use gnomon_packs::{AddonCatalogue, ConfigCatalogue, ConfigScope, Os};
use rustix::{
    fs::{
        FileType, fstat,
        inotify::{CreateFlags, WatchFlags, add_watch, init},
    },
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

/// The most folders of a home that are watched; what changes in others is found by the next look.
const MAX_WATCHED: usize = 1024;
/// The most entries of folders that are looked at for more of them.
const MAX_ENTRIES: usize = 16_384;
/// How deep the folders of skills and plugins are watched.
const MAX_DEPTH: usize = 8;

/// What happens in a folder that has files of clients.
const HOLDS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB);
/// What happens in a folder on the way to one.
const LEADS: WatchFlags = WatchFlags::CREATE.union(WatchFlags::MOVED_TO);

/// What is sent along with a watch of all folders.
pub const WHOLE: u8 = b'w';
/// What is sent along with a watch of which some are missing.
const IN_PART: u8 = b'p';

/// A watch that is begun: what changes from now on is noted in it.
pub struct Watched {
    watch: OwnedFd,
    /// All folders are in it: neither were there too many, nor had the owner too few watches left.
    is_whole: bool,
}

impl Watched {
    /// Watches the folders below this home in which what clients load stands, or would. None where whoever started this process wants none.
    ///
    /// # Errors
    /// The home cannot be opened, or as many watches as the owner may have are there.
    pub fn asked_for(home: &Path, servers: &ConfigCatalogue, addons: &AddonCatalogue) -> io::Result<Option<Self>> {
        if !is_socket(io::stdin().as_fd()) {
            return Ok(None);
        }
        Self::begin(home, servers, addons).map(Some)
    }

    fn begin(home: &Path, servers: &ConfigCatalogue, addons: &AddonCatalogue) -> io::Result<Self> {
        let mut places = Places { home: &open_home(home)?, found: BTreeMap::new(), left: MAX_ENTRIES };
        for row in servers.on(Os::Linux).filter(|row| matches!(row.scope, ConfigScope::User | ConfigScope::PluginCache)) {
            places.file(&row.path);
        }
        for place in addons.on(Os::Linux) {
            for folder in places.file(&place.path) {
                if place.format.is_none() {
                    places.all_below(folder, MAX_DEPTH);
                }
            }
        }
        let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mut is_whole = places.found.len() <= MAX_WATCHED && places.left > 0;
        for (place, what) in places.found.into_iter().take(MAX_WATCHED) {
            // What is not there or may not be looked at is found by the next look.
            if let Err(Errno::NOSPC | Errno::NOMEM) =
                add_watch(&watch, home.join(place), what | WatchFlags::ONLYDIR | WatchFlags::EXCL_UNLINK)
            {
                is_whole = false;
            }
        }
        Ok(Self { watch, is_whole })
    }

    /// Hands it to whoever started this process, over the socket that is its standard input.
    ///
    /// # Errors
    /// `sendmsg(2)` fails.
    pub fn hand_over(self) -> io::Result<()> {
        let descriptors = [self.watch.as_fd()];
        let says = if self.is_whole { WHOLE } else { IN_PART };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        sendmsg(io::stdin(), &[IoSlice::new(&[says])], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

fn is_socket(descriptor: BorrowedFd<'_>) -> bool {
    fstat(descriptor).is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode) == FileType::Socket)
}

/// Folders to be watched, below a home.
struct Places<'a> {
    home: &'a OwnedFd,
    found: BTreeMap<String, WatchFlags>,
    left: usize,
}

impl Places<'_> {
    /// Those for a file of the catalogues: where it stands, which is returned, and all above.
    fn file(&mut self, template: &str) -> Vec<String> {
        let Some(below) = template.strip_prefix("~/") else { return Vec::new() };
        self.add(String::new(), LEADS);
        for (end, _) in below.match_indices('/') {
            for folder in self.matching(below.get(..end).unwrap_or_default()) {
                self.add(folder, LEADS);
            }
        }
        let holders = match below.rsplit_once('/') {
            Some((folder, _)) => self.matching(folder),
            None => vec![String::new()],
        };
        for folder in &holders {
            self.add(folder.clone(), HOLDS);
        }
        holders
    }

    fn matching(&mut self, template: &str) -> Vec<String> {
        let (found, whole) = matching(self.home, template, Links::Named);
        if whole == Whole::No {
            self.left = 0;
        }
        found
    }

    fn all_below(&mut self, folder: String, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return };
        for name in folders(self.home.as_fd(), &folder, Links::Left, &mut self.left) {
            let within = format!("{folder}/{name}");
            // As its digest leaves it out.
            if name != ".git" {
                self.add(within.clone(), HOLDS);
                self.all_below(within, depth);
            }
        }
    }

    fn add(&mut self, folder: String, what: WatchFlags) {
        let known = self.found.entry(folder).or_insert(what);
        *known |= what;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    fn has_changed(watch: &Watched) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&watch.watch, PollFlags::IN)], Some(&now)).unwrap() > 0
    }

    #[test]
    fn whatever_changes_of_what_clients_load_is_noticed_and_reading_it_is_not() {
        let (servers, addons) = (ConfigCatalogue::shipped().unwrap(), AddonCatalogue::shipped().unwrap());
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        fs::create_dir_all(at(".cursor")).unwrap();
        fs::create_dir_all(at(".claude/skills/pdf/scripts/.git")).unwrap();
        fs::write(at(".claude/skills/pdf/SKILL.md"), "read it").unwrap();
        fs::write(at(".claude/skills/pdf/scripts/run.sh"), "true").unwrap();
        fs::write(at(".claude.json"), "{}").unwrap();
        symlink("/proc/self", at(".claude/skills/loop")).unwrap();
        type Act<'a> = &'a dyn Fn();
        let acts: [(&str, bool, Act<'_>); 10] = [
            ("a list comes", true, &|| fs::write(at(".cursor/mcp.json"), "{}").unwrap()),
            ("a list is replaced, as most write it", true, &|| {
                fs::write(at("draft"), "{}").unwrap();
                fs::rename(at("draft"), at(".claude.json")).unwrap();
            }),
            ("a list goes", true, &|| fs::remove_file(at(".cursor/mcp.json")).unwrap()),
            ("the folder of a client comes", true, &|| fs::create_dir_all(at(".codex")).unwrap()),
            ("a skill is rewritten", true, &|| fs::write(at(".claude/skills/pdf/SKILL.md"), "do it").unwrap()),
            ("what is in one is rewritten", true, &|| fs::write(at(".claude/skills/pdf/scripts/run.sh"), "false").unwrap()),
            ("it may be run", true, &|| {
                fs::set_permissions(at(".claude/skills/pdf/scripts/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
            }),
            ("a skill comes", true, &|| fs::create_dir_all(at(".claude/skills/more")).unwrap()),
            ("it is versioned", false, &|| fs::write(at(".claude/skills/pdf/scripts/.git/index"), "1").unwrap()),
            ("all is read", false, &|| {
                crate::scan(home.path(), &servers, &addons).unwrap();
                fs::read(at(".claude/skills/pdf/SKILL.md")).unwrap();
            }),
        ];
        for (what, noticed, act) in acts {
            let watch = Watched::begin(home.path(), &servers, &addons).unwrap();
            assert!(!has_changed(&watch), "before: {what}");
            act();
            assert_eq!(has_changed(&watch), noticed, "{what}");
        }
    }
}
