//! The kill switch: while it is set nothing is refused and nothing is redirected, whichever half hangs or is restarted.

use crate::{
    alerts::prometheus::Running,
    sensor_stage::{Host, Joined, Road, free_port, kill, needs, scrape, server, skip, until},
    support::{
        HOST,
        client::{H1, handshake, tunnel},
        gnomon::Gnomon,
        request::{call, h1_post},
        rules::block,
        upstream::Upstream,
    },
};
use gnomon_host::trust::{read_certificates, system_bundle};
use gnomon_testkit::has;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const ALPN: &[&str] = &["http/1.1"];

fn blocked(id: u64) -> Vec<u8> {
    h1_post("/rpc", call(id, "blocked_tool").to_string().as_bytes())
}

#[tokio::test]
async fn disarmed_the_proxy_refuses_nothing_and_opens_no_new_connection() {
    let upstream = Upstream::start(ALPN).await;
    let gnomon = Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]).before(&upstream).await;
    let mut kept = H1::connect(&gnomon).await;
    let refused = |answer: Value| answer["result"]["isError"] == json!(true);
    assert!(refused(kept.send(&[blocked(1)]).await.json()));
    gnomon.inspector.disarm();
    // A connection that is open is still intercepted, but its calls are let through.
    let answer = kept.send(&[blocked(2)]).await.json();
    assert_eq!(answer["result"]["content"][0]["text"], "done by the upstream");
    // A new connection is not intercepted: the client sees the server's own certificate.
    let target = format!("{HOST}:443");
    let stream = tunnel(gnomon.address, &target).await;
    let stream = handshake(stream, upstream.authority.certificate(), HOST, ALPN).await.unwrap();
    let mut direct = H1::over(stream);
    assert_eq!(direct.send(&[blocked(3)]).await.json()["result"]["content"][0]["text"], "done by the upstream");
    direct.close().await;
    gnomon.metrics_until("gnomon_flows_total{outcome=\"disarmed\"} 1").await;
    gnomon.inspector.arm();
    assert!(refused(kept.send(&[blocked(4)]).await.json()));
    kept.close().await;
    let events = gnomon.finish().await;
    let told: Vec<_> = events.iter().map(|event| (event["gnomon.action"].as_str().unwrap(), event["gnomon.would"].as_str())).collect();
    assert_eq!(told, [("block", None), ("log", Some("block")), ("block", None)], "{events:#?}");
}

#[tokio::test]
async fn what_was_held_when_it_was_disarmed_passes() {
    let upstream = Upstream::start(ALPN).await;
    let gnomon = Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let request = blocked(1);
    let (first, rest) = request.split_at(request.len() - 10);
    client.write(first).await;
    gnomon.inspector.disarm();
    client.write(rest).await;
    assert_eq!(client.answer().await.json()["result"]["content"][0]["text"], "done by the upstream");
    client.close().await;
    drop(gnomon.finish().await);
}

/// A running gnomon with a kill switch file of its own.
struct Stage {
    host: Host,
    switch: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let switch = folder.path().join("disarm");
        let host = Host::start_with(&["--disarm-file", switch.to_str().unwrap()]);
        until("the sensor to be joined", || host.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
        Self { host, switch, _folder: folder }
    }

    fn gnomon(&self, arguments: &[&str]) -> Output {
        run(&self.switch, &self.host.exec_socket(), arguments)
    }

    fn turn(&self, arguments: &[&str]) {
        let output = self.gnomon(arguments);
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("the sensor obeys"), "{output:?}");
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.gnomon(&["status", "--json"]).stdout).unwrap()
    }

    /// A program that has joined a scope which redirects.
    fn program(&self) -> Joined {
        let joined = Joined::start(&self.host.exec_socket(), &self.host.cgroup, 0);
        assert!(joined.said.starts_with("joined"), "{}", joined.said);
        joined
    }
}

fn run(switch: &Path, socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
    command.args(arguments).arg("--disarm-file").arg(switch).arg("--exec-socket").arg(socket);
    command.output().unwrap()
}

