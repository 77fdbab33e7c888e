//! `gnomon config check` is green where a start is, and red where one is: it reads what a start reads, of the state folder as well.

use crate::{
    alerts::prometheus::{Watched, home},
    exec::GNOMON,
    sensor_stage::{kill, skip, until},
    support::rules,
};
use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

const NOBODY: u32 = 65534;

/// A configuration with a folder of rules, and a state folder with exceptions.
fn installed() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    for folder in ["rules", "state", "state/triage.d"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        fs::set_permissions(dir.path().join(folder), Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(dir.path().join("rules/one.yml"), rules::block(1, "gen_ai.tool.name: shell").text).unwrap();
    fs::write(dir.path().join("gnomon.yml"), "rules: {dirs: [rules]}\nproxy: {listen: '127.0.0.1:0'}\nmetrics: {listen: 'off'}\n").unwrap();
    dir
}

fn command(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(GNOMON);
    command.args(words).arg("--config").arg(dir.join("gnomon.yml")).arg("--state-dir").arg(dir.join("state"));
    command
}

fn check(dir: &Path) -> Output {
    command(dir, &["config", "check"]).output().unwrap()
}

/// How a start ends, which must not come up.
fn start(dir: &Path) -> (Option<i32>, String) {
    let output = command(dir, &["proxy"]).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), text(&output.stderr))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn config_check_is_red_where_a_start_is_also_by_what_is_in_the_state_folder() {
    let dir = installed();
    let said = check(dir.path());
    let (out, rules) = (text(&said.stdout), dir.path().join("rules"));
    assert!(said.status.success() && out.contains("gnomon.yml: good, "), "{said:?}");
    for line in [
        format!("  rules that ship: those of gnomon {}\n", env!("CARGO_PKG_VERSION")),
        format!("  1 file in {}\n", rules.display()),
        format!("  0 files in {}\n", dir.path().join("state/triage.d").display()),
    ] {
        assert!(out.contains(&line), "{line}{out}");
    }

    // An exception that does not compile.
    let bad = dir.path().join("state/triage.d/bad.yml");
    fs::write(&bad, "title: [\n").unwrap();
    let said = check(dir.path());
    assert_eq!(said.status.code(), Some(3), "{said:?}");
    let cause = format!("{}:", bad.display());
    assert!(text(&said.stderr).contains(&cause), "{said:?}");
    let (code, log) = start(dir.path());
    assert!(code == Some(3) && log.contains(&cause), "{log}");
    fs::remove_file(&bad).unwrap();

    // An edition whose files are gone.
    let config = fs::read_to_string(dir.path().join("gnomon.yml")).unwrap();
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    fs::write(dir.path().join("gnomon.yml"), config.replace("dirs: [rules]", &format!("dirs: [rules], feed_key: {key}"))).unwrap();
    let said = check(dir.path());
    assert!(said.status.success() && text(&said.stdout).contains("no edition of the feed is installed"), "{said:?}");
    fs::create_dir(dir.path().join("state/feed")).unwrap();
    fs::write(dir.path().join("state/feed/current"), "2026.11.23\n").unwrap();
    let said = check(dir.path());
    assert!(said.status.code() == Some(3) && text(&said.stderr).contains("2026.11.23.tar.gz"), "{said:?}");
    let (code, log) = start(dir.path());
    assert!(code == Some(3) && log.contains("2026.11.23.tar.gz"), "{log}");
}

/// A copy of a shipped rule with its id kept: beside the shipped one nobody could say which of the two is meant.
#[test]
fn a_rule_with_the_id_of_one_that_ships_is_refused_by_every_check_and_by_a_start() {
    const SHIPPED: &str = "a06d0be7-29e6-427c-8e90-673c481c5fac";
    let dir = installed();
    let rule = rules::block(2, "gen_ai.tool.name: shell").text.replace(&rules::id(2), SHIPPED);
    let (draft, loaded) = (dir.path().join("drafts/copy.yml"), dir.path().join("rules/copy.yml"));
    fs::create_dir(dir.path().join("drafts")).unwrap();
    fs::write(&draft, rule).unwrap();
    let is_refused = |words: &[&str], file: &Path| {
        let said = command(dir.path(), words).stdin(Stdio::null()).output().unwrap();
        assert_eq!(said.status.code(), Some(3), "{words:?}: {said:?}");
        let (why, place) = (text(&said.stderr), format!("{}:", file.display()));
        let names = [place.as_str(), SHIPPED, "shadow-mcp/shadow_mcp_message.yml"].iter().all(|named| why.contains(named));
        assert!(names, "{words:?}: {why}");
    };
    // A folder that no configuration names yet.
    is_refused(&["rules", "check", dir.path().join("drafts").to_str().unwrap()], &draft);
    fs::rename(&draft, &loaded).unwrap();
    for words in [&["rules", "check"][..], &["config", "check"], &["proxy"]] {
        is_refused(words, &loaded);
    }
}

