//! A running gnomon: everything wired together, started in an order in which nothing is announced
//! before it works, and stopped so that no acknowledged event is lost.

use crate::{
    arming,
    auditing::Auditing,
    changes::{By, Changes},
    checking::{Serves, check_listener},
    exporting::Exports,
    hangup::{self, Hangup},
    portals::Portals,
    reloading::{Regulating, RuleKeeping},
    reviewing::Reviewing,
    rule_changes::RuleChanges,
    starting::Core,
    stopping::{Phase, Service, Stage, reaches},
    watching::{Sensors, Watching},
};
use anyhow::{Context, Result};
use gnomon_cli::{
    Complaint, line,
    options::{ServeFlags, ledger_in},
};
use gnomon_config::{Config, Jsonl};
use gnomon_inspect::Sighting;
use gnomon_intercept::serve_metrics;
use gnomon_ledger::{EventFilter, Reader};
use gnomon_observe::{Action, Class, Field, Observation, UNUSUAL_VOLUME};
use gnomon_portal::{Rules, Shelf};
use gnomon_record::Recorder;
use gnomon_resident::Idle;
use gnomon_supervise::service;
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};

/// How long threads that block on a file or a system call are waited for at the end.
const LAST: Duration = Duration::from_secs(2);
/// When everything that happens once has happened: servers were asked for their lists.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// How often what was freed is handed back to the system.
const HANDED_BACK: Duration = Duration::from_secs(5);

/// The coverage without a sensor.
const PROXY_ALONE: &str =
    "  scope     sees what clients send through this proxy, and nothing else on this host; nothing is redirected to it\n";
/// The coverage with a sensor.
const WITH_SENSOR: &str = "  scope     sees what clients send through this proxy, and which programs make TLS connections to which hosts;\n\
                         \x20           `gnomon exec -- COMMAND` sends a program's connections through the proxy; nothing else is redirected but by scopes\n";

/// The text on standard output while gnomon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narration {
    /// No output.
    Silent,
    /// A line for each detection.
    Lines,
    /// Each detection as JSON.
    Json,
}

/// The parts that serve.
pub enum Parts {
    /// The inline proxy and the portals; links to sensors come from here, if there are to be any.
    Everything(Option<Sensors>),
    /// The portals alone.
    Portals,
}

