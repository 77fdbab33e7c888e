//! For which connections an owner is stored.

use std::net::TcpListener;
use std::os::fd::AsFd;

use gnomon_sensor::{Fail, Mode, Owner, Road, listen, owner_of};

use crate::support::{Client, Proxy, Stage, Upstream, mark, needs, redirect, until};

/// Whose the next connection is.
fn accepted(listener: &TcpListener) -> Option<Owner> {
    owner_of(listener.accept().unwrap().0.as_fd()).unwrap()
}

#[test]
fn two_connections_from_one_port_have_two_owners_whichever_is_asked_about_first() {
    if !needs("owners-one-port") {
        return;
    }
    let (redirected, explicit) = (listen::in_namespace(None, mark(), 0).unwrap(), listen::in_namespace(None, mark(), 0).unwrap());
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new("owners-one-port", redirected.port().unwrap(), |_| {});
    stage.scope(redirect(Fail::Closed));
    let [mut first, mut second] = [(); 2].map(|()| Client::start(&stage.client_cgroup()));
    assert_eq!(second.ask("user 54321"), "done");
    let port = gnomon_testkit::free_port().port();
    assert_eq!(first.ask(&format!("open {port} 127.0.0.1:{}", explicit.port().unwrap())), "done");
    assert_eq!(second.ask(&format!("open {port} {}", upstream.at)), "done");
    let (of_first, of_second) = (accepted(&explicit.v4).unwrap(), accepted(&redirected.v4).unwrap());
    assert_eq!((of_first.pid, of_first.uid, of_first.road), (first.pid(), 0, Road::Direct));
    assert_eq!((of_second.pid, of_second.uid, of_second.road), (second.pid(), 54321, Road::Redirected));
}

#[test]
fn a_connection_with_the_ports_of_an_ended_one_is_not_attributed_to_its_owner() {
    if !needs("owners-same-place") {
        return;
    }
    let explicit = listen::in_namespace(None, mark(), 0).unwrap();
    let stage = Stage::new("owners-same-place", 1, |_| {});
    let [mut first, mut second] = [(); 2].map(|()| Client::start(&stage.client_cgroup()));
    // The same addresses and the same ports, while the proxy has not accepted yet.
    let order = format!("open {} 127.0.0.1:{}", gnomon_testkit::free_port().port(), explicit.port().unwrap());
    assert_eq!(first.ask(&order), "done");
    assert_eq!(first.ask("send 48656c6c6f"), "done");
    assert_eq!(first.ask("abort"), "done");
    assert_eq!(second.ask(&order), "done");
    assert_eq!(accepted(&explicit.v4).unwrap().pid, first.pid(), "it waits to be accepted with what it sent");
    assert_eq!(accepted(&explicit.v4).unwrap().pid, second.pid());
}

