//! `/proc/PID/stat` (proc_pid_stat(5)): state, parent, start, and where the program lies in memory.

use std::io;

use super::{BootTime, Held};

/// The line is a few hundred bytes: 52 numbers and a name of at most 64.
const MAX_STAT: u64 = 4096;

/// The fields that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// One letter.
    pub(super) state: u8,
    /// The parent's number; 0 for none in this pid namespace.
    pub(super) parent: u32,
    /// The time of the process's creation.
    pub(super) started_at: BootTime,
    /// The location of its program.
    pub(super) image: Image,
}

/// Addresses that exec chooses anew, mostly at random: if they differ between two reads, the process
/// has called exec between them. Equal ones prove nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Image {
    code: u64,
    stack: u64,
    arguments: u64,
}

impl Image {
    /// While exec is under way the new program is in place, yet its code has no address. Without
    /// permission to look the kernel says 1.
    pub(super) fn is_being_replaced(self) -> bool {
        self.code == 0
    }
}

impl Stat {
    pub(super) fn read(held: &Held) -> io::Result<Self> {
        let bytes = held.read("stat", MAX_STAT)?;
        Self::parse(&bytes, rustix::param::clock_ticks_per_second()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// A process that only waits to be reaped, or is going.
    pub(super) fn is_dead(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// The name stands in parentheses and may itself hold parentheses, spaces and line breaks; no
    /// field after it can hold a parenthesis, so the last one ends it.
    fn parse(bytes: &[u8], ticks_per_second: u64) -> Option<Self> {
        let end = memchr::memrchr(b')', bytes)?;
        let rest = std::str::from_utf8(bytes.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        // Fields count from 1; the first after the name is number 3.
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let ticks: u64 = fields.nth(22 - 5)?.parse().ok()?;
        let code = fields.nth(26 - 23)?.parse().ok()?;
        let stack = fields.nth(28 - 27)?.parse().ok()?;
        let arguments = fields.nth(48 - 29)?.parse().ok()?;
        let started_at = u128::from(ticks) * 1_000_000_000 / u128::from(ticks_per_second.max(1));
        Some(Self {
            state,
            parent,
            started_at: BootTime(u64::try_from(started_at).unwrap_or(u64::MAX)),
            image: Image { code, stack, arguments },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str) -> Vec<u8> {
        let mut line = format!("42 ({name}) S 7").into_bytes();
        for field in 5..=52 {
            line.extend_from_slice(format!(" {}", field * 100).as_bytes());
        }
        line.push(b'\n');
        line
    }

    #[test]
    fn fields_are_found_whatever_the_name_is() {
        let expected = Stat {
            state: b'S',
            parent: 7,
            started_at: BootTime(22_000_000_000),
            image: Image { code: 2600, stack: 2800, arguments: 4800 },
        };
        for name in ["cat", "", ") R (", ")))", "a b\n) Z 1 2 3", "(sd-pam)"] {
            assert_eq!(Stat::parse(&line(name), 100), Some(expected), "{name:?}");
        }
    }

    #[test]
    fn a_cut_line_is_no_answer() {
        let whole = line("x");
        // Field 48 is the last that is read.
        let enough = whole.windows(5).position(|bytes| bytes == b" 4800").map(|at| at + 5);
        for end in 0..enough.unwrap_or_default() - 4 {
            assert_eq!(Stat::parse(&whole[..end], 100), None, "{end}");
        }
    }

    #[test]
    fn ticks_become_nanoseconds_without_overflow() {
        let mut huge = line("x");
        let text = String::from_utf8(huge.clone()).unwrap().replace(" 2200 ", &format!(" {} ", u64::MAX));
        huge = text.into_bytes();
        assert_eq!(Stat::parse(&huge, 100).map(|stat| stat.started_at), Some(BootTime(u64::MAX)));
        assert!(Stat::parse(&huge, 0).is_some());
    }
}
