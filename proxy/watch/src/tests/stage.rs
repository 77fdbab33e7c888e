//! A watch with a sensor that is played, and what came of it.

use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{Bounds, Inspector, Surroundings};
use gnomon_ledger::{JsonlTarget, Ledger, LedgerCounts, LedgerOptions, Writer};
use gnomon_link::{
    Ancestor, AsyncChannel, Channel, CommandLine, Container, Credentials, Executable, GenerationEvidence, Identity, IdentityAnswer, Image,
    List, Name, NameOrigin, SensorEnd, Text, ToProxy, ToSensor,
};
use gnomon_packs::HostCatalogue;
use gnomon_record::{Metrics, Recorder};
use gnomon_sensor::{Owner, Record};
use serde_json::Value;
use tempfile::TempDir;

use super::raw::Call;
use crate::session::Session;
use crate::{Watch, WatchMetrics, WatchOptions};

pub const SOON: Duration = Duration::from_secs(10);
const PAGE: u64 = 4096;
pub const RING: u32 = 1 << 16;

/// What the played sensor answers: messages with their descriptors.
pub type Answers = Vec<(ToProxy, Vec<OwnedFd>)>;

pub struct Stage {
    pub watch: Arc<Watch>,
    pub recorder: Arc<Recorder>,
    pub sensor: Sensor,
    pub owner: Arc<Mutex<Option<Owner>>>,
    writer: Option<Writer>,
    folder: TempDir,
}

/// The other end of the link, and the maps that it handed over.
pub struct Sensor {
    pub end: Arc<SensorEnd>,
    pub ring: File,
    pub heartbeat: File,
    pub asked: mpsc::Receiver<ToSensor>,
    thread: Option<JoinHandle<()>>,
}

impl Stage {
    /// With the rules that ship, and these of an administrator.
    pub async fn new(rules: &[&str], script: impl FnMut(ToSensor) -> Answers + Send + 'static) -> Self {
        Self::with(rules, WatchOptions { own_pid: Some(1), redirecting: vec![7], ..WatchOptions::default() }, script).await
    }

    pub async fn with(rules: &[&str], options: WatchOptions, script: impl FnMut(ToSensor) -> Answers + Send + 'static) -> Self {
        let packs = gnomon_packs::packs().iter().filter(|pack| ["shadow-mcp", "local-servers"].contains(&pack.name));
        let mut sources: Vec<Source> = packs
            .flat_map(gnomon_packs::Pack::files)
            .map(|(name, text)| Source { name, text: text.to_owned(), origin: Origin::Vendor })
            .collect();
        sources.extend(rules.iter().map(|text| Source { name: "own.yml".into(), text: (*text).to_owned(), origin: Origin::Admin }));
        let rules = Arc::new(RuleSet::compile(&sources).unwrap());
        let surroundings = Surroundings { catalogue: HostCatalogue::shipped().unwrap(), ..Surroundings::default() };
        let inspector = Arc::new(Inspector::new(rules.clone(), surroundings, Bounds::default()));
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = LedgerOptions::new(folder.path().join("ledger.sqlite"));
        ledger.jsonl = JsonlTarget::File(folder.path().join("events.jsonl"));
        let (ledger, writer) = Ledger::open(ledger).await.unwrap();
        let recorder = Arc::new(Recorder::new(ledger, Metrics::new(&rules, "test").unwrap()));
        let metrics = WatchMetrics::register(recorder.metrics().registry()).unwrap();
        let owner: Arc<Mutex<Option<Owner>>> = Arc::default();
        let told = owner.clone();
        let watch =
            Arc::new(Watch::asking(options, inspector, recorder.clone(), metrics, Box::new(move |_| io::Result::Ok(told.lock().clone()))));
        let sensor = Sensor::join(&watch, script).await;
        Self { watch, recorder, sensor, owner, writer: Some(writer), folder }
    }

    pub fn session(&self) -> Arc<Session> {
        self.watch.session.load_full().unwrap()
    }

    /// Gives the watch a record as if the ring had it.
    pub fn record(&self, bytes: &[u8]) {
        self.session().take(Record::parse(bytes), Instant::now());
    }

    /// Tells of a connection, and waits until the sensor has said who it is.
    pub async fn connect(&self, call: &Call) {
        self.record(&call.bytes());
        self.session().who(&call.owner(), SOON).await;
    }

