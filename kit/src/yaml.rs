//! What is wrong with a text that is not YAML, in the words of whoever wrote it: parsers speak of scalars, tokens and flow sequences.

/// The kinds of fault, each by words of a parser that tell it, the more particular first, and what is told.
const FAULTS: [(&[&str], &str); 15] = [
    (&["tab"], "a tab stands where only spaces may: indent with spaces"),
    (&["flow sequence", "'['", "']'"], "a list in brackets `[ ]` is not closed, or lacks a comma"),
    (&["flow mapping", "flow construct", "'{'", "'}'"], "a mapping in braces `{ }` is not closed, or lacks a comma"),
    (&["bracket"], "a bracket or brace is closed that was not opened, or the other way round"),
    (&["block scalar"], "the lines behind `|` or `>` are not indented as one text"),
    (&["escape", "hexadecimal", "surrogate"], "`\\` in double quotes begins no character here: write the text in single quotes"),
    (&["quote"], "a text in quotes is not closed, is not indented, or something follows it"),
    (&["anchor", "alias"], "`*` names something that is not marked by `&` above it: write the value out, or the text in quotes"),
    (&["tag", "handle"], "`!` has no meaning here: write the text in quotes"),
    (&["directive", "document", "version number"], "`---`, `...` or `%` has no meaning here: one document is read, as YAML 1.2 has it"),
    (
        &["block mapping", "simple key", "mapping key", "mapping value", "':'"],
        "a key with `:` is missing or stands where none can be: look at the indentation, and quote texts with `:`",
    ),
    (
        &["block collection", "block sequence", "'-'", "\"-\""],
        "an entry with `-` is missing or stands where none can be: look at the indentation",
    ),
    (&["indent"], "the indentation is none of the lines before"),
    (&["comment", "whitespace"], "a space is missing before `#` or behind `:`"),
    (&["eof", "end of"], "the text ends in the middle"),
];

/// The fault for a person, of what a parser of YAML said of it.
#[must_use]
pub fn yaml_fault(said: &str) -> &'static str {
    let said = said.to_ascii_lowercase();
    let is_meant = |word: &&str| if *word == "tab" { has_word(&said, "tab") || has_word(&said, "tabs") } else { said.contains(*word) };
    let found = FAULTS.iter().find(|(words, _)| words.iter().any(is_meant));
    found.map_or("this is not YAML: look at the indentation, brackets and quotes, and quote texts that begin with a sign", |(_, told)| told)
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|other| other == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parsers_say_is_told_in_the_words_of_the_file() {
        for (said, told) in [
            ("while parsing a flow sequence, expected ',' or ']'", "a list in brackets"),
            ("while parsing a flow mapping, did not find expected ',' or '}'", "a mapping in braces"),
            ("while parsing a block mapping, did not find expected key", "a key with `:`"),
            ("tabs disallowed within this context (block indentation)", "a tab"),
            ("while parsing a quoted scalar, found unknown escape character", "`\\` in double quotes"),
            ("unclosed quote", "a text in quotes"),
            ("while parsing node, found unknown anchor", "`*` names"),
            ("unexpected eof", "the text ends"),
            ("something of a later version", "this is not YAML"),
            ("unstable", "this is not YAML"),
        ] {
            assert!(yaml_fault(said).starts_with(told), "{said}: {}", yaml_fault(said));
        }
    }
}
