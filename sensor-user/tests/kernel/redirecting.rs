//! Redirection: where connections go, and what both ends are told.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use gnomon_sensor::{CgroupId, Decision, Fail, Failed, Mode, Outcome, PortList, Ports, Program, Quic, Reason, Redirect, Road, Scope};

use crate::support::{Client, Proxy, Stage, Upstream, home, needs, redirect, skip, until};

const EPERM: &str = "error 1";

/// Connects to `asked` while a server runs at `served`, and checks everything that both ends are told.
fn goes_to_the_proxy(name: &str, served: &str, asked: impl Fn(u16) -> SocketAddr) {
    if !needs(name) {
        return;
    }
    let (proxy, upstream) = (Proxy::start(), Upstream::start(served));
    let mut stage = Stage::new(name, proxy.port, |_| {});
    stage.scope(redirect(Fail::Closed));
    let mut client = Client::start(&stage.client_cgroup());
    let asked = asked(upstream.at.port());

    assert_eq!(client.ask(&format!("tcp {asked}")), format!("proxy {asked}"), "the greeting, and what getpeername() says");
    let local: SocketAddr = client.ask("local").parse().unwrap();
    let came = proxy.came();
    let [(peer, Some(owner), original)] = &came[..] else { panic!("{came:?}") };
    assert_eq!(peer.port(), local.port());
    assert_eq!(owner.original, asked);
    assert_eq!(owner.pid, client.pid());
    assert_eq!((owner.uid, owner.gid), (0, 0));
    assert_eq!(owner.cgroup, CgroupId::of(stage.client_cgroup()).unwrap().0);
    assert_eq!((owner.scope, owner.road), (7, Road::Redirected));
    assert_ne!(owner.netns, 0);
    assert!(owner.generation.is_some(), "the client was executed while the sensor was attached");
    assert!(owner.connected.as_nanos() > u128::from(owner.generation.unwrap().get()));
    let unmapped = SocketAddr::new(asked.ip().to_canonical(), asked.port());
    assert_eq!(*original, Some(unmapped), "SO_ORIGINAL_DST");

    let connects = stage.connects();
    assert_eq!(connects.len(), 1);
    assert_eq!(connects[0].decision, Decision::Redirected);
    assert_eq!(connects[0].owner, *owner);
}

#[test]
fn an_ipv4_connection_goes_to_the_proxy_and_neither_end_is_told_otherwise() {
    goes_to_the_proxy("redirect-v4", "127.0.0.2:0", |port| SocketAddr::new([127, 0, 0, 2].into(), port));
}

#[test]
fn an_ipv6_connection_goes_to_the_proxy() {
    goes_to_the_proxy("redirect-v6", "[::1]:0", |port| format!("[::1]:{port}").parse().unwrap());
}

#[test]
fn an_ipv4_address_on_an_ipv6_socket_goes_to_the_proxy() {
    goes_to_the_proxy("redirect-mapped", "127.0.0.2:0", |port| format!("[::ffff:127.0.0.2]:{port}").parse().unwrap());
}