/// Runs until SIGTERM or SIGINT, by this configuration; it was settled by `flags`, which hold over what is read again too.
///
/// # Errors
/// Why it could not start, or what broke while it ran.
pub fn run(flags: &ServeFlags, config: &Config, state_dir: &Path, narration: Narration, serving: Parts) -> Result<()> {
    let serves = if let Parts::Portals = serving { Serves::Portals } else { Serves::Everything };
    if serves == Serves::Everything {
        check_listener(config)?;
    }
    // Huge pages would hold four times the memory that is used. Where they cannot be refused they only cost memory.
    let _ = nix::sys::prctl::set_thp_disable(true);
    // Paths are absolute, so that messages can be pasted elsewhere.
    let state_dir = &std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    // Two streams of lines in one output could not be told apart.
    let narration = if config.events.jsonl == Jsonl::Stdout { Narration::Silent } else { narration };
    // Before there are other threads, which have it from this one.
    hangup::hold()?;
    let idle = Idle::every(HANDED_BACK);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().on_thread_park(move || idle.waits()).build()?;
    let ended = runtime.block_on(async {
        // Created to be watched, so that the first exception acts at once. Where it cannot be made, it acts a little later.
        if let Some(folder) = &config.rules.state_triage {
            let _ = fs::create_dir_all(folder);
        }
        // Before the rules are read, so that no change is missed.
        let changes = RuleChanges::of(&config.rules);
        let core = Core::open(config, state_dir, serves).await?;
        let (proxy, watching, announcement) = match serving {
            Parts::Portals => (None, None, portals_alone(config, &core)),
            Parts::Everything(sensors) => {
                let (proxy, announcement) = core.proxy(config, state_dir).await?;
                match sensors {
                    None => (Some(proxy), None, format!("{announcement}{PROXY_ALONE}{}", scopes(config))),
                    Some(sensors) => {
                        let (inspector, recorder) = (core.inspector.clone(), core.recorder.clone());
                        let (proxy, watching) = Watching::start(proxy, sensors, config, inspector, recorder)?;
                        (Some(proxy), Some(watching), format!("{announcement}{WITH_SENSOR}{}", scopes(config)))
                    }
                }
            }
        };
        let Core { read, metrics, recorder, inspector, mut writer, store, descriptors } = core;
        // Before anything is served.
        let _obeying = arming::obey(flags.switch(), inspector.clone(), recorder.clone())?;
        let auditing = match store {
            Some(stored) => Some(Auditing::start(stored, config, state_dir, &recorder).await?),
            None => None,
        };
        let rules = Rules { inspector: inspector.clone(), recorder: recorder.clone() };
        let (audit, owners) = (auditing.as_ref().map(|auditing| &auditing.audit), watching.as_ref().map(Watching::owners));
        let shelf = Shelf::new(config.decided(state_dir));
        let portals = Portals::open(config, state_dir, &rules, audit, owners, &shelf, &descriptors).await?;
        let mut signals = Signals::new()?;
        let exports = Exports::start(config, state_dir, recorder.metrics().registry())?;
        let _vouching = service::vouch(tokio::runtime::Handle::current())?;
        // To standard error: standard output is for events and detections.
        write!(io::stderr(), "{announcement}{}", portals.announcement()).context("writing to standard error")?;
        let (stop, _) = watch::channel(Phase::Serving);
        let asked = |phase| reaches(stop.subscribe(), phase);
        let mut serving = match proxy {
            Some(proxy) => tokio::spawn(proxy.run_until(asked(Phase::Draining), asked(Phase::CutOff))),
            None => tokio::spawn(asked(Phase::Draining)),
        };
        let (reloaded, asked_for) = watch::channel(By::Nobody);
        let told = Changes::new(auditing.as_ref().map(|auditing| auditing.audit.clone()), recorder.clone());
        let keeping = RuleKeeping {
            rules: config.rules.clone(),
            read,
            state_dir: state_dir.clone(),
            inspector: inspector.clone(),
            recorder: recorder.clone(),
            told: told.clone(),
        };
        let keeping = tokio::spawn(keeping.run(changes, asked_for.clone()));
        let (begun, regulated) = (config.clone(), portals.regulated());
        let regulating = Regulating { begun, flags: flags.clone(), serves, regulated, recorder: recorder.clone(), told };
        let regulating = tokio::spawn(regulating.run(asked_for));
        let mut offering = tokio::spawn(portals.run(stop.subscribe()));
        let scraping = metrics.map(|listener| tokio::spawn(serve_metrics(listener, recorder.clone(), asked(Phase::CutOff))));
        let reviewing =
            Reviewing::start(config.decided(state_dir), ledger_in(state_dir), (inspector.clone(), shelf), recorder.clone()).await;
        let reviewing = tokio::spawn(reviewing.run());
        let own = writer.take_detections().map(|detections| tokio::spawn(record_own(detections, recorder.clone())));
        let mut narrating = tokio::spawn(narrate(ledger_in(state_dir), narration));
        service::ready();
        drop(tokio::spawn(settle()));
        let broke = loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Asked::Reload(by) => {
                        let _ = reloaded.send(by);
                    }
                    Asked::Stop => break None,
                },
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
        // No more reloads.
        regulating.abort();
        let _ = stop.send(Phase::Draining);
        let mut service = Service::default();
        let roads = async move {
            for road in [serving, offering] {
                // One that ended by itself was waited for already.
                if !road.is_finished() {
                    let _ = road.await;
                }
            }
        };
        let mut roads = Box::pin(roads);
        let mut ended = false;
        if broke.is_none() {
            tokio::select! {
                () = &mut roads => ended = true,
                // A second signal does not wait for connections; all duties are recorded and flushed all the same.
                () = signals.stop_again() => {}
            }
        }
        let _ = stop.send(Phase::CutOff);
        if !ended {
            service.add(Stage::Roads, "proxy and portals", roads);
        }
        service.add_task(Stage::Helpers, "reviews", reviewing);
        service.add_task(Stage::Helpers, "rules", keeping);
        service.add_task(Stage::Helpers, "reloads", regulating);
        if let Some(scraping) = scraping {
            service.add_task(Stage::Helpers, "metrics", scraping);
        }
        if let Some(own) = own {
            service.add_task(Stage::Helpers, "detections of the ledger", own);
        }
        service.add_duties(recorder.duties().clone());
        if let Some(auditing) = auditing {
            service.add(Stage::Audit, "audit", auditing.stop());
        }
        service.add(Stage::Ledger, "ledger", writer.shutdown());
        service.add(Stage::Readers, "exports", exports.stop());
        service.add_task(Stage::Readers, "narration", narrating);
        service.stop().await;
        broke.map_or(Ok(()), |complaint| Err(complaint.into()))
    });
    // All records are written. A thread that hangs in a system call ends with the process.
    runtime.shutdown_timeout(LAST);
    ended
}

