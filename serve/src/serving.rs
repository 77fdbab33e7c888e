//! A gnomon that serves: its tasks, until it is asked to stop or a part breaks, and how it stops.

use crate::{
    arming::{self, Obeying},
    auditing::Auditing,
    changes::Changes,
    checking::Serves,
    exporting::Exports,
    narrating::{Narrating, Narration, hint},
    portals::Portals,
    reloading::{Ask, Regulating, ReloadLog, RuleKeeping},
    reviewing::Reviewing,
    roads::Roads,
    rule_changes::RuleChanges,
    signals::{Asked, Signals},
    starting::Core,
    stopping::{Phase, Service, Stage, reaches},
    watching::Watching,
};
use anyhow::Result;
use gnomon_cli::{
    Complaint,
    options::{ServeFlags, ledger_in},
};
use gnomon_config::Config;
use gnomon_inspect::Sighting;
use gnomon_intercept::serve_metrics;
use gnomon_ledger::Writer;
use gnomon_observe::{Action, Class, Field, Observation, UNUSUAL_VOLUME};
use gnomon_portal::{Rules, Shelf};
use gnomon_record::Recorder;
use gnomon_supervise::service::{self, Vouching};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::{JoinError, JoinHandle},
    time::{Instant, sleep, timeout},
};

/// The time within which the journal of decisions must have been read, or is read later.
const DECISIONS_WITHIN: Duration = Duration::from_secs(1);
/// The least time between two lines of the log that say that memory is short.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// What gnomon was started with.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    pub flags: &'a ServeFlags,
    pub config: &'a Config,
    pub state_dir: &'a Path,
    pub narration: Narration,
    pub serves: Serves,
}

/// A gnomon that serves.
pub struct Serving {
    signals: Signals,
    /// How far its stop is.
    stop: watch::Sender<Phase>,
    reload: watch::Sender<Ask>,
    /// The proxy; without one, a task that ends when the stop begins.
    serving: JoinHandle<()>,
    offering: JoinHandle<()>,
    has_portals: bool,
    helpers: Helpers,
    narrating: Narrating,
    watching: Option<Watching>,
    auditing: Option<Auditing>,
    exports: Exports,
    writer: Writer,
    recorder: Arc<Recorder>,
    _obeying: Obeying,
    _vouching: Option<Vouching>,
}

/// The tasks beside the work.
struct Helpers {
    keeping: JoinHandle<()>,
    regulating: JoinHandle<()>,
    reviewing: JoinHandle<()>,
    scraping: Option<JoinHandle<()>>,
    own: Option<JoinHandle<()>>,
    looking: JoinHandle<()>,
}

impl Serving {
    /// Opens what is still to be opened, announces it, and serves. `changes` has followed the rules' files since before they were read.
    ///
    /// # Errors
    /// Something cannot be opened.
    pub async fn start(start: Start<'_>, core: Core, roads: Roads, changes: RuleChanges) -> Result<Self> {
        let Start { flags, config, state_dir, narration, serves } = start;
        let Core { read, metrics, recorder, inspector, mut writer, store, descriptors } = core;
        let Roads { proxy, watching, announcement } = roads;
        // Before anything is served.
        let obeying = arming::obey(flags.switch(), inspector.clone(), recorder.clone())?;
        let auditing = match store {
            Some(stored) => Some(Auditing::start(stored, config, state_dir, &recorder).await?),
            None => None,
        };
        let rules = Rules { inspector: inspector.clone(), recorder: recorder.clone() };
        let (audit, owners) = (auditing.as_ref().map(|auditing| &auditing.audit), watching.as_ref().map(Watching::owners));
        let shelf = Shelf::new(config.decided(state_dir));
        let portals = Portals::open(config, state_dir, &rules, audit, owners, &shelf, &descriptors).await?;
        let signals = Signals::new()?;
        let exports = Exports::start(config, state_dir, recorder.metrics().registry())?;
        let vouching = service::vouch(Handle::current())?;
        // To standard error: standard output is for events and detections.
        let hint = hint(&config.rules.packs);
        // In one piece, so that whoever waits for a line reads whole ones.
        gnomon_log::write(&format!("{announcement}{}{hint}", portals.announcement()));
        let (stop, _) = watch::channel(Phase::Serving);
        let asked = |phase| reaches(stop.subscribe(), phase);
        // Before anything is served: what a host was denied before is refused from the first call on. A shared journal that is away takes
        // seconds to be given up, and holds up no start.
        let (looked, has_looked) = oneshot::channel();
        let reviewing = Reviewing::start(config.decided(state_dir), ledger_in(state_dir), (inspector.clone(), shelf), recorder.clone());
        let reviewing = tokio::spawn(reviewing.run(looked));
        let _ = timeout(DECISIONS_WITHIN, has_looked).await;
        let serving = match proxy {
            Some(proxy) => tokio::spawn(proxy.run_until(asked(Phase::Draining), asked(Phase::CutOff))),
            None => tokio::spawn(asked(Phase::Draining)),
        };
        let (reload, asked_for) = watch::channel(Ask::default());
        let log = ReloadLog::default();
        let told = Changes::new(audit.cloned(), recorder.clone());
        let keeping = RuleKeeping {
            rules: config.rules.clone(),
            read,
            state_dir: state_dir.to_path_buf(),
            inspector,
            recorder: recorder.clone(),
            told: told.clone(),
            log: log.clone(),
        };
        let keeping = tokio::spawn(keeping.run(changes, asked_for.clone()));
        let (begun, regulated) = (config.clone(), portals.regulated());
        let regulating = Regulating { begun, flags: flags.clone(), serves, regulated, recorder: recorder.clone(), told, log };
        let regulating = tokio::spawn(regulating.run(asked_for));
        let offering = tokio::spawn(portals.run(stop.subscribe()));
        let scraping = metrics.map(|listener| tokio::spawn(serve_metrics(listener, recorder.clone(), asked(Phase::CutOff))));
        let looking = tokio::spawn(look_at_memory(recorder.clone()));
        let own = writer.take_detections().map(|detections| tokio::spawn(record_own(detections, recorder.clone())));
        Ok(Self {
            signals,
            stop,
            reload,
            serving,
            offering,
            has_portals: !config.portals.is_empty(),
            helpers: Helpers { keeping, regulating, reviewing, scraping, own, looking },
            narrating: Narrating::start(ledger_in(state_dir), narration)?,
            watching,
            auditing,
            exports,
            writer,
            recorder,
            _obeying: obeying,
            _vouching: vouching,
        })
    }

