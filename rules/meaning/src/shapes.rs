//! Characters that stand for those of ASCII in another shape: people and models read the letter, a rule that names it must as well.

use unicode_normalization::char::decompose_compatible;

/// Appends what a character is in plain characters: itself, unless it is ASCII in another shape (mathematical, circled, full-width letters and
/// digits, ligatures, spaces, slashes and full stops of other scripts). At most four characters for one of three bytes.
///
/// Source: compatibility decompositions of Unicode (UAX #15), as far as they lead to ASCII alone, and what has none there.
pub(super) fn push_plain(c: char, out: &mut String) {
    let letter = |first: u32| char::from_u32(u32::from('A') + u32::from(c) - first).unwrap_or(c);
    out.push(match c {
        // Scripts of whole texts, where no character has a decomposition to ASCII.
        '\0'..='\u{9f}'
        | '\u{400}'..='\u{52f}'
        | '\u{3041}'..='\u{3098}'
        | '\u{30a1}'..='\u{30fa}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7a3}' => c,
        '\u{1680}' => ' ',
        '\u{2028}' | '\u{2029}' => '\n',
        '\u{2044}' | '\u{2215}' | '\u{29f8}' => '/',
        '\u{2216}' | '\u{29f5}' => '\\',
        '\u{3002}' | '\u{ff61}' => '.',
        // White on black, and the halves of flags.
        '\u{2776}'..='\u{277e}' => char::from_u32(u32::from(c) - 0x2776 + u32::from('1')).unwrap_or(c),
        '\u{1f150}'..='\u{1f169}' => letter(0x1_f150),
        '\u{1f170}'..='\u{1f189}' => letter(0x1_f170),
        '\u{1f1e6}'..='\u{1f1ff}' => letter(0x1_f1e6),
        c => return push_compatible(c, out),
    });
}

fn push_compatible(c: char, out: &mut String) {
    let before = out.len();
    let mut is_ascii = true;
    decompose_compatible(c, |part| {
        is_ascii &= part.is_ascii();
        out.push(part);
    });
    if !is_ascii {
        out.truncate(before);
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let mut out = String::new();
        text.chars().for_each(|c| push_plain(c, &mut out));
        out
    }

    #[test]
    fn a_letter_in_any_shape_is_the_letter() {
        for (text, plain) in [
            ("𝐢𝑔𝓃𝗈𝙧𝚎 𝖆𝕝𝔩", "ignore all"),
            ("ⓘⓖⓝⓞⓡⓔ Ⓐⓛⓛ", "ignore All"),
            ("ｉｇｎｏｒｅ　①⑥⑨。", "ignore 169."),
            ("🄸🄶🄽🄾🅁🄴 🅐🅛🅛 🆂🅴🅲 🇷🇪🇹", "IGNORE ALL SEC RET"),
            ("ﬁle ﬄ ℓ ℯ K ⅷ ❶❷", "file ffl l e K viii 12"),
            ("..∕..∕etc⧵x ‥ … ․", "../../etc\\x .. ... ."),
            ("ˢᵘᵈᵒ x²", "sudo x2"),
        ] {
            assert_eq!(of(text), plain, "{text}");
        }
    }

    #[test]
    fn what_is_no_letter_of_ascii_stays() {
        for text in ["über señor Ångström", "привет", "日本語 テキスト ﾃｷｽﾄ", "한국어", "ß æ ½ é 😀 Ω", "e\u{301}"]
        {
            assert_eq!(of(text), text);
        }
    }

    #[test]
    fn no_character_becomes_more_than_four_of_ascii() {
        for c in '\u{80}'..=char::MAX {
            let mut out = String::new();
            push_plain(c, &mut out);
            assert!(out.len() <= c.len_utf8().max(4), "{c:?}: {out}");
            let passed_over = out.chars().eq([c]);
            assert!(passed_over || out.is_ascii(), "{c:?}: {out}");
            let mut whole = String::new();
            push_compatible(c, &mut whole);
            assert!(whole == out || out.is_ascii(), "a script that is passed over has none: {c:?}: {out}, {whole}");
        }
    }
}
