//! Scopes from the configuration, on the real kernel: programs that know nothing of gnomon, in cgroups that the configuration names.

use crate::{
    caller::{Answer, Call, Caller, FILE},
    joined::{NAME, events},
    sensor_stage::{Host, Joined, Road, free_port, kill, needs, serve, until},
    support::{HOST, request::call, rules::block, soon, upstream::Upstream},
};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// A scope of the configuration for the cgroups with this name that the tests make.
fn scope(name: &str, settings: &str) -> String {
    format!("{{name: {name}, match: {{cgroup: '/gnomon-e2e-{}-*/{name}'}}, {settings}}}", std::process::id())
}

/// A file with this configuration, which other users may read, and its folder.
fn configured(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gnomon.yml");
    fs::write(&config, text).unwrap();
    for (path, mode) in [(folder.path(), 0o755), (config.as_path(), 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    (folder, config)
}

/// Calls the tool from a cgroup, as a program that trusts both gnomon's authority and the server's.
async fn call_from(cgroup: &Path, authorities: &Path, port: u16) -> Value {
    call_by_name(cgroup, HOST, authorities, port).await
}

async fn call_by_name(cgroup: &Path, name: &str, authorities: &Path, port: u16) -> Value {
    let order = Call::new(([127, 0, 0, 1], port).into(), "/rpc", call(1, "blocked_tool").to_string()).tls(name, Some(authorities));
    let program = Caller::new();
    let mut command = Command::new("sh");
    command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(cgroup).args(program.words(FILE, &order));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    Answer::of(&output).unwrap_or_else(|| panic!("{output:?}")).json()
}

/// The number of scopes that redirect.
pub(crate) fn redirecting(host: &Host) -> u64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
    let output = command.args(["status", "--json", "--exec-socket"]).arg(host.exec_socket()).output().unwrap();
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["sensor"]["redirecting"].as_u64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_reads_first_and_refuses_when_it_is_told_to() {
    if !needs("a_scope_reads_first_and_refuses_when_it_is_told_to") {
        return;
    }
    let upstream = Upstream::start(&["http/1.1"]).await;
    let port = upstream.address.port();
    let folder = tempfile::tempdir().unwrap();
    let (config, root, rule) = (folder.path().join("gnomon.yml"), folder.path().join("root.pem"), folder.path().join("rule.yml"));
    fs::copy(upstream.authority.pem_file(), &root).unwrap();
    fs::write(&rule, &*block(1, "gen_ai.tool.name: blocked_tool").text).unwrap();
    let scopes = [("agents", "enforce"), ("trial", "intercept")];
    let scopes = scopes.map(|(name, mode)| scope(name, &format!("mode: {mode}, ports: [{port}]"))).join(", ");
    fs::write(&config, format!("proxy: {{upstream_ca: [root.pem]}}\nrules: {{dirs: [rule.yml]}}\nsensor: {{scopes: [{scopes}]}}\n"))
        .unwrap();
    for path in [folder.path(), &config, &root, &rule] {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut host = Host::start_with(&["--config", config.to_str().unwrap()]);
    let (agents, trial) = (host.cgroup.join("agents"), host.cgroup.join("trial"));
    fs::create_dir(&agents).unwrap();
    fs::create_dir(&trial).unwrap();
    until("both scopes", || (redirecting(&host) == 2).then_some(()));
    let doctor = Command::new(env!("CARGO_BIN_EXE_gnomon")).args(["doctor", "--json", "--config"]).arg(&config).output().unwrap();
    let checks: Vec<Value> = serde_json::from_slice(&doctor.stdout).unwrap();
    let seen = |id: &str| checks.iter().find(|check| check["id"] == id).map(|check| check["seen"].as_str().unwrap_or_default());
    assert!(seen("scope.agents").is_some_and(|seen| seen.ends_with("enforce: one cgroup matches")), "{checks:#?}");
    let authorities = folder.path().join("both.pem");
    let ours = fs::read_to_string(host.state.path().join("ca.pem")).unwrap();
    fs::write(&authorities, ours + &fs::read_to_string(&root).unwrap()).unwrap();

    let passed = |answer: &Value| answer["result"]["content"][0]["text"] == "done by the upstream";
    let answer = call_from(&trial, &authorities, port).await;
    assert!(passed(&answer), "{answer:#}");
    let answer = call_from(&agents, &authorities, port).await;
    assert_eq!(answer["result"]["isError"], json!(true), "{answer:#}");
    // Outside of both scopes nothing is redirected.
    let answer = call_from(&host.cgroup, &root, port).await;
    assert!(passed(&answer), "{answer:#}");
    until("both events", || {
        let events = host.events();
        let told = |action: &str| events.lines().any(|line| line.contains(action) && line.contains(r#""gnomon.correlation":"owner""#));
        (told(r#""gnomon.would":"block""#) && told(r#""gnomon.action":"block""#)).then_some(())
    });

    // A sensor that is restarted gets the scopes too.
    let sensor = host.part("gnomon-sensor");
    kill(sensor, Signal::KILL);
    until("the end of the sensor", || (redirecting(&host) == 0).then_some(()));
    until("both scopes again", || (redirecting(&host) == 2).then_some(()));
    host.part("gnomon-sensor");
    // A cgroup that was removed is in no scope.
    fs::remove_dir(&trial).unwrap();
    until("one scope", || (redirecting(&host) == 1).then_some(()));
}

/// The address failed, and had never answered before: it is refused for half a minute, unless somebody answers by then.
#[test]
fn a_server_that_was_only_starting_is_reached_a_second_after_it_is_there_by_whoever_tries_again() {
    if !needs("a server that was only starting") {
        return;
    }
    let at = SocketAddr::from(([127, 0, 0, 2], free_port().port()));
    // What fails open goes direct to a loopback address where nobody listens.
    let scope = scope("waits", &format!("mode: intercept, ports: [{}], fail: closed", at.port()));
    let (_folder, config) = configured(&format!("sensor: {{scopes: [{scope}]}}\n"));
    let host = Host::start_with(&["--config", config.to_str().unwrap()]);
    let waits = host.cgroup.join("waits");
    fs::create_dir(&waits).unwrap();
    until("the scope", || (redirecting(&host) == 1).then_some(()));
    let mut program = Joined::apart(&waits);
    let refused = Road::None("Connection refused (os error 111)".to_owned());
    until("the address to be refused", || (program.reaches(at) == refused).then_some(()));
    assert_eq!(program.reaches(at), refused);
    serve(TcpListener::bind(at).unwrap());
    let start = Instant::now();
    let road = until("the server to be reached", || Some(program.reaches(at)).filter(|road| *road != refused));
    assert_eq!(road, Road::ThroughProxy);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn going_around_by_port_is_known_from_the_configuration_at_once() {
    if !needs("going_around_by_port_is_known_from_the_configuration_at_once") {
        return;
    }
    let upstream = Upstream::at("127.0.0.1:0", NAME, &["http/1.1"], |_| None).await;
    let (_folder, config) = configured(&format!("sensor: {{scopes: [{}]}}\n", scope("other-port", "mode: enforce, ports: [443]")));
    let host = Host::start_with(&["--config", config.to_str().unwrap()]);
    let cgroup = host.cgroup.join("other-port");
    fs::create_dir(&cgroup).unwrap();
    until("the scope", || (redirecting(&host) == 1).then_some(()));
    // The first connection of all: nothing was redirected before it.
    let answer = call_by_name(&cgroup, NAME, upstream.authority.pem_file(), upstream.address.port()).await;
    assert_eq!(answer["result"]["content"][0]["text"], "done by the upstream", "{answer:#}");
    let seen = || events(&host).into_iter().filter(|event| event["gnomon.vantage"] == "flow");
    let first = until("the first event of a connection", || seen().next());
    assert_eq!(first["gnomon.bypass.reason"], "not_redirected", "{first:#}");
    assert_eq!((&first["gnomon.flow.outcome"], &first["server.address"]), (&json!("around_proxy"), &json!(NAME)), "{first:#}");
    until("the detection", || seen().find(|event| event["gnomon.detection.class"] == "policy"));
}

/// How many connections of one user are read at a time, and how many a program opens.
const SHARE: usize = 50;
const MANY: usize = 600;
/// A user id without an account.
const USER: u32 = 54321;
const GREETING: &[u8] = b"hello";
/// The environment variable that holds the server's address for a program that holds connections.
const SERVER: &str = "GNOMON_TEST_HOLD";
/// What its answer begins with, to tell it from the lines of the test harness.
const SIGN: &str = "> ";

/// What became of a program's connections.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Ends {
    /// The server spoke.
    served: usize,
    reset: usize,
    otherwise: Vec<String>,
    /// How long the slowest took to be served or reset.
    longest: Duration,
}

/// Not a test: a program that opens many connections at a time, and keeps those that are served until its input ends.
#[tokio::test]
#[ignore = "a role, not a test"]
async fn hold() {
    let Ok(server) = std::env::var(SERVER) else { return };
    let server: SocketAddr = server.parse().unwrap();
    let user = nix::unistd::Uid::from_raw(USER);
    nix::unistd::setresuid(user, user, user).unwrap();
    // gnomon has looked at the program by then, and none of the others waits for that.
    drop(greeted(server).await.unwrap());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut connections = JoinSet::new();
    for _ in 0..MANY {
        connections.spawn(async move {
            let begun = Instant::now();
            (greeted(server).await, begun.elapsed())
        });
    }
    let (mut held, mut ends) = (Vec::new(), Ends::default());
    while let Some(done) = connections.join_next().await {
        let (end, took) = done.unwrap();
        ends.longest = ends.longest.max(took);
        match end {
            Ok(stream) => held.push(stream),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => ends.reset += 1,
            Err(error) => ends.otherwise.push(error.to_string()),
        }
    }
    ends.served = held.len();
    println!("\n{SIGN}{}", serde_json::to_string(&ends).unwrap());
    let _ = std::io::stdin().read_line(&mut String::new());
    drop(held);
}

async fn greeted(server: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server).await?;
    soon("the server or a reset", stream.read_exact(&mut [0; GREETING.len()])).await?;
    Ok(stream)
}

/// Such a program, which is killed when dropped.
struct Holding {
    program: Child,
    ends: Ends,
}

impl Holding {
    /// Starts it in a cgroup, and waits until all of its connections are served or reset.
    fn start(cgroup: &Path, server: SocketAddr) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(cgroup).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "scopes::hold", "--ignored", "--nocapture", "--test-threads=1"]).env(SERVER, server.to_string());
        let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines().map_while(Result::ok);
        let ends = lines.find_map(|line| serde_json::from_str(line.strip_prefix(SIGN)?).ok()).expect("it tells what became of them");
        Self { program, ends }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// A server that speaks first, and keeps its connections open.
async fn greets_and_holds() -> SocketAddr {
    // Its side of them is in this process.
    let (limit, wanted) = (getrlimit(Resource::Nofile), 4096);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(limit.maximum.map_or(wanted, |most| most.min(wanted))), ..limit };
        setrlimit(Resource::Nofile, raised).unwrap();
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(GREETING).await;
                let _ = stream.read(&mut [0]).await;
            });
        }
    });
    address
}

