//! The messages: one enum for each direction, so that an end can only say what the other listens to.
//!
//! The first variant of each begins with a [`Version`] and keeps its place and that beginning for ever: it is what
//! two versions tell each other apart by. Within a major version variants are only added at the end, fields never;
//! neither side sends a message that the other's minor version does not know.

mod exec;
mod home;
mod identity;
mod sensor;
mod start;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use exec::{Bundle, Denial, Redirect, ToExec, ToGnomon};
pub use home::Homes;
pub use identity::{
    Ancestor, CommandLine, Container, Credentials, Executable, GenerationEvidence, Identity, IdentityAnswer, Image, NameOrigin,
};
pub use sensor::{
    Adoption, COST, COST_KERNEL, COST_PROCESS, Count, EXEC_SCOPES, Fail, Families, Feature, FeatureState, Mode, Ports, Program, Quic,
    RefusalReason, ScopeChange, ScopeSettings, ToProxy, ToSensor, UNASKED,
};

pub use start::{Arguments, Lineage, ListensAnswer, Parent, StartAnswer, Started, Starts};

/// The protocol version of this build.
pub const VERSION: Version = Version { major: 1, minor: 7 };

/// The version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Different majors do not understand each other.
    pub major: u16,
    /// Grows with each added variant.
    pub minor: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A family of Internet addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The kind that a descriptor must be of. Checked on arrival, as far as that is possible without `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DescriptorKind {
    /// A TCP socket that listens.
    Listener(Family),
    /// A TCP socket that is neither connected nor listens.
    Socket(Family),
    /// A regular file or memory file.
    File,
    /// A pipe to read from.
    Pipe,
    /// A BPF map; its type shows only when it is mapped into memory.
    Map,
}

/// A direction of the protocol.
pub trait Message: Serialize + DeserializeOwned + fmt::Debug + Send + 'static + sealed::Sealed {
    /// Its name in errors.
    const NAME: &'static str;
    /// The number of variants that this version knows.
    const VARIANTS: u32;

    /// The descriptors that travel with this message, in order: at most [`MAX_DESCRIPTORS`](crate::MAX_DESCRIPTORS).
    fn descriptors(&self) -> &'static [DescriptorKind];
}

mod sealed {
    /// Only the four directions of this crate.
    pub trait Sealed {}

    impl Sealed for super::ToSensor {}
    impl Sealed for super::ToProxy {}
    impl Sealed for super::ToGnomon {}
    impl Sealed for super::ToExec {}
}
