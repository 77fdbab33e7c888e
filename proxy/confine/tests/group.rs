//! Control groups of instances on the real kernel; needs root, and cgroup v2 with the controllers memory and pids.
//!
//! Every other process is this same program in a role (see [`act`]): gnomon as it settles in a cgroup, a keeper, the process that becomes
//! the program, and the program, which is not trusted.

#![allow(clippy::unwrap_used)]

use gnomon_confine::{Demand, Limits, Network, Pins, Plan, enter, keep, settle};
use rustix::{
    fs::{XattrFlags, setxattr},
    process::{Pid, Signal, kill_process},
};
use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What its answers begin with, to tell them from the lines of the test harness.
const SIGN: &str = "> ";
/// The arguments with which this program plays a role; the name of the role follows.
const ROLE: [&str; 5] = ["--exact", "act", "--ignored", "--nocapture", "--test-threads=1"];
/// The variable with the plan of a keeper, or the cgroup to settle in.
const GIVEN: &str = "GNOMON_TEST_GIVEN";
const MIB: u64 = 1 << 20;

/// A cgroup of this test that can be divided.
struct Stage {
    cgroup: PathBuf,
    home: TempDir,
}

impl Stage {
    /// `None`, reported as a skip, where the kernel gives us no such cgroup.
    fn new(name: &str) -> Option<Self> {
        match cgroup(name) {
            Ok(cgroup) => Some(Self { cgroup, home: tempfile::tempdir().unwrap() }),
            Err(why) => {
                gnomon_testkit::skip("cgroup", &why);
                None
            }
        }
    }

    /// Delegates it, as a service manager would.
    fn delegated(self) -> Self {
        setxattr(&self.cgroup, "user.delegate", b"1", XattrFlags::empty()).unwrap();
        self
    }

    /// Divides it, as [`settle`] would.
    fn divided(self) -> Self {
        fs::write(self.cgroup.join("cgroup.subtree_control"), "+memory +pids").unwrap();
        self
    }

    fn plan(&self, role: &str, limits: Limits) -> Plan {
        let program = env::current_exe().unwrap().to_str().unwrap().to_owned();
        Plan {
            command: [&*program].into_iter().chain(ROLE).chain([role]).map(str::to_owned).collect(),
            pins: Pins::default(),
            home: self.home.path().join("hog"),
            cwd: None,
            read: Vec::new(),
            write: Vec::new(),
            hidden: Vec::new(),
            network: Network::None,
            account: None,
            limits,
            group: Some(self.cgroup.clone()),
            demand: Demand::BestEffort,
            grace_ms: 1000,
        }
    }

    /// The cgroups left below it, except for gnomon's own.
    fn groups(&self) -> Vec<String> {
        let there = fs::read_dir(&self.cgroup).unwrap().flatten().filter(|entry| entry.file_type().unwrap().is_dir());
        there.map(|entry| entry.file_name().into_string().unwrap()).filter(|name| name != "gnomon").collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        remove(&self.cgroup);
    }
}

fn cgroup(name: &str) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root".to_owned());
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some(PathBuf::from(fields.next()?)).filter(|_| fields.next() == Some("cgroup2"))
    });
    let mount = mount.ok_or("cgroup v2 is not mounted")?;
    let there = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    if let Some(lacking) = ["memory", "pids"].into_iter().find(|wanted| !there.split_whitespace().any(|there| there == *wanted)) {
        return Err(format!("cgroup v2 has no controller {lacking} here"));
    }
    fs::write(mount.join("cgroup.subtree_control"), "+memory +pids").map_err(|error| format!("dividing {}: {error}", mount.display()))?;
    let cgroup = mount.join(format!("gnomon-confine-{}-{name}", process::id()));
    fs::create_dir(&cgroup).unwrap();
    Ok(cgroup)
}

/// Removes a cgroup and those below it, killing the processes in them.
fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let end = Instant::now() + Duration::from_secs(5);
    while fs::remove_dir(cgroup).is_err() && cgroup.exists() && Instant::now() < end {
        for pid in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL);
        }
        sleep(Duration::from_millis(5));
    }
}

