//! A digest of a folder with all that is in it, within bounds: another text, name, right to be run or target of a link is another digest.

use rustix::{
    fs::{FileType, Mode, OFlags, RawDir, Stat, fstat, openat, readlinkat},
    io::Errno,
};
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsString,
    fs::File,
    io::Read as _,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
};

/// How deep folders are followed.
const MAX_DEPTH: usize = 16;
/// The largest file that is read, in bytes.
const MAX_TEXT: u64 = 16 << 20;
/// What versions a folder is no part of what is loaded, and changes by itself.
const NOT_LOADED: &[u8] = b".git";

/// How much is still read of a home.
pub(crate) struct Budget {
    /// Files and folders.
    entries: usize,
    /// Bytes.
    bytes: u64,
}

impl Budget {
    /// What all folders of a home may take: 16,384 entries and 128 MiB.
    pub(crate) const fn of_a_home() -> Self {
        Self { entries: 16_384, bytes: 128 << 20 }
    }
}

/// The digest of an open folder, hexadecimal, and whether all of it was read. Of what is beyond the budget names and sizes count, of what is
/// beyond its entries nothing.
pub(crate) fn digest(folder: &OwnedFd, left: &mut Budget) -> (String, bool) {
    let mut digesting =
        Digesting { sum: Sha256::new(), left, whole: true, text: vec![0; 16 << 10], names: vec![MaybeUninit::uninit(); 8192] };
    digesting.folder(folder.as_fd(), MAX_DEPTH);
    let Digesting { sum, whole, .. } = digesting;
    (hex::encode(sum.finalize()), whole)
}

struct Digesting<'a> {
    sum: Sha256,
    left: &'a mut Budget,
    whole: bool,
    /// What was read last of a file, and of a folder: one for all depths, so that a deep folder takes little of the stack.
    text: Vec<u8>,
    names: Vec<MaybeUninit<u8>>,
}

