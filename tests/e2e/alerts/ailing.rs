//! Each thing that gnomon cannot see or do fires an alert, and the alert's command says what it is and why.

use super::{
    played::{Played, Waiting, feature},
    prometheus::{Prometheus, Watched, command, has, home, succeeded},
};
use crate::sensor_stage::{skip, until};
use gnomon_link::{Feature, FeatureState};
use std::{fs, process::Command, time::SystemTime};

/// The eBPF program that reads ClientHellos from packets; the sensor can run without it.
const HELLO: &str = "gn_hello";

/// A gnomon that has joined a simulated sensor. `None`, reported as a skip, where that cannot run: it needs root, as gnomon believes only a
/// sensor that runs as root.
fn sensing(test: &str, state: Feature) -> Option<(Watched, Played)> {
    sensing_at(test, state).map(|(watched, played, _)| (watched, played))
}

/// The same, with what another sensor can be played by.
fn sensing_at(test: &str, state: Feature) -> Option<(Watched, Played, Waiting)> {
    if !has(test, &["prometheus"]) {
        return None;
    }
    if !rustix::process::geteuid().is_root() {
        skip(test, "needs root");
        return None;
    }
    let dir = home("");
    let socket = dir.path().join("sensor.sock");
    let sensor = Waiting::at(&socket);
    let watched = Watched::at(dir, &["run", "--sensor-socket", socket.to_str().unwrap()]);
    let played = sensor.joined(state);
    until("the sensor to be joined", || watched.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
    Some((watched, played, sensor))
}

/// The output of `gnomon doctor`; its exit code says whether something keeps gnomon from working.
fn examined(watched: &Watched, command: &str) -> String {
    assert_eq!(command, "gnomon doctor");
    let output = watched.run(command);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_proxy_that_is_gone_fires_and_the_doctor_finds_the_ports_free() {
    if !has("a_proxy_that_is_gone_fires_and_the_doctor_finds_the_ports_free", &["prometheus"]) {
        return;
    }
    let mut watched = Watched::start();
    let prometheus = Prometheus::watching(&watched);
    watched.end();
    let alert = prometheus.fires("GnomonProxyDown");
    assert_eq!(alert["labels"]["severity"], "critical");
    assert!(examined(&watched, command(&alert)).lines().any(|line| line.contains("port")), "{alert}");
}

#[test]
fn a_prometheus_without_gnomon_fires_and_its_configuration_is_looked_at() {
    let name = "a_prometheus_without_gnomon_fires_and_its_configuration_is_looked_at";
    if !has(name, &["prometheus", "promtool"]) {
        return;
    }
    let prometheus = Prometheus::alone();
    let alert = prometheus.fires("GnomonAbsent");
    let (program, file) = command(&alert).rsplit_once(' ').unwrap();
    assert_eq!(file, "/etc/prometheus/prometheus.yml");
    // The configuration of this Prometheus instance, in place of the path in the alert's command.
    let looked = format!("{program} {}", prometheus.config().display());
    assert!(succeeded(Command::new("sh").args(["-c", &looked])).contains("is valid"));
}

#[test]
fn a_sensor_that_is_gone_fires_and_the_doctor_says_what_this_host_offers() {
    let name = "a_sensor_that_is_gone_fires_and_the_doctor_says_what_this_host_offers";
    let Some((watched, sensor)) = sensing(name, feature(HELLO, FeatureState::Ok, "")) else { return };
    let prometheus = Prometheus::watching(&watched);
    assert_eq!(prometheus.names(), [""; 0]);
    drop(sensor);
    let alert = prometheus.fires("GnomonSensorDown");
    assert!(examined(&watched, command(&alert)).contains("gn_connect4"), "{alert}");
}

#[test]
fn a_sensor_that_ended_and_is_there_again_fires_with_the_events_that_say_for_how_long() {
    let name = "a_sensor_that_ended_and_is_there_again_fires_with_the_events_that_say_for_how_long";
    let Some((watched, sensor, socket)) = sensing_at(name, feature(HELLO, FeatureState::Ok, "")) else { return };
    let prometheus = Prometheus::watching(&watched);
    drop(sensor);
    let _sensor = socket.joined(feature(HELLO, FeatureState::Ok, ""));
    let alert = prometheus.fires("GnomonSensorEnded");
    let printed = watched.printed(&alert);
    assert!(printed.lines().count() == 2 && printed.contains("the sensor has ended") && printed.contains("there again: for "), "{printed}");
    assert_eq!(prometheus.names(), ["GnomonSensorEnded"]);
}

#[test]
fn a_feature_that_does_not_work_fires_and_the_doctor_tries_it() {
    let name = "a_feature_that_does_not_work_fires_and_the_doctor_tries_it";
    let Some((watched, _sensor)) = sensing(name, feature(HELLO, FeatureState::Broken, "it was refused")) else { return };
    let alert = Prometheus::watching(&watched).fires("GnomonSensorDegraded");
    assert_eq!(alert["labels"]["feature"], HELLO);
    assert!(examined(&watched, command(&alert)).contains(HELLO), "{alert}");
}

#[test]
fn a_sensor_that_takes_too_much_fires_with_the_event_that_says_how_much() {
    let name = "a_sensor_that_takes_too_much_fires_with_the_event_that_says_how_much";
    let Some((watched, sensor)) = sensing(name, feature(HELLO, FeatureState::Ok, "")) else { return };
    let prometheus = Prometheus::watching(&watched);
    sensor.says(feature(HELLO, FeatureState::Broken, "took 31 % of a core"));
    let alert = prometheus.fires("GnomonSensorReduced");
    let printed = watched.printed(&alert);
    assert!(printed.lines().count() == 1 && printed.contains("gn_hello: took 31 % of a core"), "{printed}");
    // One event, and no second alert that calls it a defect.
    assert_eq!(prometheus.names(), ["GnomonSensorReduced"]);
}

#[test]
fn programs_that_could_not_be_taken_over_fire_with_the_event_that_says_which() {
    let name = "programs_that_could_not_be_taken_over_fire_with_the_event_that_says_which";
    let Some((watched, sensor)) = sensing(name, feature(HELLO, FeatureState::Ok, "")) else { return };
    let prometheus = Prometheus::watching(&watched);
    sensor.lost("/user.slice/gnomon-exec-7-0", "a newer gnomon made their scope");
    let alert = prometheus.fires("GnomonExecScopeLost");
    let printed = watched.printed(&alert);
    assert!(printed.lines().count() == 1 && printed.contains("programs in /user.slice/gnomon-exec-7-0 go around the proxy"), "{printed}");
    assert_eq!(prometheus.names(), ["GnomonExecScopeLost"]);
}

#[test]
fn records_that_the_kernel_half_dropped_fire_and_say_where() {
    let name = "records_that_the_kernel_half_dropped_fire_and_say_where";
    let Some((watched, sensor)) = sensing(name, feature(HELLO, FeatureState::Ok, "")) else { return };
    let prometheus = Prometheus::watching(&watched);
    sensor.counts(HELLO, "dropped_ring_full", 3);
    let alert = prometheus.fires("GnomonSensorLoss");
    assert_eq!(alert["labels"]["outcome"], "dropped_ring_full");
    assert!(examined(&watched, command(&alert)).contains(HELLO), "{alert}");
}

#[test]
fn an_authority_that_ends_soon_fires_and_its_command_shows_when() {
    if !has("an_authority_that_ends_soon_fires_and_its_command_shows_when", &["prometheus", "openssl"]) {
        return;
    }
    let dir = home("");
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -keyout key -out pem -days 9 -subj '/CN=A short one' \
                  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null && \
                  \"$0\" ca import pem --key key --state-dir state";
    succeeded(Command::new("sh").args(["-ec", script, env!("CARGO_BIN_EXE_gnomon")]).current_dir(dir.path()));
    let watched = Watched::at(dir, &["proxy"]);
    let alert = Prometheus::watching(&watched).fires("GnomonCaExpiring");
    let printed = watched.printed(&alert);
    let until = printed.lines().find_map(|line| line.strip_prefix("valid ")?.split_once(" to ")).unwrap().1;
    assert!(printed.contains("A short one"), "{printed}");
    assert!(alert["annotations"]["description"].as_str().unwrap().starts_with(&format!("It ends on {until}.")), "{alert} {printed}");
}

#[test]
fn a_server_that_is_gone_fires_with_the_reason_and_the_event_that_says_since_when() {
    let name = "a_server_that_is_gone_fires_with_the_reason_and_the_event_that_says_since_when";
    if !has(name, &["prometheus"]) {
        return;
    }
    let (listen, nobody) = (gnomon_testkit::free_port(), gnomon_testkit::free_port());
    let config = format!(
        "servers: [{{id: tools, url: 'http://{nobody}/mcp'}}]\n\
         portals: [{{id: main, listen: '{listen}', servers: [tools], auth: {{mode: none}}, policy: [{{allow: {{servers: [tools]}}}}]}}]\n"
    );
    let watched = Watched::at(home(&config), &["proxy"]);
    let prometheus = Prometheus::watching(&watched);
    let alert = prometheus.fires("GnomonPortalServerDown");
    assert_eq!((&alert["labels"]["portal"], &alert["labels"]["server"]), (&"main".into(), &"tools".into()));
    assert!(alert["annotations"]["description"].as_str().unwrap().starts_with("The reason is refused."), "{alert}");
    let printed = watched.printed(&alert);
    assert!(printed.lines().count() == 1 && printed.contains("server `tools` of portal `main` is not there (refused)"), "{printed}");
    assert_eq!(prometheus.names(), ["GnomonPortalServerDown"]);
}

#[test]
fn a_clock_that_is_far_ahead_of_what_is_known_fires_and_the_command_shows_the_time() {
    // What is left by a gnomon that ran a month ago, by its clock.
    a_clock_that_is_doubted("a_clock_that_is_far_ahead_of_what_is_known_fires_and_the_command_shows_the_time", -31 * 24);
}

#[test]
fn a_clock_that_went_back_while_gnomon_was_off_fires_and_the_command_shows_the_time() {
    a_clock_that_is_doubted("a_clock_that_went_back_while_gnomon_was_off_fires_and_the_command_shows_the_time", 2);
}

/// What is left was known so many hours from now.
fn a_clock_that_is_doubted(name: &str, hours: i128) {
    if !has(name, &["prometheus"]) {
        return;
    }
    const HOUR: i128 = 60 * 60 * 1000;
    let dir = home("");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let known = format!("{then} {then} 0", then = now.cast_signed() + hours * HOUR);
    fs::create_dir(dir.path().join("state")).unwrap();
    fs::write(dir.path().join("state/ledger.clock"), format!("{known:512}")).unwrap();
    let watched = Watched::at(dir, &["proxy"]);
    let prometheus = Prometheus::watching(&watched);
    let alert = prometheus.fires("GnomonClockDoubted");
    assert!(watched.printed(&alert).contains("UTC"), "{alert}");
    assert_eq!(prometheus.names(), ["GnomonClockDoubted"]);
}
