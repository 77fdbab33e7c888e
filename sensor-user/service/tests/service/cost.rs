//! The bound on the sensor's processor time.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use gnomon_link::{Feature, FeatureState, LinkError, Received, ToProxy, ToSensor, UNASKED};
use gnomon_sensord::CostBound;

use crate::stage::Stage;

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(60);

/// A program that connects again and again.
struct Load(Child);

impl Load {
    fn below(cgroup: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Accepts as long as the tests run.
        thread::spawn(move || listener.incoming().for_each(drop));
        let connect = r#"echo 0 > "$0/cgroup.procs" && while exec 3<>"/dev/tcp/127.0.0.1/$1"; do echo >&3; exec 3>&-; done"#;
        Self(Command::new("bash").args(["-c", connect]).arg(cgroup).arg(port.to_string()).spawn().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next unasked message about the program that reads packets.
fn told(stage: &Stage) -> Feature {
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        match stage.proxy.recv(Duration::from_millis(100)) {
            Ok(Received { message: ToProxy::Features { token: UNASKED, features }, .. }) => {
                return features.iter().find(|feature| &*feature.name == "gn_hello").unwrap().clone();
            }
            Ok(_) | Err(LinkError::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nothing was said");
}

/// How often a program of the kernel half attempted something.
fn attempted(stage: &Stage, name: &str) -> u64 {
    let ToProxy::Counters { programs, .. } = stage.ask(ToSensor::Counters { token: 1 }).message else { panic!("no counters") };
    let program = programs.iter().find(|program| &*program.name == name).unwrap();
    program.counts.iter().find(|count| &*count.outcome == "attempted").unwrap().count
}

#[test]
fn above_the_bound_packets_are_not_looked_at_for_a_while_and_connections_are() {
    let short =
        CostBound { percent: 0.000_1, every: Duration::from_millis(50), over: Duration::from_millis(100), rest: Duration::from_secs(2) };
    let Some(stage) = Stage::bounded("a bound on the processor", short, |_| {}) else { return };
    let _load = Load::below(&stage.cgroup);
    let reduced = told(&stage);
    assert_eq!(reduced.state, FeatureState::Broken);
    assert!(reduced.reason.starts_with("detached for 2 s: the sensor took "), "{reduced:?}");
    let connects = attempted(&stage, "gn_connect4");
    let end = Instant::now() + SOON;
    while attempted(&stage, "gn_connect4") == connects {
        assert!(Instant::now() < end, "connections are still seen");
        thread::sleep(Duration::from_millis(10));
    }
    let whole = told(&stage);
    assert_eq!((whole.state, &*whole.reason), (FeatureState::Ok, ""));
    // It is attached again, is too expensive again, and is detached again.
    assert_eq!(told(&stage).state, FeatureState::Broken);
}

#[test]
fn below_the_bound_nothing_is_detached_and_the_share_is_reported() {
    let high = CostBound { percent: 1e4, every: Duration::from_millis(10), over: Duration::from_millis(50), rest: Duration::ZERO };
    let Some(stage) = Stage::bounded("a share of the processor", high, |_| {}) else { return };
    let _load = Load::below(&stage.cgroup);
    let end = Instant::now() + SOON;
    loop {
        let ToProxy::Counters { programs, .. } = stage.ask(ToSensor::Counters { token: 1 }).message else { panic!("no counters") };
        let cost = programs.iter().find(|program| &*program.name == gnomon_link::COST).unwrap();
        let kernel = cost.counts.iter().find(|count| &*count.outcome == gnomon_link::COST_KERNEL).unwrap();
        if kernel.count > 0 {
            break;
        }
        assert!(Instant::now() < end, "no share is told: {cost:?}");
        thread::sleep(Duration::from_millis(20));
    }
    let ToProxy::Features { features, .. } = stage.ask(ToSensor::Features { token: 2 }).message else { panic!("no features") };
    assert_eq!(features, stage.welcome.features);
}
