//! Percent-encoding (RFC 3986 section 2.1), where nothing but unreserved characters stands for itself.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::{borrow::Cow, fmt::Display};

/// All but letters, digits and `-._~`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The text, encoded: to be shown, or piece by piece.
pub fn encoded(text: &str) -> impl Display + Iterator<Item = &str> {
    utf8_percent_encode(text, RESERVED)
}

/// The text with its escapes undone once. Broken ones stay, and what is not UTF-8 then becomes U+FFFD.
#[must_use]
pub fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

/// The bytes that a text with escapes means. `None`: a `%` is not followed by two hexadecimal digits.
#[must_use]
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut escapes = text.split('%').skip(1);
    let is_whole = |after: &str| after.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    escapes.all(is_whole).then(|| percent_decode_str(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back_and_only_unreserved_characters_stand_for_themselves() {
        let text = "aZ9-._~ /?#%ü";
        assert_eq!(encoded(text).to_string(), "aZ9-._~%20%2F%3F%23%25%C3%BC");
        assert_eq!(decoded(&encoded(text).to_string()), text);
        assert_eq!(bytes("a%2fb%00"), Some(b"a/b\0".to_vec()));
    }

    #[test]
    fn a_broken_escape_stays_or_is_told() {
        for broken in ["%", "a%2", "%zz", "%+f", "%%41"] {
            assert_eq!(bytes(broken), None, "{broken}");
        }
        assert_eq!(decoded("%zz%41%"), "%zzA%");
    }
}