#[test]
fn an_owner_is_known_although_the_program_has_sent_and_gone() {
    if !needs("owners-gone") {
        return;
    }
    let explicit = listen::in_namespace(None, mark(), 0).unwrap();
    let stage = Stage::new("owners-gone", 1, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    for end in ["close", "abort"] {
        assert_eq!(client.ask(&format!("open {} 127.0.0.1:{}", gnomon_testkit::free_port().port(), explicit.port().unwrap())), "done");
        assert_eq!(client.ask("send 48656c6c6f"), "done");
        assert_eq!(client.ask(end), "done");
        assert_eq!(accepted(&explicit.v4).unwrap().pid, client.pid(), "{end}");
    }
}

/// The number of connections of each user: 100,000 if `GNOMON_FULL` is set.
fn connections() -> usize {
    if std::env::var_os("GNOMON_FULL").is_some() { 100_000 } else { 4_096 }
}

#[test]
fn two_users_who_share_their_ports_on_both_roads_are_never_taken_for_each_other() {
    if !needs("owners-hammer") {
        return;
    }
    let (redirected, explicit, upstream) = (Proxy::start(), Proxy::start(), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("owners-hammer", redirected.port, |_| {});
    stage.scope(redirect(Fail::Closed));
    let ports = 16;
    let (first, rounds) = (gnomon_testkit::free_port().port().clamp(1024, u16::MAX - ports), connections() / usize::from(ports));
    let goals = [format!("127.0.0.1:{}", explicit.port), upstream.at.to_string()];
    let mut clients = [54321, 54322].map(|user| {
        let mut client = Client::start(&stage.client_cgroup());
        assert_eq!(client.ask(&format!("user {user}")), "done");
        client
    });
    // A flood of connections to an address where nobody listens displaces no owner.
    let mut flood = Client::start(&stage.cgroup);
    flood.tell(&format!("hammer {rounds} {first} {} 127.0.0.3:{}", first + ports - 1, redirected.port));
    for (client, goal) in clients.iter_mut().zip(&goals) {
        client.tell(&format!("hammer {rounds} {first} {} {goal}", first + ports - 1));
    }
    let answers = clients.each_mut().map(Client::answer);
    flood.answer();
    for (proxy, user, client) in [(&explicit, 54321, &clients[0]), (&redirected, 54322, &clients[1])] {
        let came = proxy.came();
        let of_users: Vec<_> = came.iter().filter(|(_, owner, _)| owner.as_ref().is_none_or(|owner| owner.uid != 0)).collect();
        let right =
            of_users.iter().filter(|(_, owner, _)| owner.as_ref().is_some_and(|owner| (owner.uid, owner.pid) == (user, client.pid())));
        assert_eq!(right.count(), of_users.len(), "of {answers:?}");
        assert!(of_users.len() >= rounds * usize::from(ports) / 4, "{answers:?}");
    }
}

#[test]
fn owners_are_filed_for_what_the_proxy_may_ask_about_once_its_port_is_known() {
    if !needs("owners-filed") {
        return;
    }
    let (proxy, explicit, elsewhere, upstream) = (Proxy::start(), Proxy::start(), Proxy::start(), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("owners-filed", proxy.port, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    let mut visit = |to: &Proxy| {
        let before = to.came().len();
        assert!(client.ask(&format!("tcp 127.0.0.1:{}", to.port)).starts_with("proxy"));
        to.came()[before].1.as_ref().map(|owner| owner.pid)
    };
    let found = [&proxy, &explicit, &elsewhere].map(&mut visit);
    stage.sensor.set_explicit_port(explicit.port).unwrap();
    let then = [&proxy, &explicit, &elsewhere].map(&mut visit);
    let us = Some(client.pid());
    assert_eq!(found, [us; 3], "the port is not known yet");
    assert_eq!(then, [us, us, None]);

    stage.scope(redirect(Fail::Closed));
    assert!(client.ask(&format!("tcp {}", upstream.at)).starts_with("proxy"));
    let owner = proxy.came().pop().unwrap().1.unwrap();
    assert_eq!((owner.pid, owner.road, owner.original), (client.pid(), Road::Redirected, upstream.at));
    let ends = stage.closes().len();
    stage.scope(Mode::Observe);
    assert!(client.ask(&format!("tcp {}", upstream.at)).starts_with("upstream"));
    assert_eq!(client.ask("abort"), "done");
    until("the end of a connection without an owner", || stage.closes().len() > ends);
}

#[test]
fn a_connection_to_elsewhere_leaves_the_owner_of_a_reused_port_and_one_to_the_proxy_replaces_it() {
    if !needs("owners-reused") {
        return;
    }
    let (explicit, upstream) = (Proxy::start(), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("owners-reused", 1, |options| options.explicit_port = explicit.port);
    let mut client = Client::start(&stage.client_cgroup());
    let port = gnomon_testkit::free_port().port();
    let to_proxy = format!("from {port} 127.0.0.1:{}", explicit.port);
    let mut go = |order: &str| {
        let answer = client.ask(order);
        assert_eq!(client.ask("abort"), "done");
        answer
    };
    assert!(go(&to_proxy).starts_with("proxy"));
    assert!(go(&format!("from {port} {}", upstream.at)).starts_with("upstream"));
    stage.scope(Mode::Off);
    assert!(go(&to_proxy).starts_with("proxy"));
    let owners: Vec<_> = explicit.came().into_iter().map(|(_, owner, _)| owner.map(|owner| owner.pid)).collect();
    assert_eq!(owners, [Some(client.pid()), None], "what is not tracked has no owner, and not its predecessor's either");
}
