//! A push parser for `text/event-stream` (WHATWG HTML, 9.2.6 "Interpreting an event stream").
//!
//! Data is handed on as it arrives, never collected: an event of any size costs a few hundred
//! bytes. What it does not do: reconnection times and event dispatch rules of the browser.

/// Most bytes kept of an event name or id; longer ones are cut, and so equal no name we know.
pub const MAX_FIELD: usize = 256;

/// Whether an event had a `data` field. Without one, clients do not dispatch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HasData {
    /// At least one `data` line, even an empty one.
    Yes,
    /// None: the blank line only ends the event.
    No,
}

/// One step of an event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The next bytes of the event's data. Lines are joined by `\n`, as clients see them.
    Data(&'a [u8]),
    /// The blank line that ends an event.
    Dispatch {
        /// The event's name; empty stands for `message`.
        event: &'a str,
        /// The id, if this event set one.
        id: Option<&'a str>,
        /// Whether clients dispatch it.
        has_data: HasData,
    },
}

/// The parser of one stream.
#[derive(Debug, Default)]
pub struct SseParser {}

impl SseParser {
    /// A parser at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next bytes. `sink` gets each item and the offset in `bytes` just after it.
    pub fn feed(&mut self, _bytes: &[u8], _sink: &mut dyn FnMut(Item<'_>, usize)) {}
}
