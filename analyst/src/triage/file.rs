//! The file of an exception: its path, writing and removing it, and whether it was edited since.
//!
//! Root writes here, in a folder that the serving process's user may write as well: links are not followed there.

use crate::stored::{self, Event};
use gnomon_cli::{Complaint, options::StateFlag};
use gnomon_config::{self as config, Config};
use rustix::{
    fs::{Access, AtFlags, Mode, OFlags},
    io::Errno,
};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

/// How the last line of a file begins that `gnomon triage` wrote.
const SEAL: &str = "# Taken back by `gnomon triage … confirmed` unless it is changed by hand: ";
/// The longest file that is looked at, bytes.
const MAX_FILE: u64 = 1 << 20;

/// The file of the exception that an event gives cause for.
pub(super) struct ExceptionFile {
    pub(super) path: PathBuf,
    /// True if it is in the state folder.
    in_state: bool,
}

impl ExceptionFile {
    /// None if there is no folder for exceptions.
    pub(super) fn of(event: &Event, state: &StateFlag, config: &Config) -> Option<Self> {
        let folder = config.rules.triage_dir()?;
        let id = stored::text(event, "event.id").unwrap_or_default();
        let end = id.char_indices().rev().nth(11).and_then(|(at, _)| id.get(at..)).unwrap_or(&id);
        let in_state = state.dir().is_ok_and(|state| folder == config::triage_in(&state));
        Some(Self { path: folder.join(format!("mf_triage_{end}.yml")), in_state })
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    fn open_folder(&self) -> Result<OwnedFd, Errno> {
        let follow = if self.in_state { OFlags::NOFOLLOW } else { OFlags::empty() };
        rustix::fs::open(self.folder(), OFlags::DIRECTORY | OFlags::CLOEXEC | follow, Mode::empty())
    }

    /// Its text; none if there is no file. Of an unreadable file the text is empty.
    pub(super) fn read(&self) -> Option<String> {
        fs::symlink_metadata(&self.path).ok()?;
        let open = || {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(self.open_folder()?, self.path.file_name().unwrap_or_default(), flags, Mode::empty())?;
            let mut text = String::new();
            fs::File::from(file).take(MAX_FILE).read_to_string(&mut text)?;
            Ok::<_, io::Error>(text)
        };
        Some(open().unwrap_or_default())
    }

    /// Looks before a verdict is kept whose exception could not be written.
    ///
    /// # Errors
    /// The folder is not for this user to write.
    pub(super) fn can_be_written(&self) -> Result<(), Complaint> {
        let there = self.folder().ancestors().find(|folder| folder.as_os_str().is_empty() || folder.exists()).unwrap_or(Path::new("."));
        let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
        rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| self.failed("write", &error.into()))
    }

    fn failed(&self, what: &str, error: &io::Error) -> Complaint {
        Complaint::own(format!("cannot {what} {}: {error}", self.path.display()))
    }

    /// Whole or not at all, and for the serving process to read, which may be another user. Where that user may write as well
    /// the folder must be one and no link to another, and what is written is a new file.
    pub(super) fn write(&self, text: &str) -> Result<(), Complaint> {
        let folder = self.folder();
        let put = || {
            if self.in_state {
                match rustix::fs::mkdir(folder, Mode::from_raw_mode(0o755)) {
                    Err(Errno::EXIST) | Ok(()) => {}
                    Err(error) => return Err(error.into()),
                }
            } else if !folder.exists() {
                fs::create_dir_all(folder)?;
            }
            let folder = self.open_folder()?;
            let name = self.path.file_name().unwrap_or_default();
            let draft = format!(".{}.{}", name.to_string_lossy(), std::process::id());
            let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = fs::File::from(rustix::fs::openat(&folder, &draft, new, Mode::from_raw_mode(0o644))?);
            let mut put = || {
                // Whatever the caller's umask.
                file.set_permissions(fs::Permissions::from_mode(0o644))?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                Ok(rustix::fs::renameat(&folder, &draft, &folder, name)?)
            };
            put().inspect_err(|_: &io::Error| {
                let _ = rustix::fs::unlinkat(&folder, &draft, AtFlags::empty());
            })
        };
        put().map_err(|error: io::Error| self.failed("write", &error))
    }

    /// Takes it away.
    pub(super) fn remove(&self) -> Result<(), Complaint> {
        let remove = || rustix::fs::unlinkat(self.open_folder()?, self.path.file_name().unwrap_or_default(), AtFlags::empty());
        match remove() {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", &error.into())),
        }
    }
}

fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..16])
}

/// The text of an exception, with a last line that tells whether it was changed.
pub(super) fn sealed(text: String) -> String {
    let digest = digest(&text);
    format!("{text}{SEAL}{digest}\n")
}

/// True if it is as `gnomon triage` wrote it. A user who may write there can forge it: they could remove it as well.
pub(super) fn is_as_written(text: &str) -> bool {
    text.rsplit_once(SEAL).is_some_and(|(text, seal)| seal.trim_end() == digest(text))
}

/// True if two texts make the same exception, with the same expiry and reason: each has an id and a day of its own.
pub(super) fn same(one: &str, other: &str) -> bool {
    let lines = |text: &str| -> Vec<String> {
        let own = |line: &&str| !["id: ", "date: ", SEAL].iter().any(|begin| line.starts_with(begin));
        text.lines().filter(own).map(str::to_owned).collect()
    };
    is_as_written(one) && lines(one) == lines(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn write(path: &Path, text: &str, in_state: bool) -> Result<(), Complaint> {
        ExceptionFile { path: path.to_owned(), in_state }.write(text)
    }

    #[test]
    fn what_root_writes_in_the_state_folder_goes_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let folder = dir.path().join("triage.d");
        symlink(&elsewhere, &folder).unwrap();
        let path = folder.join("a.yml");
        assert!(write(&path, "text", true).is_err());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        // A folder that an administrator names may be a link.
        write(&path, "text", false).unwrap();
        assert_eq!(fs::read_to_string(elsewhere.join("a.yml")).unwrap(), "text");

        fs::remove_file(&folder).unwrap();
        let draft = folder.join(format!(".a.yml.{}", std::process::id()));
        write(&path, "first", true).unwrap();
        let target = dir.path().join("target");
        fs::write(&target, "theirs").unwrap();
        symlink(&target, &draft).unwrap();
        assert!(write(&path, "second", true).is_err());
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), fs::read_to_string(&path).unwrap().as_str()), ("theirs", "first"));
        fs::remove_file(&draft).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&target, &path).unwrap();
        write(&path, "third", true).unwrap();
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), fs::read_to_string(&path).unwrap().as_str()), ("theirs", "third"));
    }
}
