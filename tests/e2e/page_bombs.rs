//! Bodies that are small on the wire and hold a great many values: the process stays within its memory, and other clients are served
//! meanwhile.

use crate::{
    alerts::prometheus::Watched,
    support::{
        coding::Coding,
        soon,
        upstream::{Answer, Upstream},
    },
};
use std::{fs, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

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
async fn ask(proxy: std::net::SocketAddr, head: String, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
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
    let server = upstream.address;
    let get = move |path: &str| format!("GET http://{server}{path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    let post = move |length: usize| {
        let lines = "Content-Type: application/json\r\nContent-Encoding: gzip\r\nConnection: close\r\n";
        format!("POST http://{server}/post HTTP/1.1\r\nHost: {server}\r\n{lines}Content-Length: {length}\r\n\r\n")
    };
    assert!(ask(gnomon.proxy, get("/small"), b"").await.starts_with(b"HTTP/1.1 200"));
    let before = peak(gnomon.pid());
    let proxy = gnomon.proxy;
    let neighbour = tokio::spawn(async move {
        let mut served = 0;
        loop {
            assert!(ask(proxy, get("/small"), b"").await.starts_with(b"HTTP/1.1 200"));
            served += 1;
            if served >= 40 {
                return served;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let answer = ask(proxy, get("/page"), b"").await;
    assert!(answer.ends_with(&page[page.len() - 100..]), "it passes unchanged");
    ask(proxy, post(page.len()), &page).await;
    ask(proxy, post(batch.len()), &batch).await;
    assert_eq!(neighbour.await.unwrap(), 40);
    let grown = peak(gnomon.pid()).saturating_sub(before);
    println!("peak of the whole program: {} MiB, {} MiB more than before", peak(gnomon.pid()) >> 20, grown >> 20);
    assert!(grown < COSTS, "{grown} bytes");
}
