//! A portal beside the sensor and the proxy, as `gnomon run` serves it: it knows which program calls, and a server that it offers is
//! not called around it unnoticed.

use crate::{
    joined::events,
    sensor_stage::{Host, needs, until},
};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// `gnomon run` with a portal that lets one program in.
struct Stage {
    host: Host,
    portal: SocketAddr,
    server: u16,
    dir: TempDir,
    server_process: Child,
}

impl Stage {
    fn start() -> Self {
        let mut server_process = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/portals/server.py"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(server_process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let server = port.trim().parse().unwrap();
        let portal = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("gnomon.yml");
        let good = dir.path().join("good-agent");
        fs::write(
            &config,
            format!(
                "servers: [{{id: tools, url: 'http://127.0.0.1:{server}/mcp'}}]\n\
                 portals:\n  - id: main\n    listen: '{portal}'\n    servers: [tools]\n    \
                 policy: [{{allow: {{servers: [tools], process: {{executable: ['{}']}}}}}}]\n",
                good.display()
            ),
        )
        .unwrap();
        let host = Host::start_with(&["--config", config.to_str().unwrap()]);
        until("the sensor to be joined", || host.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
        Self { host, portal, server, dir, server_process }
    }

    /// curl under a name of its own.
    fn agent(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        if !path.exists() {
            let curl = ["/usr/bin/curl", "/bin/curl"].into_iter().find(|path| Path::new(path).exists()).expect("curl");
            fs::copy(curl, &path).unwrap();
        }
        path
    }

    /// What a program is answered that calls the tool with these arguments of curl.
    fn call(&self, agent: &str, url: &str, arguments: &[&str]) -> Value {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"NAME","arguments":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#;
        let tool = if url.contains(&self.portal.to_string()) { "tools_echo" } else { "echo" };
        let output = Command::new("sh")
            .args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#])
            .arg(&self.host.cgroup)
            .arg(self.agent(agent))
            .args(["-sS", "--max-time", "20", "-H", "content-type: application/json", "-H", "mcp-protocol-version: 2026-07-28"])
            .args(["-H", "mcp-method: tools/call", "-H", &format!("mcp-name: {tool}")])
            .args(arguments)
            .args(["--data", &body.replace("NAME", tool), url])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}\n{}", self.host.log()))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.server_process.kill();
        let _ = self.server_process.wait();
    }
}

#[test]
fn the_portal_knows_which_program_calls_and_a_call_around_it_is_a_detection() {
    if !needs("portal with a sensor") {
        return;
    }
    let stage = Stage::start();
    let url = format!("http://{}/mcp", stage.portal);
    let let_in = until("the server to be reached", || {
        let answer = stage.call("good-agent", &url, &[]);
        answer["result"].is_object().then_some(answer)
    });
    assert_eq!(let_in["result"]["content"][0]["text"], "done by the server");
    let refused = stage.call("other-agent", &url, &[]);
    assert_eq!(refused["error"]["code"], -32602, "the same bytes under another name: {refused}");
    let call = until("the call's event", || {
        events(&stage.host).into_iter().find(|event| event["gnomon.portal.id"] == "main" && event["mcp.method.name"] == "tools/call")
    });
    assert!(call["process.executable.path"].as_str().unwrap().ends_with("/good-agent"), "{call:#}");
    assert_eq!(call["gnomon.correlation"], "owner", "{call:#}");
    // Through the proxy to the server itself.
    let direct = format!("http://127.0.0.1:{}/mcp", stage.server);
    let around = stage.call("good-agent", &direct, &["--proxy", &format!("http://{}", stage.host.proxy), "--noproxy", ""]);
    assert_eq!(around["result"]["content"][0]["text"], "done by the server");
    let found =
        until("the detection", || events(&stage.host).into_iter().find(|event| names_rule(event, "0d6a3f52-91c4-4f0b-8c27-5b9e4a7d1c63")));
    assert_eq!(found["gnomon.server.id"], "tools", "{found:#}");
}

fn names_rule(event: &Value, id: &str) -> bool {
    event["gnomon.rules.matched"].as_array().is_some_and(|ids| ids.iter().any(|matched| matched == id))
}
