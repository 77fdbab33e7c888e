//! Strangers' words, made fit for a model: bounded, and without what people do not see.

/// A text of at most `most` characters, in which runs of blanks are one and nothing is invisible.
pub fn cleaned(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most));
    let (mut count, mut blank) = (0, None);
    // Skipped characters cost time, too: their number is bounded.
    for c in text.chars().take(most.saturating_mul(8)) {
        if is_hidden(c) {
            continue;
        }
        if c.is_whitespace() {
            blank = Some(if c == '\n' || blank == Some('\n') { '\n' } else { ' ' });
            continue;
        }
        if count >= most {
            shown.push('…');
            return shown;
        }
        if let Some(blank) = blank.take().filter(|_| count > 0) {
            shown.push(blank);
            count += 1;
        }
        shown.push(c);
        count += 1;
    }
    shown
}

/// Characters that steer or hide text: controls, joiners, directions (Unicode TR 36), tags, variation selectors.
fn is_hidden(c: char) -> bool {
    let invisible = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    invisible || c.is_control() && !c.is_whitespace()
}

/// FNV-1a, 32 bits: an ending that tells names apart, always the same.
pub fn digest(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_reaches_no_model() {
        assert_eq!(cleaned("a\u{200b}b\u{202e}c\u{e0041}\u{e0042}\u{0}\u{1b}[0m", 100), "abc[0m");
        assert_eq!(cleaned("  one \t two\r\n\n three ", 100), "one two\nthree");
        assert_eq!(cleaned("abcdef", 3), "abc…");
        assert_eq!(cleaned("abc ", 3), "abc");
        assert_eq!(cleaned(&"\u{200b}".repeat(1 << 20), 10), "");
    }
}
