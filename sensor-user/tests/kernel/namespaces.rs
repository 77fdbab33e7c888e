//! Other network namespaces.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use gnomon_sensor::{Decision, Fail, Reason};

use crate::support::{Client, Proxy, Stage, needs, redirect};

#[test]
fn a_program_in_another_namespace_is_redirected_once_we_listen_there() {
    if !needs("netns") {
        return;
    }
    let here = Proxy::start();
    let mut stage = Stage::new("netns", here.port, |_| {});
    stage.scope(redirect(Fail::Open));
    let mut client = Client::start(&stage.client_cgroup());
    let place = client.ask("unshare");
    assert!(!place.starts_with("error"), "{place}");
    let upstream: SocketAddr = client.ask("serve 127.0.0.2:0 upstream").parse().unwrap();

    stage.heartbeat.beat();
    assert_eq!(client.ask(&format!("tcp {upstream}")), format!("upstream {upstream}"), "our listener here is none there");
    assert_eq!(stage.connects()[0].decision, Decision::FailOpen(Reason::NoListener));

    let netns = File::open(place).unwrap();
    let there = Proxy::start_in(Some(netns.as_fd()), here.port);
    stage.heartbeat.beat();
    assert_eq!(client.ask(&format!("tcp {upstream}")), format!("proxy {upstream}"));
    let came = there.came();
    let owner = came[0].1.as_ref().unwrap();
    assert_eq!(owner.original, upstream);
    assert_eq!(owner.pid, client.pid());
    assert_eq!(owner.netns, stage.connects()[0].owner.netns);
    assert!(here.came().is_empty());

    let other = Client::start(&stage.client_cgroup()).ask("unshare");
    assert!(!other.starts_with("error"));
}

#[test]
fn the_same_port_in_two_namespaces_has_two_owners() {
    if !needs("netns-two") {
        return;
    }
    let here = Proxy::start();
    let mut stage = Stage::new("netns-two", here.port, |_| {});
    stage.scope(redirect(Fail::Open));
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::start(&stage.client_cgroup());
        let netns = File::open(client.ask("unshare")).unwrap();
        let proxy = Proxy::start_in(Some(netns.as_fd()), here.port);
        clients.push((client, proxy));
    }
    // Fresh namespaces hand out ports in an order of their own; among many some are the same.
    for (client, _) in &mut clients {
        for _ in 0..20 {
            stage.heartbeat.beat();
            assert!(client.ask("many 10 127.0.0.2:9").contains("proxy=10 "));
        }
    }
    for (client, proxy) in &clients {
        let came = proxy.came();
        assert_eq!(came.len(), 200);
        assert!(came.iter().all(|(_, owner, _)| owner.as_ref().is_some_and(|owner| owner.pid == client.pid())));
    }
}
