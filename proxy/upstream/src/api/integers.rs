//! Integers that are longer than what is read of arguments holds: serde_json reads an integer beyond 64 bits as a float, without its last
//! digits. So the text of arguments is looked at as well.

/// Most characters of an integer that are told.
const TOLD: usize = 40;

/// The first integer of this JSON that 64 bits do not hold, cut to 40 characters.
pub(super) fn beyond(json: &str) -> Option<&str> {
    let is_beyond = |written: &&str| written.parse::<i64>().is_err() && written.parse::<u64>().is_err();
    let found = gnomon_kit::integers(json).map(|integer| integer.written).find(is_beyond)?;
    Some(found.get(..TOLD).unwrap_or(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_beyond_64_bits_is_found_and_nothing_else() {
        let long = format!("[{}]", "9".repeat(200));
        for (json, found) in [
            (r#"{"a":18446744073709551615,"b":[-9223372036854775808,1.5e300,12345678901234567890.5]}"#, None),
            (r#"{"a":"18446744073709551616","b\"99999999999999999999":1}"#, None),
            (r#"{"a":"18446744073709551616","b":[1e300,{"c":18446744073709551616.0}]}"#, None),
            (r#"{"a":[1, 18446744073709551616 ]}"#, Some("18446744073709551616")),
            (r#"{"a":[1e300],"b\u0061":{"c":[[],2,18446744073709551617,18446744073709551618]}}"#, Some("18446744073709551617")),
            ("-9223372036854775809", Some("-9223372036854775809")),
            (&long, Some(&long[1..=TOLD])),
            // Of a member that is written twice the last is sent; both are looked at.
            (r#"{"a":1e300,"a":18446744073709551616}"#, Some("18446744073709551616")),
            (r#"{"a":[18446744073709551616],"a":1e300}"#, Some("18446744073709551616")),
        ] {
            assert_eq!(beyond(json), found, "{json}");
        }
    }
}