/// How many connections ended with this outcome.
fn flows(host: &Host, outcome: &str) -> usize {
    let line = format!("gnomon_flows_total{{outcome=\"{outcome}\"}} ");
    host.scrape().lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_share_scopes_that_only_intercept_let_pass_and_those_that_enforce_wait_two_seconds_then_refuse_and_tell() {
    if !needs("over_a_share_scopes_that_only_intercept_let_pass_and_those_that_enforce_wait_two_seconds_then_refuse_and_tell") {
        return;
    }
    let server = greets_and_holds().await;
    let names = ["over-share-read", "over-share-enforced"];
    let scopes = [(names[0], "intercept"), (names[1], "enforce")];
    let scopes = scopes.map(|(name, mode)| scope(name, &format!("mode: {mode}, ports: [{}]", server.port())));
    let (_folder, config) =
        configured(&format!("proxy: {{max_connections_per_user: {SHARE}}}\nsensor: {{scopes: [{}]}}\n", scopes.join(", ")));
    let host = Host::start_with(&["--config", config.to_str().unwrap()]);
    let [read, enforced] = names.map(|name| host.cgroup.join(name));
    for cgroup in [&read, &enforced] {
        fs::create_dir(cgroup).unwrap();
    }
    until("both scopes", || (redirecting(&host) == 2).then_some(()));

    // All at a time, and all of them stay: those above the share unread.
    let holding = Holding::start(&read, server);
    let ends = &holding.ends;
    assert_eq!((ends.served, ends.reset), (MANY, 0), "{ends:?}\n{}", host.log());
    until("what passes to be counted", || (flows(&host, "beyond_share") >= MANY - SHARE).then_some(()));
    assert_eq!(flows(&host, "over_share"), 0, "nothing is refused");
    let beyond = flows(&host, "beyond_share");
    assert!(beyond <= MANY - SHARE + 1, "what is within the share is read, but for one that had not ended: {beyond}");
    drop(holding);

    let begun = Instant::now();
    let holding = Holding::start(&enforced, server);
    let ends = &holding.ends;
    println!("{SHARE} of {MANY} connections may be there: {ends:?}");
    assert_eq!((ends.served, ends.reset), (SHARE, MANY - SHARE), "{ends:?}\n{}", host.log());
    assert!(ends.longest >= Duration::from_millis(1_900), "as many as have a place wait for one first: {ends:?}");
    assert!(ends.longest < Duration::from_secs(3), "two seconds, and what a busy machine takes: {ends:?}");
    until("what is refused to be counted", || (flows(&host, "over_share") >= MANY - SHARE).then_some(()));
    assert_eq!(flows(&host, "beyond_share"), beyond, "load is no way past a scope that enforces");
    let told = || events(&host).into_iter().filter(|event| event["gnomon.flow.outcome"] == "over_share").collect::<Vec<_>>();
    until("the event", || (!told().is_empty()).then_some(()));
    let (told, tens) = (told(), begun.elapsed().as_secs() / 10 + 1);
    assert!(u64::try_from(told.len()).unwrap() <= tens, "one every ten seconds, and not one for each: {told:#?}");
    assert_eq!((&told[0]["user.id"], &told[0]["gnomon.action"]), (&json!(USER.to_string()), &json!("block")), "{:#}", told[0]);
}
