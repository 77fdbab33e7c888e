//! Strings: the names of members, and values. What asks for them gets them decoded; the rest is checked.

use super::{Progress, Role, ScanState, Scanner};
use crate::jsonrpc::{
    MAX_KEY, Malformed, Truncation,
    listening::{Level, StringKind},
    places::{ContainerRole, Slot},
    text::{Utf8, plain_run},
};

impl Scanner {
    /// Begins a string whose first byte is at `from`. Most end in the same chunk and hold no
    /// escape: those are taken from it without a copy.
    #[inline]
    pub(super) fn string(&mut self, role: Role, bytes: &[u8], from: usize) -> usize {
        let limit = match role {
            Role::Key => {
                let place = self.stack.last().map_or(ContainerRole::Other, |frame| frame.place);
                let limit = self.collector.key_limit(place);
                if self.listening.as_ref().is_some_and(|listening| listening.is_inside()) { MAX_KEY } else { limit }
            }
            Role::Value => self.collector.value_limit(self.slot),
        };
        if self.listening.is_some() {
            self.listen(role, from);
        }
        let run = plain_run(bytes, from);
        let plain = bytes.get(from..run.end).unwrap_or_default();
        if bytes.get(run.end) == Some(&b'"') && (plain.len() <= limit || limit == 0) {
            // Validation of ASCII is a few words; of the rest it is needed anyway.
            if limit == 0 && run.ascii {
                let dropped = if plain.is_empty() { Truncation::Whole } else { Truncation::Cut };
                self.hear_whole(plain, from);
                self.end_string(role, "", dropped);
                return run.end + 1;
            }
            if let Ok(text) = std::str::from_utf8(plain) {
                self.hear_whole(plain, from);
                self.end_string(role, text, Truncation::Whole);
                return run.end + 1;
            }
        }
        self.text.start(limit);
        self.hear(plain, from);
        let utf8 = self.text.run(plain, run.ascii);
        self.note(utf8);
        self.state = ScanState::Text(role);
        run.end
    }

    fn note(&mut self, utf8: Utf8) {
        if utf8 == Utf8::Invalid {
            self.collector.fault(Malformed::Utf8);
        }
    }

    /// The container at hand, as far as anything listens and a message is read.
    fn level(&self) -> Option<Level> {
        let depth = self.stack.len().checked_sub(1 + self.listening.as_ref()?.root())?;
        let path = usize::from(self.stack.last()?.heard);
        (self.progress == Progress::Inside).then_some(Level { depth, path })
    }

    pub(super) fn follow_element(&mut self, index: u32) {
        if let Some(level) = self.level()
            && let Some(listening) = &mut self.listening
        {
            listening.element(level, index);
        }
    }

    fn listen(&mut self, role: Role, from: usize) {
        if let Some(level) = self.level()
            && let Some(listening) = &mut self.listening
        {
            let kind = if role == Role::Key { StringKind::Name } else { StringKind::Value };
            listening.begin(kind, level, self.offset + from as u64);
        }
    }

    #[inline]
    fn hear(&mut self, plain: &[u8], at: usize) {
        if let Some(listening) = &mut self.listening {
            listening.plain(plain, self.offset + at as u64);
        }
    }

    #[inline]
    fn hear_whole(&mut self, plain: &[u8], at: usize) {
        if let Some(listening) = &mut self.listening {
            listening.plain(plain, self.offset + at as u64);
            listening.end(self.offset + (at + plain.len()) as u64);
        }
    }

    pub(super) fn in_text(&mut self, role: Role, bytes: &[u8], at: usize) -> Result<usize, Malformed> {
        match bytes.get(at) {
            Some(b'"') => {
                let utf8 = self.text.end();
                self.note(utf8);
                if let Some(listening) = &mut self.listening {
                    listening.end(self.offset + at as u64);
                }
                let text = std::mem::take(&mut self.text);
                let (captured, truncation) = text.captured();
                self.end_string(role, &captured, truncation);
                drop(captured);
                self.text = text;
                Ok(at + 1)
            }
            Some(b'\\') => {
                self.state = ScanState::Escape(role);
                if let Some(listening) = &mut self.listening {
                    listening.escape(self.offset + at as u64);
                }
                Ok(at + 1)
            }
            Some(0..0x20) => {
                // Lenient parsers take control characters; the message must still be recognised.
                self.collector.fault(Malformed::Syntax);
                let raw = bytes.get(at..=at).unwrap_or_default();
                self.hear(raw, at);
                let utf8 = self.text.run(raw, true);
                self.note(utf8);
                Ok(at + 1)
            }
            _ => {
                let run = plain_run(bytes, at);
                let plain = bytes.get(at..run.end).unwrap_or_default();
                self.hear(plain, at);
                let utf8 = self.text.run(plain, run.ascii);
                self.note(utf8);
                Ok(run.end)
            }
        }
    }

    #[inline]
    fn end_string(&mut self, role: Role, text: &str, truncation: Truncation) {
        match role {
            Role::Key => {
                if let Some(level) = self.level()
                    && let Some(listening) = &mut self.listening
                {
                    listening.key(level, text);
                }
                self.slot = match self.stack.last().copied() {
                    Some(frame) if frame.place != ContainerRole::Other => self.collector.key(frame.place, text, usize::from(frame.path)),
                    _ => Slot::None,
                };
                self.state = ScanState::Colon;
            }
            Role::Value => {
                if self.slot != Slot::None {
                    self.collector.string(self.slot, text, truncation);
                }
                self.end_value();
            }
        }
    }

    pub(super) fn in_escape(&mut self, role: Role, byte: u8, at: usize) -> Result<(), Malformed> {
        self.state = ScanState::Text(role);
        let c = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.state = ScanState::Hex(role, 0, 0);
                return Ok(());
            }
            _ => return Err(Malformed::Syntax),
        };
        if let Some(listening) = &mut self.listening {
            listening.escaped(c, self.offset + at as u64 + 1);
        }
        let utf8 = self.text.escape(c);
        self.note(utf8);
        Ok(())
    }

    pub(super) fn in_hex(&mut self, role: Role, (count, unit): (u8, u16), byte: u8, at: usize) -> Result<(), Malformed> {
        let digit = char::from(byte).to_digit(16).ok_or(Malformed::Syntax)?;
        let unit = unit << 4 | digit as u16;
        if count < 3 {
            self.state = ScanState::Hex(role, count + 1, unit);
        } else {
            self.state = ScanState::Text(role);
            if let Some(listening) = &mut self.listening {
                listening.unit(unit, self.offset + at as u64 + 1);
            }
            let utf8 = self.text.unit(unit);
            self.note(utf8);
        }
        Ok(())
    }
}
