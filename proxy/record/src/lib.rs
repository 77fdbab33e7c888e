//! Observations become events and metrics, in one way for every road on which traffic comes.
//!
//! [`Duties`] lists the work in progress that owes an event; [`JudgedExchange`] is the duty of one exchange of a request and its answer.
//! Due reports go to the [`Recorder`], which finishes them ([`Finisher`]), counts them ([`Metrics`]) and hands them to the ledger.
//! [`Owners`] names the owners of connections. Intercept, portal and watch all record through this crate, so that a duty is written down
//! once.
//!
//! It opens no sockets and judges nothing.
#![deny(missing_docs)]

mod aftermath;
mod duties;
mod exchange;
mod exposition;
mod finish;
mod flows;
mod metrics;
mod owners;
mod recorder;

pub use duties::{Duties, Duty, Left, Undertaken};
pub use exchange::JudgedExchange;
pub use finish::Finisher;
pub use flows::FlowOutcome;
pub use gnomon_ledger::this_host;
pub use metrics::{Metrics, Reload};
pub use owners::{LOOKED_UP, Missing, Owned, Owners, lost};
pub use recorder::Recorder;
