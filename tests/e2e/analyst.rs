//! What an analyst asks for after an alert, or once a week: a rule by any of its names, and the detections that no alert was raised for.

use crate::{
    alerts::prometheus::{Watched, home},
    explained::ask,
    sensor_stage::until,
};
use serde_json::Value;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// A rule of an administrator, with this level, for calls of this tool.
fn rule(id: u8, name: &str, title: &str, level: &str, tool: &str) -> String {
    format!(
        "title: {title}\nid: 3f0c7a52-9d4e-4f0b-8a11-5b2e6c9d7e{id:02}\nname: {name}\nstatus: test\n\
         logsource: {{ product: mcp, category: mcp_traffic }}\n\
         detection: {{ call: {{ gen_ai.tool.name: {tool} }}, condition: call }}\nlevel: {level}\ngnomon: {{ class: policy }}\n"
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must succeed. Returns its output.
fn said(watched: &Watched, command: &str) -> String {
    let output = watched.run(command);
    assert!(output.status.success(), "{command}: {output:?}");
    text(&output.stdout)
}

/// Waits until the ledger has this many events, and returns them.
fn events(watched: &Watched, count: usize) -> Vec<Value> {
    until("the events", || {
        let lines = text(&watched.run("gnomon events --json").stdout);
        (lines.lines().count() >= count).then(|| lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    })
}

fn refused(output: &Output) -> String {
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{output:?}");
    text(&output.stderr)
}

#[test]
fn events_of_a_rule_are_found_by_its_id_name_and_title_also_once_it_is_not_loaded_any_more() {
    let dir = home("");
    let file = dir.path().join("rules/own.yml");
    fs::write(&file, rule(10, "deletes_files", "Deletes files", "critical", "delete_file")).unwrap();
    let watched = Watched::at(dir, &["proxy"]);
    watched.call("delete_file", "");
    watched.call("read_file", "");
    let events = events(&watched, 2);
    let ids = |output: &str| -> Vec<String> {
        let ids = output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event.id"].as_str().unwrap().to_owned());
        ids.collect()
    };
    let own = events.iter().find(|event| event["rule.name"] == "Deletes files").unwrap_or_else(|| panic!("{events:#?}"));
    let whole = own["rule.id"].as_str().unwrap();
    let other = events.iter().find(|event| event["gen_ai.tool.name"] == "read_file").unwrap_or_else(|| panic!("{events:#?}"));
    let (own_id, other_id) = (own["event.id"].as_str().unwrap(), other["event.id"].as_str().unwrap());
    let only_own = |output: &str| {
        let found = ids(output);
        found.iter().any(|id| id == own_id) && found.iter().all(|id| id != other_id)
    };
    for called in [whole, &whole[..8], "deletes_files", "DELETES_FILES", "Deletes files", "deletes files"] {
        let found = said(&watched, &format!("gnomon events --json --rule '{called}'"));
        assert!(only_own(&found), "{called}: {found}");
        assert!(said(&watched, &format!("gnomon rules show '{called}'")).contains(whole), "{called}");
        let explained = said(&watched, &format!("gnomon rules explain '{called}' {}", own["event.id"].as_str().unwrap()));
        assert!(explained.starts_with("Deletes files"), "{called}: {explained}");
    }

    // A rule that ships: by the name that its runbook has, whether it is switched on or not.
    let shadow = said(&watched, "gnomon events --json --rule shadow_mcp_message");
    assert_eq!(ids(&shadow), ids(&said(&watched, "gnomon events --json --rule a06d0be7-29e6-427c-8e90-673c481c5fac")));
    assert!(!ids(&shadow).is_empty(), "{shadow}");
    assert_eq!(said(&watched, "gnomon events --rule mcp_client_without_name"), "");
    assert_eq!(said(&watched, "gnomon events --rule 'Unusual volume to an MCP server'"), "");

    for (command, near) in [
        ("gnomon events --rule delets_files", "did you mean deletes_files (Deletes files)?"),
        ("gnomon events --rule 'Deletes file'", "did you mean deletes_files (Deletes files)?"),
        ("gnomon events --rule shadow_mcp_mesage", "did you mean shadow_mcp_message ("),
        ("gnomon rules show delets_files", "did you mean deletes_files (Deletes files)?"),
        ("gnomon events --rule zzzzzzzz", "`gnomon rules list` names the rules"),
    ] {
        let why = refused(&watched.run(command));
        assert!(why.contains(near), "{command}: {why}");
    }

    // What it left behind is found by what the events say of it.
    fs::remove_file(file).unwrap();
    for called in [whole, "Deletes files"] {
        let found = said(&watched, &format!("gnomon events --json --rule '{called}'"));
        assert!(only_own(&found), "{called}: {found}");
    }
    let why = refused(&watched.run("gnomon events --rule deletes_files"));
    assert!(why.contains("no rule has the id, name or title `deletes_files`"), "{why}");
    // Without a readable configuration, too.
    fs::write(watched.dir.path().join("gnomon.yml"), "rules: [").unwrap();
    assert!(!ids(&said(&watched, "gnomon events --json --rule shadow_mcp_message")).is_empty());
    let why = refused(&watched.run("gnomon events --rule deletes_files"));
    assert!(why.contains("the configured rules cannot be read"), "{why}");
}

#[test]
fn the_weekly_report_counts_by_rule_the_detections_that_raise_no_alert() {
    let dir = home("");
    fs::write(dir.path().join("gnomon.yml"), "rules: { packs: none, dirs: [rules] }\n").unwrap();
    for (id, level, tool) in [(11, "low", "list_files"), (12, "informational", "read_file"), (13, "high", "delete_file")] {
        let text = rule(id, tool, &format!("Calls {tool}"), level, tool);
        fs::write(dir.path().join(format!("rules/{tool}.yml")), text).unwrap();
    }
    let watched = Watched::at(dir, &["proxy"]);
    for tool in ["list_files", "list_files", "read_file", "delete_file"] {
        watched.call(tool, "");
    }
    events(&watched, 4);
    let page = said(&watched, "gnomon report");
    let (_, low) = page.split_once("\nLow-level detections, which raise no alert: 3\n").unwrap_or_else(|| panic!("{page}"));
    let rows: Vec<&str> = low.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    assert_eq!(rows, ["2  Calls list_files", "1  Calls read_file"], "{page}");
    let json: Value = serde_json::from_str(&said(&watched, "gnomon report --json")).unwrap();
    assert_eq!(json["usage"]["low"]["names"], serde_json::json!({"Calls list_files": 2, "Calls read_file": 1}));
    let html = said(&watched, "gnomon report --html -");
    let (_, low) = html.split_once("<h2>Low-level detections</h2>").unwrap_or_else(|| panic!("{html}"));
    let low = low.split("<h2>").next().unwrap();
    assert!(low.contains("Calls list_files") && low.contains("Calls read_file") && !low.contains("delete_file"), "{low}");
}

#[test]
fn the_inventory_shows_the_servers_that_are_asked_for_and_how_many_more_there_are() {
    let watched = Watched::at(home("sanctioned: [127.0.0.2]\n"), &["proxy"]);
    for address in ["127.0.0.2", "127.0.0.3", "127.0.0.4"] {
        watched.call_as("", &format!("{address}:1"), "read_file");
    }
    let shown = |options: &str| text(&watched.run(&format!("gnomon inventory {options}")).stdout);
    until("three servers", || (2..=4).all(|last| shown("").contains(&format!("127.0.0.{last}:1"))).then_some(()));
    let lists = |options: &str| -> Vec<u8> {
        let shown = shown(options);
        (2..=4).filter(|last| shown.contains(&format!("127.0.0.{last}:1"))).collect()
    };
    assert_eq!(lists("--status shadow"), [3, 4]);
    assert_eq!(lists("--status sanctioned"), [2]);
    assert_eq!(lists("--server 0.0.4"), [4]);
    assert!(lists("--tool no_such_tool").is_empty());
    assert!(shown("--tool no_such_tool").contains("none of the 3 servers"), "{}", shown("--tool no_such_tool"));
    let first = shown("--limit 1");
    assert!(first.contains("shadow") && first.ends_with("and 2 more\n"), "{first}");
    let json: Value = serde_json::from_str(&shown("--json --limit 2 --status shadow")).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2, "{json}");
}

/// A server that answers calls at once, and those of the tool `late` on an event stream, once `told` says so.
fn answering(told: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let told = told.clone();
            thread::spawn(move || answer(stream, &told));
        }
    });
    address
}

