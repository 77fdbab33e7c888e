//! The files that ship are valid for the programs that read them, and every metric, label and rule that they name exists.

use super::prometheus::{Prometheus, Watched, deployed, has};
use super::queries::names;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Labels that Prometheus adds to every series.
const TARGET: [&str; 2] = ["job", "instance"];

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
}

/// The files of a folder with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|is| is == extension));
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

/// The alerting and recording rules for Prometheus, in order.
fn rules() -> Vec<Value> {
    let text = fs::read_to_string(deployed().join("gnomon.rules.yml")).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    file["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// Every metric that can be queried, with its labels: those of the generated reference page, and those that the rules record.
fn known() -> BTreeMap<String, BTreeSet<String>> {
    let page = Command::new(env!("CARGO_BIN_EXE_gnomon")).args(["reference", "metrics"]).output().unwrap();
    let mut known = BTreeMap::new();
    for row in String::from_utf8(page.stdout).unwrap().lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let mut labels: BTreeSet<String> = cells[3].split(", ").map(|label| label.trim_matches('`').to_owned()).collect();
        labels.extend(TARGET.map(str::to_owned));
        let name = cells[1].trim_matches('`');
        if cells[2] == "histogram" {
            labels.insert("le".to_owned());
            known.extend(["bucket", "sum", "count"].map(|part| (format!("{name}_{part}"), labels.clone())));
        } else {
            known.insert(name.to_owned(), labels);
        }
    }
    known.insert("up".to_owned(), TARGET.map(str::to_owned).into());
    known.insert("ALERTS".to_owned(), ["alertname", "alertstate", "severity", "team", "job", "instance"].map(str::to_owned).into());
    for rule in rules().iter().filter(|rule| !rule["record"].is_null()) {
        let named = names(rule["expr"].as_str().unwrap());
        // A series made from another recorded series has the labels of that one.
        let recorded = named.metrics.keys().filter(|metric| metric.contains(':')).filter_map(|metric| known.get(metric)).flatten().cloned();
        let labels = recorded.chain(named.labels.iter().cloned()).chain(["signal".to_owned()]).collect();
        known.insert(rule["record"].as_str().unwrap().to_owned(), labels);
    }
    known
}

/// Fails if a query names a metric or a label that does not exist.
fn check(known: &BTreeMap<String, BTreeSet<String>>, place: &str, query: &str) {
    let named = names(query);
    assert!(!named.metrics.is_empty(), "{place} asks for nothing: {query}");
    let mut available = BTreeSet::new();
    for (metric, labels) in &named.metrics {
        let has = known.get(metric).unwrap_or_else(|| panic!("{place}: there is no metric {metric}"));
        labels.iter().for_each(|label| assert!(has.contains(label), "{place}: {metric} has no label {label}"));
        available.extend(has);
    }
    named.labels.iter().for_each(|label| assert!(available.contains(label), "{place}: nothing in it has a label {label}: {query}"));
}

#[test]
fn promtool_and_amtool_take_the_files_and_the_alerts_do_as_their_tests_say() {
    let name = "promtool_and_amtool_take_the_files_and_the_alerts_do_as_their_tests_say";
    if !has(name, &["promtool", "amtool"]) {
        return;
    }
    let at = deployed();
    succeeds(Command::new("promtool").args(["check", "config"]).arg(at.join("prometheus.example.yml")));
    succeeds(Command::new("promtool").args(["test", "rules"]).args(files(&at.join("tests"), "yml")));
    let routes = at.join("alertmanager.example.yml");
    succeeds(Command::new("amtool").arg("check-config").arg(&routes));
    for (labels, receiver) in [
        (["team=security", "severity=warning"], "soc"),
        (["team=security", "severity=critical"], "soc-pager"),
        (["team=operations", "severity=critical"], "operations-pager"),
        (["team=operations", "severity=warning"], "operations"),
    ] {
        let mut command = Command::new("amtool");
        command.args(["config", "routes", "test"]).arg(format!("--config.file={}", routes.display()));
        succeeds(command.arg(format!("--verify.receivers={receiver}")).args(labels));
    }
}

/// Alerts that no test provokes with a running gnomon: the audit's receiver would have to be away for long, its disk be full at the right
/// moment, thousands of connections be used up (what becomes of the calls then is tested in proxy/intercept/tests/behaviour/short.rs), or
/// gnomon have a defect (that one is counted while gnomon runs is tested in its process, in recorded.rs there).
const FIRED_BY_PROMTOOL_ONLY: [&str; 5] =
    ["GnomonAuditLost", "GnomonAuditNotSent", "GnomonHomeUnread", "GnomonUnrecorded", "GnomonUpstreamsRefused"];

#[test]
fn each_alert_names_a_command_and_a_chapter_and_asks_for_what_is_there() {
    let known = known();
    let chapters = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.md")).unwrap();
    let all = |files: Vec<PathBuf>| files.iter().map(|file| fs::read_to_string(file).unwrap()).collect::<String>();
    let tests = all(files(&deployed().join("tests"), "yml"));
    let fired = all(files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/alerts"), "rs"));
    for rule in rules() {
        let place = rule["alert"].as_str().or(rule["record"].as_str()).unwrap().to_owned();
        check(&known, &place, rule["expr"].as_str().unwrap());
        let Some(alert) = rule["alert"].as_str() else { continue };
        let noted = &rule["annotations"];
        let runbook = noted["runbook_url"].as_str().unwrap();
        let is_of_an_incident = rule["labels"]["level"].is_string() && alert != "GnomonMoreIncidents";
        let page = if is_of_an_incident { "reference/runbook.html#{{".to_owned() } else { format!("alerts.html#{}", alert.to_lowercase()) };
        assert!(runbook.starts_with(&format!("file:///usr/share/doc/gnomon/html/{page}")), "{alert}: {runbook}");
        assert!(chapters.contains(&format!("\n### {alert}\n")), "docs/alerts.md has no chapter on {alert}");
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} has no test");
        let of_promtool_only = FIRED_BY_PROMTOOL_ONLY.contains(&alert);
        assert!(of_promtool_only || fired.contains(&format!("fires(\"{alert}\")")), "no test fires {alert} and runs its command");
        assert!(["summary", "description", "command"].iter().all(|note| noted[*note].is_string()), "{alert}");
        assert!(rule["labels"]["severity"].is_string() && rule["labels"]["team"].is_string(), "{alert}");
    }
}

/// A host that was taken over chooses the labels of its series, and somebody pastes the command.
#[test]
fn of_a_label_no_command_of_an_alert_has_more_than_characters_of_ids_and_reasons() {
    let mut taken = 0;
    for rule in rules().iter().filter(|rule| rule["alert"].is_string()) {
        let command = rule["annotations"]["command"].as_str().unwrap();
        for (at, _) in command.match_indices("$labels") {
            let before = command[..at].trim_end();
            let allowed =
                before.strip_suffix("]\" \"\"").and_then(|before| before.rsplit_once("reReplaceAll \"[^")).map(|(_, class)| class);
            assert!(matches!(allowed, Some("0-9a-f-" | "0-9a-z-" | "a-z_")), "{}: {command}", rule["alert"]);
            taken += 1;
        }
        assert!(!command.contains("$value") && !command.contains(".Labels"), "{command}");
    }
    assert!(taken >= 8, "{taken}");
}

#[test]
fn alerts_name_rules_that_are_loaded() {
    let scraped = Watched::start().scrape();
    let text = fs::read_to_string(deployed().join("gnomon.rules.yml")).unwrap();
    let is_id = |word: &&str| word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    let ids: Vec<_> = text.split(|c: char| !c.is_ascii_hexdigit() && c != '-').filter(is_id).collect();
    assert!(ids.len() >= 10);
    for id in ids {
        assert!(scraped.contains(&format!("rule=\"{id}\"")), "no rule {id} is loaded");
    }
}

/// Replaces a dashboard's variables with values, as Grafana does.
fn filled(query: &str) -> String {
    query.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$instance", ".+")
}

/// The queries of a dashboard, each with the labels that its legend shows.
fn queries(dashboard: &Value) -> Vec<(String, String, String)> {
    let panels = dashboard["panels"].as_array().unwrap();
    let of_panel = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let text = |target: &Value, key: &str| target[key].as_str().unwrap_or_default().to_owned();
        targets.into_iter().map(move |target| (title.clone(), text(&target, "expr"), text(&target, "legendFormat")))
    };
    panels.iter().flat_map(of_panel).collect()
}

#[test]
fn dashboards_ask_for_what_is_there_in_words_that_prometheus_takes() {
    let name = "dashboards_ask_for_what_is_there_in_words_that_prometheus_takes";
    if !has(name, &["prometheus"]) {
        return;
    }
    let (known, prometheus) = (known(), Prometheus::alone());
    let mut uids = BTreeSet::new();
    for file in files(&deployed().join("../grafana"), "json") {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert!(uids.insert(dashboard["uid"].as_str().unwrap().to_owned()), "{}", file.display());
        assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource", "{}", file.display());
        for (title, expr, legend) in queries(&dashboard) {
            let place = format!("{}, {title}", file.file_name().unwrap().display());
            check(&known, &place, &expr);
            prometheus.takes(&filled(&expr)).unwrap_or_else(|error| panic!("{place}: {error}: {expr}"));
            let shown = names(&expr);
            for label in legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim())) {
                let has = |metric| known.get(metric).is_some_and(|labels: &BTreeSet<String>| labels.contains(label));
                assert!(shown.metrics.keys().any(has), "{place}: the legend shows {label}, which nothing has");
            }
        }
    }
    assert_eq!(uids.len(), 5);
}
