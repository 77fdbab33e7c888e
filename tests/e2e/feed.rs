//! Newer editions of the rules that ship: signed, tested before they act, in force without a restart, and taken back by one command.

use crate::{
    exec::GNOMON,
    sensor_stage::{Host, needs, until},
    support::rules,
};
use flate2::{Compression, write::GzEncoder};
use minisign::KeyPair;
use std::{
    fs::{self, Permissions},
    io::Cursor,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// Somebody who publishes editions, and a host that is configured to take them.
struct Publisher {
    keys: KeyPair,
    folder: TempDir,
}

impl Publisher {
    fn new() -> Self {
        let publisher = Self { keys: KeyPair::generate_unencrypted_keypair().unwrap(), folder: tempfile::tempdir().unwrap() };
        fs::set_permissions(publisher.folder.path(), Permissions::from_mode(0o755)).unwrap();
        let config = format!("rules: {{feed: rules.tar.gz, feed_key: {}}}\n", publisher.keys.pk.to_base64());
        fs::write(publisher.config(), config).unwrap();
        publisher
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("gnomon.yml")
    }

    /// An edition of one pack with these rules in place of its own.
    fn publishes(&self, version: &str, rules: &[(&str, &str)]) {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let about = format!("version: '{version}'\n");
        for (name, text) in [("feed.yml", about.as_str())].iter().chain(rules) {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let archive = tar.into_inner().unwrap().finish().unwrap();
        let signature = minisign::sign(None, &self.keys.sk, Cursor::new(&archive), None, None).unwrap().into_string();
        fs::write(self.folder.path().join("rules.tar.gz"), archive).unwrap();
        fs::write(self.folder.path().join("rules.tar.gz.minisig"), signature).unwrap();
    }

    fn asked(&self, state: &Path, words: &[&str]) -> Output {
        let mut command = Command::new(GNOMON);
        command.arg("rules").args(words).arg("--config").arg(self.config()).arg("--state-dir").arg(state);
        command.output().unwrap()
    }

    fn does(&self, state: &Path, words: &[&str]) -> String {
        let output = self.asked(state, words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn is_refused(&self, state: &Path, words: &[&str]) -> String {
        let output = self.asked(state, words);
        assert_eq!(output.status.code(), Some(3), "{words:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn an_edition_acts_without_a_restart_and_one_command_takes_it_back() {
    if !needs("an_edition_acts_without_a_restart_and_one_command_takes_it_back") {
        return;
    }
    let publisher = Publisher::new();
    let config = publisher.config();
    let host = Host::start_with(&["--sensor", "off", "--config", config.to_str().unwrap()]);
    let state = host.state.path();
    let reloads = |count: u32| {
        let line = format!("gnomon_rules_reload_total{{outcome=\"success\"}} {count}\n");
        until(&line, || host.scrape().contains(&line).then_some(()));
    };
    let listed = |title: &str| publisher.does(state, &["list"]).contains(title);
    let rule = rules::block(1, "gen_ai.tool.name: shell").text;
    publisher.publishes("2026.11.23", &[("shadow-mcp/no_shell.yml", &rule)]);
    let said = publisher.does(state, &["update", "--dry-run"]);
    assert!(said.contains("edition 2026.11.23: ") && said.contains("nothing was changed"), "{said}");
    assert!(listed("MCP message to an unsanctioned server"));

    let said = publisher.does(state, &["update"]);
    assert!(said.contains("; gone: ") && said.contains("MCP message to an unsanctioned server"), "{said}");
    reloads(1);
    assert!(crate::reload::call(&host, "shell").contains(rules::MESSAGE), "the edition's rule is in force");
    assert!(!listed("MCP message to an unsanctioned server"));
    assert!(publisher.does(state, &["update"]).contains("installed already"));

    let said = publisher.does(state, &["update", "--rollback"]);
    assert!(said.contains("the rules that ship"), "{said}");
    reloads(2);
    assert!(!crate::reload::call(&host, "shell").contains(rules::MESSAGE));
    assert!(listed("MCP message to an unsanctioned server"));
}

#[test]
fn an_edition_that_is_forged_older_or_fails_its_tests_changes_nothing() {
    let (publisher, state) = (Publisher::new(), tempfile::tempdir().unwrap());
    let state = state.path();
    let archive = publisher.folder.path().join("rules.tar.gz");
    let rule = rules::block(1, "gen_ai.tool.name: shell").text;
    publisher.publishes("2", &[("shadow-mcp/no_shell.yml", &rule)]);
    publisher.does(state, &["update"]);
    let before = publisher.does(state, &["list"]);

    publisher.publishes("1.9", &[("shadow-mcp/no_shell.yml", &rule)]);
    let said = publisher.is_refused(state, &["update"]);
    assert!(said.contains("edition 1.9, which is older than 2"), "{said}");

    let failing = format!("{rule}    tests:\n        - observe: {{gen_ai.tool.name: other}}\n          expect: match\n");
    publisher.publishes("3", &[("shadow-mcp/no_shell.yml", &failing)]);
    let said = publisher.is_refused(state, &["update"]);
    assert!(said.contains("expects a match and found none"), "{said}");

    publisher.publishes("3", &[("shadow-mcp/no_shell.yml", "title: [")]);
    assert!(publisher.is_refused(state, &["update"]).contains("shadow-mcp/no_shell.yml:1:"));

    publisher.publishes("3", &[("shadow-mcp/no_shell.yml", &rule)]);
    let mut bytes = fs::read(&archive).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&archive, bytes).unwrap();
    assert!(publisher.is_refused(state, &["update"]).contains("signature does not hold"));
    fs::remove_file(publisher.folder.path().join("rules.tar.gz.minisig")).unwrap();
    assert!(publisher.is_refused(state, &["update"]).contains("rules.tar.gz.minisig"));
    assert_eq!(publisher.does(state, &["list"]), before);

    // What is kept is believed by its signature alone, and what to do is said.
    fs::write(state.join("feed/2.tar.gz"), b"other rules").unwrap();
    let said = publisher.is_refused(state, &["list"]);
    assert!(said.contains("signature does not hold") && said.contains("gnomon rules update --remove"), "{said}");
    publisher.does(state, &["update", "--remove"]);
    assert!(publisher.does(state, &["list"]).contains("MCP message to an unsanctioned server"));
}

#[test]
fn an_edition_names_the_rules_that_it_switches_off_before_they_do_not_act_any_more() {
    let (publisher, state) = (Publisher::new(), tempfile::tempdir().unwrap());
    let state = state.path();
    let shell = rules::block(1, "gen_ai.tool.name: shell").text;
    let other = rules::block(2, "gen_ai.tool.name: other").text.replace("Blocked by the tests", "Other");
    publisher.publishes("1", &[("shadow-mcp/no_shell.yml", &shell), ("shadow-mcp/other.yml", &other)]);
    publisher.does(state, &["update"]);

    let off = shell.replace("gnomon:\n", "gnomon:\n    enabled: false\n");
    let exception = format!(
        "title: Except ada\nid: {}\nlogsource: {{product: mcp, category: mcp_traffic}}\n\
         filter:\n    rules: ['{}']\n    selection: {{user.name: ada}}\n    condition: not selection\n",
        rules::id(3),
        rules::id(2)
    );
    publisher.publishes("2", &[("shadow-mcp/no_shell.yml", &off), ("shadow-mcp/other.yml", &other), ("shadow-mcp/ada.yml", &exception)]);
    for words in [&["update", "--dry-run"][..], &["update"]] {
        let said = publisher.does(state, words);
        assert!(said.contains("; switched off: Blocked by the tests; narrowed by exceptions of the edition: Other\n"), "{said}");
    }
}

#[test]
fn an_edition_that_was_taken_back_is_not_installed_again_until_a_newer_one_or_by_word() {
    let (publisher, state) = (Publisher::new(), tempfile::tempdir().unwrap());
    let state = state.path();
    let rule = rules::block(1, "gen_ai.tool.name: shell").text;
    let publishes = |version: &str| publisher.publishes(version, &[("shadow-mcp/no_shell.yml", &rule)]);
    publishes("1");
    publisher.does(state, &["update"]);
    publishes("2");
    publisher.does(state, &["update"]);
    assert!(publisher.does(state, &["update", "--rollback"]).contains("edition 1 is in force again"));
    // What a timer does the next night, twice.
    for _ in 0..2 {
        let said = publisher.does(state, &["update"]);
        assert!(said.contains("edition 2 was taken back") && said.contains("--again"), "{said}");
        assert_eq!(fs::read_to_string(state.join("feed/current")).unwrap(), "1\n");
    }
    assert!(publisher.does(state, &["update", "--again"]).contains("installed;"));
    assert!(fs::read_to_string(state.join("feed/current")).unwrap().starts_with("2\n"));
    publisher.does(state, &["update", "--remove"]);
    assert!(publisher.does(state, &["update"]).contains("edition 2 was taken back"));
    publishes("3");
    assert!(publisher.does(state, &["update"]).contains("installed;"), "a newer one is installed by itself");
    assert!(!state.join("feed/refused").exists());
}
