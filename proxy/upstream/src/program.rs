//! A server that is a program on this host: started when it is needed, spoken to over standard input and output, ended
//! with everything that it started.
//!
//! A server with sessions is run **once for each session** (and once for gnomon itself, for its lists): servers on
//! standard input and output are written for one client, which says `initialize` once and whose questions they ask back.
//! Were one process shared, what it keeps in mind would be everybody's, and one call that ends it would end all. A server
//! of the stateless era keeps nothing of its callers, so all of them share one process. How many may run is bounded;
//! beyond that the one that rested longest goes.
//!
//! The process started here is `gnomon-confine`'s keeper, which confines the program; this file knows only that its first line on
//! standard error says whether it could.

mod instance;
mod layers;
mod lines;
mod speech;
mod starts;

use crate::{
    error::UpstreamError,
    legacy::{Client, LegacySession, Line as Way},
    modern::{ModernLine, ModernPeer},
    owner::Owner,
    pipe::Pipe,
    unfinished::Account,
};
use gnomon_confine::{Layer, Missing, Report, Weight};
use gnomon_shares::{Bounds, Share, Turns};
use instance::{Activity, Instance};
use layers::Shown;
use lines::{Line, Lines};
use parking_lot::Mutex;
use smol_str::SmolStr;
use speech::Veil;
use starts::Starts;
use std::{
    collections::HashMap,
    ffi::OsString,
    os::unix::process::ExitStatusExt as _,
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{process::Command, sync::watch, task::JoinSet};

pub use layers::ServerLayers;

/// The timeout of confining the program: its file is hashed.
const CONFINED_WITHIN: Duration = Duration::from_secs(20);
/// How long a server may take to answer whether it is of the stateless era, before it is treated as one of the older.
const PROBE: Duration = Duration::from_secs(8);
/// Longest first line on standard error, bytes.
const REPORT: usize = 64 << 10;
/// The rest after which an instance is ended for another session.
const RESTS: Duration = Duration::from_secs(30);
/// The timeout of that.
const PLACE_WITHIN: Duration = Duration::from_secs(8);

/// How long its last output is waited for, once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The eras of a program as far as they are known.
const UNKNOWN: u8 = 0;
const OLDER: u8 = 1;

/// How a program is run.
#[derive(Clone, Debug)]
pub struct ProgramOptions {
    /// The id of its server.
    pub id: SmolStr,
    /// The command that confines the program and then becomes it, with all arguments.
    pub command: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The secrets that must not be in the log.
    pub secrets: Vec<String>,
    /// Bounds.
    pub limits: ProgramLimits,
    /// The metrics of what confines it.
    pub layers: Option<ServerLayers>,
}

/// Bounds of a program.
#[derive(Clone, Copy, Debug)]
pub struct ProgramLimits {
    /// The longest silence while an answer is waited for.
    pub patience: Duration,
    /// Longest message, bytes.
    pub message: usize,
    /// The most instances at a time.
    pub instances: usize,
    /// The longest time that one may be idle before it is ended.
    pub idle: Duration,
    /// How long one may take to end after it was asked to, each of the two times.
    pub grace: Duration,
}

impl Default for ProgramLimits {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(120),
            message: 16 << 20,
            instances: 16,
            idle: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(2),
        }
    }
}

/// A program and all its processes.
pub struct Program {
    options: ProgramOptions,
    starts: Mutex<Starts>,
    room: Turns,
    running: Mutex<HashMap<u32, Running>>,
    era: AtomicU8,
    /// A process that answered, but not as the stateless era does: it is spoken to in the older era next.
    spare: Mutex<Option<Arc<Pipe>>>,
    stopping: watch::Sender<Stopping>,
    /// The missing layers of confinement, as last logged.
    told: Mutex<Option<String>>,
    /// The last output of the last process that ended by itself.
    last_words: watch::Sender<Option<String>>,
    _shown: Option<Shown>,
}

/// A process that is spoken to.
struct Running {
    pipe: Weak<Pipe>,
    activity: Arc<Activity>,
    /// The principal whose share it takes.
    holder: Arc<str>,
}

/// The stage of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    Yes,
}

