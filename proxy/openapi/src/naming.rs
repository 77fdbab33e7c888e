//! Names of tools: legal, short, and of one operation each.
//!
//! A name must not change because another operation came or went, or policies and scripts that name it would mean something
//! else: endings that tell names apart are made of the operation itself, never of its place in a row.

use crate::text::digest;
use smol_str::SmolStr;
use std::collections::HashMap;

/// Room for an ending: `_` and eight hexadecimal digits.
const ENDING: usize = 9;

/// The names of operations, given each one's `operationId` and its method and path. None if it can have no unique one.
pub fn names(operations: &[(Option<&str>, String)], longest: usize) -> Vec<Option<SmolStr>> {
    let plain: Vec<String> = operations.iter().map(|(id, place)| legal(id.filter(|id| !id.is_empty()).unwrap_or(place))).collect();
    let mut wanted: HashMap<&str, usize> = HashMap::new();
    for name in &plain {
        *wanted.entry(name).or_default() += 1;
    }
    let name = |(plain, (_, place)): (&String, &(Option<&str>, String))| {
        if wanted.get(plain.as_str()) == Some(&1) && plain.len() <= longest {
            return SmolStr::new(plain);
        }
        let kept = plain.len().min(longest.saturating_sub(ENDING));
        SmolStr::new(format!("{}_{:08x}", &plain[..kept], digest(place)))
    };
    let mut names: Vec<Option<SmolStr>> = plain.iter().zip(operations).map(name).map(Some).collect();
    let mut counts: HashMap<SmolStr, usize> = HashMap::new();
    for name in names.iter().flatten() {
        *counts.entry(name.clone()).or_default() += 1;
    }
    // The document's author could give one operation the name that another gets by its ending: then neither has it.
    for name in &mut names {
        name.take_if(|name| counts.get(name) != Some(&1));
    }
    names
}

/// Letters, digits, `_`, `-` and `.` (MCP 2025-11-25, tool names); runs of anything else are one `_`.
fn legal(text: &str) -> String {
    let mut name = String::with_capacity(text.len().min(128));
    for c in text.chars().take(512) {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
    }
    let trimmed = name.trim_matches(['_', '.', '-']).len();
    let start = name.len() - name.trim_start_matches(['_', '.', '-']).len();
    let name = &name[start..start + trimmed];
    if name.is_empty() { "operation".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(operations: &[(Option<&str>, &str)], longest: usize) -> Vec<Option<SmolStr>> {
        names(&operations.iter().map(|(id, place)| (*id, (*place).to_owned())).collect::<Vec<_>>(), longest)
    }

    #[test]
    fn names_come_from_ids_or_else_from_method_and_path() {
        let all = named(
            &[
                (Some("repos/get-content"), "get /a"),
                (None, "get /users/{id}/keys"),
                (Some("日本"), "get /b"),
                (Some(""), "post /"),
                (Some("__proto__"), "get /c"),
            ],
            64,
        );
        let names: Vec<&str> = all.iter().map(|name| name.as_deref().unwrap()).collect();
        assert_eq!(names, ["repos_get-content", "get_users_id_keys", "operation", "post", "proto"]);
    }

    #[test]
    fn names_that_collide_or_are_too_long_are_told_apart_by_what_they_are_not_by_order() {
        let one = named(&[(Some("a b"), "get /1"), (Some("a_b"), "get /2")], 64);
        let other = named(&[(Some("a_b"), "get /2"), (Some("a b"), "get /1"), (Some("c"), "get /3")], 64);
        assert_eq!((&one[0], &one[1]), (&other[1], &other[0]));
        assert_ne!(one[0], one[1]);
        let long = named(&[(Some(&"x".repeat(300)), "get /1"), (Some(&"x".repeat(301)), "get /2")], 40);
        assert!(long.iter().all(|name| name.as_ref().is_some_and(|name| name.len() == 40)) && long[0] != long[1]);
    }

    #[test]
    fn a_name_that_another_operation_forged_is_nobodys() {
        let forged = named(&[(Some("a b"), "get /1"), (Some("a_b"), "get /2")], 64)[0].clone().unwrap();
        let all = named(&[(Some("a b"), "get /1"), (Some("a_b"), "get /2"), (Some(&forged), "get /3")], 64);
        assert_eq!((all[0].as_ref(), all[2].as_ref()), (None, None));
        assert!(all[1].is_some());
    }
}
