//! A gnomon, and a Prometheus that watches it with the rules that ship.

use crate::sensor_stage::{kill, until};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};
use tempfile::TempDir;

/// What ships for Prometheus.
pub fn deployed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

/// Whether these programs are there; says so if not.
pub fn has(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| Command::new(program).arg("--version").output().is_err());
    if let Some(missing) = missing {
        crate::sensor_stage::skip(test, &format!("{missing} is not installed"));
    }
    missing.is_none()
}

/// A process that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gnomon whose proxy alone runs, with a folder for rules.
pub struct Watched {
    pub dir: TempDir,
    pub gnomon: Running,
    proxy: SocketAddr,
    metrics: SocketAddr,
}

impl Watched {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("rules")).unwrap();
        fs::write(dir.path().join("gnomon.yml"), "rules: { dirs: [rules] }\n").unwrap();
        let [proxy, metrics] = [free_port(), free_port()];
        let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
        command.args(["proxy", "--listen", &proxy.to_string(), "--metrics", &metrics.to_string()]);
        let gnomon = Running(at_home(&mut command, dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("gnomon to serve", || TcpStream::connect(metrics).and_then(|_| TcpStream::connect(proxy)).ok());
        Self { dir, gnomon, proxy, metrics }
    }

    /// Calls a tool of a server that is not there: it is an event all the same.
    pub fn call(&self, tool: &str, headers: &str) {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#);
        let head = "POST http://127.0.0.2:1/mcp HTTP/1.1\r\nHost: 127.0.0.2:1\r\nContent-Type: application/json\r\nConnection: close\r\n";
        let mut stream = TcpStream::connect(self.proxy).unwrap();
        write!(stream, "{head}{headers}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }

    pub fn scrape(&self) -> String {
        get(self.metrics, "/metrics").unwrap_or_default()
    }

    /// Runs what an alert says, as written, where `gnomon` is on the path.
    pub fn run(&self, command: &str) -> Output {
        let bin = Path::new(env!("CARGO_BIN_EXE_gnomon")).parent().unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        at_home(Command::new("sh").args(["-c", command]), self.dir.path()).env("PATH", path).output().unwrap()
    }

    /// What that prints.
    pub fn printed(&self, alert: &Value) -> String {
        let command = alert["annotations"]["command"].as_str().unwrap();
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends it as an outage does.
    pub fn end(&mut self) {
        kill(self.gnomon.0.id(), rustix::process::Signal::KILL);
        let _ = self.gnomon.0.wait();
    }
}

/// A Prometheus that scrapes every second, and knows no patience.
pub struct Prometheus {
    _running: Running,
    address: SocketAddr,
    _dir: TempDir,
}

impl Prometheus {
    /// One that has seen the gnomon, before anything happened there.
    pub fn watching(watched: &Watched) -> Self {
        let prometheus = Self::scraping(Some(watched.metrics));
        until("the first scrape", || {
            let seen = prometheus.ask("/api/v1/query?query=gnomon_detections_total");
            (!seen["data"]["result"].as_array()?.is_empty()).then_some(())
        });
        prometheus
    }

    /// One that has only the rules.
    pub fn alone() -> Self {
        Self::scraping(None)
    }

    fn scraping(target: Option<SocketAddr>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rules = fs::read_to_string(deployed().join("gnomon.rules.yml")).unwrap();
        // The rules as they are, but that a test cannot wait for minutes.
        fs::write(dir.path().join("gnomon.rules.yml"), rules.replace("for: 1m", "for: 2s")).unwrap();
        let targets = target.map_or_else(|| "[]".to_owned(), |target| format!("['{target}']"));
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [gnomon.rules.yml]\n\
             scrape_configs: [{{ job_name: gnomon, static_configs: [{{ targets: {targets} }}] }}]\n"
        );
        fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let address = free_port();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let prometheus = Self { _running: running, address, _dir: dir };
        until("Prometheus to be ready", || get(address, "/-/ready").filter(|body| body.contains("Ready")));
        prometheus
    }

    /// What its HTTP API says.
    pub fn ask(&self, path: &str) -> Value {
        get(self.address, path).and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default()
    }

    /// Whether it takes a query, and why not.
    pub fn takes(&self, query: &str) -> Result<(), String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={encoded}"));
        if answer["status"] == "success" { Ok(()) } else { Err(answer["error"].as_str().unwrap_or("no answer").to_owned()) }
    }

    /// The alerts in this state, by name.
    pub fn alerts(&self, state: &str) -> Vec<Value> {
        let alerts = self.ask("/api/v1/alerts")["data"]["alerts"].as_array().cloned().unwrap_or_default();
        alerts.into_iter().filter(|alert| alert["state"] == state).collect()
    }

    /// Waits for an alert to fire.
    pub fn fires(&self, name: &str) -> Value {
        until(&format!("{name} to fire"), || self.alerts("firing").into_iter().find(|alert| alert["labels"]["alertname"] == name))
    }

    /// Waits for an alert to resolve.
    pub fn resolves(&self, name: &str) {
        until(&format!("{name} to resolve"), || (!self.names().iter().any(|firing| firing == name)).then_some(()));
    }

    /// The names of the alerts that fire, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.alerts("firing").iter().filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect();
        names.sort();
        names
    }
}

/// Where its configuration and state are, as a package's would be under /etc and /var.
fn at_home<'c>(command: &'c mut Command, home: &Path) -> &'c mut Command {
    command.env("GNOMON_CONFIG", home.join("gnomon.yml")).env("GNOMON_STATE_DIR", home.join("state"))
}

/// The body of an answer; HTTP/1.0, so that it ends where the connection does.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
