//! `gnomon server add --openapi`: from a document to a portal that offers it.

#[path = "../../proxy/openapi/tests/behaviour/generated.rs"]
mod generated;

use crate::exec::GNOMON;
use serde_json::Value;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

const CONFIG: &str = "# Ours.\ncontact: security@corp.example   # whom to ask\nservers:\n  # The documents.\n  - id: docs\n    url: 'https://docs.example/mcp'\n\n\
                      portals:\n  - { id: main, servers: [docs] }\n";

fn gnomon(arguments: &[&str], config: &Path) -> Output {
    Command::new(GNOMON).args(arguments).arg("--config").arg(config).output().expect("gnomon runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_document_becomes_a_server_of_the_configuration_and_what_people_wrote_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let (config, document) = (dir.path().join("gnomon.yml"), dir.path().join("api.json"));
    fs::write(&config, CONFIG).expect("the configuration");
    fs::write(&document, generated::document("3.0.3", 500, "https://api.example/v2").to_string()).expect("the document");
    let from = document.to_str().expect("a path");
    let dry = gnomon(&["server", "add", "--openapi", from, "--dry-run", "--json"], &config);
    let report: Value = serde_json::from_slice(&dry.stdout).unwrap_or_else(|_| panic!("{}", said(&dry)));
    assert_eq!(report["operations"].as_array().map(Vec::len), Some(500 * generated::EACH));
    assert_eq!(report["not_callable"].as_array().map(Vec::len), Some(generated::BROKEN));
    assert_eq!((report["id"].as_str(), report["base"].as_str()), (Some("everything"), Some("https://api.example/v2")));
    assert_eq!(fs::read_to_string(&config).expect("it is there"), CONFIG, "a dry run writes nothing");
    let add = ["server", "add", "--openapi", from, "--id", "api", "--allow", "getInv*", "--credential", "key=env:NOWHERE"];
    let wrong = gnomon(&add, &config);
    assert!(wrong.status.code() == Some(3) && said(&wrong).contains("the pattern `getInv*` fits no operation"), "{}", said(&wrong));
    let add = [&add[..7], &["GET /v0/invoice0/{id}", "--writes", "create*", "--credential", "key=env:NOWHERE"]].concat();
    let added = gnomon(&add, &config);
    assert!(added.status.success(), "{}", said(&added));
    assert!(
        said(&added).contains("on every list  1\n") && said(&added).contains("/broken/far: it refers to another document"),
        "{}",
        said(&added)
    );
    let text = fs::read_to_string(&config).expect("it is there");
    let (before, after) = CONFIG.split_once("\nportals").expect("a list");
    assert!(text.starts_with(before) && text.ends_with(after) && text.contains("writes: ['create*']"), "{text}");
    assert!(gnomon(&["config", "check"], &config).status.success());
    let again = gnomon(&add, &config);
    assert!(again.status.code() == Some(2) && said(&again).contains("there is a server `api` already"), "{}", said(&again));
    let stored = dir.path().join("openapi/api.json");
    fs::write(&stored, generated::document("3.0.3", 1, "https://evil.example").to_string()).expect("it can be written");
    let changed = gnomon(&["config", "check"], &config);
    assert!(changed.status.code() == Some(3) && said(&changed).contains("is not the document that is pinned"), "{}", said(&changed));
    // What another configuration beside it may have pinned is not written over.
    let other = dir.path().join("other.yml");
    fs::write(&other, CONFIG).expect("the configuration");
    let refused = gnomon(&add, &other);
    assert!(!refused.status.success() && said(&refused).contains("is another document"), "{}", said(&refused));
    assert!(fs::read_to_string(&stored).expect("it is there").contains("evil.example"));
    assert_eq!(fs::read_to_string(&other).expect("it is there"), CONFIG);
}

#[test]
fn documents_are_fetched_in_the_clear_from_this_host_only_and_redirections_are_not_followed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = std::thread::spawn(move || {
        let mut paths = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = [0; 4096];
            let read = stream.read(&mut head).expect("a request");
            let path = String::from_utf8_lossy(&head[..read]).split(' ').nth(1).unwrap_or_default().to_owned();
            let body = "openapi: 3.1.0\ninfo: {title: Small & fine, version: '1'}\nservers: [{url: /v1}]\npaths: {/a: {get: {}}}\n";
            let answer = match path.as_str() {
                "/api.yml" => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()),
                _ => "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
            };
            stream.write_all(answer.as_bytes()).expect("an answer");
            paths.push(path);
        }
        paths
    });
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("gnomon.yml");
    let add = |url: &str| gnomon(&["server", "add", "--openapi", url], &config);
    let added = add(&format!("http://{address}/api.yml"));
    assert!(added.status.success(), "{}", said(&added));
    let text = fs::read_to_string(&config).expect("it was made");
    assert!(text.contains("id: small-fine") && text.contains(&format!("base: 'http://{address}/v1'")), "{text}");
    assert!(dir.path().join("openapi/small-fine.yml").exists());
    let moved = add(&format!("http://{address}/moved"));
    assert!(moved.status.code() == Some(3) && said(&moved).contains("it leads to http://169.254.169.254/"), "{}", said(&moved));
    let clear = add("http://api.example/api.yml");
    assert!(clear.status.code() == Some(2) && said(&clear).contains("https:// URLs without credentials only"), "{}", said(&clear));
    assert_eq!(server.join().expect("it ends"), ["/api.yml", "/moved"]);
}
