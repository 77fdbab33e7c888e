//! The places where clients keep what they load besides MCP servers: hooks, which are commands that they run by themselves, and skills and
//! plugins, whose texts the model reads as instructions and whose scripts it runs.
//!
//! Paths are templates below the user's home directory. Nothing here touches the file system.

use crate::{
    configs::{ConfigFormat, Os},
    csv::{self, CatalogueError},
};

const SHIPPED: &str = include_str!("../catalogue/mcp_addons.csv");

/// What a client loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddonKind {
    /// `hook`: a command that the client runs at an event, whatever the model decides.
    Hook,
    /// `skill`: a folder of instructions, and of scripts beside them.
    Skill,
    /// `plugin`: a folder of skills, hooks, commands and servers that were installed together.
    Plugin,
}

impl AddonKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hook, Self::Skill, Self::Plugin];

    /// The word in catalogues and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Skill => "skill",
            Self::Plugin => "plugin",
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Where a client keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddonPlace {
    /// The client's name.
    pub client: Box<str>,
    /// The operating system the place is for.
    pub os: Os,
    /// What is kept there.
    pub kind: AddonKind,
    /// Path template. Of hooks the file that lists them; of the others the file that makes a folder one, with `*` for its name.
    pub path: Box<str>,
    /// Of hooks, the key under which they stand.
    pub key: Box<str>,
    /// Of hooks, the format of the file.
    pub format: Option<ConfigFormat>,
    /// Public document the row comes from; may be empty.
    pub source: Box<str>,
}

/// Known places, parsed once and then only read.
#[derive(Debug, Clone, Default)]
pub struct AddonCatalogue {
    places: Vec<AddonPlace>,
}

impl AddonCatalogue {
    /// The catalogue that ships with gnomon.
    ///
    /// # Errors
    /// None in a build whose tests passed; the file is compiled in.
    pub fn shipped() -> Result<Self, CatalogueError> {
        Self::from_csv(SHIPPED)
    }

    /// Reads a catalogue: columns `client`, `os`, `kind`, `path`, and optionally `key`, `format` and `sources`.
    ///
    /// # Errors
    /// The first line that breaks the format, a bound or a column's values.
    pub fn from_csv(text: &str) -> Result<Self, CatalogueError> {
        let mut places = Vec::new();
        for row in csv::rows(text, &["client", "os", "kind", "path"], &["key", "format", "sources"])? {
            let Some(os) = Os::named(row.get(1)) else { return Err(row.refuse("os", row.get(1), Os::WORDS)) };
            let Some(kind) = AddonKind::named(row.get(2)) else { return Err(row.refuse("kind", row.get(2), "hook, skill or plugin")) };
            let format = match row.get(5) {
                "" => None,
                word => Some(ConfigFormat::named(word).ok_or_else(|| row.refuse("format", word, ConfigFormat::WORDS))?),
            };
            let path = row.get(3);
            if kind == AddonKind::Hook && (row.get(4).is_empty() || format.is_none()) {
                return Err(row.refuse("key", row.get(4), "of hooks, a key and a format"));
            }
            let names_a_folder = path.rsplit_once('/').is_some_and(|(folder, file)| folder.contains('*') && !file.contains('*'));
            if kind != AddonKind::Hook && !names_a_folder {
                return Err(row.refuse("path", path, "a file in a folder whose name is `*`"));
            }
            places.push(AddonPlace {
                client: row.get(0).into(),
                os,
                kind,
                path: path.into(),
                key: row.get(4).into(),
                format,
                source: row.get(6).into(),
            });
        }
        Ok(Self { places })
    }

    /// The places to look at on one operating system: its own and those for any.
    pub fn on(&self, os: Os) -> impl Iterator<Item = &AddonPlace> {
        self.places.iter().filter(move |place| place.os == os || place.os == Os::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_places_parse_and_name_each_kind_of_the_big_clients_on_linux() {
        let places = AddonCatalogue::shipped().unwrap();
        for (client, kind) in [
            ("Claude Code", AddonKind::Hook),
            ("Claude Code", AddonKind::Skill),
            ("Claude Code", AddonKind::Plugin),
            ("Codex", AddonKind::Hook),
            ("Gemini CLI", AddonKind::Plugin),
        ] {
            assert!(places.on(Os::Linux).any(|place| &*place.client == client && place.kind == kind), "{client} {kind:?}");
        }
        assert!(places.on(Os::Linux).all(|place| place.path.starts_with("~/") && !place.source.is_empty()));
    }

    #[test]
    fn a_row_that_says_too_little_is_refused_with_its_line() {
        for row in [
            "c,beos,hook,~/x,hooks,json",
            "c,linux,spell,~/x,hooks,json",
            "c,linux,hook,~/x,,json",
            "c,linux,hook,~/x,hooks,",
            "c,linux,skill,~/x,,",
        ] {
            let text = format!("client,os,kind,path,key,format\n{row}\n");
            assert_eq!(AddonCatalogue::from_csv(&text).unwrap_err().line, 2, "{row}");
        }
    }
}
