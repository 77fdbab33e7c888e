//! Programs under `gnomon exec` stay intercepted whichever half of gnomon is restarted. The program under test knows nothing of gnomon: it
//! connects again and again and prints the issuer of the certificate it sees.

use crate::{
    exec::GNOMON,
    sensor_stage::{Host, Joined, Road, children, free_port, kill, logged, needs, server, status, until},
    support::{HOST, cgroup::OwnCgroup, upstream::Upstream},
};
use gnomon_testkit::{
    foreign::{Answer, Beside, CONNECT4, Foreign},
    has,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

/// A shell loop that prints the time of each connection, in nanoseconds since 1970, and whose certificate it saw. curl verifies nothing, so
/// the issuer depends only on whether the connection went through the proxy.
const LOOP: &str = r#"while :; do
  printf '%s ' "$(date +%s%N)"
  case "$(curl -sk --max-time 5 -o /dev/null -w '%{certs}' --resolve "$1:$2:127.0.0.1" "https://$1:$2/" 2>/dev/null | grep -i -m1 '^issuer')" in
    *gnomon*) echo gnomon ;; "") echo none ;; *) echo server ;;
  esac
  sleep 0.05
done"#;

/// A program under `gnomon exec` that prints issuers.
struct Printing {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Printing {
    /// Starts it in a cgroup, as an ordinary user; `around` is put in front of the program's command.
    fn start(cgroup: &Path, port: u16, around: &[&str]) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@""#]).arg(cgroup);
        command.args(around).args(["sh", "-c", LOOP, "sh", HOST, &port.to_string()]);
        command.env("HOME", "/nonexistent").process_group(0);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The time of the next connection, and whose certificate it saw.
    fn next(&mut self) -> (SystemTime, String) {
        let mut line = String::new();
        assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the program has ended");
        let (at, issuer) = line.trim().split_once(' ').unwrap_or_else(|| panic!("{line}"));
        (UNIX_EPOCH + Duration::from_nanos(at.parse().unwrap()), issuer.to_owned())
    }

    /// Waits until a connection made after `since` sees this issuer. Returns how long after, and the issuers seen meanwhile.
    fn until(&mut self, since: SystemTime, issuer: &str) -> (Duration, Vec<String>) {
        let mut seen = Vec::new();
        let took = until(&format!("{issuer}'s certificate"), || {
            let (at, found) = self.next();
            let took = at.duration_since(since).ok()?;
            seen.push(found);
            (seen.last().unwrap() == issuer).then_some(took)
        });
        (took, seen)
    }

