//! Integers that are longer than what is read of arguments holds.

/// The first integer of this JSON that 64 bits do not hold, cut to 40 characters.
pub(super) fn beyond(json: &str) -> Option<&str> {
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while let Some(byte) = bytes.get(at).filter(|byte| **byte != b'"') {
                    at += if *byte == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let rest = bytes.get(at..).unwrap_or_default();
                let length = rest.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
                let number = json.get(at..at + length)?;
                let digits = number.strip_prefix('-').unwrap_or(number);
                let is_integer = digits.bytes().all(|byte| byte.is_ascii_digit());
                if is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    return Some(number.get(..40).unwrap_or(number));
                }
                at += length.max(1);
            }
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_beyond_64_bits_is_found_and_nothing_else() {
        for (json, found) in [
            (r#"{"a":18446744073709551615,"b":[-9223372036854775808,1.5e300,12345678901234567890.5]}"#, None),
            (r#"{"a":"18446744073709551616","b\"99999999999999999999":1}"#, None),
            (r#"{"a":[1, 18446744073709551616 ]}"#, Some("18446744073709551616")),
            ("-9223372036854775809", Some("-9223372036854775809")),
            ("", None),
            (r#""\"#, None),
        ] {
            assert_eq!(beyond(json), found, "{json}");
        }
    }
}
