//! The crate seen from outside. One binary for all of it: linking is what a test costs most.
#![allow(clippy::unwrap_used)]

mod answers;
mod codings;
mod corpora;
mod dialogue;
mod local;
mod meaning;
mod notifications;
mod passage;
mod recorded;
mod requests;
mod suspected;
mod texts;
mod undecided;
mod words;
