//! The sensor: what it may take, and whose connections it sends where.

use crate::{
    declare::{Many, section},
    forms::{Number, Word, words},
    scopes::{Scope, ScopeSource},
};

section! {
    /// The sensor.
    pub struct Sensor, written SensorSource at "sensor." {
        /// Most processor time of the sensor, in the kernel and by its own process, in percent of one core. It is measured for one second
        /// in thirty; above the limit twice in a row, the sensor stops inspecting packets for ten minutes, so server names of connections
        /// that are not redirected are not seen. Redirecting and refusing never stop because of it.
        max_cpu_percent: u32 as Number<1, 6400> = 25;
        /// Whether starts of programs are looked at for local MCP servers, which a client starts and talks to over its standard streams:
        /// `on` or `off`. What is recorded of them: docs/privacy.md.
        starts: Looking as Word<Looking> = Looking::On;
        /// Whether the configuration files of MCP clients in the home directories of this host are read, each by a process of its owner, for the
        /// servers that they list: `on`, where the sensor looks at all of the host; `always`, also with `--sensor FOLDER`; or `off`.
        homes: ReadHomes as Word<ReadHomes> = ReadHomes::On;
        /// Interval of reading all of them, minutes. One in which something changes is read within seconds.
        homes_minutes: u32 as Number<1, 1440> = 10;
        /// Scopes of connections, in order of precedence.
        scopes: Vec<Scope> as Many<ScopeSource>;
    }
}

words! { Looking: "on" => On, "off" => Off }

/// Whether something is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looking {
    /// It is.
    On,
    /// It is not.
    Off,
}

words! { ReadHomes: "on" => On, "always" => Always, "off" => Off }

/// Whether home directories are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadHomes {
    /// Where the sensor looks at all of the host.
    On,
    /// Also where it looks at a part.
    Always,
    /// They are not.
    Off,
}
