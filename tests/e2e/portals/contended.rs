//! Two users whose connections come from the same ports, at the same time: a portal takes neither for the other.

use super::free_address;
use crate::{
    exec::GNOMON,
    sensor_stage::{Host, free_port, needs, until},
    support::{
        soon,
        upstream::{Answer, End, Received, Upstream},
    },
};
use nix::unistd::{Uid, User, setresuid};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::Result,
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::sleep,
};

/// How long all of them connect.
const HAMMERED: Duration = Duration::from_secs(10);
/// The ports that all of them connect from.
const PORTS: usize = 96;
/// Most calls at a time of the admitted user, and of the other: fewer than there are ports, so that both find some.
const CALLS: [usize; 2] = [16, 64];
/// How long a connection is held that is for nothing else.
const HELD: Duration = Duration::from_millis(20);
/// The user ids of two accounts that every system has. The first may use the portal.
const ADMITTED: u32 = 1;
const OTHER: u32 = 65534;
/// The environment variable that holds a program's [`Order`].
const ORDER: &str = "GNOMON_TEST_CONTENDED";
/// What its answer begins with, to tell it from the lines of the test harness.
const SIGN: &str = "> ";

/// What a program does, again and again.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Does {
    /// Calls the tool.
    Calls,
    /// Opens a connection and holds it for a moment.
    Opens,
}

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    uid: u32,
    /// What it calls itself: its user's name.
    name: String,
    does: Does,
    to: SocketAddr,
    ports: Vec<u16>,
    at_a_time: usize,
    time: Duration,
}

/// What came of a program's connections.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    opened: usize,
    /// Calls that were carried out, as far as the answer says.
    answered: usize,
    /// Calls that were refused as policy refuses them.
    refused: usize,
    otherwise: BTreeMap<String, usize>,
}

impl Tally {
    fn count(&mut self, answer: &str) {
        if answer.contains("done by the upstream") {
            self.answered += 1;
        } else if answer.contains("-32602") {
            self.refused += 1;
        } else {
            // Without the fields of the head, which differ from one to the next.
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
            let what = format!("{} {body}", head.lines().next().unwrap_or_default());
            *self.otherwise.entry(what).or_default() += 1;
        }
    }

    fn add(&mut self, other: Self) {
        self.opened += other.opened;
        self.answered += other.answered;
        self.refused += other.refused;
        for (answer, times) in other.otherwise {
            *self.otherwise.entry(answer).or_default() += times;
        }
    }
}

/// Not a test: the main function of these programs.
#[tokio::test]
#[ignore = "a role, not a test"]
async fn act() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let order: Arc<Order> = Arc::new(serde_json::from_str(&order).unwrap());
    let uid = Uid::from_raw(order.uid);
    setresuid(uid, uid, uid).unwrap();
    let (mut tasks, until) = (JoinSet::new(), Instant::now() + order.time);
    for number in 0..order.at_a_time {
        tasks.spawn(again_and_again(order.clone(), number, until));
    }
    let mut tally = Tally::default();
    while let Some(done) = tasks.join_next().await {
        tally.add(done.unwrap());
    }
    println!("\n{SIGN}{}", serde_json::to_string(&tally).unwrap());
}

async fn again_and_again(order: Arc<Order>, number: usize, until: Instant) -> Tally {
    let (mut tally, request) = (Tally::default(), request(&order));
    let mut ports = order.ports.iter().copied().cycle().skip(number);
    while Instant::now() < until
        && let Some(port) = ports.next()
    {
        let Ok(stream) = soon("a connection", from(port, order.to)).await else {
            // Another task, or the other user, has a connection from there to the same place.
            sleep(Duration::from_millis(1)).await;
            continue;
        };
        tally.opened += 1;
        match order.does {
            Does::Calls => tally.count(&called(stream, &request).await),
            Does::Opens => sleep(HELD).await,
        }
    }
    tally
}

async fn from(port: u16, to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    let stream = socket.connect(to).await?;
    // So that whoever is next can have the port at once.
    stream.set_zero_linger()?;
    Ok(stream)
}

async fn called(mut stream: TcpStream, request: &str) -> String {
    let mut answer = Vec::new();
    let exchanged = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut answer).await
    };
    match soon("an answer", exchanged).await {
        Ok(_) => String::from_utf8_lossy(&answer).into_owned(),
        Err(error) => error.to_string(),
    }
}

/// A call of the tool that says whose it is.
fn request(order: &Order) -> String {
    let params = json!({"name": "tools_echo", "arguments": {"who": order.name}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": order.name, "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    format!(
        "POST /mcp HTTP/1.1\r\nhost: {}\r\naccept: application/json\r\ncontent-type: application/json\r\nconnection: close\r\n\
         mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: tools_echo\r\ncontent-length: {}\r\n\r\n{body}",
        order.to,
        body.len()
    )
}

/// The server's answers. Calls of its tool are left to what upstreams do by default, and what it executed is in their log.
fn answer(received: &Received) -> Option<Answer> {
    if received.end != Some(End::Clean) {
        return None;
    }
    let Ok(said) = serde_json::from_slice::<Value>(&received.decoded) else { return Some(Answer::status(405)) };
    let result = match said["method"].as_str()? {
        "tools/call" => return None,
        "initialize" => {
            json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "test", "version": "1"}})
        }
        "tools/list" => json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}),
        "ping" => json!({}),
        _ if said["id"].is_null() => return None,
        _ => {
            let error = json!({"code": -32601, "message": "unknown"});
            return Some(Answer::json(json!({"jsonrpc": "2.0", "id": said["id"], "error": error}).to_string()));
        }
    };
    Some(Answer::json(json!({"jsonrpc": "2.0", "id": said["id"], "result": result}).to_string()))
}