/// Frees memory that only the start needed, some time after it.
async fn settle() {
    tokio::time::sleep(SETTLED_AFTER).await;
    match tokio::task::spawn_blocking(gnomon_resident::give_back_code).await {
        Ok(Ok(bytes)) => tracing::debug!(bytes, "gave back code that only the start needed"),
        Ok(Err(error)) => tracing::debug!("code that only the start needed stays mapped: {error}"),
        Err(_) => {}
    }
}

/// The announcement of a gnomon that serves portals alone; they follow.
fn portals_alone(config: &Config, core: &Core) -> String {
    let count = |number: usize, what| line::counted(u64::try_from(number).unwrap_or(u64::MAX), what);
    let (portals, rules) = (count(config.portals.len(), "portal"), count(core.inspector.rules().rules().len(), "rule"));
    let scrape = core.scraped_at().map_or_else(|| "off".to_owned(), |address| format!("http://{address}/metrics"));
    format!("gnomon {}: {portals}, {rules}\n  metrics   {scrape}\n", env!("CARGO_PKG_VERSION"))
}

/// The configured scopes, a line each.
fn scopes(config: &Config) -> String {
    config
        .sensor
        .scopes
        .iter()
        .map(|scope| format!("\x20           {} ({}): {}\n", scope.name, scope.matches, scope.mode.as_str()))
        .collect()
}

/// Records the ledger's own detections.
async fn record_own(mut detections: mpsc::Receiver<Observation>, recorder: Arc<Recorder>) {
    while let Some(seen) = detections.recv().await {
        let class = if seen.text(Field::Health).is_some() { Class::Health } else { UNUSUAL_VOLUME.class };
        recorder.report(vec![Sighting { seen, rule: None, action: Action::Log, class, call: 0 }]);
    }
}

/// Shows detections as they become durable. It reads the ledger like any other reader, so a slow
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

/// The request of a signal.
enum Asked {
    /// A reload, with the signal's sender.
    Reload(By),
    Stop,
}

struct Signals {
    hangup: Hangup,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { hangup: Hangup::new()?, terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            by = self.hangup.next() => Asked::Reload(by),
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
        }
    }

    async fn stop_again(&mut self) {
        while let Asked::Reload(_) = self.next().await {}
    }
}

fn ending(ended: Result<(), tokio::task::JoinError>) -> String {
    match ended {
        Ok(()) => "without being asked to".to_owned(),
        Err(error) => error.to_string(),
    }
}
