//! The sensor: what it may take, and whose connections it sends where.

use crate::{
    declare::{Many, section},
    forms::Number,
    scopes::{Scope, ScopeSource},
};

section! {
    /// The sensor.
    pub struct Sensor, written SensorSource at "sensor." {
        /// Most processor time of the sensor, in the kernel and by its own process, in percent of one core. It is measured for one second
        /// in thirty; above the limit twice in a row, the sensor stops inspecting packets for ten minutes, so server names of connections
        /// that are not redirected are not seen. Redirecting and refusing never stop because of it.
        max_cpu_percent: u32 as Number<1, 6400> = 25;
        /// Scopes of connections, in order of precedence.
        scopes: Vec<Scope> as Many<ScopeSource>;
    }
}
