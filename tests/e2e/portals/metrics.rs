//! What a process serves at `/metrics` is what the reference says: each metric by its name, its kind and its labels. Asked of processes
//! that have been used, as many series come with the first of their kind.

use super::{free_address, server::Server};
use crate::{
    alerts::prometheus::{Running, Watched, home},
    caller,
    exec::GNOMON,
    registering::PROGRAM,
    sensor_stage::{Host, needs, scrape, until},
};
use gnomon_testkit::has;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Permissions},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// Metrics by their names: the kind of each, and its labels.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// The table of `gnomon reference metrics`.
fn reference() -> Metrics {
    let page = Command::new(GNOMON).args(["reference", "metrics"]).output().unwrap();
    assert!(page.status.success(), "{page:?}");
    let page = String::from_utf8(page.stdout).unwrap();
    let of_row = |row: &str| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[3].split(", ").map(|label| label.trim_matches('`')).filter(|label| !label.is_empty());
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels.map(str::to_owned).collect::<BTreeSet<String>>()))
    };
    page.lines().filter(|line| line.starts_with("| `")).map(of_row).collect()
}

/// What was scraped.
fn served(scraped: &str) -> Metrics {
    let (mut all, mut current) = (Metrics::new(), String::new());
    for line in scraped.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            name.clone_into(&mut current);
            all.insert(current.clone(), (kind.trim().to_owned(), BTreeSet::new()));
        } else if let Some((kind, known)) = all.get_mut(&current).filter(|_| line.starts_with(&current)) {
            let mut labels = labels(line);
            if *kind == "histogram" {
                // The bounds of buckets.
                labels.remove("le");
            }
            known.extend(labels);
        }
    }
    all
}

/// The names of the labels of a series. Values are texts of others: titles of rules, for one.
fn labels(series: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let Some((_, mut rest)) = series.split_once('{') else { return names };
    while let Some((name, value)) = rest.split_once("=\"") {
        names.insert(name.trim_start_matches(',').to_owned());
        let mut escaped = false;
        let ends = |c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        };
        let end = value.find(ends).unwrap_or_else(|| panic!("a value without an end: {series}"));
        rest = &value[end + 1..];
    }
    names
}

