//! The request's body: fed as it comes, judged message by message, and decided where it cannot be read.

use crate::{
    Exchange, Gate,
    dialogue::call::{Subject, describe, describe_malformed, note},
    dialogue::refusal::Form,
    http::exchange::set_signatures,
    http::reading::{Found, Layer, Piece, Reading},
    passage::Passage,
};
use gnomon_observe::Field;
use gnomon_wire::{
    jsonrpc::{Message, Shape, Version},
    mcp,
};

/// Most messages of one body that are judged one by one: no server that batches is sent more, and each costs
/// more than the few bytes that it may have. Past it a body counts as unreadable; its messages are only counted.
pub const MAX_MESSAGES: u32 = 4096;
/// Bytes of decoded body that `http.request.body.text` shows.
const TEXT_BYTES: usize = 1024;

/// A request's body as far as it came.
pub(crate) struct RequestBody {
    /// None once nothing more is to be learned.
    reading: Option<Box<Reading>>,
    /// Raw bytes read.
    pub bytes: u64,
    /// What `http.request.body.text` shows, if a rule asks.
    pub text: Option<Vec<u8>>,
    /// Messages judged so far.
    judged: u32,
    overflow: Overflow,
    frames: Frames,
}

/// Whether a body says that it is messages in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    No,
    Expected,
}

/// Whether a body had more messages than are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    No,
    /// It has, and that was not decided on yet.
    Due,
    Decided,
}

impl RequestBody {
    pub fn new(reading: Option<Box<Reading>>, frames: Frames, text: Option<Vec<u8>>) -> Self {
        Self { reading, bytes: 0, text, judged: 0, overflow: Overflow::No, frames }
    }

    /// Whether it begins as messages in frames do, and says that it is some: its client may wait for the answer to each.
    pub fn is_in_frames(&self) -> bool {
        self.frames == Frames::Expected && self.reading.as_ref().is_some_and(|reading| reading.begins_with_nul())
    }

    /// Whether messages may come.
    pub fn is_read(&self) -> bool {
        self.reading.is_some()
    }
}

impl Exchange {
    /// Feeds bytes of the body as they came off the wire (transfer coding removed, content coding
    /// not). They may be forwarded only if the gate says so.
    pub fn request_bytes(&mut self, raw: &[u8]) -> Gate {
        let mut gate = self.request_some(raw);
        loop {
            match gate {
                Some(gate) => return gate,
                None => gate = self.request_some(&[]),
            }
        }
    }

    /// The same in steps: where the bytes decode to more than a mebibyte, it gives none, and is to be called again with no bytes
    /// until there is a gate. What one connection sends must not keep the others of its thread waiting.
    pub fn request_some(&mut self, raw: &[u8]) -> Option<Gate> {
        self.body.bytes += raw.len() as u64;
        if let Some(mut reading) = self.body.reading.take() {
            let found = reading.feed(raw, &mut |piece| self.take_piece(&piece));
            self.body.reading = Some(reading);
            self.settle(found);
        }
        let behind = self.refused.is_none() && self.body.reading.as_ref().is_some_and(|reading| reading.is_behind());
        (!behind).then(|| self.gate())
    }

    /// The request's body is over (or there was none).
    pub fn request_end(&mut self) -> Gate {
        if !self.request_over {
            self.request_over = true;
            if let Some(mut reading) = self.body.reading.take() {
                let found = reading.end(&mut |piece| self.take_piece(&piece));
                self.settle(found);
            }
            if self.nothing_judged() {
                self.judge_exchange();
            }
        }
        self.gate()
    }

    /// The caller holds as much as it may. From now on the gate holds nothing: what was fed may go
    /// unless it is refused, and later bytes are judged as they come.
    pub fn window_full(&mut self) -> Gate {
        self.window_full = true;
        if let Some(verdict) = self.forced
            && self.refused.is_none()
        {
            let partial = self.body.reading.as_ref().and_then(|reading| reading.partial()).cloned();
            if let Some(message) = partial.filter(|m| m.method.is_some()) {
                self.judge_message(&message, Layer::Announced);
            }
            self.refused.get_or_insert(verdict);
        }
        self.gate()
    }

