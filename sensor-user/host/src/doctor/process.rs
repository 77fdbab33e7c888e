//! This process: what it may do, and what it may see of others.

use std::io;

use rustix::process::{Resource, getrlimit};

use super::{Check, CheckStatus, Options, value};

/// The need for a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Without it the kernel half does not load.
    Required,
    /// Without it something is not seen or done.
    Optional,
}

/// A capability that the sensor uses (capabilities(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// Its number.
    pub bit: u8,
    /// Its name.
    pub name: &'static str,
    /// The purpose.
    pub needed_for: &'static str,
    /// The need.
    pub need: Need,
}

const SETGID: u8 = 6;
const SETUID: u8 = 7;
const SYS_PTRACE: u8 = 19;
const SYS_ADMIN: u8 = 21;

/// The capabilities that the sensor uses. Found by loading each program, and identifying a process of another user, with one capability
/// after the other; setns(2) for the last.
pub const CAPABILITIES: [Capability; 9] = [
    Capability { bit: 39, name: "CAP_BPF", needed_for: "loading programs and making maps", need: Need::Required },
    Capability { bit: 12, name: "CAP_NET_ADMIN", needed_for: "attaching to cgroups, marking listeners", need: Need::Required },
    Capability { bit: 38, name: "CAP_PERFMON", needed_for: "programs on connect and egress", need: Need::Required },
    Capability { bit: 2, name: "CAP_DAC_READ_SEARCH", needed_for: "executables that root may not read by mode", need: Need::Optional },
    Capability { bit: SYS_PTRACE, name: "CAP_SYS_PTRACE", needed_for: "executables of other users' processes", need: Need::Optional },
    Capability { bit: SYS_ADMIN, name: "CAP_SYS_ADMIN", needed_for: "listeners in other network namespaces", need: Need::Optional },
    Capability { bit: SETUID, name: "CAP_SETUID", needed_for: "connecting as the user on whose behalf", need: Need::Optional },
    Capability { bit: SETGID, name: "CAP_SETGID", needed_for: "connecting as the group on whose behalf", need: Need::Optional },
    Capability {
        bit: 1,
        name: "CAP_DAC_OVERRIDE",
        needed_for: "gnomon exec below cgroups that belong to other users",
        need: Need::Optional,
    },
];

impl std::fmt::Display for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.needed_for)
    }
}

/// The [`CAPABILITIES`] that this process lacks. `None` if `/proc` does not list its capabilities.
#[must_use]
pub fn missing_capabilities() -> Option<Vec<&'static Capability>> {
    let status = value("/proc/thread-self/status").ok()?;
    let effective = u64::from_str_radix(field(&status, "CapEff:")?, 16).ok()?;
    Some(CAPABILITIES.iter().filter(|capability| !has(effective, capability.bit)).collect())
}

/// Enough for the ring and all maps, in bytes.
const MEMLOCK: u64 = 64 << 20;

