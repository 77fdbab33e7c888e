//! The life of a connection that is only observed.

use std::net::TcpListener;

use gnomon_sensor::{End, Fail, Outcome, Program, Reason};

use crate::support::{Client, Proxy, Stage, Upstream, foreign, needs, redirect, until};

#[test]
fn a_flow_ends_with_how_much_it_carried() {
    if !needs("flow-end") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new("flow-end", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    client.ask(&format!("tcp {}", upstream.at));
    let local = client.ask("local");
    client.ask("send 48656c6c6f");
    client.ask("close");
    until("the end of the flow", || stage.closes().len() == 1);
    let (connect, close) = (stage.connects()[0].clone(), stage.closes()[0].clone());
    assert_eq!(close.cookie, connect.owner.cookie);
    assert_eq!(close.end, End::Closed);
    // Nine bytes, and one if the server's FIN arrived.
    assert!((9..=10).contains(&close.received), "{}", close.received);
    // The SYN, five bytes, and one if the FIN was acknowledged.
    assert!((6..=7).contains(&close.sent), "{}", close.sent);
    assert_eq!(close.local.unwrap().to_string(), local);
    assert!(!close.duration.is_zero() && close.duration.as_secs() < 10);
}

#[test]
fn a_refused_connect_ends_as_refused() {
    if !needs("flow-refused") {
        return;
    }
    let nobody = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let mut stage = Stage::new("flow-refused", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    assert_eq!(client.ask(&format!("tcp {nobody}")), format!("error {}", libc::ECONNREFUSED));
    until("the end of the flow", || stage.closes().len() == 1);
    let close = stage.closes()[0].clone();
    assert_eq!((close.end, close.received, close.cookie), (End::Refused, 0, stage.connects()[0].owner.cookie));
}

#[test]
fn a_connect_without_a_route_ends_too_so_that_the_table_does_not_fill() {
    if !needs("flow-unsent") {
        return;
    }
    let mut stage = Stage::new("flow-unsent", 0, |options| options.flows = 16);
    let mut client = Client::start(&stage.client_cgroup());
    // No host has this address, and the namespace has nothing but loopback.
    client.ask("unshare");
    for _ in 0..64 {
        assert_eq!(client.ask("tcp 198.51.100.1:443"), format!("error {}", libc::ENETUNREACH));
    }
    until("the ends of the flows", || stage.closes().len() == 64);
    assert!(stage.closes().iter().all(|close| close.end == End::Unsent && close.local.is_none()));
    let counters = stage.sensor.counters().unwrap();
    assert_eq!(counters.get(Program::Connect4, Outcome::TableFull), 0);
}

#[test]
fn a_program_of_others_that_calls_off_reports_leaves_nothing_behind() {
    if !needs("flow-foreign") {
        return;
    }
    let (proxy, upstream) = (Proxy::start(), Upstream::start("127.0.0.2:0"));
    // Three thousand flows would fill this table more than ten times over.
    let mut stage = Stage::new("flow-foreign", proxy.port, |options| options.flows = 256);
    // Attached after ours, so it runs last.
    let _foreign = foreign::attach(&stage.cgroup);
    let mut client = Client::start(&stage.client_cgroup());
    stage.scope(redirect(Fail::Closed));
    let answer = client.ask(&format!("many 3000 {}", upstream.at));
    let counters = stage.sensor.counters().unwrap();
    // If the machine stalls for a second, connections before the next beat are refused.
    let stale = counters.get(Program::Connect4, Outcome::FailClosed(Reason::StaleHeartbeat));
    assert!(stale < 1000 && answer.contains(&format!("proxy={} ", 3000 - stale)), "{answer}, {stale} between beats");
    assert_eq!(counters.get(Program::Connect4, Outcome::TableFull), 0);
    assert!([Program::Connect4, Program::SockOps, Program::Release].iter().all(|program| counters.unaccounted(*program) == 0));
}

#[test]
fn a_program_of_others_that_comes_before_ours_does_not_hide_how_a_flow_ended() {
    if !needs("flow-foreign-before") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new("flow-foreign-before", 0, |_| {});
    // Programs of a child cgroup run first.
    let _foreign = foreign::attach(&stage.client_cgroup());
    let mut client = Client::start(&stage.client_cgroup());
    client.ask(&format!("tcp {}", upstream.at));
    client.ask("close");
    until("the end of the flow", || stage.closes().len() == 1);
    assert!((9..=10).contains(&stage.closes()[0].received));
}

#[test]
fn a_program_started_later_is_another_generation() {
    if !needs("generation") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new("generation", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    client.ask(&format!("tcp {}", upstream.at));
    let before = stage.sensor.counters().unwrap().get(Program::Exec, Outcome::Attempted);
    client.ask("exec");
    assert!(stage.sensor.counters().unwrap().get(Program::Exec, Outcome::Attempted) > before);
    client.ask(&format!("tcp {}", upstream.at));
    let generations: Vec<_> = stage.connects().iter().map(|connect| connect.owner.generation).collect();
    assert_eq!(generations[0], generations[1], "what a child executes is not this process' generation");
}
