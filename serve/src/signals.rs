//! The signals that a running gnomon obeys: SIGTERM and SIGINT stop it, SIGHUP has it read its configuration again.

use crate::{changes::By, hangup::Hangup};
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The request of a signal.
pub enum Asked {
    /// A reload, with the signal's sender.
    Reload(By),
    Stop,
}

pub struct Signals {
    hangup: Hangup,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn new() -> io::Result<Self> {
        Ok(Self { hangup: Hangup::new()?, terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            by = self.hangup.next() => Asked::Reload(by),
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
        }
    }

    /// Waits for another request to stop.
    pub async fn stop_again(&mut self) {
        while let Asked::Reload(_) = self.next().await {}
    }
}
