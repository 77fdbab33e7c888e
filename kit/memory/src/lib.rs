//! The memory that this process may have, by its control group or the machine, and whether it is short.
//!
//! A process that the kernel ends for its memory protects nobody until it runs again. So bounds on what many clients and servers may take
//! together are parts of the limit ([`part`]), and what is held for those who do not take it is given up while memory is short
//! ([`is_short`]). Somebody has to [`look`] for that, every [`EVERY`].
//!
//! What counts is what the kernel cannot take back: pages of files it can. It is the state of the process, so there is one.
#![deny(missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How often it is to be looked.
pub const EVERY: Duration = Duration::from_millis(250);
/// The control groups that are looked at above our own.
const MAX_DEPTH: usize = 32;

static LIMIT: LazyLock<Limit> =
    LazyLock::new(|| Limit::read(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup"), &read("/proc/meminfo")));
static SHORT: AtomicBool = AtomicBool::new(false);

/// The most that this process may have, bytes: the least limit of its control group and those above it, and the machine's memory.
#[must_use]
pub fn limit() -> u64 {
    LIMIT.bytes
}

/// `most`, or one in so many of the bytes that this process may have, if that is less.
#[must_use]
pub fn part(most: usize, one_in: u64) -> usize {
    usize::try_from(limit() / one_in.max(1)).map_or(most, |part| part.min(most))
}

/// Whether memory was short when it was looked last.
#[must_use]
pub fn is_short() -> bool {
    SHORT.load(Ordering::Relaxed)
}

/// Looks whether memory is short: more than three quarters of the limit are used, and it stays so until less than two thirds are. True if
/// it has become so just now.
pub fn look() -> bool {
    let used = used();
    let (three_quarters, two_thirds) = (limit() / 4 * 3, limit() / 3 * 2);
    let was = SHORT.load(Ordering::Relaxed);
    let is = if was { used > two_thirds } else { used > three_quarters };
    SHORT.store(is, Ordering::Relaxed);
    is && !was
}

/// What is used of the limit, bytes: by this process, and by others of the control group that has it.
fn used() -> u64 {
    let own = own();
    LIMIT.group.as_ref().map_or(own, |group| own.max(of_group(&read(group))))
}

/// Anonymous memory of this process (proc_pid_statm(5)): what is resident and shared with nobody.
fn own() -> u64 {
    let said = read("/proc/self/statm");
    let mut pages = said.split(' ').map(|number| number.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (pages.nth(1).unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(shared).saturating_mul(u64::try_from(rustix::param::page_size()).unwrap_or(4096))
}

/// What a control group has that the kernel cannot take back, by its `memory.stat`: in version 2 what is not of files, with the buffers of
/// sockets; in version 1 `total_rss`, as its sockets do not count.
fn of_group(stat: &str) -> u64 {
    const HELD: [&str; 6] = ["anon", "sock", "slab_unreclaimable", "kernel_stack", "pagetables", "total_rss"];
    let held = stat.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| HELD.contains(name));
    held.filter_map(|(_, bytes)| bytes.parse::<u64>().ok()).fold(0, u64::saturating_add)
}

#[derive(Debug, PartialEq, Eq)]
struct Limit {
    bytes: u64,
    /// `memory.stat` of the control group that has it.
    group: Option<PathBuf>,
}

impl Limit {
    /// From where control groups are mounted, `/proc/self/cgroup` and `/proc/meminfo`.
    fn read(mounts: &Path, groups: &str, machine: &str) -> Self {
        let kib = machine.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let mut least = Self { bytes: kib.map_or(u64::MAX, |kib| kib.saturating_mul(1024)), group: None };
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let (mount, file) = match controllers {
                "" => (mounts.to_owned(), "memory.max"),
                names if names.split(',').any(|name| name == "memory") => (mounts.join("memory"), "memory.limit_in_bytes"),
                _ => continue,
            };
            for group in Path::new(path.trim_start_matches('/')).ancestors().take(MAX_DEPTH) {
                let group = mount.join(group);
                // `max`, or none of this version.
                let Some(bytes) = read(group.join(file)).trim().parse().ok().filter(|bytes| *bytes < least.bytes) else { continue };
                least = Self { bytes, group: Some(group.join("memory.stat")) };
            }
        }
        least
    }
}

/// A file of the kernel's; empty where it is not there.
fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_the_groups_above_counts_in_either_version() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let machine = "MemTotal:       24000000 kB\nMemFree: 5 kB\n";
        let of = |groups: &str| Limit::read(folder.path(), groups, machine);
        assert_eq!(of("0::/\n"), Limit { bytes: 24_000_000 * 1024, group: None });
        write("a.slice/b.service/memory.max", "max\n");
        write("a.slice/memory.max", "1073741824\n");
        let stat = |path: &str| Some(folder.path().join(path).join("memory.stat"));
        assert_eq!(of("0::/a.slice/b.service\n"), Limit { bytes: 1 << 30, group: stat("a.slice") });
        write("memory/c/memory.limit_in_bytes", "536870912\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(of("4:memory:/c\n1:cpu:/\n0::/a.slice/b.service\n"), Limit { bytes: 512 << 20, group: stat("memory/c") });
        assert_eq!(of("9:cpu,memory:/c/gone\n").bytes, 512 << 20);
        assert_eq!((of_group("anon 5\nfile 7\nsock 2\n"), of_group("cache 1\nrss 2\ntotal_rss 9\n"), of_group("")), (7, 9, 0));
    }

    #[test]
    fn what_this_process_has_is_known_and_not_short_of_the_machine_s() {
        let most = vec![1u8; 64 << 20];
        assert!(own() > 60 << 20, "{}", own());
        assert!(own() < limit() && part(usize::MAX, 4) < usize::MAX && part(1, 4) == 1, "{}", most.len());
        assert!(!look() && !is_short());
    }
}
