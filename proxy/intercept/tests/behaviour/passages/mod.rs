//! What gnomon does not read, and whether the tool ran all the same. For each entry of the table of passages there is a server here that
//! accepts anything as a request, and a rule like the README's, which names a method and no host.

mod hosts;
mod lines;
mod protocols;
mod table;
mod tls;
mod upgrades;
mod within_http;

use gnomon_inspect::{Enforcement, Passage};
use gnomon_intercept::Namespace;
use gnomon_observe::Observation;
use gnomon_record::{Owned, Owners};
use gnomon_stage::{
    HOST,
    client::tunnel,
    gnomon::{Gnomon, Setup},
    lenient::Lenient,
    request::call,
    rules::block,
    soon,
};
use serde_json::Value;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The README's rule: it names a method and no host.
const CALLS: &str = "mcp.method.name: tools/call";

/// How a connection gets to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    /// The program is configured to use the proxy.
    Asked,
    /// The kernel redirected the program's connection.
    Redirected,
}

const ROADS: [Road; 2] = [Road::Asked, Road::Redirected];

/// Reports one original address for every connection.
#[derive(Default)]
struct Kernel(Mutex<Option<SocketAddr>>);

impl Owners for Kernel {
    fn owner<'a>(&'a self, _: &'a TcpStream) -> Pin<Box<dyn Future<Output = Option<Owned>> + Send + 'a>> {
        let owned = self.0.lock().unwrap().map(|original| Owned {
            cookie: 7,
            original,
            redirected: true,
            uid: 1000,
            gid: 1000,
            netns: 1,
            cgroup: 1,
            enforcement: Enforcement::Enforce,
            seen: Observation::new(),
        });
        Box::pin(std::future::ready(owned))
    }
    fn served(&self, _: u64) {}
    fn unreachable<'a>(&'a self, _: &'a Owned, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(std::future::ready(()))
    }
}

/// Starts gnomon, and connects to this address through it.
async fn reach(setup: Setup, road: Road, target: SocketAddr) -> (Gnomon, TcpStream) {
    let kernel = Arc::new(Kernel::default());
    let gnomon = match road {
        Road::Asked => setup.start().await,
        Road::Redirected => setup.owners(kernel.clone()).start().await,
    };
    let stream = connect(&gnomon, &kernel, road, target).await;
    (gnomon, stream)
}

async fn connect(gnomon: &Gnomon, kernel: &Kernel, road: Road, target: SocketAddr) -> TcpStream {
    match road {
        Road::Asked => tunnel(gnomon.address, &target.to_string()).await,
        Road::Redirected => {
            *kernel.0.lock().unwrap() = Some(target);
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            gnomon.redirected.add(listener, Namespace::Own).unwrap();
            match TcpStream::connect(address).await {
                Ok(stream) => stream,
                // It was refused before it was there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => ended().await,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A connection that has ended.
async fn ended() -> TcpStream {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    drop(listener.accept().await.unwrap());
    stream
}

/// A tool call with this request line.
fn request(line: &str) -> Vec<u8> {
    let body = call(1, "any_tool").to_string();
    let head = format!("{line}host: {HOST}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body.into_bytes()].concat()
}

/// Sends the bytes, and reads until there is an answer or the connection is closed.
async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<String> {
    // If gnomon refuses in the middle of it, the rest cannot be sent.
    let sent = stream.write_all(bytes).await;
    let mut answer = vec![0; 4096];
    let read = soon("an answer or an end", stream.read(&mut answer)).await?;
    sent?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}

/// The events with this passage as the reason.
fn told(events: &[Value], passage: Passage) -> Vec<&Value> {
    events.iter().filter(|event| event["gnomon.passage"] == passage.reason()).collect()
}

/// The count of connections that passed unread for this reason.
fn passed(gnomon: &Gnomon, passage: Passage) -> u64 {
    let line = format!("gnomon_passed_total{{reason=\"{}\"}} ", passage.reason());
    gnomon.metrics().lines().find_map(|l| l.strip_prefix(&line)?.parse().ok()).unwrap_or_else(|| panic!("no {line}"))
}
