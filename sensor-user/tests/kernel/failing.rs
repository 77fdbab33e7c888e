//! Either half is killed under load: traffic flows again within a second, and nothing stays behind.

use std::io::BufReader;
use std::process::Child;
use std::time::{Duration, Instant};

use gnomon_sensor::STALE;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Client, Upstream, home, needs, roles, until};

/// The time within which everything must go direct after a kill: half of what is promised.
const PATIENCE: Duration = Duration::from_millis(500);

/// Both halves as processes of their own.
struct Halves {
    loader: Child,
    proxy: Pid,
    programs: Vec<u32>,
    cgroup: std::path::PathBuf,
}

impl Halves {
    fn start(name: &str) -> Self {
        let cgroup = home().join(name);
        std::fs::create_dir(&cgroup).unwrap();
        std::fs::create_dir(cgroup.join("client")).unwrap();
        let port = gnomon_testkit::free_port().port();
        let env = [
            ("CGROUP", cgroup.display().to_string()),
            ("HALF", home().join("half").display().to_string()),
            ("MARK", "77".to_owned()),
            ("PORT", port.to_string()),
        ];
        let mut loader = roles::start("loader", None, &env);
        let answer = roles::answer(&mut BufReader::new(loader.stdout.take().unwrap()));
        let mut numbers = answer.split(' ').map(|number| number.parse::<u32>().unwrap());
        let proxy = Pid::from_raw(numbers.next().unwrap().cast_signed()).unwrap();
        Self { loader, proxy, programs: numbers.collect(), cgroup }
    }

    fn client(&self) -> Client {
        Client::start(&self.cgroup.join("client"))
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        let _ = self.loader.kill();
        let _ = self.loader.wait();
        // Continued first, as a stopped process ends only then.
        let _ = kill_process(self.proxy, Signal::KILL);
        for name in ["client", ""] {
            let end = Instant::now() + Duration::from_secs(2);
            while std::fs::remove_dir(self.cgroup.join(name)).is_err() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn number(tally: &str, key: &str) -> u64 {
    let found = tally.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("{tally}")).parse().unwrap()
}

/// Makes a hundred connections under load before `event`, and a hundred after it.
fn survives(name: &str, event: impl Fn(&Halves), patience: Duration) {
    if !needs(name) {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let halves = Halves::start(name);
    let mut client = halves.client();
    let mut load: Vec<Client> = (0..2).map(|_| halves.client()).collect();
    let before = client.ask(&format!("many 100 {}", upstream.at));
    assert_eq!(number(&before, "proxy"), 100, "{before}");
    for busy in &mut load {
        busy.tell(&format!("for 2500 {}", upstream.at));
    }
    std::thread::sleep(Duration::from_millis(300));
    event(&halves);
    std::thread::sleep(patience);
    let after = client.ask(&format!("many 100 {}", upstream.at));
    assert_eq!((number(&after, "upstream"), number(&after, "failed")), (100, 0), "{after}");
    assert!(number(&after, "longest") < 1000, "{after}");
    for busy in &mut load {
        let during = busy.answer();
        assert!(number(&during, "longest") < 2000, "no connection may hang: {during}");
        // Connections that the proxy held when it was killed are lost; a client under load has one at a time.
        assert!(number(&during, "failed") <= 2, "{during}");
        assert!(number(&during, "upstream") > 0, "{during}");
        println!("{name}: {during}");
    }
}

#[test]
fn connections_go_direct_when_the_proxy_is_killed() {
    survives("kill-proxy", |halves| kill_process(halves.proxy, Signal::KILL).unwrap(), PATIENCE);
}

#[test]
fn connections_go_direct_when_the_loader_is_killed() {
    survives(
        "kill-loader",
        |halves| kill_process(Pid::from_raw(halves.loader.id().cast_signed()).unwrap(), Signal::KILL).unwrap(),
        PATIENCE,
    );
}

#[test]
fn connections_go_direct_when_the_proxy_hangs_for_a_second() {
    if !needs("stop-proxy") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let halves = Halves::start("stop-proxy");
    let mut client = halves.client();
    assert_eq!(number(&client.ask(&format!("many 10 {}", upstream.at)), "proxy"), 10);
    kill_process(halves.proxy, Signal::STOP).unwrap();
    std::thread::sleep(STALE);
    let after = client.ask(&format!("many 100 {}", upstream.at));
    assert_eq!(number(&after, "upstream"), 100, "{after}");
    kill_process(halves.proxy, Signal::CONT).unwrap();
    until("the heartbeat", || number(&client.ask(&format!("many 1 {}", upstream.at)), "proxy") == 1);
}

#[test]
fn nothing_stays_loaded_when_both_halves_are_killed() {
    if !needs("kill-both") {
        return;
    }
    let mut halves = Halves::start("kill-both");
    let loaded = |id: u32| aya::programs::loaded_programs().flatten().any(|program| program.id() == id);
    assert!(halves.programs.iter().all(|id| loaded(*id)));
    halves.loader.kill().unwrap();
    halves.loader.wait().unwrap();
    kill_process(halves.proxy, Signal::KILL).unwrap();
    until("the programs to go", || !halves.programs.iter().any(|id| loaded(*id)));
}
