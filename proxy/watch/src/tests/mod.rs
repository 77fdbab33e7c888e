//! The watch against a sensor that is played: real link, real ledger, records as the kernel half writes them.
#![allow(clippy::unwrap_used)]

mod bypass;
mod flows;
mod identities;
mod lost;
mod owners;
mod raw;
mod returning;
mod sensor;
mod stage;
mod starts;
