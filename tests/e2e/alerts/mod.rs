//! Alerts as in an installation: the real Prometheus with the rules that ship, and one event.

mod a_day;
mod ailing;
mod disk;
mod exports;
mod files;
mod firing;
mod going_around;
mod played;
pub mod prometheus;
mod queries;
