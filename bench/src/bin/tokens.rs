//! What tools cost a model to read: the lists of real servers through the portal, whole and in its smaller forms.
//!
//! Counted is the JSON of `result.tools` as it came, in bytes and in tokens of `o200k_base`. Models differ in their tokenizers and
//! in how their clients present tools, so the ratios say more than the numbers.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gnomon_bench::portal::{Client, Era};
use gnomon_bench::tasks;
use serde_json::{Value, json};

#[path = "../../../proxy/openapi/tests/behaviour/generated.rs"]
mod generated;

/// Resources of the OpenAPI document, of five operations each.
const RESOURCES: usize = 500;
/// How long the servers may take to start and tell what they offer.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the portal shows, by the query of its URL.
const FORMS: [(&str, &str); 4] = [
    ("every tool", "/mcp"),
    ("names only", "/mcp?optimize_context=minimize_tools"),
    ("query and execute", "/mcp?optimize_context=search_and_execute"),
    ("Code Mode", "/mcp?codemode=search_and_execute"),
];
/// The servers: their ids, the scripts of their packages, what they are given, and what they ask for in their environment.
const SERVERS: [(&str, &str, &[&str], &[&str]); 4] = [
    ("filesystem", "server-filesystem", &["the folder of the tasks"], &[]),
    ("github", "server-github", &[], &["GITHUB_PERSONAL_ACCESS_TOKEN"]),
    ("slack", "server-slack", &[], &["SLACK_BOT_TOKEN", "SLACK_TEAM_ID"]),
    ("memory", "server-memory", &[], &[]),
];

#[derive(Parser)]
struct Options {
    /// The gnomon to ask
    #[arg(long)]
    gnomon: PathBuf,
    /// Where the servers' packages are installed
    #[arg(long)]
    packages: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut rows = Vec::new();
    let folder = tempfile::tempdir()?;
    // The server that reads it is a user of its own.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let mut real: Vec<Value> = SERVERS.iter().map(|server| program(&options.packages, server)).collect();
    real[0]["command"][2] = folder.path().display().to_string().into();
    let memory = folder.path().join("memory");
    fs::create_dir(&memory)?;
    fs::set_permissions(&memory, fs::Permissions::from_mode(0o777))?;
    real[3]["env"]["MEMORY_FILE_PATH"] = memory.join("memory.jsonl").display().to_string().into();
    real[3]["write"] = json!([memory]);
    let portal = Portal::start(&options.gnomon, real)?;
    let ready = Instant::now();
    // The servers are there when the list has grown to all of them.
    let mut before = 0;
    loop {
        let now = portal.tools("/mcp")?.as_array().map_or(0, Vec::len);
        if now > 0 && now == before {
            break;
        }
        ensure!(ready.elapsed() < PATIENCE, "the servers do not get ready");
        before = now;
        sleep(Duration::from_secs(3));
    }
    for (form, url) in FORMS {
        rows.push((format!("{form}, 4 servers"), portal.tools(url)?));
    }
    let whole = count(&rows[0].1);
    let coder = || Ok::<_, anyhow::Error>(Client::open(portal.port, FORMS[3].1, Era::Stateless)?.without_streams());
    let costs = tasks::run(&mut Client::open(portal.port, FORMS[0].1, Era::Stateless)?.without_streams(), &mut coder()?, folder.path())?;
    drop(portal);
    for number in [40_usize, 400] {
        // Ten and a hundred of each; they are not reached, which changes nothing about what Code Mode shows.
        let many = (0..number).map(|n| json!({"id": format!("s{n}"), "url": format!("http://127.0.0.1:9/{n}")})).collect();
        let portal = Portal::start(&options.gnomon, many)?;
        rows.push((format!("Code Mode, {number} servers"), portal.tools(FORMS[3].1)?));
    }
    let described = tempfile::tempdir()?;
    let document = described.path().join("api.json");
    fs::write(&document, generated::document("3.1.0", RESOURCES, "https://api.example").to_string())?;
    let api = |allow: &[&str]| json!({"id": "api", "openapi": {"file": document, "allow": allow, "writes": ["*"]}});
    let all = Portal::start(&options.gnomon, vec![api(&["*"])])?.tools(FORMS[0].1)?;
    let operations = all.as_array().map_or(0, Vec::len);
    ensure!(operations == RESOURCES * generated::EACH, "{operations} operations are tools");
    rows.push((format!("Code Mode, {operations} operations"), Portal::start(&options.gnomon, vec![api(&[])])?.tools(FORMS[3].1)?));
    println!("{:<28} {:>6} {:>9} {:>14} {:>9}", "shown", "tools", "bytes", "o200k tokens", "saved");
    for (form, tools) in &rows {
        let (bytes, tokens) = count(tools);
        let saved = 100.0 * (1.0 - tokens as f64 / whole.1 as f64);
        println!("{form:<28} {:>6} {bytes:>9} {tokens:>14} {saved:>8.1}%", tools.as_array().map_or(0, Vec::len));
    }
    tasks::show(&costs)?;
    let (bytes, schemas) = count(&all);
    println!("{:<28} {operations:>6} {bytes:>9} {schemas:>14}", "the operations as tools");
    let code: Vec<usize> = rows.iter().filter(|(form, _)| form.starts_with("Code")).map(|(_, tools)| count(tools).1).collect();
    ensure!(code.iter().all(|tokens| *tokens == code[0]), "Code Mode grows with servers: {code:?}");
    ensure!(code[0] <= 450, "the two tools take {} tokens, and may take 450", code[0]);
    let saved = 100.0 * (1.0 - code[0] as f64 / schemas as f64);
    println!("the two tools are {saved:.3} % below the operations' schemas");
    ensure!(saved >= 99.9, "the two tools are {saved:.3} % below the operations' schemas, and should be 99.9 %");
    Ok(())
}

fn count(tools: &Value) -> (usize, usize) {
    let text = tools.to_string();
    (text.len(), bpe_openai::o200k_base().count(text.as_str()))
}

fn program(packages: &Path, (id, package, arguments, environment): &(&str, &str, &[&str], &[&str])) -> Value {
    let script = packages.join("node_modules/@modelcontextprotocol").join(package).join("dist/index.js");
    let mut command = vec!["node".to_owned(), script.display().to_string()];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let environment: serde_json::Map<String, Value> = environment.iter().map(|name| ((*name).to_owned(), json!("none"))).collect();
    json!({"id": id, "command": command, "read": [packages], "env": environment})
}

/// A portal that runs until it is dropped.
struct Portal {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Portal {
    fn start(gnomon: &Path, servers: Vec<Value>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let ids: Vec<Value> = servers.iter().map(|server| server["id"].clone()).collect();
        let config = json!({
            "metrics": {"listen": "off"},
            "servers": servers,
            "portals": [{"id": "main", "listen": format!("127.0.0.1:{port}"), "servers": ids, "policy": [{"allow": {"servers": ["*"]}}]}],
        });
        let file = dir.path().join("gnomon.yml");
        fs::write(&file, config.to_string())?;
        let child = Command::new(gnomon)
            .args(["portal", "--config"])
            .arg(&file)
            .arg("--state-dir")
            .arg(dir.path().join("state"))
            // Most of these servers are not there, which is no news here.
            .env("RUST_LOG", "error")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| gnomon.display().to_string())?;
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            ensure!(begun.elapsed() < PATIENCE, "the portal does not listen");
            sleep(Duration::from_millis(20));
        }
        Ok(Self { child, port, _dir: dir })
    }

    fn tools(&self, url: &'static str) -> Result<Value> {
        Client::open(self.port, url, Era::Stateless)?.tools()
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
