//! Which metrics and labels a query names. Whether the query is valid is for Prometheus to say.

use std::collections::BTreeMap;

/// Keywords that look like names.
const OPERATORS: [&str; 9] = ["and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"];
/// Keywords before a list of labels.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// The names in a query.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Each metric with the labels that it is selected by.
    pub metrics: BTreeMap<String, Vec<String>>,
    /// Labels of a grouping or a matching.
    pub labels: Vec<String>,
}

/// Lists the names in a valid query.
pub fn names(query: &str) -> Named {
    let mut named = Named::default();
    let mut rest = query;
    let mut selected = String::new();
    let mut in_braces = false;
    let mut in_list = false;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            rest = string_end(rest);
        } else if first.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else if is_name(first) {
            let end = rest.find(|c: char| !is_name(c) && !c.is_ascii_digit()).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            rest = after;
            let after = after.trim_start();
            let next = after.chars().next();
            // `sum by (…) (…)` is a function call too.
            let called = next == Some('(') || ["by ", "by(", "without ", "without("].iter().any(|word| after.starts_with(word));
            if in_braces {
                named.metrics.entry(selected.clone()).or_default().push(name.to_owned());
            } else if in_list {
                named.labels.push(name.to_owned());
            } else if LISTS.contains(&name) {
                in_list = next == Some('(');
            } else if !called && !OPERATORS.contains(&name) {
                named.metrics.entry(name.to_owned()).or_default();
                selected = name.to_owned();
            }
        } else {
            match first {
                '{' => in_braces = true,
                '}' => in_braces = false,
                ')' => in_list = false,
                // A range, or a variable of a dashboard.
                '[' => rest = &rest[rest.find(']').unwrap_or(0)..],
                '$' => rest = rest[1..].trim_start_matches(is_name),
                _ => {}
            }
            rest = rest.get(first.len_utf8()..).filter(|_| first != '$').unwrap_or(rest);
        }
    }
    named
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == ':'
}

/// What follows a quoted string, whose opening quote is the first byte.
fn string_end(text: &str) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return &text[at + 1..],
            _ => escaped = c == '\\' && !escaped,
        }
    }
    ""
}

#[test]
fn names_are_told_from_functions_strings_ranges_and_variables() {
    let query = r#"sum by (job, rule) (rate(a_total{x="y}\"z",le!~"$q"}[$__rate_interval])) / on (host) group_left (title) b:c > 5m or d offset 10m"#;
    let named = names(query);
    let metrics: Vec<_> = named.metrics.iter().map(|(name, labels)| (name.as_str(), labels.join(" "))).collect();
    assert_eq!(metrics, [("a_total", "x le".to_owned()), ("b:c", String::new()), ("d", String::new())]);
    assert_eq!(named.labels, ["job", "rule", "host", "title"]);
}
