//! `gnomon run` as root without options, as the README starts it, and the commands that find it without options either.
//!
//! To leave the host as it was, everything happens in a mount namespace with its own folders in the usual places, a network namespace where
//! the usual ports are free, and a cgroup namespace whose root is a cgroup of the test.

use crate::{
    caller::{Answer, Call, Caller, FILE},
    exec::GNOMON,
    loopback,
    sensor_stage::{kill, listen_in, needs, scrape, skip, status, until, within},
    support::cgroup::OwnCgroup,
};
use gnomon_host::cgroup::Hierarchy;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    fs::{self, File, Permissions},
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Mounts the folders, runs the test's shell commands, and becomes `gnomon run`.
const STAGE: &str = r#"
eval "$5"
umount "$2"
mount -t cgroup2 none "$2"
mount -t tmpfs none "$1/etc"
cp -a /etc/. "$1/etc/"
mount --bind "$1/etc" /etc
mount -t tmpfs none /var/lib
mount -t tmpfs none /run
grep -q ^gnomon: /etc/group || echo gnomon:x:64321: >>/etc/group
grep -q ^gnomon: /etc/passwd || echo gnomon:x:64321:64321::/nonexistent:/usr/sbin/nologin >>/etc/passwd
rm -rf /etc/gnomon
mkdir /etc/gnomon
eval "$3"
exec "$4" run
"#;

/// Namespaces that look like a freshly installed host.
struct NewHost {
    child: Child,
    dir: TempDir,
    cgroup: OwnCgroup,
}

impl NewHost {
    /// Starts gnomon there, after the shell commands in `before`.
    fn start(before: &str) -> Self {
        let mount = Hierarchy::find().unwrap().mount().to_owned();
        let cgroup = OwnCgroup::new();
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-ec", r#"echo 0 > "$0/cgroup.procs" && exec unshare --mount --net --cgroup --propagation private sh -ec "$@""#]);
        command.arg(&cgroup).arg(STAGE).arg("stage").arg(dir.path()).arg(&mount).arg(before).arg(GNOMON).arg(loopback::command());
        for name in ["GNOMON_CONFIG", "GNOMON_STATE_DIR", "GNOMON_SENSOR", "GNOMON_EXEC_SOCKET"] {
            command.env_remove(name);
        }
        let log = File::create(dir.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, dir, cgroup }
    }

    /// The same; waits until a sensor has joined.
    fn watched(before: &str) -> Self {
        let mut host = Self::start(before);
        until("the sensor to be joined", || {
            assert!(host.child.try_wait().unwrap().is_none(), "gnomon ended: {}", host.log());
            let scraped = within(&host.netns(), || scrape(([127, 0, 0, 1], 9464).into()));
            scraped.contains("gnomon_sensor_up 1\n").then_some(())
        });
        host
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.child.id()).into()
    }

    /// Runs a program in those namespaces.
    fn run(&self, program: &[&str]) -> Output {
        let enter = r#"echo 0 > "$0/cgroup.procs" && exec nsenter --target "$1" --mount --net --cgroup --wd=/ -- "${@:2}""#;
        let mut command = Command::new("bash");
        command.args(["-ec", enter]).arg(&self.cgroup).arg(self.child.id().to_string()).args(program);
        for name in ["GNOMON_CONFIG", "GNOMON_STATE_DIR", "GNOMON_SENSOR", "GNOMON_EXEC_SOCKET", "SUDO_UID"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// How a gnomon that does not start ends: exit code and log.
    fn failed(before: &str) -> (Option<i32>, String) {
        let mut host = Self::start(before);
        let code = until("gnomon to end", || host.child.try_wait().unwrap()).code();
        (code, host.log())
    }

    fn gnomon(&self, arguments: &[&str]) -> Output {
        self.run(&[&[GNOMON], arguments].concat())
    }

    /// A server on a loopback address in there that gives every request the same answer.
    fn server(&self) -> SocketAddr {
        let listener = listen_in(&self.netns(), "127.0.0.2:0");
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let _ = stream.read(&mut [0; 4096]);
                let body = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"done"}]}}"#;
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
                let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
            }
        });
        address
    }

    /// Calls a tool of that server from a program under `gnomon exec`. Returns the answer.
    fn call(&self, server: SocketAddr, tool: &str) -> String {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#);
        let program = Caller::new();
        let words = program.words(FILE, &Call::new(server, "/mcp", body));
        let words: Vec<&str> = ["exec", "--"].into_iter().chain(words.iter().map(String::as_str)).collect();
        let output = self.gnomon(&words);
        Answer::of(&output).unwrap_or_else(|| panic!("{output:?}\n{}", self.log())).body
    }

    /// The event of a call, from `gnomon events`.
    fn event(&self, tool: &str) -> Value {
        until("the event", || {
            let output = self.gnomon(&["events", "--json"]);
            let events = String::from_utf8(output.stdout).unwrap();
            let event = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            event.into_iter().find(|event| event["gen_ai.tool.name"] == tool)
        })
    }
}

