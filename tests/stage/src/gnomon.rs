//! gnomon in the test's process: rules, proxy, metrics and ledger, started as the command starts them.

use super::{HOST, soon, upstream::Upstream};
use gnomon_engine::{RuleSet, Source};
use gnomon_http::{Sockets, UpstreamBudget};
use gnomon_inspect::{Bounds, HostPatterns, Inspector, Surroundings};
use gnomon_intercept::{Proxy, ProxyOptions, ProxyUser, RedirectedListeners, Secret, serve_metrics};
use gnomon_ledger::{JsonlTarget, Ledger, LedgerOptions, Writer};
use gnomon_record::{Metrics, Owners, Recorder};
use gnomon_tls::CertificateAuthority;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// The configuration of one.
#[derive(Default)]
pub struct Setup {
    rules: Vec<Source>,
    bypass: Vec<&'static str>,
    sanctioned: Vec<&'static str>,
    users: Vec<(&'static str, &'static str)>,
    resolve: Vec<String>,
    roots: Vec<PathBuf>,
    catalogue: gnomon_packs::HostCatalogue,
    owners: Option<Arc<dyn Owners>>,
    sockets: Option<Arc<dyn Sockets>>,
    per_user: Option<usize>,
    max_connections: Option<usize>,
    held_bytes: Option<usize>,
    upstream_connections: Option<usize>,
    state_in: Option<PathBuf>,
    drain: Option<Duration>,
}

/// A running gnomon.
pub struct Gnomon {
    pub address: SocketAddr,
    pub metrics_address: SocketAddr,
    pub root: CertificateDer<'static>,
    pub inspector: Arc<Inspector>,
    pub redirected: RedirectedListeners,
    ledger: Ledger,
    writer: Writer,
    recorder: Arc<Recorder>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    dir: TempDir,
}

impl Setup {
    pub fn rules(mut self, rules: impl IntoIterator<Item = Source>) -> Self {
        self.rules.extend(rules);
        self
    }

    pub fn bypass(mut self, host: &'static str) -> Self {
        self.bypass.push(host);
        self
    }

    pub fn sanctioned(mut self, host: &'static str) -> Self {
        self.sanctioned.push(host);
        self
    }

    pub fn user(mut self, name: &'static str, password: &'static str) -> Self {
        self.users.push((name, password));
        self
    }

    /// `name`, on port 80 or 443, is reached at `address`.
    pub fn resolve(mut self, name: &str, address: SocketAddr) -> Self {
        for port in [80, 443] {
            self.resolve.push(format!("{name}:{port}:{}:{}", address.ip(), address.port()));
        }
        self
    }

    /// `name` is reached at the IP address of `address`, on its port only.
    pub fn resolve_port(mut self, name: &str, address: SocketAddr) -> Self {
        self.resolve.push(format!("{name}:{}:{}", address.port(), address.ip()));
        self
    }

    /// Uses the shipped catalogue of known hosts; without it the catalogue is empty.
    pub fn shipped_catalogue(mut self) -> Self {
        self.catalogue = gnomon_packs::HostCatalogue::shipped().unwrap();
        self
    }

    /// Asks `owners` which process owns a connection.
    pub fn owners(mut self, owners: Arc<dyn Owners>) -> Self {
        self.owners = Some(owners);
        self
    }

    /// Opens sockets in other network namespaces by `sockets`.
    pub fn sockets(mut self, sockets: Arc<dyn Sockets>) -> Self {
        self.sockets = Some(sockets);
        self
    }

    /// The maximum number of redirected connections of one user.
    pub fn per_user(mut self, most: usize) -> Self {
        self.per_user = Some(most);
        self
    }

