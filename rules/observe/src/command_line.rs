//! Command lines without what must not appear in a log: credentials, and bodies of requests.
//!
//! People and agents put both on command lines, where every user of the host can read them; an event that is kept for
//! weeks and sent to other systems is another matter. This errs towards hiding: a harmless value behind `--token-file` is
//! hidden as well. An argument with white space in it is read as the command line that it mostly is (`sh -c '…'`). It knows words, not
//! programs, so a bare password in a place of its own (`mysql -phunter2`), or one that begins with `-`, stays.
//!
//! Whatever keeps a command line, or a part of one, keeps what this leaves.

use crate::{
    secret::{CONCEALED, is_secret_name},
    tokens::known_token,
};
use gnomon_kit::percent;
use std::{borrow::Cow, mem, ops::Range};

/// Prefixes of tokens that can be told by them although they are shorter than those of their makers.
const TOKEN_PREFIXES: [&str; 9] = ["sk-", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xoxb-", "AKIA", "eyJ"];
/// Tokens are longer than words.
const SHORTEST_TOKEN: usize = 16;
/// The depth to which command lines within arguments are parsed: `sudo sh -c "ssh host 'curl …'"` has three.
const DEEPEST: usize = 4;

/// The arguments with credentials and bodies in JSON replaced by [`CONCEALED`].
#[must_use]
pub fn arguments_without_secrets<T: AsRef<str>>(arguments: &[T]) -> Vec<String> {
    let places = secrets_in_arguments(arguments);
    arguments.iter().zip(places).map(|(argument, places)| replaced(argument.as_ref(), &places)).collect()
}

/// One argument, or another part of a command line, by itself.
#[must_use]
pub fn argument_without_secrets(argument: &str) -> Cow<'_, str> {
    let mut found = Found::default();
    found.argument(argument, 0, DEEPEST, &mut Hides::default());
    let places = found.sorted();
    if places.is_empty() { Cow::Borrowed(argument) } else { Cow::Owned(replaced(argument, &places)) }
}

/// The places of secrets in each argument, in bytes, from the front on.
#[must_use]
pub fn secrets_in_arguments<T: AsRef<str>>(arguments: &[T]) -> Vec<Vec<Range<usize>>> {
    let mut hides = Hides::default();
    let places = arguments.iter().map(|argument| {
        let mut found = Found::default();
        found.argument(argument.as_ref(), 0, DEEPEST, &mut hides);
        found.sorted()
    });
    places.collect()
}

fn replaced(text: &str, places: &[Range<usize>]) -> String {
    let (mut said, mut at) = (String::with_capacity(text.len()), 0);
    for place in places {
        said.push_str(text.get(at..place.start).unwrap_or_default());
        let is_json = text.get(place.clone()).is_some_and(is_json);
        said.push_str(&if is_json { Cow::Owned(format!("{{{CONCEALED}}}")) } else { Cow::Borrowed(CONCEALED) });
        at = place.end;
    }
    said.push_str(text.get(at..).unwrap_or_default());
    said
}

/// What a word says of the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hides {
    #[default]
    Nothing,
    /// The next word is a value to be hidden.
    Value,
    /// The same, of a header, where the name of a scheme may come first.
    Header,
}

/// Places of secrets in one argument.
#[derive(Default)]
struct Found {
    places: Vec<Range<usize>>,
}

impl Found {
    fn hide(&mut self, place: Range<usize>) {
        if !place.is_empty() {
            self.places.push(place);
        }
    }

    /// A word, or a whole argument, that stands `at` this byte.
    fn argument(&mut self, word: &str, at: usize, depth: usize, hides: &mut Hides) {
        let before = mem::take(hides);
        if before != Hides::Nothing && !word.is_empty() && !word.starts_with('-') {
            if is_scheme_of_headers(word) {
                *hides = Hides::Value;
                return;
            }
            if before == Hides::Header && word.bytes().all(|b| b.is_ascii_alphabetic()) {
                *hides = Hides::Value;
            }
            self.hide(at..at + word.len());
            return;
        }
        *hides = announced(word);
        self.one(word, at, depth);
    }

    /// The places, from the front on, none within another.
    fn sorted(mut self) -> Vec<Range<usize>> {
        self.places.sort_unstable_by_key(|place| (place.start, place.end));
        let mut sorted: Vec<Range<usize>> = Vec::with_capacity(self.places.len());
        for place in self.places {
            match sorted.last_mut() {
                Some(last) if place.start < last.end => last.end = last.end.max(place.end),
                _ => sorted.push(place),
            }
        }
        sorted
    }

