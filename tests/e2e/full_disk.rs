//! A full disk stops no traffic, loses no line that was acknowledged, and is written to again once there is room.

use crate::{
    alerts::prometheus::{Watched, home},
    portals::server::Server,
    sensor_stage::{skip, until},
    support::{
        client::H1,
        gnomon::Gnomon,
        request::{call, h1_post},
        rules,
        upstream::{Answer, Upstream},
    },
};
use gnomon_ledger::{EventFilter, Order, Reader};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

const NAME: &str = "a_full_disk_stops_no_traffic_and_is_used_again_once_there_is_room";

/// A mounted tmpfs of 3 MiB.
struct Disk<'a>(&'a Path);

/// How a disk is full.
#[derive(Clone, Copy, PartialEq)]
enum Full {
    /// No byte more.
    Bytes,
    /// No file more: SQLite cannot make what it needs beside a database.
    Files,
}

impl<'a> Disk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m,nr_inodes=64", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    /// Fills it. What is in the folder that is returned makes it so.
    fn fill(&self, full: Full) -> PathBuf {
        let ballast = self.0.join("ballast");
        fs::create_dir(&ballast).unwrap();
        match full {
            Full::Bytes => assert!(fs::write(ballast.join("bytes"), vec![0; 8 << 20]).is_err(), "it is full"),
            Full::Files => {
                let last = (0..100).map(|number| fs::write(ballast.join(number.to_string()), "")).find(Result::is_err);
                assert_eq!(last.unwrap().unwrap_err().kind(), std::io::ErrorKind::StorageFull);
            }
        }
        ballast
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

/// What a portal answers to a call.
fn called(portal: SocketAddr) -> String {
    let meta = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"tools_echo","arguments":{{}},"_meta":{meta}}}}}"#);
    // It may not listen yet.
    let Ok(mut stream) = TcpStream::connect(portal) else { return String::new() };
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {portal}\r\nconnection: close\r\naccept: application/json, text/event-stream\r\n\
         content-type: application/json\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: tools_echo\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all([head, body].concat().as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A configuration with a portal there, of one server.
fn portal_at(listen: SocketAddr, server: &Server) -> String {
    format!(
        "servers: [{{id: tools, url: 'http://127.0.0.1:{}/mcp'}}]\n\
         portals: [{{id: main, listen: '{listen}', servers: [tools], auth: {{mode: none}}, policy: [{{allow: {{servers: [tools]}}}}]}}]\n",
        server.port
    )
}

/// Whether there was an audit before the disk was full.
#[derive(Clone, Copy, PartialEq)]
enum Audit {
    Old,
    New,
}

/// A gnomon is started on a full disk and has a portal.
fn started_on_a_full_disk(name: &str, audit: Audit, full: Full) {
    let (portal, server) = (gnomon_testkit::free_port(), Server::start());
    let dir = home("");
    let (config, state) = (dir.path().join("gnomon.yml"), dir.path().join("state"));
    fs::create_dir(&state).unwrap();
    let Some(disk) = Disk::mount(&state) else { return skip(name, "needs root, to mount a tmpfs") };
    let without = fs::read_to_string(&config).unwrap();
    let with = format!("{without}{}", portal_at(portal, &server));
    fs::write(&config, if audit == Audit::Old { &with } else { &without }).unwrap();
    let mut watched = Watched::at(dir, &["proxy"]);
    let serves = || until("the portal to answer", || called(portal).contains("done by the server").then_some(()));
    if audit == Audit::Old {
        serves();
    }
    watched.stop();
    // The index of a log that is empty, if a reader left it: the next start gives its room to whoever comes first.
    let _ = fs::remove_file(state.join("ledger.sqlite-shm"));
    let ballast = disk.fill(full);
    fs::write(&config, with).unwrap();
    watched.start_again(&["proxy"]);
    until("the portal to listen", || TcpStream::connect(portal).ok());
    for _ in 0..3 {
        let answer = called(portal);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("the audit could not write the record"), "{answer}");
    }
    // An audit that is there may open in what the ledger gave up, and then has no room for a record.
    let (log, told) =
        (watched.log(), ["until there is room, portals refuse what they are asked", "the audit could not be written; trying on"]);
    assert!(log.contains("is full") || log.contains("No space left on device"), "{log}");
    assert!(told.iter().any(|told| log.contains(told)), "{log}");
    let lost = "gnomon_audit_records_total{outcome=\"lost\"} ";
    until("what is lost to be counted", || {
        let count: f64 = watched.scrape().lines().find_map(|line| line.strip_prefix(lost)?.parse().ok())?;
        (count >= 3.0).then_some(())
    });

    fs::remove_dir_all(&ballast).unwrap();
    serves();
    let lost = String::from_utf8(watched.run("gnomon audit show --kind lost").stdout).unwrap();
    assert_eq!(lost.lines().count(), 1, "{lost}");
}

#[test]
fn a_portal_that_is_started_on_a_full_disk_refuses_what_it_is_asked_and_serves_once_there_is_room() {
    started_on_a_full_disk(
        "a_portal_that_is_started_on_a_full_disk_refuses_what_it_is_asked_and_serves_once_there_is_room",
        Audit::Old,
        Full::Bytes,
    );
}

#[test]
fn a_portal_whose_audit_a_full_disk_has_no_room_to_begin_serves_once_there_is_room() {
    started_on_a_full_disk("a_portal_whose_audit_a_full_disk_has_no_room_to_begin_serves_once_there_is_room", Audit::New, Full::Bytes);
}

#[test]
fn a_disk_that_has_no_room_for_another_file_is_a_full_one() {
    let name = "a_disk_that_has_no_room_for_another_file_is_a_full_one";
    for audit in [Audit::Old, Audit::New] {
        started_on_a_full_disk(name, audit, Full::Files);
    }
}