    fn take_piece(&mut self, piece: &Piece<'_>) {
        match piece {
            Piece::Text(plain) => {
                if let Some(text) = &mut self.body.text {
                    let room = TEXT_BYTES.saturating_sub(text.len());
                    text.extend_from_slice(&plain[..plain.len().min(room)]);
                }
            }
            Piece::Message(message, layer) => self.take_message(message, *layer),
        }
    }

    fn take_message(&mut self, message: &Message, layer: Layer) {
        if self.body.judged < MAX_MESSAGES {
            self.body.judged += 1;
            self.judge_message(message, layer);
            return;
        }
        // Long arrays of other APIs' objects are none of our business.
        if message.jsonrpc == Version::Absent && !message.method.as_deref().is_some_and(mcp::is_mcp_method) {
            return;
        }
        if self.body.overflow == Overflow::No {
            self.body.overflow = Overflow::Due;
        }
        self.count_unjudged(message);
    }

    fn judge_message(&mut self, message: &Message, layer: Layer) {
        self.form = if message.shape == Shape::Batch { Form::Batch } else { Form::Single };
        let (mut seen, mut findings) = (self.base.clone(), self.base_findings);
        describe(&mut seen, &mut findings, message);
        let m = &self.mirrored;
        let mismatch = mcp::header_mismatch(message, m.method.as_deref(), m.name.as_deref(), m.version.as_deref());
        for name in mismatch.headers() {
            note(&mut seen, Field::Mismatch, name);
        }
        if layer == Layer::Unannounced {
            note(&mut seen, Field::Mismatch, "content-encoding");
        }
        set_signatures(&mut seen, &findings);
        self.judge_call(seen, findings, Subject::Message(message.kind), message.id.clone(), message.method.clone());
    }

    fn settle(&mut self, found: Found) {
        if self.body.overflow == Overflow::Due {
            self.body.overflow = Overflow::Decided;
            self.judge_unreadable("too_many_messages");
        }
        match found {
            // Judged as what it says it is, and looked through all the same.
            Found::More | Found::Faulty(_) if self.body.is_in_frames() && !self.expects_message() => self.judge_foreign(Some("binary")),
            Found::More | Found::Faulty(_) if self.body.is_in_frames() => {
                self.body.reading = None;
                self.judge_unreadable("binary");
            }
            Found::Unreadable(reason) => {
                self.body.reading = None;
                self.judge_unreadable(reason);
            }
            Found::Faulty(malformed) if self.expects_message() => {
                self.body.reading = None;
                self.judge_unreadable(malformed.as_str());
            }
            // Broken JSON that resembles nothing so far: it may yet, however it is cut.
            Found::More | Found::Faulty(_) => {}
            Found::Foreign(reason) => {
                self.body.reading = None;
                self.judge_foreign(reason);
            }
        }
    }

    /// A body that is meant as JSON-RPC and cannot be read as one thing: nothing in it is known.
    pub(crate) fn judge_unreadable(&mut self, reason: &'static str) {
        let (mut seen, mut findings) = (self.base.clone(), self.base_findings);
        describe_malformed(&mut seen, &mut findings, reason);
        set_signatures(&mut seen, &findings);
        if self.form == Form::Foreign {
            self.form = Form::Unreadable;
        }
        self.judge_call(seen, findings, Subject::Malformed, None, None);
    }

    /// A body whose raw bytes are no JSON-RPC. What was read as text has none in it. What could not be read is
    /// refused only where the request says that it is MCP, or where a rule names this server or path ([`Passage::ForeignBody`]).
    fn judge_foreign(&mut self, reason: Option<&'static str>) {
        if self.expects_message() {
            return self.judge_unreadable(reason.unwrap_or("not_json"));
        }
        if !self.nothing_judged() {
            return;
        }
        if reason.is_some() {
            self.pass_on(Passage::ForeignBody);
        }
        self.judge_exchange();
    }
}
