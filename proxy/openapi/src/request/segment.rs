//! A segment of a path, which no argument may leave.

use super::Unfit;
use gnomon_kit::percent;

/// The error for an argument that would lead to another path.
pub(super) const LEAVES: &str = "may not hold `.` or `..` as a part of a path";

/// How often a server is taken to undo the encoding of a path before it looks.
const UNDONE: usize = 4;

/// True if a part of a text is dots alone, which lead to another place.
fn has_dots(text: &str) -> bool {
    text.split(['/', '\\']).any(|part| matches!(part.split(';').next(), Some("." | "..")))
}

/// True if a document's own segment leads out of its place for some who read it: as it is, or once what is encoded in it is undone.
pub fn leaves(segment: &str) -> bool {
    let mut seen = segment.to_owned();
    (0..UNDONE).any(|_| {
        let leaves = has_dots(&seen);
        seen = percent::decoded(&seen).into_owned();
        leaves
    })
}

/// Checks that a text stays within its part of a path, also with servers that undo its encoding before they look.
pub fn stays(key: &str, text: &str) -> Result<(), Unfit> {
    if text.is_empty() {
        return Err(Unfit::wrong(key, "is empty, which would make it another path"));
    }
    let mut seen = text.to_owned();
    for _ in 0..UNDONE {
        if seen.chars().any(char::is_control) {
            return Err(Unfit::wrong(key, "may not hold control characters"));
        }
        if has_dots(&seen) {
            return Err(Unfit::wrong(key, LEAVES));
        }
        let less = percent::decoded(&seen).into_owned();
        if less == seen {
            return Ok(());
        }
        seen = less;
    }
    Err(Unfit::wrong(key, "is encoded several times over"))
}
