//! A request's body while it is read.

use super::reading::Reading;

/// A request's body as far as it came.
pub(super) struct RequestBody {
    /// The reader of the body; none once reading has ended.
    pub(super) reading: Option<Box<Reading>>,
    frames: Frames,
}

/// A body whose media type announces messages in frames, or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frames {
    No,
    Expected,
}

impl RequestBody {
    pub fn new(reading: Option<Box<Reading>>, frames: Frames) -> Self {
        Self { reading, frames }
    }

    /// True if it begins as messages in frames do, and is announced as such: its client may wait for the answer to each.
    pub fn is_in_frames(&self) -> bool {
        self.frames == Frames::Expected && self.reading.as_ref().is_some_and(|reading| reading.begins_with_nul())
    }

    /// True if messages may come.
    pub fn is_read(&self) -> bool {
        self.reading.is_some()
    }
}
