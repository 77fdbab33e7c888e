//! An exchange in progress, as both of its bodies see it.

use crate::departure::Departure;
use gnomon_inspect::{Exchange, Refusal};
use gnomon_record::{JudgedExchange, Recorder};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};

/// A judged exchange, and how far its upload is.
pub(crate) struct Watched {
    judged: JudgedExchange<Exchange>,
    upload: Mutex<UploadState>,
    /// The legs that are over.
    over: AtomicU8,
    departure: Option<Arc<Departure>>,
}

/// The two ways that bytes go in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    Request = 1,
    Answer = 2,
}

/// Both legs.
const BOTH: u8 = Leg::Request as u8 | Leg::Answer as u8;

struct UploadState {
    /// The refusal that broke the upload off, and the rest of the client's body.
    refusal: Option<(Box<Refusal>, Option<Incoming>)>,
    sending: Sending,
}

/// Whether the request is still being sent.
enum Sending {
    /// Unsent, or failed: `Some` is the part of its body that was not read.
    Yes(Option<Incoming>),
    /// The answer has begun.
    Answered,
}

impl Watched {
    /// An exchange that began at `began`.
    pub fn new(exchange: Exchange, recorder: &Recorder, began: Instant, departure: Option<Arc<Departure>>) -> Arc<Self> {
        let upload = Mutex::new(UploadState { refusal: None, sending: Sending::Yes(None) });
        Arc::new(Self { judged: JudgedExchange::new(exchange, recorder, began), upload, over: AtomicU8::new(0), departure })
    }

    /// Works on the exchange and records what became due.
    pub fn with<R>(&self, work: impl FnOnce(&mut Exchange) -> R) -> R {
        self.judged.with(work)
    }

    /// Marks this leg as ended. With the second the exchange ends, and is recorded.
    pub fn over(&self, leg: Leg) {
        if self.over.fetch_or(leg as u8, Ordering::AcqRel) | leg as u8 == BOTH {
            self.finish();
        }
    }

    /// The connection is joined to the server's from now on.
    pub fn leaves_http(&self) {
        if let Some(departure) = &self.departure {
            departure.leaves_http();
        }
    }

    /// Whether the client has ended its side of the connection.
    pub fn client_has_ended(&self) -> bool {
        self.departure.as_ref().is_some_and(|departure| departure.has_ended())
    }

    /// Ends the exchange: records the rest of it.
    pub fn finish(&self) {
        self.judged.finish();
    }

    /// Remembers why the upload was broken off, for the answer.
    pub fn refuse(&self, refusal: Box<Refusal>, rest: Option<Incoming>) {
        self.upload.lock().refusal = Some((refusal, rest));
    }

    /// The answer has begun: the rest of the body is not forwarded.
    pub fn answered(&self) {
        self.upload.lock().sending = Sending::Answered;
    }

    /// The part of the body of an unsent request that was not read.
    pub fn take_unsent(&self) -> Option<Incoming> {
        match &mut self.upload.lock().sending {
            Sending::Yes(unsent) => unsent.take(),
            Sending::Answered => None,
        }
    }

    /// Keeps what was not read of the body of a request that may not be sent.
    pub fn keep_unsent(&self, rest: Incoming) {
        let mut upload = self.upload.lock();
        if let Sending::Yes(unsent) = &mut upload.sending {
            *unsent = Some(rest);
        }
    }

    /// The refusal that broke the upload off, if one did, and what the client has still to send.
    pub fn take_refusal(&self) -> Option<(Box<Refusal>, Option<Incoming>)> {
        self.upload.lock().refusal.take()
    }
}
