//! The request's body: fed as it comes, judged message by message, and decided where it cannot be read.

use super::{
    exchange::{Exchange, Expects, Gate, Mirrored, Said},
    first_line::Begins,
    reading::{Found, Layer, Piece},
};
use crate::{
    Passage,
    dialogue::{Ahead, note},
};
use gnomon_observe::{Field, Observation};
use gnomon_wire::{coding::Decoder, jsonrpc::Message, mcp};

/// What a byte of a request costs to read whose arguments' meaning rules ask for, in bytes that are decoded.
const MEANING_COSTS: u64 = 32;

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

    /// The same in steps: where the bytes decode to more than 128 KiB, it gives none, and is to be called again with no bytes
    /// until there is a gate. What one connection sends must not keep the others of its thread waiting.
    pub fn request_some(&mut self, raw: &[u8]) -> Option<Gate> {
        self.dialogue.asks(raw.len());
        match self.first_line.as_mut().and_then(|line| line.feed(raw)) {
            Some(Begins::AsRequest) => self.begins_as_request(),
            Some(Begins::Otherwise) => self.first_line = None,
            None => {}
        }
        if let Some(mut reading) = self.body.reading.take() {
            let found = reading.feed(raw, &mut |piece| self.take_piece(&piece));
            self.body.reading = Some(reading);
            self.settle(found);
        }
        let behind = !self.dialogue.is_refused() && self.body.reading.as_ref().is_some_and(|reading| reading.is_behind());
        (!behind).then(|| self.gate())
    }

    /// Ends the request's body (or says that there is none).
    pub fn request_end(&mut self) -> Gate {
        if self.said == Said::Some {
            self.said = Said::All;
            if let Some(mut reading) = self.body.reading.take() {
                let found = reading.end(&mut |piece| self.take_piece(&piece));
                self.settle(found);
            }
            if self.dialogue.nothing_judged() {
                self.dialogue.judge_exchange();
            }
        }
        self.gate()
    }

    /// The request broke off before its end. What came is judged as far as it was decoded: nobody waits for the rest.
    pub fn request_breaks_off(&mut self) {
        if let Some(reading) = &mut self.body.reading {
            reading.breaks_off();
        }
    }

    /// The caller holds as much as it may. From now on the gate holds nothing: what was fed may go
    /// unless it is refused, and later bytes are judged as they come.
    pub fn window_full(&mut self) -> Gate {
        self.dialogue.let_go();
        if let Ahead::Decided(verdict) = self.dialogue.ahead()
            && !self.dialogue.is_refused()
        {
            let partial = self.body.reading.as_ref().and_then(|reading| reading.partial());
            if let Some(message) = partial.filter(|m| m.method.is_some()) {
                let mirrored = &self.mirrored;
                self.dialogue.judge_message(message, |seen| mirrored.contradict(message, Layer::Announced, seen));
            }
            self.dialogue.refuse_by(verdict);
        }
        self.gate()
    }

    /// No buffer space is left for the rest of an incomplete body: it is judged as unreadable, and not read
    /// from now on ([`Passage::NoRoom`]).
    pub fn has_no_room(&mut self) -> Gate {
        if self.body.reading.take().is_some() {
            self.dialogue.pass_on(Passage::NoRoom);
            self.dialogue.judge_exchange();
        }
        self.gate()
    }

    /// Bytes of memory that the decoders of the request's body take: a few bytes of it may have windows of mebibytes.
    #[must_use]
    pub fn request_decoders(&self) -> usize {
        self.body.reading.as_ref().map_or(0, |reading| reading.decoders())
    }

    /// Bytes that the decoders of the request's body have made so far; none any more once reading has ended.
    #[must_use]
    pub fn request_decoded(&self) -> u64 {
        self.body.reading.as_ref().map_or(0, |reading| reading.made())
    }

    /// What reading these bytes of the request's body may cost beside decoding it, as bytes decoded that would cost as much: nothing unless
    /// rules ask what arguments mean. What is coded weighs a whole step, as nobody knows what it decodes to.
    #[must_use]
    pub fn request_weighs(&self, raw: &[u8]) -> u64 {
        let Some(reading) = self.body.reading.as_ref().filter(|_| !raw.is_empty() && self.dialogue.asks_for_meaning()) else { return 0 };
        if reading.is_coded(raw) { Decoder::STEP as u64 } else { MEANING_COSTS * raw.len() as u64 }
    }

    /// Bytes of memory that the calls take whose answers are awaited, about.
    #[must_use]
    pub fn calls_keep(&self) -> usize {
        self.dialogue.calls_keep()
    }

    /// There is no room for the calls whose answers are awaited: they are told as they are. A rule that waits for an answer refuses it.
    pub fn calls_have_no_room(&mut self) {
        // As long as more may come that has all of them refused, they are part of the body, which is bounded.
        if self.said == Said::All || !self.dialogue.withholds() {
            self.dialogue.gives_calls_up();
        }
    }

    /// Tells that it, or its answer, passes unread. `requests` is how many this stands for.
    pub fn tell_unread(&mut self, passage: Passage, requests: u64) {
        self.dialogue.tell_unread(passage, requests);
    }

    /// True if more of the request's body is kept as it comes.
    #[must_use]
    pub fn keeps_more(&self) -> bool {
        self.said == Said::Some && self.body.is_read()
    }

    fn take_piece(&mut self, piece: &Piece<'_>) {
        match piece {
            Piece::Text(plain) => self.dialogue.show_text(plain),
            Piece::Message(message, layer) => {
                let mirrored = &self.mirrored;
                self.dialogue.take_message(message, |seen| mirrored.contradict(message, *layer, seen));
            }
        }
    }

    fn settle(&mut self, found: Found) {
        self.dialogue.settle_overflow();
        match found {
            Found::More | Found::Faulty(_) if self.body.is_in_frames() => match self.expects {
                // Judged as what it says it is, and looked through all the same.
                Expects::Anything => self.judge_foreign(Some("binary")),
                Expects::Message => {
                    self.body.reading = None;
                    self.dialogue.judge_unreadable("binary");
                }
            },
            Found::Unreadable(reason) => {
                self.body.reading = None;
                self.dialogue.judge_unreadable(reason);
            }
            Found::Faulty(malformed) if self.expects == Expects::Message => {
                self.body.reading = None;
                self.dialogue.judge_unreadable(malformed.as_str());
            }
            // Broken JSON that resembles nothing so far: it may yet, however it is cut.
            Found::More | Found::Faulty(_) => {}
            Found::Foreign(reason) => {
                self.body.reading = None;
                self.judge_foreign(reason);
            }
            Found::Rows => {
                self.body.reading = None;
                self.dialogue.pass_on(Passage::Rows);
                self.dialogue.judge_exchange();
            }
        }
    }

    /// The body is a request to whoever does not read it as a body.
    fn begins_as_request(&mut self) {
        (self.first_line, self.body.reading) = (None, None);
        self.dialogue.judge_exchange_as(Passage::RequestWithin);
        if !self.dialogue.is_refused() {
            self.dialogue.tell_unread(Passage::RequestWithin, 1);
        }
    }

    /// A body whose raw bytes are no JSON-RPC. What was read as text has none in it. What could not be read is
    /// refused only where the request says that it is MCP, or where a rule names this server or path ([`Passage::ForeignBody`]).
    fn judge_foreign(&mut self, reason: Option<&'static str>) {
        if self.expects == Expects::Message {
            return self.dialogue.judge_unreadable(reason.unwrap_or("not_json"));
        }
        if !self.dialogue.nothing_judged() {
            return;
        }
        if reason.is_some() {
            self.dialogue.pass_on(Passage::ForeignBody);
        }
        self.dialogue.judge_exchange();
    }
}

impl Mirrored {
    /// Notes where head or coding say otherwise than a message.
    fn contradict(&self, message: &Message, layer: Layer, seen: &mut Observation) {
        let mismatch = mcp::header_mismatch(message, self.method.as_deref(), self.name.as_deref(), self.version.as_deref());
        for name in mismatch.headers() {
            note(seen, Field::Mismatch, name);
        }
        if layer == Layer::Unannounced {
            note(seen, Field::Mismatch, "content-encoding");
        }
    }
}
