//! The places of secrets within a text, whatever else it is: a name, an address, a header, a body. One for all that is kept: fields of events,
//! payloads in the audit.
//!
//! It errs towards hiding where something says that a secret follows, and leaves words that people would say. One pass over the text, and one
//! for each percent-encoding within another; no look ahead is longer than [`FAR`] bytes.

use crate::{
    secret::{CONCEALED, is_secret_name, is_secret_parameter},
    tokens::tokens_in,
};
use std::{borrow::Cow, ops::Range};

/// Percent-encodings within each other that are looked into.
const ROUNDS: usize = 3;
/// The end of a quoted value is looked for no further, in bytes.
const FAR: usize = 8192;
/// The fewest characters of what follows `Bearer` or `Basic` within other text; fewer are a word.
const LEAST: usize = 8;
/// The same behind `token` and the like, which other things follow more often.
const LEAST_BEHIND_A_WORD: usize = 16;
/// How a key in PEM begins (RFC 7468).
const BEGIN: &[u8] = b"-----BEGIN";
/// What follows the name of a scheme is told from words by so many bytes.
const OPENING: usize = 256;
/// A word of one language is shorter.
const LONGEST_WORD: usize = 24;

/// What is taken for a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forms {
    /// What is marked as one, and tokens of well-known services by their form.
    All,
    /// What is marked as one.
    Marked,
}

/// A text without what is secret in it: the user and password of a URI (RFC 3986, and with `\` for `/`), values of names that are secret
/// (parameters, headers, options, members), what follows `Bearer` or `Basic` as far as it is no word, private keys, and tokens of
/// well-known services wherever they stand; percent-encoded or not. The other text stays as it is, whatever it says.
#[must_use]
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    without(text, Forms::All)
}

pub(crate) fn without(text: &str, forms: Forms) -> Cow<'_, str> {
    let places = secrets_in(text, forms);
    if places.is_empty() {
        return Cow::Borrowed(text);
    }
    let (mut said, mut at) = (String::with_capacity(text.len()), 0);
    for place in places {
        said.push_str(text.get(at..place.start).unwrap_or_default());
        said.push_str(CONCEALED);
        at = place.end;
    }
    said.push_str(text.get(at..).unwrap_or_default());
    Cow::Owned(said)
}

/// From the front on, none within another.
fn secrets_in(text: &str, forms: Forms) -> Vec<Range<usize>> {
    let mut found = Scan::of(text.as_bytes(), forms);
    let mut view = unescaped(text.as_bytes(), |at| at);
    for _ in 0..ROUNDS {
        let Some((bytes, places)) = &view else { break };
        let place = |at: usize| places.get(at).copied().unwrap_or(text.len());
        found.extend(Scan::of(bytes, forms).into_iter().map(|range| place(range.start)..place(range.end)));
        view = unescaped(bytes, place);
    }
    found.sort_unstable_by_key(|place| (place.start, place.end));
    let mut sorted: Vec<Range<usize>> = Vec::with_capacity(found.len());
    for place in found {
        let place = text.floor_char_boundary(place.start)..text.ceil_char_boundary(place.end);
        match sorted.last_mut() {
            Some(last) if place.start <= last.end => last.end = last.end.max(place.end),
            _ => sorted.push(place),
        }
    }
    sorted
}

/// One round of percent-encoding undone, and where in the whole each byte of it begins; `None` where there is none.
fn unescaped(text: &[u8], place: impl Fn(usize) -> usize) -> Option<(Vec<u8>, Vec<usize>)> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    if !text.contains(&b'%') {
        return None;
    }
    let (mut out, mut places, mut at) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len() + 1), 0);
    while let Some(byte) = text.get(at) {
        places.push(place(at));
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    places.push(place(text.len()));
    (out.len() < text.len()).then_some((out, places))
}

struct Scan<'a> {
    text: &'a [u8],
    found: Vec<Range<usize>>,
}