pub(super) fn examine(options: &Options) -> Vec<Check> {
    let status = value("/proc/self/status");
    let effective = status.as_deref().ok().and_then(|text| u64::from_str_radix(field(text, "CapEff:")?, 16).ok()).unwrap_or(0);
    let seccomp = status.as_deref().ok().and_then(|text| field(text, "Seccomp:"));
    vec![
        needed(effective, options),
        filter(seccomp, options),
        memlock(getrlimit(Resource::Memlock).current, &value("/proc/sys/kernel/osrelease").unwrap_or_default(), options),
        hidden(value("/proc/self/mountinfo"), effective),
    ]
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn has(effective: u64, bit: u8) -> bool {
    // Until Linux 5.8 CAP_SYS_ADMIN was what CAP_BPF and CAP_PERFMON are now, and it still counts for both.
    effective >> bit & 1 == 1 || (bit >= 38 && effective >> SYS_ADMIN & 1 == 1)
}

/// Without a kernel half none is needed.
fn needed(effective: u64, options: &Options) -> Check {
    match options.bpf {
        None => Check::not_applicable(CAPABILITIES_CHECK.0, CAPABILITIES_CHECK.1, "none is needed without a kernel half"),
        Some(_) => capabilities(effective),
    }
}

/// Id and title.
const CAPABILITIES_CHECK: (&str, &str) = ("process.capabilities", "capabilities of this process");

fn capabilities(effective: u64) -> Check {
    let (id, title) = CAPABILITIES_CHECK;
    let missing: Vec<&Capability> = CAPABILITIES.iter().filter(|capability| !has(effective, capability.bit)).collect();
    if missing.is_empty() {
        return Check::ok(id, title, "all that are needed");
    }
    let state = if missing.iter().any(|capability| capability.need == Need::Required) { CheckStatus::Fail } else { CheckStatus::Warn };
    let list: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let names: Vec<&str> = missing.iter().map(|capability| capability.name).collect();
    Check::new(id, title, state, format!("without {}", list.join(", ")))
        .next(format!("run as root: sudo gnomon doctor; in a unit: AmbientCapabilities={}; in a container: add them", names.join(" ")))
}

/// PR_GET_SECCOMP(2const): 0 none, 1 strict, 2 a filter.
fn filter(mode: Option<&str>, options: &Options) -> Check {
    let (id, title) = ("process.seccomp", "system call filter");
    match mode {
        Some("0") => Check::ok(id, title, "none"),
        Some(_) if options.bpf == Some(Ok(())) => Check::ok(id, title, "there is one, and it lets bpf(2) pass"),
        Some("2") => Check::new(
            id,
            title,
            CheckStatus::Warn,
            "there is one; container runtimes' default refuses bpf(2) without CAP_BPF or CAP_SYS_ADMIN",
        )
        .next("add the capabilities to the container, or run it with seccomp=unconfined"),
        other => Check::not_applicable(id, title, format!("mode {}", other.unwrap_or("unknown"))),
    }
}

/// Since Linux 5.11 maps are counted against the memory of the cgroup and not against this limit. The
/// version serves to leave out advice that would be wrong, not to judge a feature.
fn memlock(limit: Option<u64>, release: &str, options: &Options) -> Check {
    let (id, title) = ("process.memlock", "limit of locked memory");
    let seen = limit.map_or("unlimited".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let counts = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (5, 11);
    if !counts || limit.is_none_or(|bytes| bytes >= MEMLOCK) || options.bpf.is_none() {
        return Check::ok(id, title, if counts { seen } else { format!("{seen}; this kernel does not count BPF maps against it") });
    }
    Check::new(id, title, CheckStatus::Warn, format!("{seen}; this kernel counts BPF maps against it"))
        .next("ulimit -l unlimited; in a unit: LimitMEMLOCK=infinity")
}

fn hidden(mounts: io::Result<String>, effective: u64) -> Check {
    let (id, title) = ("process.hidepid", "processes of others can be seen");
    let Ok(mounts) = mounts else { return Check::not_applicable(id, title, "the mounts cannot be read") };
    let options = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        (place.split(' ').nth(4) == Some("/proc") && kind.starts_with("proc ")).then(|| kind.rsplit(' ').next())?
    });
    let hidepid = options.and_then(|options| options.split(',').find_map(|option| option.strip_prefix("hidepid=")));
    match hidepid {
        None | Some("0" | "off") => Check::ok(id, title, "/proc shows all"),
        Some(mode) if has(effective, SYS_PTRACE) => Check::ok(id, title, format!("hidepid={mode}, which CAP_SYS_PTRACE sees through")),
        Some(mode) => Check::new(id, title, CheckStatus::Warn, format!("hidepid={mode}: processes of other users are taken for gone"))
            .next("give the sensor CAP_SYS_PTRACE, or the group that /proc is mounted with (gid=)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_only_what_is_required_fails() {
        let all = CAPABILITIES.iter().fold(0, |mask, capability| mask | 1 << capability.bit);
        assert_eq!(capabilities(all).state, CheckStatus::Ok);
        let none = capabilities(0);
        assert_eq!(none.state, CheckStatus::Fail);
        assert!(CAPABILITIES.iter().all(|capability| none.seen.contains(capability.name)));
        let blind = capabilities(all & !(1 << SYS_PTRACE));
        assert_eq!(blind.state, CheckStatus::Warn);
        assert!(blind.next.unwrap().contains("AmbientCapabilities=CAP_SYS_PTRACE;"));
        assert_eq!(capabilities(all & !(1 << 39) & !(1 << 38)).state, CheckStatus::Ok, "CAP_SYS_ADMIN stands for both");
        assert_eq!(capabilities(all & !(1 << 39) & !(1 << SYS_ADMIN)).state, CheckStatus::Fail);
    }

    #[test]
    fn without_a_kernel_half_no_right_is_asked_for() {
        assert_eq!(needed(0, &Options::default()).state, CheckStatus::NotApplicable);
        assert_eq!(needed(0, &Options { bpf: Some(Ok(())), ..Options::default() }).state, CheckStatus::Fail);
    }

    #[test]
    fn a_filter_is_no_matter_once_bpf_answered() {
        let tried = |bpf| Options { bpf, ..Options::default() };
        assert_eq!(filter(Some("0"), &tried(None)).state, CheckStatus::Ok);
        assert_eq!(filter(Some("2"), &tried(None)).state, CheckStatus::Warn);
        assert_eq!(filter(Some("2"), &tried(Some(Ok(())))).state, CheckStatus::Ok);
        assert_eq!(filter(None, &tried(None)).state, CheckStatus::NotApplicable);
    }

    #[test]
    fn locked_memory_is_a_matter_of_old_kernels_only() {
        let tried = Options { bpf: Some(Ok(())), ..Options::default() };
        assert_eq!(memlock(Some(64 << 10), "6.1.0-50-amd64", &tried).state, CheckStatus::Ok);
        assert_eq!(memlock(Some(64 << 10), "5.10.0-32-cloud-amd64", &tried).state, CheckStatus::Warn);
        assert_eq!(memlock(Some(MEMLOCK), "5.10.223", &tried).state, CheckStatus::Ok);
        assert_eq!(memlock(None, "5.10.223", &tried).state, CheckStatus::Ok);
    }

    #[test]
    fn hidden_processes_are_told_unless_we_see_them_anyway() {
        let mounts =
            |options: &str| Ok(format!("22 27 0:21 / /proc rw,relatime - proc proc {options}\n23 27 0:22 / /sys rw - sysfs sysfs rw\n"));
        assert_eq!(hidden(mounts("rw"), 0).state, CheckStatus::Ok);
        assert_eq!(hidden(mounts("rw,hidepid=off"), 0).state, CheckStatus::Ok);
        for mode in ["1", "2", "invisible", "ptraceable"] {
            assert_eq!(hidden(mounts(&format!("rw,gid=5,hidepid={mode}")), 0).state, CheckStatus::Warn, "{mode}");
            assert_eq!(hidden(mounts(&format!("rw,hidepid={mode}")), 1 << SYS_PTRACE).state, CheckStatus::Ok, "{mode}");
        }
    }
}
