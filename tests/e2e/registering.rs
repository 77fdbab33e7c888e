//! `gnomon server add` and `server test`: an MCP server is added to the configuration once it has answered, pinned and with the least
//! rights it needs; for one that does not answer, the reason is printed. `server list` and `status`: what a running portal knows of its
//! servers.

use crate::{alerts::prometheus::Watched, exec::GNOMON, portals::server::Server, sensor_stage::until, support::rules};
use gnomon_testkit::has;
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

pub const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proxy/portal/tests/behaviour/program.py");

pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        // Where the test is root, the server runs as another user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    pub fn config(&self) -> PathBuf {
        self.0.path().join("gnomon.yml")
    }

    pub fn gnomon(&self, arguments: &[&str]) -> Output {
        let state = self.0.path().join("state");
        let paths: [&Path; 2] = [&self.config(), &state];
        Command::new(GNOMON).env("GNOMON_CONFIG", paths[0]).env("GNOMON_STATE_DIR", paths[1]).args(arguments).output().unwrap()
    }
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_server_with_a_url_is_added_once_it_has_answered() {
    let folder = Folder::new();
    let server = Server::start();
    let url = format!("http://127.0.0.1:{}/mcp", server.port);
    let dry = folder.gnomon(&["server", "add", "--url", &url, "--id", "notes", "--dry-run"]);
    assert!(dry.status.success() && said(&dry).contains("nothing was written"), "{}", said(&dry));
    assert!(!folder.config().exists());
    let added = folder.gnomon(&["server", "add", "--url", &url, "--id", "notes"]);
    assert!(added.status.success(), "{}", said(&added));
    assert!(
        said(&added).contains("the server answers") && said(&added).contains("# - allow: { servers: [notes], tools: ['echo'] }"),
        "{}",
        said(&added)
    );
    let text = fs::read_to_string(folder.config()).unwrap();
    assert_eq!(text, format!("servers:\n  - id: notes\n    url: '{url}'\n"));
    let again = folder.gnomon(&["server", "add", "--url", &url, "--id", "notes"]);
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));

    // One that is not there is not added, and `test` says of which it is that does not answer.
    let nobody = gnomon_testkit::free_port();
    let gone = format!("http://{nobody}/mcp");
    let refused = folder.gnomon(&["server", "add", "--url", &gone, "--id", "gone"]);
    assert!(refused.status.code() == Some(3) && said(&refused).contains("refused"), "{}", said(&refused));
    assert_eq!(fs::read_to_string(folder.config()).unwrap(), text);
    let added = folder.gnomon(&["server", "add", "--url", &gone, "--id", "gone", "--untested"]);
    assert!(added.status.success(), "{}", said(&added));
    let tested = folder.gnomon(&["server", "test", "--json"]);
    assert_eq!(tested.status.code(), Some(3), "{}", said(&tested));
    let tested: Value = serde_json::from_slice(&tested.stdout).unwrap();
    assert_eq!((&tested[0]["id"], &tested[0]["answers"]), (&"notes".into(), &true.into()), "{tested}");
    assert_eq!((&tested[1]["id"], &tested[1]["answers"]), (&"gone".into(), &false.into()), "{tested}");
    assert!(tested[1]["why"].as_str().is_some_and(|why| why.contains("refused")), "{tested}");
    let one = folder.gnomon(&["server", "test", "notes"]);
    assert!(one.status.success() && said(&one).starts_with("notes  answers"), "{}", said(&one));
    let unknown = folder.gnomon(&["server", "test", "nots"]);
    assert!(unknown.status.code() == Some(2) && said(&unknown).contains("it has: notes, gone"), "{}", said(&unknown));
}

#[test]
fn what_people_must_decide_is_printed_as_not_done_and_a_portal_may_name_the_server_first() {
    let folder = Folder::new();
    let server = Server::start();
    let url = format!("http://127.0.0.1:{}/mcp", server.port);
    let portals = "portals:\n  - { id: main, listen: '127.0.0.1:0', servers: [notes] }\n";
    fs::write(folder.config(), "servers: [{id: docs, url: 'https://docs.example/mcp'}]\n").unwrap();
    let by_hand = folder.gnomon(&["server", "add", "--url", &url, "--id", "notes"]);
    assert!(by_hand.status.code() == Some(3) && said(&by_hand).contains("Add this entry by hand"), "{}", said(&by_hand));
    fs::write(folder.config(), portals).unwrap();
    let added = folder.gnomon(&["server", "add", "--url", &url, "--id", "notes"]);
    assert!(added.status.success(), "{}", said(&added));
    assert!(folder.gnomon(&["config", "check"]).status.success());
    let secret = folder.gnomon(&["server", "add", "--url", &format!("{url}?api_key=sk-1"), "--id", "other"]);
    assert!(secret.status.code() == Some(2) && !fs::read_to_string(folder.config()).unwrap().contains("sk-1"), "{}", said(&secret));
}

