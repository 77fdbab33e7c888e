//! A segment of a path, which no argument may leave.

use super::Unfit;
use gnomon_kit::percent;

/// The error for an argument that would lead to another path.
pub(super) const LEAVES: &str = "may not hold `.` or `..` as a part of a path";

/// Checks that a text stays within its part of a path, also with servers that undo its encoding before they look.
pub fn stays(key: &str, text: &str) -> Result<(), Unfit> {
    if text.is_empty() {
        return Err(Unfit::wrong(key, "is empty, which would make it another path"));
    }
    let mut seen = text.to_owned();
    for _ in 0..4 {
        if seen.chars().any(char::is_control) {
            return Err(Unfit::wrong(key, "may not hold control characters"));
        }
        if seen.split(['/', '\\']).any(|part| matches!(part.split(';').next(), Some("." | ".."))) {
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
