//! Both ends over real sockets; with other processes where the kernel's information about them matters.

#![allow(clippy::unwrap_used)]

mod asynchronous;
mod descriptors;
mod hostile;
mod listening;
mod messages;
mod peers;
mod roles;
mod strategies;
mod versions;

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

/// Sends bytes and descriptors that no channel would send.
fn send_raw(socket: &impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
}

/// A descriptor to pass on.
fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}
