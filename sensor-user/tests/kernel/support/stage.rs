//! The cgroups and the sensor of a test.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gnomon_sensor::{
    CgroupId, Fail, Feature, Features, Heartbeat, Loader, Mode, Options, PERIOD, Ports, Quic, Record, Redirect, Ring, Scope, Sensor, Status,
};

/// Whether kernel tests can run here; reports a skip if not.
pub fn needs(name: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        gnomon_testkit::skip(name, "needs root");
        return false;
    }
    let Some(root) = cgroup2() else {
        gnomon_testkit::skip(name, "no cgroup2 hierarchy is mounted");
        return false;
    };
    static MAPS: OnceLock<Status> = OnceLock::new();
    match MAPS.get_or_init(|| Features::probe(&root).status(Feature::Maps).clone()) {
        Status::Ok => {
            // Before any socket of the test is created.
            home();
            true
        }
        why => {
            gnomon_testkit::skip(name, &format!("bpf(2) does not work here: {why:?}"));
            false
        }
    }
}

fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (place, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    })
}

static HOME: OnceLock<PathBuf> = OnceLock::new();

/// The cgroup of this run. This process moves into its child `half`, as the proxy's sockets must be in a cgroup that the sensor knows, and
/// moves back at exit.
pub fn home() -> &'static Path {
    HOME.get_or_init(|| {
        let root = cgroup2().unwrap();
        sweep(&root);
        let home = root.join(format!("gnomon-test-{}", std::process::id()));
        fs::create_dir(&home).unwrap();
        fs::create_dir(home.join("half")).unwrap();
        fs::write(home.join("half/cgroup.procs"), std::process::id().to_string()).unwrap();
        // SAFETY: a function without arguments that does not unwind into C: it swallows every error.
        unsafe { libc::atexit(leave) };
        home
    })
}

extern "C" fn leave() {
    let Some(home) = HOME.get() else { return };
    let Some(root) = home.parent() else { return };
    let _ = fs::write(root.join("cgroup.procs"), std::process::id().to_string());
    remove(home);
}

/// Removes what killed runs left behind.
fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("gnomon-test-") else { continue };
        if !Path::new("/proc").join(pid).exists() {
            remove(&entry.path());
        }
    }
}

/// Removes a cgroup and those below it, killing the processes in them.
fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    for pid in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let end = Instant::now() + Duration::from_secs(2);
    while fs::remove_dir(cgroup).is_err() && cgroup.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Polls until another thread or the kernel has done something; names it if that never happens.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    // Long, for an emulated machine; only a failure waits that long.
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited 60 s for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A scope that redirects everything.
pub fn redirect(fail: Fail) -> Mode {
    Mode::Redirect(Redirect { ports: Ports::All, quic: Quic::Refuse, fail })
}

/// A test's cgroup with a sensor on it.
pub struct Stage {
    pub cgroup: PathBuf,
    pub sensor: Sensor,
    pub ring: Ring,
    beating: Option<Beating>,
    seen: Vec<Seen>,
}

/// A record, copied out of the ring.
#[derive(Clone, Debug)]
pub enum Seen {
    Connect(gnomon_sensor::Connect),
    Close(gnomon_sensor::Close),
    Hello { cookie: u64, offset: u32, remaining: u32, truncated: bool, bytes: Vec<u8> },
    Start(gnomon_sensor::Start),
}

/// Sends beats as a proxy does, from a thread of its own, until dropped, however slow the machine is.
pub(super) struct Beating {
    on: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Beating {
    pub(super) fn start(heartbeat: Heartbeat) -> Self {
        heartbeat.beat();
        let on = Arc::new(AtomicBool::new(true));
        let goes_on = Arc::clone(&on);
        let thread = std::thread::spawn(move || {
            while goes_on.load(Ordering::Relaxed) {
                heartbeat.beat();
                std::thread::sleep(PERIOD / 2);
            }
        });
        Self { on, thread: Some(thread) }
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.on.store(false, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Stage {
    /// Creates the cgroup, and loads and attaches the sensor with these options.
    pub fn new(name: &str, port: u16, change: impl FnOnce(&mut Options)) -> Self {
        let cgroup = home().join(name);
        fs::create_dir(&cgroup).unwrap();
        fs::create_dir(cgroup.join("client")).unwrap();
        let mut options = Options::new(&cgroup, home().join("half"));
        options.port = port;
        options.mark = mark();
        change(&mut options);
        let mut loader = Loader::new(&options).unwrap();
        for (program, status) in loader.attach_all() {
            assert_eq!(status, Status::Ok, "{}", program.name());
        }
        let sensor = loader.finish();
        let ring = Ring::from_fd(sensor.ring().unwrap(), options.ring_bytes).unwrap();
        let heartbeat = Heartbeat::from_fd(sensor.heartbeat().unwrap()).unwrap();
        Self { cgroup, sensor, ring, beating: Some(Beating::start(heartbeat)), seen: Vec::new() }
    }

    /// The cgroup that clients are in.
    pub fn client_cgroup(&self) -> PathBuf {
        self.cgroup.join("client")
    }

    /// Sets the scope of the clients.
    pub fn scope(&mut self, mode: Mode) {
        let id = CgroupId::of(self.client_cgroup()).unwrap();
        self.sensor.scopes().unwrap().set(id, Scope { id: 7, mode }).unwrap();
    }

    /// Stops the beats.
    pub fn falls_silent(&mut self) {
        self.beating = None;
        Heartbeat::from_fd(self.sensor.heartbeat().unwrap()).unwrap().stop();
    }

    /// Reads all waiting records.
    pub fn read(&mut self) -> &[Seen] {
        let seen = &mut self.seen;
        self.ring.drain(|record| {
            seen.push(match record.unwrap() {
                Record::Connect(connect) => Seen::Connect(connect),
                Record::Close(close) => Seen::Close(close),
                Record::Start(start) => Seen::Start(start),
                Record::Hello(hello) => Seen::Hello {
                    cookie: hello.cookie,
                    offset: hello.offset,
                    remaining: hello.remaining,
                    truncated: hello.truncated,
                    bytes: hello.bytes.to_vec(),
                },
            });
        });
        &self.seen
    }

    /// The connect records so far.
    pub fn connects(&mut self) -> Vec<gnomon_sensor::Connect> {
        self.read().iter().filter_map(|seen| if let Seen::Connect(connect) = seen { Some(connect.clone()) } else { None }).collect()
    }

    /// The starts of programs so far.
    pub fn starts(&mut self) -> Vec<gnomon_sensor::Start> {
        self.read().iter().filter_map(|seen| if let Seen::Start(start) = seen { Some(start.clone()) } else { None }).collect()
    }

    /// The close records so far.
    pub fn closes(&mut self) -> Vec<gnomon_sensor::Close> {
        self.read().iter().filter_map(|seen| if let Seen::Close(close) = seen { Some(close.clone()) } else { None }).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        remove(&self.cgroup);
    }
}

/// The mark of this run's listeners.
pub fn mark() -> NonZeroU32 {
    NonZeroU32::new(0x5eed_0000 | std::process::id()).unwrap()
}
