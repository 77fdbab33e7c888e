//! JSON in which half of a surrogate pair stands alone: RFC 8259 section 8.2 allows it, and no text in UTF-8 can hold it.

use std::borrow::Cow;

/// The same JSON with U+FFFD for each such half, as decoders that read on have it.
pub(crate) fn replaced(json: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut kept, mut at) = (0, 0);
    while let Some(backslash) = json.get(at..).and_then(|rest| rest.find('\\')).map(|found| at + found) {
        at = match (unit(json, backslash), unit(json, backslash + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => backslash + 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str(json.get(kept..backslash).unwrap_or_default());
                out.push_str("\\ufffd");
                kept = backslash + 6;
                kept
            }
            _ => backslash + 2,
        };
    }
    if out.is_empty() {
        return Cow::Borrowed(json);
    }
    out.push_str(json.get(kept..).unwrap_or_default());
    Cow::Owned(out)
}

/// The code unit of the escape that begins there.
fn unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pair_alone_is_the_replacement_character_and_all_else_stays() {
        for (json, same) in [
            (r#"["\ud800 x"]"#, r#"["\ufffd x"]"#),
            (r#"["a\udc00"]"#, r#"["a\ufffd"]"#),
            (r#"["\ud800\ud83d\ude00\uD83D"]"#, r#"["\ufffd\ud83d\ude00\ufffd"]"#),
            (r#"["\\ud800", "\ud83d\ude00", "é\n", "\u00"]"#, r#"["\\ud800", "\ud83d\ude00", "é\n", "\u00"]"#),
            (r#"["\\\ud800"]"#, r#"["\\\ufffd"]"#),
            ("\\", "\\"),
        ] {
            assert_eq!(replaced(json), same);
        }
    }
}
