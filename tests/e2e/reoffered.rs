//! Servers of a portal that are added, replaced and taken out by a reload, with the program as users run it; and `gnomon server remove`.

use crate::{
    portals::server::Server,
    registering::{Folder, PROGRAM, Serving, said},
};
use gnomon_testkit::has;
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Until there is something; looked at again and again.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A client with a session.
struct Client {
    portal: SocketAddr,
    session: String,
}

impl Client {
    fn begin(portal: SocketAddr) -> Self {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let answer = until("the portal", || post(portal, "", &body));
        let session = answer
            .0
            .lines()
            .find_map(|line| line.to_ascii_lowercase().starts_with("mcp-session-id:").then(|| line[15..].trim().to_owned()));
        Self { portal, session: session.unwrap() }
    }

    fn request(&self, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        post(self.portal, &format!("Mcp-Session-Id: {}\r\n", self.session), &body).unwrap().1
    }

    fn tools(&self) -> Vec<String> {
        let list = self.request("tools/list", json!({}));
        list["result"]["tools"]
            .as_array()
            .unwrap_or_else(|| panic!("{list}"))
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    }

    fn call(&self, tool: &str) -> Value {
        self.request("tools/call", json!({"name": tool, "arguments": {}}))
    }

    fn pid(&self) -> String {
        let called = self.call("local_pid");
        called["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{called}")).to_owned()
    }
}

