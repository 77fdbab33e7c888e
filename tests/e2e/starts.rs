//! Local MCP servers that are started on the host, found by real programs' starts.

use crate::sensor_stage::{Host, needs, until};
use gnomon_testkit::has;
use serde_json::Value;
use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::fd::OwnedFd,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// A server that waits for what its client never says.
const WAITS: &str = "#!/bin/sh\nread line\n";

/// Programs in a folder that everybody may read.
struct Programs(TempDir);

impl Programs {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A copy of a program under another name.
    fn copy(&self, of: &str, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::copy(of, &path).unwrap();
        path
    }
}

/// A program in the cgroup that is looked at, ended when dropped.
struct Running(Child);

impl Running {
    /// Runs these words, in this folder.
    fn start(host: &Host, folder: &Path, words: &[&str]) -> Self {
        Self::start_with(host, folder, words, Stdio::piped())
    }

    fn start_with(host: &Host, folder: &Path, words: &[&str], input: Stdio) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(&*host.cgroup).args(words).current_dir(folder);
        let child = command.stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // With all that it has started.
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

fn starts(host: &Host) -> Vec<Value> {
    let events = host.events();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["gnomon.channel"] == "process").collect()
}

/// The event of this server, once it is there.
fn start_of(host: &Host, server: &str) -> Value {
    until(server, || starts(host).into_iter().find(|event| event["gnomon.local.server"] == server))
}

