//! Text patterns: Sigma's wildcards, compiled so that matching allocates nothing.
//!
//! Without `cased` the comparison ignores case: ASCII letters fold to ASCII letters, other letters
//! by Unicode's one-to-one lower case. A letter never folds across that border (the Kelvin sign is
//! not a `k`): no server takes one for the other, so neither do we.

use memchr::{memchr2_iter, memmem};

/// Case-sensitive or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Folded,
    Exact,
}

/// The part of a text that a pattern is anchored to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    Whole,
    Start,
    End,
    Within,
}

/// The characters that `-` in a pattern stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dash {
    /// Itself.
    Literal,
    /// Any dash that command lines take for one (`windash`).
    Any,
}

/// A compiled text pattern.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    /// Anything at all: `*`.
    All,
    Simple {
        stand: Stand,
        needle: Needle,
    },
    /// With wildcards inside, or with folded letters outside ASCII.
    Glob {
        tokens: Box<[Token]>,
        case: Case,
    },
}

/// Plain text to look for: of any characters when case matters, else ASCII in lower case.
#[derive(Clone, Debug)]
pub(crate) enum Needle {
    Exact(Box<memmem::Finder<'static>>),
    Ascii(Box<[u8]>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// One of the dashes.
    Dash,
}

/// The longest value, in bytes, that `fieldref|contains` looks for inside another; a longer one is
/// never found.
const LONGEST_REFERENCE: usize = 512;

const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];

/// Reads Sigma's wildcards: `*` and `?`, which a backslash makes literal, as it does itself; before
/// any other character a backslash is a backslash.
pub(crate) fn wildcards(text: &str, dash: Dash) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Many,
            '?' => Token::One,
            '\\' => Token::Char(chars.next_if(|next| matches!(next, '*' | '?' | '\\')).unwrap_or('\\')),
            c => Token::Char(c),
        });
    }
    if dash == Dash::Any {
        any_dash(&mut tokens);
    }
    tokens
}

/// A dash or slash before a word and behind none begins an option, and stands for each of [`DASHES`]: as pySigma has it (`\B[-/]\b`).
fn any_dash(tokens: &mut [Token]) {
    let is_word = |token: Option<&Token>| matches!(token, Some(Token::Char(c)) if c.is_alphanumeric() || *c == '_');
    let begins: Vec<usize> = (0..tokens.len())
        .filter(|&at| matches!(tokens[at], Token::Char('-' | '/')))
        .filter(|&at| !is_word(at.checked_sub(1).and_then(|before| tokens.get(before))) && is_word(tokens.get(at + 1)))
        .collect();
    for at in begins {
        tokens[at] = Token::Dash;
    }
}

/// The characters as they are.
pub(crate) fn literal(text: &str) -> Vec<Token> {
    text.chars().map(Token::Char).collect()
}

impl Text {
    /// The text itself, where there is but one that fits.
    pub(crate) fn whole(&self) -> Option<&[u8]> {
        match self {
            Text::Simple { stand: Stand::Whole, needle: Needle::Exact(finder) } => Some(finder.needle()),
            Text::Simple { stand: Stand::Whole, needle: Needle::Ascii(text) } => Some(text),
            Text::All | Text::Simple { .. } | Text::Glob { .. } => None,
        }
    }

    pub(crate) fn new(mut tokens: Vec<Token>, stand: Stand, case: Case) -> Self {
        if matches!(stand, Stand::Start | Stand::Within) {
            tokens.push(Token::Many);
        }
        if matches!(stand, Stand::End | Stand::Within) {
            tokens.insert(0, Token::Many);
        }
        tokens.dedup_by(|a, b| *a == Token::Many && *b == Token::Many);
        if tokens == [Token::Many] {
            return Text::All;
        }
        let open_start = tokens.first() == Some(&Token::Many);
        let open_end = tokens.last() == Some(&Token::Many);
        let inner = &tokens[usize::from(open_start)..tokens.len() - usize::from(open_end)];
        let plain: Option<String> = inner.iter().map(|token| if let Token::Char(c) = token { Some(*c) } else { None }).collect();
        let needle = plain.and_then(|plain| match case {
            Case::Exact => Some(Needle::Exact(Box::new(memmem::Finder::new(plain.as_bytes()).into_owned()))),
            Case::Folded => plain.is_ascii().then(|| Needle::Ascii(plain.to_ascii_lowercase().into_bytes().into())),
        });
        if let Some(needle) = needle {
            let stand = match (open_start, open_end) {
                (false, false) => Stand::Whole,
                (false, true) => Stand::Start,
                (true, false) => Stand::End,
                (true, true) => Stand::Within,
            };
            return Text::Simple { stand, needle };
        }
        if case == Case::Folded {
            for token in &mut tokens {
                if let Token::Char(c) = token {
                    *c = fold(*c);
                }
            }
        }
        Text::Glob { tokens: tokens.into(), case }
    }

