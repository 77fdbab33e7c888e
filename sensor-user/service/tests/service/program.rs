//! This test binary as a program that joins.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use gnomon_link::{ExecEnd, Redirect, Text, ToExec, ToGnomon, VERSION};

use crate::stage::SOON;

/// What its answers begin with, to tell them from the lines of the test harness.
const SIGN: &str = "> ";

pub struct Program {
    child: Child,
    pub said: String,
}

impl Program {
    /// Joins as this user, from this cgroup.
    pub fn join(socket: &Path, cgroup: &Path, uid: u32, redirect: Redirect) -> Self {
        Self::start(&[], socket, cgroup, uid, redirect)
    }

    /// Joins as root from a network namespace of its own.
    pub fn join_elsewhere(socket: &Path, cgroup: &Path) -> Self {
        Self::start(&["unshare", "--net"], socket, cgroup, 0, Redirect::On)
    }

    fn start(before: &[&str], socket: &Path, cgroup: &Path, uid: u32, redirect: Redirect) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(cgroup).args(before).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "program::act", "--ignored", "--nocapture", "--test-threads=1"]);
        let redirect = if redirect == Redirect::On { "on" } else { "off" };
        command.env("GNOMON_TEST_SOCKET", socket).env("GNOMON_TEST_UID", uid.to_string()).env("GNOMON_TEST_REDIRECT", redirect);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said = lines.find_map(|line| line.strip_prefix(SIGN).map(str::to_owned)).unwrap();
        Self { child, said }
    }

    /// Starts it in a network namespace of its own, where it joins nothing.
    pub fn join_nowhere() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo up; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        Self { child, said }
    }

    /// Joins as root from the network namespace of a process.
    pub fn join_in(pid: u32, socket: &Path, cgroup: &Path) -> Self {
        Self::start(&["nsenter", &format!("--net=/proc/{pid}/ns/net")], socket, cgroup, 0, Redirect::On)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its cgroup, as the kernel says.
    pub fn cgroup(&self) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/cgroup", self.child.id())).unwrap();
        text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: the program's main function.
#[test]
#[ignore = "a role, not a test"]
fn act() {
    let Some(socket) = std::env::var_os("GNOMON_TEST_SOCKET") else { return };
    let uid: u32 = std::env::var("GNOMON_TEST_UID").unwrap().parse().unwrap();
    // SAFETY: changes the identity of this process, which was started for it.
    assert_eq!(unsafe { libc::setresuid(uid, uid, uid) }, 0);
    let redirect = if std::env::var("GNOMON_TEST_REDIRECT").unwrap() == "on" { Redirect::On } else { Redirect::Off };
    let channel = ExecEnd::connect(Path::new(&socket), SOON).unwrap();
    channel.send(&ToGnomon::Join { version: VERSION, argv0: Text::cut("test"), redirect }, &[], SOON).unwrap();
    match channel.recv(SOON).unwrap().message {
        ToExec::Joined { cgroup, bundle } => println!("\n{SIGN}joined {cgroup} {bundle:?}"),
        ToExec::Denied { why, detail, .. } => println!("\n{SIGN}denied {why:?}: {detail}"),
    }
    // Runs until it is killed.
    let _ = std::io::stdin().read(&mut [0]);
}
