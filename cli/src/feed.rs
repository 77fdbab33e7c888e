//! A feed: shipped packs in a newer edition than the binary has, signed with minisign by whoever the configuration names.
//!
//! What is installed are the bytes as they came, with their signature, and the signature is checked whenever they are read: the state
//! folder, in which the serving process may write as well, is believed no further than the key. Before the signature holds nothing of an
//! archive is looked at; after it the bounds below still hold, as a key may be stolen.

mod editions;

use crate::complaint::Complaint;
pub use editions::{Editions, current_in};
use flate2::read::GzDecoder;
use gnomon_config::FeedKey;
use minisign_verify::Signature;
use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt,
    io::Read,
    path::{Component, Path},
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
    let about: serde_json::Value =
        serde_saphyr::from_str(about).map_err(|error| format!("{ABOUT}: {}", gnomon_access::yaml::cause(&error)))?;
    let version = about["version"].as_str().ok_or_else(|| format!("{ABOUT} has no version that is a text: `version: '2026.11.23'`"))?;
    version.parse()
}

#[cfg(test)]
mod tests;
