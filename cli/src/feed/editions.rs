//! The editions of a feed that a state folder has: which is in force, which was before it, and which were taken back.

use super::{Feed, LONGEST_ARCHIVE, LONGEST_SIGNATURE, Version};
use crate::complaint::Complaint;
use gnomon_config::FeedKey;
use std::{
    fmt, fs,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// The file that says which edition is in force, and which was before it.
const CURRENT: &str = "current";
/// The file of editions that were taken back.
const REFUSED: &str = "refused";
/// Most editions that are remembered as taken back, the newest.
const MOST_REFUSED: usize = 16;
/// Most bytes of that file that are read.
const LONGEST_REFUSED: u64 = 4 << 10;

/// The file whose content says which edition is in force.
pub fn current_in(folder: &Path) -> PathBuf {
    folder.join(CURRENT)
}

/// The editions that a state folder has: the one in force, and the one before it.
#[derive(Debug)]
pub struct Editions {
    folder: PathBuf,
}

impl Editions {
    /// Those of this folder, which need not be there yet.
    ///
    /// # Errors
    /// A link stands in its place: root writes there, and the serving process may have made it.
    pub fn of(folder: &Path) -> Result<Self, Complaint> {
        if folder.is_symlink() {
            return Err(Complaint::input(format!("{} is a link, and feeds are not read or written through one", folder.display()))
                .next("remove it, and run gnomon rules update"));
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The edition in force, and the one before it, by version.
    ///
    /// # Errors
    /// What says so cannot be read.
    pub fn named(&self) -> Result<(Option<Version>, Option<Version>), Complaint> {
        let path = current_in(&self.folder);
        let text = match gnomon_files::read(&path, 256) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, None)),
            Err(error) => return Err(unusable(&path, &error)),
        };
        let mut lines = text.lines().map(|line| line.parse::<Version>().map_err(|cause| unusable(&path, &cause)));
        Ok((lines.next().transpose()?, lines.next().transpose()?))
    }

    /// The edition in force; none where none is.
    ///
    /// # Errors
    /// It is not there, or its signature does not hold any more.
    pub fn current(&self, key: &FeedKey) -> Result<Option<Feed>, Complaint> {
        self.named()?.0.map(|version| self.open(&version, key)).transpose()
    }

    fn open(&self, version: &Version, key: &FeedKey) -> Result<Feed, Complaint> {
        let [archive, signature] = self.files(version);
        let read = |path: &Path, longest| gnomon_files::read(path, longest).map_err(|error| unusable(path, &error));
        let bytes = read(&archive, LONGEST_ARCHIVE)?;
        let signature = String::from_utf8_lossy(&read(&signature, LONGEST_SIGNATURE)?).into_owned();
        let feed = Feed::open(&bytes, &signature, key)
            .map_err(|error| Complaint::input(format!("{}: {error}", archive.display())).next(TAKE_OUT))?;
        if feed.version != *version {
            return Err(unusable(&archive, &format_args!("it is version {}", feed.version)));
        }
        Ok(feed)
    }

    fn files(&self, version: &Version) -> [PathBuf; 2] {
        [format!("{version}.tar.gz"), format!("{version}.tar.gz.minisig")].map(|name| self.folder.join(name))
    }

    /// Puts an edition into force, whose signature was checked. The one that was in force is kept, older ones are removed. Of those that were
    /// taken back only newer ones stay refused.
    ///
    /// # Errors
    /// It cannot be written. The edition from before is in force then.
    pub fn install(&self, feed: &Feed, archive: &[u8], signature: &str) -> Result<(), Complaint> {
        let before = self.named().unwrap_or_default().0.filter(|version| *version != feed.version);
        let made = fs::create_dir_all(&self.folder);
        made.and_then(|()| fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755)))
            .map_err(|error| unusable(&self.folder, &error))?;
        let [at, signed] = self.files(&feed.version);
        written(&at, archive)?;
        written(&signed, signature.as_bytes())?;
        self.point_to(Some(&feed.version), before.as_ref())?;
        self.refuse(self.refused().into_iter().filter(|version| *version > feed.version).collect())
    }

    /// The editions that were taken back, and are not installed again by themselves, by version.
    pub fn refused(&self) -> Vec<Version> {
        let text = gnomon_files::read(&self.folder.join(REFUSED), LONGEST_REFUSED).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Notes that these, and no others, are not installed again by themselves.
    fn refuse(&self, mut versions: Vec<Version>) -> Result<(), Complaint> {
        versions.sort();
        versions.dedup();
        let path = self.folder.join(REFUSED);
        let newest = versions.len().saturating_sub(MOST_REFUSED);
        let lines: String = versions.iter().skip(newest).map(|version| format!("{version}\n")).collect();
        if !lines.is_empty() {
            return written(&path, lines.as_bytes());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(&path, &error)),
            _ => Ok(()),
        }
    }

    /// Notes that the edition in force is taken back.
    fn refuse_current(&self) -> Result<(), Complaint> {
        let current = self.named().unwrap_or_default().0;
        let Some(current) = current else { return Ok(()) };
        self.refuse(self.refused().into_iter().chain([current]).collect())
    }

    /// Puts the edition from before back into force, and says which: none are the rules that ship. The one that was in force is not installed
    /// again by itself.
    ///
    /// # Errors
    /// None is in force, its signature does not hold, or it cannot be written.
    pub fn roll_back(&self, key: &FeedKey) -> Result<Option<Version>, Complaint> {
        let (current, before) = self.named()?;
        if current.is_none() {
            return Err(Complaint::input("no feed is in force".to_owned()).next("the rules that ship are"));
        }
        if let Some(before) = &before {
            self.open(before, key)?;
        }
        self.refuse_current()?;
        self.point_to(before.as_ref(), None)?;
        Ok(before)
    }

    /// Takes every edition out of force, so that the rules that ship are. The one that was in force is not installed again by itself.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn remove(&self) -> Result<(), Complaint> {
        self.refuse_current()?;
        self.point_to(None, None)
    }

    fn point_to(&self, current: Option<&Version>, before: Option<&Version>) -> Result<(), Complaint> {
        let kept: Vec<&Version> = current.into_iter().chain(before).collect();
        let path = current_in(&self.folder);
        if current.is_none() {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(&path, &error)),
                _ => {}
            }
        } else {
            let lines: String = kept.iter().map(|version| format!("{version}\n")).collect();
            written(&path, lines.as_bytes())?;
        }
        // What stays behind costs some bytes only.
        let kept: Vec<PathBuf> =
            kept.into_iter().flat_map(|version| self.files(version)).chain([path, self.folder.join(REFUSED)]).collect();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if !kept.contains(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

/// What to do about an edition that cannot be used.
const TAKE_OUT: &str = "gnomon rules update installs it anew; gnomon rules update --remove goes back to the rules that ship";

fn unusable(path: &Path, cause: &dyn fmt::Display) -> Complaint {
    Complaint::input(format!("{}: {cause}", path.display())).next(TAKE_OUT)
}

/// Replaces a file whole, or leaves it. The draft is made anew, so nobody's link is followed.
fn written(path: &Path, bytes: &[u8]) -> Result<(), Complaint> {
    let draft = path.with_extension("draft");
    let attempt = || -> io::Result<()> {
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    attempt().map_err(|error| unusable(path, &error))
}