/// A process whose call goes on cannot be ended for others: so a quarter is set aside, which one caller's calls never take.
fn places(all: usize) -> Bounds {
    Bounds { all, each: all - all / 4, times_free: 0 }
}

impl Program {
    /// A program that does not run yet.
    #[must_use]
    pub fn new(options: ProgramOptions) -> Arc<Self> {
        Arc::new(Self {
            room: Turns::of(places(options.limits.instances), options.limits.instances, PLACE_WITHIN),
            _shown: options.layers.as_ref().map(|layers| layers.shown(&options.id)),
            options,
            starts: Mutex::default(),
            running: Mutex::default(),
            era: AtomicU8::new(UNKNOWN),
            spare: Mutex::default(),
            stopping: watch::Sender::new(Stopping::No),
            told: Mutex::default(),
            last_words: watch::Sender::new(None),
        })
    }

    /// Whether it has sessions, each with a process of its own, as far as is known.
    pub(crate) fn has_sessions(&self) -> bool {
        self.era.load(Ordering::Acquire) == OLDER
    }

    /// How long it may say nothing while it is waited for.
    pub(crate) fn patience(&self) -> Duration {
        self.options.limits.patience
    }

    /// The longest that a process has owed an answer without a word.
    pub(crate) fn longest_silence(&self) -> Duration {
        self.owing(Duration::ZERO).into_iter().map(|(_, activity)| activity.silent()).max().unwrap_or_default()
    }

    /// The same, of processes that have been silent for longer than `quiet` and do not answer within `patience` whether they are there;
    /// none where all do.
    pub(crate) async fn silence(&self, quiet: Duration, patience: Duration) -> Option<Duration> {
        let mut asked = JoinSet::new();
        for (pipe, activity) in self.owing(quiet) {
            asked.spawn(async move {
                let silent = pipe.has_spoken() && !pipe.is_there(patience).await;
                // It may have been heard meanwhile.
                silent.then(|| activity.silent()).filter(|silence| *silence > quiet)
            });
        }
        asked.join_all().await.into_iter().flatten().max()
    }

    /// The processes that owe an answer, and have for longer than this.
    fn owing(&self, than: Duration) -> Vec<(Arc<Pipe>, Arc<Activity>)> {
        let running = self.running.lock();
        let owing = running.values().filter_map(|one| Some((one.pipe.upgrade().filter(|pipe| pipe.owes())?, one.activity.clone())));
        owing.filter(|(_, activity)| activity.silent() > than).collect()
    }

    /// What a process of it said at its end that ended by itself: without secrets, for whoever runs it. Waited for as long as it may
    /// take to be read.
    pub async fn last_words(&self) -> Option<String> {
        let mut said = self.last_words.subscribe();
        let said = tokio::time::timeout(LAST_WORDS + LAST_WORDS / 2, said.wait_for(Option::is_some)).await;
        said.ok().and_then(Result::ok).and_then(|said| said.clone())
    }

    /// Ends all of its processes, and starts no other. Returns when none is left.
    pub async fn stop(&self) {
        self.stopping.send_replace(Stopping::Yes);
        self.spare.lock().take();
        // Each holds a place until nothing of it is left; the last resort in that is `SIGKILL`.
        let room = self.room.places();
        loop {
            let mut freed = pin!(room.freed());
            freed.as_mut().enable();
            if room.all_held() == 0 {
                return;
            }
            freed.await;
        }
    }

    /// The server as one of the stateless era.
    pub(crate) async fn modern(self: &Arc<Self>, client: &Client) -> Result<ModernPeer, UpstreamError> {
        if self.era.load(Ordering::Acquire) == OLDER {
            return Err(UpstreamError::Protocol("it is of the era with sessions".to_owned()));
        }
        let pipe = self.start(Owner::OWN).await?;
        let asked = tokio::time::timeout(PROBE, ModernPeer::discover(ModernLine::Pipe(pipe.clone()), client)).await;
        let found = asked.unwrap_or(Err(UpstreamError::Timeout(PROBE)));
        if found.is_err() && !pipe.is_closed() {
            *self.spare.lock() = Some(pipe);
        }
        found
    }

