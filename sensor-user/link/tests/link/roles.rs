//! The other process of a test: this binary, started in a role. Its end of the channel is its standard input.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use gnomon_link::{Channel, Count, ExecEnd, Families, Label, LinkError, List, Program, ProxyEnd, SensorEnd, ToProxy, ToSensor};

use crate::SOON;

const ROLE: &str = "GNOMON_LINK_TEST_ROLE";
const SOCKET: &str = "GNOMON_LINK_TEST_SOCKET";

/// A process that is killed when dropped.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn start(role: &str, stdin: Stdio, socket: &Path) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "roles::plays_its_role_when_started_for_one", "--nocapture"]);
    Process(command.env(ROLE, role).env(SOCKET, socket).stdin(stdin).stdout(Stdio::null()).spawn().unwrap())
}

pub fn start_with_channel(role: &str, socket: OwnedFd) -> Process {
    start(role, Stdio::from(socket), Path::new(""))
}

#[test]
fn plays_its_role_when_started_for_one() {
    match std::env::var(ROLE).as_deref() {
        Ok("sensor") => open_listeners(),
        Ok("reader of bad messages") => read_bad_messages(),
        Ok("client") => connect_and_stay(),
        Ok(other) => panic!("unknown role {other}"),
        Err(_) => {}
    }
}

fn inherited() -> OwnedFd {
    io::stdin().as_fd().try_clone_to_owned().unwrap()
}

fn open_listeners() {
    let channel: SensorEnd = Channel::from_socket(inherited()).unwrap();
    let ToSensor::ListenIn { token, netns_cookie, .. } = channel.recv(SOON).unwrap().message else { panic!("out of turn") };
    let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = v4.local_addr().unwrap().port();
    let listeners = ToProxy::Listeners { token, netns_cookie, port, families: Families::V4 };
    channel.send(&listeners, &[v4.as_fd()], SOON).unwrap();
}

fn read_bad_messages() {
    let channel: ProxyEnd = Channel::from_socket(inherited()).unwrap();
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let (before, mut bad) = (open(), 0);
    loop {
        match channel.recv(SOON) {
            Ok(last) => {
                assert_eq!(last.message, ToProxy::Done { token: 0 });
                break;
            }
            Err(LinkError::Closed | LinkError::TimedOut) => panic!("the last message is missing"),
            Err(_) => bad += 1,
        }
    }
    // Returns the numbers in a message that the proxy may send.
    for number in [bad, before, open()] {
        channel.send(&ToSensor::Counters { token: number }, &[], SOON).unwrap();
    }
}

fn connect_and_stay() {
    let path = std::env::var_os(SOCKET).unwrap();
    let _channel: ExecEnd = Channel::connect(Path::new(&path), SOON).unwrap();
    let _ = io::read_to_string(io::stdin());
}

/// Counters of a program, for tests that need some.
pub fn program(name: &str) -> Program {
    let counts = List::new(vec![Count { outcome: Label::new("delivered").unwrap(), count: 7 }]).unwrap();
    Program { name: Label::new(name).unwrap(), counts }
}
