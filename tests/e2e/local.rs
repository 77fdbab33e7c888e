//! What the configuration files of clients list, for the users of a host.

use crate::{
    sensor_stage::{free_port, kill, needs, scrape, until},
    support::cgroup::OwnCgroup,
};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const TOKEN: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

/// An account in a copy of `/etc/passwd`, which a mount namespace of the command's own puts in the place of the host's.
fn gnomon(passwd: &std::path::Path, arguments: &str) -> Output {
    let script = format!("mount --bind {} /etc/passwd && exec {} {arguments}", passwd.display(), env!("CARGO_BIN_EXE_gnomon"));
    Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap()
}

#[test]
fn root_sees_the_servers_of_all_users_and_no_secret_of_theirs() {
    if !rustix::process::geteuid().is_root() {
        return gnomon_testkit::skip("root_sees_the_servers_of_all_users_and_no_secret_of_theirs", "needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut passwd = "root:x:0:0::/:/bin/sh\n".to_owned();
    for (name, uid) in [("ada", 31_001), ("bob", 31_002)] {
        let home = dir.path().join(name);
        for (file, text) in [
            (
                ".cursor/mcp.json",
                format!(
                    r#"{{"mcpServers":{{"hub":{{"command":"npx","args":["-y","server-of-{name}"],"env":{{"GITHUB_TOKEN":"{TOKEN}"}}}}}}}}"#
                ),
            ),
            (".codex/config.toml", "[mcp_servers.docs]\nurl = 'http://docs.example/mcp?key=abcdefgh'\n".to_owned()),
        ] {
            let path = home.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&path, Some(uid), Some(uid)).unwrap();
            chown(path.parent().unwrap(), Some(uid), Some(uid)).unwrap();
        }
        chown(&home, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        passwd.push_str(&format!("{name}:x:{uid}:{uid}::{}:/bin/sh\n", home.display()));
    }
    // Of another's file nobody's reader tells anything.
    symlink(dir.path().join("bob/.cursor/mcp.json"), dir.path().join("ada/.claude.json")).unwrap();
    let file = dir.path().join("passwd");
    fs::write(&file, passwd).unwrap();

    let output = gnomon(&file, "local list");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    for expected in [
        "ada  Cursor  ",
        "npx server-of-ada; not pinned; secret in env.GITHUB_TOKEN (github-token)",
        "npx server-of-bob",
        "http://docs.example/mcp; without encryption",
        "could not be read: it leads out of the home directory",
        "4 servers in 5 files of 2 users",
    ] {
        assert!(said.contains(expected), "{expected}: {said}{errors}");
    }
    assert!(!said.contains(&TOKEN[4..]) && !said.contains("abcdefgh"), "{said}");

    let json: Value = serde_json::from_slice(&gnomon(&file, "local list --json --user bob --secrets").stdout).unwrap();
    assert_eq!((json.as_array().unwrap().len(), &json[0]["name"]), (1, &"bob".into()), "{json}");
    assert_eq!(json[0]["files"][0]["servers"][0]["reached"]["stdio"]["name"], "server-of-bob", "{json}");
    assert!(!json.to_string().contains(&TOKEN[4..]), "{json}");

    let unknown = gnomon(&file, "local list --user nobody-of-this-name");
    assert_eq!(unknown.status.code(), Some(2));
}

/// A gnomon with accounts of its own, whose homes it reads.
struct Reading {
    child: std::process::Child,
    state: std::path::PathBuf,
    arguments: Vec<String>,
    passwd: std::path::PathBuf,
    log: std::path::PathBuf,
    run: std::path::PathBuf,
    metrics: std::net::SocketAddr,
    _cgroup: OwnCgroup,
}

impl Reading {
    fn start(dir: &std::path::Path) -> Self {
        let cgroup = OwnCgroup::new();
        let run = std::path::Path::new("/run").join(cgroup.file_name().unwrap());
        let (state, passwd, log, config) = (dir.join("state"), dir.join("passwd"), dir.join("log"), dir.join("gnomon.yml"));
        let metrics = free_port();
        fs::write(&config, format!("sensor: {{homes: always}}\nmetrics: {{listen: '{metrics}'}}\n")).unwrap();
        let text = |path: &std::path::Path| path.display().to_string();
        let listen = free_port().to_string();
        let arguments = ["run", "--config", &text(&config), "--state-dir", &text(&state), "--sensor", &text(&cgroup), "--listen", &listen];
        let mut arguments = arguments.map(str::to_owned).to_vec();
        arguments.extend(["--exec-socket".to_owned(), text(&run.join("exec.sock"))]);
        let child = Self::spawn(&arguments, &passwd, &log);
        Self { child, state, arguments, passwd, log, run, metrics, _cgroup: cgroup }
    }

    fn spawn(arguments: &[String], passwd: &std::path::Path, log: &std::path::Path) -> std::process::Child {
        let script = r#"mount --bind "$0" /etc/passwd && exec "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(passwd).arg(env!("CARGO_BIN_EXE_gnomon")).args(arguments);
        let log = fs::File::options().append(true).create(true).open(log).unwrap();
        command.stdout(std::process::Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn stop(&mut self) {
        kill(self.child.id(), rustix::process::Signal::TERM);
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.stop();
        self.child = Self::spawn(&self.arguments, &self.passwd, &self.log);
    }

    fn said(&self, command: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_gnomon")).args(command).arg("--state-dir").arg(&self.state).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Events of configuration files, once there are so many.
    fn told(&self, many: usize) -> Vec<Value> {
        until("what files list to be told", || {
            let events = self.said(&["events", "--json"]);
            let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let told: Vec<Value> = events.into_iter().filter(|event| event["gnomon.channel"] == "config").collect();
            if told.len() < many {
                // Each look is a process, and what is waited for needs the processor as well.
                thread::sleep(Duration::from_millis(100));
                return None;
            }
            Some(told)
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.run);
    }
}

/// Writes a file of a user's, below their home.
/// The reader's addresses are limited: its stack must grow all the same.
#[test]
fn a_skill_of_many_and_deep_folders_hides_nothing_of_its_home() {
    if !rustix::process::geteuid().is_root() {
        return gnomon_testkit::skip("a_skill_of_many_and_deep_folders_hides_nothing_of_its_home", "needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let ada = dir.path().join("ada");
    own(&ada, 31_001, ".cursor/mcp.json", r#"{"mcpServers":{"hub":{"command":"npx","args":["-y","server-of-ada"]}}}"#);
    own(&ada, 31_001, ".claude/skills/big/SKILL.md", "Read it all.");
    let big = ada.join(".claude/skills/big");
    for folder in 0..3000 {
        let folder = big.join(format!("d{}/s{}", folder / 50, folder % 50));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("f"), "x".repeat(2000)).unwrap();
    }
    fs::create_dir_all((0..30).fold(big, |path, _| path.join("x"))).unwrap();
    fs::write(dir.path().join("passwd"), format!("ada:x:31001:31001::{}:/bin/sh\n", ada.display())).unwrap();
    let listed = gnomon(&dir.path().join("passwd"), "local list");
    let said = String::from_utf8_lossy(&listed.stdout);
    assert!(said.contains("npx server-of-ada") && said.contains("skill big  sha256:"), "{said}{}", String::from_utf8_lossy(&listed.stderr));
}

fn own(home: &std::path::Path, uid: u32, file: &str, text: &str) {
    let path = home.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    for path in path.ancestors().take_while(|path| path.starts_with(home)) {
        chown(path, Some(uid), Some(uid)).unwrap();
    }
}

#[test]
fn what_files_in_homes_list_is_told_when_it_comes_changes_and_goes_and_is_in_the_inventory_without_secrets() {
    if !needs("homes") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (ada, bob) = (dir.path().join("ada"), dir.path().join("bob"));
    let entry = |name: &str, package: &str, token: &str| {
        format!(r#"{{"mcpServers":{{"{name}":{{"command":"npx","args":["-y","{package}"],"env":{{"GITHUB_TOKEN":"{token}"}}}}}}}}"#)
    };
    own(&ada, 31_001, ".cursor/mcp.json", &entry("hub", "server-hub", TOKEN));
    own(&bob, 31_002, ".cursor/mcp.json", &entry("hub", "server-hub", "${TOKEN}"));
    own(&bob, 31_002, ".codex/config.toml", "[mcp_servers.docs]\nurl = 'http://docs.example/mcp?key=abcdefgh'\n");
    // What is hostile in one home keeps nobody else's from being told.
    assert!(Command::new("mkfifo").arg(ada.join(".claude.json")).status().unwrap().success());
    for home in [&ada, &bob] {
        fs::set_permissions(home, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let line = |name: &str, uid: u32, home: &std::path::Path| format!("{name}:x:{uid}:{uid}::{}:/bin/sh\n", home.display());
    let passwd = format!("root:x:0:0::/nonexistent:/bin/sh\n{}{}", line("ada", 31_001, &ada), line("bob", 31_002, &bob));
    fs::write(dir.path().join("passwd"), passwd).unwrap();

    let mut gnomon = Reading::start(dir.path());
    // Of each entry one, of its secret and of what is not encrypted another, and of the pipe one.
    let told = gnomon.told(6);
    let text = serde_json::to_string(&told).unwrap();
    assert!(!text.contains(&TOKEN[4..]) && !text.contains("abcdefgh"), "{text}");
    let of = |told: &[Value], rule: &str| -> Vec<Value> { told.iter().filter(|event| event["rule.name"] == rule).cloned().collect() };
    assert_eq!(of(&told, "MCP server in the configuration of a client").len(), 3, "{told:#?}");
    let secret = of(&told, "Secret in the configuration of an MCP client");
    assert_eq!(
        (secret.len(), &secret[0]["user.name"], &secret[0]["gnomon.config.secrets"][0]),
        (1, &"ada".into(), &"env.GITHUB_TOKEN github-token".into())
    );
    let file = bob.join(".codex/config.toml");
    let listed = told.iter().find(|event| event["gnomon.config.path"] == file.to_str().unwrap()).unwrap();
    assert_eq!((&listed["gnomon.config.client"], &listed["gnomon.config.entry"]), (&"Codex".into(), &"docs".into()), "{listed:#}");
    let plain = of(&told, "MCP server without encryption in the configuration of a client");
    assert_eq!(
        (&plain[0]["server.address"], &plain[0]["url.full"]),
        (&"docs.example".into(), &"http://docs.example/mcp".into()),
        "{plain:#?}"
    );
    assert!(
        told.iter().any(|event| event["gnomon.config.change"] == "unread" && event["message"] == "it is not a regular file"),
        "{told:#?}"
    );

    let inventory: Value = serde_json::from_str(&gnomon.said(&["inventory", "--json", "--local"])).unwrap();
    assert_eq!((&inventory[0]["address"], &inventory[0]["channel"]), (&"pkg:npm/server-hub".into(), &"config".into()), "{inventory:#}");
    assert_eq!((&inventory[0]["users"], &inventory[0]["clients"]), (&serde_json::json!(["ada", "bob"]), &serde_json::json!(["Cursor"])));

    // Only what is another is told, after a restart too.
    own(&ada, 31_001, ".cursor/mcp.json", &entry("hub", "server-hub@1.2.3", "${TOKEN}"));
    fs::remove_file(bob.join(".codex/config.toml")).unwrap();
    gnomon.start_again();
    let after = gnomon.told(told.len() + 2);
    let news: Vec<_> = after.iter().filter(|event| !told.contains(event)).collect();
    let mut news: Vec<_> =
        news.iter().map(|event| (event["user.name"].as_str().unwrap(), event["gnomon.config.change"].as_str().unwrap())).collect();
    news.sort_unstable();
    assert_eq!(news, [("ada", "changed"), ("bob", "removed")], "{after:#?}");
    let kept = fs::read_to_string(gnomon.state.join("homes.json")).unwrap();
    assert!(!kept.contains(&TOKEN[4..]) && kept.contains("pkg:npm/server-hub"), "{kept}");
    assert_eq!(fs::metadata(gnomon.state.join("homes.json")).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_hook_a_skill_and_a_plugin_are_told_when_they_come_and_change_and_are_no_servers() {
    if !needs("add-ons of clients") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let ada = dir.path().join("ada");
    let hook = |command: &str| {
        format!(r#"{{"hooks":{{"PreToolUse":[{{"matcher":"Bash","hooks":[{{"type":"command","command":"{command}"}}]}}]}}}}"#)
    };
    own(&ada, 31_001, ".claude/settings.json", &hook(&format!("npx -y prettier --token {TOKEN}")));
    own(&ada, 31_001, ".claude/skills/pdf/SKILL.md", "Read the file.");
    own(&ada, 31_001, ".claude/skills/pdf/run.py", "print(1)");
    own(
        &ada,
        31_001,
        ".gemini/extensions/tool/gemini-extension.json",
        r#"{"name":"tool","mcpServers":{"t":{"command":"uvx","args":["server-t"]}}}"#,
    );
    fs::set_permissions(&ada, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(dir.path().join("passwd"), format!("ada:x:31001:31001::{}:/bin/sh\n", ada.display())).unwrap();

    let mut reading = Reading::start(dir.path());
    let told = reading.told(4);
    let shown = |events: &[&Value]| -> Vec<String> {
        let of = |event: &&Value| {
            let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", text("gnomon.config.kind"), text("gnomon.config.entry"), text("gnomon.config.change"))
        };
        let mut all: Vec<String> = events.iter().map(of).collect();
        all.sort();
        all
    };
    assert_eq!(
        shown(&told.iter().collect::<Vec<_>>()),
        ["hook PreToolUse Bash first_seen", "plugin tool first_seen", "server t first_seen", "skill pdf first_seen"],
        "{told:#?}"
    );
    let of = |kind: &str| told.iter().find(|event| event["gnomon.config.kind"] == kind).unwrap();
    assert_eq!(
        (&of("hook")["rule.name"], &of("hook")["gnomon.config.runs"]),
        (&"Hook in the configuration of an AI client".into(), &"pkg:npm/prettier".into())
    );
    assert_eq!(of("skill")["gnomon.config.hash"].as_str().unwrap().len(), 64, "{told:#?}");
    assert!(!serde_json::to_string(&told).unwrap().contains(&TOKEN[4..]));
    let inventory: Value = serde_json::from_str(&reading.said(&["inventory", "--json", "--local"])).unwrap();
    let addresses: Vec<&str> = inventory.as_array().unwrap().iter().map(|entry| entry["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["pkg:pypi/server-t"]);

    own(&ada, 31_001, ".claude/settings.json", &hook("npx -y other"));
    own(&ada, 31_001, ".claude/skills/pdf/run.py", "print(2)");
    reading.start_again();
    let after = reading.told(told.len() + 2);
    let news: Vec<_> = after.iter().filter(|event| !told.contains(event)).collect();
    assert_eq!(shown(&news), ["hook PreToolUse Bash changed", "skill pdf changed"], "{after:#?}");

    let listed = gnomon(&dir.path().join("passwd"), "local list");
    let said = String::from_utf8_lossy(&listed.stdout);
    for expected in
        ["hook PreToolUse Bash  npx other", "skill pdf  sha256:", "plugin tool  sha256:", "1 server, 3 hooks, skills and plugins"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn what_changes_in_a_home_is_told_within_seconds_and_not_at_the_next_look() {
    if !needs("watched homes") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let ada = dir.path().join("ada");
    let entry = |package: &str| format!(r#"{{"mcpServers":{{"hub":{{"command":"npx","args":["-y","{package}"]}}}}}}"#);
    own(&ada, 31_001, ".cursor/mcp.json", &entry("server-hub"));
    fs::set_permissions(&ada, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(dir.path().join("passwd"), format!("ada:x:31001:31001::{}:/bin/sh\n", ada.display())).unwrap();

    // The next look would be in ten minutes.
    let reading = Reading::start(dir.path());
    let mut before = reading.told(1);
    type Act<'a> = &'a dyn Fn();
    let acts: [(&str, Act<'_>); 3] = [
        ("changed", &|| own(&ada, 31_001, ".cursor/mcp.json", &entry("another-hub"))),
        ("first_seen", &|| own(&ada, 31_001, ".codex/config.toml", "[mcp_servers.docs]\nurl = 'https://docs.example/mcp'\n")),
        ("removed", &|| {
            fs::write(ada.join("draft"), "{}").unwrap();
            chown(ada.join("draft"), Some(31_001), Some(31_001)).unwrap();
            fs::rename(ada.join("draft"), ada.join(".cursor/mcp.json")).unwrap();
        }),
    ];
    for (change, act) in acts {
        act();
        let told = reading.told(before.len() + 1);
        let news: Vec<_> = told.iter().filter(|event| !before.contains(event)).collect();
        assert!(news.iter().any(|event| event["gnomon.config.change"] == change), "{change}: {told:#?}");
        before = told;
    }
}

#[test]
fn a_home_that_changes_without_end_is_told_again_and_again_meanwhile() {
    if !needs("homes that change") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let ada = dir.path().join("ada");
    let entry = |number: u32| format!(r#"{{"mcpServers":{{"hub":{{"command":"npx","args":["-y","server-{number}"]}}}}}}"#);
    own(&ada, 31_001, ".cursor/mcp.json", &entry(0));
    fs::write(dir.path().join("passwd"), format!("ada:x:31001:31001::{}:/bin/sh\n", ada.display())).unwrap();
    let reading = Reading::start(dir.path());
    reading.told(1);
    until("the home to be counted", || {
        let page = scrape(reading.metrics);
        (page.contains("gnomon_homes{state=\"read\"} 1\n") && page.contains("gnomon_homes{state=\"unread\"} 0\n")).then_some(())
    });
    let (over, began) = (AtomicBool::new(false), Instant::now());
    thread::scope(|threads| {
        threads.spawn(|| {
            for number in 1.. {
                if over.load(Ordering::Relaxed) || began.elapsed() > Duration::from_secs(120) {
                    break;
                }
                // A file that is written in place is empty at times, which is no list and told as that.
                fs::write(ada.join(".cursor/mcp.json"), entry(number)).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        });
        // Each look is ten seconds after the one before.
        let told = reading.told(2);
        over.store(true, Ordering::Relaxed);
        assert!(told.len() >= 2, "{told:#?}");
    });
}
