//! A body of bounded length, read to its end.

use bytes::{Bytes, BytesMut};
use http_body::SizeHint;

/// Most bytes that are allocated for a length that a peer only declares.
const MOST_AHEAD: u64 = 1 << 20;

/// The pieces of one body. Most bodies come in one, which is then not copied.
#[derive(Debug)]
pub struct Whole {
    first: Option<Bytes>,
    rest: BytesMut,
    /// The capacity that is set aside once there is a second piece.
    ahead: usize,
    most: usize,
}

/// The body is larger than the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

impl Whole {
    /// An empty body with this size hint, of which at most `most` bytes are taken.
    pub fn new(hint: &SizeHint, most: usize) -> Self {
        let ahead = usize::try_from(hint.lower().min(MOST_AHEAD)).unwrap_or(0).min(most);
        Self { first: None, rest: BytesMut::new(), ahead, most }
    }

    /// The next piece.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn push(&mut self, data: Bytes) -> Result<(), TooLarge> {
        if data.len() > self.most.saturating_sub(self.len()) {
            return Err(TooLarge);
        }
        match self.first.take() {
            None if self.rest.is_empty() => self.first = Some(data),
            None => self.rest.extend_from_slice(&data),
            Some(first) => {
                self.rest.reserve(self.ahead.max(first.len() + data.len()));
                self.rest.extend_from_slice(&first);
                self.rest.extend_from_slice(&data);
            }
        }
        Ok(())
    }

    /// The number of bytes received.
    #[must_use]
    pub fn len(&self) -> usize {
        self.first.as_ref().map_or(self.rest.len(), Bytes::len)
    }

    /// True if no byte was received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole body.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.first.unwrap_or_else(|| self.rest.freeze())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(pieces: &[&'static str], most: usize) -> Result<Bytes, TooLarge> {
        let mut whole = Whole::new(&SizeHint::default(), most);
        pieces.iter().try_for_each(|piece| whole.push(Bytes::from_static(piece.as_bytes())))?;
        Ok(whole.into_bytes())
    }

    #[test]
    fn pieces_come_out_in_their_order() {
        assert_eq!(read(&[], 9).unwrap(), "");
        assert_eq!(read(&["one"], 9).unwrap(), "one");
        assert_eq!(read(&["", "one", "", "two", "six"], 9).unwrap(), "onetwosix");
    }

    #[test]
    fn one_piece_is_not_copied() {
        let piece = Bytes::from(vec![b'a'; 4096]);
        let mut whole = Whole::new(&SizeHint::with_exact(4096), 4096);
        whole.push(piece.clone()).unwrap();
        assert_eq!(whole.into_bytes().as_ptr(), piece.as_ptr());
    }

    #[test]
    fn one_byte_too_many_is_refused_however_it_comes() {
        assert_eq!(read(&["one", "two"], 6).unwrap(), "onetwo");
        assert_eq!(read(&["one", "twos"], 6), Err(TooLarge));
        assert_eq!(read(&["onetwos"], 6), Err(TooLarge));
        assert_eq!(read(&["one", "two", "", "s"], 6), Err(TooLarge));
    }

    #[test]
    fn what_is_only_announced_takes_little_memory() {
        let mut whole = Whole::new(&SizeHint::with_exact(1 << 40), usize::MAX);
        whole.push(Bytes::from_static(b"a")).unwrap();
        whole.push(Bytes::from_static(b"b")).unwrap();
        assert!(whole.rest.capacity() <= 2 << 20);
    }
}