    /// Serves until it is asked to stop, or until a part breaks, which is returned.
    pub async fn until_asked(&mut self) -> Option<Complaint> {
        loop {
            tokio::select! {
                signal = self.signals.next() => match signal {
                    Asked::Reload(by) => {
                        self.reload.send_modify(|ask| *ask = Ask { number: ask.number + 1, by });
                    }
                    Asked::Stop => return None,
                },
                ended = &mut self.serving => return Some(Complaint::own(format!("the proxy ended: {}", ending(ended)))),
                ended = &mut self.offering, if self.has_portals => {
                    return Some(Complaint::own(format!("a portal ended: {}", ending(ended))));
                }
                () = self.writer.ended() => return Some(Complaint::own("the ledger's writer ended; events can no longer be kept")),
                ended = self.narrating.over(), if !self.narrating.is_over() => {
                    if let Err(error) = ended {
                        tracing::warn!("detections are no longer shown: {error:#}");
                    }
                }
            }
        }
    }

    /// Lets work in progress finish, unless something `broke`, and ends all parts in their order.
    pub async fn stop(mut self, broke: Option<&Complaint>) {
        tracing::info!("stopping: connections may finish");
        service::stopping();
        if let Some(watching) = &self.watching {
            watching.let_go();
        }
        // No more reloads.
        self.helpers.regulating.abort();
        let _ = self.stop.send(Phase::Draining);
        let (serving, offering) = (self.serving, self.offering);
        let mut roads = Box::pin(async move {
            for road in [serving, offering] {
                // One that ended by itself was waited for already.
                if !road.is_finished() {
                    let _ = road.await;
                }
            }
        });
        let mut ended = false;
        if broke.is_none() {
            tokio::select! {
                () = &mut roads => ended = true,
                // A second signal does not wait for connections; all duties are recorded and flushed all the same.
                () = self.signals.stop_again() => {}
            }
        }
        let _ = self.stop.send(Phase::CutOff);
        let mut service = Service::default();
        if !ended {
            service.add(Stage::Roads, "proxy and portals", roads);
        }
        self.helpers.add_to(&mut service);
        service.add_duties(self.recorder.duties().clone());
        if let Some(auditing) = self.auditing {
            service.add(Stage::Audit, "audit", auditing.stop());
        }
        service.add(Stage::Ledger, "ledger", self.writer.shutdown());
        service.add(Stage::Readers, "exports", self.exports.stop());
        service.add(Stage::Readers, "narration", self.narrating.stop());
        service.stop().await;
    }
}

impl Helpers {
    fn add_to(self, service: &mut Service) {
        service.add_task(Stage::Helpers, "reviews", self.reviewing);
        service.add_task(Stage::Helpers, "rules", self.keeping);
        service.add_task(Stage::Helpers, "reloads", self.regulating);
        service.add_task(Stage::Helpers, "memory", self.looking);
        if let Some(scraping) = self.scraping {
            service.add_task(Stage::Helpers, "metrics", scraping);
        }
        if let Some(own) = self.own {
            service.add_task(Stage::Helpers, "detections of the ledger", own);
        }
    }
}

/// Looks again and again whether memory is short.
async fn look_at_memory(recorder: Arc<Recorder>) {
    let mut told = None;
    loop {
        sleep(gnomon_memory::EVERY).await;
        if !gnomon_memory::look() {
            continue;
        }
        recorder.metrics().memory_is_short();
        if told.is_none_or(|told: Instant| told.elapsed() > TOLD_AGAIN) {
            told = Some(Instant::now());
            tracing::warn!(
                "memory is short: of {} MiB that this process may have three quarters are used, and clients that take nothing of their answers \
                 for a second lose their connections; raise the limit of its service (MemoryMax=), or lower proxy.max_connections_per_user",
                gnomon_memory::limit() >> 20
            );
        }
    }
}

/// Records the ledger's own detections.
async fn record_own(mut detections: mpsc::Receiver<Observation>, recorder: Arc<Recorder>) {
    while let Some(seen) = detections.recv().await {
        let class = if seen.text(Field::Health).is_some() { Class::Health } else { UNUSUAL_VOLUME.class };
        recorder.report(vec![Sighting { seen, rule: None, action: Action::Log, class, call: 0 }]);
    }
}

fn ending(ended: Result<(), JoinError>) -> String {
    match ended {
        Ok(()) => "without being asked to".to_owned(),
        Err(error) => error.to_string(),
    }
}