#[test]
fn nothing_is_touched_without_a_scope_and_everything_is_seen() {
    if !needs("observe") {
        return;
    }
    let (proxy, upstream) = (Proxy::start(), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("observe", proxy.port, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    assert_eq!(client.ask(&format!("tcp {}", upstream.at)), format!("upstream {}", upstream.at));
    let connects = stage.connects();
    assert_eq!(connects.len(), 1);
    assert_eq!((connects[0].decision, connects[0].owner.road, connects[0].owner.scope), (Decision::Observed, Road::Direct, 0));
}

#[test]
fn the_deepest_scope_above_a_process_decides() {
    if !needs("deepest") {
        return;
    }
    let (proxy, upstream) = (Proxy::start(), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("deepest", proxy.port, |_| {});
    let order = format!("tcp {}", upstream.at);
    let outer = CgroupId::of(&stage.cgroup).unwrap();
    let mut client = Client::start(&stage.client_cgroup());
    stage.sensor.scopes().unwrap().set(outer, Scope { id: 1, mode: redirect(Fail::Open) }).unwrap();
    assert!(client.ask(&order).starts_with("proxy"), "an ancestor's scope");
    stage.scope(Mode::Off);
    assert!(client.ask(&order).starts_with("upstream"), "the process' own");
    let inner = CgroupId::of(stage.client_cgroup()).unwrap();
    stage.sensor.scopes().unwrap().remove(inner).unwrap();
    stage.sensor.scopes().unwrap().remove(inner).unwrap();
    assert!(client.ask(&order).starts_with("proxy"));
    stage.sensor.scopes().unwrap().remove(outer).unwrap();
    assert!(client.ask(&order).starts_with("upstream"));
    stage.sensor.scopes().unwrap().set_default(Scope { id: 2, mode: redirect(Fail::Open) }).unwrap();
    assert!(client.ask(&order).starts_with("proxy"), "the default");
    assert_eq!(stage.connects().len(), 4, "what is off is not seen");
}

#[test]
fn only_the_ports_of_a_scope_are_redirected() {
    if !needs("ports") {
        return;
    }
    let (proxy, listed, other) = (Proxy::start(), Upstream::start("127.0.0.2:0"), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("ports", proxy.port, |_| {});
    let ports = Ports::Listed(PortList::try_from(&[443, listed.at.port()][..]).unwrap());
    stage.scope(Mode::Redirect(Redirect { ports, quic: Quic::Leave, fail: Fail::Open }));
    let mut client = Client::start(&stage.client_cgroup());
    assert!(client.ask(&format!("tcp {}", listed.at)).starts_with("proxy"));
    assert!(client.ask(&format!("tcp {}", other.at)).starts_with("upstream"));
}

#[test]
fn a_connection_to_our_own_listener_is_left_alone() {
    if !needs("own-listener") {
        return;
    }
    let proxy = Proxy::start();
    let mut stage = Stage::new("own-listener", proxy.port, |_| {});
    stage.scope(redirect(Fail::Closed));
    let mut client = Client::start(&stage.client_cgroup());
    let to = format!("127.0.0.1:{}", proxy.port);
    assert_eq!(client.ask(&format!("tcp {to}")), format!("proxy {to}"));
    assert_eq!(stage.connects()[0].decision, Decision::Observed);
    let owner = proxy.came()[0].1.clone().unwrap();
    assert_eq!((owner.pid, owner.road, owner.original.to_string()), (client.pid(), Road::Direct, to));
}

#[test]
fn the_unspecified_address_is_loopback_also_for_connections_to_our_listener() {
    if !needs("own-listener-unspecified") {
        return;
    }
    let proxy = Proxy::start();
    let mut stage = Stage::new("own-listener-unspecified", proxy.port, |_| {});
    stage.scope(redirect(Fail::Closed));
    let mut client = Client::start(&stage.client_cgroup());
    for host in ["0.0.0.0", "[::]", "[::ffff:0.0.0.0]", "[::1]"] {
        let answer = client.ask(&format!("tcp {host}:{}", proxy.port));
        assert!(answer.starts_with("proxy"), "{host}: {answer}");
        assert_eq!(stage.connects().last().unwrap().decision, Decision::Observed, "{host}: it would go in a circle");
    }
}

#[test]
fn addresses_that_the_proxy_does_not_dial_are_left_alone_and_counted() {
    if !needs("exempt") {
        return;
    }
    let mut stage = Stage::new("exempt", 1, |_| {});
    stage.scope(redirect(Fail::Closed));
    let mut client = Client::start(&stage.client_cgroup());
    // In a namespace without such a network and without a listener of ours.
    assert!(client.ask("unshare").starts_with("/proc/"));
    let v4 = ["169.254.169.254", "169.254.0.1", "100.100.100.200", "168.63.129.16", "224.0.0.1", "239.255.255.255", "255.255.255.255"];
    let v6 = [
        "[fe80::1]",
        "[febf::1]",
        "[ff02::1]",
        "[fd00:ec2::254]",
        "[fd00:ec2::23]",
        "[fd20:ce::254]",
        "[fd00:c1::a9fe:a9fe]",
        "[fd00:42::42]",
        "[::ffff:169.254.169.254]",
        "[::ffff:224.0.0.1]",
    ];
    for host in v4.iter().chain(&v6) {
        let answer = client.ask(&format!("tcp {host}:80"));
        assert!(answer.starts_with("error") && answer != EPERM, "{host}: {answer}");
        let connect = stage.connects().last().unwrap().clone();
        assert_eq!((connect.decision, connect.owner.road), (Decision::Exempt, Road::Direct), "{host}");
    }
    let others = ["169.253.0.1", "169.255.0.1", "100.100.100.201", "223.255.255.255", "240.0.0.1", "0.0.0.0"];
    for host in others.iter().chain(&["[fec0::1]", "[fe7f::1]", "[fd00:ec3::254]", "[::ffff:10.0.0.1]", "[::]"]) {
        assert_eq!(client.ask(&format!("tcp {host}:80")), EPERM, "{host}");
    }
    let counters = stage.sensor.counters().unwrap();
    for (program, exempt) in [(Program::Connect4, v4.len()), (Program::Connect6, v6.len())] {
        assert_eq!(counters.get(program, Outcome::Exempt), exempt as u64, "{}", program.name());
        assert_eq!(counters.unaccounted(program), 0, "{}", program.name());
    }
    stage.scope(Mode::Observe);
    assert_ne!(client.ask("tcp 169.254.169.254:80"), EPERM);
    assert_eq!(stage.connects().last().unwrap().decision, Decision::Observed);
}

#[test]
fn a_loopback_address_where_nobody_listens_refuses_as_it_would_without_us() {
    if !needs("nobody") {
        return;
    }
    let proxy = Proxy::start();
    let nobody = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap().port();
    let mut stage = Stage::new("nobody", proxy.port, |_| {});
    stage.scope(redirect(Fail::Open));
    let mut client = Client::start(&stage.client_cgroup());
    let refused = format!("error {}", libc::ECONNREFUSED);
    for host in ["127.0.0.2", "[::1]", "[::ffff:127.0.0.2]", "0.0.0.0", "[::]"] {
        assert_eq!(client.ask(&format!("tcp {host}:{nobody}")), refused, "{host}");
        let connect = stage.connects().pop().unwrap();
        assert_eq!((connect.decision, connect.owner.road), (Decision::Nobody, Road::Direct), "{host}");
    }
    let server = Upstream::start(&format!("127.0.0.2:{nobody}"));
    assert!(client.ask(&format!("tcp {}", server.at)).starts_with("proxy"), "now somebody is there");
    drop(server);
    until("the end of the server", || std::net::TcpStream::connect(("127.0.0.2", nobody)).is_err());
    stage.scope(redirect(Fail::Closed));
    assert!(client.ask(&format!("tcp 127.0.0.2:{nobody}")).starts_with("proxy"), "a scope that is closed lets nothing past");
    let counters = stage.sensor.counters().unwrap();
    for (program, count) in [(Program::Connect4, 2), (Program::Connect6, 3)] {
        assert_eq!(counters.get(program, Outcome::Nobody), count, "{}", program.name());
        assert_eq!(counters.unaccounted(program), 0, "{}", program.name());
    }
}

#[test]
fn an_address_that_failed_is_refused_to_that_user_for_a_while_and_never_goes_direct() {
    if !needs("failed") {
        return;
    }
    let (proxy, upstream, other) = (Proxy::start(), Upstream::start("127.0.0.2:0"), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("failed", proxy.port, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    let v6 = Upstream::start("[::1]:0");
    let mapped = format!("[::ffff:127.0.0.2]:{}", upstream.at.port());
    for fail in [Fail::Open, Fail::Closed] {
        stage.scope(redirect(fail));
        for at in [upstream.at, v6.at] {
            assert!(client.ask(&format!("tcp {at}")).starts_with("proxy"), "{at}");
            let netns = stage.connects().pop().unwrap().owner.netns;
            stage.sensor.refuse_for(Failed { netns, address: at, uid: 0 }, Duration::from_secs(3600)).unwrap();
        }
        for at in [upstream.at.to_string(), v6.at.to_string(), mapped.clone()] {
            let refused = client.ask(&format!("tcp {at}"));
            assert!([format!("error {}", libc::ECONNREFUSED), EPERM.to_owned()].contains(&refused), "{at}: {refused}");
            assert_eq!(stage.connects().pop().unwrap().decision, Decision::FailedLately);
        }
        assert!(client.ask(&format!("tcp {}", other.at)).starts_with("proxy"), "another port of the same host");
        let mut stranger = Client::start(&stage.client_cgroup());
        assert_eq!(stranger.ask("user 54321"), "done");
        assert!(stranger.ask(&format!("tcp {}", upstream.at)).starts_with("proxy"), "another user, whom filters may let through");
        let netns = stage.connects().pop().unwrap().owner.netns;
        for at in [upstream.at, v6.at] {
            stage.sensor.refuse_for(Failed { netns, address: at, uid: 0 }, Duration::ZERO).unwrap();
        }
        assert!(client.ask(&format!("tcp {}", upstream.at)).starts_with("proxy"), "the time is over");
        stage.sensor.refuse_for(Failed { netns, address: upstream.at, uid: 0 }, Duration::from_secs(3600)).unwrap();
        stage.scope(Mode::Observe);
        assert!(client.ask(&format!("tcp {}", upstream.at)).starts_with("upstream"), "what is not redirected is none of our business");
        stage.sensor.refuse_for(Failed { netns, address: upstream.at, uid: 0 }, Duration::ZERO).unwrap();
    }
    let counters = stage.sensor.counters().unwrap();
    for (program, count) in [(Program::Connect4, 2), (Program::Connect6, 4)] {
        assert_eq!(counters.get(program, Outcome::FailedLately), count, "{}", program.name());
        assert_eq!(counters.unaccounted(program), 0, "{}", program.name());
    }
}

#[test]
fn a_program_that_reuses_a_port_is_not_taken_for_its_former_owner() {
    if !needs("reused-port") {
        return;
    }
    let (proxy, upstream) = (Proxy::start(), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("reused-port", proxy.port, |_| {});
    stage.scope(redirect(Fail::Closed));
    let mut client = Client::start(&stage.client_cgroup());
    // In a cgroup that the sensor is not attached to.
    let mut stranger = Client::start(&home().join("half"));
    let port = gnomon_testkit::free_port().port();
    let ours = format!("from {port} 127.0.0.1:{}", proxy.port);
    let owner = |index: usize| proxy.came()[index].1.as_ref().map(|owner| owner.pid);

    assert!(client.ask(&format!("from {port} {}", upstream.at)).starts_with("proxy"));
    assert_eq!(client.ask("abort"), "done");
    assert_eq!(owner(0), Some(client.pid()));
    stage.scope(Mode::Off);
    assert!(client.ask(&ours).starts_with("proxy"));
    assert_eq!(client.ask("abort"), "done");
    assert_eq!(owner(1), None, "it is not tracked any more, and the kernel half saw it connect");

    stage.scope(redirect(Fail::Closed));
    assert!(client.ask(&format!("from {port} {}", upstream.at)).starts_with("proxy"));
    assert_eq!(client.ask("abort"), "done");
    assert!(stranger.ask(&ours).starts_with("proxy"));
    assert_eq!(owner(3), None, "nobody saw it connect, and it is not the former owner's connection");
}

/// Connects where redirection is impossible, and checks the destination, the record and the counter.
fn cannot_be_redirected(name: &str, reason: Reason, prepare: impl Fn(&mut Stage, &mut Client), order: &str) {
    let upstream = Upstream::start("127.0.0.2:0");
    let port = gnomon_testkit::free_port().port();
    let mut stage = Stage::new(name, port, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    let order = order.replace("ADDRESS", &upstream.at.to_string());
    for (fail, decision) in [(Fail::Open, Decision::FailOpen(reason)), (Fail::Closed, Decision::FailClosed(reason))] {
        stage.scope(redirect(fail));
        prepare(&mut stage, &mut client);
        let answer = client.ask(&order);
        match fail {
            Fail::Open => assert!(answer.starts_with("upstream"), "{answer}"),
            Fail::Closed => assert_eq!(answer, EPERM),
        }
        let counters = stage.sensor.counters().unwrap();
        let outcome = if fail == Fail::Open { Outcome::FailOpen(reason) } else { Outcome::FailClosed(reason) };
        assert_eq!(counters.get(Program::Connect4, outcome), 1, "{outcome:?}");
        assert_eq!(stage.connects().last().unwrap().decision, decision);
        assert_eq!(stage.connects().last().unwrap().owner.road, Road::Direct);
    }
}

#[test]
fn without_a_listener_the_scope_decides() {
    if needs("no-listener") {
        cannot_be_redirected("no-listener", Reason::NoListener, |_, _| {}, "tcp ADDRESS");
    }
}

#[test]
fn an_ipv6_connection_needs_an_ipv6_listener_and_a_mapped_one_does_not() {
    if !needs("v4-only") {
        return;
    }
    let (proxy, v6, v4) = (Proxy::start_v4(), Upstream::start("[::1]:0"), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("v4-only", proxy.port, |_| {});
    stage.scope(redirect(Fail::Open));
    let mut client = Client::start(&stage.client_cgroup());
    assert_eq!(client.ask(&format!("tcp {}", v6.at)), format!("upstream {}", v6.at));
    assert_eq!(stage.connects()[0].decision, Decision::FailOpen(Reason::NoListener));
    let mapped = format!("[::ffff:127.0.0.2]:{}", v4.at.port());
    assert_eq!(client.ask(&format!("tcp {mapped}")), format!("proxy {mapped}"));
    stage.scope(redirect(Fail::Closed));
    assert_eq!(client.ask(&format!("tcp {}", v6.at)), EPERM);
}

#[test]
fn without_a_heartbeat_the_scope_decides() {
    if needs("no-heartbeat") {
        cannot_be_redirected("no-heartbeat", Reason::StaleHeartbeat, |stage, _| stage.falls_silent(), "tcp ADDRESS");
    }
}

#[test]
fn a_socket_bound_to_a_device_is_not_redirected() {
    if needs("bound-device") {
        cannot_be_redirected("bound-device", Reason::BoundDevice, |_, _| {}, "device lo ADDRESS");
    }
}

#[test]
fn a_foreign_listener_on_the_port_gets_no_connection() {
    if !needs("squatter") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let squatters = [Upstream::start("127.0.0.1:0"), Upstream::start("0.0.0.0:0")];
    for (index, squatter) in squatters.iter().enumerate() {
        let mut stage = Stage::new(&format!("squatter-{index}"), squatter.at.port(), |_| {});
        stage.scope(redirect(Fail::Open));
        let mut client = Client::start(&stage.client_cgroup());
        assert_eq!(client.ask(&format!("tcp {}", upstream.at)), format!("upstream {}", upstream.at));
        let reason = Reason::ForeignListener;
        assert_eq!(stage.connects()[0].decision, Decision::FailOpen(reason));
        assert_eq!(stage.sensor.counters().unwrap().get(Program::Connect4, Outcome::FailOpen(reason)), 1);
    }
}

#[test]
fn a_full_flow_table_is_a_reason_not_to_redirect_and_is_counted() {
    if !needs("table-full") {
        return;
    }
    let (proxy, upstream) = (Proxy::start(), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("table-full", proxy.port, |options| (options.flows, options.flows_each) = (1, u32::MAX));
    stage.scope(redirect(Fail::Open));
    // Each keeps its connection open; a BPF hash table may hold a few more entries than its size.
    let mut clients: Vec<Client> = (0..24).map(|_| Client::start(&stage.client_cgroup())).collect();
    let mut direct = 0;
    for client in &mut clients {
        if client.ask(&format!("tcp {}", upstream.at)).starts_with("upstream") {
            direct += 1;
        }
    }
    let counters = stage.sensor.counters().unwrap();
    let full = counters.get(Program::Connect4, Outcome::FailOpen(Reason::TableFull));
    assert!(full > 0, "the table was never full");
    assert_eq!(full + counters.get(Program::Connect4, Outcome::FailOpen(Reason::StaleHeartbeat)), direct);
    assert_eq!(counters.get(Program::Connect4, Outcome::TableFull), full);
    assert_eq!(counters.unaccounted(Program::Connect4), 0);
}

#[test]
fn a_holder_of_many_open_connections_fills_its_share_of_the_table_and_does_not_get_past_the_proxy() {
    if !needs("flow-shares") {
        return;
    }
    let (proxy, upstream) = (Proxy::start(), Upstream::start("127.0.0.2:0"));
    let tcp = format!("tcp {}", upstream.at);
    // A cgroup of the first level: each cgroup in it is at the second, and so a holder of its own.
    let name = format!("../gnomon-shares-{}", std::process::id());
    let mut stage = Stage::new(&name, proxy.port, |options| options.flows_each = 4);
    let greedy = stage.cgroup.join("greedy");
    std::fs::create_dir(&greedy).unwrap();
    let mut open: Vec<Client> = (0..6).map(|_| Client::start(&greedy)).collect();
    assert!(open.iter_mut().all(|client| client.ask(&tcp).starts_with("upstream")), "while only observed, all connect");
    assert_eq!(stage.sensor.counters().unwrap().get(Program::Connect4, Outcome::TableFull), 2);

    let scope = Scope { id: 8, mode: redirect(Fail::Open) };
    stage.sensor.scopes().unwrap().set(CgroupId::of(&greedy).unwrap(), scope).unwrap();
    stage.scope(redirect(Fail::Open));
    let mut late = Client::start(&greedy);
    assert_eq!(late.ask(&tcp), EPERM, "who filled the share does not go direct, though the scope fails open");
    assert_eq!(stage.sensor.counters().unwrap().get(Program::Connect4, Outcome::FailClosed(Reason::TableFull)), 1);
    let mut neighbour = Client::start(&stage.client_cgroup());
    assert!(neighbour.ask(&tcp).starts_with("proxy"), "others are redirected as before");

    // A connection that ends gives its place back.
    drop(open);
    until("a place", || Client::start(&greedy).ask(&tcp).starts_with("proxy"));
    let counters = stage.sensor.counters().unwrap();
    assert!([Program::Connect4, Program::SockOps, Program::Release].iter().all(|program| counters.unaccounted(*program) == 0));
}

#[test]
fn of_several_cgroups_of_one_holder_none_takes_more_than_half_of_its_share() {
    if !needs("own-shares") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let tcp = format!("tcp {}", upstream.at);
    let name = format!("../gnomon-own-shares-{}", std::process::id());
    let stage = Stage::new(&name, 0, |options| options.flows_each = 4);
    // Like pods of one class, or services of one user.
    let below = |name: &str| {
        let cgroup = stage.cgroup.join("class").join(name);
        std::fs::create_dir_all(&cgroup).unwrap();
        cgroup
    };
    let connected = |cgroup: &std::path::Path| {
        let mut client = Client::start(cgroup);
        assert!(client.ask(&tcp).starts_with("upstream"), "while only observed, all connect");
        client
    };
    let full = || stage.sensor.counters().unwrap().get(Program::Connect4, Outcome::TableFull);
    let (greedy, other) = (below("greedy"), below("other"));
    let open: Vec<Client> = (0..6).map(|_| connected(&greedy)).collect();
    assert_eq!(full(), 4);
    let _two = [connected(&other), connected(&other)];
    assert_eq!(full(), 4, "the rest of the share is left to others");
    drop(open);
    until("a place", || {
        let before = full();
        drop(connected(&greedy));
        full() == before
    });
}

#[test]
fn where_no_cgroups_are_made_for_services_a_share_of_the_table_is_a_users() {
    if !needs("user-shares") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let tcp = format!("tcp {}", upstream.at);
    // A cgroup of the first level, so that its programs are in no cgroup of the second, which would be their holder.
    let name = format!("../gnomon-user-shares-{}", std::process::id());
    let stage = Stage::new(&name, 0, |options| options.flows_each = 4);
    let client = |user: u32| {
        let mut client = Client::start(&stage.cgroup);
        assert_eq!(client.ask(&format!("user {user}")), "done");
        assert!(client.ask(&tcp).starts_with("upstream"), "while only observed, all connect");
        client
    };
    let full = || stage.sensor.counters().unwrap().get(Program::Connect4, Outcome::TableFull);
    let _greedy: Vec<Client> = (0..6).map(|_| client(54321)).collect();
    assert_eq!(full(), 2);
    let _other = client(54322);
    assert_eq!(full(), 2, "another user has a share of their own");
}

#[test]
fn quic_is_refused_where_connections_are_redirected_and_other_datagrams_pass() {
    if !needs("quic") {
        return;
    }
    let mut stage = Stage::new("quic", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    let receiver = UdpSocket::bind("127.0.0.2:0").unwrap();
    let other = receiver.local_addr().unwrap();
    for to in ["127.0.0.2:443", "[::1]:443"] {
        assert_eq!(client.ask(&format!("udp-connect {to}")), "done", "while only observed");
    }
    stage.scope(redirect(Fail::Open));
    for to in ["127.0.0.2:443", "[::1]:443"] {
        assert_eq!(client.ask(&format!("udp-connect {to}")), EPERM, "connect {to}");
        assert_eq!(client.ask(&format!("udp-send {to}")), EPERM, "sendto {to}");
    }
    assert_eq!(client.ask(&format!("udp-connect {other}")), "done");
    assert_eq!(client.ask(&format!("udp-send {other}")), "done");
    let refused: Vec<_> = stage.connects().into_iter().map(|connect| connect.decision).collect();
    assert_eq!(refused, [Decision::QuicRefused; 4]);
    let counters = stage.sensor.counters().unwrap();
    for program in [Program::Connect4, Program::Connect6, Program::Sendmsg4, Program::Sendmsg6] {
        assert_eq!(counters.get(program, Outcome::QuicRefused), 1, "{}", program.name());
        assert_eq!(counters.unaccounted(program), 0, "{}", program.name());
    }
}

#[test]
fn data_with_the_syn_goes_to_the_proxy_too() {
    if !needs("fast-open") {
        return;
    }
    let (proxy, upstream) = (Proxy::start(), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("fast-open", proxy.port, |_| {});
    stage.scope(redirect(Fail::Closed));
    let mut client = Client::start(&stage.client_cgroup());
    match client.ask(&format!("fast-open {} early", upstream.at)) {
        answer if answer == format!("error {}", libc::EOPNOTSUPP) => skip("fast-open", "net.ipv4.tcp_fastopen is off for clients"),
        answer => assert_eq!(answer, format!("proxy {}", upstream.at)),
    }
}

/// docs/sensor.md, "a program chooses its own address": to the kernel both connections have one destination.
#[test]
fn from_one_port_of_its_own_a_redirected_program_reaches_one_server_at_a_time() {
    if !needs("own-port") {
        return;
    }
    let (proxy, one, other) = (Proxy::start(), Upstream::start("127.0.0.2:0"), Upstream::start("127.0.0.3:0"));
    let mut stage = Stage::new("own-port", proxy.port, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    let port = gnomon_testkit::free_port().port();
    for (scope, to_other) in
        [(Mode::Observe, format!("upstream {}", other.at)), (redirect(Fail::Open), format!("error {}", libc::EADDRNOTAVAIL))]
    {
        stage.scope(scope);
        assert!(client.ask(&format!("from {port} {}", one.at)).ends_with(&one.at.to_string()));
        assert_eq!(client.ask(&format!("from {port} {}", other.at)), to_other);
        assert_eq!(client.ask("abort"), "done");
    }
    let came = proxy.came();
    assert_eq!((came.len(), came[0].0), (1, SocketAddr::from(([127, 0, 0, 1], port))));
}

#[test]
fn a_multipath_connection_goes_to_the_proxy() {
    if !needs("multipath") {
        return;
    }
    let (proxy, upstream) = (Proxy::start(), Upstream::start("127.0.0.2:0"));
    let mut stage = Stage::new("multipath", proxy.port, |_| {});
    stage.scope(redirect(Fail::Closed));
    let mut client = Client::start(&stage.client_cgroup());
    let answer = client.ask(&format!("multipath {}", upstream.at));
    if answer == format!("error {}", libc::EPROTONOSUPPORT) || answer == format!("error {}", libc::ENOPROTOOPT) {
        return skip("multipath", "this kernel has no multipath TCP");
    }
    assert!(answer.starts_with("proxy"), "{answer}");
    until("the proxy's view", || proxy.came().len() == 1);
    assert_eq!(proxy.came()[0].1.as_ref().unwrap().original, upstream.at);
}
