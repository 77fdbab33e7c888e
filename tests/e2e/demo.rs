//! `gnomon demo` as people start it: every step shows what it announces, and nothing is left behind.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output},
};

use crate::{exec::GNOMON, sensor_stage::needs};

fn demo(folder: &Path, user: Option<u32>) -> Output {
    let mut command = Command::new(GNOMON);
    command.arg("demo").env("TMPDIR", folder).env("HOME", folder).env_remove("HTTPS_PROXY").env_remove("XDG_CACHE_HOME");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command.output().unwrap()
}

fn shows_everything(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for expected in [
        "The note was saved.",
        "MCP message to an unsanctioned server",
        "This server is not approved.",
        "Use the company portal for MCP.",
        "GnomonShadowMcpCall: ",
        "command: gnomon events show --incident ",
        "sample-agent/1.0",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }
    assert!(!text.contains("{{"), "a template shows in\n{text}");
    // Each step prints the events that it recorded, also where its gnomon has already ended.
    for act in text.split("\n== ").filter(|act| act.starts_with(|c: char| c.is_ascii_digit())) {
        let recorded = act.split_once("What gnomon recorded:").map_or("", |(_, events)| events.trim());
        assert!(recorded.lines().any(|line| line.contains("tools/call save_note")), "an act shows no event:\n{act}");
    }
    text
}

#[test]
fn the_demonstration_shows_every_step_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let root = rustix::process::geteuid().is_root();
    // Without privileges first, as a newcomer would run it.
    let text = shows_everything(&demo(folder.path(), root.then_some(65534)));
    assert!(text.contains("The agent is told of the proxy."), "{text}");
    if needs("demo with the kernel half") {
        let text = shows_everything(&demo(folder.path(), None));
        assert!(text.contains("owner, seen at the proxy"), "{text}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "its folder is removed");
}

#[test]
fn a_made_up_week_can_be_reported_on_and_never_mixes_with_what_was_seen() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("its week");
    let asked = |words: &[&str]| Command::new(GNOMON).args(words).arg(&state).output().unwrap();
    let until = ["--until", "2026-11-22T18:00:00Z"];
    let made = asked(&["demo", until[0], until[1], "--week"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = String::from_utf8(made.stdout).unwrap();
    assert!(said.contains("nothing of it was seen") && said.contains("/its week' --html week.html"), "{said}");
    let report = asked(&["report", until[0], until[1], "--json", "--state-dir"]);
    let page: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let new: Vec<_> = page["new_servers"].as_array().unwrap().iter().map(|server| server["address"].as_str().unwrap()).collect();
    assert_eq!(new, ["browser.tools.example", "design.example", "files.transfer.example", "warehouse.corp.example"]);
    assert_eq!(page["new_tools"].as_array().unwrap().len(), 2, "{page}");
    let days = page["usage"]["days"].as_array().unwrap();
    assert!(days.iter().filter(|day| day["sanctioned"].as_u64() > day["shadow"].as_u64()).count() >= 5, "{page}");
    // What is told as denied is denied: the page and the journal of reviews agree with the detections.
    let waiting: Vec<_> =
        page["debt"]["unreviewed"].as_array().unwrap().iter().map(|one| one["server"]["host"].as_str().unwrap()).collect();
    assert!(waiting.contains(&"mcp.notes.example") && !waiting.contains(&"files.transfer.example"), "{page}");
    let events = asked(&["events", "--json", "--rule", "MCP message to a server that was denied in review", "--state-dir"]);
    let denied: Vec<serde_json::Value> =
        String::from_utf8(events.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!denied.is_empty() && denied.iter().all(|event| event["gnomon.server.review"] == "denied"), "{denied:#?}");
    for event in &denied {
        let review = asked(&["review", "show", event["server.address"].as_str().unwrap(), "--state-dir"]);
        let said = String::from_utf8(review.stdout).unwrap();
        assert!(review.status.success() && said.contains("denied") && said.contains("security"), "{said}");
    }
    // Made-up events beside real ones would be believed.
    let again = asked(&["demo", "--week"]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("has a ledger already"));
}
