//! Questions of a server that were not answered yet. While a person considers one, the server may be silent without counting as frozen.

use gnomon_catalogue::{
    members::Members,
    rpc::{Id, Message},
};
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Most questions that are known.
const MOST: usize = 256;
/// The longest that an answer may take; after it the question no longer counts.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// The open questions of one session.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<HashMap<Id, Instant>>);

impl Asked {
    fn table(&self) -> MutexGuard<'_, HashMap<Id, Instant>> {
        self.0.lock()
    }

    /// The server asks this.
    fn asks(&self, id: &Id) {
        let mut table = self.table();
        if table.len() >= MOST {
            table.retain(|_, since| since.elapsed() < LONGEST);
        }
        if table.len() < MOST {
            table.insert(id.clone(), Instant::now());
        }
    }

    /// The server says this: it asks, or takes a question back.
    pub fn heard(&self, message: &Message) {
        match message {
            Message::Request(request) => self.asks(&request.id),
            Message::Notification(told) if told.method == "notifications/cancelled" => {
                let params = Members::of(told.params.as_ref()).unwrap_or_default();
                if let Some(id) = params.get("requestId").and_then(|id| Id::of_json(id.as_bytes())) {
                    self.settled(&id);
                }
            }
            Message::Notification(_) | Message::Response(_) => {}
        }
    }

    /// Forgets a question that was answered, or is no longer asked.
    pub fn settled(&self, id: &Id) {
        self.table().remove(id);
    }

    /// True if the server waits for an answer.
    pub fn any(&self) -> bool {
        self.table().values().any(|since| since.elapsed() < LONGEST)
    }
}
