//! Integers that are longer than numbers are exact.

/// The largest that a number holds exactly, and all below it (ECMA-262, 21.1.2.6).
const SAFE: u64 = (1 << 53) - 1;

/// This JSON with such integers as texts of their digits: identifiers that a script would otherwise read as others, without a
/// word. None if it has none.
pub fn exact(json: &str) -> Option<String> {
    let bytes = json.as_bytes();
    let (mut at, mut copied) = (0, 0);
    let mut out: Option<String> = None;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_text(bytes, at),
            b'-' | b'0'..=b'9' => {
                let rest = bytes.get(at..).unwrap_or_default();
                let length = rest.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
                let number = json.get(at..at + length).unwrap_or_default();
                if is_inexact(number) {
                    let out = out.get_or_insert_default();
                    out.push_str(json.get(copied..at).unwrap_or_default());
                    out.extend(["\"", number, "\""]);
                    copied = at + length;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    out.map(|out| out + json.get(copied..).unwrap_or_default())
}

/// The end of the string that begins at `begin`.
fn end_of_text(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

fn is_inexact(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    digits.len() >= 16 && digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u64>().map_or(true, |value| value > SAFE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_number_does_not_hold_is_a_text_and_all_else_is_as_it_was() {
        for (json, wanted) in [
            (r#"{"id":9007199254740993}"#, Some(r#"{"id":"9007199254740993"}"#)),
            ("[1, -9223372036854775808 ,2]", Some(r#"[1, "-9223372036854775808" ,2]"#)),
            ("123456789012345678901234567890", Some(r#""123456789012345678901234567890""#)),
            (r#"{"a\\":"9007199254740993","b\"9007199254740993":9007199254740991}"#, None),
            ("[9007199254740991,1.2345678901234567890,12345678901234567e3,1e400]", None),
            (r#""9007199254740993"#, None),
            ("", None),
        ] {
            assert_eq!(exact(json).as_deref(), wanted, "{json}");
        }
    }
}
