//! Programs in network namespaces other than gnomon's: what they are sent to is reached from where they stand.

use crate::sensor_stage::{Host, Joined, Netns, Road, needs, serve, until};

/// How often connections ended in this way.
fn flows(host: &Host, outcome: &str) -> Option<String> {
    let line = format!("gnomon_flows_total{{outcome=\"{outcome}\"}} ");
    host.scrape().lines().find_map(|found| found.strip_prefix(&line)).map(str::to_owned)
}

#[test]
fn a_server_on_loopback_of_the_program_s_own_namespace_is_reached_through_the_proxy() {
    if !needs("netns loopback") {
        return;
    }
    let (host, netns) = (Host::start(), Netns::new());
    let mut program = Joined::start_in(&host.exec_socket(), &host.cgroup, 0, Some(&netns));
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let server = serve(netns.listen(at));
        assert_eq!(program.reaches(server), Road::ThroughProxy, "{at}: {}: {}", program.said, host.log());
    }
    // The same port of ours is another's: what is there must not be reached.
    let here = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let Road::None(error) = program.reaches(here.local_addr().unwrap()) else { panic!("there is no such server in that namespace") };
    assert!(error.contains("reset"), "as close to a refusal as a connection can come that was accepted: {error}");
    here.set_nonblocking(true).unwrap();
    assert!(here.accept().is_err(), "the proxy connected to a stranger");
    until("the counts", || (flows(&host, "passthrough")? == "2" && flows(&host, "unreachable")? == "1").then_some(()));
    assert_eq!(flows(&host, "out_of_reach").as_deref(), Some("0"));
}

#[test]
fn a_server_that_only_the_program_s_namespace_has_a_route_to_is_reached_through_the_proxy() {
    if !needs("netns routes") {
        return;
    }
    let (host, near, far) = (Host::start(), Netns::new(), Netns::new());
    near.connect(&far);
    let server = serve(far.listen("192.0.2.2:0"));
    let mut program = Joined::start_in(&host.exec_socket(), &host.cgroup, 0, Some(&near));
    assert_eq!(program.reaches(server), Road::ThroughProxy, "{}: {}", program.said, host.log());
    // One of its own namespace is not confused by it.
    let mut here = Joined::start(&host.exec_socket(), &host.cgroup, 0);
    assert_eq!(here.reaches(crate::sensor_stage::server()), Road::ThroughProxy, "{}", here.said);
}
