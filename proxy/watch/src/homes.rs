//! Home directories, as their owners' readers tell of them: the sensor starts the readers, and what they say comes here unread.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::metrics::{Shed, WatchMetrics};

/// Most homes that wait to be taken up. The sensor reads one after the other.
const WAITING: usize = 16;

/// A home directory that is being read.
#[derive(Debug)]
pub struct Home {
    /// The owner.
    pub uid: u32,
    /// The owner's name.
    pub name: String,
    /// The directory.
    pub home: PathBuf,
    /// A pipe with what its reader says, which is the owner's word.
    pub said: OwnedFd,
}

/// The request in progress.
#[derive(Debug, Default)]
pub(crate) struct Reading(Mutex<Option<(u64, mpsc::Sender<Home>)>>);

impl Reading {
    /// Begins a request, in place of the one before.
    pub fn begin(&self, token: u64) -> mpsc::Receiver<Home> {
        let (tell, homes) = mpsc::channel(WAITING);
        *self.0.lock() = Some((token, tell));
        homes
    }

    /// The sensor has started a reader.
    pub fn take(&self, token: u64, home: Home, metrics: &WatchMetrics) {
        let reading = self.0.lock();
        let told = reading.as_ref().filter(|(of, _)| *of == token).is_some_and(|(_, tell)| tell.try_send(home).is_ok());
        if !told {
            metrics.shed(Shed::Message, 1);
        }
    }

    /// The sensor has read them all, or will not. True if that was asked for here.
    pub fn end(&self, token: u64) -> bool {
        let mut reading = self.0.lock();
        let is_it = reading.as_ref().is_some_and(|(of, _)| *of == token);
        if is_it {
            *reading = None;
        }
        is_it
    }

    /// The sensor is gone.
    pub fn close(&self) {
        *self.0.lock() = None;
    }
}
