//! Decisions about a server come into force while gnomon runs as a user other than root; and the commands that an analyst uses one after
//! another.

use crate::{
    alerts::prometheus::{Watched, home},
    exec::GNOMON,
    explained::ask,
    sensor_stage::{Host, logged, needs, until},
};
use gnomon_observe::APPROVAL_EXPIRED;
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const SERVER: &str = "127.0.0.2:1";

/// A keep-alive connection to the proxy.
struct Kept(TcpStream);

impl Kept {
    /// The answer to a call: status line and body.
    fn call(&mut self, tool: &str) -> String {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#);
        let head = "POST http://127.0.0.2:1/mcp HTTP/1.1\r\nHost: 127.0.0.2:1\r\nContent-Type: application/json\r\n";
        write!(self.0, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let read = self.0.read(&mut piece).unwrap();
            assert!(read > 0, "the connection ended");
            answer.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|length| length.parse().ok());
            if body.len() >= length.unwrap_or(0_usize) {
                return String::from_utf8(answer).unwrap();
            }
        }
    }
}

fn gnomon(host: &Host, arguments: &[&str]) -> Output {
    let (command, rest) = arguments.split_first().unwrap();
    Command::new(GNOMON).arg(command).args(rest).env("GNOMON_STATE_DIR", host.state.path()).output().unwrap()
}

fn said(host: &Host, arguments: &[&str]) -> String {
    let output = gnomon(host, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn last_event(host: &Host) -> Value {
    serde_json::from_str(said(host, &["events", "--json", "-n", "1"]).trim()).unwrap()
}

/// Adds the rule that blocks servers which were denied in review.
fn enforce_denials(rules: &Path) {
    let example =
        gnomon_packs::packs().iter().flat_map(gnomon_packs::Pack::files).find(|(name, _)| name.ends_with("block_denied_server.yml"));
    fs::write(rules.join("denied.yml"), example.unwrap().1).unwrap();
}

#[test]
fn decisions_about_a_server_are_in_force_within_seconds_on_open_connections_and_run_out() {
    if !needs("decisions_about_a_server_are_in_force_within_seconds_on_open_connections_and_run_out") {
        return;
    }
    let rules = tempfile::tempdir().unwrap();
    fs::set_permissions(rules.path(), Permissions::from_mode(0o755)).unwrap();
    enforce_denials(rules.path());
    let host = Host::start_with(&["--sensor", "off", "--rules", rules.path().to_str().unwrap()]);
    let mut client = Kept(TcpStream::connect(host.proxy).unwrap());
    assert!(client.call("first").starts_with("HTTP/1.1 502"), "nobody decided anything");
    until("the server to be known", || said(&host, &["review", "list"]).contains(SERVER).then_some(()));
    assert!(said(&host, &["review", "list"]).starts_with("unreviewed  127.0.0.2:1"));

    // Without a port, the decision is about the port that was seen.
    said(&host, &["review", "deny", "127.0.0.2", "--reason", "sends code abroad"]);
    until("the denial to be in force", || client.call("denied").contains("may not be used here").then_some(()));
    until("its event", || (last_event(&host)["gnomon.server.review"] == "denied").then_some(()));
    let event = last_event(&host);
    assert_eq!((&event["gnomon.action"], &event["gnomon.sanctioned"]), (&"block".into(), &false.into()));

    said(&host, &["review", "approve", SERVER, "--owner", "team-x", "--reason", "needed", "--until", "90d"]);
    until("the approval to be in force", || client.call("approved").starts_with("HTTP/1.1 502").then_some(()));
    until("its event", || (last_event(&host)["gnomon.server.review"] == "approved").then_some(()));
    assert_eq!(last_event(&host)["gnomon.sanctioned"], true);
    assert!(last_event(&host).get("rule.id").is_none(), "what is approved is no detection");
    // It is not reported in a replayed recording either.
    let recorded = rules.path().join("recorded.jsonl");
    fs::write(&recorded, said(&host, &["events", "--json"])).unwrap();
    assert_eq!(said(&host, &["replay", "--json", recorded.to_str().unwrap()]), "");

    said(&host, &["review", "approve", SERVER, "--owner", "team-x", "--reason", "a last time", "--until", "1s"]);
    let expired = until("the approval to run out", || {
        let found = said(&host, &["events", "--json", "--rule", APPROVAL_EXPIRED.id]);
        found.lines().next().map(|line| serde_json::from_str::<Value>(line).unwrap())
    });
    assert_eq!((&expired["event.kind"], &expired["server.address"]), (&"alert".into(), &"127.0.0.2".into()));
    let series = format!(
        "gnomon_detections_total{{action=\"log\",channel=\"\",class=\"policy\",level=\"medium\",rule=\"{}\"}} 1",
        APPROVAL_EXPIRED.id
    );
    until("it to be counted", || host.scrape().contains(&series).then_some(()));
    client.call("expired");
    until("its event", || (last_event(&host)["gnomon.server.review"] == "expired").then_some(()));
    assert_eq!(last_event(&host)["gnomon.sanctioned"], false);

    let history = said(&host, &["review", "show", SERVER]);
    for word in ["expired", "denied: sends code abroad", "approved until", "owner team-x: a last time"] {
        assert!(history.contains(word), "{word}: {history}");
    }

    // The commands of an analyst: today's events, one incident, one story, the weekly report.
    let incidents = said(&host, &["events", "--incidents"]);
    let id = incidents.lines().find(|line| line.contains("127.0.0.1 → 127.0.0.2")).unwrap().split(' ').next().unwrap();
    assert!(said(&host, &["events", "show", id]).contains("Example - block servers that were denied in review"));
    let story = said(&host, &["events", "show", event["event.id"].as_str().unwrap()]);
    for word in ["tools/call denied", "refused; the call was not completed", "bytes out", "gnomon review show 127.0.0.2:1"] {
        assert!(story.contains(word), "{word}: {story}");
    }
    let report: Value = serde_json::from_str(&said(&host, &["report", "--json"])).unwrap();
    assert_eq!(report["debt"]["expired"][0]["server"]["host"], "127.0.0.2");
    assert!(said(&host, &["report", "--html", "-"]).starts_with("<!DOCTYPE html>"));
    let wrong = gnomon(&host, &["review", "approve", "a b", "--owner", "x", "--reason", "y", "--until", "1d"]);
    assert_eq!(wrong.status.code(), Some(2));
}

/// A database server that accepts every connection and says nothing on it, and the number of those that were made.
fn silent() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, made) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let counted = made.clone();
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().flatten() {
            held.push(stream);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, made)
}

