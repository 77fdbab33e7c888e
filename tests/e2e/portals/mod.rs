//! A portal beside the sensor and the proxy, as `gnomon run` serves it: it knows which program calls, and a call that goes around it to a
//! server that it offers is reported.

mod contended;
mod hostile;
mod metrics;
mod sdk;
pub mod server;
mod snippets;

use crate::{
    caller::{self, Caller},
    joined::events,
    sensor_stage::{Host, kill, logged, needs, scrape, until},
};
use rustix::process::Signal;
use serde_json::Value;
use server::Server;
use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

fn free_address() -> SocketAddr {
    gnomon_testkit::free_port()
}

/// A call of a tool.
pub fn call(to: SocketAddr, target: &str, tool: &str) -> caller::Call {
    let meta = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}},"_meta":{meta}}}}}"#);
    let call = caller::Call::new(to, target, body).header("mcp-protocol-version", "2026-07-28");
    call.header("mcp-method", "tools/call").header("mcp-name", tool)
}

/// `gnomon run` with a portal whose policy allows one program.
struct Stage {
    host: Host,
    portal: SocketAddr,
    server: Server,
    callers: Caller,
    _dir: TempDir,
}

impl Stage {
    fn start() -> Self {
        let server = Server::start();
        let portal = free_address();
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("gnomon.yml");
        let callers = Caller::new();
        let good = callers.file("good-agent");
        fs::write(
            &config,
            format!(
                "servers: [{{id: tools, url: 'http://127.0.0.1:{}/mcp'}}]\n\
                 portals:\n  - id: main\n    listen: '{portal}'\n    servers: [tools]\n    \
                 policy: [{{allow: {{servers: [tools], process: {{executable: ['{}']}}}}}}]\n",
                server.port,
                good.display()
            ),
        )
        .unwrap();
        let host = Host::start_with(&["--config", config.to_str().unwrap()]);
        until("the sensor to be joined", || host.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
        Self { host, portal, server, callers, _dir: dir }
    }

    /// The answer to this call when it is made by a program of this name.
    fn call(&self, agent: &str, call: &caller::Call) -> Value {
        let output = Command::new("sh")
            .args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#])
            .arg(&self.host.cgroup)
            .args(self.callers.words(agent, call))
            .output()
            .unwrap();
        caller::Answer::of(&output).unwrap_or_else(|| panic!("{output:?}\n{}", self.host.log())).json()
    }
}

#[test]
fn the_portal_knows_which_program_calls_and_a_call_around_it_is_a_detection() {
    if !needs("portal with a sensor") {
        return;
    }
    let stage = Stage::start();
    let asked = call(stage.portal, "/mcp", "tools_echo");
    let let_in = until("the server to be reached", || {
        let answer = stage.call("good-agent", &asked);
        answer["result"].is_object().then_some(answer)
    });
    assert_eq!(let_in["result"]["content"][0]["text"], "done by the server");
    let refused = stage.call("other-agent", &asked);
    assert_eq!(refused["error"]["code"], -32602, "the same bytes under another name: {refused}");
    let recorded = until("the call's event", || {
        events(&stage.host).into_iter().find(|event| event["gnomon.portal.id"] == "main" && event["mcp.method.name"] == "tools/call")
    });
    assert!(recorded["process.executable.path"].as_str().unwrap().ends_with("/good-agent"), "{recorded:#}");
    assert_eq!(recorded["gnomon.correlation"], "owner", "{recorded:#}");
    // Directly to the server, through the proxy.
    let direct = format!("http://127.0.0.1:{}/mcp", stage.server.port);
    let around = stage.call("good-agent", &call(stage.host.proxy, &direct, "echo"));
    assert_eq!(around["result"]["content"][0]["text"], "done by the server");
    let found =
        until("the detection", || events(&stage.host).into_iter().find(|event| names_rule(event, "0d6a3f52-91c4-4f0b-8c27-5b9e4a7d1c63")));
    assert_eq!(found["gnomon.server.id"], "tools", "{found:#}");
}

fn names_rule(event: &Value, id: &str) -> bool {
    event["gnomon.rules.matched"].as_array().is_some_and(|ids| ids.iter().any(|matched| matched == id))
}

/// A running `gnomon portal`.
struct Alone {
    process: Child,
    address: SocketAddr,
    metrics: SocketAddr,
    config: PathBuf,
    server: Server,
    dir: TempDir,
}

impl Alone {
    fn start(auth: &str, policy: &str) -> Self {
        let (dir, server) = (tempfile::tempdir().unwrap(), Server::start());
        let (address, metrics) = (free_address(), free_address());
        let config = dir.path().join("gnomon.yml");
        let mut alone = Self { process: Command::new("true").spawn().unwrap(), address, metrics, config, server, dir };
        alone.process.wait().unwrap();
        alone.write(auth, policy);
        let log = fs::File::create(alone.dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
        command.arg("portal").arg("--config").arg(&alone.config).arg("--state-dir").arg(alone.dir.path().join("state"));
        alone.process = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        alone
    }

    fn write(&self, auth: &str, policy: &str) {
        let (port, address, metrics) = (self.server.port, self.address, self.metrics);
        let text = format!(
            "metrics: {{listen: '{metrics}'}}\nservers: [{{id: tools, url: 'http://127.0.0.1:{port}/mcp'}}]\n\
             portals: [{{id: main, listen: '{address}', servers: [tools], auth: {auth}, policy: {policy}}}]\n"
        );
        fs::write(&self.config, text).unwrap();
    }

    fn reload(&self) {
        kill(self.process.id(), Signal::HUP);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// The answer to a call with this token: status and body.
    fn answer(&self, token: &str) -> (String, String) {
        let bearer = format!("Bearer {token}");
        let tried = TcpStream::connect(self.address);
        if tried.is_err() {
            // It does not listen yet.
            return Default::default();
        }
        let answer = caller::post(&call(self.address, "/mcp", "tools_echo").header("authorization", &bearer));
        (answer.status.to_string(), answer.body)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_reload_puts_policy_and_log_ins_in_force_and_a_bad_file_changes_nothing() {
    let (one, two) = (gnomon_access::generate_token().unwrap(), gnomon_access::generate_token().unwrap());
    let known = |tokens: &[(&str, &gnomon_access::NewToken)]| {
        let all: Vec<String> = tokens.iter().map(|(name, token)| format!("{{name: {name}, sha256: '{}'}}", token.sha256)).collect();
        format!("{{mode: tokens, tokens: [{}]}}", all.join(", "))
    };
    let (both, allowed) = (known(&[("ada", &one), ("eve", &two)]), "[{allow: {servers: [tools]}}]");
    let portal = Alone::start(&both, allowed);
    until("the portal to serve", || portal.answer(&one.token).1.contains("done by the server").then_some(()));
    // A mistake in the file changes nothing, and is reported with its place.
    portal.write(&both, "[{alow: {servers: [tools]}}]");
    portal.reload();
    until("the mistake to be told", || portal.log().contains("policies from before stay in force").then_some(()));
    logged(|| portal.log(), "gnomon.yml:3:");
    let as_configured = |yes: u8| scrape(portal.metrics).contains(&format!("gnomon_config_last_reload_successful {yes}\n"));
    assert!(as_configured(0), "{}", scrape(portal.metrics));
    assert!(portal.answer(&one.token).1.contains("done by the server"));
    // A changed policy comes into force.
    portal.write(&both, "[{allow: {servers: [tools], users: [eve]}}]");
    portal.reload();
    until("the policy to be in force", || portal.answer(&one.token).1.contains("-32602").then_some(()));
    assert!(portal.answer(&two.token).1.contains("done by the server"));
    until("the metric", || as_configured(1).then_some(()));
    // A token that was removed is refused.
    portal.write(&known(&[("ada", &one)]), allowed);
    portal.reload();
    until("the token to be withdrawn", || (portal.answer(&two.token).0 == "401").then_some(()));
    assert!(portal.answer(&one.token).1.contains("done by the server"));
    logged(|| portal.log(), "policies and log-ins of 1 portal reloaded\n");
}

#[test]
fn what_would_not_start_is_not_reloaded_and_a_stop_is_obeyed_all_the_same() {
    let (open, allowed) = ("{mode: none}", "[{allow: {servers: [tools]}}]");
    let mut portal = Alone::start(open, allowed);
    until("the portal to serve", || portal.answer("").1.contains("done by the server").then_some(()));
    let good = fs::read_to_string(&portal.config).unwrap();
    let as_configured = |portal: &Alone, yes: u8| {
        until("the metric", || scrape(portal.metrics).contains(&format!("gnomon_config_last_reload_successful {yes}\n")).then_some(()));
    };
    for (bad, told) in [
        (format!("{good}rules: {{dirs: [/no/such/folder]}}\n"), "cannot read /no/such/folder"),
        (String::new(), "has no portal `main` any more, which is served"),
        (good.replace("allow: {servers: [tools]}", "allow: {servers: [tolls]}"), "no server is called `tolls`; did you mean `tools`?"),
    ] {
        fs::write(&portal.config, &bad).unwrap();
        portal.reload();
        until("that to be told", || portal.log().contains(told).then_some(()));
        as_configured(&portal, 0);
        assert!(portal.answer("").1.contains("done by the server"));
        fs::write(&portal.config, &good).unwrap();
        portal.reload();
        as_configured(&portal, 1);
    }
    fs::remove_file(&portal.config).unwrap();
    assert!(Command::new("mkfifo").arg(&portal.config).status().unwrap().success());
    portal.reload();
    until("the pipe to be told of", || portal.log().contains("it is not a regular file").then_some(()));
    as_configured(&portal, 0);
    kill(portal.process.id(), Signal::TERM);
    assert!(portal.process.wait().unwrap().success(), "{}", portal.log());
}

#[test]
fn a_stop_is_obeyed_while_a_reload_waits_for_an_identity_provider_that_says_nothing() {
    let allowed = "[{allow: {servers: [tools]}}]";
    let mut portal = Alone::start("{mode: none}", allowed);
    until("the portal to serve", || portal.answer("").1.contains("done by the server").then_some(()));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    portal.write(&format!("{{mode: oidc, issuer: 'http://{}'}}", silent.local_addr().unwrap()), allowed);
    portal.reload();
    let _asked = silent.accept().unwrap();
    let asked = Instant::now();
    kill(portal.process.id(), Signal::TERM);
    assert!(portal.process.wait().unwrap().success(), "{}", portal.log());
    assert!(asked.elapsed() < Duration::from_secs(8), "it was waited for: {:?}", asked.elapsed());
}
