//! All keys, one by one: what is declared of a key is what happens to it.

use super::*;
use crate::tests::setting;
use serde_json::{Value, json};
use std::{collections::HashSet, path::Path};

const FILE: &str = "/etc/gnomon/gnomon.yml";

/// The least that has a scope, a server of each sort, and a portal.
const LEAST: &str = "{sensor: {scopes: [{name: a, match: {unit: a.service}}]}, portals: [{id: main, servers: [docs]}], \
     servers: [{id: docs, url: 'https://docs.example/mcp'}, {id: files, command: [/opt/files]}, {id: shop, openapi: {file: a.json}}]}";
/// What has to stand in it, and what follows from that.
const GIVEN: [&str; 5] = ["sensor.scopes[].match.unit", "servers[].url", "servers[].command", "servers[].openapi.file", "portals[].url"];
/// Who may come in and do what: their own commands show it.
const NOT_SHOWN: [&str; 2] = ["portals[].auth", "portals[].policy"];

fn shown(text: &str) -> Result<Value, String> {
    Config::parse(text, Path::new(FILE)).map(|config| config.to_json()).map_err(|error| error.cause)
}

/// What stands at a path, in all entries of its lists.
fn at<'v>(shown: &'v Value, path: &str) -> Vec<&'v Value> {
    path.split('.').fold(vec![shown], |found, segment| match segment.strip_suffix("[]") {
        Some(list) => found.iter().filter_map(|value| value[list].as_array()).flatten().collect(),
        None => found.iter().filter_map(|value| value.get(segment)).collect(),
    })
}

fn set(key: &Key, value: &str) -> String {
    let path = key.path;
    match path.strip_prefix("events.otlp.").or_else(|| path.strip_prefix("events.syslog.")) {
        // They are shown where something is sent.
        Some(name @ ("headers" | "ca")) => {
            let (sink, endpoint) = if path.contains("otlp") { ("otlp", "https://c.example") } else { ("syslog", "tls://c.example") };
            format!("{{events: {{{sink}: {{endpoint: '{endpoint}', {name}: {value}}}}}}}")
        }
        _ => setting(path, value),
    }
}

/// Whether an error is about this value, which stands in a text of one line.
fn is_told_with_its_place(error: &str, text: &str, value: &str) -> bool {
    let place = error.strip_prefix(FILE).and_then(|rest| rest.strip_prefix(":1:")).and_then(|rest| rest.split_once(": "));
    let column = place.and_then(|(column, _)| column.parse::<usize>().ok());
    error.lines().count() == 1 && column.and_then(|column| text.get(column - 1..)).is_some_and(|rest| rest.starts_with(value))
}

#[test]
fn each_key_is_declared_once_and_says_what_it_does() {
    let paths: HashSet<_> = KEYS.iter().map(|key| key.path).collect();
    assert_eq!(paths.len(), KEYS.len());
    for key in KEYS.iter() {
        assert!(key.doc.ends_with('.') && !key.doc.contains("  ") && !key.sample.is_empty(), "{key:?}");
        assert_ne!(key.shape, Shape::Mapping, "{}", key.path);
    }
    for beginning in ORDER {
        assert!(KEYS.iter().any(|key| key.path.starts_with(beginning)), "{beginning}");
    }
}

#[test]
fn what_holds_without_a_key_is_what_is_declared() {
    let (nothing, least) = (shown("").unwrap(), shown(LEAST).unwrap());
    for key in KEYS.iter().filter(|key| !key.default.is_empty() && !GIVEN.contains(&key.path)) {
        let found = at(if key.path.contains("[]") { &least } else { &nothing }, key.path);
        for value in found {
            if [Value::Null, json!([]), json!({})].contains(value) {
                assert!(key.default == "none" || key.default.contains(' '), "{}: {value}, not {}", key.path, key.default);
            } else {
                assert_eq!(crate::declare::in_words(value), key.default, "{}", key.path);
            }
        }
    }
}

#[test]
fn each_key_that_is_set_is_shown() {
    for key in KEYS.iter().filter(|key| !NOT_SHOWN.contains(&key.path)) {
        let text = set(key, &key.sample);
        let shown = shown(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(at(&shown, key.path).iter().any(|value| !value.is_null()), "{text}: {shown}");
    }
}

#[test]
fn numbers_are_taken_up_to_their_bounds_and_refused_beyond_them() {
    let mut seen = 0;
    for key in KEYS.iter() {
        let Shape::Number(low, high) = key.shape else { continue };
        for number in [low, high] {
            let text = set(key, &number.to_string());
            let shown = shown(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            // What one user may have is at most what there is in all.
            let is_cut = key.path == "proxy.max_connections_per_user" && number == high;
            assert!(is_cut || at(&shown, key.path) == [&json!(number)], "{text}: {shown}");
        }
        for number in [low.checked_sub(1), high.checked_add(1)].into_iter().flatten().map(|number| number.to_string()) {
            let text = set(key, &number);
            let error = shown(&text).unwrap_err();
            assert!(error.ends_with(&format!(": {number} is out of bounds; use {low} to {high}")), "{text}: {error}");
            assert!(is_told_with_its_place(&error, &text, &number), "{text}: {error}");
        }
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn words_are_taken_as_they_are_declared_and_no_others() {
    for key in KEYS.iter() {
        let Shape::Word(words) = key.shape else { continue };
        assert!(words.contains(&key.default.as_str()), "{}", key.path);
        for word in words {
            let text = set(key, word);
            let shown = shown(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(at(&shown, key.path).contains(&&json!(word)), "{text}: {shown}");
        }
        let text = set(key, "qqq");
        let error = shown(&text).unwrap_err();
        assert!(error.ends_with(&format!(": `qqq` is not known here; known here: {}", words.join(", "))), "{text}: {error}");
        assert!(is_told_with_its_place(&error, &text, "qqq"), "{text}: {error}");
    }
}
