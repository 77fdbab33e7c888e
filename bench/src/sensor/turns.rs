//! Turns of milliseconds: two sets of connections, made in two cgroups by one process, and short blocks of requests over
//! the one and the other. Nothing is started or attached in between, so that all that differs is whose sockets they are.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Place;

/// What is done in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTPS requests over connections that are kept.
    Kept,
    /// A TCP connection, a full TLS handshake and a request, over and over.
    New,
    /// 300 bytes from a thread to itself and 600 back, without TLS: little beside what a packet costs the kernel.
    Bare,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kept, Self::New, Self::Bare];

    fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::New => "new",
            Self::Bare => "bare",
        }
    }

    /// One of them, in tables.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Kept => "request on a kept connection",
            Self::New => "new connection, full handshake and one request",
            Self::Bare => "300 bytes and 600 back within a thread, no TLS",
        }
    }

    /// How many fours of blocks are done with one set of sockets. What can be told of a new connection is more beside the
    /// noise than what can be told of a kept one, which takes more of them.
    #[must_use]
    pub fn quads(self) -> u32 {
        match self {
            Self::Kept => 16,
            Self::New | Self::Bare => 4,
        }
    }

    /// How often in a block: some milliseconds of it.
    #[must_use]
    pub fn of_a_block(self) -> u32 {
        match self {
            Self::Kept | Self::Bare => 200,
            Self::New => 40,
        }
    }
}

/// An order: [`Kind::quads`] times four blocks, two of sockets made in `inner` between two of sockets made apart; and as
/// often again, of sockets made in the other order: one that is always the same favours one set, by 0.4 % without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turns {
    /// What is done.
    pub kind: Kind,
    /// Where the sockets of the inner blocks are made.
    pub inner: Place,
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "turns {} {}", self.kind.name(), self.inner.name())
    }
}

impl Turns {
    /// From the words after `turns`.
    pub(super) fn read(kind: &str, inner: &str) -> Result<Self> {
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind).with_context(|| format!("no such load: {kind}"))?;
        Ok(Self { kind, inner: Place::read(inner)? })
    }
}

/// What a block took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// From the first request to the last answer.
    pub wall: Duration,
    /// CPU time of client and server, until both were still.
    pub cpu: Duration,
}

/// Four blocks, in their order: apart, inner, inner, apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quad(pub [Block; 4]);

impl Quad {
    /// What the inner two took, and what the outer two took.
    #[must_use]
    pub fn sums(&self, what: fn(&Block) -> Duration) -> (Duration, Duration) {
        let [first, second, third, fourth] = self.0.each_ref().map(what);
        (second + third, first + fourth)
    }
}

impl fmt::Display for Quad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.0.map(|block| format!("{} {}", block.wall.as_nanos(), block.cpu.as_nanos()));
        f.write_str(&words.join(" "))
    }
}

impl FromStr for Quad {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_whitespace().map(|word| Ok(Duration::from_nanos(word.parse()?))).collect::<Result<Vec<_>>>()?;
        let [a, b, c, d, e, f, g, h] = numbers[..] else { bail!("four blocks of two numbers each, not {text:?}") };
        Ok(Self([(a, b), (c, d), (e, f), (g, h)].map(|(wall, cpu)| Block { wall, cpu })))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn four_blocks_are_read_as_they_were_written() {
        let block = |n: u64| Block { wall: Duration::from_nanos(n), cpu: Duration::from_micros(n) };
        let quad = Quad([1, 2, 3, 4].map(block));
        assert_eq!(quad.to_string().parse::<Quad>().unwrap(), quad);
        assert_eq!(quad.sums(|block| block.cpu), (Duration::from_micros(5), Duration::from_micros(5)));
        assert!("1 2 3".parse::<Quad>().is_err());
    }
}
