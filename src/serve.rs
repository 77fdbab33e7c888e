//! A running gnomon: everything wired together, started in an order in which nothing is announced
//! before it works, and stopped so that no acknowledged event is lost.

use crate::{
    arming,
    complaint::Complaint,
    config::{Config, Jsonl, Switch},
    exporting::Exports,
    judging, line,
    options::ledger_in,
    portals::Portals,
    reviewing::Reviewing,
    rule_changes::RuleChanges,
    rule_files, service,
    watching::{Sensors, Watching},
};
use anyhow::{Context, Result};
use gnomon_engine::Lint;
use gnomon_host::switch::Switch as KillSwitch;
use gnomon_http::{CertificateAuthority, Provenance};
use gnomon_inspect::{Inspector, Sighting};
use gnomon_intercept::{Metrics, Proxy, ProxyOptions, ProxyUser, Recorder, Reload, Secret, serve_metrics};
use gnomon_ledger::{EventFilter, JsonlTarget, Ledger, LedgerError, LedgerOptions, Reader, Writer};
use gnomon_observe::{Action, Observation, UNUSUAL_VOLUME};
use std::{
    fs::{self, File},
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};

/// Bytes of a GiB.
const GIB: u64 = 1 << 30;
/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// How often the clock is looked at while an exception is to end.
const CLOCK: Duration = Duration::from_secs(10);

/// What is seen without a sensor.
const PROXY_ALONE: &str =
    "  scope     sees what clients send through this proxy, and nothing else on this host; nothing is redirected to it\n";
/// What is seen with one.
const WITH_SENSOR: &str = "  scope     sees what clients send through this proxy, and which programs make TLS connections to which hosts;\n\
                         \x20           `gnomon exec -- COMMAND` sends a program's connections through the proxy; nothing else is redirected but by scopes\n";

/// What is written to standard output while gnomon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narration {
    /// Nothing.
    Silent,
    /// A line for each detection.
    Lines,
    /// Each detection as JSON.
    Json,
}

