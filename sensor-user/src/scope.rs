//! Scopes: the treatment of connections, by cgroup.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya::maps::{Array, HashMap, MapData, MapError};
use gnomon_sensor_abi::{self as abi, Config, fail, mode, ports, quic};
use serde::{Deserialize, Serialize};

use crate::SensorError;

/// The treatment of UDP to port 443.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quic {
    /// Refuse it, so that clients fall back to TCP, which can be looked into.
    Refuse,
    /// Leave it.
    Leave,
}

/// The treatment of a connection that should be redirected and cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fail {
    /// Let it go direct.
    Open,
    /// Refuse it with `EPERM`.
    Closed,
}

/// At most sixteen ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortList([u16; 16]);

/// There are more than sixteen ports, or one is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scope lists at most 16 ports, none of them 0")]
pub struct TooManyPorts;

impl TryFrom<&[u16]> for PortList {
    type Error = TooManyPorts;

    fn try_from(ports: &[u16]) -> Result<Self, TooManyPorts> {
        let mut list = [0; 16];
        list.get_mut(..ports.len()).ok_or(TooManyPorts)?.copy_from_slice(ports);
        if ports.contains(&0) { Err(TooManyPorts) } else { Ok(Self(list)) }
    }
}

/// The ports of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ports {
    /// All ports: the proxy splices what is not TLS or HTTP.
    All,
    /// The listed ports.
    Listed(PortList),
}

/// The options of a redirecting scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// To which ports connections are redirected.
    pub ports: Ports,
    /// The treatment of QUIC.
    pub quic: Quic,
    /// The treatment of connections where redirecting is impossible.
    pub fail: Fail,
}

/// The mode of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Tag flows, touch nothing.
    Observe,
    /// Send connections to our listener.
    Redirect(Redirect),
    /// Not looked at: for gnomon's own processes, and for people who opted out.
    Off,
}

/// The treatment of connections of a cgroup and those below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// An id chosen by the caller, returned in [`crate::Owner::scope`].
    pub id: u32,
    /// Its mode.
    pub mode: Mode,
}

impl Scope {
    pub(crate) fn raw(self) -> abi::Scope {
        let mut raw =
            abi::Scope { mode: mode::OBSERVE, quic: quic::LEAVE, fail: fail::OPEN, port_rule: ports::ALL, id: self.id, ports: [0; 16] };
        match self.mode {
            Mode::Observe => {}
            Mode::Off => raw.mode = mode::OFF,
            Mode::Redirect(redirect) => {
                raw.mode = mode::REDIRECT;
                if redirect.quic == Quic::Refuse {
                    raw.quic = quic::REFUSE;
                }
                if redirect.fail == Fail::Closed {
                    raw.fail = fail::CLOSED;
                }
                if let Ports::Listed(PortList(list)) = redirect.ports {
                    raw.port_rule = ports::LISTED;
                    raw.ports = list;
                }
            }
        }
        raw
    }
}

/// The id of a cgroup: the inode number of its folder in cgroup2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupId(pub u64);

impl CgroupId {
    /// The id of the cgroup with this folder.
    ///
    /// # Errors
    /// When the folder cannot be looked at.
    pub fn of(path: impl AsRef<Path>) -> Result<Self, SensorError> {
        let path = path.as_ref();
        let found = fs::metadata(path).map_err(|source| SensorError::Cgroup { path: path.to_owned(), source })?;
        Ok(Self(found.ino()))
    }
}

/// The scopes, at most 4096. A connection belongs to the scope of the innermost cgroup that has one, otherwise to the default.
pub struct Scopes {
    pub(crate) scopes: HashMap<MapData, u64, abi::Scope>,
    pub(crate) config: Array<MapData, Config>,
}

impl Scopes {
    /// Sets the scope of a cgroup and those below it that have none of their own. It applies to
    /// connections made from now on.
    ///
    /// # Errors
    /// When the table is full.
    pub fn set(&mut self, cgroup: CgroupId, scope: Scope) -> Result<(), SensorError> {
        self.scopes.insert(cgroup.0, scope.raw(), 0).map_err(|source| SensorError::Map { name: "SCOPES", source })
    }

    /// Removes the scope of a cgroup. That there is none is no error.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove(&mut self, cgroup: CgroupId) -> Result<(), SensorError> {
        match self.scopes.remove(&cgroup.0) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(source) => Err(SensorError::Map { name: "SCOPES", source }),
        }
    }

    /// Leaves a cgroup's connections alone: for gnomon's own processes, whose upstream connections would come back to
    /// them.
    ///
    /// # Errors
    /// When the table is full.
    pub fn exclude(&mut self, cgroup: CgroupId) -> Result<(), SensorError> {
        self.set(cgroup, Scope { id: 0, mode: Mode::Off })
    }

    /// Sets what applies to cgroups without a scope.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_default(&mut self, scope: Scope) -> Result<(), SensorError> {
        let failed = |source| SensorError::Map { name: "CONFIG", source };
        let mut config = self.config.get(&0, 0).map_err(failed)?;
        config.default_scope = scope.raw();
        self.config.set(0, config, 0).map_err(failed)
    }
}
