//! Decisions about a server come into force while gnomon runs as a user other than root; and the commands that an analyst uses one after
//! another.

use crate::{
    exec::GNOMON,
    sensor_stage::{Host, needs, until},
};
use gnomon_observe::APPROVAL_EXPIRED;
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
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

#[test]
fn decisions_about_a_server_are_in_force_within_seconds_on_open_connections_and_run_out() {
    if !needs("decisions_about_a_server_are_in_force_within_seconds_on_open_connections_and_run_out") {
        return;
    }
    let rules = tempfile::tempdir().unwrap();
    fs::set_permissions(rules.path(), Permissions::from_mode(0o755)).unwrap();
    let example =
        gnomon_packs::packs().iter().flat_map(gnomon_packs::Pack::files).find(|(name, _)| name.ends_with("block_denied_server.yml"));
    fs::write(rules.path().join("denied.yml"), example.unwrap().1).unwrap();
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
