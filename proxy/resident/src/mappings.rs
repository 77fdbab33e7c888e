//! The mappings that `/proc/PID/smaps` lists (proc_pid_smaps(5)).

use std::path::Path;

/// A part of a process's memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Its first address.
    pub start: usize,
    /// Bytes.
    pub length: usize,
    /// As in `r-xp`.
    permissions: [u8; 4],
    /// Bytes of it that are in memory.
    pub resident: u64,
    /// Bytes of it that are not the file's any more.
    anonymous: u64,
}

impl Mapping {
    /// True for code as it stands in the file, which could not be written to.
    pub(crate) fn is_untouched_code(&self) -> bool {
        &self.permissions == b"r-xp" && self.anonymous == 0 && self.resident > 0
    }
}

/// The mappings of the program's own file.
pub(crate) fn of_program<'a>(smaps: &'a str, program: &'a Path) -> impl Iterator<Item = Mapping> + 'a {
    let mut lines = smaps.lines().peekable();
    std::iter::from_fn(move || {
        loop {
            let (mut mapping, path) = head(lines.next()?)?;
            while let Some(line) = lines.next_if(|line| head(line).is_none()) {
                let kib = |name: &str| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
                if let Some(kib) = kib("Rss:") {
                    mapping.resident = kib << 10;
                } else if let Some(kib) = kib("Anonymous:") {
                    mapping.anonymous = kib << 10;
                }
            }
            if Path::new(path) == program {
                return Some(mapping);
            }
        }
    })
}

/// `5601bae41000-5601bb61b000 r--p 00000000 fe:00 1234   /usr/bin/gnomon`
fn head(line: &str) -> Option<(Mapping, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let (permissions, rest) = rest.split_at_checked(4)?;
    let permissions = permissions.as_bytes().try_into().ok()?;
    // Offset, device, inode.
    let path = rest.trim_start().splitn(3, ' ').last()?.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let length = end.checked_sub(start)?;
    Some((Mapping { start, length, permissions, resident: 0, anonymous: 0 }, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-2000 r--p 00000000 fe:00 77                         /opt/a program
Rss:                   4 kB
Anonymous:             0 kB
2000-6000 r-xp 00001000 fe:00 77                         /opt/a program
Size:                 16 kB
Rss:                  12 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
6000-7000 r-xp 00005000 fe:00 77                         /opt/a program
Rss:                   4 kB
Anonymous:             4 kB
7000-9000 rw-p 00000000 00:00 0
Rss:                   8 kB
9000-a000 r-xp 00000000 fe:00 78                         /lib/other.so
Rss:                   4 kB
Anonymous:             0 kB
";

    #[test]
    fn only_code_of_the_program_that_nobody_wrote_to_is_found() {
        let found: Vec<Mapping> = of_program(SMAPS, Path::new("/opt/a program")).filter(Mapping::is_untouched_code).collect();
        let expected = Mapping { start: 0x2000, length: 0x4000, permissions: *b"r-xp", resident: 12 << 10, anonymous: 0 };
        assert_eq!(found, [expected]);
        assert_eq!(of_program(SMAPS, Path::new("/opt/a program")).count(), 3);
    }

    #[test]
    fn what_is_no_list_of_mappings_holds_none() {
        assert_eq!(of_program("nothing\nRss: 4 kB\n", Path::new("/opt/a")).count(), 0);
    }
}
