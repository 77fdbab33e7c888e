//! The sensor as an ordinary user with capabilities and none of root's other rights: with all that docs/sensor.md lists, and with one
//! missing.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use gnomon_host::cgroup::Hierarchy;
use gnomon_host::doctor::{CAPABILITIES, Capability, Need};
use gnomon_host::identity::BootTime;
use gnomon_link::{Executable, FeatureState, IdentityAnswer, ProxyEnd, Sensor, SensorEnd, ToProxy, ToSensor};
use gnomon_sensord::{Attached, ExecOptions, Options, serve};
use rustix::thread::{CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, set_capabilities};
use tempfile::TempDir;

use crate::program::Program;
use crate::stage::{SOON, possible, remove, until};

const NOBODY: u32 = 65534;
/// What its answers begin with, to tell them from the lines of the test harness.
const SIGN: &str = "> ";
/// `CAP_BPF` and `CAP_PERFMON`; `CAP_SYS_ADMIN` includes both.
const EITHER: [u8; 2] = [39, 38];
const SYS_ADMIN: u8 = 21;

static STARTED: AtomicU32 = AtomicU32::new(0);

/// A sensor process of the user nobody.
struct Ordinary {
    child: Child,
    proxy: ProxyEnd,
    cgroup: PathBuf,
    _folder: TempDir,
}

impl Ordinary {
    fn start(capabilities: &[&Capability]) -> Self {
        let name = format!("gnomon-ordinary-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let cgroup = Hierarchy::find().unwrap().mount().join(name);
        fs::create_dir_all(cgroup.join("own")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let (proxy, sensor) = ProxyEnd::pair().unwrap();
        let mask = capabilities.iter().fold(0_u64, |mask, capability| mask | 1 << capability.bit);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "ordinary::act", "--ignored", "--nocapture", "--test-threads=1"]);
        command
            .env("GNOMON_TEST_CAPABILITIES", mask.to_string())
            .env("GNOMON_TEST_CGROUP", &cgroup)
            .env("GNOMON_TEST_FOLDER", folder.path());
        let child = command.stdin(sensor.into_socket()).stdout(Stdio::piped()).spawn().unwrap();
        Self { child, proxy, cgroup, _folder: folder }
    }

    fn welcome(&self) -> Sensor {
        self.proxy.greet(SOON).unwrap()
    }

    fn ask(&self, question: ToSensor) -> ToProxy {
        self.proxy.send(&question, &[], SOON).unwrap();
        self.proxy.recv(SOON).unwrap().message
    }

    /// Why it ended, from its output.
    fn said(&mut self) -> String {
        let mut lines = BufReader::new(self.child.stdout.take().unwrap()).lines().map(Result::unwrap);
        lines.find_map(|line| line.strip_prefix(SIGN).map(str::to_owned)).unwrap()
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        until("the cgroup to go", || remove(&self.cgroup).ok());
    }
}

/// Not a test: becomes nobody with these capabilities, executes itself so that only they are left, and runs the sensor.
#[test]
#[ignore = "a role, not a test"]
fn act() {
    let Some(capabilities) = std::env::var_os("GNOMON_TEST_CAPABILITIES") else { return };
    let capabilities = CapabilitySet::from_bits_retain(capabilities.to_str().unwrap().parse().unwrap());
    if rustix::process::geteuid().is_root() {
        // SAFETY: changes the identity of this process, which was started for it.
        let changed = unsafe {
            libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0)
                | libc::setgroups(0, std::ptr::null())
                | libc::setresgid(NOBODY, NOBODY, NOBODY)
                | libc::setresuid(NOBODY, NOBODY, NOBODY)
        };
        assert_eq!(changed, 0);
        set_capabilities(None, CapabilitySets { effective: capabilities, permitted: capabilities, inheritable: capabilities }).unwrap();
        for capability in capabilities.iter() {
            configure_capability_in_ambient_set(capability, true).unwrap();
        }
        panic!("{}", Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec());
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains(&format!("CapEff:\t{:016x}", capabilities.bits())), "{status}");
    let path = |name| PathBuf::from(std::env::var_os(name).unwrap());
    let mut options = Options::new(path("GNOMON_TEST_CGROUP").join("own"));
    options.cgroup = Some(path("GNOMON_TEST_CGROUP"));
    options.ring_bytes = 1 << 16;
    let folder = path("GNOMON_TEST_FOLDER");
    options.exec = Some(ExecOptions::new(folder.join("exec.sock"), folder.join("ca.pem")));
    let link = SensorEnd::from_socket(std::io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
    let (_stop, stopped) = UnixStream::pair().unwrap();
    match Attached::attach(&options).and_then(|attached| serve(&link, attached, &options, stopped.as_fd())) {
        Ok(ended) => println!("\n{SIGN}{ended:?}"),
        Err(error) => println!("\n{SIGN}{error}"),
    }
}

