//! Starts of programs: what becomes an event, and that each is counted.

use std::time::Instant;

use gnomon_link::{
    Arguments, IdentityAnswer, Lineage, List, ListensAnswer, Name, Parent, StartAnswer, Started, Starts, Text, ToProxy, ToSensor,
};
use serde_json::Value;

use super::raw::start;
use super::stage::{Answers, SOON, Stage, ada, silent};
use crate::WatchOptions;

const CREATED: u64 = 90_000_000_000;
const BEGAN: u64 = 100_000_000_000;

/// A process of the played host.
#[derive(Clone)]
struct Process {
    pid: u32,
    created: u64,
    arguments: &'static [&'static str],
    parents: &'static [u32],
}

const CLAUDE: Process = Process { pid: 2, created: CREATED, arguments: &["claude"], parents: &[1] };
const SHELL: Process = Process { pid: 3, created: CREATED, arguments: &["bash"], parents: &[2, 1] };
const NPX: Process = Process {
    pid: 10,
    created: CREATED,
    arguments: &["node", "/usr/bin/npx", "-y", "@modelcontextprotocol/server-filesystem@2025.8.21", "/srv"],
    parents: &[3, 2, 1],
};
const SH: Process = Process { pid: 11, created: CREATED, arguments: &["sh", "-c", "mcp-server-filesystem /srv"], parents: &[10, 3, 2, 1] };
const NODE: Process = Process {
    pid: 12,
    created: CREATED,
    arguments: &["node", "/root/.npm/_npx/1f/node_modules/.bin/mcp-server-filesystem", "/srv"],
    parents: &[11, 10, 3, 2, 1],
};
const CHILD: Process = Process { pid: 13, created: CREATED, arguments: &["python3", "/opt/notes_mcp.py"], parents: &[12, 11, 10, 3, 2, 1] };
const OWN: Process = Process { pid: 20, created: CREATED, arguments: &["uvx", "our-mcp"], parents: &[1] };
const HOST: [Process; 7] = [CLAUDE, SHELL, NPX, SH, NODE, CHILD, OWN];

/// A sensor that knows these processes.
fn host(processes: Vec<Process>) -> impl FnMut(ToSensor) -> Answers + Send + 'static {
    let parent = |pid: &u32, processes: &[Process]| {
        let known = processes.iter().find(|process| process.pid == *pid);
        Parent {
            pid: *pid,
            started_boot_ns: known.map_or(1, |process| process.created),
            executable: known.map(|process| Name::cut(&format!("/usr/bin/{}", process.arguments[0]))),
            arguments: Name::cut(&known.map(|process| process.arguments.join("\0")).unwrap_or_default()),
        }
    };
    move |message| match message {
        ToSensor::ReadStart { token, pid, lineage, .. } => {
            let found = processes.iter().find(|process| process.pid == pid).map_or(StartAnswer::Gone, |process| {
                let parents = if lineage == Lineage::Read { process.parents } else { &[] };
                StartAnswer::Program(Box::new(Started {
                    started_boot_ns: process.created,
                    executable: Some(Text::cut(&format!("/usr/bin/{}", process.arguments[0]))),
                    arguments: Arguments::Whole(Text::cut(&process.arguments.join("\0"))),
                    parents: List::cut(parents.iter().map(|pid| parent(pid, &processes))),
                }))
            });
            vec![(ToProxy::Start { token, found }, Vec::new())]
        }
        ToSensor::ReadListens { token, pid, started_boot_ns: CREATED } => {
            let at = if pid == NPX.pid { &["0.0.0.0:8931", "[::1]:8931"][..] } else { &[] };
            let found = ListensAnswer::At(List::cut(at.iter().map(|address| address.parse().unwrap())));
            vec![(ToProxy::ListensAt { token, found }, Vec::new())]
        }
        ToSensor::Resolve { token, .. } => {
            vec![(ToProxy::Process { token, found: IdentityAnswer::Identity(Box::new(ada())) }, Vec::new())]
        }
        _ => Vec::new(),
    }
}

