//! Events that cannot be exported fire an alert. The alert's command searches the journal; these tests check that gnomon logs the words
//! that it searches for. That the journal has them is checked by the test of the package, which runs where there is a journal.

use super::prometheus::{Prometheus, Watched, command, has, home};
use crate::sensor_stage::until;
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

/// A gnomon that exports its events to this collector.
fn sending_to(collector: SocketAddr) -> Watched {
    Watched::at(home(&format!("events: {{ otlp: {{ endpoint: 'http://{collector}' }} }}\n")), &["proxy"])
}

/// The lines of the log that match the words of the alert's command.
fn found(watched: &Watched, alert: &Value) -> Vec<String> {
    let (_, pattern) = command(alert).split_once(" -g ").unwrap();
    let words: Vec<_> = pattern.trim_matches('\'').split('|').collect();
    watched.log().lines().filter(|line| words.iter().any(|word| line.contains(word))).map(str::to_owned).collect()
}

#[test]
fn a_collector_that_is_away_fires_and_the_log_says_so_in_the_words_of_the_command() {
    let name = "a_collector_that_is_away_fires_and_the_log_says_so_in_the_words_of_the_command";
    if !has(name, &["prometheus"]) {
        return;
    }
    let away = gnomon_testkit::free_port();
    let watched = sending_to(away);
    let prometheus = Prometheus::watching(&watched);
    watched.call("read_file", "");
    let alert = prometheus.fires("GnomonExportStalled");
    assert_eq!(alert["labels"]["sink"], "otlp");
    let found = found(&watched, &alert);
    assert!(matches!(&found[..], [line, ..] if line.contains(&away.to_string())), "{}", watched.log());
}

/// A collector that accepts the first request and refuses all later ones with 400.
fn collector() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, mut stream) in listener.incoming().flatten().enumerate() {
            let mut request = vec![0; 1 << 16];
            let mut got = 0;
            // A request is complete when its body has the length that its head announces.
            while !is_complete(&request[..got]) {
                match stream.read(&mut request[got..]) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => got += read,
                }
            }
            let status = if number == 0 { "200 OK" } else { "400 Bad Request" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    address
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some(head) = text.find("\r\n\r\n") else { return false };
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    let body = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(head) + 4;
    length.is_some_and(|length| request.len() >= body + length)
}

#[test]
fn an_event_that_the_collector_refuses_fires_and_the_log_names_it_in_the_words_of_the_command() {
    let name = "an_event_that_the_collector_refuses_fires_and_the_log_names_it_in_the_words_of_the_command";
    if !has(name, &["prometheus"]) {
        return;
    }
    let watched = sending_to(collector());
    let prometheus = Prometheus::watching(&watched);
    watched.call("read_file", "");
    until("the first event to be taken", || {
        let series = r#"gnomon_export_events_total{outcome="delivered",sink="otlp"} "#;
        watched.scrape().lines().any(|line| line.strip_prefix(series).is_some_and(|count| count != "0")).then_some(())
    });
    watched.call("write_file", "");
    let alert = prometheus.fires("GnomonExportLost");
    assert_eq!(alert["labels"]["outcome"], "rejected");
    assert!(found(&watched, &alert).iter().any(|line| line.contains("refuses the event")), "{}", watched.log());
}
