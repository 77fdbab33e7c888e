//! Many users who ask for many servers and many tools: each call is told of, everybody else is served, and of what is shown only in part
//! the rest is told as a number.

use crate::{
    alerts::prometheus::{Running, Watched, home},
    bounds::everywhere,
    sensor_stage::until,
    support::{
        neighbours::{Neighbours, TOOL},
        request::call,
        soon,
    },
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::atomic::Ordering,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    task::JoinSet,
    time::timeout,
};

/// Each is an address of loopback, and so a principal of its own.
const USERS: usize = 500;
/// The servers that each user asks for a tool, and nobody else does.
const SERVERS_OF_EACH: usize = 10;
const SERVERS: usize = USERS * SERVERS_OF_EACH;
/// How many users ask at a time.
const AT_A_TIME: usize = 50;
/// Who calls beside them, each one server: what the neighbours of the stage are.
const NEIGHBOURS: usize = 4;
/// The time after which the test gives up waiting for them.
const CROWDED: Duration = Duration::from_secs(120);
/// What gnomon may open. All servers together are several times as many.
const DESCRIPTORS: usize = 1024;
/// The incidents that are told one by one, and the names in a list of the report.
const SHOWN: usize = 256;
const IN_THE_REPORT: usize = 1_000;

/// The address with this number, of those that begin so.
fn address(second: u8, number: usize) -> Ipv4Addr {
    let part = |number: usize| u8::try_from(number).unwrap();
    Ipv4Addr::new(127, second, part(number / 250), part(number % 250 + 1))
}

/// A gnomon with few descriptors, whose events are in `events.jsonl` of its home.
fn with_few_descriptors() -> Watched {
    let dir = home("events: { jsonl: events.jsonl }\n");
    let [proxy, metrics] = [gnomon_testkit::free_port(), gnomon_testkit::free_port()];
    let mut command = Command::new("sh");
    // The soft limit is lower still: gnomon raises it to the hard limit.
    command.args(["-c", &format!("ulimit -Sn {} && ulimit -Hn {DESCRIPTORS} && exec \"$0\" \"$@\"", DESCRIPTORS / 2)]);
    command.arg(env!("CARGO_BIN_EXE_gnomon")).arg("proxy");
    command.args(["--listen", &proxy.to_string(), "--metrics", &metrics.to_string()]);
    command.env("GNOMON_CONFIG", dir.path().join("gnomon.yml")).env("GNOMON_STATE_DIR", dir.path().join("state"));
    command.stdout(Stdio::null()).stderr(fs::File::create(dir.path().join("log")).unwrap());
    let gnomon = Running(command.spawn().unwrap());
    until("gnomon to serve", || TcpStream::connect(metrics).and_then(|_| TcpStream::connect(proxy)).ok());
    Watched { dir, gnomon, proxy, metrics }
}

/// One user calls a tool of each of their servers, over a connection each. The number of calls that were answered as they should be.
async fn asks(user: usize, proxy: SocketAddr, port: u16) -> usize {
    let mut answered = 0;
    for server in user * SERVERS_OF_EACH..(user + 1) * SERVERS_OF_EACH {
        let to = SocketAddr::from((address(3, server), port));
        let body = call(1, &format!("{TOOL}_{server}")).to_string();
        let request = format!(
            "POST http://{to}/rpc HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = String::new();
        let exchanged = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((address(2, user), 0).into())?;
            let mut stream = socket.connect(proxy).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_string(&mut answer).await
        };
        let ended = soon("an answer", exchanged).await;
        if ended.is_ok() && answer.starts_with("HTTP/1.1 200 ") {
            answered += 1;
        } else {
            println!("user {user}, server {server}: {ended:?} {answer}");
        }
    }
    answered
}

/// All users ask, so many at a time. The number of calls that were answered as they should be.
async fn all_ask(proxy: SocketAddr, port: u16) -> usize {
    let mut asking = JoinSet::new();
    for first in 0..AT_A_TIME {
        asking.spawn(async move {
            let mut answered = 0;
            for user in (first..USERS).step_by(AT_A_TIME) {
                answered += asks(user, proxy, port).await;
            }
            answered
        });
    }
    asking.join_all().await.into_iter().sum()
}

