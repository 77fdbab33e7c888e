//! Of which connections an owner is filed.

use std::net::TcpListener;

use gnomon_sensor::{Fail, Mode, Road};

use crate::support::{Client, Proxy, Stage, Upstream, needs, redirect, until};

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
fn a_connection_to_elsewhere_takes_nothing_from_who_had_its_port_before_and_one_to_the_proxy_does() {
    if !needs("owners-reused") {
        return;
    }
    let (explicit, upstream) = (Proxy::start(), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("owners-reused", 1, |options| options.explicit_port = explicit.port);
    let mut client = Client::start(&stage.client_cgroup());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
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
