//! What `gnomon run`, `gnomon proxy` and `gnomon portal` print while they serve: detections, and on a terminal a hint to packs that are off.

use crate::{
    caller,
    exec::GNOMON,
    explained::{answering, ask, rule},
    portals::{call, server::Server},
    sensor_stage::{children, kill, until},
};
use gnomon_testkit::{free_port, has};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

/// A gnomon with nobody's configuration, whose output goes to files; killed when dropped.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(dir: &Path, words: &[&str], proxy: &str) -> Vec<String> {
    fs::write(dir.join("gnomon.yml"), "").unwrap();
    let (config, state) = (dir.join("gnomon.yml").display().to_string(), dir.join("state").display().to_string());
    let flags = ["--config", &config, "--state-dir", &state, "--listen", proxy, "--metrics", "off"];
    [GNOMON].iter().chain(words).chain(&flags).map(|word| (*word).to_owned()).collect()
}

/// What this command prints to standard output about one detection.
fn printed(words: &[&str]) -> String {
    let (dir, proxy) = (tempfile::tempdir().unwrap(), free_port());
    let words = command(dir.path(), words, &proxy.to_string());
    let (out, log) = (dir.path().join("out"), dir.path().join("log"));
    let mut gnomon = Command::new(&words[0]);
    gnomon.args(&words[1..]).stdin(Stdio::null()).stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&log).unwrap());
    let mut serving = Serving(gnomon.spawn().unwrap());
    until("gnomon to serve", || TcpStream::connect(proxy).ok());
    let answer = ask(proxy, answering("{}"), "read_file", "{}");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Told once it is durable.
    let state = dir.path().join("state");
    until("the event", || {
        let events = Command::new(GNOMON).args(["events", "--json", "--state-dir"]).arg(&state).output().unwrap();
        (!events.stdout.is_empty()).then_some(())
    });
    if words.iter().any(|word| word == "--quiet") {
        std::thread::sleep(std::time::Duration::from_secs(1));
    } else {
        until("the line", || fs::read_to_string(&out).unwrap().ends_with('\n').then_some(()));
    }
    kill(serving.0.id(), Signal::TERM);
    serving.0.wait().unwrap();
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("inline proxy on ") && !log.contains("packs detections"), "no hint where nobody reads it: {log}");
    fs::read_to_string(out).unwrap()
}

#[test]
fn the_proxy_prints_detections_as_run_does_and_nothing_where_it_is_to_be_quiet() {
    let said = printed(&["proxy"]);
    assert!(said.contains("tools/call read_file  [MCP message to an unsanctioned server]"), "{said}");
    let event: Value = serde_json::from_str(printed(&["proxy", "--json"]).lines().next().unwrap()).unwrap();
    assert_eq!(event["rule.name"], "MCP message to an unsanctioned server");
    assert_eq!(printed(&["proxy", "--quiet"]), "");
}

#[test]
fn the_portal_prints_detections_as_run_does() {
    let (dir, server, portal) = (tempfile::tempdir().unwrap(), Server::start(), free_port());
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("rules")).unwrap();
    fs::write(path("rules/own.yml"), rule(1, "A tool that echoes", "    a: {gen_ai.tool.name: echo}\n    condition: a\n")).unwrap();
    let config = format!(
        "metrics: {{listen: 'off'}}\nrules: {{dirs: ['{}']}}\nservers: [{{id: tools, url: 'http://127.0.0.1:{}/mcp'}}]\n\
         portals: [{{id: main, listen: '{portal}', servers: [tools], auth: {{mode: none}}, policy: [{{allow: {{servers: [tools]}}}}]}}]\n",
        path("rules").display(),
        server.port,
    );
    fs::write(path("gnomon.yml"), config).unwrap();
    let mut gnomon = Command::new(GNOMON);
    gnomon.arg("portal").arg("--config").arg(path("gnomon.yml")).arg("--state-dir").arg(path("state"));
    gnomon.stdin(Stdio::null()).stdout(fs::File::create(path("out")).unwrap()).stderr(fs::File::create(path("log")).unwrap());
    let _serving = Serving(gnomon.spawn().unwrap());
    until("gnomon to serve", || TcpStream::connect(portal).ok());
    until("a call", || caller::post(&call(portal, "/mcp", "tools_echo")).body.contains("done by the server").then_some(()));
    let out = || fs::read_to_string(path("out")).unwrap();
    until("the line", || out().ends_with('\n').then_some(()));
    assert!(out().contains("[A tool that echoes]"), "{}\n{}", out(), fs::read_to_string(path("log")).unwrap());
}

#[test]
fn on_a_terminal_the_packs_that_are_off_are_named_once() {
    if !has("on_a_terminal_the_packs_that_are_off_are_named_once", &["script"]) {
        return;
    }
    let shown = |words: &[&str]| -> String {
        let (dir, proxy) = (tempfile::tempdir().unwrap(), free_port());
        let line = format!("exec {}", command(dir.path(), words, &proxy.to_string()).join(" "));
        let mut script = Command::new("script");
        script.args(["-qefc", &line]).arg(dir.path().join("screen")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut serving = Serving(script.spawn().unwrap());
        until("gnomon to serve", || TcpStream::connect(proxy).ok());
        let screen = || fs::read_to_string(dir.path().join("screen")).unwrap_or_default();
        until("what it says at its start", || screen().contains("  client    ").then_some(()));
        children(serving.0.id()).into_iter().for_each(|gnomon| kill(gnomon, Signal::TERM));
        serving.0.wait().unwrap();
        screen()
    };
    let screen = shown(&["proxy"]);
    assert_eq!(screen.matches("packs detections (").count(), 1, "{screen}");
    assert!(screen.contains("--packs builtin,detections,llm-direct"), "{screen}");
    let screen = shown(&["proxy", "--packs", "builtin"]);
    assert_eq!(screen.matches("packs detections (").count(), 1, "{screen}");
    let screen = shown(&["proxy", "--packs", "builtin,detections"]);
    assert!(!screen.contains("packs detections ("), "{screen}");
}