    pub(crate) fn fits(&self, text: &str) -> bool {
        match self {
            Text::All => true,
            Text::Simple { stand, needle } => needle.fits(text.as_bytes(), *stand),
            Text::Glob { tokens, case } => glob(tokens, text, *case),
        }
    }

    /// The whole text that alone fits, folded, if case does not matter.
    pub(crate) fn sole(&self) -> Option<&[u8]> {
        match self {
            Text::Simple { stand: Stand::Whole, needle: Needle::Ascii(needle) } => Some(needle),
            _ => None,
        }
    }

    /// The ASCII needle that fits anywhere, folded, if case does not matter.
    pub(crate) fn within(&self) -> Option<&[u8]> {
        match self {
            Text::Simple { stand: Stand::Within, needle: Needle::Ascii(needle) } => Some(needle),
            _ => None,
        }
    }
}

impl Needle {
    /// The text to look for.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Needle::Exact(finder) => finder.needle(),
            Needle::Ascii(needle) => needle,
        }
    }

    fn fits(&self, text: &[u8], stand: Stand) -> bool {
        match self {
            Needle::Exact(finder) => {
                let needle = finder.needle();
                match stand {
                    Stand::Whole => text == needle,
                    Stand::Start => text.starts_with(needle),
                    Stand::End => text.ends_with(needle),
                    Stand::Within => finder.find(text).is_some(),
                }
            }
            Needle::Ascii(needle) => match stand {
                Stand::Whole => text.eq_ignore_ascii_case(needle),
                Stand::Start => text.get(..needle.len()).is_some_and(|start| start.eq_ignore_ascii_case(needle)),
                Stand::End => text.len().checked_sub(needle.len()).is_some_and(|start| text[start..].eq_ignore_ascii_case(needle)),
                Stand::Within => find_folded(text, needle),
            },
        }
    }
}

/// True if `needle`, ASCII in lower case, occurs anywhere in `text` in any case.
fn find_folded(text: &[u8], needle: &[u8]) -> bool {
    let (Some(first), Some(last_start)) = (needle.first(), text.len().checked_sub(needle.len())) else {
        return needle.is_empty();
    };
    memchr2_iter(*first, first.to_ascii_uppercase(), &text[..=last_start])
        .any(|at| text[at..at + needle.len()].eq_ignore_ascii_case(needle))
}

/// Greedy matching that returns to the last `*` only: time at most text times pattern.
fn glob(tokens: &[Token], text: &str, case: Case) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = text[at..].chars().next() {
        match tokens.get(token) {
            Some(Token::Many) => {
                token += 1;
                star = Some((token, at));
            }
            Some(wanted) if wanted.fits(c, case) => {
                token += 1;
                at += c.len_utf8();
            }
            _ => {
                let Some((after, from)) = star else { return false };
                let from = from + text[from..].chars().next().map_or(1, char::len_utf8);
                star = Some((after, from));
                (token, at) = (after, from);
            }
        }
    }
    tokens[token..].iter().all(|rest| *rest == Token::Many)
}

impl Token {
    pub(crate) fn fits(self, c: char, case: Case) -> bool {
        match self {
            Token::Char(wanted) if case == Case::Folded => wanted == fold(c),
            Token::Char(wanted) => wanted == c,
            Token::One => true,
            Token::Dash => DASHES.contains(&c),
            Token::Many => false,
        }
    }
}

/// Lower case, one character for one, never from outside ASCII into it.
pub(crate) fn fold(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(one), None) if !one.is_ascii() => one,
        _ => c,
    }
}

/// True if `needle` occurs so in `text`; both are only known while judging.
pub(crate) fn stands(text: &str, needle: &str, stand: Stand, case: Case) -> bool {
    let starts = |text: &str| -> bool {
        let mut rest = text.chars();
        needle.chars().all(|n| rest.next().is_some_and(|c| same(c, n, case)))
    };
    match stand {
        Stand::Whole => text.chars().count() == needle.chars().count() && starts(text),
        Stand::Start => starts(text),
        Stand::End => {
            let mut rest = text.chars().rev();
            needle.chars().rev().all(|n| rest.next().is_some_and(|c| same(c, n, case)))
        }
        // Both sides may come from a stranger: the bound keeps the product small.
        Stand::Within => needle.is_empty() || needle.len() <= LONGEST_REFERENCE && text.char_indices().any(|(at, _)| starts(&text[at..])),
    }
}

fn same(a: char, b: char, case: Case) -> bool {
    match case {
        Case::Exact => a == b,
        Case::Folded => fold(a) == fold(b),
    }
}
