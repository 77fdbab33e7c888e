//! JSON as text.

/// JSON that was UTF-8 when it was read.
#[must_use]
pub fn as_text(json: &[u8]) -> &str {
    std::str::from_utf8(json).unwrap_or("null")
}