#[test]
fn a_server_whose_secret_is_missing_is_listed_with_the_others() {
    let folder = Folder::new();
    let server = Server::start();
    let url = format!("http://127.0.0.1:{}/mcp", server.port);
    let secret = folder.0.path().join("none");
    let servers = format!(
        "servers:\n  - {{ id: sealed, url: '{url}', auth: {{ bearer: 'file:{}' }} }}\n  - {{ id: notes, url: '{url}' }}\n",
        secret.display()
    );
    fs::write(folder.config(), servers).unwrap();
    let tested = folder.gnomon(&["server", "test"]);
    let text = said(&tested);
    assert_eq!(tested.status.code(), Some(3), "{text}");
    assert!(text.contains("sealed  does not answer: ") && text.contains(secret.to_str().unwrap()), "{text}");
    assert!(text.contains("notes   answers"), "{text}");
}

#[test]
fn a_program_is_added_with_what_it_was_looked_at_as() {
    if !has("a_program_is_added_with_what_it_was_looked_at_as", &["python3"]) {
        return;
    }
    let folder = Folder::new();
    let script = folder.0.path().join("tickets.py");
    fs::copy(PROGRAM, &script).unwrap();
    let script = script.to_str().unwrap();
    let added = folder.gnomon(&["server", "add", "--env", "LOG_LEVEL=info", "--command", "/usr/bin/python3", script, "--flag"]);
    assert!(added.status.success(), "{}", said(&added));
    let text = fs::read_to_string(folder.config()).unwrap();
    assert!(text.contains("- id: tickets") && text.contains("sha256: ") && text.contains(&format!("files: {{'{script}': ")), "{text}");
    assert!(text.contains("'LOG_LEVEL': 'info'") && text.contains("'--flag'"), "{text}");
    assert!(folder.gnomon(&["config", "check"]).status.success());
    let tested = folder.gnomon(&["server", "test"]);
    assert!(tested.status.success() && said(&tested).contains("answers"), "{}", said(&tested));
    // The pin refuses a program that was changed later.
    fs::write(script, "print('something else')").unwrap();
    let changed = folder.gnomon(&["server", "test"]);
    assert!(changed.status.code() == Some(3) && said(&changed).contains("not the one that is pinned"), "{}", said(&changed));
}

#[test]
fn a_server_that_was_seen_is_added_with_what_was_called_of_it_and_nothing_else() {
    let watched = Watched::start();
    let server = Server::start();
    let at = format!("127.0.0.1:{}", server.port);
    let say = |body: Value| {
        let body = body.to_string();
        let mut stream = TcpStream::connect(watched.proxy).unwrap();
        let head = format!("POST http://{at}/mcp HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Type: application/json\r\n");
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        // The server leaves the connection open.
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    };
    let call =
        |id: u64, tool: &str| say(json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {}}}));
    say(
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}),
    );
    call(1, "echo");
    call(2, "echo");
    let gnomon = |arguments: &str| watched.run(&format!("gnomon server {arguments}"));
    until("the calls in the inventory", || Some(gnomon(&format!("add --from {at} --dry-run"))).filter(|one| said(one).contains("2 calls")));
    let added = gnomon(&format!("add --from {at} --id seen"));
    assert!(added.status.success(), "{}", said(&added));
    assert!(
        said(&added).contains("seen: 2 calls of 1 tool") && said(&added).contains("allow: { servers: [seen], tools: ['echo'] }"),
        "{}",
        said(&added)
    );
    let config = fs::read_to_string(watched.dir.path().join("gnomon.yml")).unwrap();
    assert!(config.contains(&format!("url: 'http://{at}/mcp'")), "{config}");
    let again = gnomon(&format!("add --from {at}"));
    assert!(again.status.code() == Some(2) && said(&again).contains("as `seen`"), "{}", said(&again));
    let unknown = gnomon("add --from nobody.example");
    assert!(unknown.status.code() == Some(2) && said(&unknown).contains("`gnomon inventory`"), "{}", said(&unknown));
}

/// A gnomon that serves until this is dropped.
pub struct Serving(pub Child);

