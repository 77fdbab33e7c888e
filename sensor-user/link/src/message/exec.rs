//! Between `gnomon exec`, which any user may run, and a running gnomon.

use serde::{Deserialize, Serialize};

use super::{DescriptorKind, Message, Version};
use crate::bounds::{Long, Text};

/// A message of `gnomon exec`. Its sender is read off the socket ([`Channel::peer`](crate::Channel::peer)), never out of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGnomon {
    /// Take me, and what I start, into a scope. The only message.
    Join {
        /// The client's protocol version.
        version: Version,
        /// The program that will run, for display only.
        argv0: Long,
        /// Redirection of its connections.
        redirect: Redirect,
    },
}

/// Redirection of connections to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Redirect {
    /// Connections go through the proxy.
    On,
    /// Connections are only tagged, and go direct.
    Off,
}

/// An answer of a running gnomon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToExec {
    /// Nothing was changed. (First variant, as clients of other versions must be able to decode it.)
    Denied {
        /// The running gnomon's protocol version.
        version: Version,
        /// The kind of reason.
        why: Denial,
        /// The reason in words.
        detail: Text<1024>,
        /// The remedy.
        next: Text<1024>,
    },
    /// The client has been moved into its scope: what it executes now is as well.
    ///
    /// The client is moved, and not given a descriptor to move itself with: the kernel judges a write to
    /// `cgroup.procs` by who opened it, so the holder of one that root opened can move any process.
    Joined {
        /// Path of the cgroup.
        cgroup: Long,
        /// The certificate authorities to trust.
        bundle: Bundle,
    },
}

/// The reason that a client may not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Denial {
    /// The versions do not understand each other.
    Version,
    /// The configuration does not let this user.
    NotAllowed,
    /// No kernel half is attached that could tag or redirect.
    NoSensor,
    /// The client cannot be identified for sure.
    UnknownPeer,
    /// Too many scopes.
    Full,
    /// The kernel refused.
    Failed,
}

/// Our authority beside those that the host trusts, as PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bundle {
    /// No bundle is needed: nothing is intercepted.
    None,
    /// A file that everybody may read.
    At(Long),
    /// The attached descriptor.
    Attached,
}

impl Message for ToGnomon {
    const NAME: &'static str = "message to gnomon";
    const VARIANTS: u32 = 1;

    fn descriptors(&self) -> &'static [DescriptorKind] {
        &[]
    }
}

impl Message for ToExec {
    const NAME: &'static str = "answer to gnomon exec";
    const VARIANTS: u32 = 2;

    fn descriptors(&self) -> &'static [DescriptorKind] {
        match self {
            Self::Joined { bundle: Bundle::Attached, .. } => &[DescriptorKind::File],
            _ => &[],
        }
    }
}
