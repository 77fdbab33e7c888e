//! The mounts that this process sees (proc_pid_mountinfo(5)).

use std::fs::File;
use std::io::{self, Read as _};

/// A host with thousands of containers has thousands of mounts; beyond this the rest is not looked at.
const MAX_MOUNTINFO: u64 = 8 << 20;
/// The file that lists them.
pub(crate) const PATH: &str = "/proc/self/mountinfo";

/// Reads one line for each mount: `ID PARENT DEVICE ROOT POINT OPTIONS … - TYPE SOURCE OPTIONS`. Beyond 8 MiB the rest is missing.
///
/// # Errors
/// The error of reading it.
pub fn read() -> io::Result<String> {
    let mut text = Vec::new();
    File::open(PATH)?.take(MAX_MOUNTINFO).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Decodes a field: space, tab, line break and backslash are written as three octal digits.
#[must_use]
pub fn unescape(field: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] = rest {
            out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            out.push(first);
            rest = after;
        }
    }
    out
}
