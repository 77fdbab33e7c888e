//! Characters that nobody sees, and that part no words for whoever reads a text all the same. One list, for arguments and for answers.

/// `Default_Ignorable_Code_Point` of Unicode 16.0 (DerivedCoreProperties.txt), in order: what is shown as nothing where it has no meaning.
const IGNORABLE: [(char, char); 17] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fff8}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// True if nothing is seen of the character: it is ignorable, an annotation's mark, or Braille's pattern without dots. Control
/// characters have [their own question](is_control).
pub(super) fn is_unseen(c: char) -> bool {
    if c < '\u{ad}' {
        return false;
    }
    let at = IGNORABLE.partition_point(|(_, last)| *last < c);
    matches!(c, '\u{2800}' | '\u{fff9}'..='\u{fffb}') || IGNORABLE.get(at).is_some_and(|(first, _)| *first <= c)
}

/// True for control characters but those that part words and lines (U+0009 to U+000D).
pub(super) fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\t'..='\r')
}

/// The same for a byte of UTF-8, of those in ASCII.
pub(super) const fn is_control_byte(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_known_at_the_ends_of_every_range_and_what_stands_beside_them_is_seen() {
        for (first, last) in IGNORABLE {
            assert!(is_unseen(first) && is_unseen(last), "{first:?} {last:?}");
        }
        for seen in
            ['a', '~', '\u{a0}', '\u{ae}', '\u{34e}', '\u{350}', '\u{115e}', '\u{1161}', '\u{2010}', '\u{2801}', '\u{fffc}', '\u{e1000}']
        {
            assert!(!is_unseen(seen), "{seen:?}");
        }
        assert!(IGNORABLE.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn control_characters_are_those_that_part_nothing() {
        let controls = (0..0x100).filter_map(char::from_u32).filter(|c| is_control(*c)).count();
        assert_eq!(controls, 65 - 5);
        assert!(!"\t\n\u{b}\u{c}\r ".contains(is_control));
    }
}
