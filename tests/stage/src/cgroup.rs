//! A cgroup for one test at the top of the hierarchy: the sensor is attached to it, and its programs run in it.

use super::DEADLINE;
use gnomon_host::cgroup::Hierarchy;
use std::{
    ffi::OsStr,
    fs, io,
    ops::Deref,
    path::{Path, PathBuf},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The prefix of their names; the process id follows.
const PREFIX: &str = "gnomon-e2e-";

static SWEPT: Once = Once::new();
static MADE: AtomicU32 = AtomicU32::new(0);

/// Removed when dropped, once everything that runs in it has ended.
pub struct OwnCgroup(PathBuf);

impl OwnCgroup {
    /// A new one. The first sweeps those of test runs that were killed, which could not.
    #[expect(clippy::new_without_default, reason = "a cgroup is made, not a value")]
    pub fn new() -> Self {
        let mount = Hierarchy::find().unwrap().mount().to_owned();
        SWEPT.call_once(|| sweep(&mount));
        let path = mount.join(format!("{PREFIX}{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Deref for OwnCgroup {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<OsStr> for OwnCgroup {
    fn as_ref(&self) -> &OsStr {
        self.0.as_os_str()
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        remove_soon(&self.0);
    }
}

/// Removes a cgroup and those below it as soon as they are empty; reports one that cannot be removed.
pub fn remove_soon(cgroup: &Path) {
    let end = Instant::now() + DEADLINE;
    while cgroup.exists() && remove(cgroup).is_err() {
        if Instant::now() > end {
            return eprintln!("{} stays: {:?}", cgroup.display(), fs::read_to_string(cgroup.join("cgroup.events")));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Fails for a cgroup with a process in it.
fn remove(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

fn sweep(mount: &Path) {
    for entry in fs::read_dir(mount).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let of = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if of.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = remove(&entry.path());
        }
    }
}

#[test]
fn what_a_killed_run_left_is_swept_and_what_is_in_use_is_not() {
    let (folder, own) = (tempfile::tempdir().unwrap(), std::process::id());
    // 4194305 is above the highest process id that the kernel gives.
    for name in ["gnomon-e2e-4194305-0/below", &format!("gnomon-e2e-{own}-0"), "gnomon-e2e-old", "another"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    sweep(folder.path());
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["another".to_owned(), format!("gnomon-e2e-{own}-0"), "gnomon-e2e-old".to_owned()]);
}
