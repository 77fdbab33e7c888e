//! Ends of links, handed from the supervisor to the serving process: one for each sensor that is started. A byte that says
//! nothing, and the descriptor (unix(7), SCM_RIGHTS).

use anyhow::{Context, Result, ensure};
use gnomon_link::ProxyEnd;
use rustix::{
    cmsg_space,
    io::retry_on_intr,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
};

/// The supervisor's end.
#[derive(Debug)]
pub struct Giver(OwnedFd);

/// The serving process's end.
#[derive(Debug)]
pub struct Handed(OwnedFd);

/// Makes both ends, closed on exec.
pub fn pair() -> Result<(Giver, OwnedFd)> {
    let ends = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = ends.context("making a pair of sockets")?;
    Ok((Giver(ours), theirs))
}

impl Giver {
    /// Hands over the proxy's end of a link.
    ///
    /// # Errors
    /// The serving process is gone, or did not take the ones before.
    pub fn give(&self, link: ProxyEnd) -> Result<()> {
        let link = link.into_socket();
        let descriptors = [link.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        ensure!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "there is no room for a descriptor");
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(&[0])], &mut control, flags)).context("handing over a link")?;
        Ok(())
    }
}

impl Handed {
    /// The receiving end of this socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Waits for the link to the next sensor. `None` when there will be no more.
    pub fn next(&self) -> Option<ProxyEnd> {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = retry_on_intr(|| recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)).ok()?;
        let mut descriptors = control.drain().filter_map(|part| match part {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let link = descriptors.next()?.next()?;
        if received.bytes == 0 { None } else { ProxyEnd::from_socket(link).ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_link::ToSensor;
    use std::time::Duration;

    #[test]
    fn links_are_handed_over_until_the_giver_is_gone() {
        let (giver, theirs) = pair().unwrap();
        let sensors = Handed::new(theirs);
        for token in [1, 2] {
            let (proxy, sensor) = ProxyEnd::pair().unwrap();
            giver.give(proxy).unwrap();
            let second = Duration::from_secs(1);
            sensors.next().unwrap().send(&ToSensor::Features { token }, &[], second).unwrap();
            assert_eq!(sensor.recv(second).unwrap().message, ToSensor::Features { token });
        }
        drop(giver);
        assert!(sensors.next().is_none());
    }
}
