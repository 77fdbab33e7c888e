//! The proxy's side needs no privilege at all.

use std::io::BufReader;
use std::os::fd::{AsRawFd, OwnedFd};

use gnomon_sensor::{Fail, listen};

use crate::support::{Client, Stage, Upstream, home, mark, needs, redirect, roles};

#[test]
fn the_user_nobody_without_capabilities_reads_the_ring_sends_beats_and_looks_up_owners() {
    if !needs("unprivileged") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let listeners = listen::in_namespace(None, mark(), 0).unwrap();
    let mut stage = Stage::new("unprivileged", listeners.port().unwrap(), |options| options.ring_bytes = 1 << 16);
    stage.scope(redirect(Fail::Closed));
    stage.falls_silent();

    let handed: [OwnedFd; 3] = [stage.sensor.ring().unwrap(), stage.sensor.heartbeat().unwrap(), listeners.v4.into()];
    for fd in &handed {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
    }
    let [ring, heartbeat, listener] = handed.each_ref().map(|fd| fd.as_raw_fd().to_string());
    let env = [("RING", ring), ("HEARTBEAT", heartbeat), ("LISTENER", listener), ("RING_BYTES", (1 << 16).to_string())];
    let mut nobody = roles::start("unprivileged", Some(&home().join("half")), &env);
    drop(handed);
    let mut answers = BufReader::new(nobody.stdout.take().unwrap());
    assert_eq!(roles::answer(&mut answers), "ready");

    let mut client = Client::start(&stage.client_cgroup());
    assert_eq!(client.ask(&format!("tcp {}", upstream.at)), format!("proxy {}", upstream.at), "its heartbeat counts");
    assert_eq!(roles::answer(&mut answers), format!("{} 1", client.pid()));
    assert!(nobody.wait().unwrap().success());
}
