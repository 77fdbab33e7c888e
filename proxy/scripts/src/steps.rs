//! Progress notifications after each call of a script: a client that hears nothing for long would give up.

use bytes::Bytes;
use gnomon_relay::emission::Emission;
use gnomon_upstream::rpc::{Id, quoted};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::mpsc;

/// The calls of one execution whose client wants to hear of its progress.
pub(super) struct Steps {
    token: Id,
    emit: mpsc::Sender<Emission>,
    made: AtomicU32,
}

impl Steps {
    /// The progress of a request with this token.
    pub fn of(token: Option<Id>, emit: &mpsc::Sender<Emission>) -> Option<Self> {
        Some(Self { token: token?, emit: emit.clone(), made: AtomicU32::new(0) })
    }

    /// A tool has answered. Not said where the client is slow to listen: the next is as good.
    pub fn one(&self, tool: &str) {
        let made = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        let said = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":{made},"message":{}}}}}"#,
            self.token.json(),
            quoted(tool)
        );
        let _ = self.emit.try_send(Emission::Message(Bytes::from(said)));
    }
}
