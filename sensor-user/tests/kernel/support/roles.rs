//! This program as another process.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use gnomon_sensor::{CgroupId, Fail, Heartbeat, Loader, Options, Program, Ring, Scope, Status, listen, owner_of};

use super::{
    client,
    stage::{self, Beating},
};

/// What its answers begin with, to tell them from the lines of the test harness.
pub const SIGN: &str = "> ";

/// Starts this program in a role, in a cgroup.
pub fn start(role: &str, cgroup: Option<&Path>, env: &[(&str, String)]) -> Child {
    let this = std::env::current_exe().unwrap();
    let mut command = match cgroup {
        Some(cgroup) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]).arg(cgroup).arg(this);
            shell
        }
        None => Command::new(this),
    };
    command.args(["--exact", "support::roles::act", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("GNOMON_TEST_ROLE", role).envs(env.iter().map(|(key, value)| (*key, value.as_str())));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// The next answer.
pub fn answer(from: &mut BufReader<impl Read>) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(from.read_line(&mut line).unwrap(), 0, "the other process is gone");
        if let Some(answer) = line.strip_prefix(SIGN) {
            return answer.trim().to_owned();
        }
    }
}

/// Not a test: the main function of the other process.
#[test]
#[ignore = "a role, not a test"]
fn act() {
    match std::env::var("GNOMON_TEST_ROLE").as_deref() {
        Ok("client") => client::act(),
        Ok("loader") => load(),
        Ok("proxy") => serve(),
        Ok("unprivileged") => unprivileged(),
        _ => {}
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap()
}

/// The privileged half: loads, attaches, sets the client's scope, starts the other half, and stays. It answers the pid of the other half,
/// then the ids of the programs.
fn load() {
    let cgroup = env("CGROUP");
    let mut options = Options::new(&cgroup, env("HALF"));
    options.mark = env("MARK").parse().unwrap();
    options.port = env("PORT").parse().unwrap();
    let mut loader = Loader::new(&options).unwrap();
    for (program, status) in loader.attach_all() {
        assert_eq!(status, Status::Ok, "{}", program.name());
    }
    let mut sensor = loader.finish();
    let client = CgroupId::of(Path::new(&cgroup).join("client")).unwrap();
    sensor.scopes().unwrap().set(client, Scope { id: 7, mode: stage::redirect(Fail::Open) }).unwrap();
    let heartbeat = sensor.heartbeat().unwrap();
    rustix::io::fcntl_setfd(&heartbeat, rustix::io::FdFlags::empty()).unwrap();
    let number = heartbeat.as_raw_fd().to_string();
    let mut proxy = start("proxy", None, &[("HEARTBEAT", number)]);
    let mut from = BufReader::new(proxy.stdout.take().unwrap());
    assert_eq!(answer(&mut from), "ready");
    let ids: Vec<String> = Program::ALL.iter().map(|program| sensor.id(*program).unwrap().to_string()).collect();
    println!("\n{SIGN}{} {}", proxy.id(), ids.join(" "));
    // Runs until it is killed.
    let _ = std::io::stdin().read_line(&mut String::new());
    let _ = proxy.kill();
    let _ = proxy.wait();
}

/// The proxy's side as the user nobody: reads the ring, sends beats, and asks who connected. It answers "ready", then the pid of the
/// program that connected and the number of records read.
fn unprivileged() {
    // SAFETY: only changes what this process may do; it has one thread that matters.
    let status = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) | libc::setresgid(65534, 65534, 65534) | libc::setresuid(65534, 65534, 65534)
    };
    assert_eq!(status, 0);
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(own.contains("CapEff:\t0000000000000000"), "{own}");
    // SAFETY: inherited for this purpose, and used by nobody else in this process.
    let [ring, heartbeat, listener] =
        ["RING", "HEARTBEAT", "LISTENER"].map(|name| unsafe { OwnedFd::from_raw_fd(env(name).parse().unwrap()) });
    let mut ring = Ring::from_fd(ring, env("RING_BYTES").parse().unwrap()).unwrap();
    let _beating = Beating::start(Heartbeat::from_fd(heartbeat).unwrap());
    println!("\n{SIGN}ready");
    let (mut stream, _) = TcpListener::from(listener).accept().unwrap();
    let owner = owner_of(stream.as_fd()).unwrap().unwrap();
    std::io::Write::write_all(&mut stream, b"proxy\n").unwrap();
    let read = ring.drain(|record| assert!(record.is_ok()));
    println!("\n{SIGN}{} {read}", owner.pid);
}

/// The other half: listens, greets, and sends beats.
fn serve() {
    // SAFETY: inherited for this purpose, and used by nobody else in this process.
    let heartbeat = unsafe { OwnedFd::from_raw_fd(env("HEARTBEAT").parse().unwrap()) };
    let heartbeat = Heartbeat::from_fd(heartbeat).unwrap();
    let listeners = listen::in_namespace(None, env("MARK").parse().unwrap(), env("PORT").parse().unwrap()).unwrap();
    std::thread::spawn(move || {
        for mut stream in listeners.v4.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"proxy\n");
        }
    });
    let _beating = Beating::start(heartbeat);
    println!("\n{SIGN}ready");
    loop {
        std::thread::park();
    }
}