/// Runs until SIGTERM or SIGINT. `switch` disarms it. `sensors` is where links to sensors come from, if there are to be any.
///
/// # Errors
/// Why it could not start, or what broke while it ran.
pub fn run(config: &Config, state_dir: &Path, switch: KillSwitch, narration: Narration, sensors: Option<Sensors>) -> Result<()> {
    check_listener(config)?;
    // What is announced can be pasted elsewhere, so paths are whole.
    let state_dir = &std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    // Two streams of lines in one output could not be told apart.
    let narration = if config.events.jsonl == Jsonl::Stdout { Narration::Silent } else { narration };
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        // There to be watched, so that the first exception acts at once. Where it cannot be made, it acts a little later.
        if let Some(folder) = &config.rules.state_triage {
            let _ = fs::create_dir_all(folder);
        }
        // Before the rules are read, so that no change is missed.
        let mut changes = RuleChanges::of(&config.rules);
        let Started { mut read, proxy, metrics, recorder, inspector, mut writer, stop, announcement } = start(config, state_dir).await?;
        // Before anything is served.
        let _obeying = arming::obey(switch, inspector.clone(), recorder.clone())?;
        let portals = Portals::open(config).await?;
        let mut signals = Signals::new()?;
        let exports = Exports::start(config, state_dir, recorder.metrics().registry())?;
        let (proxy, watching, scope) = match sensors {
            None => (proxy, None, PROXY_ALONE),
            Some(sensors) => {
                let (proxy, watching) = Watching::start(proxy, sensors, &config.scopes, inspector.clone(), recorder.clone())?;
                (proxy, Some(watching), WITH_SENSOR)
            }
        };
        let _vouching = service::vouch(tokio::runtime::Handle::current())?;
        // To standard error: standard output is for events and detections.
        write!(io::stderr(), "{announcement}{scope}{}{}", scopes(config), portals.announcement()).context("writing to standard error")?;
        let stopped = |mut stopping: watch::Receiver<bool>| async move {
            // A dropped sender stops too.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let mut serving = tokio::spawn(proxy.run(stopped(stop.subscribe())));
        let mut offering = tokio::spawn(portals.run(stop.subscribe()));
        let scraping = metrics.map(|listener| tokio::spawn(serve_metrics(listener, recorder.clone(), stopped(stop.subscribe()))));
        let reviewing = Reviewing::start(state_dir, ledger_in(state_dir), inspector.clone(), recorder.clone());
        let reviewing = tokio::spawn(reviewing.run());
        let own = writer.take_detections().map(|detections| tokio::spawn(record_own(detections, recorder.clone())));
        let mut narrating = tokio::spawn(narrate(ledger_in(state_dir), narration));
        service::ready();
        let broke = loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Asked::Reload => reload(config, &mut read, &inspector, recorder.metrics()),
                    Asked::Stop => break None,
                },
                () = changes.next() => reload(config, &mut read, &inspector, recorder.metrics()),
                () = comes(inspector.rules().next_expiry()) => expire(&read, &inspector, recorder.metrics()),
                ended = &mut serving => break Some(Complaint::own(format!("the proxy ended: {}", ending(ended)))),
                ended = &mut offering, if !config.portals.is_empty() => {
                    break Some(Complaint::own(format!("a portal ended: {}", ending(ended))));
                }
                () = writer.ended() => break Some(Complaint::own("the ledger's writer ended; events can no longer be kept")),
                ended = &mut narrating, if !narrating.is_finished() => {
                    if let Ok(Err(error)) = ended {
                        tracing::warn!("detections are no longer shown: {error:#}");
                    }
                }
            }
        };
        tracing::info!("stopping: connections may finish");
        service::stopping();
        if let Some(watching) = &watching {
            watching.let_go();
        }
        let _ = stop.send(true);
        if broke.is_none() {
            tokio::select! {
                _ = async { let _ = (&mut serving).await; let _ = (&mut offering).await; } => {}
                // A second signal does not wait for connections; the ledger is flushed all the same.
                () = signals.stop_again() => serving.abort(),
            }
        }
        if let Some(scraping) = scraping {
            scraping.abort();
        }
        reviewing.abort();
        if let Some(own) = own {
            own.abort();
        }
        writer.shutdown().await;
        exports.stop().await;
        narrating.abort();
        broke.map_or(Ok(()), |complaint| Err(complaint.into()))
    })
}

/// Refuses to be an open proxy.
///
/// # Errors
/// When anybody on the network could use it.
pub fn check_listener(config: &Config) -> Result<(), Complaint> {
    let listen = config.proxy.listen;
    if listen.ip().is_loopback() || !config.proxy.users.is_empty() {
        return Ok(());
    }
    Err(Complaint::input(format!(
        "{listen} is reachable from other machines and proxy.users is empty: anybody could send traffic through this host"
    ))
    .next("listen on 127.0.0.1, or list users with passwords under proxy.users in the configuration"))
}

/// What is open and ready, but does not serve yet.
struct Started {
    read: rule_files::RuleText,
    proxy: Proxy,
    metrics: Option<TcpListener>,
    recorder: Arc<Recorder>,
    inspector: Arc<Inspector>,
    writer: Writer,
    stop: watch::Sender<bool>,
    announcement: String,
}

/// How long a gnomon that still writes to the ledger is waited for: one that is about to end takes a moment.
const WRITES_STILL: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

