//! Rules that change while gnomon runs as a user other than root.

use crate::{
    sensor_stage::{Host, kill, logged, needs, until},
    support::rules,
};
use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
};

fn told(host: &Host, outcome: &str, count: u32) {
    let line = format!("gnomon_rules_reload_total{{outcome=\"{outcome}\"}} {count}\n");
    until(&line, || host.scrape().contains(&line).then_some(()));
}

/// The answer to a call of this tool.
pub fn call(host: &Host, tool: &str) -> String {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#);
    let head = "POST http://127.0.0.2:1/mcp HTTP/1.1\r\nHost: 127.0.0.2:1\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let mut stream = TcpStream::connect(host.proxy).unwrap();
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn rules_that_are_written_act_at_once_and_bad_ones_leave_the_last_good_in_force() {
    if !needs("rules_that_are_written_act_at_once_and_bad_ones_leave_the_last_good_in_force") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The serving process runs as another user.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("no_shell.yml");
    let host = Host::start_with(&["--sensor", "off", "--rules", folder.path().to_str().unwrap()]);
    let page = host.scrape();
    assert!(page.contains("gnomon_rules_reload_total{outcome=\"success\"} 0\n"), "{page}");
    assert!(page.contains("gnomon_rules_last_reload_success_timestamp_seconds 1"), "{page}");
    assert!(call(&host, "shell").starts_with("HTTP/1.1 502"), "nothing refuses it yet");

    let rule = rules::block(1, "gen_ai.tool.name: shell").text;
    fs::write(&file, &rule).unwrap();
    told(&host, "success", 1);
    let refused = call(&host, "shell");
    assert!(refused.contains(rules::MESSAGE), "{refused}");

    fs::write(&file, rule.replace("condition: seen", "condition: sen")).unwrap();
    told(&host, "failure", 1);
    logged(|| host.log(), &format!("{}:6:", file.display()));
    logged(|| host.log(), "did you mean `seen`?");
    assert!(call(&host, "shell").contains(rules::MESSAGE), "the rule from before stays");
    assert!(!host.log().contains('\u{1b}'), "a log that is no terminal has no codes of one: {:?}", host.log());

    // A signal makes it read the rules even where no file has changed.
    kill(host.child.id(), rustix::process::Signal::HUP);
    told(&host, "failure", 2);
    fs::remove_file(&file).unwrap();
    told(&host, "success", 2);
    assert!(call(&host, "shell").starts_with("HTTP/1.1 502"), "the rule is gone");
}

#[test]
fn a_start_with_bad_rules_goes_on_with_those_that_were_last_in_force_and_says_so() {
    if !needs("a_start_with_bad_rules_goes_on_with_those_that_were_last_in_force_and_says_so") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("no_shell.yml");
    let rule = rules::block(1, "gen_ai.tool.name: shell").text;
    fs::write(&file, &rule).unwrap();
    let mut host = Host::start_with(&["--sensor", "off", "--rules", folder.path().to_str().unwrap()]);
    assert!(call(&host, "shell").contains(rules::MESSAGE));
    kill(host.child.id(), rustix::process::Signal::TERM);
    host.child.wait().unwrap();

    fs::write(&file, rule.replace("condition: seen", "condition: sen")).unwrap();
    host.start_again();
    logged(|| host.log(), "the rules on disk are bad; those of ");
    logged(|| host.log(), "did you mean `seen`?");
    assert!(host.scrape().contains("gnomon_rules_last_reload_successful 0\n"), "which is alerted");
    assert!(call(&host, "shell").contains(rules::MESSAGE), "the rule that was in force is");

    fs::write(&file, &rule).unwrap();
    until("the mended rules", || host.scrape().contains("gnomon_rules_last_reload_successful 1\n").then_some(()));
}
