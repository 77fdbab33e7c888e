//! The official SDK on both sides of `gnomon portal`: clients of every era, and a server that answers with event streams or with JSON
//! documents.

use super::free_address;
use crate::{
    exec::GNOMON,
    mcp::{Era, Tools, call, text},
    sensor_stage::until,
    support::{
        authority::{Authority, trusting},
        soon,
    },
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rmcp::{
    model::CallToolRequestParams,
    transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager},
};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};
use tokio::net::TcpListener;

async fn serve(config: StreamableHttpServerConfig) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = config.with_allowed_hosts([address.to_string()]);
    let service: StreamableHttpService<Tools, LocalSessionManager> = StreamableHttpService::new(|| Ok(Tools), Arc::default(), config);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let service = service.clone();
            let answer = service_fn(move |request| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(service.handle(request).await) }
            });
            tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(tcp), answer).await });
        }
    });
    address
}

pub(super) struct Portal {
    process: Child,
    pub(super) address: SocketAddr,
}

impl Portal {
    fn start(dir: &Path, server: SocketAddr) -> Self {
        Self::of(dir, &[("up", server)])
    }

    /// A portal for these servers that denies tools whose names begin with `blocked_`.
    pub(super) fn of(dir: &Path, servers: &[(&str, SocketAddr)]) -> Self {
        let ids: Vec<&str> = servers.iter().map(|(id, _)| *id).collect();
        let address = free_address();
        let config = json!({
            "metrics": {"listen": "off"},
            "servers": servers.iter().map(|(id, server)| json!({"id": id, "url": format!("http://{server}/mcp")})).collect::<Vec<_>>(),
            "portals": [{
                "id": "main",
                "listen": address,
                "servers": ids,
                "policy": [{"deny": {"tools": ["blocked_*"]}}, {"allow": {"servers": ids}}],
            }],
        });
        let (file, log) = (dir.join("gnomon.yml"), fs::File::create(dir.join("log")).unwrap());
        // JSON is YAML.
        fs::write(&file, config.to_string()).unwrap();
        let mut portal = Command::new(GNOMON);
        portal.args(["portal", "--config"]).arg(&file).arg("--state-dir").arg(dir.join("state"));
        let process = portal.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        until("the portal", || TcpStream::connect(address).ok());
        Self { process, address }
    }

    /// Its resident memory in MiB.
    pub(super) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// Stops it, so that everything is written.
    fn finish(mut self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), rustix::process::Signal::TERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The calls in the audit log: tool and status.
fn calls(dir: &Path) -> Vec<(String, String)> {
    let shown = Command::new(GNOMON).args(["audit", "show", "--json", "--state-dir"]).arg(dir.join("state")).output().unwrap();
    let records = String::from_utf8(shown.stdout).unwrap();
    let records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let word = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
    records
        .filter(|record| record["gnomon.audit.kind"] == "call")
        .map(|record| (word(&record, "gen_ai.tool.name"), word(&record, "gnomon.status")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_lists_and_calls_through_a_portal_in_either_era_and_is_refused_what_policy_denies() {
    for (server, client) in
        [(Era::Sessions, Era::Sessions), (Era::Sessions, Era::Stateless), (Era::Json, Era::Sessions), (Era::Json, Era::Stateless)]
    {
        let dir = tempfile::tempdir().unwrap();
        let portal = Portal::start(dir.path(), serve(server.server()).await);
        // The client library requires a TLS configuration, though no TLS is used.
        let tls = trusting(Authority::new("nobody").certificate(), &[]);
        let plain = reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).build().unwrap();
        let session = client.open(plain, &format!("http://{}/mcp", portal.address)).await;
        let tools = soon("the tools", session.list_tools(None)).await.unwrap();
        assert_eq!(tools.tools.iter().map(|tool| tool.name.as_ref()).collect::<Vec<_>>(), ["up_allowed_tool"], "{server:?} {client:?}");
        assert_eq!(text(&call(&session, "up_allowed_tool").await), "this is allowed_tool", "{server:?} {client:?}");
        let denied = soon("a denied tool", session.call_tool(CallToolRequestParams::new("up_blocked_tool"))).await.unwrap_err();
        // The same answer as for an unknown tool: a client that may not use a tool does not learn that it exists.
        let unknown = soon("no tool", session.call_tool(CallToolRequestParams::new("up_nothing"))).await.unwrap_err();
        assert_eq!(denied.to_string().replace("blocked_tool", "nothing"), unknown.to_string(), "{server:?} {client:?}");
        assert_eq!(text(&call(&session, "up_allowed_tool").await), "this is allowed_tool", "{server:?} {client:?}");
        soon("the end", session.cancel()).await.unwrap();
        portal.finish();
        let calls = calls(dir.path());
        let calls: Vec<_> = calls.iter().map(|(tool, status)| (tool.as_str(), status.as_str())).collect();
        let expected = [("allowed_tool", "ok"), ("up_blocked_tool", "refused"), ("up_nothing", "refused"), ("allowed_tool", "ok")];
        assert_eq!(calls, expected, "{server:?} {client:?}");
    }
}
