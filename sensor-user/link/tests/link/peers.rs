//! The credentials of the peer.

use std::process::Stdio;
use std::time::Duration;

use gnomon_link::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::SOON;
use crate::roles::start;

#[test]
fn the_kernel_says_who_connected_and_a_pidfd_says_when_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gnomon.sock");
    let listener = Listener::bind(&path, Access::Group).unwrap();
    let mut client = start("client", Stdio::piped(), &path);
    let gnomon: GnomonEnd = listener.accept(SOON).unwrap();
    let peer = gnomon.peer().unwrap();
    assert_eq!(peer.pid.get(), client.0.id());
    assert_eq!((peer.uid, peer.gid), (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
    let Some(pidfd) = peer.pidfd else {
        gnomon_testkit::skip("the_kernel_says_who_connected_and_a_pidfd_says_when_it_ended", "this kernel has no SO_PEERPIDFD (Linux 6.5)");
        return;
    };
    let ended = |wait: Duration| {
        let wait = Timespec::try_from(wait).unwrap();
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&wait)).unwrap() == 1
    };
    assert!(!ended(Duration::ZERO));
    client.0.kill().unwrap();
    assert!(ended(SOON));
    client.0.wait().unwrap();
    // Its process id may be reused. Kernels differ in whether they still return a pidfd of the dead process.
    assert!(matches!(gnomon.peer(), Ok(PeerCredentials { pidfd: Some(_), .. }) | Err(LinkError::PeerGone)));
}

#[test]
fn both_ends_of_a_pair_are_known_as_who_made_it() {
    let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    for peer in [proxy.peer().unwrap(), sensor.peer().unwrap()] {
        assert_eq!(peer.pid.get(), std::process::id());
    }
}
