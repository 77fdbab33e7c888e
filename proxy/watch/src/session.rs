//! One sensor, from its welcome to its end: the thread that reads records, the heart, and what is known meanwhile.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use gnomon_inspect::Sighting;
use gnomon_intercept::{ListenerKey, RedirectedListeners};
use gnomon_link::{Adoption, Feature, FeatureState, ListensAnswer, StartAnswer, ToSensor};
use gnomon_observe::{Action, Class, Field, Observation};
use gnomon_sensor::{Decision, Malformed, Owner, Program, Reason, Record, Ring};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::exposure::{DueListens, Exposure};
use crate::heart::Heart;
use crate::homes::Reading;
use crate::identities::{Identities, LookUp, Unknown, Who};
use crate::judge::Judge;
use crate::losses::Losses;
use crate::metrics::{Shed, WatchMetrics};
use crate::questions::Questions;
use crate::records::{Due, Records};
use crate::starts::Starts;

/// Longest that records stay unread: the kernel half wakes the reader for hellos, and leaves the rest to this.
const LOOK: Duration = Duration::from_millis(50);

/// The minor version since which the sensor opens listeners in the namespaces of given programs.
const SINCE_LISTEN_WHERE: u16 = 3;
/// The minor version since which the sensor says where processes listen.
const SINCE_LISTENS: u16 = 6;
/// The minor version since which it answers without the digest of a file.
const SINCE_SOON: u16 = 7;
/// The time within which most files are digested: their digest is waited for.
const PROMPT: Duration = Duration::from_millis(50);
/// The interval of requests for listeners in one network namespace, and the most namespaces at a time.
const ASKED_AGAIN: Duration = Duration::from_secs(2);
const MOST_ASKED: usize = 1024;

/// The receiver of listeners, and those that it has received.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    pub to: Option<RedirectedListeners>,
    /// The namespace that the proxy itself is in.
    pub own: Option<u64>,
    pub keys: Vec<ListenerKey>,
}

pub(crate) struct Session {
    pub identities: Identities,
    pub metrics: WatchMetrics,
    pub questions: Questions,
    /// Messages to the sensor.
    pub ask: mpsc::Sender<ToSensor>,
    /// Attempts that were refused, as nobody answered at their address a moment ago.
    refused: mpsc::Sender<Owner>,
    pub listening: Mutex<Listening>,
    /// The home directories that are being read.
    pub homes: Reading,
    /// Detection of lost owners.
    pub losses: Losses,
    /// The port where programs ask the proxy themselves; 0: any.
    explicit_port: u16,
    /// The minor version of the protocol that the sensor speaks.
    minor: AtomicU16,
    /// The sensor's features as last reported.
    features: Mutex<BTreeMap<String, FeatureState>>,
    judge: Arc<Judge>,
    starts: Starts,
    exposure: Exposure,
    /// How long what was started waits until it is known who it is.
    patience: Duration,
    records: Mutex<Records>,
    /// The network namespaces that listeners were requested for, and when.
    asked: Mutex<HashMap<u64, Instant>>,
    heart: Heart,
    tasks: Mutex<Vec<AbortHandle>>,
    /// Set once gnomon itself is on its way out: then the end of the sensor is nothing to tell.
    leaving: AtomicBool,
    ended: AtomicBool,
    ending: Once,
    over: watch::Sender<bool>,
}

impl Session {
    pub fn new(
        identities: Identities,
        (ask, refused): (mpsc::Sender<ToSensor>, mpsc::Sender<Owner>),
        records: Records,
        judge: Arc<Judge>,
        metrics: WatchMetrics,
        (heart, explicit_port): (Heart, u16),
        (starts, patience): (Starts, Duration),
    ) -> Self {
        Self {
            exposure: Exposure::new(ask.clone(), metrics.clone()),
            identities,
            metrics,
            questions: Questions::default(),
            ask,
            refused,
            listening: Mutex::default(),
            homes: Reading::default(),
            losses: Losses::new(Instant::now()),
            explicit_port,
            minor: AtomicU16::new(0),
            features: Mutex::default(),
            judge,
            starts,
            patience,
            records: Mutex::new(records),
            asked: Mutex::default(),
            heart,
            tasks: Mutex::default(),
            leaving: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            ending: Once::new(),
            over: watch::channel(false).0,
        }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock()
    }