/// To copy it, and to compare it with another: what is printed of a rule is its file. One process for each of them would take long, so the
/// file of every one is held to be the rule's in a unit test of the command, and here some are printed.
#[test]
fn the_file_of_a_rule_that_ships_is_printed_byte_for_byte() {
    let all: Vec<(String, &str)> = gnomon_packs::packs().iter().flat_map(gnomon_packs::Pack::files).collect();
    let packs = gnomon_packs::packs().iter().map(|pack| pack.name).collect::<Vec<_>>().join(",");
    let dir = installed();
    for (name, _) in all.iter().step_by(all.len().div_ceil(10)) {
        let file = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/packs").join(name)).unwrap();
        let id = text(&file).lines().find_map(|line| line.strip_prefix("id: ").map(str::to_owned)).unwrap();
        let said = command(dir.path(), &["rules", "show", "--yaml", "--packs", &packs, &id]).output().unwrap();
        assert!(said.status.success() && said.stdout == file, "{name}: {said:?}");
    }
}

#[test]
fn what_this_user_may_not_read_of_the_state_folder_is_said_to_be_unchecked() {
    if !rustix::process::geteuid().is_root() {
        return skip("what_this_user_may_not_read_of_the_state_folder_is_said_to_be_unchecked", "needs root, to become another user");
    }
    let dir = installed();
    fs::write(dir.path().join("state/triage.d/bad.yml"), "title: [\n").unwrap();
    let closed = |mode: u32, folder: &str| fs::set_permissions(dir.path().join(folder), Permissions::from_mode(mode)).unwrap();
    let by_nobody = || command(dir.path(), &["config", "check"]).uid(NOBODY).gid(NOBODY).output().unwrap();
    for (folder, named) in [("state", "state,"), ("state/triage.d", "state/triage.d,"), ("state/triage.d/bad.yml", "bad.yml,")] {
        closed(0o700, folder);
        let said = by_nobody();
        let out = text(&said.stdout);
        assert!(said.status.success(), "{said:?}");
        assert!(out.contains("  not checked: ") && out.contains(named) && out.contains("may not read"), "{folder}: {out}");
        closed(0o755, folder);
    }
    let said = by_nobody();
    assert!(said.status.code() == Some(3) && text(&said.stderr).contains("bad.yml:"), "{said:?}");
}

/// A method that is none of MCP's is said to be so before anybody waits for the rule to match.
#[test]
fn the_check_of_a_rule_points_out_a_method_that_mcp_does_not_have() {
    let dir = installed();
    fs::write(dir.path().join("rules/one.yml"), rules::block(1, "mcp.method.name: tool/call").text).unwrap();
    let said = command(dir.path(), &["rules", "check"]).output().unwrap();
    let out = text(&said.stdout);
    assert!(said.status.success(), "{said:?}");
    assert!(
        out.contains("warning: ") && out.contains("no revision of MCP has the method `tool/call`; did you mean `tools/call`?"),
        "{out}"
    );
}

#[test]
fn after_a_reload_that_was_refused_the_last_line_says_so_and_several_errors_are_told_apart_everywhere() {
    let watched = Watched::at(home(""), &["proxy"]);
    let file = watched.dir.path().join("gnomon.yml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{good}proxy: {{lisen: 1}}\n")).unwrap();
    for _ in 0..5 {
        let before = watched.log().len();
        kill(watched.pid(), rustix::process::Signal::HUP);
        let new = until("both to be told", || {
            let log = watched.log().split_off(before);
            (log.contains("rules reloaded") && log.contains("unknown key `lisen`") && log.ends_with('\n')).then_some(log)
        });
        let last = new.lines().last().unwrap_or_default();
        assert!(last.contains("unknown key `lisen`") || last.contains("but the configuration was not reloaded"), "{new}");
    }
    fs::write(&file, format!("{good}proxy: {{listen: nowhere}}\nmetrics: {{listen: nothing}}\n")).unwrap();
    kill(watched.pid(), rustix::process::Signal::HUP);
    for command in ["gnomon status", "gnomon events --where gnomon.health=not_changed"] {
        let said = until(command, || {
            let said = text(&watched.run(command).stdout);
            (said.contains("nowhere") && said.contains("nothing")).then_some(said)
        });
        assert!(!said.contains('\u{fffd}'), "{command}: {said}");
    }
    assert!(text(&watched.run("gnomon config check").stderr).contains("nothing"), "each on a line of its own");
}
