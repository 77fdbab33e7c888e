//! A feed: shipped packs in a newer edition than the binary has, signed with minisign by whoever the configuration names.
//!
//! What is installed are the bytes as they came, with their signature, and the signature is checked whenever they are read: the state
//! folder, in which the serving process may write as well, is believed no further than the key. Before the signature holds nothing of an
//! archive is looked at; after it the bounds below still hold, as a key may be stolen.

use crate::complaint::Complaint;
use flate2::read::GzDecoder;
use gnomon_config::FeedKey;
use minisign_verify::Signature;
use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt, fs,
    fs::OpenOptions,
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
    str::FromStr,
};

/// Most bytes of an archive as it is sent.
pub const LONGEST_ARCHIVE: u64 = 16 << 20;
/// Most bytes of a signature.
pub const LONGEST_SIGNATURE: u64 = 4 << 10;
/// Most bytes of all files of an archive.
const LONGEST_UNPACKED: u64 = 64 << 20;
/// Most files of an archive.
const MOST_FILES: usize = 20_000;
/// The file that says which edition is in force, and which was before it.
const CURRENT: &str = "current";
/// The file of an archive that states its version.
const ABOUT: &str = "feed.yml";

/// The version of an edition: numbers with points between them, as 2026.11.23; at most eight.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    numbers: Vec<u32>,
}

impl Version {
    fn written(&self) -> &[u32] {
        // 2026.11 and 2026.11.0 are one version.
        let end = self.numbers.iter().rposition(|number| *number != 0).map_or(0, |last| last + 1);
        &self.numbers[..end]
    }
}

impl FromStr for Version {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        let numbers: Option<Vec<u32>> = text.split('.').map(number).collect();
        match numbers {
            Some(numbers) if numbers.len() <= 8 => Ok(Self { text: text.to_owned(), numbers }),
            _ => Err(format!("`{}` is not a version: numbers with points between them, as 2026.11.23", text.escape_debug())),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.written().cmp(other.written())
    }
}

/// An edition whose signature holds.
#[derive(Debug)]
pub struct Feed {
    /// Its version.
    pub version: Version,
    packs: BTreeMap<String, Vec<(String, String)>>,
}

impl Feed {
    /// Opens an archive (tar, gzip) once its signature holds: `feed.yml` with `version: '2026.11.23'`, and folders with files of rules, each
    /// named as the pack that it takes the place of.
    ///
    /// # Errors
    /// The signature is not of this archive by this key, or the archive is not as described or beyond its bounds.
    pub fn open(archive: &[u8], signature: &str, key: &FeedKey) -> Result<Self, Complaint> {
        let wrong = |what: &dyn fmt::Display| Complaint::input(format!("the feed's signature does not hold: {what}"));
        let next = "do not use these rules: ask whoever publishes them, and compare rules.feed_key with the key that they publish";
        let signature = Signature::decode(signature).map_err(|error| wrong(&error).next(next))?;
        key.key().verify(archive, &signature, false).map_err(|error| wrong(&error).next(next))?;
        Self::unpack(archive).map_err(|cause| {
            Complaint::input(format!("the feed is signed, but is not one: {cause}"))
                .next("tell whoever publishes it; the rules in force stay")
        })
    }

    fn unpack(archive: &[u8]) -> Result<Self, String> {
        let (mut left, mut files) = (LONGEST_UNPACKED, 0);
        let (mut version, mut packs) = (None, BTreeMap::<String, Vec<_>>::new());
        // What follows the last entry is not read.
        let mut tar = tar::Archive::new(GzDecoder::new(archive).take(2 * LONGEST_UNPACKED));
        for entry in tar.entries().map_err(|error| error.to_string())? {
            let mut entry = entry.map_err(|error| error.to_string())?;
            files += 1;
            if files > MOST_FILES {
                return Err(format!("more than {MOST_FILES} files"));
            }
            let path = entry.path().map_err(|error| error.to_string())?.into_owned();
            let names = plain(&path).ok_or_else(|| format!("the name {path:?} is not one of a feed"))?;
            match entry.header().entry_type() {
                tar::EntryType::Directory => continue,
                tar::EntryType::Regular => {}
                other => return Err(format!("{path:?} is of the kind {other:?}, and neither a file nor a folder")),
            }
            let mut text = String::new();
            let length = entry.by_ref().take(left + 1).read_to_string(&mut text).map_err(|error| format!("{path:?}: {error}"))?;
            left = left.checked_sub(length as u64).ok_or_else(|| format!("more than {LONGEST_UNPACKED} bytes"))?;
            match names.as_slice() {
                [about] if about == ABOUT => version = Some(version_of(&text)?),
                // Licences and notes.
                [_] => {}
                [pack, file] if file.ends_with(".yml") => packs.entry(pack.clone()).or_default().push((format!("{pack}/{file}"), text)),
                _ => return Err(format!("{path:?} is not a file of rules in a folder of a pack")),
            }
        }
        if packs.is_empty() {
            return Err("it has no rules".to_owned());
        }
        for files in packs.values_mut() {
            files.sort();
            if let Some(twice) = files.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(format!("{} is in it twice", twice[0].0));
            }
        }
        Ok(Self { version: version.ok_or_else(|| format!("it has no {ABOUT}"))?, packs })
    }

    /// The files of a pack, as `(path, text)`, sorted by path; none where the feed has no such pack.
    #[must_use]
    pub fn files(&self, pack: &str) -> Option<&[(String, String)]> {
        self.packs.get(pack).map(Vec::as_slice)
    }

    /// The names of its packs, sorted.
    pub fn packs(&self) -> impl Iterator<Item = &str> {
        self.packs.keys().map(String::as_str)
    }
}

/// The parts of a relative path of plain names without a beginning dot.
fn plain(path: &Path) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => {
                let name = name.to_str()?;
                let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) && !name.starts_with('.');
                names.push(is_plain.then(|| name.to_owned())?);
            }
            _ => return None,
        }
    }
    Some(names)
}

fn version_of(about: &str) -> Result<Version, String> {
    let about: serde_json::Value = serde_saphyr::from_str(about).map_err(|error| format!("{ABOUT}: {error}"))?;
    let version = about["version"].as_str().ok_or_else(|| format!("{ABOUT} has no version that is a text: `version: '2026.11.23'`"))?;
    version.parse()
}

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

    /// Puts an edition into force, whose signature was checked. The one that was in force is kept, older ones are removed.
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
        self.point_to(Some(&feed.version), before.as_ref())
    }

    /// Puts the edition from before back into force, and says which: none are the rules that ship.
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
        self.point_to(before.as_ref(), None)?;
        Ok(before)
    }

    /// Takes every edition out of force, so that the rules that ship are.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn remove(&self) -> Result<(), Complaint> {
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
        let kept: Vec<PathBuf> = kept.into_iter().flat_map(|version| self.files(version)).chain([path]).collect();
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

#[cfg(test)]
mod tests;