    fn one(&mut self, word: &str, at: usize, depth: usize) {
        let (mut rest, mut begin) = (word, at);
        while let Some((after, at)) = self.part(rest, begin, depth) {
            (rest, begin) = (after, at);
        }
    }

    /// The first part of a word; what is left behind it, and where.
    fn part<'w>(&mut self, word: &'w str, at: usize, depth: usize) -> Option<(&'w str, usize)> {
        if is_json(word) {
            self.hide(at..at + word.len());
            return None;
        }
        let address = scheme(word).unwrap_or(word.len());
        let first = word.find(char::is_whitespace).unwrap_or(word.len());
        if let Some(hidden) = named(word, address.min(first)) {
            self.hide(at + hidden.start..at + hidden.end);
            return word.get(hidden.end + 1..).map(|rest| (rest, at + hidden.end + 1));
        }
        // A shell command, a header, a sentence.
        if first < word.len() {
            match depth.checked_sub(1) {
                Some(depth) => self.line(word, at, depth),
                None => self.words(word, at),
            }
            return None;
        }
        let (form, url) = word.split_at(address);
        self.login(form, at);
        self.tokens(form, at, &['=', ':', ',', '"', '\'', '&']);
        let (mut url, mut at) = (url, at + address);
        while let Some((more, begin)) = self.address(url, at) {
            (url, at) = (more, begin);
        }
        None
    }

    /// A command line in one argument, word by word as a shell would have them.
    fn line(&mut self, text: &str, at: usize, depth: usize) {
        let (mut begin, mut hides) = (0, Hides::default());
        loop {
            let rest = text.get(begin..).unwrap_or_default();
            begin += rest.len() - rest.trim_start().len();
            let rest = rest.trim_start();
            if rest.is_empty() {
                return;
            }
            if is_json(rest) {
                // Up to the last possible end of the JSON.
                let end = rest.rfind('}').map_or(rest.len(), |end| end + 1);
                self.hide(at + begin..at + begin + end);
                begin += end;
                continue;
            }
            let end = end_of_word(rest);
            let word = rest.get(..end).unwrap_or_default();
            match quoted(word) {
                Some(within) => self.argument(within, at + begin + 1, depth, &mut hides),
                None => self.argument(word, at + begin, depth, &mut hides),
            }
            begin += end.max(1);
        }
    }

    /// Words between white space, whatever quotes are among them: what is nested deeper than any line that people write.
    fn words(&mut self, text: &str, at: usize) {
        let (mut begin, mut hides) = (0, Hides::default());
        for word in text.split(char::is_whitespace) {
            self.argument(word, at + begin, 0, &mut hides);
            begin += word.len();
            begin += text.get(begin..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        }
    }

    /// `user:password@host` without a scheme, as data source names have it.
    fn login(&mut self, word: &str, at: usize) {
        let Some(host) = word.rfind('@') else { return };
        let is_digest = word.get(host + 1..).is_some_and(|digest| digest.starts_with("sha256:") || digest.starts_with("sha512:"));
        let begin = word.get(..host).and_then(|before| before.rfind(['=', ',', '"', '\'', '/'])).map_or(0, |place| place + 1);
        let colon = word.get(begin..host).and_then(|login| login.find(':')).map(|colon| begin + colon);
        if let Some(colon) = colon.filter(|_| !is_digest) {
            self.hide(at + colon + 1..at + host);
        }
    }

    /// What looks like a token among the pieces of a word.
    fn tokens(&mut self, word: &str, at: usize, delimiters: &[char]) {
        let mut begin = 0;
        for piece in word.split(delimiters) {
            let is_short = piece.len() >= SHORTEST_TOKEN && TOKEN_PREFIXES.iter().any(|prefix| piece.starts_with(prefix));
            let place = at + begin..at + begin + piece.len();
            if (is_short || known_token(piece).is_some()) && !self.places.iter().any(|known| known.contains(&place.start)) {
                self.hide(place);
            }
            begin += piece.len() + 1;
        }
    }

    /// A URL (RFC 3986): its user and password, its query and fragment to the end of the word, parameters of its path that are secret by
    /// their names. The URL that follows it in the same word, and where.
    fn address<'w>(&mut self, url: &'w str, at: usize) -> Option<(&'w str, usize)> {
        let begin = url.find("://")? + "://".len();
        let rest = url.get(begin..)?;
        let authority = rest.get(..rest.find(['/', '?', '#']).unwrap_or(rest.len()))?;
        if let Some(user) = authority.rfind('@') {
            self.hide(at + begin..at + begin + user);
        }
        let begin = begin + authority.len();
        let rest = url.get(begin..)?;
        let more = scheme(rest).unwrap_or(rest.len());
        let path = rest.get(..more)?;
        let end = path.find(['?', '#']);
        self.parameters(path.get(..end.unwrap_or(path.len()))?, at + begin);
        if let Some(end) = end {
            self.hide(at + begin + end + 1..at + url.len());
            return None;
        }
        rest.get(more..).map(|url| (url, at + begin + more))
    }

    /// The segments of a path.
    fn parameters(&mut self, path: &str, at: usize) {
        let mut begin = 0;
        for piece in path.split(['/', ';', '&', ',']) {
            match piece.split_once('=') {
                Some((name, value)) if is_secret_option(&percent::decoded(name)) => {
                    self.hide(at + begin + name.len() + 1..at + begin + name.len() + 1 + value.len());
                }
                _ => self.tokens(piece, at + begin, &['=', ':']),
            }
            begin += piece.len() + 1;
        }
    }
}