/// A server over plain HTTP that acts on each call, and the tools that it was called for, in order.
fn acting() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let (address, acted) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let executed = acted.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let executed = executed.clone();
            thread::spawn(move || act(stream, &executed));
        }
    });
    (address, acted)
}

/// Acts on the call of one connection; one that was opened without a call is no call.
fn act(stream: TcpStream, executed: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let asked: Value = serde_json::from_slice(&body).ok()?;
    executed.lock().unwrap().push(asked["params"]["name"].as_str()?.to_owned());
    let body = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[{{"type":"text","text":"done"}}]}}}}"#, asked["id"]);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    write!(&stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).ok()
}

#[test]
fn a_database_that_says_nothing_holds_up_no_call_and_loses_no_decision() {
    let (database, connections) = silent();
    let url = format!("postgres://gnomon@{database}/gnomon");
    let dir = home(&format!("state: '{url}'\n"));
    enforce_denials(&dir.path().join("rules"));
    // What this host read of the database before, as a gnomon from before there was a first line for it wrote it.
    let denied = concat!(
        r#"{"at_ms":1795305600000,"by":{"user":"ada","login_uid":null,"uid":0},"server":{"host":"127.0.0.2","port":1},"#,
        r#""state":"denied","owner":null,"reason":"sends code abroad","until_ms":null}"#,
    );
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("decisions.cache"), format!("{denied}\n")).unwrap();

    let began = Instant::now();
    let watched = Watched::at(dir, &["proxy"]);
    let refuses = || ask(watched.proxy, SERVER.parse().unwrap(), "denied", "{}").contains("may not be used here");
    until("the denial that was read before to be in force", || refuses().then_some(()));
    let ready = began.elapsed();
    assert!(ready < Duration::from_secs(15), "{ready:?}: {}", watched.log());
    let away = "the shared journal of decisions cannot be read";
    assert!(!watched.log().contains(away), "that did not wait until the database was given up: {}", watched.log());

    // For longer than gnomon waits for the database the first time.
    let (server, executed) = acting();
    let tools: Vec<String> = (0..30).map(|number| format!("tool_{number}")).collect();
    for tool in &tools {
        let called = Instant::now();
        let answer = ask(watched.proxy, server, tool, "{}");
        let took = called.elapsed();
        assert!(answer.contains("done") && took < Duration::from_secs(1), "{tool} took {took:?}: {answer}");
        thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(*executed.lock().unwrap(), tools);
    until("all calls to be in the ledger", || {
        let listed = String::from_utf8(watched.run("gnomon events --json").stdout).unwrap();
        let events: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        tools.iter().all(|tool| events.iter().any(|event| event["gen_ai.tool.name"] == tool.as_str())).then_some(())
    });

    // It is told, and asked again; what was decided before is in force all the while.
    logged(|| watched.log(), &format!("{away}; what was decided before stays in force"));
    until("the database to be asked again", || (connections.load(Ordering::Relaxed) >= 2).then_some(()));
    assert!(refuses());

    // Who decides is told within seconds that it was not kept, and nothing of it is in force.
    let asked = Instant::now();
    let failed = watched.run(&format!("gnomon review deny {server} --reason 'sends code abroad'"));
    let (took, told) = (asked.elapsed(), String::from_utf8_lossy(&failed.stderr).into_owned());
    assert!(!failed.status.success() && took < Duration::from_secs(10), "{took:?}: {failed:?}");
    assert!(told.contains(&format!("cannot connect to {url}: no answer within 3 s")), "{told}");
    assert!(ask(watched.proxy, server, "undecided", "{}").contains("done"));
    assert!(refuses());
}