#[test]
fn disarmed_connections_go_direct_and_everybody_is_told() {
    if !needs("disarmed_connections_go_direct_and_everybody_is_told") {
        return;
    }
    let (stage, server) = (Stage::start(), server());
    let mut program = stage.program();
    assert_eq!(program.reaches(server), Road::ThroughProxy);
    assert!(stage.host.scrape().contains("\ngnomon_armed 1\n"));

    stage.turn(&["disarm", "--reason", "maintenance"]);
    assert_eq!(program.reaches(server), Road::Direct);
    // Also for programs that start now: their scope redirects once the switch is off.
    let mut late = stage.program();
    assert_eq!(late.reaches(server), Road::Direct);
    until("the gauge", || stage.host.scrape().contains("\ngnomon_armed 0\n").then_some(()));
    until("the event", || {
        let events = stage.host.events();
        (events.contains(r#""gnomon.health":"disarmed""#) && events.contains("maintenance (by ")).then_some(())
    });
    let status = stage.status();
    assert_eq!((&status["armed"], &status["watched"], &status["sensor"]["redirecting"]), (&json!(false), &json!(true), &json!(0)));
    assert!(status["disarmed_reason"].as_str().is_some_and(|reason| reason.starts_with("maintenance (by ")), "{status:#}");

    stage.turn(&["arm"]);
    assert_eq!((program.reaches(server), late.reaches(server)), (Road::ThroughProxy, Road::ThroughProxy));
    until("the gauge", || stage.host.scrape().contains("\ngnomon_armed 1\n").then_some(()));
    assert_eq!(stage.status()["sensor"]["redirecting"], json!(2));
}

#[test]
fn a_serving_half_that_hangs_keeps_the_sensor_from_nothing() {
    if !needs("a_serving_half_that_hangs_keeps_the_sensor_from_nothing") {
        return;
    }
    let (mut stage, server) = (Stage::start(), server());
    let mut program = stage.program();
    assert_eq!(program.reaches(server), Road::ThroughProxy);
    let serving = stage.host.part("gnomon-serving");
    kill(serving, Signal::STOP);
    stage.turn(&["disarm"]);
    assert_eq!(program.reaches(server), Road::Direct);
    kill(serving, Signal::CONT);
    until("the gauge", || stage.host.scrape().contains("\ngnomon_armed 0\n").then_some(()));
    assert_eq!(program.reaches(server), Road::Direct);
}

#[test]
fn a_file_that_somebody_dropped_outlives_the_sensor() {
    if !needs("a_file_that_somebody_dropped_outlives_the_sensor") {
        return;
    }
    let (mut stage, server) = (Stage::start(), server());
    // An empty file, as a configuration management tool would write.
    fs::write(&stage.switch, "").unwrap();
    until("the sensor to obey", || (stage.status()["sensor"]["armed"] == json!(false)).then_some(()));
    let sensor = stage.host.part("gnomon-sensor");
    kill(sensor, Signal::KILL);
    until("another sensor", || stage.status()["sensor"]["pid"].as_u64().filter(|pid| *pid != u64::from(sensor)));
    stage.host.part("gnomon-sensor");
    until("the sensor to be joined", || stage.host.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
    assert_eq!(stage.status()["sensor"]["armed"], json!(false));
    let mut program = stage.program();
    assert_eq!(program.reaches(server), Road::Direct);
    stage.turn(&["arm"]);
    assert_eq!(program.reaches(server), Road::ThroughProxy);
}

#[test]
fn a_user_that_may_not_disarm_is_told_who_may() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(Path::new("/proc/disarm"), &folder.path().join("exec.sock"), &["disarm"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("next: "), "{output:?}");
    // Without a sensor the switch file is written all the same.
    let switch = folder.path().join("disarm");
    let output = run(&switch, &folder.path().join("exec.sock"), &["disarm"]);
    assert!(output.status.success() && switch.exists(), "{output:?}");
}

/// What it replaces a program's roots with must know every server that the program may reach, through gnomon or past it.
#[test]
fn the_line_that_a_start_prints_trusts_the_system_s_roots_and_ours() {
    let Some(system) = system_bundle(Path::new("/")) else {
        return skip("the_line_that_a_start_prints_trusts_the_system_s_roots_and_ours", "the system has no roots");
    };
    let state = tempfile::tempdir().unwrap();
    let log = state.path().join("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
    command.args(["proxy", "--listen", "127.0.0.1:0", "--metrics", "off", "--state-dir"]).arg(state.path());
    command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let said = announced(&log);
    kill(child.id(), Signal::TERM);
    assert!(child.wait().unwrap().success());
    let named = said.split("SSL_CERT_FILE=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let trusted = read_certificates(Path::new(named)).unwrap();
    let both = [system, state.path().join("ca.pem")].map(|file| read_certificates(&file).unwrap()).concat();
    assert!(both.iter().all(|certificate| trusted.contains(certificate)), "{said}");
}

/// The log, once it has told how clients are set up.
fn announced(log: &Path) -> String {
    until("the line", || fs::read_to_string(log).ok().filter(|said| said.contains("SSL_CERT_FILE=") && said.contains("ca install")))
}

/// Runs a command for which the first file stands where the second is, and for nobody else.
const IN_ITS_PLACE: &str = r#"mount --bind "$0" "$1" && shift && exec "$@""#;

/// Prints the status of a URL, by what the environment says of proxy and roots.
const FETCH: &str = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).status, end='')";

/// A server with a certificate of an authority that this system trusts, as a company's own, and clients that were started with the line as
/// it was printed: they are shown gnomon's certificate first, and the server's own afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_were_set_up_by_the_line_that_a_start_prints_work_on_once_gnomon_is_disarmed() {
    let name = "clients_that_were_set_up_by_the_line_that_a_start_prints_work_on_once_gnomon_is_disarmed";
    if !has(name, &["unshare", "curl", "python3"]) {
        return;
    }
    // As root, and where a container may do so.
    if !Command::new("unshare").args(["--mount", "--propagation", "private", "true"]).output().unwrap().status.success() {
        return skip(name, "no mount namespace may be made here, to give a process other roots of the system");
    }
    let Some(system) = system_bundle(Path::new("/")) else { return skip(name, "the system has no roots") };
    let (upstream, dir) = (Upstream::start(ALPN).await, tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name);
    let known = [system.as_path(), upstream.authority.pem_file()].map(|file| fs::read_to_string(file).unwrap()).join("\n");
    fs::write(at("roots.pem"), known).unwrap();
    let metrics = free_port();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", IN_ITS_PLACE]).arg(at("roots.pem")).arg(&system);
    command.arg(env!("CARGO_BIN_EXE_gnomon")).args(["proxy", "--listen", "127.0.0.1:0", "--metrics", &metrics.to_string()]);
    command.args(["--resolve", &format!("{HOST}:443:127.0.0.1:{}", upstream.address.port())]);
    command.arg("--state-dir").arg(at("state")).arg("--disarm-file").arg(at("disarm"));
    command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
    command.stdout(Stdio::null()).stderr(fs::File::create(at("log")).unwrap());
    let _gnomon = Running(command.spawn().unwrap());
    let said = announced(&at("log"));
    let printed = said.lines().find_map(|line| line.trim_start().strip_prefix("client ")).unwrap();
    assert!(printed.contains(&format!("SSL_CERT_FILE={} COMMAND", at("state/bundle.pem").display())), "{printed}");

    let url = format!("https://{HOST}/");
    let curl = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url.as_str()];
    let programs: [&[&str]; 2] = [&curl, &["python3", "-c", FETCH, url.as_str()]];
    let everybody_is_served = |when: &str| {
        for program in programs {
            let mut command = Command::new("sh");
            command.args(["-c", &printed.replace("COMMAND", r#""$@""#), "sh"]).args(program);
            let output = command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "200", "{when}: {program:?}: {output:?}\n{printed}");
        }
    };
    let flows = |outcome: &str| {
        let line = format!("gnomon_flows_total{{outcome=\"{outcome}\"}} 2\n");
        until(outcome, || scrape(metrics).contains(&line).then_some(()));
    };
    everybody_is_served("armed");
    flows("intercepted");
    let output = run(&at("disarm"), &at("exec.sock"), &["disarm"]);
    assert!(output.status.success(), "{output:?}");
    until("the gauge", || scrape(metrics).contains("\ngnomon_armed 0\n").then_some(()));
    everybody_is_served("disarmed");
    flows("disarmed");
}
