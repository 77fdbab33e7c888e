//! The portal from outside: real sockets, clients and servers of both eras, and servers that misbehave.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "what the tests read, they wrote")]

mod admission;
mod again;
mod api;
mod apis;
mod asking;
mod attested;
mod audited;
mod cells;
mod client;
mod coded;
mod crossed;
mod eras;
mod excess;
mod extended;
mod failures;
mod filled;
mod frozen;
mod habits;
mod hidden;
mod judged;
mod labelled;
mod lists;
mod logged;
mod lost;
mod matrix;
mod offered;
mod owned;
mod pages;
mod passage;
mod programs;
mod room;
mod scripted;
mod secured;
mod server;
mod skilled;
mod snippets;
mod suspended;
mod tasks;
mod texts;
mod unread;

use gnomon_access::{AuthSource, Authenticator, Policy};
use gnomon_audit::{Audit, AuditOptions, Record, SigningKey, SqliteStore, Store as _};
use gnomon_codemode::SandboxConfig;
use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_http::{AlpnCache, DialOptions, Dialer, PoolOptions, Pools, UpstreamTls};
use gnomon_inspect::{Bounds, Inspector, Surroundings};
use gnomon_ledger::{Decided, Following, JsonlTarget, Ledger, LedgerOptions, Writer};
use gnomon_openapi::import;
use gnomon_portal::{
    Acts, CodeMode, CodeModeWorks, Crew, Durability, Fetcher, Labels, Listening, Payloads, Portal, PortalMetrics, PortalOptions, Prefix,
    Rules, SessionLimits, Shelf,
};
use gnomon_record::{Metrics, Recorder};
use gnomon_upstream::{
    Api, ApiOptions, Program, Reach, Selection, Transport,
    endpoint::{Endpoint, Limits, ServerPools},
};
use serde_json::Value;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// A deadline, so that no test hangs; a test that passes never waits for it.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

fn pools() -> Arc<ServerPools> {
    let tls = UpstreamTls::with_roots(rustls::RootCertStore::empty()).unwrap();
    Arc::new(Pools::new(Dialer::new(DialOptions::default()), tls, Arc::new(AlpnCache::default()), PoolOptions::default()))
}

fn authenticator(auth: &str, pools: Arc<ServerPools>) -> Arc<Authenticator> {
    let source = AuthSource::parse(auth, "auth.yml").unwrap();
    let auth = source.build("auth.yml", "http://localhost/mcp", &|_| Err("no secrets here".to_owned())).unwrap();
    Arc::new(Authenticator::new(auth, Arc::new(Fetcher::new(pools))))
}

/// A portal on a port of its own; stopped when dropped.
/// A rule that does this to what it selects. The number determines its id and its name.
fn source(n: usize, action: &str, selection: &str) -> Source {
    let text = format!(
        "title: Rule {n}\nid: 00000000-0000-4000-8000-00000000000{n}\nlogsource: {{product: mcp, category: mcp_traffic}}\n\
         detection:\n    selection:\n        {selection}\n    condition: selection\nlevel: high\n\
         gnomon:\n    class: policy\n    response: {{action: {action}}}\n"
    );
    Source { name: format!("rule{n}.yml"), text, origin: Origin::Admin }
}

struct Running {
    address: SocketAddr,
    portal: Arc<Portal>,
    /// Saved snippets, where there are some.
    shelf: Option<Arc<Shelf>>,
    ledger: Ledger,
    recorder: Arc<Recorder>,
    inspector: Arc<Inspector>,
    dir: tempfile::TempDir,
    _writer: Writer,
    _audit: gnomon_audit::Writer,
    _stop: oneshot::Sender<()>,
}

impl Running {
    /// Puts other rules into force: one that does this to what it selects, or none.
    fn rule(&self, rule: Option<(&str, &str)>) {
        let sources: Vec<_> = rule.into_iter().map(|(action, selection)| source(0, action, selection)).collect();
        self.inspector.replace_rules(Arc::new(RuleSet::compile(&sources).unwrap_or_else(|errors| panic!("{errors}"))));
    }