    /// The events so far.
    pub async fn events(&self) -> Vec<Value> {
        self.recorder.ledger().flush().await.unwrap();
        let path: PathBuf = self.folder.path().join("events.jsonl");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn metric(&self, series: &str) -> Option<u64> {
        self.metric_as(series)
    }

    pub fn metric_as<T: FromStr>(&self, series: &str) -> Option<T> {
        let text = self.recorder.metrics().render(&LedgerCounts::default());
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits for a metric that another thread changes.
    pub async fn metric_becomes(&self, series: &str, value: u64) {
        let start = Instant::now();
        while self.metric(series) != Some(value) {
            assert!(start.elapsed() < SOON, "{series} is {:?}, not {value}", self.metric(series));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn end(mut self) {
        drop(self.sensor);
        drop(self.watch);
        if let Some(writer) = self.writer.take() {
            writer.shutdown().await;
        }
    }
}

impl Sensor {
    /// Plays a sensor that the watch joins.
    pub async fn join(watch: &Watch, mut script: impl FnMut(ToSensor) -> Answers + Send + 'static) -> Self {
        let (proxy, sensor) = Channel::pair().unwrap();
        let end: Arc<SensorEnd> = Arc::new(sensor);
        let (ring, heartbeat) = (memory("ring", 2 * PAGE + 2 * u64::from(RING)), memory("heartbeat", PAGE));
        let (tell, asked) = mpsc::channel();
        let (ours, maps) = (end.clone(), (ring.try_clone().unwrap(), heartbeat.try_clone().unwrap()));
        let thread = thread::spawn(move || {
            ours.welcome(List::default(), maps.0.as_fd(), RING, maps.1.as_fd(), SOON).unwrap();
            drop(maps);
            while let Ok(received) = ours.recv(Duration::from_secs(60)) {
                let _ = tell.send(received.message.clone());
                for (answer, descriptors) in script(received.message) {
                    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                    if ours.send(&answer, &descriptors, SOON).is_err() {
                        return;
                    }
                }
            }
        });
        watch.join(AsyncChannel::new(proxy).unwrap()).await.unwrap();
        Self { end, ring, heartbeat, asked, thread: Some(thread) }
    }

    /// Puts records into the ring, as the kernel does.
    pub fn write(&self, records: &[Vec<u8>]) {
        let mut at = 0;
        for record in records {
            let mut framed = u32::try_from(record.len()).unwrap().to_ne_bytes().to_vec();
            framed.extend_from_slice(&[0; 4]);
            framed.extend_from_slice(record);
            framed.resize(framed.len().next_multiple_of(8), 0);
            self.ring.write_all_at(&framed, 2 * PAGE + at).unwrap();
            at += framed.len() as u64;
        }
        self.ring.write_all_at(&at.to_ne_bytes(), PAGE).unwrap();
    }

    /// The last beat, in nanoseconds since boot; 0 for none.
    pub fn beat(&self) -> u64 {
        let mut word = [0; 8];
        self.heartbeat.read_exact_at(&mut word, 0).unwrap();
        u64::from_ne_bytes(word)
    }

    /// Questions who a process is, so far.
    pub fn resolved(&self) -> usize {
        self.asked.try_iter().filter(|asked| matches!(asked, ToSensor::Resolve { .. })).count()
    }

    /// Hangs up, as a sensor does that was killed.
    pub fn hang_up(&mut self) {
        shut(&self.end);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        shut(&self.end);
    }
}

/// The end is shared with the thread that plays, so it is shut rather than dropped.
fn shut(end: &SensorEnd) {
    let _ = rustix::net::shutdown(end, rustix::net::Shutdown::Both);
}

fn memory(name: &str, size: u64) -> File {
    let file = File::from(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    file.set_len(size).unwrap();
    file
}

/// A sensor that knows one identity.
pub fn knows(found: IdentityAnswer) -> impl FnMut(ToSensor) -> Answers + Send + 'static {
    move |message| match message {
        ToSensor::Resolve { token, .. } => vec![(ToProxy::Process { token, found: found.clone() }, Vec::new())],
        _ => Vec::new(),
    }
}

/// One that never answers.
pub fn silent(_: ToSensor) -> Answers {
    Vec::new()
}

pub fn ada() -> Identity {
    Identity {
        pid: 4711,
        started_boot_ns: 40_000_000_000,
        generation: GenerationEvidence::Confirmed,
        executable: Executable::File { path: Text::cut("/usr/bin/node"), image: Image::OnDisk, sha256: Some([0xab; 32]) },
        command_line: CommandLine::Whole(Text::cut("node agent.js")),
        credentials: Some(Credentials {
            uid: 1000,
            effective_uid: 1000,
            user: Some(Name::cut("ada")),
            gid: 1000,
            groups: List::cut([1000]),
            group_names: List::cut([Name::cut("engineering")]),
        }),
        ancestors: List::cut([
            Ancestor { pid: 4000, executable: Some(Text::cut("/usr/bin/bash")) },
            Ancestor { pid: 1, executable: Some(Text::cut("/usr/lib/systemd/systemd")) },
        ]),
        cgroup: Text::cut("/user.slice/user-1000.slice"),
        containers: List::default(),
        pod: None,
    }
}

pub fn known() -> impl FnMut(ToSensor) -> Answers + Send + 'static {
    knows(IdentityAnswer::Identity(Box::new(ada())))
}

pub fn container(id: &str, standing: NameOrigin) -> Container {
    Container { id: Name::cut(id), runtime: Text::cut("docker"), standing }
}