/// The samples of this metric: what stands between its name and its value, and the value.
fn samples<'p>(page: &'p str, name: &str) -> Vec<(&'p str, u64)> {
    let of_it = page.lines().filter_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' '])));
    of_it.filter_map(|rest| rest.rsplit_once(' ')).map(|(labels, value)| (labels, value.parse().unwrap())).collect()
}

/// The output of a command as JSON.
fn printed(watched: &Watched, command: &str) -> Value {
    let output = watched.run(command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether so many events are durable, and none waits.
fn is_written(page: &str, events: usize) -> bool {
    let written: u64 = samples(page, "gnomon_events_written_total").iter().map(|(_, count)| count).sum();
    samples(page, "gnomon_ledger_queue_events") == [("", 0)] && written >= events as u64
}

/// The tools of the calls that these events are of, and how many calls they stand for.
fn told(events: &str) -> Vec<(String, usize)> {
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let calls = events.filter(|event| event["event.kind"] != "outcome" && event["mcp.method.name"] == "tools/call");
    calls
        .map(|event| {
            let stands_for = event["gnomon.calls"].as_u64().unwrap_or(1);
            (event["gen_ai.tool.name"].as_str().unwrap_or_default().to_owned(), usize::try_from(stands_for).unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_users_of_five_thousand_servers_and_tools_cost_no_event_and_no_answer_of_anybody() {
    let (port, acted) = everywhere().await;
    let mut gnomon = with_few_descriptors();
    let proxy = gnomon.proxy;
    let neighbours = Neighbours { proxy, server: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) };
    let mut crowd = JoinSet::new();
    let begun = async {
        crowd.spawn(all_ask(proxy, port));
    };
    // Every call of theirs is answered, or this panics.
    let endured = neighbours.endure(Duration::from_secs(1), Duration::from_secs(4), begun).await;
    println!("{endured:?}");
    let answered = timeout(CROWDED, crowd.join_next()).await.expect("an end").unwrap().unwrap();
    assert_eq!(answered, SERVERS, "each call of the crowd was answered");
    let calls = SERVERS + endured.calls;
    assert_eq!(acted.load(Ordering::SeqCst), calls, "and each ran once");

    let page = until("the ledger to have written all", || Some(gnomon.scrape()).filter(|page| is_written(page, calls)));
    let dropped = samples(&page, "gnomon_events_dropped_total");
    assert!(!dropped.is_empty() && dropped.iter().all(|(_, count)| *count == 0), "{dropped:?}");

    // Of more incidents than are told one by one the number is told: one user at one server is one.
    let incidents = samples(&page, "gnomon_incident_active");
    let (others, shown): (Vec<_>, Vec<_>) = incidents.iter().partition(|(labels, _)| labels.contains("incident=\"others\""));
    let further: u64 = others.iter().map(|(_, count)| count).sum();
    assert_eq!((shown.len(), further), (SHOWN, (SERVERS + NEIGHBOURS - SHOWN) as u64), "{others:?}");

    // All servers are known, and the report counts those together that it has no line for.
    let inventory = printed(&gnomon, "gnomon inventory --json");
    let known: BTreeSet<&str> = inventory.as_array().unwrap().iter().map(|server| server["address"].as_str().unwrap()).collect();
    let unknown: Vec<_> = (0..SERVERS).map(|server| address(3, server).to_string()).filter(|server| !known.contains(&**server)).collect();
    assert!(unknown.is_empty(), "{} servers are not in the inventory: {:?}", unknown.len(), unknown.first());
    let report = printed(&gnomon, "gnomon report --json");
    let servers = &report["usage"]["shadow_servers"];
    let named = servers["names"].as_object().unwrap();
    let messages: u64 = named.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!((named.len(), messages + servers["others"].as_u64().unwrap()), (IN_THE_REPORT, calls as u64), "{}", servers["others"]);

    gnomon.stop();
    let events = told(&fs::read_to_string(gnomon.dir.path().join("events.jsonl")).unwrap());
    assert_eq!(events.iter().map(|(_, stands_for)| stands_for).sum::<usize>(), calls, "each call is in the events once");
    let tools: BTreeSet<&str> = events.iter().map(|(tool, _)| tool.as_str()).collect();
    let untold: Vec<_> = (0..SERVERS).map(|server| format!("{TOOL}_{server}")).filter(|tool| !tools.contains(&**tool)).collect();
    assert!(untold.is_empty(), "{} calls are in no event: {:?}", untold.len(), untold.first());
}
