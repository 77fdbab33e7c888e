//! The places where MCP clients keep the list of servers they start: files that say what could run before anything has run.
//!
//! Paths are templates as their source writes them: `~` is the user's home directory. Nothing here
//! touches the file system.

use crate::csv::{self, CatalogueError};

const SHIPPED: &str = include_str!("../catalogue/mcp_configs.csv");

/// The operating system a location is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Os {
    /// `linux`
    Linux,
    /// `darwin`
    Darwin,
    /// `windows`
    Windows,
    /// `any`: the same everywhere.
    Any,
}

impl Os {
    pub(crate) const WORDS: &str = "linux, darwin, windows or any";

    pub(crate) fn named(word: &str) -> Option<Self> {
        Some(match word {
            "linux" => Self::Linux,
            "darwin" => Self::Darwin,
            "windows" => Self::Windows,
            "any" => Self::Any,
            _ => return None,
        })
    }
}

/// The owner of the servers that a file lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigScope {
    /// `user`: one user's; the path begins in the home directory.
    User,
    /// `project`: one source tree's; the path begins at its root.
    Project,
    /// `plugin-cache`: brought in by a client's plugin; the path may hold wildcards.
    PluginCache,
}

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigFormat {
    /// `json` (several clients also accept comments in it).
    Json,
    /// `yaml`
    Yaml,
    /// `toml`
    Toml,
}

impl ConfigFormat {
    pub(crate) const WORDS: &str = "json, yaml or toml";

    pub(crate) fn named(word: &str) -> Option<Self> {
        Some(match word {
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "toml" => Self::Toml,
            _ => return None,
        })
    }
}

/// A location of a client's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// The client's name.
    pub client: Box<str>,
    /// The operating system the location is for.
    pub os: Os,
    /// The owner of the servers that it lists.
    pub scope: ConfigScope,
    /// Path template.
    pub path: Box<str>,
    /// Key under which the servers stand; empty when not known.
    pub servers_key: Box<str>,
    /// The format of the file.
    pub format: ConfigFormat,
    /// Public document the row comes from; may be empty.
    pub source: Box<str>,
}

/// Known configuration files, parsed once and then only read.
#[derive(Debug, Clone, Default)]
pub struct ConfigCatalogue {
    files: Vec<ConfigFile>,
}

impl ConfigCatalogue {
    /// The catalogue that ships with gnomon.
    ///
    /// # Errors
    /// None in a build whose tests passed; the file is compiled in.
    pub fn shipped() -> Result<Self, CatalogueError> {
        Self::from_csv(SHIPPED)
    }

    /// Reads a catalogue: columns `client`, `os`, `scope`, `path`, `format`, and optionally
    /// `servers_key` and `sources`.
    ///
    /// # Errors
    /// The first line that breaks the format, a bound or a column's values.
    pub fn from_csv(text: &str) -> Result<Self, CatalogueError> {
        let required = ["client", "os", "scope", "path", "format"];
        let mut files = Vec::new();
        for row in csv::rows(text, &required, &["servers_key", "sources"])? {
            let Some(os) = Os::named(row.get(1)) else { return Err(row.refuse("os", row.get(1), Os::WORDS)) };
            let scope = match row.get(2) {
                "user" => ConfigScope::User,
                "project" => ConfigScope::Project,
                "plugin-cache" => ConfigScope::PluginCache,
                other => return Err(row.refuse("scope", other, "user, project or plugin-cache")),
            };
            let Some(format) = ConfigFormat::named(row.get(4)) else {
                return Err(row.refuse("format", row.get(4), ConfigFormat::WORDS));
            };
            if row.get(3).is_empty() {
                return Err(row.refuse("path", "", "a path"));
            }
            files.push(ConfigFile {
                client: row.get(0).into(),
                os,
                scope,
                path: row.get(3).into(),
                servers_key: row.get(5).into(),
                format,
                source: row.get(6).into(),
            });
        }
        Ok(Self { files })
    }

    /// This catalogue with `more` appended.
    #[must_use]
    pub fn merge(mut self, more: Self) -> Self {
        self.files.extend(more.files);
        self
    }

    /// All locations, in file order.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigFile> {
        self.files.iter()
    }

    /// The locations to look at on one operating system: its own and those for any.
    pub fn on(&self, os: Os) -> impl Iterator<Item = &ConfigFile> {
        self.files.iter().filter(move |file| file.os == os || file.os == Os::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_locations_parse_and_name_the_big_clients_on_linux() {
        let configs = ConfigCatalogue::shipped().unwrap();
        let linux: Vec<_> = configs.on(Os::Linux).map(|file| &*file.path).collect();
        assert!(linux.len() >= 37, "{}", linux.len());
        for path in ["~/.claude.json", "~/.cursor/mcp.json", "~/.gemini/settings.json"] {
            assert!(linux.contains(&path), "{path}");
        }
    }

    #[test]
    fn a_row_with_an_unknown_value_is_refused_with_its_line() {
        for row in ["c,beos,user,~/x,json", "c,linux,team,~/x,json", "c,linux,user,~/x,ini", "c,linux,user,,json"] {
            let text = format!("client,os,scope,path,format\n{row}\n");
            assert_eq!(ConfigCatalogue::from_csv(&text).unwrap_err().line, 2, "{row}");
        }
    }
}
