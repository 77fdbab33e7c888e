//! A text as a server may come to read it: without what nobody sees, in plain characters, its escapes undone, its path resolved, what
//! it holds in Base64 or hexadecimal, and what a program would make of its literals (joined, escaped, as numbers of characters).
//!
//! Bounded by the text itself: undoing an encoding makes a third more of it at most, three rounds of escapes at most are undone, and two of
//! Base64 or hexadecimal.

use crate::{encoded, shapes, unseen};
use smol_str::SmolStr;
use std::borrow::Cow;

/// Percent-encodings that are undone within each other.
const ROUNDS: usize = 3;
/// The longest text, in bytes, that is read as a path: as long as a path may be on Linux.
const LONGEST_PATH: usize = 4096;

/// The text decoded; its path resolved, where that is another; what it holds in Base64 or hexadecimal, where that is text.
pub(super) fn readings(argument: &SmolStr) -> Vec<SmolStr> {
    let (revealed, tags) = revealed_with(argument, Tags::Letters);
    let mut readings = readings_as(argument, revealed);
    if let Had::Some = tags {
        let (unseen, _) = revealed_with(argument, Tags::Unseen);
        readings.extend(readings_as(argument, unseen));
        readings.dedup();
    }
    readings
}

fn readings_as(argument: &SmolStr, revealed: Cow<'_, str>) -> Vec<SmolStr> {
    let path = resolved(&revealed);
    let plain = match without_controls(revealed) {
        Cow::Borrowed(_) => argument.clone(),
        Cow::Owned(text) => SmolStr::new(text),
    };
    let resolved = path.filter(|path| *path != *plain).map(SmolStr::new);
    let mut inner = within(&plain);
    let joined = joined(&plain);
    inner.extend(joined.iter().flat_map(|text| within(text)));
    inner.extend(literal(&plain, argument));
    inner.extend([numbered(&plain), joined].into_iter().flatten().map(SmolStr::new));
    let innermost: Vec<SmolStr> = inner.iter().flat_map(|text| within(text)).collect();
    let mut readings = vec![plain];
    readings.extend(resolved);
    readings.extend(inner);
    readings.extend(innermost);
    readings
}

/// The readings of a text that passes, but for itself: decoded, and what it holds in Base64 or hexadecimal.
pub(crate) fn others(text: &str) -> Vec<SmolStr> {
    let (revealed, tags) = revealed_with(text, Tags::Letters);
    let mut others = others_as(text, revealed);
    if let Had::Some = tags {
        let (unseen, _) = revealed_with(text, Tags::Unseen);
        others.extend(others_as(text, unseen));
        others.dedup();
    }
    others
}

fn others_as(text: &str, revealed: Cow<'_, str>) -> Vec<SmolStr> {
    let plain = without_controls(revealed);
    let mut inner = within(&plain);
    inner.extend(literal(&plain, text));
    let innermost: Vec<SmolStr> = inner.iter().flat_map(|text| within(text)).collect();
    let mut others = Vec::new();
    if plain != text {
        others.push(SmolStr::new(&plain));
    }
    others.extend(inner);
    others.extend(innermost);
    others
}

/// What a text holds in Base64 or hexadecimal.
pub(super) fn within(text: &str) -> Vec<SmolStr> {
    encoded::texts(text).iter().flat_map(|text| plain_readings(text).into_iter().chain(literal(text, text))).collect()
}

