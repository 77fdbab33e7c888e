//! Names of tools as JavaScript could have them.

use smol_str::SmolStr;
use std::collections::HashMap;

/// Words that are no names in JavaScript (ECMA-262, 12.7.2), those of strict mode included.
const RESERVED: &[&str] = &[
    "arguments",
    "await",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "enum",
    "eval",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "function",
    "if",
    "implements",
    "import",
    "in",
    "instanceof",
    "interface",
    "let",
    "new",
    "null",
    "package",
    "private",
    "protected",
    "public",
    "return",
    "static",
    "super",
    "switch",
    "this",
    "throw",
    "true",
    "try",
    "typeof",
    "var",
    "void",
    "while",
    "with",
    "yield",
];

/// The name of a tool as JavaScript could have it, the same for every caller.
#[derive(Debug)]
pub struct Identifier {
    /// The name as a JavaScript identifier.
    pub plain: SmolStr,
    /// True if another tool, or the language of scripts, would have the same.
    pub shared: bool,
}

/// The identifiers of tools, in their order. Made once for a view: there may be thousands.
pub fn identifiers<'a>(names: impl Iterator<Item = &'a SmolStr>) -> Box<[Identifier]> {
    let plain: Vec<SmolStr> = names.map(|name| identifier(name)).collect();
    let mut counts: HashMap<&SmolStr, usize> = HashMap::with_capacity(plain.len());
    for name in &plain {
        *counts.entry(name).or_default() += 1;
    }
    let is_shared = |name: &SmolStr| counts.get(name) != Some(&1) || gnomon_codemode::RESERVED.contains(&name.as_str());
    plain.iter().map(|name| Identifier { plain: name.clone(), shared: is_shared(name) }).collect()
}

/// A name as JavaScript has it: `-`, `.` and blanks become `_`, what else no identifier may hold falls away.
fn identifier(name: &str) -> SmolStr {
    let kept = name.chars().filter_map(|c| match c {
        '-' | '.' | ' ' | '\t' => Some('_'),
        c if c.is_ascii_alphanumeric() || matches!(c, '_' | '$') => Some(c),
        _ => None,
    });
    let mut text: String = kept.collect();
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) {
        text.insert(0, '_');
    }
    if RESERVED.contains(&text.as_str()) {
        text.push('_');
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers() {
        for (name, identifier_) in [
            ("jira_search-issues", "jira_search_issues"),
            ("drive_get.content v2", "drive_get_content_v2"),
            ("7zip_list", "_7zip_list"),
            ("größe", "gre"),
            ("delete", "delete_"),
            ("", "_"),
            ("__proto__", "__proto__"),
        ] {
            assert_eq!(identifier(name), identifier_);
        }
    }

    #[test]
    fn every_word_of_the_language_is_in_order_so_that_none_stands_twice() {
        assert!(RESERVED.is_sorted() && RESERVED.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