    /// Puts another policy into force.
    fn regulate(&self, policy: &str) {
        self.portal.regulate(Arc::new(Policy::parse(policy, "policy.yml").unwrap()), std::collections::HashMap::new());
    }

    /// The journal of decisions.
    fn decided(&self) -> Decided {
        Decided::of(self.dir.path())
    }

    /// Puts in force what was decided about snippets, as a gnomon that runs does each second.
    async fn heed(&self) {
        let (mut following, _) = Following::begin(self.decided());
        following.news().await;
        let now_ms = gnomon_kit::unix_millis(std::time::SystemTime::now());
        self.shelf.as_ref().unwrap().replace(following.approved_snippets(), now_ms);
    }

    /// Puts other log-ins in force.
    async fn reauthenticate(&self, auth: &str) {
        self.portal.reauthenticate(authenticator(auth, pools())).await;
    }

    /// The metrics as they are served.
    fn metrics(&self) -> String {
        self.recorder.metrics().render(&Default::default())
    }

    /// Waits until this many records are in the audit.
    async fn records(&self, count: usize) -> Vec<Record> {
        soon("records", async {
            loop {
                let mut store = SqliteStore::read(&self.dir.path().join("audit.sqlite")).await.unwrap();
                let entries = store.after(0, 1000).await.unwrap();
                if entries.len() >= count {
                    return entries.iter().map(|entry| serde_json::from_str(&entry.body).unwrap()).collect();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    /// Waits until this many events are on disk.
    async fn events(&self, count: usize) -> Vec<Value> {
        soon("events", async {
            loop {
                self.ledger.flush().await.unwrap();
                let text = std::fs::read_to_string(self.dir.path().join("events.jsonl")).unwrap_or_default();
                let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                if events.len() >= count {
                    return events;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

/// An API described by a document.
struct ApiSetup {
    id: &'static str,
    document: String,
    allow: Vec<String>,
    writes: Vec<String>,
    secrets: Vec<(String, String)>,
    headers: http::HeaderMap,
    limits: Limits,
}

impl ApiSetup {
    fn new(id: &'static str, document: &Value) -> Self {
        let (allow, writes, secrets, headers) = (Vec::new(), Vec::new(), Vec::new(), http::HeaderMap::new());
        Self { id, document: document.to_string(), allow, writes, secrets, headers, limits: Api::LIMITS }
    }

    fn allow(mut self, patterns: &[&str]) -> Self {
        self.allow = patterns.iter().map(|text| (*text).to_owned()).collect();
        self
    }

    fn writes(mut self, patterns: &[&str]) -> Self {
        self.writes = patterns.iter().map(|text| (*text).to_owned()).collect();
        self
    }

    fn secrets(mut self, secrets: &[(&str, &str)]) -> Self {
        self.secrets = secrets.iter().map(|(scheme, secret)| ((*scheme).to_owned(), (*secret).to_owned())).collect();
        self
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(name, http::HeaderValue::from_static(value));
        self
    }

    fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// The configuration of a portal for these servers.
struct Setup {
    servers: Vec<(&'static str, String)>,
    programs: Vec<(&'static str, Arc<Program>)>,
    apis: Vec<ApiSetup>,
    tls: Option<Arc<rustls::ServerConfig>>,
    prefix: Prefix,
    labels: std::collections::HashMap<smol_str::SmolStr, Labels>,
    owners: Option<Arc<dyn gnomon_record::Owners>>,
    origins: Vec<String>,
    policy: &'static str,
    auth: String,
    limits: Limits,
    rules: Vec<Source>,
    durability: Durability,
    payloads: Payloads,
    code_mode: CodeMode,
    /// Whether snippets are saved.
    snippets: bool,
    wall_time: Duration,
    sandbox_time: Duration,
    /// Scripts at the same time.
    workers: usize,
    sessions: SessionLimits,
    /// The bound of the audit's database, in pages.
    room: u64,
    /// The maximum number of connections.
    seats: usize,
    unread: Option<Duration>,
    max_request: usize,
}

impl Setup {
    fn of(servers: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self {
            servers: servers.into_iter().collect(),
            programs: Vec::new(),
            apis: Vec::new(),
            tls: None,
            prefix: Prefix::Always,
            labels: Default::default(),
            owners: None,
            origins: Vec::new(),
            policy: "[{allow: {servers: ['*']}}]",
            auth: "{mode: none}".to_owned(),
            limits: Limits { patience: Duration::from_secs(20), message: 1 << 20 },
            rules: Vec::new(),
            durability: Durability::Soon,
            payloads: Payloads::default(),
            code_mode: CodeMode::OptIn,
            snippets: false,
            wall_time: Duration::from_secs(60),
            sandbox_time: Duration::from_secs(2),
            workers: 128,
            sessions: SessionLimits::default(),
            room: 1 << 30,
            seats: 256,
            unread: None,
            max_request: 1 << 20,
        }
    }

    fn program(mut self, id: &'static str, program: Arc<Program>) -> Self {
        self.programs.push((id, program));
        self
    }

    fn api(mut self, api: ApiSetup) -> Self {
        self.apis.push(api);
        self
    }

    fn tls(mut self, tls: Arc<rustls::ServerConfig>) -> Self {
        self.tls = Some(tls);
        self
    }

    fn policy(mut self, policy: &'static str) -> Self {
        self.policy = policy;
        self
    }

    fn auth(mut self, auth: String) -> Self {
        self.auth = auth;
        self
    }

    /// Adds an administrator's rule with these lines of `detection` and `response: ACTION`.
    fn rule(mut self, action: &str, selection: &str) -> Self {
        self.rules.push(source(self.rules.len(), action, selection));
        self
    }

    /// Answers wait for the audit, whose database may have this many bytes.
    fn durable(mut self, room: u64) -> Self {
        (self.durability, self.room) = (Durability::BeforeAnswer, room);
        self
    }

    /// Calls wait for the audit, whose database may have this many bytes.
    fn before_call(mut self, room: u64) -> Self {
        (self.durability, self.room) = (Durability::BeforeCall, room);
        self
    }

    fn record(mut self, payloads: Payloads) -> Self {
        self.payloads = payloads;
        self
    }

    /// The time limit of a script.
    fn wall_time(mut self, wall_time: Duration) -> Self {
        self.wall_time = wall_time;
        self
    }

    /// How long a script may compute.
    fn sandbox_time(mut self, sandbox_time: Duration) -> Self {
        self.sandbox_time = sandbox_time;
        self
    }

    /// How many scripts may run at the same time.
    fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The maximum number of sessions.
    fn sessions(mut self, most: usize) -> Self {
        self.sessions.most = most;
        self
    }

    /// The maximum number of connections.
    fn seats(mut self, most: usize) -> Self {
        self.seats = most;
        self
    }

    /// How long a client may leave an answer unread.
    fn unread_for(mut self, patience: Duration) -> Self {
        self.unread = Some(patience);
        self
    }

    /// The maximum size of a request, in bytes.
    fn max_request(mut self, bytes: usize) -> Self {
        self.max_request = bytes;
        self
    }

    fn code_mode(mut self, mode: CodeMode) -> Self {
        self.code_mode = mode;
        self
    }

    /// Callers may save snippets.
    fn snippets(mut self) -> Self {
        self.snippets = true;
        self
    }

    fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = prefix;
        self
    }

    fn owners(mut self, owners: Arc<dyn gnomon_record::Owners>) -> Self {
        self.owners = Some(owners);
        self
    }

    fn origins(mut self, origins: &[&str]) -> Self {
        self.origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        self
    }

    fn labels(mut self, server: &str, labels: Labels) -> Self {
        self.labels.insert(server.into(), labels);
        self
    }

    async fn start(self) -> Running {
        let pools = pools();
        let servers = self.servers.iter().map(|(id, url)| {
            let endpoint = Endpoint::new(pools.clone(), id, url, http::HeaderMap::new(), self.limits).unwrap();
            ((*id).into(), Reach::http(endpoint, Transport::Either))
        });
        let programs = self.programs.iter().map(|(id, program)| ((*id).into(), Reach::Program(program.clone())));
        let apis: Vec<_> = self
            .apis
            .into_iter()
            .map(|api| {
                let imported = import(api.document.as_bytes(), gnomon_openapi::Options { longest_name: 60, base: None, here: None });
                let options = ApiOptions {
                    id: api.id.into(),
                    imported: imported.unwrap(),
                    selection: Selection::new(&api.allow, &api.writes),
                    headers: api.headers,
                    secrets: api.secrets,
                };
                (api.id.into(), Reach::Api(Arc::new(Api::new(pools.clone(), options, api.limits).unwrap())))
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let rules = RuleSet::compile(&self.rules).unwrap_or_else(|errors| panic!("{errors}"));
        let metrics = Metrics::new(&rules, "test").unwrap();
        let inspector = Arc::new(Inspector::new(Arc::new(rules), Surroundings::default(), Bounds::default()));
        let mut options = LedgerOptions::new(dir.path().join("ledger.sqlite"));
        options.jsonl = JsonlTarget::File(dir.path().join("events.jsonl"));
        let (ledger, writer) = Ledger::open(options).await.unwrap();
        let recorder = Arc::new(Recorder::new(ledger.clone(), metrics));
        let store = SqliteStore::open(&dir.path().join("audit.sqlite"), self.room).await.unwrap();
        let key = SigningKey::generate().unwrap();
        let (audit, audit_writer) = Audit::start(Box::new(store), key, Vec::new(), AuditOptions::default()).await.unwrap();
        let zygote = SandboxConfig::new(env!("CARGO_BIN_EXE_portal-zygote"), [] as [&str; 0]);
        let zygote = SandboxConfig { workers: self.workers, ..zygote };
        let (sandbox_time, wall_time) = (self.sandbox_time, self.wall_time);
        let limits = gnomon_codemode::Limits { sandbox_time, wall_time, ..gnomon_codemode::Limits::default() };
        let works = CodeModeWorks::new(zygote, limits, recorder.metrics().registry()).unwrap();
        let shelf = self.snippets.then(|| Shelf::new(Decided::of(dir.path())));
        let acts = Acts::new(audit, self.durability, "main".into(), recorder.duties().clone()).with(self.payloads);
        let portal = Portal::new(PortalOptions {
            id: "main".into(),
            servers: servers.chain(programs).chain(apis).collect(),
            prefix: self.prefix,
            labels: self.labels,
            sessions: self.sessions,
            max_request: self.max_request,
            hosts: Vec::new(),
            origins: self.origins,
            path: "/mcp".to_owned(),
            policy: Arc::new(Policy::parse(self.policy, "policy.yml").unwrap()),
            authenticator: authenticator(&self.auth, pools),
            owners: self.owners,
            rules: Some(Rules { inspector: inspector.clone(), recorder: recorder.clone() }),
            code_mode: self.code_mode,
            codemode: Some(Arc::new(works)),
            snippets: shelf.clone(),
            metrics: Some(PortalMetrics::register(recorder.metrics().registry()).unwrap()),
            acts: Some(Arc::new(acts)),
        });
        let listening = Listening::bind(portal.clone(), "127.0.0.1:0".parse().unwrap(), self.seats).await.unwrap();
        let listening = match self.tls {
            None => listening,
            Some(tls) => listening.with_tls(tls),
        };
        let listening = match self.unread {
            None => listening,
            Some(patience) => listening.unread_for(patience),
        };
        let address = listening.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(listening.run(
            Arc::new(Crew::start().unwrap()),
            async move {
                let _ = stopped.await;
            },
            Duration::ZERO,
        ));
        Running { address, portal, shelf, ledger, recorder, inspector, dir, _writer: writer, _audit: audit_writer, _stop: stop }
    }
}