/// Literals that are put together (`'I' + 'EX'`) as the one that they make; `None` where there are none.
fn joined(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut changed) = (text, false);
    while let Some(at) = rest.find(['\'', '"']) {
        let (before, after) = rest.split_at(at);
        let quote = after.get(..1).unwrap_or_default();
        out.push_str(before);
        let behind = after.get(1..).unwrap_or_default();
        match behind.trim_start().strip_prefix(['+', '.', '&']).map(str::trim_start).and_then(|next| next.strip_prefix(quote)) {
            Some(next) => {
                changed = true;
                rest = next;
            }
            None => {
                out.push_str(quote);
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    changed.then_some(out)
}

/// What the text means, as it is and decoded, to a program that undoes `\x41` and `\101`, and then whatever that spells.
fn literal(plain: &str, text: &str) -> Vec<SmolStr> {
    let mut found = Vec::new();
    for text in [Some(plain), (text != plain).then_some(text)].into_iter().flatten() {
        let mut next = spelt(text);
        for _ in 0..ROUNDS {
            let Some(text) = next else { break };
            next = spelt(&text);
            found.extend(plain_readings(&text));
        }
    }
    found
}

/// With `\x41` and `\101` as the characters that they mean to most languages, behind however many backslashes; `None` where none means a
/// character that is seen or stands beyond ASCII, and fewer than three mean any: paths of Windows look like them.
fn spelt(text: &str) -> Option<String> {
    if !text.contains('\\') {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    let (mut rest, mut count) = (text.as_bytes(), 0);
    let octal = |digits: &[u8]| std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok());
    while let Some((byte, after)) = rest.split_first() {
        let spelt = match rest {
            [b'\\', b'x', first, second, ..] => hexadecimal(&[*first, *second]).map(|code| (code as u8, 4)),
            [b'\\', digits @ ..] => {
                let length = digits.iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                digits.get(..length).filter(|digits| digits.len() > 1).and_then(octal).map(|code| (code, 1 + length))
            }
            _ => None,
        };
        if let Some((code, length)) = spelt {
            if out.last() == Some(&b'\\') {
                out.truncate(without_backslashes(&out));
            }
            out.push(code);
            let is_sure = length == 4 && (code.is_ascii_graphic() || !code.is_ascii());
            count += if is_sure { 3 } else { 1 };
            rest = rest.get(length..).unwrap_or_default();
        } else {
            out.push(*byte);
            rest = after;
        }
    }
    (count >= 3).then(|| String::from_utf8_lossy(&out).into_owned())
}

/// The length without the backslashes at the end.
fn without_backslashes(text: &[u8]) -> usize {
    text.iter().rposition(|byte| *byte != b'\\').map_or(0, |last| last + 1)
}

/// What a row of six numbers or more means as characters (`map(chr, [105, 109, …])`, `CHR(104)||CHR(120)`); `None` where none is text.
fn numbered(text: &str) -> Option<String> {
    let mut found = String::new();
    let mut row: Vec<u8> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, numbers) = rest.split_at(at);
        let apart = |c: char| !(c.is_whitespace() || ",.+|&()[]chrCHRaAodeODE".contains(c));
        if before.len() > 20 || before.contains(apart) {
            take_row(&mut found, &mut row);
        }
        let end = numbers.find(|c: char| !c.is_ascii_digit()).unwrap_or(numbers.len());
        match numbers.get(..end).and_then(|number| number.parse().ok()) {
            Some(code @ (9 | 10 | 13 | 32..=126)) => row.push(code),
            _ => take_row(&mut found, &mut row),
        }
        rest = numbers.get(end..).unwrap_or_default();
    }
    take_row(&mut found, &mut row);
    (!found.is_empty()).then_some(found)
}

fn take_row(found: &mut String, row: &mut Vec<u8>) {
    let row = std::mem::take(row);
    if row.len() >= 6 {
        found.extend(row.into_iter().map(char::from));
        found.push('\n');
    }
}

/// Without what is not seen, in plain characters, without escapes.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    without_controls(revealed(text))
}

fn without_controls(text: Cow<'_, str>) -> Cow<'_, str> {
    // Most texts have none, which bytes tell sooner than characters. Those beyond ASCII begin with one byte.
    let may_be = |byte: u8| unseen::is_control_byte(byte) | (byte == 0xc2);
    if !text.bytes().fold(false, |found, byte| found | may_be(byte)) || !text.contains(unseen::is_control) {
        return text;
    }
    Cow::Owned(text.chars().filter(|c| !unseen::is_control(*c)).collect())
}

/// What tag characters (U+E0020 to U+E007E) are to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tags {
    /// The letters that models read them as.
    Letters,
    /// Nothing, as people see them, and programs that leave out what is not seen.
    Unseen,
}

/// Whether a text had tag characters, however they were spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Had {
    None,
    Some,
}

/// The same with control characters: a path ends at a NUL.
pub(super) fn revealed(text: &str) -> Cow<'_, str> {
    revealed_with(text, Tags::Letters).0
}

fn revealed_with(text: &str, tags: Tags) -> (Cow<'_, str>, Had) {
    let mut had = Had::None;
    let mut text = folded(text, tags, &mut had);
    for _ in 0..ROUNDS {
        match unescaped(&text) {
            Some(next) => text = Cow::Owned(folded(&next, tags, &mut had).into_owned()),
            None => break,
        }
    }
    (text, had)
}