async fn open_ledger(options: &LedgerOptions) -> Result<(Ledger, Writer), LedgerError> {
    let began = Instant::now();
    let mut told = false;
    loop {
        match Ledger::open(options.clone()).await {
            Err(busy @ LedgerError::Busy { .. }) if began.elapsed() < WRITES_STILL => {
                if !told {
                    let _ = writeln!(io::stderr(), "gnomon: {busy}; waiting up to {} s for it to end", WRITES_STILL.as_secs());
                    told = true;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            opened => return opened,
        }
    }
}

async fn start(config: &Config, state_dir: &Path) -> Result<Started> {
    let read = rule_files::RuleText::of(&config.rules)?;
    let rules = Arc::new(read.compile(Lint::Skip)?);
    let inspector = Arc::new(judging::inspector(config, rules.clone())?.enforcing(config.rules.mode));
    let users =
        config.proxy.users.iter().map(|user| Ok(ProxyUser { name: user.name.clone(), password: Secret::new(user.password.fetch()?) }));
    let users = users.collect::<Result<Vec<_>, Complaint>>()?;
    let (ca, provenance) = CertificateAuthority::load_or_create(state_dir)?;
    let fingerprint = ca.fingerprint_sha256();
    for path in &config.proxy.upstream_ca {
        let next = "name existing, readable files in proxy.upstream_ca";
        File::open(path).map_err(|error| Complaint::unreadable(path.display(), path, &error, next))?;
    }
    let metrics = match config.metrics {
        Switch::Off => None,
        Switch::On(address) => Some(listen(address).await?),
    };
    let own_listeners = metrics.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let (ledger, writer) = open_ledger(&ledger_options(config, state_dir)).await?;
    let recorder = Arc::new(Recorder::new(ledger, Metrics::new(&rules, env!("CARGO_PKG_VERSION"))?));
    recorder.metrics().ca_not_after(ca.certificate().not_after().unix_timestamp());
    let options = ProxyOptions {
        listen: config.proxy.listen,
        bypass: config.bypass_hosts(),
        users,
        upstream_ca: config.proxy.upstream_ca.clone(),
        resolve: config.proxy.resolve.iter().map(|resolve| resolve.value.clone()).collect(),
        own_listeners,
        max_connections: config.proxy.max_connections,
        max_connections_per_user: config.max_connections_per_user(),
        ..ProxyOptions::default()
    };
    let proxy = Proxy::bind(options, inspector.clone(), recorder.clone(), Arc::new(ca)).await?;
    let scrape = metrics.as_ref().and_then(|listener| listener.local_addr().ok());
    let ca_file = state_dir.join("ca.pem");
    let announcement = announce(proxy.local_addr(), scrape, &ca_file, (&fingerprint, provenance), rules.rules().len());
    Ok(Started { read, proxy, metrics, recorder, inspector, writer, stop: watch::channel(false).0, announcement })
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let complaint = Complaint::own(format!("cannot listen on {address} for metrics: {error}"));
        let step = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another program (perhaps another gnomon) has it: stop it, or choose another with --metrics, or --metrics off"
            }
            _ => "choose another address with --metrics, or --metrics off",
        };
        complaint.next(step).into()
    })
}

fn ledger_options(config: &Config, state_dir: &Path) -> LedgerOptions {
    let mut options = LedgerOptions::new(ledger_in(state_dir));
    options.jsonl = match &config.events.jsonl {
        Jsonl::Off => JsonlTarget::None,
        Jsonl::Stdout => JsonlTarget::Stdout,
        Jsonl::File(path) => JsonlTarget::File(path.clone()),
    };
    options.retention = Duration::from_secs(config.events.days * DAY);
    options.max_bytes = config.events.max_gib * GIB;
    options
}