    /// A session with a process of its own.
    pub(crate) async fn legacy(self: &Arc<Self>, client: &Client, owner: Owner<'_>) -> Result<Arc<LegacySession>, UpstreamError> {
        let spare = self.spare.lock().take().filter(|pipe| !pipe.is_closed());
        let pipe = match spare {
            Some(pipe) => pipe,
            None => self.start(owner).await?,
        };
        let opened = LegacySession::open(Way::Pipe(pipe), client).await;
        // A server of both eras is asked for the newer one again; one that refuses may have been replaced by a newer.
        self.era.store(if opened.is_ok() { OLDER } else { UNKNOWN }, Ordering::Release);
        opened
    }

    /// Starts a process and gives the line to it.
    async fn start(self: &Arc<Self>, owner: Owner<'_>) -> Result<Arc<Pipe>, UpstreamError> {
        self.starts.lock().check(owner.ends, Instant::now())?;
        let place = self.place(owner.holder).await?;
        if *self.stopping.borrow() == Stopping::Yes {
            return Err(UpstreamError::NotStarted("it is about to end".to_owned()));
        }
        match self.spawn(place, owner.ends).await {
            Ok(pipe) => {
                self.starts.lock().begun();
                Ok(pipe)
            }
            Err(told) => {
                self.starts.lock().refused(Instant::now(), &told);
                Err(UpstreamError::NotStarted(told))
            }
        }
    }

    /// A place for one more. If there is none, the process idle longest is ended; for an owner with less than an eighth, an idle one of the
    /// owner with most, or the place waits for the next that ends.
    async fn place(&self, owner: &str) -> Result<Share, UpstreamError> {
        let (owner, places) = (owner.into(), self.room.places());
        if let Ok(place) = places.take(&owner) {
            return Ok(place);
        }
        let has_little = places.held_by(&owner) < places.bounds().while_waited();
        let resting = self.resting(has_little);
        if let Some(pipe) = &resting {
            pipe.close();
        }
        if (has_little || resting.is_some())
            && let Ok(place) = self.room.take(&owner).await
        {
            return Ok(place);
        }
        let (most, each) = (self.options.limits.instances, places.bounds().each);
        if places.held_by(&owner) >= each && each < most {
            return Err(UpstreamError::NotStarted(format!(
                "{each} sessions of yours use it already, and the rest of {most} is for others; end one, or try again later"
            )));
        }
        Err(UpstreamError::NotStarted(format!("{most} sessions use it already, which is as many as may; try again later")))
    }

    /// The process to end: the one idle longest, and long enough; else, for an owner with few, one of the owner with most, if that is more
    /// than an eighth.
    fn resting(&self, has_little: bool) -> Option<Arc<Pipe>> {
        let places = self.room.places();
        let running = self.running.lock();
        let resting = running.values().filter_map(|one| Some((one.pipe.upgrade()?, one.activity.rested(), &one.holder)));
        let resting: Vec<_> = resting.filter(|(pipe, ..)| !pipe.is_busy()).collect();
        let long = resting.iter().filter(|(_, rested, _)| *rested >= RESTS).max_by_key(|(_, rested, _)| *rested);
        let much = |holder: &str| Some(places.held_by(holder)).filter(|held| *held > places.bounds().while_waited());
        let of_much = resting.iter().filter(|_| has_little).filter_map(|one| Some((much(one.2)?, one.1, one)));
        let found = long.or_else(|| of_much.max_by_key(|(held, rested, _)| (*held, *rested)).map(|(.., one)| one));
        found.map(|(pipe, ..)| pipe.clone())
    }

