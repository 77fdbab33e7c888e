//! A running Debian system: its own systemd as process 1, its own network with nothing but loopback, and a cgroup of its own as the root of
//! its hierarchy, so that programs attached to "the whole host" in there are attached to that cgroup alone.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The longest that systemd may take to come up.
const BOOT: Duration = Duration::from_secs(120);
/// The longest that the test waits for anything else.
const PATIENCE: Duration = Duration::from_secs(60);
/// The interval at which it checks.
const LOOK: Duration = Duration::from_millis(200);

/// A running system. It is stopped, and its cgroup removed, when dropped.
#[derive(Debug)]
pub struct Guest {
    nspawn: Child,
    /// The process id of its process 1, on the host.
    leader: u32,
    cgroup: PathBuf,
}

impl Guest {
    /// Boots the root file system at `root`; `shared` is mounted in it as `/packages`.
    ///
    /// # Errors
    /// It does not come up.
    pub fn boot(root: &Path, shared: &Path) -> Result<Self> {
        let cgroup = cgroup2()?.join(format!("gnomon-package-{}", std::process::id()));
        fs::create_dir_all(&cgroup).with_context(|| format!("making {}", cgroup.display()))?;
        // The shell moves itself, and systemd stays in that cgroup. systemd must find cgroup v2 alone, also where the host has the v1
        // controllers beside it.
        let script = "echo $$ > \"$1/cgroup.procs\" && umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && \
                      exec setpriv --pdeathsig TERM systemd-nspawn --quiet --directory=\"$2\" --bind-ro=\"$3:/packages\" --machine=\"$4\" --boot \
                      --register=no --keep-unit --private-network --capability=all --system-call-filter=bpf --console=pipe";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&cgroup).arg(root).arg(shared);
        command.arg(format!("gnomon-package-{}", std::process::id()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let nspawn = command.spawn().context("starting systemd-nspawn")?;
        let mut guest = Self { nspawn, leader: 0, cgroup };
        let start = Instant::now();
        while !guest.is_up() {
            ensure!(guest.nspawn.try_wait()?.is_none(), "systemd-nspawn ended before the system was up");
            ensure!(start.elapsed() < BOOT, "the system is not up after {BOOT:?}");
            sleep(LOOK);
        }
        Ok(guest)
    }

    fn is_up(&mut self) -> bool {
        let id = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let Some(leader) = children.split_whitespace().next().and_then(|pid| pid.parse().ok()) else { return false };
        self.leader = leader;
        // A failed unit makes it `degraded`, which counts as up.
        self.enter(&["systemctl", "is-system-running"]).output().is_ok_and(|said| {
            let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            said == "running" || said == "degraded"
        })
    }

    fn enter(&self, program: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-u", "-i", "-n", "-p", "-C", "-t", &self.leader.to_string(), "--"]).args(program);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8");
        command.stdin(Stdio::null());
        command
    }

    /// Runs a shell script as a service of the system, so that its cgroup is one of that system's. Returns its output.
    ///
    /// # Errors
    /// The script fails; with its output.
    pub fn sh(&self, script: &str) -> Result<String> {
        let output = self
            .enter(&["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--setenv=DEBIAN_FRONTEND=noninteractive"])
            .args(["sh", "-euc", script])
            .output()
            .context("starting nsenter")?;
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("`{script}` ended with {}:\n{out}{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(out)
    }

    /// Runs a script until it succeeds.
    ///
    /// # Errors
    /// It does not succeed in time; with the system's journal.
    pub fn until(&self, script: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            match self.sh(script) {
                Ok(out) => return Ok(out),
                Err(_) if start.elapsed() < PATIENCE => sleep(LOOK),
                Err(error) => {
                    let journal = self.sh("journalctl --no-pager -n 20 -u gnomon -u gnomon-sensor").unwrap_or_default();
                    return Err(error.context(format!("waited {PATIENCE:?} in vain; the journal:\n{journal}")));
                }
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The second signal makes it stop at once.
        for _ in 0..2 {
            let _ = Command::new("kill").arg(self.nspawn.id().to_string()).status();
            sleep(LOOK);
        }
        let start = Instant::now();
        while matches!(self.nspawn.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(10) {
            sleep(LOOK);
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        // Kills what is left in its cgroup.
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let start = Instant::now();
        while self.cgroup.exists() && start.elapsed() < Duration::from_secs(5) {
            remove_below(&self.cgroup);
            sleep(LOOK);
        }
        if self.cgroup.exists() {
            let _ = writeln!(std::io::stderr(), "{} stays", self.cgroup.display());
        }
    }
}

/// Removes a cgroup and those below it, deepest first.
fn remove_below(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_below(&entry.path());
    }
    let _ = fs::remove_dir(folder);
}

/// The mount point of cgroup v2.
fn cgroup2() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let place = mounts.lines().map(|line| line.split(' ')).find_map(|mut fields| {
        let place = fields.nth(1)?;
        (fields.next() == Some("cgroup2")).then(|| PathBuf::from(place))
    });
    place.context("cgroup v2 is not mounted")
}
