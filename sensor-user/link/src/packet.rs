//! One message in, one message out, without waiting. Waiting is the channels' business.

use parking_lot::Mutex;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketType, getpeername, recvmsg, sendmsg, sockopt,
};

use crate::codec::{DecodeError, decode, encode};
use crate::error::os;
use crate::message::{DescriptorKind, Family, Message};
use crate::{LinkError, MAX_DESCRIPTORS, MAX_MESSAGE};

/// A message and the descriptors that belong to it: as many and of the kinds that [`Message::descriptors`] names,
/// closed on exec.
#[derive(Debug)]
pub struct Received<M> {
    /// The message.
    pub message: M,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
}

impl<M: Message> Received<M> {
    /// The descriptors, as many as the caller knows there are.
    ///
    /// # Errors
    /// The message has another number of them.
    pub fn take<const N: usize>(self) -> Result<[OwnedFd; N], LinkError> {
        let got = self.descriptors.len();
        self.descriptors.try_into().map_err(|_| LinkError::DescriptorCount { message: M::NAME, expected: N, got })
    }
}

/// The result of a call that may not wait.
pub(crate) enum Attempt<T> {
    Done(T),
    /// The call would block.
    Blocked,
}

/// A message to be sent: encoded once, retried until it is sent.
pub(crate) struct Outgoing<'fd> {
    bytes: Vec<u8>,
    descriptors: Vec<BorrowedFd<'fd>>,
}

impl<'fd> Outgoing<'fd> {
    pub(crate) fn new<M: Message>(message: &M, descriptors: &[BorrowedFd<'fd>]) -> Result<Self, LinkError> {
        check(message, descriptors)?;
        Ok(Self { bytes: encode(message)?, descriptors: descriptors.to_vec() })
    }

    pub(crate) fn attempt(&self, socket: BorrowedFd<'_>) -> Result<Attempt<()>, LinkError> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !self.descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&self.descriptors)) {
            return Err(LinkError::DescriptorsLost);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&self.bytes)], &mut control, flags)) {
            Ok(_) => Ok(Attempt::Done(())),
            Err(Errno::AGAIN) => Ok(Attempt::Blocked),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(LinkError::Closed),
            Err(error) => Err(os("send a message")(error)),
        }
    }
}

/// The receive buffer: room for the longest message, used by one receiver at a time. Pages of it that no message reached cost nothing.
#[derive(Debug)]
pub(crate) struct Inbox(Mutex<Box<[u8]>>);

impl Inbox {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(vec![0; MAX_MESSAGE].into_boxed_slice()))
    }

    /// Receives the next message, whole or not at all.
    pub(crate) fn receive<M: Message>(&self, socket: BorrowedFd<'_>) -> Result<Attempt<Received<M>>, LinkError> {
        // No state in there could be left half done by a panic.
        let mut buffer = self.0.lock();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC | RecvFlags::TRUNC;
        let arrived = match retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags)) {
            Ok(arrived) => arrived,
            Err(Errno::AGAIN) => return Ok(Attempt::Blocked),
            Err(Errno::CONNRESET) => return Err(LinkError::Closed),
            Err(error) => return Err(os("receive a message")(error)),
        };
        // From here on they are closed when they go out of scope, whatever else is wrong.
        let descriptors: Vec<OwnedFd> = control
            .drain()
            .filter_map(|part| match part {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        let bytes = match buffer.get(..arrived.bytes) {
            Some([]) => return Err(LinkError::Closed),
            Some(bytes) if !arrived.flags.contains(ReturnFlags::TRUNC) => bytes,
            _ => return Err(DecodeError::TooLong(arrived.bytes).into()),
        };
        let message: M = decode(bytes)?;
        if arrived.flags.contains(ReturnFlags::CTRUNC) {
            return Err(LinkError::DescriptorsLost);
        }
        check(&message, &descriptors)?;
        Ok(Attempt::Done(Received { message, descriptors }))
    }
}

/// Checked by both ends: by the sender so that a mistake shows where it was made.
fn check<M: Message>(message: &M, descriptors: &[impl AsFd]) -> Result<(), LinkError> {
    let kinds = message.descriptors();
    if kinds.len() != descriptors.len() {
        return Err(LinkError::DescriptorCount { message: M::NAME, expected: kinds.len(), got: descriptors.len() });
    }
    for (position, (descriptor, expected)) in descriptors.iter().zip(kinds).enumerate() {
        if !is(descriptor.as_fd(), *expected) {
            return Err(LinkError::WrongDescriptor { message: M::NAME, position, expected: *expected });
        }
    }
    Ok(())
}

fn is(descriptor: BorrowedFd<'_>, kind: DescriptorKind) -> bool {
    match kind {
        DescriptorKind::Map => true,
        DescriptorKind::File => rustix::fs::fstat(descriptor)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile),
        DescriptorKind::Pipe => {
            rustix::fs::fstat(descriptor).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo)
        }
        DescriptorKind::Listener(family) => is_stream(descriptor, family) && sockopt::socket_acceptconn(descriptor) == Ok(true),
        DescriptorKind::Socket(family) => {
            is_stream(descriptor, family)
                && sockopt::socket_acceptconn(descriptor) == Ok(false)
                && getpeername(descriptor).is_err_and(|error| error == Errno::NOTCONN)
        }
    }
}

fn is_stream(descriptor: BorrowedFd<'_>, family: Family) -> bool {
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    sockopt::socket_domain(descriptor) == Ok(domain) && sockopt::socket_type(descriptor) == Ok(SocketType::STREAM)
}
