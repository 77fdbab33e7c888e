//! Child processes that end with the test, and waiting for them.

pub use gnomon_testkit::{find as tool, skip as skipped};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A child that is killed and waited for when dropped.
pub struct Kept(pub Child);

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Deref for Kept {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

pub fn start(command: &mut Command) -> Kept {
    Kept(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Polls until another process has done something; generous, for a loaded machine.
pub fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "it did not happen within 20 s");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts a copy of sleep(1) under any name, and waits until it runs.
pub fn sleeper(path: &Path) -> Kept {
    std::fs::copy(std::fs::canonicalize(tool("sleep").unwrap()).unwrap(), path).unwrap();
    // A process forked by a parallel test may hold the copy open for writing for an instant (ETXTBSY).
    let child = eventually(|| Command::new(path).arg("600").spawn().ok());
    let child = Kept(child);
    wait_for_exec(&child, path);
    child
}

/// Waits until the program runs. The path of its executable changes a little earlier, while the kernel still loads it; until then the
/// address of its code (field 26 of proc_pid_stat(5)) is 0.
pub fn wait_for_exec(child: &Kept, executable: &Path) {
    let executable = std::fs::canonicalize(executable).unwrap();
    eventually(|| {
        let shown = std::fs::read_link(format!("/proc/{}/exe", child.id())).ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
        let code = stat.rsplit_once(')')?.1.split_whitespace().nth(26 - 3)?.to_owned();
        (shown == executable && code != "0").then_some(())
    });
}

/// The digest by sha256sum(1), an implementation other than ours.
pub fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg("--").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_start_matches('\\')[..64].to_owned()
}