/// Another process; killed when dropped.
struct Actor {
    process: Child,
    output: BufReader<process::ChildStdout>,
}

impl Actor {
    fn start(role: &str, given: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(ROLE).arg(role).env(GIVEN, given);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    fn keeper(plan: &Plan) -> Self {
        Self::start("keep", &serde_json::to_string(plan).unwrap())
    }

    /// Settles in the cgroup and stays there.
    fn settler(cgroup: &Path) -> Self {
        Self::start("settle", cgroup.to_str().unwrap())
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "it is gone: {}", self.said());
            // The line may begin with output of the test harness.
            if let Some((_, answer)) = line.split_once(SIGN) {
                return answer.trim().to_owned();
            }
        }
    }

    fn said(&mut self) -> String {
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    /// Its exit code, and its standard error. Closes its standard input.
    fn ended(mut self) -> (Option<i32>, String) {
        drop(self.process.stdin.take());
        let said = self.said();
        (self.process.wait().unwrap().code(), said)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_there(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    // Long, for an emulated machine.
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited 60 s for {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Not a test: the main function of the other processes.
#[test]
#[ignore = "a role, not a test"]
fn act() {
    let role = env::args().next_back().unwrap();
    let plan = || serde_json::from_str::<Plan>(&env::var(GIVEN).unwrap()).unwrap();
    match role.split_once(':').unwrap_or((&role, "")) {
        ("keep", _) => {
            let inside = ROLE.map(str::to_owned).into_iter().chain([format!("enter:{}", process::id())]);
            process::exit(keep(&plan(), &inside.collect::<Vec<_>>()).into());
        }
        ("enter", keeper) => process::exit(enter(&plan(), keeper.parse().unwrap()).into()),
        ("settle", _) => settler(),
        ("several", _) => several(),
        ("touch", mib) => touch(mib.parse().unwrap()),
        ("forks", most) => forks(most.parse().unwrap()),
        ("leaves", _) => leaves(),
        ("rests", _) => rest(),
        _ => {}
    }
}

fn say(answer: &str) {
    println!("\n{SIGN}{answer}");
}

fn rest() {
    sleep(Duration::from_secs(300));
}

fn another(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(ROLE).arg(role).stdout(Stdio::null());
    command
}

/// Moves into the cgroup, as if started there; answers, and waits until its input is closed.
fn settler() {
    let cgroup = PathBuf::from(env::var(GIVEN).unwrap());
    fs::write(cgroup.join("cgroup.procs"), "0").unwrap();
    let mut child = another("rests").stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let leaf = if cgroup.ends_with("gnomon") { cgroup.clone() } else { cgroup.join("gnomon") };
    for own in [&cgroup, &leaf] {
        match settle(own) {
            Ok(parent) => {
                assert_eq!(parent, leaf.parent().unwrap());
                let places = [process::id(), child.id()].map(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap());
                assert!(places.iter().all(|place| place.trim_end().ends_with("/gnomon")), "{places:?}");
                say("settled");
            }
            Err(why) => say(&why.to_string()),
        }
    }
    let _ = std::io::stdin().read_line(&mut String::new());
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Starts three processes that use 24 MiB each.
fn several() {
    let children: Vec<Child> = (0..3).map(|_| another("touch:24").spawn().unwrap()).collect();
    children.into_iter().for_each(|mut child| drop(child.wait()));
    say("all ended, and this one did not");
    rest();
}

fn touch(mib: usize) {
    let taken = vec![1u8; mib << 20];
    rest();
    drop(taken);
}

/// Starts as many processes as it is allowed, at most `most`.
fn forks(most: usize) {
    let mut started = Vec::new();
    while started.len() < most {
        match another("rests").stderr(Stdio::null()).spawn() {
            Ok(child) => started.push(child),
            Err(error) => {
                say(&format!("{} {:?}", started.len(), error.raw_os_error()));
                return;
            }
        }
    }
    say(&format!("{most} and no end"));
}

/// Starts a process in a session of its own, which stays; then waits until its input is closed.
fn leaves() {
    #[expect(clippy::zombie_processes, reason = "it is left behind")]
    let child = another("rests").process_group(0).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap();
    say(&child.id().to_string());
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn an_instance_whose_processes_use_too_much_together_is_ended_as_a_whole_and_its_keeper_tells() {
    let Some(stage) = Stage::new("memory").map(Stage::divided) else { return };
    let keeper = Actor::keeper(&stage.plan("several", Limits { memory: 48 * MIB, tasks: 64 }));
    let (code, said) = keeper.ended();
    assert_eq!(code, Some(128 + 9), "{said}");
    assert!(said.starts_with(r#"{"ready":{"layers":["session","group","#), "{said}");
    assert!(said.ends_with("gnomon: the kernel ended it, as its processes used more than 48 MiB together\n"), "{said}");
    assert_eq!(stage.groups(), [""; 0]);
}

#[test]
fn an_instance_within_its_limits_is_not_ended_and_reports_nothing() {
    let Some(stage) = Stage::new("fits").map(Stage::divided) else { return };
    let mut keeper = Actor::keeper(&stage.plan("leaves", Limits { memory: 48 * MIB, tasks: 64 }));
    let left = keeper.answer();
    let place = fs::read_to_string(format!("/proc/{left}/cgroup")).unwrap();
    let name = format!("server-hog-{}", keeper.process.id());
    assert!(place.trim_end().ends_with(&name), "{place}");
    assert_eq!(stage.groups(), [&*name]);
    let group = stage.cgroup.join(name);
    for (file, value) in [("memory.max", (48 * MIB).to_string()), ("memory.oom.group", "1".into()), ("pids.max", "64".into())] {
        assert_eq!(fs::read_to_string(group.join(file)).unwrap().trim(), value, "{file}");
    }
    let (code, said) = keeper.ended();
    assert_eq!((code, said.lines().count()), (Some(0), 1), "{said}");
    assert!(!is_there(&left), "what it left behind was ended");
    assert_eq!(stage.groups(), [""; 0]);
}

#[test]
fn an_instance_has_no_more_processes_than_it_may_whoever_its_user_is() {
    let Some(stage) = Stage::new("tasks").map(Stage::divided) else { return };
    let mut keeper = Actor::keeper(&stage.plan("forks:64", Limits { memory: 256 * MIB, tasks: 8 }));
    let answer = keeper.answer();
    let (started, error) = answer.split_once(' ').unwrap();
    assert!((1..8).contains(&started.parse::<u32>().unwrap()), "{answer}");
    assert_eq!(error, format!("Some({})", libc::EAGAIN));
    keeper.ended();
    assert_eq!(stage.groups(), [""; 0]);
}

#[test]
fn without_a_cgroup_to_divide_a_program_runs_all_the_same_and_its_start_says_so() {
    let Some(stage) = Stage::new("undivided") else { return };
    // The parent cgroup does not delegate its controllers.
    let mut plan = stage.plan("leaves", Limits { memory: 48 * MIB, tasks: 64 });
    for (group, says) in [
        (Some(stage.cgroup.clone()), r#"{"layer":"group","why":"memory.max: "#),
        (None, r#""why":"gnomon's cgroup is not delegated to it","weight":"ordinary"}"#),
    ] {
        plan.group = group;
        let mut keeper = Actor::keeper(&plan);
        keeper.answer();
        let (code, said) = keeper.ended();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(says), "{said}");
        assert_eq!(stage.groups(), [""; 0]);
    }
}

#[test]
fn gnomon_settles_in_a_delegated_cgroup_and_again_from_where_it_settled() {
    let Some(stage) = Stage::new("settled").map(Stage::delegated) else { return };
    let mut settler = Actor::settler(&stage.cgroup);
    assert_eq!([settler.answer(), settler.answer()], ["settled", "settled"]);
    let divided = fs::read_to_string(stage.cgroup.join("cgroup.subtree_control")).unwrap();
    assert!(["memory", "pids"].iter().all(|wanted| divided.split_whitespace().any(|there| there == *wanted)), "{divided}");
    assert_eq!(fs::read_to_string(stage.cgroup.join("cgroup.procs")).unwrap(), "");
}

#[test]
fn nothing_is_changed_in_a_cgroup_that_is_not_delegated_or_has_others_in_it() {
    let Some(mut stage) = Stage::new("others") else { return };
    let mut settler = Actor::settler(&stage.cgroup);
    assert!(settler.answer().contains("is not delegated to gnomon"));
    assert_eq!(settler.ended().0, Some(0));
    assert!(!stage.cgroup.join("gnomon").exists());
    stage = stage.delegated();
    let mut other = another("rests").stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    fs::write(stage.cgroup.join("cgroup.procs"), other.id().to_string()).unwrap();
    let mut settler = Actor::settler(&stage.cgroup);
    let answer = settler.answer();
    assert!(answer.contains(&format!("the process {} is in the cgroup ", other.id())), "{answer}");
    assert!(!stage.cgroup.join("gnomon").exists());
    assert_eq!(fs::read_to_string(stage.cgroup.join("cgroup.subtree_control")).unwrap().trim(), "");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn what_a_killed_keeper_left_is_ended_by_the_next_gnomon_and_what_is_kept_is_not() {
    let Some(stage) = Stage::new("swept").map(Stage::delegated) else { return };
    let mut first = Actor::settler(&stage.cgroup);
    assert_eq!([first.answer(), first.answer()], ["settled", "settled"]);
    let plan = stage.plan("leaves", Limits { memory: 48 * MIB, tasks: 64 });
    let (mut killed, mut kept) = (Actor::keeper(&plan), Actor::keeper(&plan));
    let (orphan, child) = (killed.answer(), kept.answer());
    fs::write(stage.cgroup.join("gnomon/cgroup.procs"), kept.process.id().to_string()).unwrap();
    killed.process.kill().unwrap();
    killed.process.wait().unwrap();
    assert!(is_there(&orphan), "nobody ended it");
    assert_eq!(stage.groups().len(), 2);
    drop(first);
    // A divided cgroup can hold no process: a service manager would have created it anew.
    let mut second = Actor::settler(&stage.cgroup.join("gnomon"));
    assert_eq!(second.answer(), "settled");
    until("the orphan's end", || !is_there(&orphan));
    assert!(is_there(&child));
    assert_eq!(stage.groups(), [format!("server-hog-{}", kept.process.id())]);
}

/// Linux 5.10, which has no Landlock, is among the kernels of `cargo xtask kernels`.
#[test]
fn where_files_or_calls_cannot_be_confined_a_program_runs_only_if_that_is_said() {
    // No cgroup is needed for that.
    let stage = Stage { cgroup: PathBuf::new(), home: tempfile::tempdir().unwrap() };
    let run = |demand| {
        let plan = Plan { group: None, demand, ..stage.plan("leaves", Limits { memory: 48 * MIB, tasks: 64 }) };
        let (code, said) = Actor::keeper(&plan).ended();
        let report: serde_json::Value = serde_json::from_str(said.lines().next().unwrap_or_default()).unwrap_or_else(|_| panic!("{said}"));
        (code, report)
    };
    let (code, best) = run(Demand::BestEffort);
    assert_eq!(code, Some(0), "{best}");
    let needed = |missing: &serde_json::Value| missing["layer"] == "files" || missing["layer"] == "calls";
    let lacks = best["ready"]["missing"].as_array().unwrap().iter().any(needed);
    let (code, enforced) = run(Demand::Enforced);
    if lacks {
        assert_eq!(code, Some(125), "{enforced}");
        assert!(enforced["refused"].to_string().contains("confine: best_effort"), "{enforced}");
    } else {
        assert!(code == Some(0) && enforced["ready"].is_object(), "{enforced}");
    }
}
