//! One configuration key, as the table has it.

/// The type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A text.
    Text,
    /// A whole number within bounds, both included.
    Number(u64, u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of ports.
    Ports,
    /// A list of texts.
    Texts,
    /// `builtin`, `none`, or a list of pack names.
    Packs,
    /// A list of policy entries.
    Policy,
    /// A way to prove who one is, or a list of them.
    Auth,
    /// A program's pins, or `unpinned`.
    Pin,
    /// Texts by name.
    Variables,
    /// A certificate with its key, or who makes one.
    Tls,
    /// Labels of entries, by the entries' names.
    Labels,
    /// The same for tools and prompts, by their servers' ids.
    Overrides,
    /// Keys of its own, which stand in the table in its place.
    Mapping,
}

/// A configuration key.
#[derive(Debug)]
pub struct Key {
    /// Dotted; `[]` marks the entries of a list.
    pub path: &'static str,
    /// The type of its value.
    pub shape: Shape,
    /// Its default, as the page shows it.
    pub default: String,
    /// A value, as YAML in one line.
    pub sample: String,
    /// Its description, units and bounds included.
    pub doc: String,
}
