//! Lines from a program, which may be endless.

use crate::unfinished::{Account, Unfinished};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A whole line.
    Whole(Bytes),
    /// The beginning of a line that is longer than may be held; the rest is skipped.
    Cut(Bytes),
}

/// Reads lines of at most so many bytes.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: BytesMut,
    most: usize,
    passing_over: bool,
    unfinished: Unfinished,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, most: usize, server: &Account) -> Self {
        Self { reader: BufReader::new(reader), line: BytesMut::new(), most, passing_over: false, unfinished: server.message() }
    }

    /// The next line; none at the end. What was read is kept when this is not waited for to its end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let read = self.reader.fill_buf().await?;
            if read.is_empty() {
                let rest = self.line.split().freeze();
                return Ok((!rest.is_empty()).then_some(Line::Whole(rest)));
            }
            let end = read.iter().position(|byte| *byte == b'\n');
            let part = &read[..end.unwrap_or(read.len())];
            let used = end.map_or(read.len(), |end| end + 1);
            if self.passing_over {
                self.passing_over = end.is_none();
                self.reader.consume(used);
                continue;
            }
            // Where there is no room for more of it, it is cut here.
            let has_room = self.unfinished.holds(self.line.len() + part.len().min(self.most)).is_ok();
            let room = if has_room { self.most - self.line.len() } else { 0 };
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let too_long = part.len() > room;
            self.reader.consume(used);
            if too_long {
                self.passing_over = end.is_none();
                self.unfinished.ended();
                return Ok(Some(Line::Cut(self.line.split().freeze())));
            }
            if end.is_some() {
                self.unfinished.ended();
                return Ok(Some(Line::Whole(self.line.split().freeze())));
            }
        }
    }

    /// Discards the rest, until the end.
    pub(super) async fn drain(&mut self) {
        while let Ok(read) = self.reader.fill_buf().await {
            let read = read.len();
            if read == 0 {
                return;
            }
            self.reader.consume(read);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8], most: usize) -> Vec<Line> {
        let mut lines = Lines::new(text, most, &Account::of("lines"));
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        all
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let whole = |text: &'static str| Line::Whole(Bytes::from_static(text.as_bytes()));
        let cut = |text: &'static str| Line::Cut(Bytes::from_static(text.as_bytes()));
        assert_eq!(lines(b"ab\n\nabcd\nabcde\nx", 4).await, [whole("ab"), whole(""), whole("abcd"), cut("abcd"), whole("x")]);
        let long = [b"y".repeat(100_000), b"\nz\n".to_vec()].concat();
        let read = lines(&long, 10).await;
        assert_eq!(read, [cut("yyyyyyyyyy"), whole("z")]);
    }
}