impl<'a> Scan<'a> {
    fn of(text: &[u8], forms: Forms) -> Vec<Range<usize>> {
        let mut scan = Scan { text, found: if forms == Forms::All { tokens_in(text) } else { Vec::new() } };
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            at = match byte {
                byte if is_word(*byte) => scan.word(at),
                b'/' | b'\\' => scan.authority(at),
                _ => at + 1,
            };
        }
        scan.found
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    /// What stands there, as far as the text goes.
    fn part(&self, range: Range<usize>) -> &'a [u8] {
        self.text.get(range.start..range.end.min(self.text.len())).unwrap_or_default()
    }

    /// The end of the bytes that `is` holds for, at most `most` of them.
    fn end(&self, at: usize, most: usize, is: impl Fn(u8) -> bool) -> usize {
        at + self.text.get(at..).unwrap_or_default().iter().take(most).take_while(|byte| is(**byte)).count()
    }

    /// Hides a value; where to go on.
    fn hide(&mut self, value: Range<usize>) -> usize {
        let end = value.end;
        if !value.is_empty() && !self.part(value.clone()).starts_with(CONCEALED.as_bytes()) {
            self.found.push(value);
        }
        end
    }

    /// What slashes begin: a user and password before a host.
    fn authority(&mut self, at: usize) -> usize {
        let begin = self.end(at, usize::MAX, |byte| matches!(byte, b'/' | b'\\'));
        let before = at.checked_sub(1).and_then(|at| self.byte(at));
        if begin - at > 1 || before == Some(b':') {
            let is_plain = begin - at > 1 && before.is_none_or(|byte| byte == b':' || !is_word(byte));
            return self.login(begin, is_plain).unwrap_or(begin);
        }
        begin
    }

    /// Where it goes on behind the `@` of a host, if there is one. Where nothing else says that a host follows, only with a password.
    fn login(&mut self, begin: usize, is_plain: bool) -> Option<usize> {
        let end = self.end(begin, usize::MAX, |byte| !is_blank(byte) && !b"/\\?#\"<>`".contains(&byte));
        let login = self.part(begin..end);
        let at = login.iter().rposition(|byte| *byte == b'@')?;
        if is_plain || login.get(..at)?.contains(&b':') {
            return Some(self.hide(begin..begin + at) + 1);
        }
        None
    }

    fn word(&mut self, at: usize) -> usize {
        let end = self.end(at, usize::MAX, is_word);
        let word = self.part(at..end);
        if let Some(dashes) = word.windows(BEGIN.len()).position(|part| part == BEGIN).map(|dashes| at + dashes)
            && self.part(dashes..dashes + 64).windows(11).any(|part| part == b"PRIVATE KEY")
        {
            return self.private_key(dashes);
        }
        if ends_in(word, b"bearer") {
            return self.credential(at, end, LEAST, is_credential).unwrap_or(end);
        }
        if ends_in(word, b"basic") {
            return self.credential(at, end, LEAST, is_login_in_base64).unwrap_or(end);
        }
        if let Some(end) = self.value(at, end) {
            return end;
        }
        let is_option = word.starts_with(b"--") && std::str::from_utf8(word).is_ok_and(is_secret_name);
        if self.byte(end).is_some_and(|byte| byte == b' ' || byte == b'\t') {
            let begin = self.end(end, usize::MAX, |byte| matches!(byte, b' ' | b'\t'));
            if is_option && self.byte(begin).is_some_and(|byte| byte != b'-') {
                let opened = self.end(begin, 4, is_quote);
                let closed = self.end_of_value(opened, begin, None);
                return self.hide(opened..closed);
            }
            if [b"token".as_slice(), b"apikey", b"api-key", b"negotiate", b"ntlm"].iter().any(|name| ends_in(word, name)) {
                return self.credential(at, end, LEAST_BEHIND_A_WORD, is_random).unwrap_or(end);
            }
        }
        end
    }

    /// What follows the name of a scheme.
    fn credential(&mut self, at: usize, end: usize, least: usize, is: fn(&[u8]) -> bool) -> Option<usize> {
        let begin = self.end(end, usize::MAX, |byte| is_blank(byte) || byte >= 0x80 || b":=+,\"'\\".contains(&byte));
        let close = self.end(begin, usize::MAX, |byte| !is_blank(byte) && !b"\"'`\\;,&()<>[]{}".contains(&byte));
        if begin == end || begin == close {
            return None;
        }
        // A header's value by itself may be a short one.
        let is_alone = at == 0 && close == self.text.len() && self.part(at..end).eq_ignore_ascii_case(b"bearer");
        let credential = self.part(begin..close);
        (is_alone || credential.len() >= least && is(credential.get(..OPENING).unwrap_or(credential))).then(|| self.hide(begin..close))
    }

    fn private_key(&mut self, at: usize) -> usize {
        let find = |from: usize, what: &[u8]| self.part(from..self.text.len()).windows(what.len()).position(|part| part == what);
        let last = find(at, b"-----END ").map(|end| at + end + b"-----END ".len());
        let close = last.and_then(|last| find(last, b"-----").map(|dashes| last + dashes + b"-----".len()));
        self.hide(at..close.unwrap_or(self.text.len()))
    }

    /// The value of a name that is secret: `name=value`, `name: value`, `"name": "value"`.
    fn value(&mut self, at: usize, end: usize) -> Option<usize> {
        let separator = self.end(self.end(end, 4, |byte| is_quote(byte) || byte == b']'), 8, |byte| matches!(byte, b' ' | b'\t'));
        let sign = self.byte(separator).filter(|byte| matches!(byte, b'=' | b':'))?;
        let behind = self.end(separator + 1, 2, |byte| matches!(byte, b'=' | b'>'));
        let blank = self.end(behind, 8, |byte| matches!(byte, b' ' | b'\t'));
        let begin = self.end(blank, 4, is_quote);
        let before = at.checked_sub(1).and_then(|at| self.byte(at));
        let is_direct = sign == b':' && separator == end && begin == end + 1;
        let is_parameter = sign == b'=' && before.is_none_or(|byte| b"?&;#/".contains(&byte));
        // The path of a type (`Token::new`), a scheme (`secret://x`), the port of a host.
        if is_direct && (self.byte(begin) == Some(b':') || self.part(begin..begin + 2) == b"//" || self.is_port(at..end)) {
            return None;
        }
        let name = std::str::from_utf8(self.part(at..end)).ok()?.trim_start_matches(['-', '.']);
        let is_secret = if is_parameter { is_secret_parameter(name) } else { is_secret_name(name) };
        if !is_secret {
            return None;
        }
        let name = name.to_ascii_lowercase();
        if name.ends_with("authorization") {
            return Some(self.authorization(begin, blank));
        }
        if sign == b':' && name.ends_with("cookie") {
            let close = self.end(begin, usize::MAX, |byte| !matches!(byte, b'\n' | b'\r' | b'"' | b'\''));
            return Some(self.hide(begin..close));
        }
        let context = before.filter(|_| is_parameter);
        let close = self.end_of_value(begin, blank, context);
        let value = self.part(begin..close);
        let says_nothing = [b"true".as_slice(), b"false", b"null", b"none"].iter().any(|word| value.eq_ignore_ascii_case(word))
            || name.ends_with("tokens") && value.iter().all(u8::is_ascii_digit)
            || value == b"$" && matches!(self.byte(close), Some(b'{' | b'('));
        // `secret:list` is a name.
        let is_name = is_direct && value.len() < LONGEST_WORD && value.iter().all(u8::is_ascii_alphabetic) && self.is_one_word();
        if value.is_empty() || says_nothing || is_name { None } else { Some(self.hide(begin..close)) }
    }

    /// The value of such a header, without the name of its scheme.
    fn authorization(&mut self, begin: usize, blank: usize) -> usize {
        let close = self.end_of_value(begin, blank, None);
        let first = self.end(begin, usize::MAX, |byte| byte.is_ascii_alphabetic());
        let second = self.end(first, usize::MAX, |byte| is_blank(byte) || b":+\"'\\".contains(&byte));
        let last = self.end(second, usize::MAX, |byte| !is_blank(byte) && !ends_value(byte));
        if first > begin && second > first && last > second && first <= close { self.hide(second..last) } else { self.hide(begin..close) }
    }

    /// The end of a value that begins here; `opened` is where the quotes before it are, `context` what stands before its name in an address.
    fn end_of_value(&self, begin: usize, opened: usize, context: Option<u8>) -> usize {
        let quotes = self.part(opened..begin);
        if let Some(quote) = quotes.iter().rfind(|byte| matches!(byte, b'"' | b'\'')) {
            let is_escaped = quotes.contains(&b'\\');
            let mut before = 0;
            let closes = |byte: &u8| {
                let closes = byte == quote && (is_escaped || before != b'\\');
                before = *byte;
                closes
            };
            if let Some(length) = self.part(begin..self.text.len().min(begin + FAR)).iter().position(closes) {
                let value = self.part(begin..begin + length);
                let escapes = if is_escaped { value.iter().rev().take_while(|byte| **byte == b'\\').count() } else { 0 };
                return begin + length - escapes;
            }
        }
        let is_url = |byte: u8| !is_blank(byte) && !b"&;#\"<>`\\".contains(&byte);
        match context {
            Some(b'?' | b'&' | b'#') => self.end(begin, usize::MAX, is_url),
            Some(b'/') => self.end(begin, usize::MAX, |byte| is_url(byte) && !matches!(byte, b'/' | b'?')),
            Some(_) => self.end(begin, usize::MAX, |byte| is_url(byte) && byte != b'?'),
            None => self.end(begin, usize::MAX, |byte| !is_blank(byte) && !ends_value(byte)),
        }
    }

    /// True if the name is a host's, and its port follows.
    fn is_port(&self, name: Range<usize>) -> bool {
        let before = name.start.checked_sub(1).and_then(|at| self.byte(at));
        let is_host = matches!(before, Some(b'/' | b'@')) || self.part(name.clone()).iter().any(|byte| matches!(byte, b'.' | b'-'));
        let begin = name.end + 1;
        let end = self.end(begin, 6, |byte| byte.is_ascii_digit());
        is_host && (1..=5).contains(&(end - begin)) && self.byte(end).is_none_or(|byte| is_blank(byte) || b"/?#\"')],;".contains(&byte))
    }

    /// True of a text that is one name, whatever its punctuation.
    fn is_one_word(&self) -> bool {
        self.text.len() < FAR && !self.text.iter().any(|byte| is_blank(*byte) || is_quote(*byte))
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// White space and control characters.
fn is_blank(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'\\')
}