impl Serving {
    pub fn portal(folder: &Folder) -> Self {
        let mut gnomon = Command::new(GNOMON);
        let state = folder.0.path().join("state");
        gnomon.env("GNOMON_CONFIG", folder.config()).env("GNOMON_STATE_DIR", state).arg("portal").stderr(Stdio::null());
        Self(gnomon.spawn().unwrap())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_servers_of_a_running_portal_are_listed_with_their_state_since_when_and_why() {
    let folder = Folder::new();
    let server = Server::start();
    let nobody = gnomon_testkit::free_port();
    let (portal, metrics) = (gnomon_testkit::free_port(), gnomon_testkit::free_port());
    let text = format!(
        "metrics: {{listen: '{metrics}'}}\nservers:\n  - {{id: notes, url: 'http://127.0.0.1:{}/mcp'}}\n  - {{id: gone, url: 'http://{nobody}/mcp'}}\n  \
         - {{id: idle, url: 'http://{nobody}/mcp'}}\nportals:\n  - {{id: main, listen: '{portal}', servers: [notes, gone], policy: [{{allow: {{servers: [notes]}}}}]}}\n",
        server.port
    );
    fs::write(folder.config(), text).unwrap();
    let asleep = folder.gnomon(&["server", "list"]);
    assert!(asleep.status.code() == Some(1) && said(&asleep).contains("no gnomon answers"), "{}", said(&asleep));
    let _serving = Serving::portal(&folder);
    let begun = Instant::now();
    let told = loop {
        let list = folder.gnomon(&["server", "list"]);
        let told = said(&list);
        if list.status.success() && told.contains("up since") && told.contains("refused") {
            break told;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{told}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("notes  up since 20") && lines[0].ends_with("  main"), "{told}");
    assert!(lines[1].starts_with("gone   down since 20") && lines[1].contains(": refused (nobody listens at its address)"), "{told}");
    assert!(lines[2].starts_with("idle   not offered"), "{told}");
    let status = folder.gnomon(&["server", "status", "gone", "notes", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let (notes, gone) = (&status[0]["portals"][0], &status[1]["portals"][0]);
    assert!(
        notes["up"] == true && notes["reason"].is_null() && notes["since"].as_u64().is_some_and(|since| since > 1_700_000_000),
        "{status}"
    );
    assert!(gone["up"] == false && gone["reason"] == "refused" && gone["sessions"] == 0, "{status}");
    let text = said(&folder.gnomon(&["server", "status", "notes"]));
    assert!(text.starts_with("notes (http)\n  at main: up since") && text.contains("calls     none"), "{text}");
    let unknown = folder.gnomon(&["server", "status", "nots"]);
    assert!(unknown.status.code() == Some(2) && said(&unknown).contains("it has: notes, gone, idle"), "{}", said(&unknown));
}

#[test]
fn a_portal_that_allows_nothing_says_so_when_it_starts_and_one_that_allows_something_does_not() {
    for (policy, silent) in [("", false), (", policy: [{allow: {servers: [notes]}}]", true)] {
        let folder = Folder::new();
        let (portal, metrics, nobody) = (gnomon_testkit::free_port(), gnomon_testkit::free_port(), gnomon_testkit::free_port());
        let text = format!(
            "metrics: {{listen: '{metrics}'}}\nservers:\n  - {{id: notes, url: 'http://{nobody}/mcp'}}\nportals:\n  \
             - {{id: main, listen: '{portal}', servers: [notes]{policy}}}\n"
        );
        fs::write(folder.config(), text).unwrap();
        let mut gnomon = Command::new(GNOMON);
        gnomon.env("GNOMON_CONFIG", folder.config()).env("GNOMON_STATE_DIR", folder.0.path().join("state")).arg("portal");
        let mut serving = Serving(gnomon.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        // What is said of portals is one piece.
        let mut told = String::new();
        while !told.contains("offers notes") {
            let mut piece = [0; 4096];
            let read = serving.0.stderr.as_mut().unwrap().read(&mut piece).unwrap();
            assert!(read > 0, "{told}");
            told.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        assert_eq!(!told.contains("`policy` of portal `main` allows nothing"), silent, "{told}");
    }
}

#[test]
fn the_rule_that_withholds_a_server_s_list_is_named_where_its_state_is_asked_for() {
    let folder = Folder::new();
    let (listed, other) = (Server::start(), Server::start());
    let (portal, metrics) = (gnomon_testkit::free_port(), gnomon_testkit::free_port());
    let rule = rules::block(7, "gnomon.tools: echo, gnomon.server.id: notes");
    fs::create_dir(folder.0.path().join("rules.d")).unwrap();
    fs::write(folder.0.path().join("rules.d/lists.yml"), &rule.text).unwrap();
    let text = format!(
        "metrics: {{listen: '{metrics}'}}\nrules: {{dirs: [rules.d]}}\nservers:\n  - {{id: notes, url: 'http://127.0.0.1:{}/mcp'}}\n  \
         - {{id: tasks, url: 'http://127.0.0.1:{}/mcp'}}\nportals:\n  - {{id: main, listen: '{portal}', servers: [notes, tasks], policy: [{{allow: {{servers: [notes, tasks]}}}}]}}\n",
        listed.port, other.port
    );
    fs::write(folder.config(), text).unwrap();
    let _serving = Serving::portal(&folder);
    let id = rules::id(7);
    let begun = Instant::now();
    let told = loop {
        let told = said(&folder.gnomon(&["server", "list"]));
        if told.matches("up since").count() == 2 {
            break told;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{told}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].ends_with(&format!("withheld: tools (rule {id})")) && !lines[1].contains("withheld"), "{told}");
    let text = said(&folder.gnomon(&["server", "status", "notes"]));
    assert!(text.contains(&format!("    withheld  tools (rule {id});")) && !text.contains("not offered"), "{text}");
    let status: Value = serde_json::from_slice(&folder.gnomon(&["server", "status", "--json"]).stdout).unwrap();
    assert_eq!(status[0]["portals"][0]["withheld"], json!([{"what": "tools", "rule": id}]), "{status}");
    assert_eq!(status[1]["portals"][0]["withheld"], json!([]), "{status}");
}

#[test]
fn what_a_reload_changed_and_who_asked_for_it_is_in_the_audit_and_an_event() {
    let folder = Folder::new();
    let server = Server::start();
    let (portal, metrics) = (gnomon_testkit::free_port(), gnomon_testkit::free_port());
    let write = |servers: &str, policy: &str| {
        let text = format!(
            "metrics: {{listen: '{metrics}'}}\nservers: [{{id: notes, url: 'http://127.0.0.1:{}/mcp'}}{servers}]\n\
             portals: [{{id: main, listen: '{portal}', servers: [notes], policy: {policy}}}]\n",
            server.port
        );
        fs::write(folder.config(), text).unwrap();
    };
    write("", "[{allow: {servers: [notes], tools: [read]}}]");
    let serving = Serving::portal(&folder);
    let begun = Instant::now();
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(40), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let reload = || assert!(Command::new("kill").args(["-HUP", &serving.0.id().to_string()]).status().unwrap().success());
    let changes = || {
        let shown = folder.gnomon(&["audit", "show", "--kind", "change", "--json"]);
        let text = String::from_utf8(shown.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    wait("the portal", &|| folder.gnomon(&["server", "list"]).status.success());
    write(
        ", {id: more, url: 'https://more.example/mcp'}",
        "[{allow: {servers: [notes], tools: [read]}}, {deny: {servers: [notes], tools: [write]}}]",
    );
    reload();
    wait("the changes", &|| changes().len() >= 2);
    let of = |change: &Value, key: &str| change[key].as_str().unwrap_or_default().to_owned();
    let told = changes();
    let (policy, rest) = (&told[0], &told[1]);
    let message = of(policy, "message");
    assert!(
        message.starts_with("policy, sha256 ") && message.contains("entries added: deny: { servers: [notes], tools: [write] }"),
        "{message}"
    );
    assert!(message.contains("; by SIGHUP of process "), "{policy}");
    assert_eq!((of(policy, "gnomon.portal.id"), of(policy, "gnomon.status")), ("main".to_owned(), "ok".to_owned()));
    assert!(of(rest, "message").starts_with("servers added: more; by SIGHUP"), "{rest}");
    let user = Command::new("id").arg("-un").output().unwrap();
    assert_eq!(of(policy, "process.user.name"), String::from_utf8_lossy(&user.stdout).trim(), "{policy}");
    // Without a change nothing is reported; a mistake in the file is.
    reload();
    write("", "[{allow: {tools: [read]}}]");
    reload();
    wait("the mistake", &|| changes().len() >= 3);
    let failed = changes().pop().unwrap();
    assert!(of(&failed, "gnomon.status") == "error" && of(&failed, "message").contains("was not reloaded"), "{failed}");
    assert!(changes()[2..].iter().all(|change| of(change, "gnomon.status") == "error"), "{:?}", changes());
    let events = folder.gnomon(&["events", "--where", "gnomon.health=changed", "--json"]);
    assert!(said(&events).contains("entries added: deny:"), "{}", said(&events));
}
