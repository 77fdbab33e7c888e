//! A day of five users and twelve servers, and who is told of it.

use super::prometheus::{Alertmanager, Prometheus, Watched, has, home};
use crate::sensor_stage::until;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use gnomon_observe::Level;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, thread,
    time::Duration,
};

const USERS: [&str; 5] = ["ada", "bob", "cem", "dia", "eve"];
const SERVERS: u8 = 12;

/// A rule for the tool that is called as the level is.
fn rule(level: Level) -> String {
    let (number, level) = (level as u8, level.as_str());
    format!(
        "title: Calls {level}\nid: 00000000-0000-4000-8000-00000000000{number}\nstatus: test\n\
         logsource: {{ product: mcp, category: mcp_traffic }}\n\
         detection: {{ call: {{ gen_ai.tool.name: {level} }}, condition: call }}\nlevel: {level}\ngnomon: {{ class: policy }}\n"
    )
}

/// The levels of what this user does at this server, hour by hour; and how often somebody has to be told.
fn day_of(user: usize, server: u8) -> (&'static [Level], usize) {
    match (user + usize::from(server)) % 4 {
        0 => (&[Level::Low, Level::Low, Level::Low], 0),
        1 => (&[Level::High, Level::High, Level::Low], 1),
        2 => (&[Level::Low, Level::High, Level::Critical], 2),
        _ => (&[Level::Critical, Level::High, Level::Critical], 1),
    }
}

#[test]
fn in_a_day_each_incident_is_told_once_and_once_more_where_it_rises_also_across_a_restart() {
    let name = "in_a_day_each_incident_is_told_once_and_once_more_where_it_rises_also_across_a_restart";
    if !has(name, &["prometheus", "prometheus-alertmanager"]) {
        return;
    }
    // All of them are sanctioned, so that the rules below say how serious it is.
    let servers: Vec<_> = (2..2 + SERVERS).map(|n| format!("127.0.0.{n}")).collect();
    let mut config = format!("sanctioned: [{}]\nproxy:\n  users:\n", servers.join(", "));
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    fs::write(&password, "secret\n").unwrap();
    for user in USERS {
        writeln!(config, "    - {{ name: {user}, password: 'file:{}' }}", password.display()).unwrap();
    }
    let dir = home(&config);
    for level in [Level::Low, Level::High, Level::Critical] {
        fs::write(dir.path().join(format!("rules/{}.yml", level.as_str())), rule(level)).unwrap();
    }
    let mut watched = Watched::at(dir, &["proxy"]);
    let alertmanager = Alertmanager::start();
    let _prometheus = Prometheus::watching_for(&watched, &alertmanager);
    let hour = |watched: &Watched, hour: usize| {
        for (n, user) in USERS.iter().enumerate() {
            let authorization = format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{user}:secret")));
            for (server, address) in (0..SERVERS).zip(&servers) {
                watched.call_as(&authorization, &format!("{address}:1"), day_of(n, server).0[hour].as_str());
            }
        }
    };
    let times: Vec<usize> = (0..USERS.len()).flat_map(|user| (0..SERVERS).map(move |server| day_of(user, server).1)).collect();
    let expected: usize = times.iter().sum();
    // What docs/alerts.md says of this day.
    assert_eq!((expected, times.iter().filter(|times| **times > 0).count(), times.len()), (60, 45, 60));
    let pages = || alertmanager.told("GnomonDetection");
    let pages_by_hour: [usize; 3] = std::array::from_fn(|hour| {
        let rose = |levels: &[Level]| levels[hour] > Level::Low && levels[..hour].iter().all(|before| *before < levels[hour]);
        (0..USERS.len()).flat_map(|user| (0..SERVERS).map(move |server| day_of(user, server).0)).filter(|levels| rose(levels)).count()
    });
    assert_eq!(pages_by_hour.iter().sum::<usize>(), expected);
    let mut told = 0;
    for (n, more) in pages_by_hour.into_iter().enumerate() {
        hour(&watched, n);
        told += more;
        until(&format!("{told} pages by hour {n}"), || (pages().len() >= told).then_some(()));
    }
    // A restart in the evening, after which everything happens again.
    watched.restart(&["proxy"]);
    (0..3).for_each(|n| hour(&watched, n));
    // What is told is told within three seconds here: a scrape, an evaluation, a group.
    thread::sleep(Duration::from_secs(8));

    let mut by_incident: BTreeMap<(String, String), usize> = BTreeMap::new();
    for alert in pages() {
        let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        *by_incident.entry((label("incident"), label("level"))).or_default() += 1;
    }
    assert_eq!((by_incident.len(), by_incident.values().filter(|times| **times > 1).count()), (expected, 0), "{by_incident:?}");
    let incidents: BTreeSet<_> = by_incident.keys().map(|(incident, _)| incident).collect();
    assert_eq!(incidents.len(), 45, "{by_incident:?}");
    assert!(alertmanager.told("GnomonMoreIncidents").is_empty() && alertmanager.told("GnomonShadowMcpCall").is_empty());
    // The command of a page tells of that user at that server, and of nobody else.
    let critical = pages().into_iter().rfind(|alert| alert["labels"]["level"] == "critical").unwrap();
    let printed = watched.printed(&critical);
    assert_eq!(USERS.iter().filter(|user| printed.contains(&format!(" {user} "))).count(), 1, "{printed}");
    // No label says who or where.
    let labels: Vec<_> = critical["labels"].as_object().unwrap().values().filter_map(|value| value.as_str()).collect();
    let is_of_somebody = |label: &&str| USERS.contains(label) || servers.iter().any(|server| server == label);
    assert!(!labels.iter().any(is_of_somebody), "{labels:?}");
}