#[test]
fn with_its_capabilities_an_ordinary_user_s_sensor_does_all_of_its_work() {
    if !possible("the sensor of an ordinary user") {
        return;
    }
    let sensor = Ordinary::start(&CAPABILITIES.each_ref());
    let welcome = sensor.welcome();
    for feature in welcome.features.iter() {
        // The newest kernels have every feature; one that a kernel lacks is missing for root as well.
        assert!(matches!(feature.state, FeatureState::Ok | FeatureState::Unsupported), "{feature:?}");
    }
    let question =
        ToSensor::Resolve { token: 1, pid: std::process::id(), connected_boot_ns: BootTime::now().0, generation_boot_ns: 0, cookie: 1 };
    let ToProxy::Process { found: IdentityAnswer::Identity(identity), .. } = sensor.ask(question) else { panic!("a process of root's") };
    assert!(matches!(identity.executable, Executable::File { sha256: Some(_), .. }), "{identity:?}");
    let elsewhere = Program::join_nowhere();
    for pid in [std::process::id(), elsewhere.pid()] {
        let answer = sensor.ask(ToSensor::ListenIn { token: 2, netns_cookie: 0, pid });
        assert!(matches!(answer, ToProxy::Listeners { token: 2, .. }), "{answer:?}");
    }
}

#[test]
fn each_capability_that_is_missing_is_named_with_what_it_is_for() {
    if !possible("the sensor of an ordinary user who lacks a capability") {
        return;
    }
    for missing in &CAPABILITIES {
        let stands_in = |capability: &Capability| EITHER.contains(&missing.bit) && capability.bit == SYS_ADMIN;
        let rest: Vec<_> = CAPABILITIES.iter().filter(|capability| capability.bit != missing.bit && !stands_in(capability)).collect();
        let mut sensor = Ordinary::start(&rest);
        match missing.need {
            Need::Required => {
                let said = sensor.said();
                assert!(said.contains(missing.name) && said.contains(missing.needed_for), "{}: {said}", missing.name);
            }
            Need::Optional => {
                let welcome = sensor.welcome();
                let told = welcome.features.iter().find(|feature| *feature.name == *missing.name.to_lowercase()).unwrap();
                assert_eq!(told.state, FeatureState::Broken, "{}", missing.name);
                assert!(told.reason.contains(missing.name) && told.reason.contains(missing.needed_for), "{told:?}");
            }
        }
    }
}

#[test]
fn without_root_s_rights_it_attaches_nothing_and_names_all_that_it_needs() {
    if !possible("the sensor of an ordinary user without capabilities") {
        return;
    }
    let said = Ordinary::start(&[]).said();
    assert!(said.starts_with("the sensor needs ") && said.contains("run it as root, or give its user these"), "{said}");
    for capability in &CAPABILITIES {
        assert_eq!(said.contains(capability.name), capability.need == Need::Required, "{}: {said}", capability.name);
    }
}
