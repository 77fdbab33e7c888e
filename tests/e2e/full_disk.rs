//! A full disk stops no traffic, loses no line that was acknowledged, and is written to again once there is room.

use crate::{
    sensor_stage::skip,
    support::{
        client::H1,
        gnomon::Gnomon,
        request::{call, h1_post},
        rules,
        upstream::{Answer, Upstream},
    },
};
use gnomon_ledger::{EventFilter, Order, Reader};
use std::{fs, path::Path, process::Command};

const NAME: &str = "a_full_disk_stops_no_traffic_and_is_used_again_once_there_is_room";

/// A mounted tmpfs of 3 MiB.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// The sum of all series of a counter.
fn counted(gnomon: &Gnomon, name: &str) -> u64 {
    let page = gnomon.metrics();
    let series = page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    series.filter_map(|line| line.split(' ').next_back()?.parse::<u64>().ok()).sum()
}

#[tokio::test]
async fn a_full_disk_stops_no_traffic_and_is_used_again_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path()) else { return skip(NAME, "needs root, to mount a tmpfs") };
    let upstream = Upstream::answering(&["http/1.1"], |received| {
        received.end?;
        Some(Answer::json(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#))
    })
    .await;
    let gnomon = Gnomon::with().rules(rules::shipped()).state_in(disk.0).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let mut send = async |tool: &str| client.send(&[h1_post("/rpc", call(1, tool).to_string().as_bytes())]).await.status;
    assert_eq!(send("before").await, 200);
    gnomon.events_until(1).await;

    let ballast = disk.0.join("ballast");
    assert!(fs::write(&ballast, vec![0; 8 << 20]).is_err(), "it is full");
    for number in 0..300 {
        assert_eq!(send(&format!("full {number}")).await, 200, "a full disk is nothing to a client");
        if number % 50 == 49 {
            gnomon.events().await;
        }
    }
    assert!(counted(&gnomon, "gnomon_events_dropped_total") > 0, "{}", gnomon.metrics());

    fs::remove_file(&ballast).unwrap();
    assert_eq!(send("after").await, 200);
    let events = gnomon.events().await;
    assert_eq!(events.last().map(|event| &event["gen_ai.tool.name"]), Some(&"after".into()));
    let ledger = gnomon.state_dir().join("ledger.sqlite");
    let filter = EventFilter { limit: 10_000, ..EventFilter::default() };
    let stored = Reader::open(&ledger).await.unwrap().events(&filter, Order::OldestFirst).await.unwrap();
    assert!(stored.last().unwrap().json.contains("\"after\""));
    // Each file has at least as many events as counted as durable, and all others were counted as dropped.
    let (durable, dropped) = (counted(&gnomon, "gnomon_events_written_total"), counted(&gnomon, "gnomon_events_dropped_total"));
    assert!(stored.len() as u64 >= durable && events.len() as u64 >= durable, "{} {} {durable}", stored.len(), events.len());
    assert_eq!(durable + dropped, 302, "one before, 300 on the full disk, one after");
    assert!(stored.iter().all(|event| serde_json::from_str::<serde_json::Value>(&event.json).is_ok()));
    // A second check by another reader of the file format, where there is one.
    if let Ok(checked) = Command::new("sqlite3").arg(&ledger).arg("PRAGMA integrity_check").output() {
        assert_eq!(String::from_utf8_lossy(&checked.stdout).trim(), "ok");
    }
    client.close().await;
    gnomon.finish().await;
}
