//! Alerts as an installation has them: the real Prometheus with the rules that ship, and one event.

mod files;
mod firing;
mod prometheus;
mod queries;