fn answer(mut stream: TcpStream, told: &AtomicBool) -> Option<()> {
    let (mut asked, mut piece) = (String::new(), [0; 4096]);
    while !asked.ends_with("}}}") {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        asked.push_str(&text(&piece[..read]));
    }
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
    let body = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"what leaked"}]}}"#;
    if !asked.contains("\"late\"") {
        return write!(stream, "{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok();
    }
    write!(stream, "{head}Content-Type: text/event-stream\r\n\r\n").ok()?;
    while !told.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(10));
    }
    write!(stream, "data: {body}\n\n").ok()
}

#[test]
fn inventory_review_story_and_report_count_one_call_as_one_call() {
    let dir = home("");
    fs::write(dir.path().join("gnomon.yml"), "rules: { packs: none, dirs: [rules] }\n").unwrap();
    for (id, class) in [(20, "policy"), (21, "dlp"), (22, "threat")] {
        let text = rule(id, class, &format!("Three, {class}"), "high", "three").replace("class: policy", &format!("class: {class}"));
        fs::write(dir.path().join(format!("rules/{class}.yml")), text).unwrap();
    }
    let found = "gen_ai.tool.name: late, gen_ai.tool.call.result|contains: leaked";
    let text_of_late = rule(23, "leaked", "What leaked", "high", "late").replace("gen_ai.tool.name: late", found);
    fs::write(dir.path().join("rules/late.yml"), text_of_late).unwrap();
    let watched = Watched::at(dir, &["proxy"]);
    let told = Arc::new(AtomicBool::new(false));
    let server = answering(told.clone());
    let proxy = watched.proxy;
    let late = thread::spawn(move || ask(proxy, server, "late", "{}"));
    // It is told without its answer, and others come between that and what the rule finds there.
    events(&watched, 1);
    for tool in ["three", "plain"] {
        let answer = ask(proxy, server, tool, "{}");
        assert!(answer.contains("what leaked"), "{answer}");
    }
    events(&watched, 5);
    told.store(true, Ordering::SeqCst);
    let answer = late.join().unwrap();
    assert!(answer.contains("what leaked"), "{answer}");
    let all = until("what the rule found in the late answer", || {
        let all = events(&watched, 6);
        all.iter().any(|event| event["rule.name"] == "What leaked").then_some(all)
    });
    let of = |tool: &str| -> Vec<&Value> {
        all.iter().filter(|event| event["gen_ai.tool.name"] == tool && event["event.kind"] != "outcome").collect()
    };
    let is_one_call = |events: &[&Value]| events.iter().all(|event| event["gnomon.observation.id"] == events[0]["gnomon.observation.id"]);
    for (tool, count) in [("three", 3), ("late", 2), ("plain", 1)] {
        let events = of(tool);
        assert!(events.len() == count && is_one_call(&events), "{tool}: {events:#?}");
    }

    let json = |command: &str| -> Value { serde_json::from_str(&said(&watched, command)).unwrap() };
    let inventory = json("gnomon inventory --json");
    let review = json(&format!("gnomon review show {server} --json"));
    let report = json("gnomon report --json");
    let sum = |what: &str| report["usage"]["days"].as_array().unwrap().iter().map(|day| day[what].as_u64().unwrap()).sum::<u64>();
    assert_eq!((inventory.as_array().unwrap().len(), &inventory[0]["messages"]), (1, &Value::from(3)), "{inventory}");
    assert_eq!(review["messages"], 3, "{review}");
    assert_eq!((sum("shadow"), sum("sanctioned"), sum("detections")), (3, 0, 4), "{report}");
    assert_eq!(report["usage"]["shadow_servers"]["names"][server.to_string()], 3, "{report}");
    assert_eq!(report["debt"]["unreviewed"][0]["messages"], 3, "{report}");
    for event in all.iter().filter(|event| event["event.kind"] != "outcome") {
        let story = json(&format!("gnomon events show {} --json", event["event.id"].as_str().unwrap()));
        assert_eq!(story["server"]["messages"], 3, "{story}");
    }
}
