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
/// The callers whose calls are measured before the excess and during it.
const FURTHER: usize = 4;
/// The interval between the calls of each.
const EVERY: Duration = Duration::from_millis(50);
/// The variable with the seconds for which they call before the excess, 3 by default.
const SECONDS: &str = "GNOMON_NEIGHBOURS";
/// Their 99th percentile may rise by half, or by this much: what is promised, where the variable is set, as then nothing else should run.
const PROMISED: Duration = Duration::from_millis(10);
/// The same where other tests run at the same time.
const SLACK: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 40 });
/// What the portal's process says before their 99th percentiles before and during the excess, in microseconds.
const TOOK: &str = "p99 of further callers in us: ";
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
    let slack = measured_for().map_or(SLACK, |_| PROMISED);
    let mut slowed = Vec::new();
    // Other load on the machine slows the further callers too, so the best of three counts for their speed.
    while slowed.len() < 3 {
        let portal = alone(&urls).output().unwrap();
        let said = String::from_utf8_lossy(&portal.stdout);
        assert!(portal.status.success(), "{said}{}", String::from_utf8_lossy(&portal.stderr));
        let [before, during] = took(&said);
        println!("p99 of {FURTHER} further callers: {before:?} before, {during:?} during");
        if during <= (before * 3 / 2).max(before + slack) {
            break;
        }
        slowed.push([before, during]);
    }
    drop(servers.stdin.take());
    servers.wait().unwrap();
    assert!(slowed.len() < 3, "others wait for whom they do not know: {slowed:?}");
}

/// The time that the variable sets, if it does.
fn measured_for() -> Option<Duration> {
    let seconds = std::env::var(SECONDS).ok()?;
    Some(Duration::from_secs(seconds.parse().unwrap_or_else(|_| panic!("{SECONDS} is a number of seconds, not `{seconds}`"))))
}

/// The further callers' 99th percentiles before and during the excess, as the portal's process said them.
fn took(said: &str) -> [Duration; 2] {
    let (_, rest) = said.split_once(TOOK).unwrap_or_else(|| panic!("{said}"));
    let mut micros = rest.split_whitespace().map(|word| Duration::from_micros(word.parse().unwrap()));
    [micros.next().unwrap(), micros.next().unwrap()]
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

/// Calls at a steady rate until this is over. Returns how long each call took since it was due.
async fn calls(address: SocketAddr, bearer: String, over: Arc<AtomicBool>) -> Vec<Duration> {
    let (mut client, mut due, mut took) = (Client::modern(address).holding(&bearer), tokio::time::interval(EVERY), Vec::new());
    while !over.load(Ordering::Relaxed) {
        let began = due.tick().await;
        let answer = client.call("one_echo", json!({"text": "hi"})).await;
        assert_eq!(answer.text(), "one: hi", "{answer:?}");
        took.push(began.elapsed());
    }
    took
}

/// Has the further callers call while this goes on, and returns the 99th percentile too. They have a thread of their own: otherwise they
/// would wait for the other clients in this process.
async fn p99_while<T>(address: SocketAddr, bearers: &[String; FURTHER], goes_on: impl Future<Output = T>) -> (T, Duration) {
    let over = Arc::new(AtomicBool::new(false));
    let (bearers, until) = (bearers.clone(), over.clone());
    let further = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut callers = JoinSet::new();
            for bearer in bearers {
                callers.spawn(calls(address, bearer, until.clone()));
            }
            callers.join_all().await.concat()
        })
    });
    let came = goes_on.await;
    over.store(true, Ordering::Relaxed);
    let mut took = further.join().unwrap();
    took.sort_unstable();
    (came, took[took.len() * 99 / 100])
}

async fn excess(urls: &str) {
    let (one, tasks) = urls.split_once(' ').unwrap();
    let (auth, [hog, other, further @ ..]) = tokens_of(["hog", "other", "ann", "ben", "cat", "dan"]);
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
    let quiet = tokio::time::sleep(measured_for().unwrap_or(Duration::from_secs(3)));
    let ((), took_before) = p99_while(address, &further, quiet).await;
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
    let (((), calls), took_during) = p99_while(address, &further, async { tokio::join!(excess, others) }).await;
    let grown = resident().saturating_sub(before);
    println!("{calls} calls of another, {} MiB more", grown >> 10);
    println!("{TOOK}{} {}", took_before.as_micros(), took_during.as_micros());
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
