//! The kill switch: a file. As long as it is there, gnomon interferes with nothing.
//!
//! A file, because whatever manages a fleet can drop one, it survives every restart, and each half can look for it by
//! itself: a serving process that hangs cannot keep the sensor from obeying. It is looked for again and again
//! ([`Switch::LOOK`]) and not watched: that works when its folder does not exist yet, and across mounts.
//!
//! Its content is deliberately ignored, so it cannot be malformed: an empty file disarms.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Longest reason, bytes.
const MAX_REASON: usize = 512;

/// The kill switch, by the path of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch(PathBuf);

/// The state of the kill switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arming {
    /// gnomon may interfere, where rules and scopes say so.
    Armed,
    /// gnomon must not interfere.
    Disarmed(Disarmed),
}

impl Arming {
    /// True if gnomon may interfere.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        matches!(self, Self::Armed)
    }
}

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disarmed {
    /// The time it was written, where the file system tells.
    pub since: Option<SystemTime>,
    /// Its first line, without control characters, at most 512 bytes; empty where it says nothing.
    pub reason: String,
}

/// Whether the file has the reason.
#[derive(Debug)]
#[must_use]
pub enum ReasonKept {
    /// All of it.
    Whole,
    /// The file is there, without the reason or with an earlier one.
    Not(io::Error),
}

impl Switch {
    /// The default path of the file.
    pub const DEFAULT: &str = "/etc/gnomon/disarm";
    /// The interval at which to look for it: what it asks for is to be done within a second.
    pub const LOOK: Duration = Duration::from_millis(200);

    /// A switch at a path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Checks for the file. Anything at the path disarms, whatever it is and whether or not it can be read.
    ///
    /// # Errors
    /// If the folder cannot be searched: the caller keeps the last answer.
    pub fn look(&self) -> io::Result<Arming> {
        match fs::symlink_metadata(&self.0) {
            Ok(found) => Ok(Arming::Disarmed(Disarmed { since: found.modified().ok(), reason: self.reason() })),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Arming::Armed),
            Err(error) => Err(error),
        }
    }

    /// Never blocks: the file may be a pipe.
    fn reason(&self) -> String {
        let mut text = Vec::new();
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open(&self.0);
        let _ = opened.and_then(|file| file.take(MAX_REASON as u64).read_to_end(&mut text));
        first_line(&String::from_utf8_lossy(&text))
    }

    /// Disarms. Replaces the file atomically. Where the reason cannot be written, as on a full disk, the file is there without it.
    ///
    /// # Errors
    /// There can be no file, mostly as the caller is not root.
    pub fn disarm(&self, reason: &str) -> io::Result<ReasonKept> {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty()).ok_or(ErrorKind::InvalidInput)?;
        fs::create_dir_all(folder)?;
        let mut spare = self.0.clone().into_os_string();
        spare.push(format!(".{}", std::process::id()));
        let written = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&spare).and_then(|mut file: File| {
            writeln!(file, "{}", first_line(reason))?;
            file.sync_all()
        });
        let Err(error) = written.and_then(|()| fs::rename(&spare, &self.0)) else { return Ok(ReasonKept::Whole) };
        let _ = fs::remove_file(&spare);
        // What counts is that it is there.
        match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&self.0) {
            Ok(_) => Ok(ReasonKept::Not(error)),
            Err(there) if there.kind() == ErrorKind::AlreadyExists => Ok(ReasonKept::Not(error)),
            Err(_) => Err(error),
        }
    }

    /// Arms. That the file is not there is no error.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn arm(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The first line, as shown on terminals and written into events.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut clean: String = line.chars().filter(|c| !c.is_control() && *c != '\u{fffd}').collect();
    while clean.len() > MAX_REASON {
        clean.pop();
    }
    clean.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_file_disarms_until_it_is_gone() {
        let folder = folder();
        let switch = Switch::at(folder.path().join("not/there/yet/disarm"));
        assert!(switch.look().unwrap().is_armed());
        assert!(matches!(switch.disarm("maintenance\nwindow\u{7}").unwrap(), ReasonKept::Whole));
        let Arming::Disarmed(found) = switch.look().unwrap() else { panic!("armed") };
        assert_eq!(found.reason, "maintenance");
        let _ = switch.disarm("\u{1b}[31mmore").unwrap();
        assert!(matches!(switch.look().unwrap(), Arming::Disarmed(found) if found.reason == "[31mmore"));
        switch.arm().unwrap();
        switch.arm().unwrap();
        assert!(switch.look().unwrap().is_armed());
    }

    /// As on a disk that is full: nothing is written beside it, but a file can be made. Here the name beside it is too long.
    #[test]
    fn a_reason_that_cannot_be_written_disarms_all_the_same() {
        let folder = folder();
        let switch = Switch::at(folder.path().join("d".repeat(255)));
        assert!(matches!(switch.disarm("maintenance").unwrap(), ReasonKept::Not(_)));
        assert!(matches!(switch.look().unwrap(), Arming::Disarmed(found) if found.reason.is_empty()));
        assert!(matches!(switch.disarm("again").unwrap(), ReasonKept::Not(_)), "it is there already");
        assert!(Switch::at(folder.path().join("e".repeat(256))).disarm("").is_err());
    }

    #[test]
    fn whatever_is_there_disarms() {
        let folder = folder();
        let at = |name: &str| Switch::at(folder.path().join(name));
        fs::write(folder.path().join("empty"), "").unwrap();
        fs::write(folder.path().join("bytes"), [0xff; 4096]).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, folder.path().join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for name in ["empty", "bytes", "folder", "link", "pipe"] {
            assert!(matches!(at(name).look().unwrap(), Arming::Disarmed(found) if found.reason.is_empty()), "{name}");
        }
        // Below a file there can be nothing.
        assert!(at("empty/disarm").look().unwrap().is_armed());
    }
}
