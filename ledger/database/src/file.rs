//! Files of databases, made and looked at without a descriptor that is closed.

use gnomon_files::sqlite::log_of;
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
};
use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind},
    mem,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

/// The most logs that are moved aside beside one database.
const MAX_ASIDE: u32 = 64;

/// The owner of a file's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// This process's: a link is followed.
    Own,
    /// Perhaps another user's, in which root writes: no link is followed, as that user may have put it there, and a file that root makes is given to
    /// the folder's owner, as is what SQLite puts beside it.
    OfAnother,
}

/// Makes a file with mode 0640 where there is none, which SQLite gives its log and shared memory as well; one that is there must be a regular
/// file that this process may read and write.
///
/// # Errors
/// The system's.
pub fn create(path: &Path, folder: Folder) -> io::Result<()> {
    match look(path, folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => make(path, folder),
        looked => looked,
    }
}

/// Moves a log with something in it aside, where the database is missing or empty: SQLite would remove it as it opens one. Its new name.
///
/// # Errors
/// The system's: it cannot be looked at, or renamed.
pub(crate) fn set_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    let length = |path: &Path| match fs::metadata(path) {
        Ok(there) => Ok(there.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    };
    let log = log_of(path);
    if length(path)? > 0 || length(&log)? == 0 {
        return Ok(None);
    }
    let mut free = (1..=MAX_ASIDE).map(|number| {
        let mut name = log.as_os_str().to_owned();
        name.push(format!("-left-{number}"));
        PathBuf::from(name)
    });
    let aside = free.find(|aside| !aside.exists()).ok_or(ErrorKind::AlreadyExists)?;
    fs::rename(&log, &aside)?;
    Ok(Some(aside))
}

fn make(path: &Path, folder: Folder) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o640);
    let file = match folder {
        Folder::Own => options.create(true).open(path)?,
        // What another put there meanwhile is not given away.
        Folder::OfAnother => match options.create_new(true).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return look(path, folder),
            made => made?,
        },
    };
    if folder == Folder::OfAnother {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = fs::metadata(folder)?;
        // Without root it cannot be given away, and then need not be.
        let _ = fchown(&file, Some(folder.uid()), Some(folder.gid()));
    }
    // It stays open: another task of this process may have locked it meanwhile. Once in the life of a database.
    mem::forget(file);
    Ok(())
}

fn look(path: &Path, folder: Folder) -> io::Result<()> {
    regular(path, folder)?;
    may(path, Access::READ_OK | Access::WRITE_OK)
}

/// Whether this process may read a file, and it is a regular one.
///
/// # Errors
/// The system's: it is missing, or it may not.
pub fn may_read(path: &Path, folder: Folder) -> io::Result<()> {
    regular(path, folder)?;
    may(path, Access::READ_OK)
}

/// Whether this process has a right.
pub(crate) fn may(path: &Path, access: Access) -> io::Result<()> {
    match accessat(CWD, path, access, AtFlags::EACCESS) {
        // Kernels before 5.8 look at the real user alone, and so do some sandboxes.
        Err(Errno::NOSYS | Errno::PERM) => Ok(accessat(CWD, path, access, AtFlags::empty())?),
        asked => Ok(asked?),
    }
}

fn regular(path: &Path, folder: Folder) -> io::Result<()> {
    let there = match folder {
        Folder::Own => fs::metadata(path)?,
        Folder::OfAnother => fs::symlink_metadata(path)?,
    };
    if there.is_file() { Ok(()) } else { Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_file_is_made_once_for_its_owner_and_group_and_links_are_followed_in_ones_own_folder_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in [Folder::Own, Folder::OfAnother] {
            let path = at(&format!("{folder:?}"));
            create(&path, folder).unwrap();
            fs::write(&path, "kept").unwrap();
            create(&path, folder).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
            assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        }
        symlink(at("elsewhere"), at("link")).unwrap();
        assert!(create(&at("link"), Folder::OfAnother).is_err() && !at("elsewhere").exists());
        create(&at("link"), Folder::Own).unwrap();
        assert!(at("elsewhere").exists());
        assert!(create(dir.path(), Folder::Own).is_err() && create(&at("none/a"), Folder::Own).is_err());
        assert_eq!(may_read(&at("none"), Folder::Own).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
