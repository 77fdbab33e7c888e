//! A client program that makes one request, for tests that need a process of its own and no particular client. It is this test binary in
//! another role and under a name of its own. Tests that need a real client use that, and skip where it is missing.

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};
use tempfile::TempDir;

/// What the program's file is called, unless a test calls it otherwise.
pub const FILE: &str = "any-program";
/// What its answer begins with, to tell it from the lines of the test harness.
const SIGN: &str = "> ";
/// The environment variable that holds the program's [`Call`].
const ORDER: &str = "GNOMON_TEST_CALL";

/// The request to make: `POST` a JSON body, and print the answer.
#[derive(Serialize, Deserialize)]
pub struct Call {
    /// Where it connects to: the server, or a proxy for plain HTTP.
    pub to: SocketAddr,
    /// For TLS: the server's name, and the file of the trusted authorities; without a file, the one that `SSL_CERT_FILE` names.
    pub tls: Option<(String, Option<PathBuf>)>,
    /// The request target: a path, or a URL for a proxy.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Call {
    /// A plain HTTP request.
    pub fn new(to: SocketAddr, target: &str, body: String) -> Self {
        Self { to, tls: None, target: target.to_owned(), headers: Vec::new(), body }
    }

    pub fn tls(self, name: &str, trust: Option<&Path>) -> Self {
        Self { tls: Some((name.to_owned(), trust.map(Path::to_owned))), ..self }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A folder for the program's file; removed when dropped.
pub struct Caller {
    dir: TempDir,
}

impl Caller {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Other users run it too.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    /// The program's file under this name.
    pub fn file(&self, name: &str) -> PathBuf {
        let (file, this) = (self.dir.path().join(name), std::env::current_exe().unwrap());
        if !file.exists() {
            // With a hard link /proc/PID/exe has the new name; across file systems only a copy is possible.
            fs::hard_link(&this, &file).or_else(|_| fs::copy(&this, &file).map(drop)).unwrap();
        }
        file
    }

    /// The command that makes this call. The order is in its environment, which the programs that start it pass on.
    pub fn words(&self, name: &str, call: &Call) -> Vec<String> {
        let role = format!("{}::act", module_path!().split_once("::").unwrap().1);
        let order = format!("{ORDER}={}", serde_json::to_string(call).unwrap());
        let file = self.file(name).display().to_string();
        ["env", &order, &file, "--exact", &role, "--ignored", "--nocapture", "--test-threads=1"].map(str::to_owned).into()
    }
}

/// The server's answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    /// The answer in the program's output; `None` if it was refused a connection, or did not run.
    pub fn of(output: &Output) -> Option<Self> {
        let said = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(said.lines().find_map(|line| line.strip_prefix(SIGN))?).ok()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Not a test: the program's main function.
#[test]
#[ignore = "a role, not a test"]
fn act() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let answer = post(&serde_json::from_str(&order).unwrap());
    println!("\n{SIGN}{}", serde_json::to_string(&answer).unwrap());
    // gnomon looks the process up after its call, so it stays for a while.
    std::thread::sleep(Duration::from_millis(300));
}

/// Makes the call from this process.
pub fn post(call: &Call) -> Answer {
    let tcp = TcpStream::connect_timeout(&call.to, Duration::from_secs(10)).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    match &call.tls {
        None => exchange(&tcp, call),
        Some((name, trust)) => {
            let trust = trust.clone().or_else(|| std::env::var_os("SSL_CERT_FILE").map(PathBuf::from)).unwrap();
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(gnomon_host::trust::read_certificates(&trust).unwrap());
            let provider = rustls::crypto::aws_lc_rs::default_provider().into();
            let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            let config = config.with_root_certificates(roots).with_no_client_auth();
            let tls = ClientConnection::new(config.into(), ServerName::try_from(name.clone()).unwrap()).unwrap();
            exchange(StreamOwned::new(tls, &tcp), call)
        }
    }
}

fn exchange(mut stream: impl Read + Write, call: &Call) -> Answer {
    let host = call.tls.as_ref().map_or_else(|| call.to.to_string(), |(name, _)| format!("{name}:{}", call.to.port()));
    let mut head = format!("POST {} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\n", call.target);
    for (name, value) in &call.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    write!(stream, "{head}Content-Length: {}\r\n\r\n{}", call.body.len(), call.body).unwrap();
    stream.flush().unwrap();
    let mut bytes = Vec::new();
    // A server may close without a TLS close_notify; what was received counts.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
    Answer { status, body: if chunked { joined(body) } else { body.to_owned() } }
}

/// The chunks of a body, joined.
fn joined(mut body: &str) -> String {
    let mut all = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        all.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    all
}
