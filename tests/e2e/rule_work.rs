//! The work on rules as docs/rules.md describes it: the commands are taken from the page and run as written.

use crate::{
    exec::GNOMON,
    sensor_stage::{Host, needs, until},
};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// The shell commands in a section of the page.
fn walk(section: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules.md")).unwrap();
    let (_, rest) = page.split_once(&format!("## {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

fn shell(host: &Host, script: &str) -> Output {
    // An empty configuration, so that this host's own is not used.
    let config = host.state.path().join("none.yml");
    fs::write(&config, "").unwrap();
    shell_with(host, &config, script)
}

fn shell_with(host: &Host, config: &Path, script: &str) -> Output {
    let folder = Path::new(GNOMON).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-euc", script]).env("PATH", path).env("GNOMON_STATE_DIR", host.state.path());
    command.env("GNOMON_CONFIG", config).output().unwrap()
}

fn run(host: &Host, script: &str) -> String {
    succeeded(shell(host, script), script)
}

fn run_with(host: &Host, config: &Path, script: &str) -> String {
    succeeded(shell_with(host, config, script), script)
}

fn succeeded(output: Output, script: &str) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{out}\n{err}");
    format!("{out}{err}")
}

/// The newest event of this tool.
fn newest(host: &Host, tool: &str) -> serde_json::Value {
    let events = host.events();
    let line = events.lines().rfind(|line| line.contains(tool)).unwrap();
    serde_json::from_str(line).unwrap()
}

#[test]
fn ten_minutes_from_an_event_to_a_tested_exception() {
    if !needs("ten_minutes_from_an_event_to_a_tested_exception") {
        return;
    }
    let host = Host::start_with(&["--sensor", "off"]);
    host.cause_event("search_docs");
    let before = newest(&host, "search_docs");
    assert!(before["rule.id"].is_string(), "{before}");
    let said = run(&host, &walk("Ten minutes from an event to a tested exception"));
    for words in ["true    mcp.method.name", "mf_triage_", "server.address = 127.0.0.2", "acts ", "tests: all as expected", "0 detections"]
    {
        assert!(said.contains(words), "expected `{words}` in:\n{said}");
    }
    // The running gnomon, which is another user, has loaded it.
    let line = "gnomon_rules_reload_total{outcome=\"success\"} 1\n";
    until(line, || host.scrape().contains(line).then_some(()));
    let (first, second) = (host.events().lines().count(), "search_docs");
    host.cause_event(second);
    until("another event", || (host.events().lines().count() > first).then_some(()));
    let after = newest(&host, "search_docs");
    assert_eq!((&after["event.kind"], &after["rule.id"]), (&"event".into(), &serde_json::Value::Null), "{after}");
    // Another tool of the same server is reported as before.
    host.cause_event("shell");
    assert!(newest(&host, "shell")["rule.id"].is_string());
}

#[test]
fn a_benign_verdict_on_the_server_leaves_what_else_the_call_was_found_to_be() {
    if !needs("a_benign_verdict_on_the_server_leaves_what_else_the_call_was_found_to_be") {
        return;
    }
    let config = tempfile::NamedTempFile::new().unwrap();
    fs::write(config.path(), "rules: { packs: [builtin, detections] }\n").unwrap();
    fs::set_permissions(config.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let host = Host::start_with(&["--sensor", "off", "--config", config.path().to_str().unwrap()]);
    let upload = || host.cause("upload", r#"{"text":"aws_access_key_id = AKIAQYLPMN5HHHFPZAM2"}"#);
    let found = |class: &str| -> Vec<serde_json::Value> {
        let events = host.events();
        let events = events.lines().filter(|line| line.contains("upload")).map(|line| serde_json::from_str(line).unwrap());
        events.filter(|event: &serde_json::Value| event["gnomon.detection.class"] == class && event["rule.id"].is_string()).collect()
    };
    upload();
    let key = until("the key", || found("dlp").into_iter().next());
    let (server, title) = (until("the server", || found("mcp").into_iter().next()), key["rule.name"].as_str().unwrap());
    let script = format!("gnomon triage {} benign --until 2099-01-01 --reason approved", server["event.id"].as_str().unwrap());
    let said = run_with(&host, config.path(), &script);
    let (silenced, stays) = said.split_once("goes on being told").unwrap_or_else(|| panic!("{said}"));
    assert!(silenced.contains(server["rule.name"].as_str().unwrap()) && !silenced.contains(title), "{said}");
    assert!(stays.contains(title), "{said}");
    let file = said.lines().find_map(|line| line.split_once(" written: ")).unwrap_or_else(|| panic!("{said}")).0;
    let written = fs::read_to_string(file).unwrap();
    assert!(written.contains(&format!("# - {}  # {title}", key["rule.id"].as_str().unwrap())), "{written}");
    let line = "gnomon_rules_reload_total{outcome=\"success\"} 1\n";
    until(line, || host.scrape().contains(line).then_some(()));
    upload();
    until("the key again", || (found("dlp").len() == 2).then_some(()));
    assert_eq!(found("mcp").len(), 1, "the server is excepted");
    // `--also` refuses a rule that is none of the call's others, and takes one of them by its title.
    let script = format!("gnomon triage {} benign --until 2099-01-01 --reason test --also nothing", key["event.id"].as_str().unwrap());
    let refused = shell_with(&host, config.path(), &script);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`nothing` is none of the other rules"), "{refused:?}");
    let said = run_with(&host, config.path(), &script.replace("nothing", &format!("'{}'", server["rule.name"].as_str().unwrap())));
    let silenced = said.split("goes on being told").next().unwrap();
    assert!(silenced.contains(title) && silenced.contains(server["rule.name"].as_str().unwrap()), "{said}");
}

#[test]
fn a_benign_verdict_says_before_it_is_written_how_much_it_silences_and_one_command_undoes_it() {
    if !needs("a_benign_verdict_says_before_it_is_written_how_much_it_silences_and_one_command_undoes_it") {
        return;
    }
    let host = Host::start_with(&["--sensor", "off"]);
    for tool in ["search_docs", "search_docs", "search_docs", "shell"] {
        host.cause_event(tool);
    }
    let told = || host.events().lines().filter(|line| line.contains("\"rule.id\"")).count();
    until("the events", || (told() == 4).then_some(()));
    let event = newest(&host, "search_docs");
    let triage = format!("gnomon triage {} benign --until 2099-01-01 --reason approved", event["event.id"].as_str().unwrap());
    let rule = format!("  {} [{}]: ", event["rule.name"].as_str().unwrap(), event["rule.id"].as_str().unwrap());
    let said = run(&host, &format!("{triage} --dry-run"));
    assert!(said.contains(&format!("{rule}3 of 4 events\n")) && said.contains("nothing was written"), "{said}");
    assert!(!host.state.path().join("triage.d").read_dir().is_ok_and(|mut files| files.next().is_some()));
    let wider = run(&host, &format!("{triage} --dry-run --wider gen_ai.tool.name"));
    assert!(wider.contains(&format!("{rule}4 of 4 events\n")), "{wider}");
    let shown: serde_json::Value =
        serde_json::from_str(&run(&host, &format!("gnomon events show {} --json", event["event.id"].as_str().unwrap()))).unwrap();
    assert_eq!(shown["verdicts"], serde_json::json!([]), "a dry run keeps no verdict");

    let said = run(&host, &triage);
    let (before, after) = said.split_once(" written: ").unwrap_or_else(|| panic!("{said}"));
    assert!(before.contains("3 of 4 events"), "the numbers come first: {said}");
    let undo = after.lines().find(|line| line.starts_with("  rm ")).unwrap_or_else(|| panic!("{said}"));
    let reloaded = |times: u32| {
        let line = format!("gnomon_rules_reload_total{{outcome=\"success\"}} {times}\n");
        until(&line, || host.scrape().contains(&line).then_some(()));
    };
    reloaded(1);
    let seen = host.events().lines().count();
    host.cause_event("search_docs");
    until("the event", || (host.events().lines().count() > seen).then_some(()));
    assert_eq!(told(), 4, "it is silenced");
    run(&host, undo);
    reloaded(2);
    host.cause_event("search_docs");
    until("the detection", || (told() == 5).then_some(()));
}

#[test]
fn a_rule_begun_from_an_event_passes_its_check_and_says_what_it_would_have_matched() {
    if !needs("a_rule_begun_from_an_event_passes_its_check_and_says_what_it_would_have_matched") {
        return;
    }
    let host = Host::start_with(&["--sensor", "off"]);
    host.cause_event("search_docs");
    let id = newest(&host, "search_docs")["event.id"].as_str().unwrap().to_owned();
    let folder = host.state.path().join("drafts");
    fs::create_dir(&folder).unwrap();
    let said = run(
        &host,
        &format!(
            "cd {}; gnomon rules new --from {id} > rule.yml; gnomon rules new --from {id} --exception > exception.yml; \
             gnomon rules check rule.yml; gnomon rules check exception.yml; gnomon rules test rule.yml exception.yml",
            folder.display()
        ),
    );
    assert!(said.contains("1 rule, 2 tests: all as expected"), "{said}");
    assert!(said.contains("would have matched once in 7 days of recorded events") && said.contains("127.0.0.2 1"), "{said}");
    assert!(!said.contains("warning"), "{said}");
    let confirmed = run(&host, &format!("gnomon triage {id} confirmed --reason 'exfiltration' --owner soc"));
    assert!(confirmed.contains("is noted as confirmed"), "{confirmed}");
    let shown = run(&host, &format!("gnomon events show {id} --json"));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let verdict = &shown["verdicts"][0]["verdict"];
    assert_eq!(
        (&verdict["kind"], &verdict["event"], &verdict["owner"]),
        (&"confirmed".into(), &id.as_str().into(), &"soc".into()),
        "{shown}"
    );
}

#[test]
fn what_ships_passes_its_check_where_a_package_puts_it_and_an_unmodified_copy_beside_it_does_not() {
    if !needs("what_ships_passes_its_check_where_a_package_puts_it_and_an_unmodified_copy_beside_it_does_not") {
        return;
    }
    let host = Host::start_with(&["--sensor", "off"]);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/packs/shadow-mcp");
    let said = run(&host, &format!("gnomon rules check {}", shipped.display()));
    assert!(said.contains("all as expected"), "{said}");
    let rules = host.state.path().join("rules");
    fs::create_dir_all(&rules).unwrap();
    fs::copy(shipped.join("mcp_server_denied.yml"), rules.join("mine.yml")).unwrap();
    let config = host.state.path().join("with-rules.yml");
    fs::write(&config, format!("rules: {{dirs: ['{}']}}\n", rules.display())).unwrap();
    let refused = shell_with(&host, &config, &format!("gnomon rules check {}", rules.display()));
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("is also used in"), "{refused:?}");
}
