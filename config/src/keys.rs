//! The table of configuration keys, which is collected from their declarations: the JSON Schema and the reference page are read
//! off it.

pub use crate::key::{Key, Shape};

use crate::{Config, declare::Section};
use std::{cmp::Reverse, sync::LazyLock};

/// Every key that this version knows.
pub static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let mut table = Vec::new();
    Config::declare(&mut table);
    table.sort_by_key(|key| rank(key.path));
    table
});

/// The order of page and schema, where it differs from that of the declarations, which is the one in which errors name the
/// keys that are known: by the beginnings of paths, of which the longest counts. A new key stands behind those of its section.
const ORDER: &[&str] = &[
    "proxy.",
    "sensor.scopes[].",
    "sensor.",
    "sanctioned",
    "rules.",
    "rules.hosts",
    "events.jsonl",
    "events.retention.days",
    "events.otlp.",
    "events.syslog.",
    "events.",
    "metrics.",
    "state",
    "contact",
    "countries",
    "servers[].id",
    "servers[].url",
    "servers[].openapi.",
    "servers[].",
    "servers[].transport",
    "servers[].auth.",
    "servers[].tools",
    "servers[].prompts",
];

/// The rank of a path; those not listed come last.
fn rank(path: &str) -> usize {
    let begun = ORDER.iter().enumerate().filter(|(_, beginning)| path.starts_with(**beginning));
    begun.min_by_key(|(_, beginning)| Reverse(beginning.len())).map_or(ORDER.len(), |(at, _)| at)
}

/// The reference page, Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Configuration keys\n\n\
         Generated from the keys' declarations in `config/src`; edit them there. One YAML file, named by `--config`; every key may be left out. \
         What stands on the command line wins. The guide is [configuration.md](../configuration.md).\n\n\
         | key | default | for example | what it does |\n|---|---|---|---|\n",
    );
    for key in KEYS.iter() {
        let default = match key.default.as_str() {
            "" => "required".to_owned(),
            words if words.contains(' ') || words == "none" => words.to_owned(),
            value => format!("`{value}`"),
        };
        let bounds = match key.shape {
            Shape::Number(low, high) => format!(" From {low} to {high}."),
            Shape::Word(words) => format!(" One of: `{}`.", words.join("`, `")),
            _ => String::new(),
        };
        page.push_str(&format!("| `{}` | {default} | `{}` | {}{bounds} |\n", key.path, key.sample, key.doc.replace('|', "\\|")));
    }
    page
}

#[cfg(test)]
mod tests;