fn count(stage: &Stage, outcome: &str) -> u64 {
    stage.metric(&format!(r#"gnomon_process_starts_total{{outcome="{outcome}"}}"#)).unwrap()
}

const OUTCOMES: [&str; 10] = ["server", "part", "agent", "other", "passed_over", "busy", "gone", "stale", "unreadable", "late"];

/// Reports the start of a process, and waits until it has been accounted for.
async fn begins(stage: &Stage, process: &Process, nth: u64) {
    let before: u64 = OUTCOMES.iter().map(|outcome| count(stage, outcome)).sum();
    let name = process.arguments[0];
    stage.record(&start(process.pid, 1000, BEGAN + nth, name));
    let began = Instant::now();
    while OUTCOMES.iter().map(|outcome| count(stage, outcome)).sum::<u64>() == before {
        assert!(began.elapsed() < SOON, "{name} is not accounted for");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn events(stage: &Stage, many: usize) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let events = stage.events().await;
        if events.len() >= many || began.elapsed() > SOON {
            assert_eq!(events.len(), many, "{events:#?}");
            return events;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runner_shell_and_server_are_one_event_with_its_package_its_agent_and_its_user() {
    let stage = Stage::new(&[], host(HOST.to_vec())).await;
    for (nth, process) in [CLAUDE, SHELL, NPX, SH, NODE].iter().enumerate() {
        begins(&stage, process, nth as u64).await;
    }
    let events = events(&stage, 1).await;
    for (field, value) in [
        ("gnomon.channel", "process"),
        ("gnomon.vantage", "process"),
        ("package.ecosystem", "npm"),
        ("package.name", "@modelcontextprotocol/server-filesystem"),
        ("package.version", "2025.8.21"),
        ("gnomon.package.runner", "npx"),
        ("gnomon.local.server", "pkg:npm/@modelcontextprotocol/server-filesystem"),
        ("gnomon.local.known_by", "catalogue"),
        ("gnomon.agent", "Claude Code"),
        ("gnomon.confidence", "probable"),
        ("user.name", "ada"),
        ("gnomon.process.identity", "confirmed"),
        ("rule.name", "Local MCP server started"),
        ("gnomon.action", "log"),
    ] {
        assert_eq!(events[0][field], value, "{field}: {:#}", events[0]);
    }
    assert_eq!(
        (&events[0]["gnomon.package.pinned"], &events[0]["process.pid"], &events[0]["process.parent.pid"]),
        (&true.into(), &10.into(), &3.into())
    );
    assert_eq!(events[0]["process.executable.hash.sha256"], "ab".repeat(32));
    assert_eq!((count(&stage, "agent"), count(&stage, "server"), count(&stage, "part")), (1, 1, 2));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_listens_is_told_with_its_addresses_and_its_start_once() {
    let stage = Stage::new(&[], host(HOST.to_vec())).await;
    for (nth, process) in [NPX, OWN].iter().enumerate() {
        begins(&stage, process, nth as u64).await;
    }
    let events = events(&stage, 3).await;
    let event = events.iter().find(|event| event["gnomon.vantage"] == "listener").unwrap();
    for (field, value) in [
        ("gnomon.local.server", "pkg:npm/@modelcontextprotocol/server-filesystem"),
        ("user.name", "ada"),
        ("rule.level", "medium"),
        ("rule.name", "Local MCP server that others than this host can reach"),
    ] {
        assert_eq!(event[field], value, "{field}: {event:#}");
    }
    assert_eq!(event["gnomon.local.listens"], serde_json::json!(["0.0.0.0:8931", "[::1]:8931"]));
    assert_eq!((&event["gnomon.local.exposed"], &event["gnomon.local.known_by"]), (&true.into(), &Value::Null));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_starts_another_is_no_server_and_what_it_starts_is_one_event_as_itself() {
    let nothing = Process { pid: 30, arguments: &["sh", "-c", "mcp-nothere"], parents: &[1], ..SH };
    let env = Process { pid: 31, arguments: &["env", "X=1", "node", "/srv/my-mcp.js"], parents: &[1], ..SH };
    let node = Process { pid: 32, arguments: &["node", "/srv/my-mcp.js"], parents: &[31, 1], ..SH };
    let shell = Process { pid: 33, arguments: &["sh", "-c", "npx -y our-mcp"], parents: &[1], ..SH };
    let npx = Process { pid: 34, arguments: &["npx", "-y", "our-mcp"], parents: &[33, 1], ..SH };
    let shell_within = Process { pid: 35, arguments: &["sh", "-c", "our-mcp"], parents: &[34, 33, 1], ..SH };
    // Its runner has ended.
    let within = Process { pid: 36, arguments: &["node", "/x/node_modules/our-mcp/index.js"], parents: &[35, 1], ..SH };
    let all = [nothing, env, node, shell, npx, shell_within, within];
    let stage = Stage::new(&[], host(all.to_vec())).await;
    for (nth, process) in all.iter().enumerate() {
        begins(&stage, process, nth as u64).await;
    }
    let events = events(&stage, 2).await;
    let told = |event: &Value| (event["gnomon.local.server"].clone(), event["process.pid"].clone());
    assert_eq!(told(&events[0]), ("file:/srv/my-mcp.js".into(), 32.into()));
    assert_eq!(told(&events[1]), ("pkg:npm/our-mcp".into(), 34.into()));
    assert_eq!((count(&stage, "other"), count(&stage, "server"), count(&stage, "part")), (3, 2, 2));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_no_registry_is_a_package_that_nobody_knows_and_what_it_starts_is_a_part() {
    let npx = Process { pid: 40, arguments: &["npx", "-y", "https://u:hunter2@h/mcp-x.tgz?k=hunter2"], parents: &[1], ..SH };
    let node = Process { pid: 41, arguments: &["node", "/x/node_modules/mcp-x/index.js"], parents: &[40, 1], ..SH };
    let stage = Stage::new(&[], host(vec![npx.clone(), node.clone()])).await;
    for (nth, process) in [npx, node].iter().enumerate() {
        begins(&stage, process, nth as u64).await;
    }
    let events = events(&stage, 1).await;
    assert_eq!(
        (&events[0]["gnomon.local.server"], &events[0]["package.name"]),
        (&"pkg:npm/https://h/mcp-x.tgz".into(), &"https://h/mcp-x.tgz".into())
    );
    assert_eq!((&events[0]["gnomon.package.pinned"], events[0]["gnomon.rules.matched"].as_array().unwrap().len()), (&false.into(), 3));
    assert_eq!((count(&stage, "server"), count(&stage, "part")), (1, 1));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_starts_is_another_and_a_package_that_nobody_knows_and_that_is_not_pinned_is_told() {
    let stage = Stage::new(&[], host(HOST.to_vec())).await;
    for (nth, process) in [NPX, NODE, CHILD, OWN].iter().enumerate() {
        begins(&stage, process, nth as u64).await;
    }
    let events = events(&stage, 3).await;
    assert_eq!(events[1]["gnomon.local.server"], "file:/opt/notes_mcp.py");
    assert_eq!((&events[1]["gnomon.confidence"], &events[1]["package.name"]), (&"suspected".into(), &Value::Null));
    assert_eq!((&events[2]["gnomon.local.server"], &events[2]["gnomon.agent"]), (&"pkg:pypi/our-mcp".into(), &Value::Null));
    assert_eq!((&events[2]["rule.level"], events[2]["gnomon.rules.matched"].as_array().unwrap().len()), (&"low".into(), 3));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_was_given_out_again_is_another_server_and_the_same_process_is_not() {
    let again = Process { created: CREATED + 10_000_000, ..NPX };
    let stage = Stage::new(&[], host(HOST.to_vec())).await;
    begins(&stage, &NPX, 0).await;
    // As env does: the same process calls exec once more.
    begins(&stage, &NPX, 1).await;
    assert_eq!((count(&stage, "server"), count(&stage, "part")), (1, 1));
    stage.end().await;
    let reused = std::sync::atomic::AtomicUsize::new(0);
    let (mut first, mut then) = (host(vec![NPX]), host(vec![again]));
    let script = move |message| match (&message, reused.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
        (ToSensor::ReadStart { began_boot_ns, .. }, _) if *began_boot_ns > BEGAN => then(message),
        _ => first(message),
    };
    let stage = Stage::new(&[], script).await;
    begins(&stage, &NPX, 0).await;
    begins(&stage, &NPX, 1).await;
    assert_eq!((count(&stage, "server"), count(&stage, "part")), (2, 0));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_server_and_no_part_of_one_leaves_no_event() {
    let other = Process { arguments: &["python3", "/srv/app/server.py"], ..OWN };
    let stage = Stage::new(&[], host(vec![CLAUDE, SHELL, other.clone()])).await;
    for (nth, process) in [CLAUDE, SHELL, other].iter().enumerate() {
        begins(&stage, process, nth as u64).await;
    }
    // One that has ended by now.
    begins(&stage, &Process { pid: 77, ..NPX }, 9).await;
    assert_eq!((count(&stage, "agent"), count(&stage, "other"), count(&stage, "gone")), (1, 2, 1));
    assert!(stage.events().await.is_empty());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_starts_is_counted_and_costs_only_its_own_user_looks() {
    let stage = Stage::new(&[], host(HOST.to_vec())).await;
    for nth in 0..1_000 {
        stage.record(&start(999, 1000, BEGAN + nth, "npx"));
        stage.record(&start(999, 1000, BEGAN + nth, "cc1"));
    }
    stage.record(&start(OWN.pid, 1001, BEGAN, "uvx"));
    stage.metric_becomes(r#"gnomon_process_starts_total{outcome="server"}"#, 1).await;
    let began = Instant::now();
    while OUTCOMES.iter().map(|outcome| count(&stage, outcome)).sum::<u64>() < 2_001 {
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(OUTCOMES.iter().map(|outcome| count(&stage, outcome)).sum::<u64>(), 2_001);
    assert!(
        count(&stage, "busy") > 500 && count(&stage, "passed_over") > 900,
        "{} {}",
        count(&stage, "busy"),
        count(&stage, "passed_over")
    );
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_before_it_can_be_looked_up_is_told_with_what_was_seen() {
    let mut first = host(HOST.to_vec());
    let script = move |message| match message {
        ToSensor::ReadStart { token, lineage: Lineage::Read, .. } => vec![(ToProxy::Start { token, found: StartAnswer::Gone }, Vec::new())],
        ToSensor::Resolve { token, .. } => {
            vec![(ToProxy::Process { token, found: IdentityAnswer::Gone }, Vec::new())]
        }
        other => first(other),
    };
    let stage = Stage::new(&[], script).await;
    begins(&stage, &NPX, 0).await;
    let events = events(&stage, 1).await;
    assert_eq!((&events[0]["gnomon.process.identity"], &events[0]["process.executable.path"]), (&"gone".into(), &"/usr/bin/node".into()));
    assert!(events[0]["process.command_line"].as_str().unwrap().starts_with("node /usr/bin/npx -y"), "{:#}", events[0]);
    assert!(stage.sensor.asked.try_iter().any(|asked| matches!(asked, ToSensor::Resolve { .. })));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sensor_is_told_whether_starts_are_reported() {
    for starts in [Starts::Reported, Starts::Remembered] {
        let stage = Stage::with(&[], WatchOptions { starts, ..WatchOptions::default() }, silent).await;
        let began = Instant::now();
        while !stage.sensor.asked.try_iter().any(|asked| asked == ToSensor::ReportStarts { starts }) {
            assert!(began.elapsed() < SOON);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        stage.end().await;
    }
}
