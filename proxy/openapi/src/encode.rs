//! Percent-encoding (RFC 3986): everything but unreserved characters, wherever an argument stands. OpenAPI's `allowReserved` is not
//! honoured: encoded, reserved characters mean the same to the server, and cannot begin another parameter.

use gnomon_kit::percent;

/// Appends a text, percent-encoding all but letters, digits and `-._~`.
pub fn push(out: &mut String, text: &str) {
    out.extend(percent::encoded(text));
}

/// The text, encoded.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push(&mut out, text);
    out
}
