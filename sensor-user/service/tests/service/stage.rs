//! A sensor that runs in a thread, its cgroup, and the proxy's end of its link.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gnomon_host::cgroup::Hierarchy;
use gnomon_link::{LinkError, ProxyEnd, Received, Sensor, ToProxy, ToSensor, UNASKED};
use gnomon_sensor::{Heartbeat, PERIOD};
use gnomon_sensord::{Attached, CostBound, Ended, ExecOptions, Options, ServiceError, serve};
use tempfile::TempDir;

/// Long, for a busy machine; only a failure waits that long.
pub const SOON: Duration = Duration::from_secs(20);

/// Whether the sensor can run here; reports a skip if not.
pub fn possible(name: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        gnomon_testkit::skip(name, "needs root");
        return false;
    }
    if Hierarchy::find().is_err() {
        gnomon_testkit::skip(name, "no cgroup2 hierarchy is mounted");
        return false;
    }
    true
}

/// Polls until other threads or processes have done something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {SOON:?} for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

static STAGES: AtomicU32 = AtomicU32::new(0);

pub struct Stage {
    pub proxy: Arc<ProxyEnd>,
    pub welcome: Sensor,
    pub cgroup: PathBuf,
    pub mount: PathBuf,
    pub folder: TempDir,
    pub stop: UnixStream,
    serving: Option<JoinHandle<Result<Ended, ServiceError>>>,
    over: Arc<AtomicBool>,
}

impl Stage {
    /// `None`, reported as a skip, where the sensor cannot run.
    pub fn new(name: &str) -> Option<Self> {
        Self::with(name, |_| {})
    }

    pub fn with(name: &str, change: impl FnOnce(&mut ExecOptions)) -> Option<Self> {
        Self::bounded(name, CostBound::DEFAULT, change)
    }

    /// Starts it after `others` changed its cgroup.
    pub fn after(name: &str, others: impl FnOnce(&Path)) -> Option<Self> {
        Self::staged(name, CostBound::DEFAULT, |_| {}, others)
    }

    /// Starts it in a cgroup whose parent `others` changed.
    pub fn within(name: &str, others: impl FnOnce(&Path)) -> Option<Self> {
        Self::staged(name, CostBound::DEFAULT, |_| {}, |cgroup| others(cgroup.parent().unwrap()))
    }

    pub fn bounded(name: &str, cost: CostBound, change: impl FnOnce(&mut ExecOptions)) -> Option<Self> {
        Self::staged(name, cost, change, |_| {})
    }

    fn staged(name: &str, cost: CostBound, change: impl FnOnce(&mut ExecOptions), others: impl FnOnce(&Path)) -> Option<Self> {
        if !possible(name) {
            return None;
        }
        let hierarchy = Hierarchy::find().unwrap();
        let mount = hierarchy.mount().to_owned();
        let top = mount.join(format!("gnomon-service-{}-{}", std::process::id(), STAGES.fetch_add(1, Ordering::Relaxed)));
        let cgroup = top.join("host");
        fs::create_dir_all(cgroup.join("own")).unwrap();
        others(&cgroup);
        let folder = tempfile::tempdir().unwrap();
        // Programs of other users connect to the socket in it.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let authority = folder.path().join("ca.pem");
        fs::write(&authority, rcgen::generate_simple_self_signed(["ours".to_owned()]).unwrap().cert.pem()).unwrap();
        let mut exec = ExecOptions::new(folder.path().join("exec.sock"), authority);
        change(&mut exec);
        let mut options = Options::new(cgroup.join("own"));
        options.cgroup = Some(cgroup.clone());
        options.ring_bytes = 1 << 16;
        options.exec = Some(exec);
        options.cost = cost;
        let (proxy, sensor) = ProxyEnd::pair().unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let serving = Some(thread::spawn(move || serve(&sensor, Attached::attach(&options)?, &options, stopped.as_fd())));
        let welcome = proxy.greet(SOON).unwrap();
        Some(Self { proxy: Arc::new(proxy), welcome, cgroup, mount, folder, stop, serving, over: Arc::default() })
    }

    /// Sends heartbeats from now on.
    pub fn beat(&self) {
        let heartbeat = Heartbeat::from_fd(self.welcome.heartbeat.try_clone().unwrap()).unwrap();
        let over = self.over.clone();
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                heartbeat.beat();
                thread::sleep(PERIOD / 5);
            }
        });
    }

    /// Accepts listeners that come unasked, and confirms them. Returns the count of those received.
    pub fn accept_listeners(&self) -> Arc<AtomicU32> {
        let (proxy, over, came) = (self.proxy.clone(), self.over.clone(), Arc::new(AtomicU32::new(0)));
        let counted = came.clone();
        thread::spawn(move || {
            let mut listeners = Vec::new();
            while !over.load(Ordering::Relaxed) {
                match proxy.recv(Duration::from_millis(20)) {
                    Ok(Received { message: ToProxy::Listeners { token: UNASKED, netns_cookie, .. }, descriptors }) => {
                        // Drops listeners that were shut down, as the proxy does.
                        listeners.retain(|listener| rustix::net::sockopt::socket_acceptconn(listener) == Ok(true));
                        listeners.extend(descriptors);
                        counted.fetch_add(1, Ordering::Relaxed);
                        proxy.send(&ToSensor::Accepting { netns_cookie }, &[], SOON).unwrap();
                    }
                    Err(LinkError::TimedOut) => {}
                    // The sensor ended before the test said that it is over.
                    Err(LinkError::Closed) => break,
                    other => panic!("{other:?}"),
                }
            }
        });
        came
    }

    /// Sends a request and returns the answer.
    pub fn ask(&self, question: ToSensor) -> Received<ToProxy> {
        self.proxy.send(&question, &[], SOON).unwrap();
        self.proxy.recv(SOON).unwrap()
    }

    /// Why the sensor ended.
    pub fn ended(&mut self) -> Ended {
        self.serving.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.stop.write_all(b"x");
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
        let end = Instant::now() + SOON;
        while remove(self.cgroup.parent().unwrap()).is_err() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

pub fn remove(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}
