//! The raw form of values that are more than a scalar and no section of keys, and the parser of the whole file.

use crate::ConfigSource;
use gnomon_access::yaml::cause;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::{Location, Spanned};
use std::{collections::BTreeMap, fmt};

/// Longest configuration file, bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// The labels of a server's tools and prompts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Labels {
    pub tools: BTreeMap<String, Spanned<Label>>,
    pub prompts: BTreeMap<String, Spanned<Label>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Label {
    pub alias: Option<Spanned<String>>,
    pub description: Option<Spanned<String>>,
    pub enabled: Option<bool>,
}

/// A word, or what it is pinned to.
#[derive(Debug)]
pub enum PinSource {
    Word(String),
    Fields(PinFields),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PinFields {
    pub sha256: Option<Spanned<String>>,
    pub files: BTreeMap<String, Spanned<String>>,
    pub package: Option<Spanned<String>>,
    pub lockfile: Option<String>,
}

impl<'de> Deserialize<'de> for PinSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrFields;
        impl<'de> Visitor<'de> for WordOrFields {
            type Value = PinSource;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`unpinned`, or what it is pinned to")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PinSource, E> {
                Ok(PinSource::Word(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PinSource, A::Error> {
                PinFields::deserialize(MapAccessDeserializer::new(map)).map(PinSource::Fields)
            }
        }
        deserializer.deserialize_any(WordOrFields)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    pub cert: Option<String>,
    pub key: Option<String>,
    pub ca: Option<Spanned<String>>,
    pub client_ca: Vec<String>,
}

/// One name, several separated by commas, or a list of them.
#[derive(Debug)]
pub struct Names(pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Names;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`builtin`, `none` or a list of pack names")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Names, E> {
                Ok(Names(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// An error at a position of the file.
#[derive(Debug)]
pub struct Wrong {
    pub place: Option<Location>,
    pub cause: String,
}

/// Reads the file.
///
/// # Errors
/// The first thing that is not YAML, not a known key, or of the wrong type.
pub fn read(text: &str) -> Result<ConfigSource, Wrong> {
    // A file of nothing but comments is a configuration of nothing but defaults.
    if text.lines().all(|line| matches!(line.trim_start().as_bytes().first(), None | Some(b'#'))) {
        return Ok(ConfigSource::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        Wrong { place: error.location(), cause: cause(error) }
    })
}
