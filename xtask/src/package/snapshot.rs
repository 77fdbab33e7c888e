//! What a package could leave behind on a host, recorded so that before and after can be compared.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::guest::Guest;

/// Each part: its name, and a script that prints it, one line for each thing and in any order. What every package changes is left out: the
/// records of dpkg and apt, logs, caches, and the backup copies that passwd(5) tools make.
const PARTS: [(&str, &str); 9] = [
    (
        "files",
        "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /packages -o -path /var/log \
         -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/systemd -o -path /var/tmp \
         -o -path /root \\) -prune -o -type f ! -path '/etc/*-' ! -name .pwd.lock ! -path /etc/ld.so.cache -printf '%m %u:%g %p\\n' -exec sha256sum {} + \
         -o \\( -type d -o -type l \\) -printf '%y %m %u:%g %p %l\\n'",
    ),
    (
        "files with our name",
        "find / -xdev \\( -path /proc -o -path /sys -o -path /var/log -o -path /packages \\) -prune -o -name '*gnomon*' -print",
    ),
    ("files at run time", "find /run -xdev -name '*gnomon*' -print"),
    ("users and groups", "getent passwd; getent group; cut -d: -f1 /etc/shadow; cut -d: -f1 /etc/gshadow"),
    ("mounts", "cut -d' ' -f4- /proc/1/mountinfo | grep -v ' /run/credentials'"),
    ("programs on cgroups", "bpftool cgroup show /sys/fs/cgroup effective; bpftool cgroup tree | grep -F gn_ || true"),
    ("authorities", "sha256sum /etc/ssl/certs/ca-certificates.crt; ls /etc/ssl/certs /usr/local/share/ca-certificates"),
    (
        "units",
        "systemctl list-unit-files --no-legend | grep -v '^run-'; systemctl list-units --failed --plain --no-legend; ls /sys/fs/cgroup | grep gnomon || true",
    ),
    ("listeners", "ss -Hltnx | awk '{print $1, $5}' | grep -v /run/systemd"),
];

/// The lines of each part.
#[derive(Debug)]
pub struct Snapshot(Vec<(&'static str, BTreeSet<String>)>);

impl Snapshot {
    /// # Errors
    /// A part cannot be read.
    pub fn take(guest: &Guest) -> Result<Self> {
        let look = |(name, script)| Ok((name, guest.sh(script)?.lines().map(str::to_owned).collect()));
        Ok(Self(PARTS.into_iter().map(look).collect::<Result<_>>()?))
    }

    /// # Errors
    /// The differences, line by line.
    pub fn must_be(&self, before: &Self) -> Result<()> {
        let mut told = Vec::new();
        for ((name, now), (_, then)) in self.0.iter().zip(&before.0) {
            told.extend(now.difference(then).map(|line| format!("{name}: left behind: {line}")));
            told.extend(then.difference(now).map(|line| format!("{name}: gone: {line}")));
        }
        ensure!(told.is_empty(), "the host is not as it was before:\n{}", told.join("\n"));
        Ok(())
    }
}