/// What a person needs to know to use it, and what it does not do.
fn announce(proxy: SocketAddr, metrics: Option<SocketAddr>, ca: &Path, key: (&str, Provenance), rules: usize) -> String {
    let (fingerprint, provenance) = key;
    let made = match provenance {
        Provenance::Created => "made just now; no client trusts it yet",
        Provenance::Loaded => "as before",
    };
    let ca = ca.display();
    let scrape = metrics.map_or_else(|| "off".to_owned(), |address| format!("http://{address}/metrics"));
    format!(
        "gnomon {version}: inline proxy on {proxy}, {rules} rules\n\
         \x20 CA        {ca} ({made}), SHA-256 {fingerprint}\n\
         \x20 metrics   {scrape}\n\
         \x20 client    HTTPS_PROXY=http://{proxy} HTTP_PROXY=http://{proxy} NODE_EXTRA_CA_CERTS={ca} SSL_CERT_FILE={ca} COMMAND\n\
         \x20           (SSL_CERT_FILE replaces the roots a program knows; `sudo gnomon ca install` adds ours to the system instead)\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// What the configuration says of scopes, a line each.
fn scopes(config: &Config) -> String {
    config.scopes.iter().map(|scope| format!("\x20           {} ({}): {}\n", scope.name, scope.matches, scope.mode.as_str())).collect()
}

/// Puts the rules as they stand on disk into force; the old ones stay when those are bad.
fn reload(config: &Config, read: &mut rule_files::RuleText, inspector: &Inspector, metrics: &Metrics) {
    // Whoever sent the signal or wrote the file looks at the log, so it says what came of it either way.
    let loaded = rule_files::RuleText::of(&config.rules).and_then(|now| now.compile(Lint::Skip).map(|rules| (now, rules)));
    let told = match loaded {
        Ok((now, rules)) => {
            *read = now;
            metrics.rules_replaced(&rules);
            metrics.rules_reloaded(Reload::Success);
            let count = rules.rules().len();
            inspector.replace_rules(Arc::new(rules));
            let hint = match inspector.rules().warnings().len() {
                0 => String::new(),
                warnings => format!("; {warnings} warnings, which `gnomon rules check` shows"),
            };
            format!("rules reloaded: {count} are in force; connections that are open keep theirs{hint}")
        }
        Err(complaint) => {
            metrics.rules_reloaded(Reload::Failure);
            let next = complaint.next.as_ref().map(|next| format!("\n  next: {next}")).unwrap_or_default();
            format!("rules not reloaded, those from before stay in force:\n{complaint}{next}")
        }
    };
    let _ = writeln!(io::stderr(), "gnomon: {told}");
}

/// An exception has ended: the rules in force without it, also where their files are bad by now.
fn expire(read: &rule_files::RuleText, inspector: &Inspector, metrics: &Metrics) {
    // They compiled before, and the clock makes no error.
    let Ok(rules) = read.compile(Lint::Skip) else { return };
    metrics.rules_replaced(&rules);
    inspector.replace_rules(Arc::new(rules));
    let _ = writeln!(io::stderr(), "gnomon: an exception has expired and no longer acts: `gnomon rules list --filters` shows them");
}

/// Until the clock shows this moment. It is looked at often, as clocks are put right.
async fn comes(moment: Option<SystemTime>) {
    let Some(moment) = moment else { return std::future::pending().await };
    while let Ok(left) = moment.duration_since(SystemTime::now()) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(CLOCK)).await;
    }
}

/// Records what the ledger detected by itself.
async fn record_own(mut detections: mpsc::Receiver<Observation>, recorder: Arc<Recorder>) {
    while let Some(seen) = detections.recv().await {
        let class = UNUSUAL_VOLUME.class;
        recorder.report(vec![Sighting { seen, rule: None, action: Action::Log, class, call: 0 }]);
    }
}

/// Shows detections as they become durable. It reads the ledger like anybody else, so a slow
/// terminal holds nothing up.
async fn narrate(ledger: PathBuf, narration: Narration) -> Result<()> {
    if narration == Narration::Silent {
        return Ok(());
    }
    let filter = EventFilter { kinds: vec!["alert".to_owned(), "signal".to_owned()], ..EventFilter::default() };
    let mut follow = Reader::open(&ledger).await?.follow(filter, None).await?;
    loop {
        let events = follow.next().await?;
        let mut out = io::stdout().lock();
        for event in events {
            match narration {
                Narration::Json => writeln!(out, "{}", event.json)?,
                Narration::Lines | Narration::Silent => writeln!(out, "{}", line::with_id(&event.json))?,
            }
        }
        out.flush()?;
    }
}

/// What a signal asks for.
enum Asked {
    Reload,
    Stop,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
        }
    }

    async fn stop_again(&mut self) {
        while let Asked::Reload = self.next().await {}
    }
}

fn ending(ended: Result<(), tokio::task::JoinError>) -> String {
    match ended {
        Ok(()) => "without being asked to".to_owned(),
        Err(error) => error.to_string(),
    }
}
