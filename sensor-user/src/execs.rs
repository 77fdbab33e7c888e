//! The times at which processes last called exec, as the kernel half remembers them.

use std::os::fd::OwnedFd;

use aya::maps::{HashMap, Map, MapData};

use crate::SensorError;

/// Looks up processes in the kernel half's table of execs. Threads may share one.
#[derive(Debug)]
pub struct Execs(HashMap<MapData, u32, u64>);

impl Execs {
    pub(crate) fn from_fd(map: OwnedFd) -> Result<Self, SensorError> {
        let failed = |source| SensorError::Map { name: "EXECS", source };
        let data = MapData::from_fd(map).map_err(failed)?;
        Ok(Self(HashMap::try_from(Map::LruHashMap(data)).map_err(failed)?))
    }

    /// Nanoseconds since boot (`CLOCK_BOOTTIME`) at which this process of the first PID namespace last called exec. None where
    /// that was before the sensor started, was forgotten (the oldest make way), or the probe is missing.
    #[must_use]
    pub fn last(&self, pid: u32) -> Option<u64> {
        self.0.get(&pid, 0).ok()
    }
}