    /// Whose certificate each connection saw, up to the first that was made after `since`.
    fn all_up_to(&mut self, since: SystemTime) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let (at, issuer) = self.next();
            seen.push(issuer);
            if at > since {
                return seen;
            }
        }
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        // The loop and the curl it is running.
        let _ =
            rustix::process::kill_process_group(rustix::process::Pid::from_raw(self.child.id().try_into().unwrap()).unwrap(), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The two halves as separate services, as the packages install them, restarted as a service manager would.
struct Split {
    folder: TempDir,
    /// The parent cgroup that contains [`Self::cgroup`].
    above: OwnCgroup,
    /// The cgroup below which the sensor sees connections.
    cgroup: PathBuf,
    metrics: SocketAddr,
    sensor: Child,
    serving: Child,
}

impl Split {
    fn start(upstream: &Upstream) -> Self {
        Self::with_scopes(upstream, &[])
    }

    /// With scopes for its cgroups `agents` and `others`, written to the configuration file.
    fn with_scopes(upstream: &Upstream, scopes: &[(&str, String)]) -> Self {
        let (folder, above) = (tempfile::Builder::new().prefix("gnomon-adopting").tempdir().unwrap(), OwnCgroup::new());
        let cgroup = above.join("host");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(cgroup.join("own")).unwrap();
        fs::create_dir(cgroup.join("agents")).unwrap();
        fs::create_dir(cgroup.join("others")).unwrap();
        fs::create_dir(folder.path().join("run")).unwrap();
        fs::copy(upstream.authority.pem_file(), folder.path().join("root.pem")).unwrap();
        let metrics = free_port();
        let mut config = "proxy: { upstream_ca: [root.pem] }\n".to_owned();
        if !scopes.is_empty() {
            config += "sensor:\n scopes:\n";
        }
        for (name, settings) in scopes {
            let cgroup = format!("/gnomon-e2e-{}-*/host/{name}", std::process::id());
            config += &format!("  - {{name: {name}, match: {{cgroup: '{cgroup}'}}, {settings}}}\n");
        }
        fs::write(folder.path().join("gnomon.yml"), config).unwrap();
        let sensor = sensor(folder.path(), &cgroup);
        until("the sensor to listen", || folder.path().join("run/sensor.sock").exists().then_some(()));
        let serving = serving(folder.path(), &cgroup, metrics);
        let split = Self { folder, above, cgroup, metrics, sensor, serving };
        split.joined();
        split
    }

    fn joined(&self) {
        until("the sensor to be joined", || self.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
        until("gnomon exec to be served", || self.exec_socket().exists().then_some(()));
    }

    fn exec_socket(&self) -> PathBuf {
        self.folder.path().join("run/exec.sock")
    }

    fn scrape(&self) -> String {
        use std::io::Read as _;
        let mut answer = String::new();
        let Ok(mut stream) = TcpStream::connect(self.metrics) else { return answer };
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    /// Scopes that the serving process of now was told of as it got a sensor: those taken over, and those that could not be.
    fn left(&self) -> (u64, u64) {
        let scraped = self.scrape();
        let count = |outcome: &str| -> u64 {
            let name = format!("gnomon_exec_scopes_left_total{{outcome=\"{outcome}\"}} ");
            scraped.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
        };
        (count("adopted"), count("lost"))
    }

    /// The events in the ledger, as `gnomon events` prints them.
    fn events(&self) -> String {
        let state = self.folder.path().join("state");
        let output = Command::new(GNOMON).args(["events", "--json", "--state-dir"]).arg(state).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Stops or kills a half, and starts it again as a service manager does.
    fn disturb(&mut self, how: Disturbance) {
        match how {
            Disturbance::KillSensor => {
                // Kills the process that loaded the eBPF programs; its parent, which listens on the socket, starts another.
                let part = until("a sensor", || {
                    children(self.sensor.id()).into_iter().find(|pid| status(*pid, "Name").as_deref() == Some("gnomon-sensor"))
                });
                kill(part, Signal::KILL);
                let another = |pid: &u32| *pid != part && status(*pid, "Name").as_deref() == Some("gnomon-sensor");
                until("another sensor", || children(self.sensor.id()).into_iter().find(another));
            }
            Disturbance::StopServing | Disturbance::KillServing => {
                kill(self.serving.id(), if how == Disturbance::StopServing { Signal::TERM } else { Signal::KILL });
                let _ = self.serving.wait();
                self.serving = serving(self.folder.path(), &self.cgroup, self.metrics);
            }
            Disturbance::Upgrade => {
                kill(self.serving.id(), Signal::TERM);
                let _ = self.serving.wait();
                kill(self.sensor.id(), Signal::TERM);
                let _ = self.sensor.wait();
                self.sensor = sensor(self.folder.path(), &self.cgroup);
                self.serving = serving(self.folder.path(), &self.cgroup, self.metrics);
            }
        }
    }
}

impl Drop for Split {
    fn drop(&mut self) {
        for child in [&mut self.serving, &mut self.sensor] {
            kill(child.id(), Signal::TERM);
            let end = Instant::now() + Duration::from_secs(10);
            while child.try_wait().unwrap().is_none() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts gnomon in its own cgroup.
fn within(cgroup: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(cgroup.join("own")).arg(GNOMON);
    command
}

fn log(folder: &Path) -> Stdio {
    fs::File::options().append(true).create(true).open(folder.join("log")).unwrap().into()
}

fn sensor(folder: &Path, cgroup: &Path) -> Child {
    let mut command = within(cgroup);
    command.args(["sensor", "--peer", "root", "--own-cgroup"]).arg(cgroup.join("own")).arg("--cgroup").arg(cgroup);
    command.arg("--listen").arg(folder.join("run/sensor.sock")).arg("--exec-socket").arg(folder.join("run/exec.sock"));
    command.arg("--authority").arg(folder.join("state/ca.pem")).arg("--disarm-file").arg(folder.join("disarm"));
    command.stdout(Stdio::null()).stderr(log(folder)).spawn().unwrap()
}

fn serving(folder: &Path, cgroup: &Path, metrics: SocketAddr) -> Child {
    let mut command = within(cgroup);
    command
        .args(["run", "--listen", "127.0.0.1:0", "--metrics", &metrics.to_string(), "--sensor-socket"])
        .arg(folder.join("run/sensor.sock"));
    command.arg("--config").arg(folder.join("gnomon.yml")).arg("--state-dir").arg(folder.join("state"));
    command.stdout(Stdio::null()).stderr(log(folder)).spawn().unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    KillSensor,
    StopServing,
    KillServing,
    /// Both halves are stopped and started again.
    Upgrade,
}

/// How often gnomon is disturbed: six times in CI, more on demand.
fn rounds() -> usize {
    std::env::var("GNOMON_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(6)
}

/// Ends the load when dropped: where the test fails, its threads are waited for as well.
struct EndsLoad<'a>(&'a AtomicBool);

impl Drop for EndsLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_under_exec_is_read_again_after_either_half_was_killed_stopped_or_upgraded() {
    let name = "what_runs_under_exec_is_read_again_after_either_half_was_killed_stopped_or_upgraded";
    if !needs(name) || !has(name, &["curl"]) {
        return;
    }
    let upstream = Upstream::start(&["http/1.1"]).await;
    let mut split = Split::start(&upstream);
    let socket = split.exec_socket();
    let around = [GNOMON, "exec", "--exec-socket", socket.to_str().unwrap(), "--"];
    let mut printing = Printing::start(&split.cgroup.join("agents"), upstream.address.port(), &around);
    let log = split.folder.path().join("log");
    let log = || fs::read_to_string(&log).unwrap();
    assert_eq!(printing.next().1, "gnomon", "{}", log());
    // A scope is taken over as it was: this program is only tagged, and its connections go direct before, meanwhile and after.
    let around = [GNOMON, "exec", "--exec-socket", socket.to_str().unwrap(), "--no-redirect", "--"];
    let mut tagged = Printing::start(&split.cgroup.join("others"), upstream.address.port(), &around);
    assert_eq!(tagged.next().1, "server", "{}", log());
    // Each kind once, then at random. The seed is printed so that a failure can be repeated.
    let mut seed = u64::from(std::process::id());
    let mut took = Vec::new();
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let _ends = EndsLoad(&over);
        // Load on the processors: the times must hold on a busy machine too.
        for _ in 0..2 {
            threads.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let busy = Instant::now();
                    while busy.elapsed() < Duration::from_millis(20) {
                        std::hint::spin_loop();
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        }
        for round in 0..rounds() {
            // Constants of Knuth's MMIX.
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let all = [Disturbance::KillSensor, Disturbance::StopServing, Disturbance::KillServing, Disturbance::Upgrade];
            let how = if round < all.len() { all[round] } else { all[usize::try_from(seed >> 33).unwrap() % all.len()] };
            split.disturb(how);
            took.push((how, printing.until(SystemTime::now(), "gnomon").0));
            // The next round begins only once both halves are back, and both scopes were taken over.
            split.joined();
            until("both scopes to be taken over", || (split.left().0 >= 2).then_some(()));
            let seen = tagged.all_up_to(SystemTime::now());
            assert!(seen.iter().all(|issuer| issuer == "server"), "{how:?}: {seen:?}: {}", log());
            assert_eq!(split.left().1, 0, "{how:?}: {}", log());
        }
    });
    let mut times: Vec<_> = took.iter().map(|(_, time)| *time).collect();
    times.sort_unstable();
    println!("seed {}: back within {:?} in the median, {:?} at most: {took:?}", std::process::id(), times[times.len() / 2], times.last());
    // What was told of the sensors is there, and nothing of a scope that was lost.
    let events = until("the events of sensors", || Some(split.events()).filter(|events| events.contains("sensor_back")));
    assert!(!events.contains("exec_scope_lost"), "{events}");
}

#[test]
fn a_scope_that_cannot_be_taken_over_is_reported_at_once_and_one_that_can_is_not() {
    if !needs("a_scope_that_cannot_be_taken_over_is_reported_at_once_and_one_that_can_is_not") {
        return;
    }
    let upstream = server();
    let mut host = Host::start();
    let mut kept = Joined::start(&host.exec_socket(), &host.cgroup, 0);
    let mut lost = Joined::start(&host.exec_socket(), &host.cgroup, 0);
    assert_eq!((kept.reaches(upstream), lost.reaches(upstream)), (Road::ThroughProxy, Road::ThroughProxy), "{} {}", kept.said, lost.said);
    // Without this attribute the scope looks as if another instance of gnomon had created it.
    let mount = gnomon_host::cgroup::Hierarchy::find().unwrap().mount().to_owned();
    let scope = mount.join(lost.said.split(' ').nth(1).unwrap().trim_start_matches('/'));
    rustix::fs::removexattr(&scope, "trusted.gnomon.scope").unwrap();
    let sensor = host.part("gnomon-sensor");
    kill(sensor, Signal::KILL);
    until("another sensor", || Some(host.part("gnomon-sensor")).filter(|pid| *pid != sensor));
    until("the first to be read again", || (kept.reaches(upstream) == Road::ThroughProxy).then_some(()));
    assert_eq!(lost.reaches(upstream), Road::Direct);
    until("it to be counted", || {
        let scraped = host.scrape();
        let has = |outcome: &str| scraped.contains(&format!("gnomon_exec_scopes_left_total{{outcome=\"{outcome}\"}} 1\n"));
        (has("lost") && has("adopted")).then_some(())
    });
    let events = until("the event", || Some(host.events()).filter(|events| events.contains("exec_scope_lost")));
    let event = events.lines().find(|line| line.contains("exec_scope_lost")).unwrap();
    let event: Value = serde_json::from_str(event).unwrap();
    let message = event["message"].as_str().unwrap();
    assert!(message.contains(scope.file_name().unwrap().to_str().unwrap()) && message.contains("go around the proxy"), "{message}");
    assert_eq!(events.lines().filter(|line| line.contains("exec_scope_lost")).count(), 1, "{events}");
    logged(|| host.log(), "go around the proxy");
    // Killing the serving process ends all of gnomon; it is started again as a service manager would.
    kill(host.part("gnomon-serving"), Signal::KILL);
    host.ended();
    until("direct connections", || (kept.reaches(upstream) == Road::Direct).then_some(()));
    host.start_again();
    until("the first to be read once more", || (kept.reaches(upstream) == Road::ThroughProxy).then_some(()));
    assert!(!host.log().contains('\u{1b}'), "a file gets no codes of a terminal: {}", host.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_fails_closed_refuses_while_no_proxy_serves_and_the_kill_switch_opens_it() {
    let name = "a_scope_that_fails_closed_refuses_while_no_proxy_serves_and_the_kill_switch_opens_it";
    if !needs(name) || !has(name, &["curl"]) {
        return;
    }
    let upstream = Upstream::start(&["http/1.1"]).await;
    let port = upstream.address.port();
    let mut split = Split::with_scopes(&upstream, &[("agents", format!("mode: enforce, fail: closed, ports: [{port}]"))]);
    let mut printing = Printing::start(&split.cgroup.join("agents"), port, &[]);
    printing.until(SystemTime::now(), "gnomon");
    let log = || fs::read_to_string(split.folder.path().join("log")).unwrap();
    for signal in [Signal::KILL, Signal::TERM] {
        kill(split.serving.id(), signal);
        split.serving.wait().unwrap();
        let gone = SystemTime::now();
        // The first second is left out: a connection may have been under way when the process ended.
        printing.until(gone + Duration::from_secs(1), "none");
        let seen: Vec<String> = (0..10).map(|_| printing.next().1).collect();
        assert_eq!(seen, ["none"; 10], "{signal:?}: {}", log());
        split.serving = serving(split.folder.path(), &split.cgroup, split.metrics);
        split.joined();
        printing.until(SystemTime::now(), "gnomon");
    }
    kill(split.serving.id(), Signal::KILL);
    split.serving.wait().unwrap();
    printing.until(SystemTime::now() + Duration::from_secs(1), "none");
    fs::write(split.folder.path().join("disarm"), "it must go on\n").unwrap();
    printing.until(SystemTime::now(), "server");
    // Removing the file closes the scope again.
    fs::remove_file(split.folder.path().join("disarm")).unwrap();
    printing.until(SystemTime::now(), "none");
    let seen: Vec<String> = (0..10).map(|_| printing.next().1).collect();
    assert_eq!(seen, ["none"; 10], "{}", log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_scope_is_closed_again_at_once_when_the_sensor_is_killed_while_the_serving_half_hangs() {
    let name = "a_closed_scope_is_closed_again_at_once_when_the_sensor_is_killed_while_the_serving_half_hangs";
    if !needs(name) {
        return;
    }
    let (upstream, server) = (Upstream::start(&["http/1.1"]).await, server());
    let split = Split::with_scopes(&upstream, &[("agents", format!("mode: enforce, fail: closed, ports: [{}]", server.port()))]);
    let mut closed = Joined::apart(&split.cgroup.join("agents"));
    until("the closed scope", || (closed.reaches(server) == Road::ThroughProxy).then_some(()));
    // The serving process is stopped, so it cannot ask for scopes again.
    kill(split.serving.id(), Signal::STOP);
    let part = |name: &str| children(split.sensor.id()).into_iter().find(|pid| status(*pid, "Name").as_deref() == Some(name));
    kill(until("the sensor", || part("gnomon-sensor")), Signal::KILL);
    until("another that stays", || part("gnomon-holds"));
    for _ in 0..10 {
        assert!(matches!(closed.reaches(server), Road::None(_)));
    }
    kill(split.serving.id(), Signal::CONT);
    until("the closed scope again", || match closed.reaches(server) {
        Road::Direct => panic!("it went direct"),
        road => (road == Road::ThroughProxy).then_some(()),
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_was_kept_closed_stays_so_where_the_next_sensor_cannot_refuse_in_its_stead() {
    let name = "a_scope_that_was_kept_closed_stays_so_where_the_next_sensor_cannot_refuse_in_its_stead";
    if !needs(name) {
        return;
    }
    let (upstream, server) = (Upstream::start(&["http/1.1"]).await, server());
    let mut split = Split::with_scopes(&upstream, &[("agents", format!("mode: enforce, fail: closed, ports: [{}]", server.port()))]);
    let mut closed = Joined::apart(&split.cgroup.join("agents"));
    until("the closed scope", || (closed.reaches(server) == Road::ThroughProxy).then_some(()));
    // A program of another owner is attached to the parent cgroup and allows no other beside or below it.
    let alone = Foreign::attach(&split.above, CONNECT4, Beside::Nothing, Answer::Allow);
    let log = split.folder.path().join("log");
    let log = || fs::read_to_string(&log).unwrap();
    split.disturb(Disturbance::StopServing);
    until("the next sensor", || log().contains("are kept so by the sensor before this one").then_some(()));
    // Longer than the parent process waits for a sensor that has been replaced.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(13) {
        assert!(matches!(closed.reaches(server), Road::None(_)), "{}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    alone.detach();
    split.disturb(Disturbance::StopServing);
    until("the closed scope again", || match closed.reaches(server) {
        Road::Direct => panic!("it went direct: {}", log()),
        road => (road == Road::ThroughProxy).then_some(()),
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_serving_half_is_killed_open_scopes_are_answered_directly_and_closed_ones_never_until_it_is_back() {
    let name = "once_the_serving_half_is_killed_open_scopes_are_answered_directly_and_closed_ones_never_until_it_is_back";
    if !needs(name) {
        return;
    }
    let (upstream, server) = (Upstream::start(&["http/1.1"]).await, server());
    let port = server.port();
    let open = format!("mode: intercept, ports: [{port}]");
    let mut split = Split::with_scopes(&upstream, &[("others", open), ("agents", format!("mode: enforce, fail: closed, ports: [{port}]"))]);
    let (mut open, mut closed) = (Joined::apart(&split.cgroup.join("others")), Joined::apart(&split.cgroup.join("agents")));
    let redirected = |program: &mut Joined| (program.reaches(server) == Road::ThroughProxy).then_some(());
    let sensors =
        |parent: u32, name: &str| children(parent).into_iter().filter(|pid| status(*pid, "Name").as_deref() == Some(name)).collect();
    let holds = |split: &Split| -> Vec<u32> { sensors(split.sensor.id(), "gnomon-holds") };
    until("the open scope", || redirected(&mut open));
    until("the closed scope", || redirected(&mut closed));

    kill(split.serving.id(), Signal::KILL);
    let killed = Instant::now();
    // Had the connection hung, the answer would take longer than a second, which is the program's own timeout.
    until("a direct answer", || (open.reaches(server) == Road::Direct).then_some(()));
    assert!(killed.elapsed() < Duration::from_millis(900), "{:?}", killed.elapsed());
    split.serving.wait().unwrap();
    for _ in 0..20 {
        assert_eq!(open.reaches(server), Road::Direct);
        assert!(matches!(closed.reaches(server), Road::None(_)));
    }

    // The process that keeps the scope closed is killed; another takes its place.
    let first = until("a sensor that stays", || holds(&split).first().copied());
    kill(first, Signal::KILL);
    until("another that stays", || holds(&split).into_iter().find(|pid| *pid != first));
    assert!(matches!(closed.reaches(server), Road::None(_)));
    let log = fs::read_to_string(split.folder.path().join("log")).unwrap();
    assert!(log.contains("what keeps scopes closed ended"), "{log}");

    // The scope stays closed while the restarted serving process takes it over.
    split.serving = serving(split.folder.path(), &split.cgroup, split.metrics);
    let mut roads = Vec::new();
    until("the closed scope again", || {
        roads.push(closed.reaches(server));
        (roads.last() == Some(&Road::ThroughProxy)).then_some(())
    });
    assert!(!roads.contains(&Road::Direct), "{roads:?}");
    until("the open scope again", || redirected(&mut open));
    assert_eq!((holds(&split), sensors(split.sensor.id(), "gnomon-sensor").len()), (vec![], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_option_of_ours_leads_out_of_a_scope_of_the_configuration_or_of_exec() {
    let name = "no_option_of_ours_leads_out_of_a_scope_of_the_configuration_or_of_exec";
    if !needs(name) || !has(name, &["curl"]) {
        return;
    }
    let upstream = Upstream::start(&["http/1.1"]).await;
    let port = upstream.address.port();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gnomon.yml");
    fs::copy(upstream.authority.pem_file(), folder.path().join("root.pem")).unwrap();
    let cgroup = format!("/gnomon-e2e-{}-*/agents", std::process::id());
    let scope = format!("{{name: agents, match: {{cgroup: '{cgroup}'}}, mode: enforce, ports: [{port}]}}");
    fs::write(&config, format!("proxy: {{upstream_ca: [root.pem]}}\nsensor:\n scopes:\n  - {scope}\n")).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    for file in ["gnomon.yml", "root.pem"] {
        fs::set_permissions(folder.path().join(file), Permissions::from_mode(0o644)).unwrap();
    }
    let host = Host::start_with(&["--config", config.to_str().unwrap()]);
    let (agents, others) = (host.cgroup.join("agents"), host.cgroup.join("others"));
    fs::create_dir(&agents).unwrap();
    fs::create_dir(&others).unwrap();
    let mut plain = Printing::start(&agents, port, &[]);
    plain.until(SystemTime::now(), "gnomon");
    let socket = host.exec_socket();
    let exec = |options: &[&'static str]| {
        let mut around = vec![GNOMON.to_owned(), "exec".to_owned(), "--exec-socket".to_owned(), socket.display().to_string()];
        around.extend(options.iter().map(|option| (*option).to_owned()));
        around.push("--".to_owned());
        around
    };
    let (left_alone, redirected) = (exec(&["--no-redirect"]), exec(&[]));
    for (place, around, issuer) in [
        (&agents, vec![left_alone.clone()], "gnomon"),
        (&agents, vec![left_alone.clone(), left_alone.clone()], "gnomon"),
        (&others, vec![redirected.clone(), left_alone.clone()], "gnomon"),
        (&others, vec![redirected.clone(), left_alone.clone(), left_alone.clone()], "gnomon"),
        (&others, vec![left_alone.clone(), redirected.clone()], "gnomon"),
        // Outside of every scope `--no-redirect` does what it says.
        (&others, vec![left_alone.clone()], "server"),
    ] {
        let around: Vec<&str> = around.iter().flatten().map(String::as_str).collect();
        let mut printing = Printing::start(place, port, &around);
        let seen: Vec<String> = (0..3).map(|_| printing.next().1).collect();
        assert_eq!(seen, [issuer; 3], "{around:?}: {}", host.log());
    }
}
