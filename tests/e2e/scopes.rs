//! Scopes from the configuration, on the real kernel: programs that know nothing of gnomon, in cgroups that the configuration names.

use crate::{
    caller::{Answer, Call, Caller, FILE},
    sensor_stage::{Host, Joined, Road, free_port, kill, needs, serve, until},
    support::{HOST, request::call, rules::block, upstream::Upstream},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Calls the tool from a cgroup, as a program that trusts both gnomon's authority and the server's.
async fn call_from(cgroup: &Path, authorities: &Path, port: u16) -> Value {
    let order = Call::new(([127, 0, 0, 1], port).into(), "/rpc", call(1, "blocked_tool").to_string()).tls(HOST, Some(authorities));
    let program = Caller::new();
    let mut command = Command::new("sh");
    command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(cgroup).args(program.words(FILE, &order));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    Answer::of(&output).unwrap_or_else(|| panic!("{output:?}")).json()
}

/// The number of scopes that redirect.
pub(crate) fn redirecting(host: &Host) -> u64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
    let output = command.args(["status", "--json", "--exec-socket"]).arg(host.exec_socket()).output().unwrap();
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["sensor"]["redirecting"].as_u64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_reads_first_and_refuses_when_it_is_told_to() {
    if !needs("a_scope_reads_first_and_refuses_when_it_is_told_to") {
        return;
    }
    let upstream = Upstream::start(&["http/1.1"]).await;
    let port = upstream.address.port();
    let folder = tempfile::tempdir().unwrap();
    let (config, root, rule) = (folder.path().join("gnomon.yml"), folder.path().join("root.pem"), folder.path().join("rule.yml"));
    fs::copy(upstream.authority.pem_file(), &root).unwrap();
    fs::write(&rule, &*block(1, "gen_ai.tool.name: blocked_tool").text).unwrap();
    let scope = |name: &str, mode: &str| {
        let cgroup = format!("/gnomon-e2e-{}-*/{name}", std::process::id());
        format!("  - {{name: {name}, match: {{cgroup: '{cgroup}'}}, mode: {mode}, ports: [{port}]}}\n")
    };
    let scopes = scope("agents", "enforce") + &scope("trial", "intercept");
    fs::write(&config, format!("proxy: {{upstream_ca: [root.pem]}}\nrules: {{dirs: [rule.yml]}}\nsensor:\n scopes:\n{scopes}")).unwrap();
    for path in [folder.path(), &config, &root, &rule] {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let mut host = Host::start_with(&["--config", config.to_str().unwrap()]);
    let (agents, trial) = (host.cgroup.join("agents"), host.cgroup.join("trial"));
    fs::create_dir(&agents).unwrap();
    fs::create_dir(&trial).unwrap();
    until("both scopes", || (redirecting(&host) == 2).then_some(()));
    let doctor = Command::new(env!("CARGO_BIN_EXE_gnomon")).args(["doctor", "--json", "--config"]).arg(&config).output().unwrap();
    let checks: Vec<Value> = serde_json::from_slice(&doctor.stdout).unwrap();
    let seen = |id: &str| checks.iter().find(|check| check["id"] == id).map(|check| check["seen"].as_str().unwrap_or_default());
    assert!(seen("scope.agents").is_some_and(|seen| seen.ends_with("enforce: one cgroup matches")), "{checks:#?}");
    let authorities = folder.path().join("both.pem");
    let ours = fs::read_to_string(host.state.path().join("ca.pem")).unwrap();
    fs::write(&authorities, ours + &fs::read_to_string(&root).unwrap()).unwrap();

    let passed = |answer: &Value| answer["result"]["content"][0]["text"] == "done by the upstream";
    let answer = call_from(&trial, &authorities, port).await;
    assert!(passed(&answer), "{answer:#}");
    let answer = call_from(&agents, &authorities, port).await;
    assert_eq!(answer["result"]["isError"], json!(true), "{answer:#}");
    // Outside of both scopes nothing is redirected.
    let answer = call_from(&host.cgroup, &root, port).await;
    assert!(passed(&answer), "{answer:#}");
    until("both events", || {
        let events = host.events();
        let told = |action: &str| events.lines().any(|line| line.contains(action) && line.contains(r#""gnomon.correlation":"owner""#));
        (told(r#""gnomon.would":"block""#) && told(r#""gnomon.action":"block""#)).then_some(())
    });

    // A sensor that is restarted gets the scopes too.
    let sensor = host.part("gnomon-sensor");
    kill(sensor, Signal::KILL);
    until("the end of the sensor", || (redirecting(&host) == 0).then_some(()));
    until("both scopes again", || (redirecting(&host) == 2).then_some(()));
    host.part("gnomon-sensor");
    // A cgroup that was removed is in no scope.
    fs::remove_dir(&trial).unwrap();
    until("one scope", || (redirecting(&host) == 1).then_some(()));
}

/// The address failed, and had never answered before: it is refused for half a minute, unless somebody answers by then.
#[test]
fn a_server_that_was_only_starting_is_reached_a_second_after_it_is_there_by_whoever_tries_again() {
    if !needs("a server that was only starting") {
        return;
    }
    let at = SocketAddr::from(([127, 0, 0, 2], free_port().port()));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gnomon.yml");
    // What fails open goes direct to a loopback address where nobody listens.
    let scope = format!(
        "{{name: waits, match: {{cgroup: '/gnomon-e2e-{}-*/waits'}}, mode: intercept, ports: [{}], fail: closed}}",
        std::process::id(),
        at.port()
    );
    fs::write(&config, format!("sensor: {{scopes: [{scope}]}}\n")).unwrap();
    for (path, mode) in [(folder.path(), 0o755), (&config, 0o644)] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let host = Host::start_with(&["--config", config.to_str().unwrap()]);
    let waits = host.cgroup.join("waits");
    fs::create_dir(&waits).unwrap();
    until("the scope", || (redirecting(&host) == 1).then_some(()));
    let mut program = Joined::apart(&waits);
    let refused = Road::None("Connection refused (os error 111)".to_owned());
    until("the address to be refused", || (program.reaches(at) == refused).then_some(()));
    assert_eq!(program.reaches(at), refused);
    serve(TcpListener::bind(at).unwrap());
    let start = Instant::now();
    let road = until("the server to be reached", || Some(program.reaches(at)).filter(|road| *road != refused));
    assert_eq!(road, Road::ThroughProxy);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