impl Digesting<'_> {
    fn folder(&mut self, folder: BorrowedFd<'_>, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else {
            self.whole = false;
            return;
        };
        let mut names = self.names(folder);
        names.sort_unstable();
        for name in names {
            let opened = openat(
                folder,
                name.as_os_str(),
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            let facts = opened.as_ref().map_err(|error| *error).and_then(fstat);
            match (opened, facts) {
                (Ok(open), Ok(facts)) => self.entry(name.as_bytes(), &open, &facts, depth),
                // A link, as it is not followed.
                (Err(Errno::LOOP), _) => {
                    let target = readlinkat(folder, name.as_os_str(), Vec::new());
                    self.add(b'l', name.as_bytes(), target.as_ref().map_or(&b""[..], |target| target.as_bytes()));
                }
                (Ok(_), Err(_)) | (Err(_), _) => {
                    self.whole = false;
                    self.add(b'?', name.as_bytes(), b"");
                }
            }
        }
        // So that what follows is not taken for a part of it.
        self.sum.update([b'.']);
    }

    fn entry(&mut self, name: &[u8], open: &OwnedFd, facts: &Stat, depth: usize) {
        match FileType::from_raw_mode(facts.st_mode) {
            FileType::Directory => {
                self.add(b'd', name, b"");
                self.folder(open.as_fd(), depth);
            }
            FileType::RegularFile => {
                let kind = if facts.st_mode & 0o111 == 0 { b'f' } else { b'x' };
                match self.text(open, facts.st_size) {
                    Some(sum) => self.add(kind, name, &sum),
                    None => {
                        self.whole = false;
                        self.add(kind, name, &facts.st_size.to_le_bytes());
                    }
                }
            }
            // Pipes, sockets and devices have no text.
            _ => self.add(b'o', name, b""),
        }
    }

    /// The digest of a file; none where it is more than may still be read, so that a large one costs the others nothing.
    fn text(&mut self, open: &OwnedFd, size: i64) -> Option<[u8; 32]> {
        if u64::try_from(size).is_ok_and(|size| size > self.left.bytes.min(MAX_TEXT)) {
            return None;
        }
        let mut file = File::from(open.try_clone().ok()?);
        let mut sum = Sha256::new();
        loop {
            let read = file.read(&mut self.text).ok()?;
            self.left.bytes = self.left.bytes.checked_sub(read as u64)?;
            match self.text.get(..read)? {
                [] => return Some(sum.finalize().into()),
                some => sum.update(some),
            }
        }
    }

    fn names(&mut self, folder: BorrowedFd<'_>) -> Vec<OsString> {
        let mut entries = RawDir::new(folder, &mut self.names);
        let mut names = Vec::new();
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || name == NOT_LOADED {
                continue;
            }
            let Some(less) = self.left.entries.checked_sub(1) else {
                self.whole = false;
                break;
            };
            self.left.entries = less;
            names.push(std::ffi::OsStr::from_bytes(name).to_owned());
        }
        names
    }

    fn add(&mut self, kind: u8, name: &[u8], content: &[u8]) {
        self.sum.update([kind]);
        for part in [name, content] {
            self.sum.update((part.len() as u64).to_le_bytes());
            self.sum.update(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
        path::Path,
    };

    fn of(folder: &Path) -> (String, bool) {
        within(folder, &mut Budget::of_a_home())
    }

    fn within(folder: &Path, budget: &mut Budget) -> (String, bool) {
        let open = openat(CWD, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        digest(&open, budget)
    }

    fn filled() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("scripts/.git")).unwrap();
        fs::write(dir.path().join("SKILL.md"), "do it").unwrap();
        fs::write(dir.path().join("scripts/run.sh"), "true").unwrap();
        fs::write(dir.path().join("scripts/.git/index"), "1").unwrap();
        symlink("run.sh", dir.path().join("scripts/link")).unwrap();
        dir
    }

    #[test]
    fn each_change_of_a_folder_is_another_digest_and_what_is_no_change_is_none() {
        let first = of(filled().path());
        assert!(first.1);
        let again = filled();
        fs::write(again.path().join("scripts/.git/index"), "2").unwrap();
        assert_eq!(of(again.path()), first, "where it lies, when it was written and how it is versioned do not count");
        type Change = fn(&Path);
        let changes: [(&str, Change); 7] = [
            ("text", |dir| fs::write(dir.join("SKILL.md"), "do what?").unwrap()),
            ("text within", |dir| fs::write(dir.join("scripts/run.sh"), "false").unwrap()),
            ("name", |dir| fs::rename(dir.join("scripts/run.sh"), dir.join("scripts/ran.sh")).unwrap()),
            ("place", |dir| fs::rename(dir.join("scripts/run.sh"), dir.join("run.sh")).unwrap()),
            ("right", |dir| fs::set_permissions(dir.join("scripts/run.sh"), fs::Permissions::from_mode(0o755)).unwrap()),
            ("link", |dir| {
                fs::remove_file(dir.join("scripts/link")).unwrap();
                symlink("/bin/sh", dir.join("scripts/link")).unwrap();
            }),
            ("more", |dir| fs::write(dir.join("scripts/empty"), "").unwrap()),
        ];
        for (what, change) in changes {
            let dir = filled();
            change(dir.path());
            assert_ne!(of(dir.path()).0, first.0, "{what}");
        }
    }

    #[test]
    fn what_is_too_much_or_a_trap_is_said_to_be_no_whole_and_ends() {
        let dir = filled();
        File::create(dir.path().join("huge")).unwrap().set_len(10 << 30).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap().success());
        symlink("..", dir.path().join("loop")).unwrap();
        let first = of(dir.path());
        assert!(!first.1);
        File::create(dir.path().join("huge")).unwrap().set_len(11 << 30).unwrap();
        assert_ne!(of(dir.path()), first, "its size counts");
        let mut deep = dir.path().to_owned();
        (0..40).for_each(|_| deep.push("d"));
        fs::create_dir_all(&deep).unwrap();
        assert!(!of(dir.path()).1);
        let few = filled();
        assert!(!within(few.path(), &mut Budget { entries: 2, bytes: 1 << 20 }).1);
    }
}
