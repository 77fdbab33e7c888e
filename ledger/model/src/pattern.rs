//! Patterns of a condition: the meaning of `*`, for every database.
//!
//! `*` stands for any text, none included; `\*` is a star, and a backslash before anything else is a backslash. All other
//! characters stand for themselves, `?`, `[`, `%` and `_` too. Letters of another case are other letters, and a
//! pattern is of the whole value: `mcp` is not in `*.mcp.example`. Engines translate the parts into what they have;
//! [`Pattern::matches`] is what a translation is held against.

use std::fmt;

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternPart {
    /// This text, never empty.
    Text(String),
    /// Any text, none included.
    Any,
}

/// A pattern with at least one `*`. No two of its parts that follow each other are alike: text, any, text and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<PatternPart>);

impl Pattern {
    /// The pattern of a value that has a `*` in it; none where every `*` is written `\*`.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (mut parts, mut text, mut wild) = (Vec::new(), String::new(), false);
        let mut chars = value.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' if chars.next_if_eq(&'*').is_some() => text.push('*'),
                '*' => {
                    wild = true;
                    if !text.is_empty() {
                        parts.push(PatternPart::Text(std::mem::take(&mut text)));
                    }
                    if parts.last() != Some(&PatternPart::Any) {
                        parts.push(PatternPart::Any);
                    }
                }
                other => text.push(other),
            }
        }
        if !text.is_empty() {
            parts.push(PatternPart::Text(text));
        }
        wild.then_some(Self(parts))
    }

    /// A value without wildcards, unescaped.
    pub(crate) fn plain(value: &str) -> String {
        value.replace("\\*", "*")
    }

    /// Its parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[PatternPart] {
        &self.0
    }

    /// True if the pattern matches the value.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        // Each text at its first place leaves the most for those behind it; only the last is bound to the end.
        let (mut rest, mut anywhere) = (value, false);
        let mut parts = self.0.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                PatternPart::Any => anywhere = true,
                PatternPart::Text(text) if anywhere && parts.peek().is_none() => return rest.ends_with(text.as_str()),
                PatternPart::Text(text) => {
                    let found =
                        if anywhere { rest.split_once(text.as_str()) } else { rest.strip_prefix(text.as_str()).map(|rest| ("", rest)) };
                    let Some((_, behind)) = found else { return false };
                    (rest, anywhere) = (behind, false);
                }
            }
        }
        anywhere || rest.is_empty()
    }
}

impl fmt::Display for Pattern {
    /// Displays the pattern as it is written in a condition.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            PatternPart::Text(text) => f.write_str(&text.replace('*', "\\*")),
            PatternPart::Any => f.write_str("*"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_star_that_is_not_escaped_is_a_wildcard() {
        for plain in ["", "a", "\\*", "a\\*b", "?", "[x]", "%", "_", "\\"] {
            assert_eq!(Pattern::parse(plain), None, "{plain}");
        }
        let text = |text: &str| PatternPart::Text(text.to_owned());
        for (written, parts) in [
            ("*", vec![PatternPart::Any]),
            ("a**b", vec![text("a"), PatternPart::Any, text("b")]),
            ("a\\**", vec![text("a*"), PatternPart::Any]),
            ("a\\b*", vec![text("a\\b"), PatternPart::Any]),
            ("/[x]?*", vec![text("/[x]?"), PatternPart::Any]),
        ] {
            assert_eq!(Pattern::parse(written).unwrap().parts(), parts, "{written}");
        }
        assert_eq!(Pattern::parse("a\\***b").unwrap().to_string(), "a\\**b");
    }

    #[test]
    fn a_pattern_is_of_the_whole_value_and_of_the_same_case() {
        for (pattern, value, matches) in [
            ("*", "", true),
            ("*", "a\nb", true),
            ("a*", "a", true),
            ("a*", "A", false),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*b*", "abc", true),
            ("*ab*ab", "ab", false),
            ("*ab*ab", "abab", true),
            ("?*", "a", false),
            ("\\**", "*a", true),
            ("\\**", "a", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(value), matches, "{pattern} of {value:?}");
        }
    }
}
