//! A full disk, and a disk that does not answer: what is lost or late fires an alert, and the alert's command shows that disk.

use super::prometheus::{Prometheus, Watched, has, home};
use crate::sensor_stage::skip;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn done(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// The value of a metric without labels.
fn value(exposed: &str, metric: &str) -> f64 {
    let line = exposed.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {metric} in {exposed}"))
}

/// A mounted file system; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// A tmpfs of this size.
    fn in_memory(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir(at).unwrap();
        done("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", at.to_str().unwrap()]).then(|| Self(at.to_owned()))
    }

    /// An ext4 file system of 32 MiB in a file.
    fn in_file(at: &Path, file: &Path) -> Option<Self> {
        fs::create_dir(at).unwrap();
        fs::File::create(file).unwrap().set_len(32 << 20).unwrap();
        let (at_text, file) = (at.to_str().unwrap(), file.to_str().unwrap());
        let made = done("mkfs.ext4", &["-q", "-F", file]) && done("mount", &["-o", "loop", file, at_text]);
        made.then(|| Self(at.to_owned()))
    }

    fn shown(&self, printed: &str) -> String {
        let line = printed.lines().find(|line| line.ends_with(self.0.to_str().unwrap()));
        line.unwrap_or_else(|| panic!("{printed}")).to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        done("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

/// Freezes the file system while this lives: writes block, as on a disk that does not answer.
struct Frozen<'a>(&'a Disk);

impl<'a> Frozen<'a> {
    fn freeze(disk: &'a Disk) -> Self {
        assert!(done("fsfreeze", &["-f", disk.0.to_str().unwrap()]));
        Self(disk)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        done("fsfreeze", &["-u", self.0.0.to_str().unwrap()]);
    }
}

#[test]
fn events_that_a_full_disk_takes_no_more_fire_and_the_command_shows_that_it_is_full() {
    let name = "events_that_a_full_disk_takes_no_more_fire_and_the_command_shows_that_it_is_full";
    if !has(name, &["prometheus"]) {
        return;
    }
    let dir = home("");
    let Some(disk) = Disk::in_memory(&dir.path().join("state"), "3m") else { return skip(name, "needs root, to mount a tmpfs") };
    let watched = Watched::at(dir, &["proxy"]);
    let prometheus = Prometheus::watching(&watched);
    assert!(fs::write(disk.0.join("ballast"), vec![0; 8 << 20]).is_err(), "it is full");
    (0..300).for_each(|number| watched.call(&format!("full_{number}"), ""));
    let alert = prometheus.fires("GnomonEventsDropped");
    let printed = watched.printed(&alert);
    assert!(disk.shown(&printed).contains(" 100% "), "{printed}");
    prometheus.fires("GnomonShadowMcpCall");
}

#[test]
fn a_ledger_that_waits_for_its_disk_fires_and_the_command_shows_which() {
    let name = "a_ledger_that_waits_for_its_disk_fires_and_the_command_shows_which";
    if !has(name, &["prometheus", "mkfs.ext4", "fsfreeze"]) {
        return;
    }
    let dir = home("");
    let Some(disk) = Disk::in_file(&dir.path().join("state"), &dir.path().join("disk")) else {
        return skip(name, "no file system in a file can be mounted");
    };
    let watched = Watched::at(dir, &["proxy"]);
    let prometheus = Prometheus::watching(&watched);
    watched.call("before", "");
    prometheus.fires("GnomonShadowMcpCall");
    let frozen = Frozen::freeze(&disk);
    // How many events the writer took before it blocked depends on when it was scheduled.
    let waiting = |metric: &str| value(&watched.scrape(), metric);
    let more_than_half = || waiting("gnomon_ledger_queue_events") * 2.0 > waiting("gnomon_ledger_queue_capacity_events");
    let filled = (0..200).any(|_| {
        (0..100).for_each(|_| watched.call("waits", ""));
        more_than_half()
    });
    assert!(filled, "{}", watched.log());
    let alert = prometheus.fires("GnomonLedgerBacklog");
    let printed = watched.printed(&alert);
    assert!(disk.shown(&printed).contains('%'), "{printed}");
    drop(frozen);
    prometheus.resolves("GnomonLedgerBacklog");
}
