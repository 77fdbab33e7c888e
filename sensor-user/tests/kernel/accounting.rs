//! Nothing is lost without being counted.

use std::time::Duration;

use gnomon_sensor::{Features, Outcome, Program, Status};

use crate::support::{Client, Stage, Upstream, home, needs, until};

/// Makes this many connections while nothing reads the ring, which has one page.
fn overload(name: &str, connections: u64) {
    if !needs(name) {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new(name, 0, |options| options.ring_bytes = 4096);
    let mut client = Client::start(&stage.client_cgroup());
    assert!(client.ask(&format!("many {connections} {}", upstream.at)).contains(&format!("upstream={connections}")));
    let ended = |stage: &Stage| stage.sensor.counters().unwrap().get(Program::SockOps, Outcome::Attempted);
    until("the ends of all flows", || ended(&stage) == connections);
    let counters = stage.sensor.counters().unwrap();
    for program in Program::ALL {
        assert_eq!(counters.unaccounted(program), 0, "{}", program.name());
    }
    assert_eq!(counters.get(Program::Connect4, Outcome::Attempted), connections, "the generator's count");
    assert_eq!(counters.get(Program::Release, Outcome::Delivered), 0);
    let delivered = counters.total(Outcome::Delivered) - counters.get(Program::Exec, Outcome::Delivered);
    let lost = counters.total(Outcome::RingFull);
    assert_eq!(stage.read().len() as u64, delivered, "what was delivered can be read");
    assert_eq!(delivered + lost, 2 * connections, "one connect and one close each");
    if connections > 100 {
        assert!(lost > 0, "this was no overload");
    }
    println!("{name}: {connections} connections, {delivered} records delivered, {lost} lost");
}

#[test]
fn a_reader_that_sleeps_through_ten_connections_loses_nothing() {
    overload("overload-10", 10);
}

#[test]
fn a_reader_that_sleeps_through_three_hundred_connections_knows_what_it_lost() {
    overload("overload-300", 300);
}

#[test]
fn a_reader_that_sleeps_through_three_thousand_connections_knows_what_it_lost() {
    overload("overload-3000", 3000);
}

#[test]
fn a_reader_that_keeps_up_loses_nothing() {
    if !needs("no-overload") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new("no-overload", 0, |options| options.ring_bytes = 1 << 19);
    let mut client = Client::start(&stage.client_cgroup());
    // Each round fits into the ring, all of them together do not.
    for round in 1..=8 {
        client.tell(&format!("many 500 {}", upstream.at));
        until("all records", || {
            stage.ring.wait(Duration::from_millis(50)).unwrap();
            stage.read().len() == 1000 * round
        });
        assert!(client.answer().contains("upstream=500"));
    }
    assert_eq!(stage.sensor.counters().unwrap().total(Outcome::RingFull), 0);
}

#[test]
fn every_feature_works_on_the_kernel_that_runs_this() {
    if !needs("features") {
        return;
    }
    for (feature, status) in Features::probe(home()).iter() {
        // Owners by namespace need Linux 5.15; everything else works since 5.10.
        assert!(matches!(status, Status::Ok | Status::Unsupported(_)), "{}: {status:?}", feature.name());
    }
}

#[test]
fn the_verifier_is_not_worked_hard() {
    if !needs("verifier") {
        return;
    }
    // Regression: `gn_hello` once took more than the million instructions that Linux 5.10 and 6.1 allow. Kernels count differently.
    let stage = Stage::new("verifier", 0, |_| {});
    for program in Program::ALL {
        let looked_at = stage.sensor.verified_instructions(program).unwrap_or(0);
        assert!(looked_at < 100_000, "{}: {looked_at} instructions", program.name());
    }
}

#[test]
fn a_folder_that_is_not_a_cgroup_is_named_and_not_fatal() {
    let features = Features::probe(std::path::Path::new("/nonexistent"));
    assert!(features.iter().all(|(_, status)| !matches!(status, Status::Ok)));
}
