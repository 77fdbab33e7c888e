//! The socket in the file system.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use gnomon_link::*;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};

use crate::SOON;

#[test]
fn a_client_joins_over_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gnomon.sock");
    let listener = Listener::bind(&path, Access::Everybody).unwrap();
    let client = ExecEnd::connect(&path, SOON).unwrap();
    let gnomon: GnomonEnd = listener.accept(SOON).unwrap();
    let join = ToGnomon::Join { version: VERSION, argv0: Text::cut("claude"), redirect: Redirect::On };
    client.send(&join, &[], SOON).unwrap();
    assert_eq!(gnomon.recv(SOON).unwrap().message, join);
    let denied = ToExec::Denied {
        version: VERSION,
        why: Denial::NotAllowed,
        detail: Text::cut("not in group agents"),
        next: Text::cut("ask for it"),
    };
    gnomon.send(&denied, &[], SOON).unwrap();
    assert_eq!(client.recv(SOON).unwrap().message, denied);
}

#[test]
fn the_mode_is_the_one_asked_for_and_the_path_is_free_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gnomon.sock");
    for (access, mode) in [(Access::Group, 0o660), (Access::Everybody, 0o666)] {
        let listener = Listener::bind(&path, access).unwrap();
        assert_eq!(listener.path(), path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        drop(listener);
        assert!(!path.exists());
    }
}

#[test]
fn a_path_that_is_alive_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gnomon.sock");
    let listener = Listener::bind(&path, Access::Group).unwrap();
    assert!(matches!(Listener::bind(&path, Access::Group), Err(LinkError::InUse { .. })));
    ExecEnd::connect(&path, SOON).unwrap();
    drop(listener);
    // A listener with another socket type.
    let _foreign = UnixListener::bind(&path).unwrap();
    assert!(matches!(Listener::bind(&path, Access::Group), Err(LinkError::InUse { .. })));
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gnomon.sock");
    let dead = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    bind(&dead, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    drop(dead);
    let listener = Listener::bind(&path, Access::Group).unwrap();
    ExecEnd::connect(&path, SOON).unwrap();
    let _accepted: GnomonEnd = listener.accept(SOON).unwrap();
}

#[test]
fn a_file_that_is_not_a_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("precious");
    fs::write(&file, "content").unwrap();
    let link = folder.path().join("link");
    symlink(&file, &link).unwrap();
    for path in [&file, &link] {
        assert!(matches!(Listener::bind(path, Access::Group), Err(LinkError::NotASocket { .. })));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "content");
}

#[test]
fn what_was_put_in_its_place_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gnomon.sock");
    let listener = Listener::bind(&path, Access::Group).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another's").unwrap();
    drop(listener);
    assert!(path.exists());
}

#[test]
fn waiting_for_a_client_ends_with_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let listener = Listener::bind(&folder.path().join("gnomon.sock"), Access::Group).unwrap();
    let waited: Result<GnomonEnd, _> = listener.accept(Duration::from_millis(20));
    assert!(matches!(waited, Err(LinkError::TimedOut)));
}

#[test]
fn clients_that_are_not_accepted_in_time_give_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gnomon.sock");
    let _listener = Listener::bind(&path, Access::Group).unwrap();
    let mut queued = Vec::new();
    let refused = loop {
        match ExecEnd::connect(&path, Duration::from_millis(20)) {
            Ok(client) => queued.push(client),
            Err(error) => break error,
        }
        assert!(queued.len() < 1_000);
    };
    assert!(matches!(refused, LinkError::TimedOut), "{refused}");
    assert!(matches!(ExecEnd::connect(&folder.path().join("nobody"), SOON), Err(LinkError::Os { .. })));
}
