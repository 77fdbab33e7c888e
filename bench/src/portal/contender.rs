//! Who takes part, and how each is started.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::json;

use super::client::{Client, Era};
use crate::contender::{Process, free_port};
use crate::measure;

/// How many tools each upstream has.
pub const UPSTREAM_TOOLS: usize = 20;

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// No hop at all.
    Direct,
    /// A plain HTTP hop.
    Nginx,
    /// The crate mcp-proxy.
    McpProxy,
    /// The proxy of the Python package fastmcp.
    Fastmcp,
    /// The product's portal, with a policy, all shipped rules and the audit.
    Gnomon,
    /// The same, its answers waiting for their record to be on the disk.
    GnomonDurable,
}

impl Kind {
    /// As in the tables.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::McpProxy => "mcp-proxy",
            Self::Fastmcp => "fastmcp",
            Self::Gnomon => "gnomon",
            Self::GnomonDurable => "gnomon-durable",
        }
    }

    /// What a client of 2026-07-28 can reach through it.
    #[must_use]
    pub fn serves(self, era: Era) -> bool {
        era == Era::Stateful || matches!(self, Self::Direct | Self::Nginx | Self::Gnomon | Self::GnomonDurable)
    }
}

/// Where the programs are.
pub struct Programs {
    /// gnomon itself.
    pub gnomon: PathBuf,
    /// The upstream's.
    pub upstream: PathBuf,
    /// nginx, mcp-proxy, and a python that has fastmcp.
    pub nginx: PathBuf,
    /// As above.
    pub mcp_proxy: PathBuf,
    /// As above.
    pub python: PathBuf,
}

/// One contender, up.
pub struct Contender {
    /// Which one.
    pub kind: Kind,
    port: u16,
    path: &'static str,
    tool: &'static str,
    process: Option<Process>,
}

/// Starts the upstream on these ports.
///
/// # Errors
/// When it does not come up.
pub fn start_upstream(program: &Path, ports: &[u16], dir: &Path) -> Result<Process> {
    let arguments: Vec<OsString> = ports.iter().map(|port| port.to_string().into()).collect();
    // They are opened in this order.
    Process::start(program, &arguments, ports[ports.len() - 1], dir)
}

impl Contender {
    /// Starts one in front of these upstreams; only gnomon takes more than one.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn enter(kind: Kind, programs: &Programs, upstreams: &[u16], dir: &Path) -> Result<Self> {
        let dir = dir.join(kind.label());
        fs::create_dir_all(&dir)?;
        let (port, first) = (free_port()?, upstreams[0]);
        let (program, arguments, path, tool): (_, Vec<OsString>, _, _) = match kind {
            Kind::Direct => return Ok(Self { kind, port: first, path: "/mcp", tool: "echo_0", process: None }),
            Kind::Nginx => {
                fs::write(dir.join("nginx.conf"), nginx(&dir, port, first))?;
                (&programs.nginx, vec!["-c".into(), dir.join("nginx.conf").into()], "/mcp", "echo_0")
            }
            Kind::McpProxy => {
                fs::write(dir.join("proxy.toml"), mcp_proxy(port, first))?;
                (&programs.mcp_proxy, vec!["--config".into(), dir.join("proxy.toml").into()], "/", "up/echo_0")
            }
            Kind::Fastmcp => {
                let script = dir.join("proxy.py");
                fs::write(&script, FASTMCP)?;
                let upstream = format!("http://127.0.0.1:{first}/mcp");
                (&programs.python, vec![script.into(), upstream.into(), port.to_string().into()], "/mcp", "echo_0")
            }
            Kind::Gnomon | Kind::GnomonDurable => {
                fs::write(dir.join("gnomon.yml"), gnomon(port, upstreams, kind).to_string())?;
                let state = dir.join("state");
                let arguments = ["portal".into(), "--config".into(), dir.join("gnomon.yml").into(), "--state-dir".into(), state.into()];
                let metrics = ["--metrics".into(), format!("127.0.0.1:{}", free_port()?).into()];
                (&programs.gnomon, [arguments.as_slice(), &metrics].concat(), "/mcp", "up0_echo_0")
            }
        };
        let process = Process::start(program, &arguments, port, &dir).with_context(|| kind.label())?;
        Ok(Self { kind, port, path, tool, process: Some(process) })
    }

    /// A caller of Code Mode.
    ///
    /// # Errors
    /// When it is not let in.
    pub fn coder(&self) -> Result<Client> {
        Ok(Client::open(self.port, "/mcp?codemode=search_and_execute", Era::Stateless)?.without_streams())
    }

    /// A caller.
    ///
    /// # Errors
    /// When it is not let in.
    pub fn client(&self, era: Era) -> Result<Client> {
        Client::open(self.port, self.path, era).with_context(|| self.kind.label())
    }

    /// What the first tool is called here.
    #[must_use]
    pub fn tool(&self) -> &'static str {
        self.tool
    }

    /// The processes that count: with its workers.
    fn pids(&self) -> Vec<u32> {
        let Some(main) = self.process.as_ref().map(Process::pid) else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
        std::iter::once(main).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }

    /// CPU time used so far, ms.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_ms(&self) -> Result<f64> {
        self.pids().into_iter().map(|pid| Ok(measure::cpu_time(pid)?.as_secs_f64() * 1000.0)).sum()
    }

    /// Resident memory, KiB.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident_kib(&self) -> Result<f64> {
        self.pids().into_iter().map(|pid| Ok(measure::resident_mib(pid)? * 1024.0)).sum()
    }
}

fn nginx(dir: &Path, port: u16, upstream: u16) -> String {
    let dir = dir.display();
    format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 10000000; client_body_buffer_size 1m; proxy_buffers 16 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 128k;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 10000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}
}}
"
    )
}

fn mcp_proxy(port: u16, upstream: u16) -> String {
    format!(
        "[proxy]\nname = \"bench\"\nseparator = \"/\"\n[proxy.listen]\nhost = \"127.0.0.1\"\nport = {port}\n[[backends]]\nname = \"up\"\ntransport = \"http\"\nurl = \"http://127.0.0.1:{upstream}/mcp\"\n"
    )
}

fn gnomon(port: u16, upstreams: &[u16], kind: Kind) -> serde_json::Value {
    let names: Vec<String> = (0..upstreams.len()).map(|n| format!("up{n}")).collect();
    let servers: Vec<_> =
        upstreams.iter().zip(&names).map(|(port, id)| json!({"id": id, "url": format!("http://127.0.0.1:{port}/mcp")})).collect();
    let policy = json!([{"allow": {"servers": names}}]);
    json!({
        "audit": {"writes": if kind == Kind::GnomonDurable { "before_answer" } else { "soon" }},
        "codemode": {"sandbox_seconds": 1},
        "servers": servers,
        "portals": [{"id": "main", "listen": format!("127.0.0.1:{port}"), "auth": {"mode": "none"}, "servers": names, "policy": policy}],
    })
}

const FASTMCP: &str = "import sys
from fastmcp.server import create_proxy
create_proxy(sys.argv[1], name='bench').run(
    transport='http', host='127.0.0.1', port=int(sys.argv[2]), show_banner=False, log_level='ERROR', uvicorn_config={'access_log': False})
";
