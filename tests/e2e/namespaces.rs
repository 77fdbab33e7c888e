//! Programs in network namespaces other than gnomon's: what they are sent to is reached from where they stand.

use crate::scopes::redirecting;
use crate::sensor_stage::{Host, Joined, Netns, Road, needs, serve, until};
use gnomon_testkit::has;
use std::fs;

/// How often connections ended in this way.
fn flows(host: &Host, outcome: &str) -> Option<String> {
    let line = format!("gnomon_flows_total{{outcome=\"{outcome}\"}} ");
    host.scrape().lines().find_map(|found| found.strip_prefix(&line)).map(str::to_owned)
}

#[test]
fn a_server_on_loopback_of_the_program_s_own_namespace_is_reached_through_the_proxy() {
    if !needs("netns loopback") || !has("netns loopback", &["ip"]) {
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
    assert!(error.contains("refused"), "as without us, where nobody listens: {error}");
    here.set_nonblocking(true).unwrap();
    assert!(here.accept().is_err(), "the proxy connected to a stranger");
    until("the counts", || (flows(&host, "passthrough")? == "2").then_some(()));
    assert_eq!(flows(&host, "out_of_reach").as_deref(), Some("0"));
}

#[test]
fn a_program_of_a_configured_scope_in_a_namespace_of_its_own_is_redirected_from_its_second_connection_on() {
    if !needs("netns scope") || !has("netns scope", &["ip"]) {
        return;
    }
    let netns = Netns::new();
    let server = serve(netns.listen("127.0.0.1:0"));
    let port = server.port();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gnomon.yml");
    let cgroup = format!("/gnomon-e2e-{}-*/containers", std::process::id());
    fs::write(
        &config,
        format!("sensor:\n scopes:\n  - {{name: containers, match: {{cgroup: '{cgroup}'}}, mode: intercept, ports: [{port}]}}\n"),
    )
    .unwrap();
    for (path, mode) in [(folder.path(), 0o755), (&config, 0o644)] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let mut host = Host::start_with(&["--config", config.to_str().unwrap()]);
    let containers = host.cgroup.join("containers");
    fs::create_dir(&containers).unwrap();
    let scrape = |line: &str| host.scrape().lines().find_map(|found| found.strip_prefix(line).map(str::to_owned));
    until("the scope", || (redirecting(&host) == 1).then_some(()));
    let mut program = Joined::bystander(&containers, &netns);
    until("the proxy", || (program.reaches(server) == Road::ThroughProxy).then_some(()));
    assert_eq!(program.reaches(server), Road::ThroughProxy, "{}", host.log());
    until("what went by to be counted", || scrape("gnomon_fail_open_total{reason=\"no_listener\"} ").filter(|count| count != "0"));
    // Another one there finds the listeners.
    let mut other = Joined::bystander(&containers, &netns);
    assert_eq!(other.reaches(server), Road::ThroughProxy);
    // A namespace that nobody is in any more is not kept.
    let sensor = host.part("gnomon-sensor");
    let open = || fs::read_dir(format!("/proc/{sensor}/fd")).unwrap().count();
    let before = open();
    drop((program, other, netns));
    until("the listeners to be closed", || (open() < before).then_some(()));
}

#[test]
fn a_server_that_only_the_program_s_namespace_has_a_route_to_is_reached_through_the_proxy() {
    if !needs("netns routes") || !has("netns routes", &["ip"]) {
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
