//! Whatever one caller takes, others are not affected, and it has a bound in bytes.

use crate::{
    Setup,
    admission::tokens_of,
    client::Client,
    extended::TASKS,
    owned::tasking,
    server::{Server, Speaks},
};
use serde_json::json;
use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

/// The number of each: sessions, tasks, calls that wait for input.
const MANY: usize = 10_000;
/// How many are made at the same time.
const AT_A_TIME: usize = 4;
/// The bound that docs/portal.md gives for sessions, tasks and waiting calls together, in KiB; the test's own clients are included.
const MOST_KIB: u64 = 192 << 10;
/// The environment variable with the role of a process.
const ROLE: &str = "GNOMON_TEST_EXCESS";
const NAME: &str = "excess::ten_thousand_sessions_tasks_and_waiting_calls_of_one_caller_fail_no_call_of_another_and_have_a_bound";

/// Memory is measured for a whole process, and other tests and the servers would be counted too. So this test runs itself twice more, as
/// the servers and as the portal, each in a process of its own and with as many descriptors as allowed.
#[test]
fn ten_thousand_sessions_tasks_and_waiting_calls_of_one_caller_fail_no_call_of_another_and_have_a_bound() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match std::env::var(ROLE) {
        Ok(role) if role == "servers" => return runtime().block_on(servers()),
        Ok(urls) => return runtime().block_on(excess(&urls)),
        Err(_) => {}
    }
    let mut servers = alone("servers").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(servers.stdout.take().unwrap()).lines();
    let urls = lines.find_map(|line| line.unwrap().split_once("at ").map(|(_, urls)| urls.to_owned())).unwrap();
    let portal = alone(&urls).output().unwrap();
    drop(servers.stdin.take());
    servers.wait().unwrap();
    assert!(portal.status.success(), "{}{}", String::from_utf8_lossy(&portal.stdout), String::from_utf8_lossy(&portal.stderr));
}

/// This test in another process.
fn alone(role: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture"]).env(ROLE, role);
    command
}

/// Runs the servers until they are no longer needed.
async fn servers() {
    let (one, tasks) = (Server::start("one", Speaks::Legacy).await, tasking("tasks", Speaks::Modern).await);
    println!("at {} {}", one.url(), tasks.url());
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
}

/// The resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap()
}

/// Does something this many times, a few at a time.
async fn many<F: Future<Output = Client> + Send + 'static>(client: impl Fn() -> Client, doing: impl Fn(Client) -> F) {
    let mut free: Vec<Client> = (0..AT_A_TIME).map(|_| client()).collect();
    let mut busy = JoinSet::new();
    for _ in 0..MANY {
        let client = match free.pop() {
            Some(client) => client,
            None => busy.join_next().await.unwrap().unwrap(),
        };
        busy.spawn(doing(client));
    }
    while busy.join_next().await.is_some() {}
}

fn hostile(address: SocketAddr, bearer: &str) -> Client {
    Client::modern(address).holding(bearer).declaring(json!({"elicitation": {}, "extensions": {TASKS: {}}}))
}

async fn excess(urls: &str) {
    let (one, tasks) = urls.split_once(' ').unwrap();
    let (auth, [hog, other]) = tokens_of(["hog", "other"]);
    let mut setup = Setup::of([("one", one.to_owned()), ("tasks", tasks.to_owned())]).auth(auth).seats(1024);
    setup.limits.patience = Duration::from_secs(120);
    let portal = setup.start().await;
    let address = portal.address;
    // What the other caller has before must still be there afterwards.
    let (mut stateless, mut session) = (hostile(address, &other), hostile(address, &other).begun().await);
    let task = stateless.call("tasks_echo", json!({"text": "x"})).await.last()["result"]["taskId"].clone();
    let asked = stateless.call("one_ask", json!({})).await;
    let waits = asked.last()["result"]["requestState"].clone();
    assert!(task.is_string() && waits.is_string(), "{asked:?}");
    hostile(address, &hog).call("one_ask", json!({})).await;
    let before = resident();
    let over = Arc::new(AtomicBool::new(false));
    let excess = async {
        let sessions = many(
            || hostile(address, &hog),
            async move |client: Client| {
                client.initialize().await;
                client
            },
        );
        let of_tasks = many(
            || hostile(address, &hog),
            async move |mut client: Client| {
                client.call("tasks_echo", json!({"text": "x"})).await;
                client
            },
        );
        let waiting = many(
            || hostile(address, &hog),
            async move |mut client: Client| {
                client.call("one_ask", json!({})).await;
                client
            },
        );
        tokio::join!(sessions, of_tasks, waiting);
        over.store(true, Ordering::Relaxed);
    };
    let others = async {
        let mut calls = 0;
        while !over.load(Ordering::Relaxed) {
            for client in [&mut stateless, &mut session] {
                let answer = client.call("one_echo", json!({"text": "hi"})).await;
                assert_eq!(answer.text(), "one: hi", "after {calls} calls: {answer:?}");
                calls += 1;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        calls
    };
    let ((), calls) = tokio::join!(excess, others);
    let grown = resident().saturating_sub(before);
    println!("{calls} calls of another, {} MiB more", grown >> 10);
    assert!(calls > 20, "{calls}");
    assert!(grown < MOST_KIB, "{grown} KiB");
    let known = stateless.request("tasks/get", json!({"taskId": task})).await;
    assert_eq!(known.last()["result"]["taskId"], task, "{known:?}");
    let answer = json!({"question": {"action": "accept", "content": {"colour": "red"}}});
    let taken_up = json!({"name": "one_ask", "arguments": {}, "requestState": waits, "inputResponses": answer});
    let taken_up = stateless.request("tools/call", taken_up).await;
    assert!(taken_up.text().contains("red"), "{taken_up:?}");
    // A client that comes now finds room for all of it.
    let mut late = hostile(address, &other).begun().await;
    assert_eq!(late.call("one_echo", json!({"text": "late"})).await.text(), "one: late");
}
