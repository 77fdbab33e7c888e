//! The sensor: what it may take, and whose connections it sends where.

use crate::{
    declare::{Many, section},
    forms::Number,
    scopes::{Scope, ScopeSource},
};

section! {
    /// The sensor.
    pub struct Sensor, written SensorSource at "sensor." {
        /// The sensor's share of the processor, in the kernel and by its own process, in percent of one core. Measured for one second in
        /// thirty; above it twice in a row, it does not look at packets for ten minutes: server names of connections that are not
        /// redirected are not seen then. Redirecting and refusing never end because of it.
        max_cpu_percent: u32 as Number<1, 6400> = 25;
        /// Scopes of connections, in order of precedence.
        scopes: Vec<Scope> as Many<ScopeSource>;
    }
}
