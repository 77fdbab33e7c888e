//! A client program that calls a tool as agents do: the official SDK over reqwest, rustls and HTTP/2, which trusts the file that
//! `SSL_CERT_FILE` names. It is this test binary in another role and under a name of its own, so it is always built.

use crate::{
    joined::{NAME, Way, command_in},
    sensor_stage::Host,
};
use rmcp::{
    ClientLifecycleMode, ClientServiceExt,
    model::{CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, ProtocolVersion},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// What the program's file is called.
pub const FILE: &str = "sdk-program";
/// What its answers begin with, to tell them from the lines of the test harness.
const SIGN: &str = "> ";

/// The key share in the program's ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// X25519.
    Classic,
    /// X25519MLKEM768, whose share alone has 1216 bytes (draft-ietf-tls-ecdhe-mlkem).
    PostQuantum,
}

/// How the program's first bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// As the library writes them.
    Whole,
    /// The first byte by itself, then pieces that are smaller than a key share.
    Pieces,
}

/// The program's file.
pub struct Program {
    dir: TempDir,
}

impl Program {
    pub fn new() -> Self {
        let program = Self { dir: tempfile::tempdir().unwrap() };
        let this = std::env::current_exe().unwrap();
        // With a hard link /proc/PID/exe has the new name; across file systems only a copy is possible.
        fs::hard_link(&this, program.path()).or_else(|_| fs::copy(&this, program.path()).map(drop)).unwrap();
        program
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join(FILE)
    }

    /// Calls `tool` of the server at `address`. Returns the tool's answer, and the size of the ClientHello where it was counted.
    pub fn call(&self, host: &Host, way: Way, trust: &Path, order: &Order) -> Said {
        let path = self.path().display().to_string();
        let role = format!("{}::act", module_path!().split_once("::").unwrap().1);
        let command = [&path, "--exact", &role, "--ignored", "--nocapture", "--test-threads=1"].map(str::to_owned);
        let mut command = command_in(host, way, &[], trust, &command);
        command.env("GNOMON_TEST_ADDRESS", order.address.to_string()).env("GNOMON_TEST_TOOL", order.tool);
        command.env("GNOMON_TEST_KEYS", format!("{:?}", order.keys)).env("GNOMON_TEST_FIRST", format!("{:?}", order.first));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(SIGN));
        let answer = lines.next().unwrap_or_else(|| panic!("{way:?} {order:?}: {output:?}\n{}", host.log())).to_owned();
        Said { answer, hello: lines.next().map(|size| size.parse().unwrap()) }
    }
}

/// The call to make.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub address: SocketAddr,
    pub tool: &'static str,
    pub keys: Keys,
    pub first: FirstBytes,
}

/// What the program printed.
pub struct Said {
    /// The text of the tool's answer.
    pub answer: String,
    /// Bytes sent before the server's first byte, where they were counted.
    pub hello: Option<usize>,
}

/// Not a test: the program's main function.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a role, not a test"]
async fn act() {
    let Ok(address) = std::env::var("GNOMON_TEST_ADDRESS") else { return };
    let address: SocketAddr = address.parse().unwrap();
    let mut provider = default_provider();
    if std::env::var("GNOMON_TEST_KEYS").unwrap() == format!("{:?}", Keys::PostQuantum) {
        provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1];
    } else {
        provider.kx_groups = vec![kx_group::X25519, kx_group::SECP256R1];
    }
    provider.install_default().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let http = reqwest::Client::builder().no_proxy().resolve(NAME, address);
    let (http, counted) = if std::env::var("GNOMON_TEST_FIRST").unwrap() == format!("{:?}", FirstBytes::Pieces) {
        let socket = dir.path().join("pieces");
        let listener = UnixListener::bind(&socket).unwrap();
        let (size, counted) = std::sync::mpsc::channel();
        thread::spawn(move || relay(&listener.accept().unwrap().0, address, &size));
        (http.unix_socket(socket), Some(counted))
    } else {
        (http, None)
    };
    let config = StreamableHttpClientTransportConfig::with_uri(format!("https://{NAME}:{}/rpc", address.port()));
    let transport = StreamableHttpClientTransport::with_client(http.build().unwrap(), config);
    let client = ClientConfig::new(ClientCapabilities::default(), Implementation::new(FILE, "1.0"));
    // The stateless era, so that there is a single connection.
    let lifecycle = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let client = client.serve_with_lifecycle(transport, lifecycle).await.unwrap();
    let result = client.call_tool(CallToolRequestParams::new(std::env::var("GNOMON_TEST_TOOL").unwrap())).await.unwrap();
    let result = serde_json::to_value(&result).unwrap();
    println!("\n{SIGN}{}", result["content"][0]["text"].as_str().unwrap());
    if let Some(counted) = counted {
        println!("{SIGN}{}", counted.recv().unwrap());
    }
    // gnomon looks the process up after its call, so it stays for a while.
    thread::sleep(Duration::from_millis(300));
    client.cancel().await.unwrap();
}

/// Relays the program's connection, with the first bytes in pieces; sends the number of those bytes to `size`.
fn relay(inside: &UnixStream, address: SocketAddr, size: &std::sync::mpsc::Sender<usize>) {
    let outside = TcpStream::connect(address).unwrap();
    outside.set_nodelay(true).unwrap();
    let mut first = vec![0; 16 * 1024];
    let read = (&*inside).read(&mut first).unwrap();
    size.send(read).unwrap();
    let (byte, mut rest) = first[..read].split_at(1);
    (&outside).write_all(byte).unwrap();
    while !rest.is_empty() {
        thread::sleep(Duration::from_millis(20));
        let (piece, later) = rest.split_at(rest.len().min(500));
        (&outside).write_all(piece).unwrap();
        rest = later;
    }
    thread::scope(|scope| {
        scope.spawn(|| std::io::copy(&mut &outside, &mut &*inside));
        let _ = std::io::copy(&mut &*inside, &mut &outside);
    });
}
