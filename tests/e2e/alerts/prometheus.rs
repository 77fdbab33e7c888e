//! A gnomon, and a Prometheus that watches it with the rules that ship.

use crate::sensor_stage::{kill, until};
pub use gnomon_testkit::has;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

/// What ships for Prometheus.
pub fn deployed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

/// A process that is killed when dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gnomon with a folder for rules.
pub struct Watched {
    pub dir: TempDir,
    pub gnomon: Running,
    pub proxy: SocketAddr,
    pub metrics: SocketAddr,
}

/// A home folder for gnomon: a folder for rules, and a configuration that ends with `config`.
pub fn home(config: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("rules")).unwrap();
    fs::write(dir.path().join("gnomon.yml"), format!("rules: {{ dirs: [rules] }}\n{config}")).unwrap();
    dir
}

impl Watched {
    /// Starts one that runs the proxy only.
    pub fn start() -> Self {
        Self::at(home(""), &["proxy"])
    }

    /// Starts one with this command, in this home folder.
    pub fn at(dir: TempDir, command: &[&str]) -> Self {
        let [proxy, metrics] = [free_port(), free_port()];
        let gnomon = started(dir.path(), command, [proxy, metrics]);
        Self { dir, gnomon, proxy, metrics }
    }

    /// Ends it as a service manager does, and starts it again.
    pub fn restart(&mut self, command: &[&str]) {
        self.stop();
        self.start_again(command);
    }

    /// Ends it as a service manager does.
    pub fn stop(&mut self) {
        kill(self.pid(), rustix::process::Signal::TERM);
        let _ = self.gnomon.0.wait();
    }

    /// Starts it once more, after it has ended.
    pub fn start_again(&mut self, command: &[&str]) {
        self.gnomon = started(self.dir.path(), command, [self.proxy, self.metrics]);
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.gnomon.0.id()
    }

    /// The log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Calls a tool of a server that does not exist: that is an event all the same.
    pub fn call(&self, tool: &str, headers: &str) {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#);
        self.post("/mcp", &format!("{headers}Content-Type: application/json\r\n"), &body);
    }

    /// Calls a tool of another server that does not exist.
    pub fn call_at(&self, server: &str, tool: &str) {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#);
        self.post_at(server, "/mcp", "Content-Type: application/json\r\n", &body);
    }

    /// The same with a header more.
    pub fn call_as(&self, header: &str, server: &str, tool: &str) {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#);
        self.post_at(server, "/mcp", &format!("{header}Content-Type: application/json\r\n"), &body);
    }

    /// Posts something else to it.
    pub fn post(&self, path: &str, headers: &str, body: &str) {
        self.post_at("127.0.0.2:1", path, headers, body);
    }

    fn post_at(&self, server: &str, path: &str, headers: &str, body: &str) {
        let head = format!("POST http://{server}{path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n");
        let mut stream = TcpStream::connect(self.proxy).unwrap();
        write!(stream, "{head}{headers}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }

    /// Opens a tunnel to `to`, sends this in it, and waits until it is closed.
    pub fn tunnel(&self, to: &str, said: &str) {
        let mut stream = TcpStream::connect(self.proxy).unwrap();
        write!(stream, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n{said}").unwrap();
        let mut answer = Vec::new();
        // The end may be a reset.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }

    pub fn scrape(&self) -> String {
        get(self.metrics, "/metrics").unwrap_or_default()
    }

    /// Runs the command of an alert as written, with `gnomon` on the path.
    pub fn run(&self, command: &str) -> Output {
        at_home(&mut as_written(command), self.dir.path()).output().unwrap()
    }

    /// The output of an alert's command.
    pub fn printed(&self, alert: &Value) -> String {
        succeeded(at_home(&mut as_written(command(alert)), self.dir.path()))
    }

    /// Kills it, as an outage would.
    pub fn end(&mut self) {
        kill(self.gnomon.0.id(), rustix::process::Signal::KILL);
        let _ = self.gnomon.0.wait();
    }
}

/// A gnomon that serves there.
fn started(dir: &Path, command: &[&str], [proxy, metrics]: [SocketAddr; 2]) -> Running {
    let log = dir.join("log");
    let mut gnomon = Command::new(env!("CARGO_BIN_EXE_gnomon"));
    gnomon.args(command).args(["--listen", &proxy.to_string(), "--metrics", &metrics.to_string()]);
    gnomon.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let gnomon = Running(at_home(&mut gnomon, dir).spawn().unwrap());
    let said = || fs::read_to_string(&log).unwrap_or_default();
    until(&format!("gnomon to serve: {}", said()), || TcpStream::connect(metrics).and_then(|_| TcpStream::connect(proxy)).ok());
    gnomon
}

/// A Prometheus that scrapes every second, and knows no patience.
pub struct Prometheus {
    _running: Running,
    address: SocketAddr,
    dir: TempDir,
}

impl Prometheus {
    /// Watches this gnomon; returns once it has been scraped and before anything has happened there.
    pub fn watching(watched: &Watched) -> Self {
        Self::watching_at(watched.metrics)
    }

    /// The same for any metrics endpoint.
    pub fn watching_at(metrics: SocketAddr) -> Self {
        Self::telling(metrics, None)
    }

    /// The same, with an Alertmanager to notify.
    pub fn watching_for(watched: &Watched, alertmanager: &Alertmanager) -> Self {
        Self::telling(watched.metrics, Some(alertmanager.address))
    }

    fn telling(metrics: SocketAddr, alertmanager: Option<SocketAddr>) -> Self {
        let prometheus = Self::scraping(Some(metrics), alertmanager);
        until("the first scrape", || {
            let seen = prometheus.ask("/api/v1/query?query=gnomon_detections_total");
            (!seen["data"]["result"].as_array()?.is_empty()).then_some(())
        });
        // Until the first scrape, `GnomonAbsent` was firing.
        prometheus.resolves("GnomonAbsent");
        prometheus
    }

    /// With the rules only, and nothing to scrape.
    pub fn alone() -> Self {
        Self::scraping(None, None)
    }

    fn scraping(target: Option<SocketAddr>, alertmanager: Option<SocketAddr>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rules = fs::read_to_string(deployed().join("gnomon.rules.yml")).unwrap();
        // The rules that ship, with waits of two seconds in place of minutes.
        let rules = ["1m", "2m", "5m"].iter().fold(rules, |rules, wait| rules.replace(&format!("for: {wait}\n"), "for: 2s\n"));
        fs::write(dir.path().join("gnomon.rules.yml"), rules).unwrap();
        let list = |address: Option<SocketAddr>| address.map_or_else(|| "[]".to_owned(), |address| format!("['{address}']"));
        let (targets, alertmanagers) = (list(target), list(alertmanager));
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [gnomon.rules.yml]\n\
             alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: {alertmanagers} }}] }}] }}\n\
             scrape_configs: [{{ job_name: gnomon, static_configs: [{{ targets: {targets} }}] }}]\n"
        );
        fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let address = free_port();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let prometheus = Self { _running: running, address, dir };
        until("Prometheus to be ready", || get(address, "/-/ready").filter(|body| body.contains("Ready")));
        prometheus
    }

    /// The path of its configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("prometheus.yml")
    }

    /// The answer of its HTTP API.
    pub fn ask(&self, path: &str) -> Value {
        get(self.address, path).and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default()
    }

    /// Whether it accepts a query; otherwise its error.
    pub fn takes(&self, query: &str) -> Result<(), String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={encoded}"));
        if answer["status"] == "success" { Ok(()) } else { Err(answer["error"].as_str().unwrap_or("no answer").to_owned()) }
    }

    /// The alerts in this state.
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

    /// The names of the firing alerts, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.alerts("firing").iter().filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect();
        names.sort();
        names
    }
}