/// The head of an answer, and its JSON.
fn post(portal: SocketAddr, headers: &str, body: &Value) -> Option<(String, Value)> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(portal).ok()?;
    let head = format!(
        "POST /mcp HTTP/1.0\r\nHost: {portal}\r\nConnection: close\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
    );
    write!(stream, "{head}{headers}Content-Length: {}\r\n\r\n{body}", body.len()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    // In pieces or in one.
    let json = body.get(body.find('{')?..=body.rfind('}')?)?;
    Some((head.to_owned(), serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {answer}"))))
}

fn reload(serving: &Serving) {
    assert!(Command::new("kill").args(["-HUP", &serving.0.id().to_string()]).status().unwrap().success());
}

/// What was told of changes, oldest first: whether they are in force, and in words.
fn changes(folder: &Folder) -> Vec<(String, String)> {
    let shown = folder.gnomon(&["audit", "show", "--kind", "change", "--json"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    let told = |line: &str| {
        let change: Value = serde_json::from_str(line).unwrap();
        (change["gnomon.status"].as_str().unwrap().to_owned(), change["message"].as_str().unwrap().to_owned())
    };
    text.lines().map(told).collect()
}

fn metrics(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_reload_adds_replaces_and_takes_out_servers_and_what_stays_is_not_touched() {
    if !has("a_reload_adds_replaces_and_takes_out_servers_and_what_stays_is_not_touched", &["python3"]) {
        return;
    }
    let folder = Folder::new();
    let (notes, more) = (Server::start(), Server::start());
    let (portal, scraped) = (gnomon_testkit::free_port(), gnomon_testkit::free_port());
    let script = folder.0.path().join("local.py");
    fs::copy(PROGRAM, &script).unwrap();
    let added =
        folder.gnomon(&["server", "add", "--id", "local", "--env", "A=1", "--command", "/usr/bin/python3", script.to_str().unwrap()]);
    assert!(added.status.success() && said(&added).contains("systemctl reload gnomon"), "{}", said(&added));
    let program = fs::read_to_string(folder.config()).unwrap();
    let write = |program: &str, servers: &str, offered: &str, policy: &str| {
        let text = format!(
            "{program}{servers}metrics: {{listen: '{scraped}'}}\n\
             portals:\n  - id: main\n    listen: '{portal}'\n    servers: {offered} # in this order\n    policy: {policy}\n"
        );
        fs::write(folder.config(), text).unwrap();
    };
    let http = |id: &str, server: &Server| format!("  - {{id: {id}, url: 'http://127.0.0.1:{}/mcp'}}\n", server.port);
    let all = "[{allow: {servers: ['*']}}]";
    write(&program, &http("notes", &notes), "[local, notes]", all);
    let serving = Serving::portal(&folder);
    let client = Client::begin(portal);
    let has_tool = |tool: &str| until(tool, || client.tools().iter().any(|name| name == tool).then_some(()));
    has_tool("local_pid");
    has_tool("notes_echo");
    let pid = client.pid();

    // One more, which is there without a restart.
    write(&program, &format!("{}{}", http("notes", &notes), http("more", &more)), "[local, notes, more]", all);
    reload(&serving);
    has_tool("more_echo");
    assert_eq!(client.call("more_echo")["result"]["content"][0]["text"], "done by the server");
    assert_eq!(client.pid(), pid, "its entry is as it was");

    // What a start would refuse changes nothing: a policy that names no server, a program that is not there.
    until("the addition", || changes(&folder).iter().any(|change| change.1.contains("added: more")).then_some(()));
    let told = changes(&folder).len();
    write(&program, &http("notes", &notes), "[local, notes]", "[{allow: {servers: [more]}}]");
    reload(&serving);
    let refused = until("the mistake", || changes(&folder).get(told).cloned());
    assert!(refused.0 == "error" && refused.1.contains("gnomon.yml:") && refused.1.contains("more"), "{refused:?}");
    write(&program, "  - {id: none, command: [/no/such/program]}\n", "[local, none]", all);
    reload(&serving);
    let refused = until("the program", || changes(&folder).get(told + 1).cloned());
    assert!(refused.0 == "error" && refused.1.contains("/no/such/program"), "{refused:?}");
    assert!(client.tools().iter().any(|name| name == "more_echo") && client.tools().iter().any(|name| name == "notes_echo"));

    // Taken out by the command, whatever it looks like around it.
    write(&program, &format!("{}{}", http("notes", &notes), http("more", &more)), "[local, notes, more]", all);
    let text = fs::read_to_string(folder.config()).unwrap();
    let shown = folder.gnomon(&["server", "remove", "notes"]);
    assert!(
        shown.status.success() && said(&shown).contains("nothing was written") && said(&shown).contains("servers: [local, more]"),
        "{}",
        said(&shown)
    );
    assert_eq!(fs::read_to_string(folder.config()).unwrap(), text);
    let removed = folder.gnomon(&["server", "remove", "notes", "--write"]);
    assert!(removed.status.success() && said(&removed).contains("systemctl reload gnomon"), "{}", said(&removed));
    let left = text.replace(&http("notes", &notes), "").replace("[local, notes, more]", "[local, more]");
    assert_eq!(fs::read_to_string(folder.config()).unwrap(), left);
    assert!(metrics(scraped).contains("server=\"notes\""));
    reload(&serving);
    until("the server to be gone", || (!client.tools().iter().any(|name| name == "notes_echo")).then_some(()));
    assert_eq!(client.call("notes_echo")["error"]["message"], "Unknown tool: notes_echo");
    until("its metrics to be gone", || (!metrics(scraped).contains("server=\"notes\"")).then_some(()));
    assert_eq!(client.pid(), pid, "its entry is as it was");

    // Another entry is another server.
    let other = program.replace("'A': '1'", "'A': '2'");
    assert_ne!(other, program);
    write(&other, &http("more", &more), "[local, more]", all);
    reload(&serving);
    let now = until("the new process", || {
        let called = client.call("local_pid");
        called["result"]["content"][0]["text"].as_str().filter(|now| *now != pid).map(str::to_owned)
    });
    until("the old process to end", || (!Path::new("/proc").join(&pid).exists()).then_some(()));
    assert!(Path::new("/proc").join(&now).exists());
    until("its own series", || metrics(scraped).contains("gnomon_server_instances{server=\"local\"} 2").then_some(()));

    let told =
        until("the changes", || Some(changes(&folder)).filter(|told| told.iter().any(|(_, text)| text.contains("servers changed: local"))));
    for words in [
        "servers offered, added: more",
        "servers added: more",
        "servers offered, removed: notes",
        "servers removed: notes",
        "servers changed: local",
    ] {
        assert!(told.iter().any(|(status, text)| status == "ok" && text.contains(words)), "{words}: {told:?}");
    }
    assert!(told.iter().all(|(_, text)| !text.contains("after a restart")), "{told:?}");
    until("the event", || {
        let events = folder.gnomon(&["events", "--where", "gnomon.health=changed", "--json"]);
        said(&events).contains("servers removed: notes").then_some(())
    });
}

#[test]
fn a_server_that_something_else_names_is_not_removed_and_what_names_it_is_told() {
    let folder = Folder::new();
    let rules = folder.0.path().join("rules");
    fs::create_dir(&rules).unwrap();
    let rule = "title: Notes\nid: 00000000-0000-4000-8000-000000000001\nlogsource: {product: mcp, category: mcp_traffic}\n\
                detection:\n    selection:\n        gnomon.server.id: notes\n    condition: selection\nlevel: high\n";
    fs::write(rules.join("notes.yml"), rule).unwrap();
    let text = "# ours\nrules: {dirs: [rules]}\nservers:\n  - id: notes # here\n    url: 'https://notes.example/mcp'\n  - {id: wiki, url: 'https://wiki.example/mcp'}\n\
                portals:\n  - id: main\n    listen: '127.0.0.1:8080'\n    servers: [notes, wiki]\n    policy:\n      - allow: {servers: [notes]}\n";
    fs::write(folder.config(), text).unwrap();
    let shown = folder.gnomon(&["server", "remove", "notes"]);
    let all = said(&shown);
    assert!(shown.status.success() && all.contains("gnomon.yml:11:") || all.contains("gnomon.yml:12:"), "{all}");
    assert!(
        all.contains("notes.yml:6") && all.contains("    4 -   - id: notes # here") && all.contains("   10 +     servers: [wiki]"),
        "{all}"
    );
    let refused = folder.gnomon(&["server", "remove", "notes", "--write"]);
    assert!(refused.status.code() == Some(3) && said(&refused).contains("nothing was written"), "{}", said(&refused));
    assert_eq!(fs::read_to_string(folder.config()).unwrap(), text);
    let json = folder.gnomon(&["server", "remove", "wiki", "--write", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["portals"], &json["lines"][0]["line"]), (&json!(["main"]), &json!(6)), "{json}");
    let left = text.replace("  - {id: wiki, url: 'https://wiki.example/mcp'}\n", "").replace("[notes, wiki]", "[notes]");
    assert_eq!(fs::read_to_string(folder.config()).unwrap(), left);
    let unknown = folder.gnomon(&["server", "remove", "nots"]);
    assert!(unknown.status.code() == Some(2) && said(&unknown).contains("it has: notes"), "{}", said(&unknown));
}
