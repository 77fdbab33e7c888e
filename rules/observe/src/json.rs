//! Events as JSON, fast: one is written for every MCP message, and a general serialiser spends more on
//! keys that never change than on the values. The result is the same as `serde_json`'s.

use crate::{
    Field, Lookup, Observation, Value,
    written::{is_stored_member, written, written_member},
};

impl Observation {
    /// Appends what [`serde::Serialize`] would write: one flat object, no line feed.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(b'{');
        for field in Field::all() {
            if let Lookup::Value(value) = self.get(field)
                && field.info().is_stored()
            {
                separate(out, start);
                out.extend_from_slice(field.info().json_key.as_bytes());
                write_value(out, &written(field, value));
            }
        }
        for (family, name, value) in self.members() {
            if is_stored_member(*family, name) {
                separate(out, start);
                out.push(b'"');
                out.extend_from_slice(family.prefix().as_bytes());
                escape(out, name);
                out.extend_from_slice(b"\":");
                write_value(out, &written_member(value));
            }
        }
        out.push(b'}');
    }
}

fn separate(out: &mut Vec<u8>, start: usize) {
    if out.len() > start + 1 {
        out.push(b',');
    }
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Str(text) => write_text(out, text),
        Value::Int(number) => write_number(out, *number),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::List(list) => {
            out.push(b'[');
            for (n, text) in list.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_text(out, text);
            }
            out.push(b']');
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: i64) {
    // Enough for i64::MIN: a sign and 19 digits.
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escape(out, text);
    out.push(b'"');
}

/// RFC 8259 section 7: quote, backslash and control characters are escaped, nothing else.
fn escape(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let clean = clean_prefix(rest);
        out.extend_from_slice(&rest[..clean]);
        let Some(byte) = rest.get(clean) else { return };
        rest = &rest[clean + 1..];
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            0x08 => b'b',
            0x09 => b't',
            0x0a => b'n',
            0x0c => b'f',
            0x0d => b'r',
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(DIGITS[usize::from(byte >> 4)]);
                out.push(DIGITS[usize::from(byte & 15)]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
}

/// The number of bytes from the front that need no escape. Eight at a time: texts are mostly clean.
fn clean_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The classic zero-byte test: the high bit of each byte of `w` that is zero (and perhaps of later
    // ones, which the byte-wise look below corrects).
    let zeros = |w: u64| w.wrapping_sub(ONES) & !w & HIGH;
    let (words, _) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let w = u64::from_le_bytes(*word);
        let control = w.wrapping_sub(ONES * 0x20) & !w & HIGH;
        if (control | zeros(w ^ (ONES * 0x22)) | zeros(w ^ (ONES * 0x5c))) != 0 {
            break;
        }
        at += 8;
    }
    at + bytes[at..].iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\').unwrap_or(bytes.len() - at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FIELDS, Family};

    fn same(seen: &Observation) {
        let mut ours = b"before".to_vec();
        seen.write_json(&mut ours);
        assert_eq!(std::str::from_utf8(&ours[6..]).unwrap(), serde_json::to_string(seen).unwrap());
    }

    #[test]
    fn it_writes_what_the_general_serialiser_writes() {
        same(&Observation::new());
        let mut seen = Observation::new();
        for info in FIELDS {
            seen.set_json(info.name, &serde_json::from_str(info.sample).unwrap()).unwrap();
        }
        seen.set_member(Family::RequestHeader, "x-\"odd\"", "a");
        seen.set_member(Family::RequestHeader, "authorization", "Bearer x");
        seen.set_member(Family::Argument, "path", "/etc/passwd");
        same(&seen);
    }

    #[test]
    fn every_character_is_escaped_alike() {
        for code in (0..0x250).chain([0x2028, 0xfeff, 0x1f600]) {
            let mut seen = Observation::new();
            let text: String = char::from_u32(code).into_iter().chain("x".chars()).collect();
            seen.set(Field::UrlPath, text);
            same(&seen);
        }
        for number in [0, -1, 9, 10, i64::MIN, i64::MAX] {
            let mut seen = Observation::new();
            seen.set(Field::Pid, number);
            same(&seen);
        }
    }
}