/// An Alertmanager with the routes that ship, except for their waits, which are one second; and the notifications that it sent.
pub struct Alertmanager {
    _running: Running,
    address: SocketAddr,
    _dir: TempDir,
    notified: Arc<Mutex<Vec<Value>>>,
}

impl Alertmanager {
    pub fn start() -> Self {
        let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let routes = fs::read_to_string(deployed().join("alertmanager.example.yml")).unwrap();
        let routes = routes.replace("127.0.0.1:5001", &receiver.local_addr().unwrap().to_string());
        let routes = ["10s", "15s"].iter().fold(routes, |routes, wait| routes.replace(&format!(": {wait}\n"), ": 1s\n"));
        fs::write(dir.path().join("routes.yml"), routes).unwrap();
        let address = free_port();
        let mut command = Command::new("prometheus-alertmanager");
        command.arg(format!("--config.file={}", dir.path().join("routes.yml").display()));
        command.arg(format!("--storage.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--cluster.listen-address=");
        let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let notified: Arc<Mutex<Vec<Value>>> = Arc::default();
        let heard = notified.clone();
        std::thread::spawn(move || {
            for stream in receiver.incoming().flatten() {
                if let Some(notification) = hear(stream) {
                    heard.lock().unwrap().push(notification);
                }
            }
        });
        until("Alertmanager to be ready", || get(address, "/-/ready").filter(|body| body.contains("OK")));
        Self { _running: running, address, _dir: dir, notified }
    }

    /// The firing alerts of this name in its notifications, one for each notification and alert, in order.
    pub fn told(&self, name: &str) -> Vec<Value> {
        let notified = self.notified.lock().unwrap();
        let alerts = notified.iter().flat_map(|notification| notification["alerts"].as_array().cloned().unwrap_or_default());
        alerts.filter(|alert| alert["status"] == "firing" && alert["labels"]["alertname"] == name).collect()
    }
}

/// Reads one notification and acknowledges it.
fn hear(mut stream: TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().ok()?,
            Some(_) => {}
            None if line.trim().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    serde_json::from_slice(&body).ok()
}

/// The command in an alert's annotations.
pub fn command(alert: &Value) -> &str {
    alert["annotations"]["command"].as_str().unwrap()
}

/// A shell that runs the command with `gnomon` on the path.
pub fn as_written(command: &str) -> Command {
    let bin = Path::new(env!("CARGO_BIN_EXE_gnomon")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("PATH", path);
    shell
}

/// The output of a command, which must succeed.
pub fn succeeded(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Sets where configuration and state are, as a package has them in /etc and /var.
fn at_home<'c>(command: &'c mut Command, home: &Path) -> &'c mut Command {
    command.env("GNOMON_CONFIG", home.join("gnomon.yml")).env("GNOMON_STATE_DIR", home.join("state"))
}

/// The body of an HTTP/1.0 answer, which ends with the connection.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn free_port() -> SocketAddr {
    gnomon_testkit::free_port()
}