/// A server that has nothing to do with the portal: it accepts, and says nothing.
async fn elsewhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0]).await;
            });
        }
    });
    address
}

/// `gnomon run` with a portal that only programs of one user may use.
struct Stage {
    host: Host,
    portal: SocketAddr,
    upstream: Upstream,
    _dir: TempDir,
}

impl Stage {
    async fn start(admitted: &str) -> Self {
        let upstream = Upstream::without_tls(answer).await;
        let (dir, portal) = (tempfile::tempdir().unwrap(), free_address());
        let config = dir.path().join("gnomon.yml");
        fs::write(
            &config,
            format!(
                "servers: [{{id: tools, url: 'http://{}/mcp'}}]\n\
                 portals:\n  - id: main\n    listen: '{portal}'\n    servers: [tools]\n    \
                 policy: [{{allow: {{servers: [tools], process: {{user: ['{admitted}']}}}}}}]\n",
                upstream.address
            ),
        )
        .unwrap();
        let host = Host::start_with(&["--config", config.to_str().unwrap()]);
        until("the sensor to be joined", || host.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
        Self { host, portal, upstream, _dir: dir }
    }

    /// Starts a program with this order where the sensor sees it.
    fn start_program(&self, order: &Order) -> Child {
        let role = format!("{}::act", module_path!().split_once("::").unwrap().1);
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(&self.host.cgroup);
        command.arg(std::env::current_exe().unwrap()).args(["--exact", &role, "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(ORDER, serde_json::to_string(order).unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn ended(&self, program: Child) -> Tally {
        let output = program.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let tally = said.lines().find_map(|line| serde_json::from_str(line.strip_prefix(SIGN)?).ok());
        tally.unwrap_or_else(|| panic!("{output:?}\n{}", self.host.log()))
    }

    /// Whose calls the server executed, by what is in them.
    fn executed(&self) -> Vec<String> {
        let calls = self.upstream.executed().into_iter().map(|said| serde_json::from_str::<Value>(&said).unwrap());
        let calls = calls.filter(|said| said["method"] == "tools/call");
        calls.map(|said| said["params"]["arguments"]["who"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The records of all calls.
    fn audited(&self) -> Vec<Value> {
        let mut command = Command::new(GNOMON);
        command.args(["audit", "show", "--json", "--kind", "call", "--limit", "1000000", "--state-dir"]).arg(self.host.state.path());
        let shown = String::from_utf8(command.output().unwrap().stdout).unwrap();
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).unwrap().expect("an account").name
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_hammer_one_port_and_portal_policy_by_process_lets_nobody_else_in() {
    if !needs("two_users_hammer_one_port_and_portal_policy_by_process_lets_nobody_else_in") {
        return;
    }
    let (admitted, other) = (name(ADMITTED), name(OTHER));
    let stage = Stage::start(&admitted).await;
    let calls = Order {
        uid: ADMITTED,
        name: admitted.clone(),
        does: Does::Calls,
        to: stage.portal,
        // Reserved one by one: other tests get none of them to listen on.
        ports: (0..PORTS).map(|_| free_port().port()).collect(),
        at_a_time: 1,
        time: Duration::from_millis(200),
    };
    let mut answered = 0;
    until("the server to be reached", || {
        let now = stage.ended(stage.start_program(&calls)).answered;
        answered += now;
        (now > 0).then_some(())
    });
    // The same ports lead to the portal for both of them, and for the admitted user to another server as well.
    let calls = Order { at_a_time: CALLS[0], time: HAMMERED, ..calls };
    let opens = Order { does: Does::Opens, to: elsewhere().await, at_a_time: PORTS, ..calls.clone() };
    let intrudes = Order { uid: OTHER, name: other.clone(), at_a_time: CALLS[1], ..calls.clone() };
    let programs = [&opens, &calls, &intrudes].map(|order| stage.start_program(order));
    let [opened, ours, theirs] = programs.map(|program| stage.ended(program));
    println!("{admitted} opened {} connections and called: {ours:?}; {other} called: {theirs:?}", opened.opened);
    answered += ours.answered;

    assert_eq!(theirs.answered, 0, "of {theirs:?}");
    let executed = stage.executed();
    assert_eq!(executed.iter().filter(|who| **who != admitted).count(), 0, "calls of others were executed");
    assert_eq!(executed.len(), answered, "what was answered was executed, once each, and nothing else: {ours:?}");
    // Enough of each, or nothing was tried.
    assert!(opened.opened >= 1_000 && ours.answered >= 100 && theirs.refused >= 300, "{opened:?} {ours:?} {theirs:?}");
    // A look at a process may come too late on a busy machine, which lets nobody in; a wrong name would refuse more.
    assert!(ours.refused * 100 <= ours.answered, "{ours:?}");

    // No record names the wrong one.
    let records = until("the audit", || {
        let records = stage.audited();
        (records.iter().filter(|record| record["gnomon.status"] == "ok").count() >= answered).then_some(records)
    });
    let named: Vec<&Value> = records.iter().filter(|record| record["process.user.name"].is_string()).collect();
    let wrong: Vec<&&Value> = named.iter().filter(|record| record["process.user.name"] != record["mcp.client.name"]).collect();
    assert!(wrong.is_empty(), "{} of {} records, the first: {:#}", wrong.len(), named.len(), wrong[0]);
    // Of those that are refused, at least the first 64 are recorded one by one.
    let expected = answered + theirs.refused.min(64);
    assert!(named.len() >= expected, "{} of {} records tell whose program it was", named.len(), records.len());
}