#[test]
fn labels_are_told_from_what_is_in_their_values() {
    for (series, expected) in [
        ("a_total 5", Vec::new()),
        (r#"a_total{rule="x",title="of \"a=\"b\", {c=\"d\"} \\"} 0"#, vec!["rule", "title"]),
        (r#"a_bucket{le="+Inf",server="s"} 1"#, vec!["le", "server"]),
    ] {
        assert_eq!(labels(series).iter().map(String::as_str).collect::<Vec<_>>(), expected, "{series}");
    }
}

/// Fails if something is served that the reference does not tell of.
fn is_in_the_reference(scraped: &str) {
    let (known, served) = (reference(), served(scraped));
    for name in [
        "gnomon_audit_records_total",
        "gnomon_codemode_executions_total",
        "gnomon_events_written_total",
        "gnomon_portal_refusals_total",
        "gnomon_portal_server_down",
        "gnomon_portal_sessions",
        "gnomon_server_instances",
        "gnomon_server_layer",
        "process_start_time_seconds",
    ] {
        assert!(served.contains_key(name), "{name} is not served: {scraped}");
    }
    let untold = served.iter().filter(|(name, (kind, labels))| {
        known.get(*name).is_none_or(|(known_kind, known_labels)| kind != known_kind || !labels.is_subset(known_labels))
    });
    let untold: Vec<_> = untold.map(|(name, served)| (name, served, known.get(name))).collect();
    assert!(untold.is_empty(), "served, and in the reference otherwise or not at all: {untold:#?}");
}

/// A portal of a server that is there, one that is not, and a program.
struct Offered {
    here: Server,
    portal: SocketAddr,
    dir: TempDir,
}

impl Offered {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Where the test is root, the program runs as another user.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let script = dir.path().join("program.py");
        fs::copy(PROGRAM, &script).unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o644)).unwrap();
        Self { here: Server::start(), portal: free_address(), dir }
    }

    fn config(&self) -> String {
        let config = json!({
            "servers": [
                {"id": "tools", "url": format!("http://127.0.0.1:{}/mcp", self.here.port)},
                {"id": "gone", "url": "http://127.0.0.1:1/mcp"},
                {"id": "local", "command": ["/usr/bin/python3", self.dir.path().join("program.py")]},
            ],
            "portals": [{
                "id": "main",
                "listen": self.portal.to_string(),
                "servers": ["tools", "gone", "local"],
                "auth": {"mode": "none"},
                "policy": [{"allow": {"servers": ["*"]}}],
            }],
        });
        // Each key on a line of its own, so that others can be put before it. JSON is YAML.
        format!("servers: {}\nportals: {}\n", config["servers"], config["portals"])
    }

    /// A call of a tool by this URL; nothing where nobody listens yet.
    fn call(&self, target: &str, tool: &str, arguments: &Value) -> Value {
        if TcpStream::connect(self.portal).is_err() {
            return Value::Null;
        }
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
        let call = caller::Call::new(self.portal, target, body).header("mcp-protocol-version", "2026-07-28");
        caller::post(&call.header("mcp-method", "tools/call").header("mcp-name", tool)).json()
    }

    /// Makes a call, one that is refused, and a script; what is served once each server was looked at.
    fn used(&self, metrics: SocketAddr) -> String {
        let (said, nothing) = ("done by the server", json!({}));
        until("the portal to serve", || (self.call("/mcp", "tools_echo", &nothing)["result"]["content"][0]["text"] == said).then_some(()));
        let refused = self.call("/mcp", "tools_nothing", &nothing);
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
        let code = json!({"code": "async () => codemode.tools_echo({})"});
        let told = self.call("/mcp?codemode=search_and_execute", "portal_codemode_execute", &code);
        assert!(told["result"]["content"][0]["text"].as_str().is_some_and(|text| text.contains(said)), "{told}");
        let scraped = until("every server to be looked at", || {
            let scraped = scrape(metrics);
            let gone = r#"gnomon_portal_server_down{portal="main",reason="refused",server="gone"} 1"#;
            let here = r#"gnomon_portal_server_up{portal="main",server="local"} 1"#;
            (scraped.contains(gone) && scraped.contains(here)).then_some(scraped)
        });
        assert!(scraped.contains(r#"gnomon_codemode_executions_total{outcome="value",tool="portal_codemode_execute"} 1"#), "{scraped}");
        assert!(!scraped.contains("gnomon_portal_refusals_total{portal=\"main\",reason=\"unknown\"} 0\n"), "{scraped}");
        scraped
    }
}

#[test]
fn every_metric_that_a_portal_serves_is_in_the_reference_with_its_labels() {
    if !has("every_metric_that_a_portal_serves_is_in_the_reference_with_its_labels", &["python3"]) {
        return;
    }
    let (offered, metrics) = (Offered::new(), free_address());
    let config = offered.dir.path().join("gnomon.yml");
    fs::write(&config, format!("metrics: {{listen: '{metrics}'}}\n{}", offered.config())).unwrap();
    let mut portal = Command::new(GNOMON);
    portal.arg("portal").arg("--config").arg(&config).arg("--state-dir").arg(offered.dir.path().join("state"));
    let _portal = Running(portal.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    is_in_the_reference(&offered.used(metrics));
}

#[test]
fn every_metric_that_a_proxy_with_a_portal_serves_is_in_the_reference_with_its_labels() {
    if !has("every_metric_that_a_proxy_with_a_portal_serves_is_in_the_reference_with_its_labels", &["python3"]) {
        return;
    }
    let offered = Offered::new();
    let watched = Watched::at(home(&offered.config()), &["proxy"]);
    watched.call("echo", "");
    is_in_the_reference(&offered.used(watched.metrics));
}

#[test]
fn every_metric_that_is_served_beside_a_sensor_is_in_the_reference_with_its_labels() {
    let name = "every_metric_that_is_served_beside_a_sensor_is_in_the_reference_with_its_labels";
    if !needs(name) || !has(name, &["python3"]) {
        return;
    }
    let offered = Offered::new();
    let config = offered.dir.path().join("gnomon.yml");
    fs::write(&config, offered.config()).unwrap();
    let host = Host::start_with(&["--config", config.to_str().unwrap()]);
    until("the sensor to be joined", || host.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
    host.cause_event("echo");
    is_in_the_reference(&offered.used(host.metrics));
}