/// Ends a value that nothing encloses.
fn ends_value(byte: u8) -> bool {
    b",;&\\\"'`<>(){}[]".contains(&byte)
}

/// True if the last word of it is this one, in any case.
fn ends_in(text: &[u8], word: &[u8]) -> bool {
    let Some(begin) = text.len().checked_sub(word.len()) else { return false };
    let is_whole = begin.checked_sub(1).and_then(|at| text.get(at)).is_none_or(|before| !before.is_ascii_alphanumeric());
    is_whole && text.get(begin..).is_some_and(|end| end.eq_ignore_ascii_case(word))
}

/// False of words that people say, joined or not: each of letters alone, the first of which may be a capital, or all.
fn is_credential(text: &[u8]) -> bool {
    let is_said = |word: &[u8]| {
        let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte >= 0x80;
        let rest = word.get(1..).unwrap_or_default();
        word.len() < LONGEST_WORD
            && word.iter().all(is_letter)
            && (rest.iter().all(|byte| !byte.is_ascii_uppercase()) || word.iter().all(|byte| !byte.is_ascii_lowercase()))
    };
    !text.split(|byte| !byte.is_ascii_alphanumeric() && *byte < 0x80).all(is_said)
}

/// True of what may be a user and password in Base64, which no version or date is.
fn is_login_in_base64(text: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(byte);
    is_credential(text) && text.iter().all(is_base64) && text.iter().any(u8::is_ascii_alphabetic)
}

/// True of letters and digits, or capital and small letters, without an order.
fn is_random(text: &[u8]) -> bool {
    is_credential(text) && text.iter().any(u8::is_ascii_digit) && text.iter().any(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests;
