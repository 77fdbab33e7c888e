//! The public state of a sensor: a file beside the socket of `gnomon exec`, which only root can write, so that its readers can trust it.
//!
//! The file says whether and since when the host is watched, and whether anything is redirected, but not which programs or what they do.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gnomon_host::identity::BootTime;
use serde::{Deserialize, Serialize};

/// The file's name.
pub const NAME: &str = "status.json";
/// The most bytes of such a file.
const MAX: u64 = 16 << 10;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of gnomon.
    pub version: String,
    /// The sensor process.
    pub pid: u32,
    /// The time since which it watches, in seconds since 1970.
    pub since: u64,
    /// The folder of the cgroup below which connections are seen.
    pub cgroup: PathBuf,
    /// The kill switch: true where gnomon may interfere.
    pub armed: bool,
    /// Why it is disarmed, as given by whoever did so.
    pub reason: Option<String>,
    /// Since when, in seconds since 1970.
    pub disarmed_since: Option<u64>,
    /// The number of scopes that send connections through the proxy now: programs under `gnomon exec`, and configured ones.
    pub redirecting: usize,
    /// The time since which no serving half is there, in seconds since 1970: the sensor stays for scopes that fail closed, and nothing is
    /// read or recorded. `None` while there is one.
    #[serde(default)]
    pub alone_since: Option<u64>,
}

impl Status {
    /// The status of a sensor that starts now.
    pub(crate) fn of(cgroup: &Path) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: seconds(SystemTime::now()),
            cgroup: cgroup.to_owned(),
            armed: true,
            reason: None,
            disarmed_since: None,
            redirecting: 0,
            alone_since: None,
        }
    }

    /// Reads the status of the sensor in this folder. `None` if none watches: there is no file, or its writer has ended.
    ///
    /// # Errors
    /// If the file cannot be read, or was not written by root.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        let path = folder.join(NAME);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !found.is_file() || found.uid() != 0 || found.len() > MAX {
            return Err(io::Error::other("it is not what a sensor of root's writes"));
        }
        let status: Self = serde_json::from_slice(&fs::read(&path)?)?;
        Ok(Some(status).filter(Self::is_alive))
    }

    /// True if the process that wrote it still runs. If its id was reused, the new process started later.
    fn is_alive(&self) -> bool {
        let Ok(text) = fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return false };
        // proc_pid_stat(5): what follows the name in parentheses; the 22nd field is the start in ticks since boot.
        let ticks = text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse::<u64>().ok());
        let Some(ticks) = ticks else { return false };
        let booted = seconds(SystemTime::now()).saturating_sub(BootTime::now().0 / 1_000_000_000);
        booted + ticks / rustix::param::clock_ticks_per_second() <= self.since + 1
    }
}

/// Seconds since 1970; 0 before that.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The file, kept up to date, and removed when dropped.
#[derive(Debug)]
pub(crate) struct Published {
    path: PathBuf,
    said: Option<Status>,
    alone_since: Option<u64>,
}

impl Published {
    /// A status file in this folder, which must be root's alone.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self { path: folder.join(NAME), said: None, alone_since: None }
    }

    /// Writes the status, if it has changed.
    pub(crate) fn say(&mut self, status: &Status) {
        if self.alone_since.is_none() && is_alone() {
            self.alone_since = Some(seconds(SystemTime::now()));
        }
        let status = Status { alone_since: self.alone_since, ..status.clone() };
        if self.said.as_ref() == Some(&status) {
            return;
        }
        let written = self.write(&status);
        self.said = Some(status);
        if let Err(error) = written {
            tracing::warn!("the status is not published: {}: {error}", self.path.display());
        }
    }

    fn write(&self, status: &Status) -> io::Result<()> {
        let folder = self.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, status)?;
        file.flush()?;
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let is_ours = || {
            let found = fs::read(&self.path).ok().and_then(|text| serde_json::from_slice::<Status>(&text).ok());
            found.is_some_and(|found| Some(found.pid) == self.said.as_ref().map(|said| said.pid))
        };
        // A sensor that stayed may end beside its successor, whose file it is then.
        if self.said.is_some() && is_ours() {
            // A leftover is recognised as stale by the process that it names.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// True if this process is a sensor that stays without a serving half: it has the name of one.
fn is_alone() -> bool {
    fs::read("/proc/self/comm").is_ok_and(|name| name.trim_ascii_end() == crate::HOLDS.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_can_be_read_until_the_sensor_ends() {
        if rustix::process::geteuid().as_raw() != 0 {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let status = Status::of(Path::new("/sys/fs/cgroup"));
        assert_eq!(Status::read(folder.path()).unwrap(), None);
        let mut published = Published::in_folder(folder.path());
        published.say(&status);
        assert_eq!(Status::read(folder.path()).unwrap(), Some(status.clone()));
        // The id belongs to another process now, which started later.
        published.say(&Status { since: 1, ..status.clone() });
        assert_eq!(Status::read(folder.path()).unwrap(), None);
        published.say(&Status { pid: u32::MAX, ..status });
        assert_eq!(Status::read(folder.path()).unwrap(), None);
        drop(published);
        assert!(!folder.path().join(NAME).exists());
    }

    #[test]
    fn a_sensor_that_stays_alone_says_since_when_and_leaves_the_file_of_its_successor() {
        if rustix::process::geteuid().as_raw() != 0 {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let status = Status::of(Path::new("/sys/fs/cgroup"));
        let mut published = Published::in_folder(folder.path());
        published.alone_since = Some(7);
        published.say(&status);
        assert_eq!(Status::read(folder.path()).unwrap().unwrap().alone_since, Some(7));
        let mut next = Published::in_folder(folder.path());
        next.say(&Status { pid: 1, since: u64::MAX / 2, ..status.clone() });
        drop(published);
        let found = Status::read(folder.path()).unwrap().unwrap();
        assert_eq!((found.pid, found.alone_since), (1, None));
        // What an older sensor wrote has no such word.
        let mut old = serde_json::to_value(&status).unwrap();
        old.as_object_mut().unwrap().remove("alone_since");
        assert_eq!(serde_json::from_value::<Status>(old).unwrap(), status);
    }
}
