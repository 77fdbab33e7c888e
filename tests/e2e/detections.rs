//! The rules of the packs other than shadow-mcp: each matches its recorded exchange, and none matches look-alikes or the clients that
//! people use.

use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The packs under test.
const PACKS: &str = "detections,user-agents,llm-direct";

fn lines(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(file);
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An entry of a HAR.
fn entry(case: &Value) -> Value {
    let text = |key: &str| case[key].as_str().unwrap_or_default();
    let headers = |pairs: &Value| -> Vec<Value> {
        let pairs = pairs.as_array().into_iter().flatten();
        pairs.map(|pair| json!({"name": pair[0], "value": pair[1]})).collect()
    };
    let body = text("body");
    let scheme = case["scheme"].as_str().unwrap_or("https");
    let mut entry = json!({
        "startedDateTime": "2026-11-20T09:00:00.000Z", "time": 1,
        "request": {
            "method": text("method"), "url": format!("{scheme}://{}{}", text("host"), text("path")), "httpVersion": "HTTP/1.1",
            "headers": headers(&case["headers"]), "bodySize": body.len(), "postData": {"text": body},
        },
    });
    if let Some(answer) = case["answer"].as_str() {
        entry["response"] = json!({
            "status": case["status"], "headers": [{"name": "content-type", "value": "application/json"}],
            "content": {"size": answer.len(), "text": answer},
        });
    }
    entry
}

/// The rules that matched each entry of a recording.
fn matched(packs: &str, recording: &Path, count: usize) -> Vec<BTreeSet<String>> {
    let config = recording.with_extension("config.yml");
    fs::write(&config, "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
    command.args(["replay", "--json", "--packs", packs, "--config"]).arg(&config).arg(recording);
    let output = command.env("GNOMON_STATE_DIR", recording.parent().unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut matched = vec![BTreeSet::new(); count];
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let index = usize::try_from(event["gnomon.replay.index"].as_u64().unwrap()).unwrap();
        let ids = event["gnomon.rules.matched"].as_array().unwrap();
        matched[index].extend(ids.iter().map(|id| id.as_str().unwrap().to_owned()));
    }
    matched
}

fn har(dir: &Path, cases: &[Value]) -> PathBuf {
    let entries: Vec<Value> = cases.iter().map(entry).collect();
    let path = dir.join("cases.har");
    fs::write(&path, json!({"log": {"version": "1.2", "entries": entries}}).to_string()).unwrap();
    path
}

/// Names of shipped rules, by id.
fn name_of(id: &str) -> String {
    let field = |text: &str, key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
    let rules = gnomon_packs::packs().iter().flat_map(gnomon_packs::Pack::files);
    let found = rules.into_iter().find(|(_, text)| field(text, "id: ").as_deref() == Some(id));
    found.and_then(|(_, text)| field(text, "name: ")).unwrap_or_else(|| id.to_owned())
}

#[test]
fn every_rule_is_fired_by_its_recorded_exchange() {
    let (events, exchanges): (Vec<Value>, Vec<Value>) = lines("detections.jsonl").into_iter().partition(|case| case["event"].is_object());
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("events.jsonl");
    // Each line is a call of its own, with an observation id of its own.
    let text: Vec<String> = events.iter().map(|case| case["event"].to_string()).collect();
    fs::write(&log, text.join("\n")).unwrap();
    let of_exchanges = matched(PACKS, &har(dir.path(), &exchanges), exchanges.len());
    let of_events = matched(PACKS, &log, events.len());
    let mut fired = BTreeSet::new();
    for (case, ids) in exchanges.iter().zip(of_exchanges).chain(events.iter().zip(of_events)) {
        let names: BTreeSet<String> = ids.iter().map(|id| name_of(id)).collect();
        let rule = case["rule"].as_str().unwrap();
        assert!(names.contains(rule), "{rule} is not fired by its exchange; {names:?} are");
        fired.insert(rule.to_owned());
    }
    let packs = gnomon_packs::packs().iter().filter(|pack| PACKS.split(',').any(|name| name == pack.name));
    for (path, text) in packs.flat_map(gnomon_packs::Pack::files) {
        let name = text.lines().find_map(|line| line.strip_prefix("name: ")).unwrap();
        assert!(fired.contains(name), "no exchange fires {path}");
    }
}

#[test]
fn no_look_alike_fires_a_detection() {
    let cases = lines("negatives.jsonl");
    let dir = tempfile::tempdir().unwrap();
    let found = matched("detections,user-agents", &har(dir.path(), &cases), cases.len());
    for (case, ids) in cases.iter().zip(found) {
        let names: Vec<String> = ids.iter().map(|id| name_of(id)).collect();
        assert!(names.is_empty(), "{}: {names:?}", case["name"]);
    }
}

#[test]
fn no_client_that_people_use_is_suspicious_by_its_name() {
    let mut cases: Vec<Value> = ["real_clients_http.jsonl", "real_clients_auth.jsonl"].into_iter().flat_map(lines).collect();
    cases.retain(|case| case["method"] == "POST");
    let recorded = cases.len();
    assert!(recorded > 50);
    // Clients that were not recorded with their own User-Agent.
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    for name in ["claude-code/2.1.197 (sdk-cli)", "codex-mcp-client/0.169.0", "Go-http-client/1.1", "Java-http-client/21.0.2", "rmcp/3.8"] {
        cases.push(json!({
            "method": "POST", "host": "a.example", "path": "/mcp", "body": call,
            "headers": [["content-type", "application/json"], ["user-agent", name]],
        }));
    }
    cases.push(json!({"method": "POST", "host": "a.example", "path": "/mcp", "body": call, "headers": []}));
    let dir = tempfile::tempdir().unwrap();
    let found = matched("user-agents", &har(dir.path(), &cases), cases.len());
    for (case, ids) in cases.iter().zip(found) {
        let names: Vec<String> = ids.iter().map(|id| name_of(id)).collect();
        assert!(names.is_empty(), "{}: {names:?}", case["headers"]);
    }
}
