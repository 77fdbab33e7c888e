//! Tells when the files of rules may be others than before: by the kernel's notices, within a moment, and by looking again
//! every few seconds, as folders on a network, swapped links and folders that were away give no notice.
//!
//! It reads no rule and judges no file: its receiver loads them, and keeps the old ones if that fails.

use gnomon_cli::rule_files;
use gnomon_config as config;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Notify, sync::mpsc, task::JoinHandle, time};

/// An editor writes a file in several steps: this long nothing may change before files count as written …
const QUIET: Duration = Duration::from_millis(200);
/// … but no longer than this is waited.
const PATIENCE: Duration = Duration::from_secs(2);
/// The interval at which files are compared without a notice of the kernel's.
const LOOK: Duration = Duration::from_secs(5);

/// The properties that tell a changed file: device, inode, size, and when it was written and renamed.
type Mark = (u64, u64, u64, i64, i64, i64, i64);

/// The files of rules; equal where nothing changed.
type Stand = BTreeMap<PathBuf, Option<Mark>>;

/// Changes of rule files, from when it was made.
pub struct RuleChanges {
    told: mpsc::Receiver<()>,
    watching: JoinHandle<()>,
}

impl RuleChanges {
    /// Watches the folders and files of this configuration, present or not.
    pub fn of(rules: &config::Rules) -> Self {
        let paths: Vec<PathBuf> = rule_files::watched(rules);
        let before = stand(&paths);
        let (tell, told) = mpsc::channel(1);
        Self { told, watching: tokio::spawn(watch(paths, before, tell)) }
    }

    /// The next change; for ever, where nothing is watched any more. May be dropped while it waits.
    pub async fn next(&mut self) {
        if self.told.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

impl Drop for RuleChanges {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn watch(paths: Vec<PathBuf>, mut before: Stand, tell: mpsc::Sender<()>) {
    let noticed = Arc::new(Notify::new());
    let mut notices = Notices::begin(&paths, &noticed);
    loop {
        if let Ok(()) = time::timeout(LOOK, noticed.notified()).await {
            let patience = time::Instant::now() + PATIENCE;
            while time::Instant::now() < patience && time::timeout(QUIET, noticed.notified()).await.is_ok() {}
        }
        let now = stand(&paths);
        if now == before {
            continue;
        }
        before = now;
        // Paths that are new below a folder, or came back, must be watched too.
        notices = Notices::begin(&paths, &noticed).or(notices);
        // A full channel has told already.
        if let Err(mpsc::error::TrySendError::Closed(())) = tell.try_send(()) {
            return;
        }
    }
}

/// The kernel's notices; they end when this is dropped.
struct Notices {
    _watcher: Option<RecommendedWatcher>,
}

impl Notices {
    fn begin(paths: &[PathBuf], noticed: &Arc<Notify>) -> Self {
        let noticed = noticed.clone();
        let handler = move |event: notify::Result<notify::Event>| {
            // Reading is no change, and we read.
            if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
                noticed.notify_one();
            }
        };
        let Ok(mut watcher) = notify::recommended_watcher(handler) else { return Self { _watcher: None } };
        for path in paths {
            let (folder, mode) = if path.is_dir() {
                (path.as_path(), RecursiveMode::Recursive)
            } else if path.is_file() {
                // A file is replaced by renaming, so its folder is watched.
                (path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")), RecursiveMode::NonRecursive)
            } else {
                // A path that does not exist yet is polled for.
                continue;
            };
            if let Err(error) = watcher.watch(folder, mode) {
                tracing::debug!("no notices from {}: {error}", folder.display());
            }
        }
        Self { _watcher: Some(watcher) }
    }

    /// This one, or the one before if this one failed.
    fn or(self, before: Self) -> Self {
        if self._watcher.is_some() { self } else { before }
    }
}

fn stand(paths: &[PathBuf]) -> Stand {
    let mut stand = Stand::new();
    for path in paths {
        // A path that cannot be listed counts as missing; the loader says why.
        let files = rule_files::listed(path).unwrap_or_default();
        stand.insert(path.clone(), None);
        stand.extend(files.into_iter().map(|file| {
            let mark = fs::metadata(&file).ok().map(|found| mark(&found));
            (file, mark)
        }));
    }
    stand
}

fn mark(found: &fs::Metadata) -> Mark {
    (found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_config::{Config, Rules};

    async fn told(changes: &mut RuleChanges) {
        time::timeout(Duration::from_secs(20), changes.next()).await.expect("a change");
    }

    #[tokio::test]
    async fn a_file_that_is_written_replaced_or_removed_is_a_change_and_reading_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let rules = Rules { dirs: vec![dir.path().to_owned()], ..Config::default().rules };
        let file = dir.path().join("sub/one.yml");
        fs::create_dir(dir.path().join("sub")).unwrap();
        let mut changes = RuleChanges::of(&rules);
        fs::write(&file, "a").unwrap();
        told(&mut changes).await;
        fs::write(dir.path().join("sub/next"), "b").unwrap();
        fs::rename(dir.path().join("sub/next"), &file).unwrap();
        told(&mut changes).await;
        fs::read(&file).unwrap();
        assert!(time::timeout(Duration::from_millis(700), changes.next()).await.is_err());
        fs::remove_file(&file).unwrap();
        told(&mut changes).await;
    }

    #[tokio::test]
    async fn a_folder_that_was_away_is_watched_when_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let later = dir.path().join("later");
        let rules = Rules { dirs: vec![later.clone()], ..Config::default().rules };
        let mut changes = RuleChanges::of(&rules);
        fs::create_dir(&later).unwrap();
        fs::write(later.join("one.yml"), "a").unwrap();
        told(&mut changes).await;
        fs::write(later.join("two.yml"), "a").unwrap();
        told(&mut changes).await;
    }
}