fn counted(host: &Host, begins: &str) -> u64 {
    let page = host.scrape();
    let of = page.lines().filter(|line| line.starts_with(begins)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    of.sum::<f64>() as u64
}

#[test]
fn a_server_that_a_real_runner_starts_below_an_agent_is_one_event_and_in_the_inventory_with_who_has_it() {
    if !needs("starts npx") {
        return;
    }
    if !has("starts npx", &["npm"]) {
        return;
    }
    let programs = Programs::new();
    programs.script("node_modules/mcp-server-local/package.json", r#"{"name":"mcp-server-local","version":"1.0.0","bin":"index.js"}"#);
    programs.script("node_modules/mcp-server-local/index.js", "#!/usr/bin/env node\nsetTimeout(() => {}, 60000);\n");
    fs::create_dir_all(programs.0.path().join("node_modules/.bin")).unwrap();
    std::os::unix::fs::symlink("../mcp-server-local/index.js", programs.0.path().join("node_modules/.bin/mcp-server-local")).unwrap();
    let agent = programs.copy("/bin/sh", "claude");
    let host = Host::start();
    let words = [agent.to_str().unwrap(), "-c", "npx --no -- mcp-server-local; true"];
    let _running = Running::start(&host, programs.0.path(), &words);
    let event = start_of(&host, "pkg:npm/mcp-server-local");
    for (field, value) in [
        ("package.ecosystem", "npm"),
        ("package.name", "mcp-server-local"),
        ("gnomon.package.runner", "npx"),
        ("gnomon.agent", "Claude Code"),
        ("gnomon.local.known_by", "name"),
        ("gnomon.confidence", "suspected"),
        ("user.id", "0"),
        ("gnomon.process.identity", "confirmed"),
        ("gnomon.action", "log"),
        ("rule.level", "low"),
    ] {
        assert_eq!(event[field], value, "{field}: {event:#}");
    }
    assert_eq!(event["gnomon.package.pinned"], false, "{event:#}");
    assert!(event["process.executable.hash.sha256"].as_str().is_some_and(|hash| hash.len() == 64), "{event:#}");
    assert!(event["process.ancestors"].as_array().unwrap().iter().any(|path| path == agent.to_str().unwrap()), "{event:#}");
    // The server itself has started by the time that its process was looked at and found to be a part.
    until("the server's own process", || (counted(&host, r#"gnomon_process_starts_total{outcome="part"}"#) >= 1).then_some(()));
    assert_eq!(starts(&host).len(), 1, "{:#?}", starts(&host));

    let inventory = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
        let output = command.arg("inventory").args(arguments).arg("--state-dir").arg(host.state.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(inventory(&["--local"]).contains("pkg:npm/mcp-server-local of root"), "{}", inventory(&[]));
    let json: Value = serde_json::from_str(&inventory(&["--json", "--user", "root"])).unwrap();
    assert_eq!(
        (&json[0]["users"][0], &json[0]["clients"][0], &json[0]["channel"]),
        (&"root".into(), &"Claude Code".into(), &"process".into())
    );
    assert_eq!(serde_json::from_str::<Value>(&inventory(&["--json", "--user", "ada"])).unwrap(), Value::Array(Vec::new()));
}

#[test]
fn a_command_that_is_not_there_is_no_server_and_what_env_starts_is_told_as_itself() {
    if !needs("starts passed on") {
        return;
    }
    let programs = Programs::new();
    let server = programs.script("mcp-behind-env", WAITS);
    let host = Host::start();
    for _ in 0..5 {
        let mut gone = Running::start(&host, Path::new("/"), &["/bin/sh", "-c", "mcp-nothere"]);
        gone.0.wait().unwrap();
    }
    let running = Running::start(&host, Path::new("/"), &["env", "X=1", "/bin/sh", server.to_str().unwrap()]);
    let event = start_of(&host, &format!("file:{}", server.display()));
    assert_eq!((&event["process.pid"], &event["process.parent.pid"]), (&running.0.id().into(), &std::process::id().into()), "{event:#}");
    let shell = fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(event["process.executable.path"], shell.to_str().unwrap(), "{event:#}");
    assert_eq!(starts(&host), [event]);
}

#[test]
fn a_server_that_opens_a_port_is_told_with_its_address_and_one_for_others_than_this_host_as_a_finding() {
    if !needs("starts that listen") {
        return;
    }
    let programs = Programs::new();
    // What it starts has the port as well.
    let server = |name: &str| programs.script(name, "#!/bin/sh\nsleep 600\ntrue\n");
    let (own, exposed) = (server("mcp-own"), server("mcp-exposed"));
    let host = Host::start();
    for (server, address, level) in [(&own, "127.0.0.1:0", "informational"), (&exposed, "0.0.0.0:0", "medium")] {
        let listener = TcpListener::bind(address).unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let _running = Running::start_with(&host, Path::new("/"), &[server.to_str().unwrap()], OwnedFd::from(listener).into());
        let name = format!("file:{}", server.display());
        let told =
            || starts(&host).into_iter().find(|event| event["gnomon.local.server"] == *name && !event["gnomon.local.listens"].is_null());
        let event = until("where it listens", told);
        assert_eq!((&event["gnomon.local.listens"], &event["rule.level"]), (&Value::from(vec![at]), &level.into()), "{event:#}");
        assert_eq!(event["gnomon.local.exposed"], level == "medium", "{event:#}");
        assert_eq!((&event["gnomon.vantage"], &event["user.id"]), (&"listener".into(), &"0".into()), "{event:#}");
    }
    assert_eq!(starts(&host).len(), 4, "each start and each address once: {:#?}", starts(&host));
}

#[test]
fn arguments_that_a_program_writes_over_after_they_were_read_are_told_as_they_were() {
    if !needs("starts rewritten") {
        return;
    }
    let programs = Programs::new();
    let liar = programs.script("mcp-liar", "#!/usr/bin/perl\n<STDIN>; $0 = 'innocent'; sleep 60;\n");
    let host = Host::start();
    let mut running = Running::start(&host, Path::new("/"), &[liar.to_str().unwrap(), "--quietly"]);
    let server = format!("file:{}", liar.display());
    let event = start_of(&host, &server);
    assert_eq!(event["process.pid"], running.0.id(), "{event:#}");
    assert!(event["process.command_line"].as_str().unwrap().ends_with("mcp-liar --quietly"), "{event:#}");
    running.0.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let arguments = format!("/proc/{}/cmdline", running.0.id());
    until("the arguments to be written over", || fs::read(&arguments).unwrap().starts_with(b"innocent").then_some(()));
    assert_eq!(starts(&host), [event]);
}

/// They are read from the process, some milliseconds after it began, so whoever is faster hides them. The file is the kernel's word.
#[test]
fn a_program_that_hides_its_arguments_at_once_is_told_by_its_file() {
    if !needs("starts hidden") {
        return;
    }
    let programs = Programs::new();
    let host = Host::start();
    let at_once = programs.script("mcp-at-once", "#!/usr/bin/perl\n$0 = 'innocent'; sleep 60;\n");
    let running = Running::start(&host, Path::new("/"), &[at_once.to_str().unwrap(), "--quietly"]);
    let (read, hidden) = (Value::from(format!("file:{}", at_once.display())), Value::from("file:mcp-at-once"));
    let event = until("the script", || starts(&host).into_iter().find(|event| [&read, &hidden].contains(&&event["gnomon.local.server"])));
    assert_eq!(event["process.pid"], running.0.id(), "{event:#}");
    let begins = if event["gnomon.local.server"] == read { "/usr/bin/perl " } else { "innocent" };
    assert!(event["process.command_line"].as_str().unwrap().starts_with(begins), "{event:#}");

    let before = programs.copy("/bin/sh", "mcp-before");
    let forged = r#"exec -a innocent "$0" -s"#;
    let running = Running::start(&host, Path::new("/"), &["bash", "-c", forged, before.to_str().unwrap()]);
    let event = start_of(&host, &format!("file:{}", before.display()));
    assert_eq!((&event["process.pid"], &event["process.command_line"]), (&running.0.id().into(), &"innocent -s".into()), "{event:#}");
    assert_eq!(event["gnomon.local.known_by"], "name", "{event:#}");
}

#[test]
fn a_package_that_is_only_claimed_stands_beside_the_file_and_the_digest_of_what_runs() {
    if !needs("starts forged") {
        return;
    }
    let host = Host::start();
    // A shell takes `-s --` as well, and waits for a line.
    let forged = r#"exec -a npx /bin/sh -s -- "$0""#;
    let package = "@modelcontextprotocol/server-filesystem@2025.8.21";
    let _running = Running::start(&host, Path::new("/"), &["bash", "-c", forged, package]);
    let event = start_of(&host, "pkg:npm/@modelcontextprotocol/server-filesystem");
    let shell = fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(event["process.executable.path"], shell.to_str().unwrap(), "{event:#}");
    let sum = Command::new("sha256sum").arg(&shell).output().unwrap().stdout;
    assert_eq!(event["process.executable.hash.sha256"], String::from_utf8(sum).unwrap().split(' ').next().unwrap(), "{event:#}");
    assert_eq!((&event["package.version"], &event["gnomon.package.pinned"]), (&"2025.8.21".into(), &true.into()), "{event:#}");
}

#[test]
fn thousands_of_starts_are_each_accounted_for_and_a_server_among_them_is_found() {
    if !needs("starts flood") {
        return;
    }
    let programs = Programs::new();
    let server = programs.script("mcp-among-many", WAITS);
    let host = Host::start();
    let script = "i=0; while [ $i -lt 3000 ]; do /bin/true; i=$((i+1)); done; exec cat";
    let _flood = Running::start(&host, Path::new("/"), &["/bin/sh", "-c", script]);
    let _server = Running::start(&host, Path::new("/"), &[server.to_str().unwrap()]);
    start_of(&host, &format!("file:{}", server.display()));
    let of_kernel = |outcome: &str| counted(&host, &format!(r#"gnomon_sensor_events_total{{outcome="{outcome}",program="gn_exec"}}"#));
    // The counters of the kernel half are read every five seconds.
    until("all starts to be counted", || (of_kernel("delivered") >= 3_003).then_some(()));
    until("the counts to be equal", || (counted(&host, "gnomon_process_starts_total") == of_kernel("delivered")).then_some(()));
    assert_eq!((of_kernel("dropped_ring_full"), of_kernel("dropped_table_full")), (0, 0), "{}", host.scrape());
}

#[test]
fn nothing_is_reported_where_the_configuration_says_so_nor_of_cgroups_that_are_not_looked_at() {
    if !needs("starts off") {
        return;
    }
    let programs = Programs::new();
    let server = programs.script("mcp-unseen", WAITS);
    let config = programs.script("gnomon.yml", "sensor: {starts: off}\n");
    let host = Host::start_with(&["--config", config.to_str().unwrap()]);
    until("the sensor to be joined", || host.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
    let _running = Running::start(&host, Path::new("/"), &[server.to_str().unwrap()]);
    until("starts to be counted", || {
        (counted(&host, r#"gnomon_sensor_events_total{outcome="filtered",program="gn_exec"}"#) > 2).then_some(())
    });
    assert_eq!(counted(&host, "gnomon_process_starts_total"), 0);
    drop(host);

    let host = Host::start();
    let mut elsewhere = Command::new(&server).stdin(Stdio::piped()).spawn().unwrap();
    let seen = programs.script("mcp-seen", WAITS);
    let _running = Running::start(&host, Path::new("/"), &[seen.to_str().unwrap()]);
    start_of(&host, &format!("file:{}", seen.display()));
    assert_eq!(starts(&host).len(), 1, "{:#?}", starts(&host));
    elsewhere.kill().unwrap();
    elsewhere.wait().unwrap();
}
