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