/// Characters that are not seen are left out, and those that stand for ASCII in another shape become it.
fn folded<'a>(text: &'a str, tags: Tags, had: &mut Had) -> Cow<'a, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{e0020}'..='\u{e007e}' if tags == Tags::Letters => {
                *had = Had::Some;
                out.push(char::from_u32(u32::from(c) - 0xe_0000).unwrap_or(c));
            }
            c if unseen::is_unseen(c) => {}
            c => shapes::push_plain(c, &mut out),
        }
    }
    Cow::Owned(out)
}

/// One round of `%41`, `%u0041`, `\u0041` (of characters beyond 16 bits both halves), `\u{41}`, `\U00000041`, behind however many backslashes,
/// and the overlong UTF-8 of full stop and slashes; `None` where there is none.
fn unescaped(text: &str) -> Option<String> {
    if !text.contains(['%', '\\']) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let mut changed = false;
    while let Some((&byte, after)) = rest.split_first() {
        let (bytes, taken) = escape(rest);
        if taken == 0 {
            out.push(byte);
            rest = after;
        } else {
            // As many are doubled as there are writers within each other.
            if byte == b'\\' {
                out.truncate(without_backslashes(&out));
            }
            out.extend_from_slice(&bytes);
            changed = true;
            rest = rest.get(taken..).unwrap_or_default();
        }
    }
    changed.then(|| String::from_utf8_lossy(&out).into_owned())
}

/// The bytes that the escape at the beginning means, and its length; 0 where there is none.
fn escape(text: &[u8]) -> (Vec<u8>, usize) {
    let two = |at: usize| text.get(at..at + 2).and_then(hexadecimal);
    let unit = |at: usize| text.get(at..at + 4).and_then(hexadecimal);
    let character = |code: u32| char::from_u32(code).map_or_else(Vec::new, |c| c.to_string().into_bytes());
    match text {
        [b'\\', b'u', b'{', ..] => {
            let digits = text.get(3..).unwrap_or_default().iter().take(7).position(|byte| *byte == b'}').unwrap_or_default();
            let code = text.get(3..3 + digits).filter(|digits| !digits.is_empty()).and_then(hexadecimal);
            code.map_or((Vec::new(), 0), |code| (character(code), digits + 4))
        }
        [b'\\', b'U', ..] => text.get(2..10).and_then(hexadecimal).map_or((Vec::new(), 0), |code| (character(code), 10)),
        [b'%' | b'\\', b'u' | b'U', ..] => match (unit(2), text.get(6..8) == text.get(..2), unit(8)) {
            (Some(high @ 0xd800..=0xdbff), true, Some(low @ 0xdc00..=0xdfff)) => {
                (character(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)), 12)
            }
            (Some(code), ..) => (character(code), 6),
            (None, ..) => (Vec::new(), 0),
        },
        [b'%', b'c' | b'C', _, b'%', ..] => match (two(1), two(4)) {
            // Two bytes for a character of ASCII, which strict decoders refuse and lax ones take.
            (Some(first @ (0xc0 | 0xc1)), Some(second @ 0x80..=0xbf)) => (character((first & 0x1f) << 6 | second & 0x3f), 6),
            (Some(first), _) => (vec![first as u8], 3),
            (None, _) => (Vec::new(), 0),
        },
        [b'%', ..] => two(1).map_or((Vec::new(), 0), |byte| (vec![byte as u8], 3)),
        _ => (Vec::new(), 0),
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok()
}

/// The path, with `/` for either slash, its `.` and `..` followed as far as it goes and its empty parts left out, up to a NUL; `None` if it
/// is none. `file:` goes; another scheme is no path. Other control characters are left out.
pub(super) fn resolved(text: &str) -> Option<String> {
    let path = without_controls(Cow::Borrowed(text.trim().split('\0').next().unwrap_or_default()));
    let path = &*path;
    let scheme = |path: &str| path.get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case("file://"));
    let path = if scheme(path) { path.get(7..).unwrap_or_default() } else { path };
    let path = path.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(path);
    if path.len() > LONGEST_PATH || !path.contains(['/', '\\']) || path.contains(['\n', '\r']) || path.contains("://") {
        return None;
    }
    let path = path.replace('\\', "/");
    let root = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        // What stands behind a semicolon are parameters to some servers.
        match part.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if root => {}
            ".." => parts.push(".."),
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    Some(if root { format!("/{joined}") } else { joined })
}

