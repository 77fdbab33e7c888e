//! Patterns for names and paths: `*`, `**`, `?`. Small enough to be certain about, and with one question that no glob crate
//! answers: whether a URI template *could* expand to a match.

use smol_str::SmolStr;
use std::fmt;

/// The longest pattern, bytes.
pub(crate) const MAX_PATTERN: usize = 512;

/// The characters that end a `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// At nothing: names of tools, prompts, servers, groups.
    Name,
    /// At `/`, which only `**` passes: paths and URIs. A pattern that is just `*` is everything.
    Path,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    One,
    /// Any characters but `/`.
    Segment,
    /// Any characters.
    Any,
}

/// The point to resume at after a wildcard: its position in the pattern, and the rest of the text.
type Mark<'t> = Option<(usize, &'t str)>;

/// A compiled pattern.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob {
    text: SmolStr,
    flavour: Flavour,
    pieces: Box<[Piece]>,
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Glob {
    /// Compiles a pattern; every text is one.
    #[must_use]
    pub fn new(text: &str, flavour: Flavour) -> Self {
        let mut pieces = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let piece = match c {
                '*' => {
                    let mut stars = 1;
                    while chars.next_if_eq(&'*').is_some() {
                        stars += 1;
                    }
                    if stars > 1 || flavour == Flavour::Name || text == "*" { Piece::Any } else { Piece::Segment }
                }
                '?' => Piece::One,
                '\\' => Piece::Char(chars.next_if(|next| matches!(next, '*' | '?' | '\\')).unwrap_or('\\')),
                c => Piece::Char(c),
            };
            pieces.push(piece);
        }
        Self { text: text.into(), flavour, pieces: pieces.into() }
    }

    /// The pattern that has no wildcard: just this name.
    pub(crate) fn literal(&self) -> Option<String> {
        self.pieces.iter().map(|piece| if let Piece::Char(c) = piece { Some(*c) } else { None }).collect()
    }

    /// True if it matches every name.
    pub(crate) fn is_everything(&self) -> bool {
        matches!(&*self.pieces, [Piece::Any])
    }

    /// True if the whole text matches.
    // Two marks that only move forward: no recursion, no allocation. At worst pattern × text² steps, which is why
    // names are bounded before they come here.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let (mut piece, mut rest) = (0, text);
        // Where to go on after the last wildcard of each kind, should what follows it not fit.
        let (mut any, mut segment): (Mark<'_>, Mark<'_>) = (None, None);
        loop {
            let next = rest.chars().next();
            match (self.pieces.get(piece), next) {
                (None, None) => return true,
                (Some(Piece::Any), _) => {
                    any = Some((piece, rest));
                    segment = None;
                    piece += 1;
                    continue;
                }
                (Some(Piece::Segment), _) => {
                    segment = Some((piece, rest));
                    piece += 1;
                    continue;
                }
                (Some(Piece::Char(c)), Some(found)) if *c == found => {
                    (piece, rest) = (piece + 1, &rest[found.len_utf8()..]);
                    continue;
                }
                (Some(Piece::One), Some(found)) if self.flavour == Flavour::Name || found != '/' => {
                    (piece, rest) = (piece + 1, &rest[found.len_utf8()..]);
                    continue;
                }
                _ => {}
            }
            // The nearer wildcard swallows one more character, then the farther.
            let swallowed = |mark: &str| mark.chars().next();
            if let Some((at, mark)) = segment
                && let Some(c) = swallowed(mark)
                && c != '/'
            {
                let mark = &mark[c.len_utf8()..];
                segment = Some((at, mark));
                (piece, rest) = (at + 1, mark);
                continue;
            }
            segment = None;
            let Some((at, mark)) = any else { return false };
            let Some(c) = swallowed(mark) else { return false };
            let mark = &mark[c.len_utf8()..];
            any = Some((at, mark));
            (piece, rest) = (at + 1, mark);
        }
    }

    /// The characters before the first wildcard.
    fn prefix(&self) -> String {
        self.pieces.iter().map_while(|piece| if let Piece::Char(c) = piece { Some(*c) } else { None }).collect()
    }

    /// True if some expansion of a URI template could match. Errs towards yes.
    pub(crate) fn may_match_template(&self, template: &str) -> bool {
        let fixed = template.split('{').next().unwrap_or_default();
        let prefix = self.prefix();
        if !template.contains('{') {
            return self.matches(template);
        }
        match self.literal() {
            Some(literal) => literal.starts_with(fixed),
            None => fixed.starts_with(&prefix) || prefix.starts_with(fixed),
        }
    }

    /// True if every expansion of a URI template matches. Errs towards no.
    pub(crate) fn must_match_template(&self, template: &str) -> bool {
        let fixed = template.split('{').next().unwrap_or_default();
        match &*self.pieces {
            _ if !template.contains('{') => self.matches(template),
            [.., Piece::Any] => fixed.starts_with(&self.prefix()) && self.pieces.len() == self.prefix().chars().count() + 1,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(pattern: &str, text: &str) -> bool {
        Glob::new(pattern, Flavour::Name).matches(text)
    }

    fn path(pattern: &str, text: &str) -> bool {
        Glob::new(pattern, Flavour::Path).matches(text)
    }

    #[test]
    fn in_names_a_star_passes_everything() {
        assert!(name("read_*", "read_file") && name("read_*", "read_") && !name("read_*", "xread_file"));
        assert!(name("*", "repo/list") && name("*_issue", "get_issue") && !name("*_issue", "get_issues"));
        assert!(name("a*b*c", "aXbXbXc") && !name("a*b*c", "aXbX") && name("a?c", "a/c") && !name("", "a"));
        assert!(!name("Read_*", "read_file"), "case matters");
        assert!(name(r"a\*", "a*") && !name(r"a\*", "ab"));
    }

    #[test]
    fn in_paths_only_two_stars_pass_a_slash() {
        assert!(path("file:///srv/*", "file:///srv/a") && !path("file:///srv/*", "file:///srv/a/b"));
        assert!(path("file:///srv/**", "file:///srv/a/b") && path("*", "file:///any/thing"));
        assert!(path("/home/*/bin/agent", "/home/me/bin/agent") && !path("/home/*/bin/agent", "/home/me/evil/bin/agent"));
        assert!(path("**/claude", "/opt/x/claude") && !path("**/claude", "/opt/x/claude2") && !path("a?b", "a/b"));
        assert!(path("**/a*z", "x/ab/az/abz") && !path("**/a*z", "x/ab/y/z"));
    }

    #[test]
    fn a_template_is_weighed_by_what_it_could_expand_to() {
        let docs = Glob::new("file:///srv/docs/**", Flavour::Path);
        assert!(docs.may_match_template("file:///{path}") && docs.may_match_template("file:///srv/docs/{name}"));
        assert!(!docs.may_match_template("file:///etc/{name}"));
        assert!(docs.must_match_template("file:///srv/docs/{name}") && !docs.must_match_template("file:///{path}"));
        let one = Glob::new("file:///srv/a", Flavour::Path);
        assert!(one.may_match_template("file:///srv/{x}") && !one.must_match_template("file:///srv/{x}"));
    }

    /// The definition, exponential and obvious.
    fn slow(pieces: &[Piece], text: &[char], flavour: Flavour) -> bool {
        match pieces.split_first() {
            None => text.is_empty(),
            Some((Piece::Any, rest)) => (0..=text.len()).any(|n| slow(rest, &text[n..], flavour)),
            Some((Piece::Segment, rest)) => {
                (0..=text.len()).take_while(|n| !text[..*n].contains(&'/')).any(|n| slow(rest, &text[n..], flavour))
            }
            Some((Piece::One, rest)) => {
                text.first().is_some_and(|c| flavour == Flavour::Name || *c != '/') && slow(rest, &text[1..], flavour)
            }
            Some((Piece::Char(c), rest)) => text.first() == Some(c) && slow(rest, &text[1..], flavour),
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_the_definition_says(pattern in "[ab/?*]{0,9}", text in "[ab/]{0,10}") {
            for flavour in [Flavour::Name, Flavour::Path] {
                let glob = Glob::new(&pattern, flavour);
                let chars: Vec<char> = text.chars().collect();
                prop_assert_eq!(glob.matches(&text), slow(&glob.pieces, &chars, flavour), "{} {}", pattern, text);
            }
        }
    }
}