impl Drop for NewHost {
    fn drop(&mut self) {
        kill(self.child.id(), Signal::TERM);
        let end = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait().unwrap().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether such namespaces can be made here; reports a skip if not.
fn possible(test: &str) -> bool {
    if !needs(test) {
        return false;
    }
    let tried = Command::new("unshare").args(["--mount", "--net", "--cgroup", "true"]).output();
    if tried.is_ok_and(|output| output.status.success()) {
        return true;
    }
    skip(test, "namespaces of mounts, network and cgroups cannot be made here");
    false
}

#[test]
fn without_options_events_exec_and_doctor_find_the_gnomon_of_root() {
    if !possible("without_options_events_exec_and_doctor_find_the_gnomon_of_root") {
        return;
    }
    let host = NewHost::watched("");
    let called = host.call(host.server(), "default_tool");
    assert!(called.contains("done"), "{called}");
    let event = host.event("default_tool");
    assert_eq!(event["gnomon.correlation"], json!("owner"), "{event:#}");
    assert!(event["process.executable.path"].as_str().is_some_and(|path| path.ends_with(FILE)), "{event:#}");
    let doctor = host.gnomon(&["doctor", "--json"]);
    let checks: Vec<Value> = serde_json::from_slice(&doctor.stdout).unwrap();
    println!("{checks:#?}");
    assert!(doctor.status.success(), "{checks:#?}");
    // Regression: the serving process, which does not run as root, looked for a state folder of its own.
    let kept = host.run(&["stat", "-c", "%U", "/var/lib/gnomon/ca.key", "/var/lib/gnomon/ledger.sqlite"]);
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "gnomon\ngnomon\n", "{kept:?}");
    assert!(status(host.child.id(), "Name").is_some());
}

/// Shell commands that write a rule which blocks calls of this tool.
fn block(tool: &str) -> String {
    let rule = crate::support::rules::block(1, &format!("gen_ai.tool.name: {tool}")).text;
    format!("cat >/etc/gnomon/own.new <<'END'\n{rule}\nEND\nmv /etc/gnomon/own.new /etc/gnomon/rules.d/own.yml\n")
}

#[test]
fn what_root_keeps_to_itself_is_named_with_the_command_that_opens_it() {
    if !possible("what_root_keeps_to_itself_is_named_with_the_command_that_opens_it") {
        return;
    }
    let config = "mkdir /etc/gnomon/rules.d; echo 'rules: { dirs: [rules.d] }' >/etc/gnomon/gnomon.yml; touch /etc/gnomon/rules.d/a.yml\n";
    let fix = |path: &str, rights: &str| format!("as root: chgrp gnomon {path} && chmod {rights} {path}\n");
    for (close, path, rights) in [
        ("chmod 0600 /etc/gnomon/gnomon.yml", "/etc/gnomon/gnomon.yml", "g+r"),
        ("chmod 0700 /etc/gnomon", "/etc/gnomon", "g+x"),
        ("chmod 0700 /etc/gnomon/rules.d", "/etc/gnomon/rules.d", "g+rx"),
        ("chmod 0600 /etc/gnomon/rules.d/a.yml", "/etc/gnomon/rules.d/a.yml", "g+r"),
        (
            "echo 'proxy: { upstream_ca: [ca.pem] }' >/etc/gnomon/gnomon.yml; touch /etc/gnomon/ca.pem; chmod 0600 /etc/gnomon/ca.pem",
            "/etc/gnomon/ca.pem",
            "g+r",
        ),
        (
            "echo 'proxy: { users: [{ name: a, password: \"file:pw\" }] }' >/etc/gnomon/gnomon.yml; echo secret >/etc/gnomon/pw; chmod 0600 /etc/gnomon/pw",
            "/etc/gnomon/pw",
            "g+r",
        ),
    ] {
        let (code, log) = NewHost::failed(&format!("{config}{close}"));
        assert!(code == Some(3) && log.contains(path) && (log + "\n").contains(&fix(path, rights)), "{close}: {code:?}");
    }
}

#[test]
fn with_the_group_of_gnomon_on_them_configuration_and_rules_are_read_and_reloaded() {
    if !possible("with_the_group_of_gnomon_on_them_configuration_and_rules_are_read_and_reloaded") {
        return;
    }
    let before = format!(
        "(umask 077; mkdir /etc/gnomon/rules.d; echo 'rules: {{ dirs: [rules.d] }}' >/etc/gnomon/gnomon.yml\n{})\n\
         chgrp -R gnomon /etc/gnomon && chmod -R g+rX /etc/gnomon",
        block("first_tool")
    );
    let host = NewHost::watched(&before);
    let server = host.server();
    let refused = |tool: &str| host.call(server, tool).contains("\"isError\":true");
    assert!(refused("first_tool") && !refused("second_tool"));
    // A file that only root can read: the old rules stay in force, and the log says what to do.
    assert!(host.run(&["sh", "-ec", &format!("umask 077; {}", block("second_tool"))]).status.success());
    kill(host.child.id(), Signal::HUP);
    until("the refusal", || host.log().contains("chgrp gnomon /etc/gnomon/rules.d/own.yml && chmod g+r").then_some(()));
    assert!(refused("first_tool") && !refused("second_tool"), "{}", host.log());
    assert!(host.run(&["sh", "-ec", "chgrp gnomon /etc/gnomon/rules.d/own.yml && chmod g+r /etc/gnomon/rules.d/own.yml"]).status.success());
    kill(host.child.id(), Signal::HUP);
    until("the reload", || (!refused("first_tool") && refused("second_tool")).then_some(()));
}
