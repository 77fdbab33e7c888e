//! Other network namespaces.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use gnomon_sensor::listen::{self, User};
use gnomon_sensor::{Decision, Fail, Reason};
use rustix::io::Errno;
use rustix::net::{AddressFamily, connect};

use crate::support::{Client, Proxy, Stage, needs, redirect, skip};

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

    assert_eq!(client.ask(&format!("tcp {upstream}")), format!("upstream {upstream}"), "our listener here is none there");
    assert_eq!(stage.connects()[0].decision, Decision::FailOpen(Reason::NoListener));

    let netns = File::open(place).unwrap();
    let there = Proxy::start_in(Some(netns.as_fd()), here.port);
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
        let upstream = client.ask("serve 127.0.0.2:0 upstream");
        clients.push((client, proxy, upstream));
    }
    // New namespaces assign ports in an order of their own; among many some are equal.
    for (client, _, upstream) in &mut clients {
        for _ in 0..20 {
            assert!(client.ask(&format!("many 10 {upstream}")).contains("proxy=10 "));
        }
    }
    for (client, proxy, _) in &clients {
        let came = proxy.came();
        assert_eq!(came.len(), 200);
        assert!(came.iter().all(|(_, owner, _)| owner.as_ref().is_some_and(|owner| owner.pid == client.pid())));
    }
}

#[test]
fn what_the_host_refuses_a_user_it_refuses_the_users_socket() {
    if !needs("user-rules") {
        return;
    }
    let stage = Stage::new("user-rules", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    let place = client.ask("unshare");
    let server: SocketAddr = client.ask("serve 127.0.0.2:0 upstream").parse().unwrap();
    // The first rule of all matches addresses of this host; it is moved behind the one that refuses.
    for rule in ["add pref 1000 lookup local", "add pref 100 uidrange 54321-54321 prohibit", "del pref 0"] {
        let mut enter = std::process::Command::new("nsenter");
        let done = enter.arg(format!("--net={place}")).args(["ip", "rule"]).args(rule.split(' ')).output();
        if !done.as_ref().is_ok_and(|done| done.status.success()) {
            return skip("user-rules", "no nsenter, or no ip that knows rules by user: apt-get install util-linux iproute2");
        }
    }
    let netns = File::open(place).unwrap();
    let reaches = |user| {
        let socket = listen::socket_in(Some(netns.as_fd()), AddressFamily::INET, user).unwrap();
        match connect(&socket, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => true,
            Err(Errno::ACCESS) => false,
            Err(error) => panic!("{error}"),
        }
    };
    let as_user = |uid| Some(User { uid, gid: 100 });
    assert_eq!([None, as_user(54320), as_user(54321), as_user(0)].map(reaches), [true, true, false, true]);
    // Filters see the socket's user; the rights of this process are as before.
    let here = listen::socket_in(None, AddressFamily::INET, as_user(54321)).unwrap();
    assert_eq!(rustix::fs::fstat(&here).unwrap().st_uid, 54321);
    assert!(rustix::process::geteuid().is_root());
}
