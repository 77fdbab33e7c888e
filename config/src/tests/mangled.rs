//! Configurations that somebody mistyped: whatever is wrong is told in the words of the file, never in those of a library.

use super::*;
use proptest::prelude::*;

/// Words of the libraries that read YAML and values.
const FOREIGN: [&str; 34] = [
    "did not find expected",
    "deserializ",
    "untagged",
    " at line ",
    "struct ",
    "variant",
    "serde",
    "saphyr",
    "granit",
    "scalar",
    "eof",
    "while parsing",
    "while scanning",
    "flow sequence",
    "flow mapping",
    "block mapping",
    "block sequence",
    "simple key",
    "sequence",
    "u8",
    "u16",
    "u32",
    "u64",
    "usize",
    "i64",
    "f64",
    "unit value",
    "invalid type",
    "invalid value",
    "invalid length",
    "invalid digit",
    "invalid socket address",
    "invalid ip address",
    "parseinterror",
];

/// What people quote, file names and texts of the file included, is theirs.
fn without_quotes(told: &str) -> String {
    told.split('`').step_by(2).collect::<Vec<_>>().join("").to_lowercase()
}

fn is_in_our_words(text: &str) -> Result<(), String> {
    let Err(told) = parse(text) else { return Ok(()) };
    if told.is_empty() || told.contains('\u{fffd}') {
        return Err(format!("{told:?}\n{text}"));
    }
    match FOREIGN.iter().find(|word| without_quotes(&told).contains(**word)) {
        Some(word) => Err(format!("`{word}` in: {told}\n{text}")),
        None => Ok(()),
    }
}

fn texts() -> Vec<String> {
    let example = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/gnomon.yml")).unwrap();
    // The example, also with what it shows in comments.
    let shown = example.lines().map(|line| line.strip_prefix("# ").or_else(|| line.strip_prefix('#')).unwrap_or(line));
    let shown = shown.collect::<Vec<_>>().join("\n");
    [example.clone(), shown].into_iter().chain(KEYS.iter().map(|key| setting(key.path, &key.sample))).collect()
}

/// What is put into a text, or in place of a character of it.
const PUT: [&str; 30] = [
    "", "\t", " ", "\n", "  \n", "[", "]", "{", "}", ",", ":", ": ", "- ", "-", "'", "\"", "\\", "&a ", "*a", "*", "!x ", "!", "%", "@",
    "|", ">", "# ", "---\n", "\u{0}", "\u{e9}",
];

/// Values of another kind.
const VALUES: [&str; 16] = [
    "[]",
    "{}",
    "~",
    "",
    "text",
    "'1'",
    "-1",
    "1.5",
    "99999999999999999999",
    "true",
    "[[a]]",
    "{a: {b: c}}",
    ".nan",
    "2026-11-24",
    "!!binary x",
    "*a",
];

#[test]
fn any_value_of_any_key_is_refused_in_the_words_of_the_file() {
    for key in KEYS.iter() {
        for value in VALUES {
            is_in_our_words(&setting(key.path, value)).unwrap_or_else(|told| panic!("{told}"));
        }
        let twice = format!("{}\n", setting(key.path, &key.sample));
        for text in [format!("{twice}{twice}"), format!("{twice}---\n{twice}"), twice.replacen(':', "", 1), format!("<<: *a\n{twice}")] {
            is_in_our_words(&text).unwrap_or_else(|told| panic!("{told}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_mangled_configuration_is_refused_in_the_words_of_the_file(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..PUT.len(), any::<bool>()), 1..4),
    ) {
        let all = texts();
        // Half of them of the whole example.
        let of = which.index(2 * all.len());
        let mut text: Vec<char> = all.get(of).unwrap_or(&all[of % 2]).chars().collect();
        for (at, put, replaces) in changes {
            let at = at.index(text.len() + 1);
            let end = if replaces { (at + 1).min(text.len()) } else { at };
            text.splice(at..end, PUT[put].chars());
        }
        let told = is_in_our_words(&text.into_iter().collect::<String>());
        prop_assert!(told.is_ok(), "{}", told.unwrap_err());
    }
}
