//! By which calls of a session its client can be told something: before a client has opened a stream of its own, what a server says
//! by itself goes into the answer of a call that it has open there.

use crate::{emission::Emission, unsent::Recipient};
use parking_lot::{Mutex, MutexGuard};
use smol_str::SmolStr;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// The calls that a session has open at servers.
#[derive(Default)]
pub struct OpenCalls {
    calls: Mutex<Vec<OpenCall>>,
    next: AtomicU64,
}

struct OpenCall {
    number: u64,
    server: SmolStr,
    emit: mpsc::Sender<Emission>,
    recipient: Recipient,
}

impl OpenCalls {
    fn calls(&self) -> MutexGuard<'_, Vec<OpenCall>> {
        self.calls.lock()
    }

    /// A call begins at a server.
    pub fn begin(&self, server: &SmolStr, emit: mpsc::Sender<Emission>, recipient: Recipient) -> Reachable<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.calls().push(OpenCall { number, server: server.clone(), emit, recipient });
        Reachable { among: self, number }
    }

    /// The way back to the client of the last call at this server of which the answer can be a stream.
    pub fn at(&self, server: &SmolStr) -> Option<(mpsc::Sender<Emission>, Recipient)> {
        let calls = self.calls();
        let call = calls.iter().rev().find(|call| call.server == *server && !call.emit.is_closed())?;
        Some((call.emit.clone(), call.recipient.clone()))
    }
}

/// A call that is open until this is dropped.
pub struct Reachable<'a> {
    among: &'a OpenCalls,
    number: u64,
}

impl Drop for Reachable<'_> {
    fn drop(&mut self) {
        self.among.calls().retain(|call| call.number != self.number);
    }
}