/// The value of a name that is secret, or a body in JSON, where the name ends before the byte `until`: an option, a variable, a header, a
/// field of a form, one within the other.
fn named(word: &str, until: usize) -> Option<Range<usize>> {
    let separators = word.char_indices().take_while(|(place, _)| *place < until).filter(|(_, c)| matches!(c, '=' | ':'));
    for (place, separator) in separators {
        let (name, value) = (name_before(word, place), word.get(place + 1..)?);
        let begin = word.len() - value.trim_start().len();
        let value = value.trim_start();
        if is_json(value) {
            return Some(begin..word.len());
        }
        if !value.is_empty() && is_secret_option(&percent::decoded(name)) {
            // Of a form the other fields may be harmless, or secret by themselves.
            let is_of_a_form = separator == '=' && !word.starts_with('-');
            let end = value.find('&').filter(|_| is_of_a_form).map_or(word.len(), |end| begin + end);
            return Some(begin..end);
        }
    }
    None
}

/// What a word says of the one behind it.
fn announced(word: &str) -> Hides {
    let is_option = word.starts_with('-') && !word.contains(['=', ':', ' ']);
    if is_scheme_of_headers(word) || is_option && (is_secret_option(word) || matches!(word, "-u" | "--user" | "--proxy-user")) {
        return Hides::Value;
    }
    // `Authorization: value`, unquoted.
    match word.strip_suffix(':') {
        Some(header) if !header.contains(char::is_whitespace) && is_secret_name(name_before(word, header.len())) => Hides::Header,
        _ => Hides::Nothing,
    }
}

/// The name of a scheme of `Authorization` that is nothing else on a command line.
fn is_scheme_of_headers(word: &str) -> bool {
    word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic")
}

/// True if the value of such an option, variable, header or field is secret. Options have short names that mean other things elsewhere.
fn is_secret_option(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let is_short = ["pass", "pwd", "auth", "pat"].contains(&plain.as_str());
    is_short || plain.contains("bearer") || is_secret_name(name)
}

/// The name that ends before this byte.
fn name_before(word: &str, end: usize) -> &str {
    let before = word.get(..end).unwrap_or_default();
    let ends = |c: char| c.is_whitespace() || "=:&;,?#/|@<>(){}\"'`\\".contains(c);
    before.rfind(ends).and_then(|place| before.get(place..)).map_or(before, |name| name.trim_start_matches(ends))
}

fn is_json(text: &str) -> bool {
    let bare = text.trim_start_matches(|c: char| c.is_whitespace() || c == '[');
    bare.starts_with("{\"") || bare.starts_with("{ \"") || bare.starts_with("{\\\"")
}

/// The end of the first word: white space outside of quotes. Quotes that are not closed are letters.
fn end_of_word(text: &str) -> usize {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match quote {
            _ if mem::take(&mut escaped) => {}
            Some('"') | None if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c.is_whitespace() => return at,
            None if matches!(c, '"' | '\'') && text.get(at + 1..).is_some_and(|rest| rest.contains(c)) => quote = Some(c),
            None => {}
        }
    }
    text.len()
}

/// The content of a word that is quoted as a whole.
fn quoted(word: &str) -> Option<&str> {
    let quote = word.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let within = word.get(1..word.len().checked_sub(1)?)?;
    (word.ends_with(quote) && !within.contains(quote)).then_some(within)
}

/// The beginning of the first URL's scheme (RFC 3986 section 3.1).
fn scheme(text: &str) -> Option<usize> {
    let end = text.find("://")?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let before = text.get(..end)?;
    let begin =
        before.rfind(|c| !is_scheme(c)).map_or(0, |at| at + before.get(at..).and_then(|c| c.chars().next()).map_or(1, char::len_utf8));
    // `//host/…://`: no scheme at all.
    (begin < end).then_some(begin)
}

#[cfg(test)]
mod tests;
