//! The socket of a sensor that is a service of its own, and whom it serves: by the kernel's word, whatever the socket's mode lets in.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use gnomon_host::cgroup::Hierarchy;
use gnomon_link::{LinkError, ProxyEnd};
use gnomon_sensord::{Peer, ServiceSocket};

use crate::stage::{SOON, possible, remove, until};

/// As whom gnomon serves, and somebody else.
const OURS: u32 = 65534;
const ANOTHER: u32 = 65533;
/// What its answers begin with, to tell them from the lines of the test harness.
const SIGN: &str = "> ";

/// A process that connects to the socket.
struct Client {
    child: Child,
    said: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Client {
    /// Connects as this user, from this cgroup.
    fn connects(socket: &Path, user: u32, cgroup: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "standing::connects", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("GNOMON_TEST_SOCKET", socket).env("GNOMON_TEST_USER", user.to_string()).env("GNOMON_TEST_CGROUP", cgroup);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut client = Self { child, said };
        assert_eq!(client.says(), "connected");
        client
    }

    fn says(&mut self) -> String {
        self.said.find_map(|line| line.unwrap().strip_prefix(SIGN).map(str::to_owned)).unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: connects, and says what came of it.
#[test]
#[ignore = "a role, not a test"]
fn connects() {
    let Some(socket) = std::env::var_os("GNOMON_TEST_SOCKET").map(PathBuf::from) else { return };
    let given = |name: &str| std::env::var(name).unwrap();
    fs::write(Path::new(&given("GNOMON_TEST_CGROUP")).join("cgroup.procs"), "0").unwrap();
    let user: u32 = given("GNOMON_TEST_USER").parse().unwrap();
    // SAFETY: changes the identity of this process, which was started for it.
    let changed = unsafe { libc::setgroups(0, std::ptr::null()) | libc::setresgid(user, user, user) | libc::setresuid(user, user, user) };
    assert_eq!(changed, 0);
    let link = ProxyEnd::connect(&socket, SOON).unwrap();
    println!("\n{SIGN}connected");
    match link.greet(SOON) {
        Err(LinkError::TimedOut) => println!("\n{SIGN}nothing came"),
        Err(_) => println!("\n{SIGN}turned away"),
        Ok(_) => println!("\n{SIGN}greeted"),
    }
}

#[test]
fn only_gnomon_s_user_and_root_are_served_and_only_from_within_gnomon_s_own_cgroup() {
    if !possible("the sensor's own socket") {
        return;
    }
    let top = Hierarchy::find().unwrap().mount().join(format!("gnomon-standing-{}", std::process::id()));
    let (own, beside) = (top.join("own"), top.join("own-not"));
    fs::create_dir_all(own.join("serving")).unwrap();
    fs::create_dir(&beside).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sensor.sock");
    let socket = ServiceSocket::listen(&path, &own, Peer { uid: OURS }).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    // Everybody may connect here, so that only what the sensor asks the kernel decides.
    for (opened, mode) in [(folder.path(), 0o755), (&*path, 0o666)] {
        fs::set_permissions(opened, Permissions::from_mode(mode)).unwrap();
    }
    let (_stop, stopped) = UnixStream::pair().unwrap();
    for (served, from) in [(OURS, own.join("serving")), (0, own.clone())] {
        // They are asked about in the order in which they came.
        let refused = [(ANOTHER, &own), (OURS, &beside), (0, &beside), (OURS, &top)];
        let mut refused = refused.map(|(user, cgroup)| Client::connects(&path, user, cgroup));
        let client = Client::connects(&path, served, &from);
        let link = socket.next(stopped.as_fd(), None).unwrap().unwrap();
        assert_eq!((link.peer().unwrap().pid.get(), link.peer().unwrap().uid), (client.child.id(), served));
        for turned_away in &mut refused {
            assert_eq!(turned_away.says(), "turned away");
        }
        assert!(!socket.is_waited_for());
    }
    until("the cgroups to go", || remove(&top).ok());
}
