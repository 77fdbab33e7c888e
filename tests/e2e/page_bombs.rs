//! Bodies that are small on the wire and hold a great many values: the process stays within its memory, and other clients are served
//! meanwhile.

use crate::{
    alerts::prometheus::Watched,
    bounds::everywhere,
    support::{
        coding::Coding,
        neighbours::{Neighbours, best_of_three, from},
        soon,
        upstream::{Answer, Upstream},
    },
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The memory that one such body may cost, in bytes: its decoder's window, the bytes in transit, and the allocator's slack.
const COSTS: u64 = 32 << 20;

fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Nine megabytes, coded in a hundred kilobytes. Random bytes are added so that the compression ratio stays below its bound.
fn coded(items: &str) -> Vec<u8> {
    let mut state = 1u64;
    let noise = (0..170_000).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + ((state >> 33) % 26) as u8)
    });
    let text = format!("[\"{}\",{}1]", noise.collect::<String>(), items.repeat(9_000_000 / items.len()));
    let coded = Coding::Gzip.encode(text.as_bytes());
    assert!(coded.len() < 200_000 && text.len() / coded.len() < 100, "{} of {}", coded.len(), text.len());
    coded
}

/// Sends one request, and reads the answer to its end.
async fn ask(proxy: SocketAddr, head: String, body: &[u8]) -> Vec<u8> {
    let mut stream = from(0, proxy).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = soon("the answer", stream.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_million_values_costs_what_another_does_and_neighbours_are_served() {
    let page = coded("{},");
    let batch = coded(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}},"#);
    let given = page.clone();
    let upstream = Upstream::without_tls(move |received| {
        received.end?;
        let headers = vec![("content-type", "application/json".to_owned()), ("content-encoding", "gzip".to_owned())];
        (received.path == "/page").then(|| Answer::Full { status: 200, headers, body: given.clone() })
    })
    .await;
    let gnomon = Watched::start();
    let (proxy, server) = (gnomon.proxy, upstream.address);
    // The calls go to a server that decodes nothing: neighbours must not wait for the test's own work.
    let (port, acted) = everywhere().await;
    let plain = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let neighbours = Neighbours { proxy, server: plain };
    let get = |path: &str| format!("GET http://{server}{path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    let post = |length: usize| {
        let lines = "Content-Type: application/json\r\nContent-Encoding: gzip\r\nConnection: close\r\n";
        format!("POST http://{plain}/post HTTP/1.1\r\nHost: {plain}\r\n{lines}Content-Length: {length}\r\n\r\n")
    };
    let round = async || {
        let answer = ask(proxy, get("/page"), b"").await;
        assert!(answer.ends_with(&page[page.len() - 100..]), "it passes unchanged");
        for body in [&page, &batch] {
            assert!(ask(proxy, post(body.len()), body).await.starts_with(b"HTTP/1.1 200"));
        }
    };
    assert!(ask(proxy, get("/small"), b"").await.starts_with(b"HTTP/1.1 200"));
    // What serves the neighbours is there before what a page costs is measured.
    let calls = neighbours.call_for(Duration::from_millis(500)).await;
    assert!(calls.failed.is_empty(), "{:?}", calls.failed);
    let before = peak(gnomon.pid());
    best_of_three(async || {
        let (acted_before, rounds) = (acted.load(Ordering::SeqCst), AtomicUsize::new(0));
        let fault = async {
            loop {
                round().await;
                rounds.fetch_add(1, Ordering::SeqCst);
            }
        };
        let endured = neighbours.endure(Duration::from_millis(1_000), Duration::from_secs(3), fault).await;
        let rounds = rounds.load(Ordering::SeqCst);
        assert!(rounds > 0, "{rounds}");
        assert_eq!(acted.load(Ordering::SeqCst) - acted_before, endured.calls, "each call of theirs ran once");
        ((), endured)
    })
    .await;
    let grown = peak(gnomon.pid()).saturating_sub(before);
    println!("peak of the whole program: {} MiB, {} MiB more than before", peak(gnomon.pid()) >> 20, grown >> 20);
    assert!(grown < COSTS, "{grown} bytes");
}