    /// Starts the thread that reads records; it ends with the session.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn read(self: &Arc<Self>, mut ring: Ring) -> std::io::Result<()> {
        let session = self.clone();
        let read = move || {
            // However this ends: the heart must not beat when records are not read.
            let session = EndsWith(session);
            let mut looked = Instant::now();
            while !session.0.has_ended() {
                if let Err(error) = ring.wait(LOOK) {
                    tracing::error!(%error, "the sensor's records cannot be read any more");
                    return;
                }
                ring.drain(|record| session.0.take(record, Instant::now()));
                // Woken at every hello under load, it looks at those that wait less often than that.
                if looked.elapsed() >= LOOK / 2 {
                    looked = Instant::now();
                    session.0.look(looked);
                }
            }
        };
        thread::Builder::new().name("gnomon-records".to_owned()).spawn(read).map(drop)
    }

    /// Takes the sensor's features, reported unasked: each that was lost or regained while it ran becomes an event, as the loss would go
    /// unnoticed.
    pub fn changed(&self, features: &[Feature]) {
        let mut known = self.features.lock();
        for feature in features {
            let before = known.insert(feature.name.to_string(), feature.state);
            let name = &*feature.name;
            match (before, feature.state) {
                (Some(FeatureState::Ok), FeatureState::Broken) => {
                    self.metrics.reduced();
                    self.tell("sensor_reduced", format!("{name}: {}", &*feature.reason));
                }
                (Some(FeatureState::Broken), FeatureState::Ok) => self.tell("sensor_whole", format!("{name}: attached again")),
                _ => {}
            }
        }
    }

    /// Records the adoption of programs of `gnomon exec` that ran on while there was no sensor.
    pub fn left(&self, cgroup: &str, adoption: &Adoption) {
        self.metrics.left(adoption);
        if let Adoption::Lost(why) = adoption {
            let why = &**why;
            tracing::error!(cgroup, why, "programs of gnomon exec go around the proxy");
            self.tell("exec_scope_lost", format!("programs in {cgroup} go around the proxy until they are started again: {why}"));
        }
    }

    /// Takes the features that the sensor began with.
    pub fn began(&self, minor: u16, features: &[Feature]) {
        self.minor.store(minor, Ordering::Release);
        if let Some(absent) = self.metrics.began(features) {
            let ms = absent.as_millis();
            tracing::warn!(ms, "a sensor is there again");
            self.tell(
                "sensor_back",
                format!(
                    "a sensor is there again: for {ms} ms what did not come to the proxy by itself was not seen, and nothing was redirected"
                ),
            );
        }
        let known = features.iter().map(|feature| (feature.name.to_string(), feature.state)).collect();
        *self.features.lock() = known;
    }

    /// True if the sensor speaks this minor version of the protocol.
    pub fn speaks(&self, minor: u16) -> bool {
        !self.has_ended() && self.minor.load(Ordering::Acquire) >= minor
    }

    /// True if the kernel half lacks a part without which no connection has an owner.
    pub fn tells_no_owners(&self) -> bool {
        let features = self.features.lock();
        let parts = [Program::Connect4, Program::Connect6, Program::SockOps, Program::Sockopt];
        parts.iter().any(|part| features.get(part.name()).is_some_and(|state| *state != FeatureState::Ok))
    }

    /// True if the sensor can open sockets as other users.
    pub fn acts_as_users(&self) -> bool {
        let features = self.features.lock();
        ["cap_setuid", "cap_setgid"].iter().all(|name| features.get(*name) == Some(&FeatureState::Ok))
    }

    fn tell(&self, health: &'static str, message: String) {
        let mut seen = Observation::new();
        seen.set(Field::Health, health);
        seen.set(Field::Action, Action::Log.as_str());
        seen.set(Field::DetectionClass, Class::Health.as_str());
        seen.set(Field::Message, message);
        self.judge.recorder.report(vec![Sighting { seen, rule: None, action: Action::Log, class: Class::Health, call: 0 }]);
    }

    /// Processes one record of the kernel half.
    pub fn take(&self, record: Result<Record<'_>, Malformed>, now: Instant) {
        let due = match record {
            // It never became a connection.
            Ok(Record::Connect(connect)) if connect.decision == Decision::FailedLately => {
                let _ = self.refused.try_send(connect.owner);
                None
            }
            Ok(Record::Connect(connect)) => {
                if let Decision::FailOpen(Reason::NoListener) | Decision::FailClosed(Reason::NoListener) = connect.decision {
                    self.listen_where(&connect.owner, now);
                }
                let port = connect.owner.original.port();
                if connect.decision == Decision::Redirected || self.explicit_port == 0 || port == self.explicit_port {
                    self.losses.filed(now);
                }
                // Asked in advance: the answer is mostly there when it is needed.
                let _ = self.identities.look_up(&connect.owner);
                self.records().connect(connect, now)
            }
            Ok(Record::Hello(hello)) => {
                let due = self.records().hello(&hello);
                due.and_then(|due| match self.identities.look_up(&due.owner) {
                    LookUp::Ready(_) => Some(due),
                    LookUp::Pending(_) => self.records().wait(due, now),
                })
            }
            Ok(Record::Close(close)) => self.records().close(&close),
            Ok(Record::Start(start)) => {
                self.identities.starts(&start);
                self.starts.take(start, &self.identities, now);
                None
            }
            Err(_) => {
                self.losses.unfiled(now);
                self.metrics.shed(Shed::Record, 1);
                None
            }
        };
        if let Some(due) = due {
            self.judge(&due);
        }
    }

    /// The cookie of a network namespace, unless it is the one that the proxy is in, or is not known.
    pub fn elsewhere(&self, netns: u64) -> Option<u64> {
        Some(netns).filter(|netns| *netns != 0 && self.listening.lock().own != Some(*netns))
    }

    /// Asks for listeners in the namespace of a program that is to be redirected and has none.
    fn listen_where(&self, owner: &Owner, now: Instant) {
        let own = self.listening.lock().own;
        // Our own namespace has them soon, or has lost them for good. Kernels that know no cookies name none.
        if owner.netns == 0 || own.is_none_or(|own| own == owner.netns) || !self.speaks(SINCE_LISTEN_WHERE) {
            return;
        }
        let mut asked = self.asked.lock();
        if asked.len() >= MOST_ASKED {
            asked.retain(|_, at| now.duration_since(*at) < ASKED_AGAIN);
        }
        if asked.len() >= MOST_ASKED || asked.get(&owner.netns).is_some_and(|at| now.duration_since(*at) < ASKED_AGAIN) {
            return;
        }
        // A link that is busy is tried again with the next connection.
        if self.ask.try_send(ToSensor::ListenWhere { netns_cookie: owner.netns, pid: owner.pid }).is_ok() {
            asked.insert(owner.netns, now);
        }
    }

    /// Judges what need not wait any longer.
    pub fn look(&self, now: Instant) {
        let is_known = |owner: &Owner| matches!(self.identities.look_up(owner), LookUp::Ready(_));
        let due = self.records().due(now, is_known);
        due.iter().for_each(|due| self.judge(due));
        for (due, who) in self.starts.due(&self.identities, now) {
            self.not_asked(&who);
            self.judge.start(&due, &who);
            if self.speaks(SINCE_LISTENS) {
                self.exposure.watch(due, who, now);
            }
        }
        self.exposure.look(&self.identities, now);
    }

    /// The sensor said what was started.
    pub fn started(&self, token: u64, found: StartAnswer) {
        self.starts.answer(token, found, &self.identities, self.patience, Instant::now());
    }

    /// The sensor said where a server listens.
    pub fn listens(&self, token: u64, found: ListensAnswer) {
        if let Some(DueListens { due, who, at }) = self.exposure.answer(token, found, Instant::now()) {
            self.judge.listens(&due, &who, &at);
        }
    }

    /// The sensor will not say what was started, or where it listens. True if that was asked.
    pub fn start_refused(&self, token: u64) -> bool {
        self.starts.refused(token) || self.exposure.refused(token, Instant::now())
    }

    /// Gives up on what the sensor has not answered in time.
    pub fn give_up_late(&self) {
        self.identities.give_up_late();
        self.starts.give_up_late(Instant::now());
        self.exposure.give_up_late(Instant::now());
    }

    fn judge(&self, due: &Due) {
        let who = match self.identities.look_up(&due.owner) {
            LookUp::Ready(who) => who,
            LookUp::Pending(_) => Who::Unknown(Unknown::Late),
        };
        self.not_asked(&who);
        self.judge.judge(due, &who, self.identities.started_as(&due.owner).as_deref());
    }

    /// The identity behind a connection, if it is known within the time given.
    pub async fn who(&self, owner: &Owner, within: Duration) -> Who {
        let who = tokio::time::timeout(within, self.waited_for(owner)).await.unwrap_or(Who::Unknown(Unknown::Late));
        self.not_asked(&who);
        who
    }

    /// The same, without the digest of its file where that takes long to make.
    pub async fn who_soon(&self, owner: &Owner, within: Duration) -> Who {
        let end = Instant::now() + within;
        if !self.speaks(SINCE_SOON) {
            return self.who(owner, within).await;
        }
        if let Ok(who) = tokio::time::timeout(PROMPT.min(within), self.waited_for(owner)).await {
            self.not_asked(&who);
            return who;
        }
        let left = end.saturating_duration_since(Instant::now());
        let Some(soon) = self.identities.ask_soon(owner) else { return self.who(owner, left).await };
        tokio::select! {
            who = self.who(owner, left) => who,
            Ok(who @ Who::Known(_)) = soon => who,
        }
    }

    /// The identity behind a connection.
    async fn waited_for(&self, owner: &Owner) -> Who {
        loop {
            match self.identities.look_up(owner) {
                LookUp::Ready(who) => return who,
                // An error means that the sensor is gone, which the next look tells as well.
                LookUp::Pending(mut answered) => {
                    let _ = answered.changed().await;
                }
            }
        }
    }

    /// Counts identities that were not looked up.
    fn not_asked(&self, who: &Who) {
        if matches!(who, Who::Unknown(Unknown::Late | Unknown::Busy)) {
            self.metrics.identity(who);
        }
    }

    pub fn served(&self, cookie: u64) {
        self.records().served(cookie);
    }

    /// Runs a task until the session ends.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(task).abort_handle();
        let mut tasks = self.tasks.lock();
        if self.has_ended() {
            handle.abort();
        } else {
            tasks.push(handle);
        }
    }

    pub fn counting(&self) -> impl Future<Output = ()> + Send + use<> {
        self.heart.counting()
    }

    /// Stops redirection, for good.
    pub fn let_go(&self) {
        self.leaving.store(true, Ordering::Release);
        self.heart.stop();
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends it. Flows that are not judged by now are not. It has ended when this returns, whoever else ends it at the same time: the next
    /// one counts in the same metrics.
    pub fn end(&self) {
        self.ending.call_once(|| self.end_once());
    }

    fn end_once(&self) {
        self.ended.store(true, Ordering::Release);
        self.heart.stop();
        self.identities.close();
        self.questions.close();
        self.homes.close();
        self.metrics.ended();
        if !self.leaving.load(Ordering::Acquire) {
            self.metrics.missed();
            self.tell(
                "sensor_gone",
                "the sensor has ended: until there is another, what does not come to the proxy by itself is not seen, and nothing is redirected".to_owned(),
            );
        }
        for task in std::mem::take(&mut *self.tasks.lock()) {
            task.abort();
        }
        let listening = std::mem::take(&mut *self.listening.lock());
        if let Some(to) = listening.to {
            listening.keys.into_iter().for_each(|key| to.remove(key));
        }
        self.over.send_replace(true);
    }

    pub fn over(&self) -> watch::Receiver<bool> {
        self.over.subscribe()
    }
}

/// Ends a session when the thread that reads for it does.
struct EndsWith(Arc<Session>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.end();
    }
}