/// The text without what is not seen; twice where tag characters are one thing or the other.
fn plain_readings(text: &str) -> Vec<SmolStr> {
    let (letters, tags) = revealed_with(text, Tags::Letters);
    let mut readings = vec![SmolStr::new(without_controls(letters))];
    if let Had::Some = tags {
        readings.push(SmolStr::new(without_controls(revealed_with(text, Tags::Unseen).0)));
        readings.dedup();
    }
    readings
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};

    fn of(text: &str) -> Vec<String> {
        readings(&SmolStr::new(text)).into_iter().map(String::from).collect()
    }

    #[test]
    fn a_text_without_any_encoding_is_itself() {
        for text in ["", "hello", "über", "50 % of all", "a/b", "C:", "%zz"] {
            assert_eq!(of(text), [text]);
        }
    }

    #[test]
    fn every_encoding_of_a_path_comes_to_the_same_path() {
        for text in [
            "../../etc/passwd",
            "..%2f..%2fetc%2fpasswd",
            "..%252f..%252fetc%252fpasswd",
            "%2e%2e/%2e%2e/etc/passwd",
            "..%c0%af..%c0%afetc/passwd",
            "..%u2215..%u2215etc%u2215passwd",
            "..\\u002f..\\u002fetc\\u002fpasswd",
            "．．/．．/etc/passwd",
            "..∕..∕etc∕passwd",
            "..\\..\\etc\\passwd",
            "./x/../..//../etc/passwd%00.png",
        ] {
            assert!(of(text).contains(&"../../etc/passwd".to_owned()), "{text}: {:?}", of(text));
        }
    }

    #[test]
    fn a_character_is_read_in_each_spelling_that_a_reader_undoes() {
        for text in [
            "\\ud835\\udc21idden word",
            "%ud835%udc21idden word",
            "\\u{68}idden word",
            "\\u{1d421}idden word",
            "\\U00000068idden word",
            "\\u0068idden word",
        ] {
            assert!(of(text).contains(&"hidden word".to_owned()), "{text} in an argument: {:?}", of(text));
            assert!(others(text).contains(&"hidden word".into()), "{text} in an answer: {:?}", others(text));
        }
        for text in ["\\x68\\x69\\x64den", "\\150\\151\\144den"] {
            assert!(of(text).contains(&"hidden".to_owned()) && others(text).contains(&"hidden".into()), "{text}: {:?}", others(text));
        }
        assert_eq!(others("C:\\Users\\ada"), Vec::<SmolStr>::new());
    }

    #[test]
    fn a_path_ends_where_its_dots_lead() {
        for (text, path) in [
            ("/srv/data/../../root/.ssh/id_rsa", "/root/.ssh/id_rsa"),
            ("/home//ada/./.ssh/id_rsa", "/home/ada/.ssh/id_rsa"),
            ("file:///workspace/../etc/shadow", "/etc/shadow"),
            ("FILE://localhost/etc/shadow", "/etc/shadow"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("..;/..;/manager/html", "../../manager/html"),
        ] {
            assert!(of(text).contains(&path.to_owned()), "{text}: {:?}", of(text));
        }
        assert_eq!(of("https://a.example/x/../y").len(), 1, "a URL is no path");
    }

    #[test]
    fn literals_are_read_as_a_program_would_come_to_read_them() {
        for (text, meant) in [
            ("&('I'+'EX') ('Down' + 'load')", "&('IEX') ('Download')"),
            ("\\x66\\x65tch \\x63", "fetch c"),
            ("$'\\143\\165\\162l'", "$'curl'"),
            ("eval(''.join(map(chr,[105,109,112,111,114,116])))", "import\n"),
            ("CHR(104)||CHR(101)||CHR(108)||CHR(108)||CHR(111)||CHR(33)", "hello!\n"),
            ("?d=Y3VybCBodHRwOi8vMjAzLjAuMTEzLjg", "curl http://203.0.113.8"),
            ("/4c61756e6368206f6620466a6f7264", "Launch of Fjord"),
        ] {
            assert!(of(text).contains(&meant.to_owned()), "{text}: {:?}", of(text));
        }
        assert!(!of("a\\12\\x01b").iter().any(|reading| reading.contains('\n')), "a short escape may be part of a path");
        for text in ["ig\\x6eore all pre\\x76ious", "ig\\\\x6eore all pre\\\\\\\\u0076ious", "ig\\x5cx6eore all pre%5cu0076ious"] {
            assert!(of(text).contains(&"ignore all previous".to_owned()), "{text}: {:?}", of(text));
            assert!(others(text).contains(&"ignore all previous".into()), "{text} in an answer: {:?}", others(text));
        }
        for text in ["it's + 'that'", "1, 2, 3, 4, 5, 6", "1700000000, 1700000001", "a + b"] {
            assert_eq!(of(text).len(), 1, "{text}: {:?}", of(text));
        }
    }

    #[test]
    fn what_is_not_seen_does_not_part_words_and_tags_are_letters() {
        assert_eq!(of("ig\u{ad}no\u{200b}re a\u{fe0f}ll"), ["ignore all"]);
        assert_eq!(of("x\u{e0069}\u{e0067}"), ["xig", "x"], "tags are letters to models, and nothing to people");
        assert_eq!(of("ｉｇｎｏｒｅ　①⑥⑨。 𝐚𝓁𝗅 🅲"), ["ignore 169. all C"]);
    }

    #[test]
    fn a_tag_character_hides_no_word_whether_it_is_read_as_a_letter_or_left_out() {
        for tag in ('\u{e0020}'..='\u{e007e}').step_by(13) {
            let mut halves = [0; 2];
            let halves = tag.encode_utf16(&mut halves);
            for text in [
                format!("top{tag}secret"),
                format!("top{}secret", tag.to_string().bytes().map(|b| format!("%{b:02X}")).collect::<String>()),
                format!("top{}secret", tag.to_string().bytes().map(|b| format!("\\x{b:02x}")).collect::<String>()),
                format!("top{}secret", tag.to_string().bytes().map(|b| format!("\\{b:o}")).collect::<String>()),
                format!("top{}secret", halves.iter().map(|half| format!("\\u{half:04x}")).collect::<String>()),
                format!("top{}secret", halves.iter().map(|half| format!("\\\\u{half:04x}")).collect::<String>()),
                format!("top\\u{{{:x}}}secret", u32::from(tag)),
                format!("top\\U{:08x}secret", u32::from(tag)),
            ] {
                assert!(others(&text).contains(&"topsecret".into()), "{tag:?} in an answer: {:?}", others(&text));
                assert!(of(&text).contains(&"topsecret".to_owned()), "{tag:?} in an argument: {:?}", of(&text));
                let coded = STANDARD.encode(format!("all that is {text}"));
                assert!(of(&coded).contains(&"all that is topsecret".to_owned()), "{coded}");
            }
        }
        let all: String = "topsecret".chars().filter_map(|c| char::from_u32(0xe_0000 + u32::from(c))).collect();
        assert!(others(&all).contains(&"topsecret".into()) && of(&format!("x {all}")).contains(&"x topsecret".to_owned()));
    }

    #[test]
    fn no_character_that_is_not_seen_hides_a_word() {
        let unseen = "\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{180b}\u{180e}\u{180f}\u{200b}\u{200f}\u{202a}\u{202e}\u{2060}\u{206a}\u{206f}\u{2800}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{1bca0}\u{1d173}\u{1d17a}\u{e0001}\u{e007f}\u{e0100}\0\u{1}\u{8}\u{e}\u{1b}\u{1f}\u{7f}\u{80}\u{85}\u{9f}";
        for c in unseen.chars() {
            let text = format!("top{c}secret");
            assert_eq!(others(&text), ["topsecret"], "{c:?} in an answer");
            assert!(of(&text).contains(&"topsecret".to_owned()), "{c:?} in an argument: {:?}", of(&text));
        }
        for (space, is) in [('\u{a0}', ' '), ('\u{2003}', ' '), ('\u{202f}', ' '), ('\u{2028}', '\n')] {
            assert_eq!(others(&format!("top{space}secret")), [format!("top{is}secret")]);
        }
        for parted in ["top\tsecret", "top\r\nsecret", "top\u{b}secret"] {
            assert_eq!(of(parted), [parted]);
        }
        assert!(of("/srv/x/../../etc/pass\u{8}wd\0.png").contains(&"/etc/passwd".to_owned()), "a path ends at a NUL");
    }
}
