//! An exchange in progress, as both of its bodies see it.

use crate::{arriving::Arriving, departure::Departure, room::Account};
use gnomon_inspect::{Exchange, Refusal, Sighting};
use gnomon_record::{JudgedExchange, Recorder};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
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
    /// What the calls have of the room whose answers are awaited.
    calls: Mutex<Account>,
    /// Whether they have any.
    calls_charged: AtomicBool,
}

/// Calls that take no more than this are not charged: a few, as nearly all exchanges have.
const FEW_CALLS: usize = 16 << 10;

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
    refusal: Option<(Box<Refusal>, Option<Arriving>)>,
    sending: Sending,
}

/// Whether the request is still being sent.
enum Sending {
    /// Unsent, or failed: `Some` is the part of its body that was not read.
    Yes(Option<Arriving>),
    /// The answer has begun.
    Answered,
}

impl Watched {
    /// An exchange that began at `began`.
    pub fn new(exchange: Exchange, recorder: &Recorder, began: Instant, departure: Option<Arc<Departure>>, account: Account) -> Arc<Self> {
        let upload = Mutex::new(UploadState { refusal: None, sending: Sending::Yes(None) });
        let (judged, over) = (JudgedExchange::new(exchange, recorder, began), AtomicU8::new(0));
        Arc::new(Self { judged, upload, over, departure, calls: Mutex::new(account), calls_charged: AtomicBool::new(false) })
    }

    /// Works on the exchange and records what became due.
    pub fn with<R>(&self, work: impl FnOnce(&mut Exchange) -> R) -> R {
        let (done, kept) = self.judged.with(|exchange| (work(exchange), exchange.calls_keep()));
        if kept > FEW_CALLS || self.calls_charged.load(Ordering::Relaxed) {
            self.charge_calls(kept);
        }
        done
    }

    /// The same at the end of an exchange; `tell` has what became due before it is recorded, and may take from it what is told otherwise.
    pub fn with_told(&self, work: impl FnOnce(&mut Exchange), tell: impl FnOnce(&mut Vec<Sighting>)) {
        self.judged.with_told(work, tell);
    }

    fn charge_calls(&self, kept: usize) {
        let charged = if kept > FEW_CALLS { kept } else { 0 };
        self.calls_charged.store(charged > 0, Ordering::Relaxed);
        if self.calls.lock().keeps(charged).is_err() {
            self.judged.with(Exchange::calls_have_no_room);
        }
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
    pub fn refuse(&self, refusal: Box<Refusal>, rest: Option<Arriving>) {
        self.upload.lock().refusal = Some((refusal, rest));
    }

    /// The answer has begun: the rest of the body is not forwarded.
    pub fn answered(&self) {
        self.upload.lock().sending = Sending::Answered;
    }

    /// The part of the body of an unsent request that was not read.
    pub fn take_unsent(&self) -> Option<Arriving> {
        match &mut self.upload.lock().sending {
            Sending::Yes(unsent) => unsent.take(),
            Sending::Answered => None,
        }
    }

    /// Keeps what was not read of the body of a request that may not be sent.
    pub fn keep_unsent(&self, rest: Arriving) {
        let mut upload = self.upload.lock();
        if let Sending::Yes(unsent) = &mut upload.sending {
            *unsent = Some(rest);
        }
    }

    /// The refusal that broke the upload off, if one did, and what the client has still to send.
    pub fn take_refusal(&self) -> Option<(Box<Refusal>, Option<Arriving>)> {
        self.upload.lock().refusal.take()
    }
}