    /// Starts a process; the error is a text for a client.
    async fn spawn(self: &Arc<Self>, place: Share, owner: &str) -> Result<Arc<Pipe>, String> {
        let id = &self.options.id;
        let failed = |why: &dyn std::fmt::Display| {
            tracing::warn!(server = %id, "cannot be started: {why}");
            "it cannot be started".to_owned()
        };
        let (program, arguments) = self.options.command.split_first().ok_or_else(|| failed(&"no command"))?;
        let mut command = Command::new(program);
        // The name in a list of processes; the program behind it shows its own.
        command.arg0("gnomon").args(arguments).env_clear().envs(self.options.environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The terminal's signals are for gnomon.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let veil = Veil::new(self.options.secrets.clone());
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(failed(&"no pipes"));
        };
        // If this is cancelled, the pipes are closed, which ends the processes behind them.
        let mut said = Lines::new(stderr, REPORT.max(veil.reach()), &Account::of(id));
        let first = tokio::time::timeout(CONFINED_WITHIN, said.next()).await;
        let first = match first {
            Err(_) => return Err(failed(&format_args!("it was not confined within {CONFINED_WITHIN:?}"))),
            Ok(Ok(Some(Line::Whole(line) | Line::Cut(line)))) => line,
            Ok(_) => return Err(failed(&"it ended before it was confined")),
        };
        match std::str::from_utf8(&first).ok().and_then(Report::read) {
            Some(Report::Ready { layers, missing }) => self.tell(&layers, &missing),
            Some(Report::Refused(refusal)) => {
                tracing::error!(server = %id, "is not started: {refusal}");
                return Err(refusal.told);
            }
            None => return Err(failed(&veil.line(&first))),
        }
        let (pipe, outgoing) = Pipe::to_program(self.options.limits.patience);
        let instance = Instance::new(child, stdin, stdout, outgoing, &pipe, &self.options);
        let number = instance.number();
        let holder = place.principal().clone();
        self.running.lock().insert(number, Running { pipe: Arc::downgrade(&pipe), activity: instance.activity(), holder });
        if let Some(metric) = &self.options.layers {
            metric.runs(id);
        }
        // It ends as the last process closes its standard error, and is waited for below.
        let overheard = tokio::spawn(speech::overhear(id.clone(), veil, said));
        let (program, owner, begun) = (self.clone(), SmolStr::new(owner), Instant::now());
        let mut stopping = self.stopping.subscribe();
        // It ends with the process. `stop` waits for it by the place that it holds until then.
        tokio::spawn(async move {
            let stopped = async move {
                let _ = stopping.wait_for(|stopping| *stopping == Stopping::Yes).await;
            };
            let (why, status) = instance.run(stopped).await;
            program.running.lock().remove(&number);
            if let Some(metric) = &program.options.layers {
                metric.ended(&program.options.id);
            }
            // Another process may hold the other end, if even the keeper was ended by force.
            let last = tokio::time::timeout(LAST_WORDS, overheard).await.ok().and_then(Result::ok).flatten();
            let id = &program.options.id;
            if why.is_ours() {
                tracing::debug!(server = %id, "ended: {why}, {}", shown(status));
            } else {
                program.starts.lock().ended(&owner, Instant::now(), begun.elapsed());
                if last.is_some() {
                    program.last_words.send_replace(last.clone());
                }
                let last = last.map(|last| format!("; it said at its end: {last}")).unwrap_or_default();
                tracing::warn!(server = %id, "ended: {why}, {}{last}", shown(status));
            }
            drop(place);
        });
        Ok(pipe)
    }

    /// Logs what confines it: as a warning where something is missing, and once where nothing changes.
    fn tell(&self, layers: &[Layer], missing: &[Missing]) {
        let id = &self.options.id;
        if let Some(metric) = &self.options.layers {
            metric.tell(id, layers, missing);
        }
        let held = layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let without = missing.iter().map(|missing| format!("{} ({})", missing.layer, missing.why)).collect::<Vec<_>>().join(", ");
        let mut told = self.told.lock();
        if told.as_ref() == Some(&without) {
            return;
        }
        if without.is_empty() {
            tracing::info!(server = %id, "is confined by {held}");
        } else if missing.iter().all(|missing| missing.weight == Weight::Ordinary) {
            tracing::info!(server = %id, "is confined by {held}; not by {without}");
        } else {
            tracing::warn!(server = %id, "is confined by {held}; not by {without}");
        }
        *told = Some(without);
    }
}

/// How a process ended, as a keeper hands it on.
fn shown(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), status.signal())) {
        None => "and how is not known".to_owned(),
        Some((Some(code), _)) if code > 128 => format!("by signal {}", code - 128),
        Some((Some(code), _)) => format!("exit code {code}"),
        Some((None, signal)) => format!("by signal {}", signal.unwrap_or_default()),
    }
}
