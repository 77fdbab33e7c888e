//! Connections that the kernel redirected to the proxy. Their owners are made up here; that the sensor reports the true ones on a real
//! kernel is for the sensor's tests.

mod curl;
mod logins;
mod namespaces;
mod other_proxies;
mod passed;
mod read;
mod unverified;
mod users;

use crate::support::{
    HOST,
    client::{H1, H2, handshake},
    gnomon::{Gnomon, Setup},
    request::{call, h1_head, h1_post, h2_post},
    rules::{block, id, rule, shipped},
    soon,
    upstream::{Answer, Upstream},
};
use gnomon_http::{HostUser, IpFamily, NearEnd, NetNs, Sockets};
use gnomon_inspect::Enforcement;
use gnomon_intercept::Namespace;
use gnomon_observe::{Field, Observation};
use gnomon_record::{Owned, Owners};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io::ErrorKind,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

const H1: &[&str] = &["http/1.1"];
const BOTH: &[&str] = &["h2", "http/1.1"];

/// Answers in place of the kernel half: each listener of the proxy stands for one address that a program connected to.
#[derive(Default)]
struct Kernel {
    roads: Mutex<HashMap<SocketAddr, Owned>>,
    served: AtomicU64,
    /// The addresses that failed, for which user, and for how many seconds they are to be refused.
    failed: Mutex<Vec<(SocketAddr, u32, u64)>>,
}

impl Owners for Kernel {
    fn owner<'a>(&'a self, stream: &'a TcpStream) -> Pin<Box<dyn Future<Output = Option<Owned>> + Send + 'a>> {
        let owned = stream.local_addr().ok().and_then(|address| self.roads.lock().unwrap().get(&address).cloned());
        Box::pin(std::future::ready(owned))
    }
    fn served(&self, _: u64) {
        self.served.fetch_add(1, Ordering::SeqCst);
    }
    fn unreachable<'a>(&'a self, owned: &'a Owned, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.failed.lock().unwrap().push((owned.original, owned.uid, time.as_secs()));
        Box::pin(std::future::ready(()))
    }
}

/// Opens the sockets for other namespaces in ours, and remembers what was requested.
#[derive(Default)]
struct Opened(Mutex<Vec<(NearEnd, IpFamily)>>);

impl Sockets for Opened {
    fn open(&self, near: NearEnd, family: IpFamily) -> Pin<Box<dyn Future<Output = std::io::Result<TcpSocket>> + Send + '_>> {
        self.0.lock().unwrap().push((near, family));
        Box::pin(std::future::ready(if family == IpFamily::V4 { TcpSocket::new_v4() } else { TcpSocket::new_v6() }))
    }
}

/// The users of the tests.
const ADA: u32 = 1000;
const BOB: u32 = 1001;

fn owned(cookie: u64, original: SocketAddr, uid: u32) -> Owned {
    Owned { cookie, original, redirected: true, uid, gid: uid, netns: 1, cgroup: 1, enforcement: Enforcement::Enforce, seen: ada() }
}

fn ada() -> Observation {
    let mut seen = Observation::new();
    seen.set(Field::Pid, 4711_i64);
    seen.set(Field::Executable, "/usr/bin/node");
    seen.set(Field::UserId, "1000");
    seen.set(Field::UserName, "ada");
    seen.set(Field::ContainerId, "1f2d3c4b5a69");
    seen
}

impl Kernel {
    /// The listener to connect to in place of `original`.
    fn road(&self, gnomon: &Gnomon, original: SocketAddr) -> SocketAddr {
        self.road_in(gnomon, original, Namespace::Own)
    }

    fn road_in(&self, gnomon: &Gnomon, original: SocketAddr, namespace: Namespace) -> SocketAddr {
        let address = listen(gnomon, namespace);
        self.roads.lock().unwrap().insert(address, owned(7, original, ADA));
        address
    }

    /// The listener for this user, who connects to `original`.
    fn road_as(&self, gnomon: &Gnomon, original: SocketAddr, uid: u32) -> SocketAddr {
        let address = listen(gnomon, Namespace::Own);
        self.roads.lock().unwrap().insert(address, owned(7, original, uid));
        address
    }

    /// A connection of this user, who connected to `original`.
    async fn connect_as(&self, gnomon: &Gnomon, original: SocketAddr, uid: u32) -> TcpStream {
        TcpStream::connect(self.road_as(gnomon, original, uid)).await.unwrap()
    }

    async fn connect(&self, gnomon: &Gnomon, original: SocketAddr) -> TcpStream {
        TcpStream::connect(self.road(gnomon, original)).await.unwrap()
    }
}

/// A listener for redirected connections.
fn listen(gnomon: &Gnomon, namespace: Namespace) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    gnomon.redirected.add(listener, namespace).unwrap();
    address
}

/// HOST resolves only where `setup` says so: otherwise servers are reached at their addresses alone.
async fn gnomon(setup: Setup, upstream: &Upstream) -> (Gnomon, Arc<Kernel>) {
    let kernel = Arc::new(Kernel::default());
    (setup.trust(upstream.authority.pem_file()).owners(kernel.clone()).start().await, kernel)
}

/// How a connection to this listener ends that is not served: it may be reset before `connect` returns.
async fn refused(address: SocketAddr) -> Result<usize, ErrorKind> {
    match TcpStream::connect(address).await {
        Ok(mut stream) => end(&mut stream).await,
        Err(error) => Err(error.kind()),
    }
}

/// How a connection ends whose server sends nothing.
async fn end(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    soon("the end of the connection", stream.read(&mut [0; 16])).await.map_err(|e| e.kind())
}
