//! What gnomon's inline proxy costs, measured beside a floor and a peer in one run; and what its sensor costs, measured
//! on connections that are observed and on others, in turns ([`sensor`]). Of the proxy:
//!
//! Absolute rates on a shared machine say little, so every judgement here is a *ratio* to
//! `floor-http`, the least an HTTP-aware intercepting proxy can do, taken in the same round and
//! with the order of the contenders rotated. CPU time comes from the scheduler's own nanosecond
//! counters, so a busy neighbour moves it far less than it moves the wall clock.
//!
//! Load goes to loopback only, and is bounded in time and count. The load generator lives in the
//! orchestrator's process; upstream, floor, peer and gnomon are processes of their own, because
//! their CPU time and memory are what is measured.

pub mod contender;
pub mod load;
pub mod measure;
pub mod pki;
pub mod portal;
pub mod report;
pub mod sensor;
pub mod tasks;
pub mod upstream;