    /// The maximum number of client connections.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = Some(most);
        self
    }

    /// Most bytes that are held of bodies that are not whole.
    pub fn held_bytes(mut self, most: usize) -> Self {
        self.held_bytes = Some(most);
        self
    }

    /// Most connections to upstreams, of which one client has half.
    pub fn upstream_connections(mut self, most: usize) -> Self {
        self.upstream_connections = Some(most);
        self
    }

    /// Keeps its state in this folder.
    pub fn state_in(mut self, folder: &Path) -> Self {
        self.state_in = Some(folder.to_owned());
        self
    }

    /// The time that connections have to finish at a stop.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = Some(drain);
        self
    }

    pub fn trust(mut self, pem_file: &Path) -> Self {
        self.roots.push(pem_file.to_owned());
        self
    }

    /// Starts it with a name that resolves to this upstream.
    pub async fn before(self, upstream: &Upstream) -> Gnomon {
        self.resolve(HOST, upstream.address).trust(upstream.authority.pem_file()).start().await
    }

    pub async fn start(self) -> Gnomon {
        let dir = self.state_in.map_or_else(tempfile::tempdir, tempfile::tempdir_in).unwrap();
        let rules = RuleSet::compile(&self.rules).unwrap_or_else(|errors| panic!("{errors}"));
        let sanctioned = HostPatterns::parse(self.sanctioned).unwrap();
        let surroundings = Surroundings { sanctioned, catalogue: self.catalogue, ..Surroundings::default() };
        let metrics = Metrics::new(&rules, "test").unwrap();
        let inspector = Arc::new(Inspector::new(Arc::new(rules), surroundings, Bounds::default()));
        let mut options = LedgerOptions::new(dir.path().join("ledger.sqlite"));
        options.jsonl = JsonlTarget::File(dir.path().join("events.jsonl"));
        let (ledger, writer) = Ledger::open(options).await.unwrap();
        let recorder = Arc::new(Recorder::new(ledger.clone(), metrics));
        let (ca, _) = CertificateAuthority::load_or_create(dir.path()).unwrap();
        let root = ca.certificate().der().clone();

        let scraped = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let metrics_address = scraped.local_addr().unwrap();
        let options = ProxyOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            bypass: HostPatterns::parse(self.bypass).unwrap(),
            users: self
                .users
                .into_iter()
                .map(|(name, password)| ProxyUser { name: name.to_owned(), password: Secret::new(password.to_owned()) })
                .collect(),
            max_connections: self.max_connections.unwrap_or(4096),
            max_connections_per_user: self.per_user.unwrap_or(1024),
            held_bytes: self.held_bytes.unwrap_or_else(|| ProxyOptions::default().held_bytes),
            upstream_ca: self.roots,
            upstreams: self.upstream_connections.map_or_else(UpstreamBudget::unbounded, |most| UpstreamBudget::new(most, most)),
            resolve: self.resolve.iter().map(|r| r.parse().unwrap()).collect(),
            own_listeners: vec![metrics_address],
            drain: self.drain.unwrap_or(Duration::from_secs(3)),
            ..ProxyOptions::default()
        };
        let proxy = Proxy::bind(options, inspector.clone(), recorder.clone(), Arc::new(ca)).await.unwrap();
        let proxy = match self.owners {
            Some(owners) => proxy.owners(owners),
            None => proxy,
        };
        let proxy = match self.sockets {
            Some(sockets) => proxy.sockets(sockets),
            None => proxy,
        };
        let redirected = proxy.redirected();
        let address = proxy.local_addr();
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(proxy.run(until(stopping.clone())));
        tasks.spawn(serve_metrics(scraped, recorder.clone(), until(stopping)));
        Gnomon { address, metrics_address, root, inspector, redirected, ledger, writer, recorder, stop, tasks, dir }
    }
}

async fn until(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

impl Gnomon {
    pub fn with() -> Setup {
        Setup::default()
    }

    /// The state folder, which holds its authority.
    pub fn state_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The events written to disk so far.
    pub async fn events(&self) -> Vec<Value> {
        self.ledger.flush().await.unwrap();
        read(self.dir.path())
    }

    /// Waits until at least `count` events are written.
    pub async fn events_until(&self, count: usize) -> Vec<Value> {
        soon(&format!("{count} events"), async {
            loop {
                let events = self.events().await;
                if events.len() >= count {
                    return events;
                }
                // Nothing announces a write to the file, so it is read again until the deadline.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// The recorder that events go through.
    pub fn recorder(&self) -> Arc<Recorder> {
        self.recorder.clone()
    }

    /// The metrics, as Prometheus reads them.
    pub fn metrics(&self) -> String {
        self.recorder.metrics().render(&self.ledger.counts())
    }

    /// Waits until the metrics have this line.
    pub async fn metrics_until(&self, line: &str) {
        soon(line, async {
            while !self.metrics().lines().any(|l| l == line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Stops it and returns all its events. Close clients first: the stop waits for open connections.
    pub async fn finish(mut self) -> Vec<Value> {
        let _ = self.stop.send(true);
        soon("the proxy to end", async { while self.tasks.join_next().await.is_some() {} }).await;
        drop((self.recorder, self.ledger));
        soon("the ledger to end", self.writer.shutdown()).await;
        read(self.dir.path())
    }
}

fn read(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("events.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
